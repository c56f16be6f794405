"""One document fetched from where the operator said, as the network meets it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.outbound.fetching import MOST_BYTES, FetchFailed, fetch
from tests.conftest import running
from tests.issuer import AUDIENCE, ISSUER, claims, key_set, signer
from tests.receiver import Receiver, receiving, saying


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that is its own authority, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer.example")])
    address = x509.IPAddress(ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "made.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
async def receiver(certificate: Path) -> AsyncIterator[Receiver]:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    async with receiving(served) as started:
        yield started


async def test_a_document_is_fetched_whole(receiver: Receiver, trusting: ssl.SSLContext) -> None:
    receiver.answers = [saying(200, '{"keys": []}')]
    assert await fetch(f"{receiver.url}?a=b", tls=trusting) == b'{"keys": []}'
    (got,) = receiver.received
    assert got.path == "/hook?a=b"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"


async def test_a_redirect_leads_nowhere_and_no_other_status_is_an_answer(
    receiver: Receiver, trusting: ssl.SSLContext
) -> None:
    async with receiving() as elsewhere:
        for status in (301, 307, 204, 404, 500):
            receiver.answers = [saying(status, "{}", location=elsewhere.url)]
            with pytest.raises(FetchFailed, match=str(status)):
                await fetch(receiver.url, tls=trusting)
        assert elsewhere.connections == 0


async def test_of_an_answer_that_is_too_long_no_more_is_read_than_the_limit(
    receiver: Receiver, trusting: ssl.SSLContext
) -> None:
    receiver.answers = [saying(200, "x" * (64 * MOST_BYTES))]
    with pytest.raises(FetchFailed, match="more than"):
        await fetch(receiver.url, tls=trusting)
    receiver.answers = [saying(200, "x" * MOST_BYTES)]
    assert len(await fetch(receiver.url, tls=trusting)) == MOST_BYTES


async def test_half_an_answer_is_none(receiver: Receiver, trusting: ssl.SSLContext) -> None:
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b"", b"SSH-2.0-x\r\n\r\n"):
        receiver.answers = [answer]
        with pytest.raises(FetchFailed):
            await fetch(receiver.url, tls=trusting)


async def test_who_never_answers_is_not_waited_for(
    receiver: Receiver, trusting: ssl.SSLContext
) -> None:
    receiver.hold = asyncio.Event()
    with pytest.raises(FetchFailed, match="Timeout"):
        await fetch(receiver.url, timeout=0.2, tls=trusting)


async def test_a_certificate_that_nobody_vouches_for_is_refused(receiver: Receiver) -> None:
    with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await fetch(receiver.url)
    assert receiver.received == []


async def test_where_nobody_listens_nothing_is_fetched(trusting: ssl.SSLContext) -> None:
    async with receiving() as gone:
        url = gone.url.replace("http:", "https:")
    with pytest.raises(FetchFailed, match="ConnectError"):
        await fetch(url, tls=trusting)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://a:b@127.0.0.1:1/", "https://"])
async def test_what_is_no_https_url_is_not_tried(url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetch(url)


async def test_the_keys_of_the_issuer_are_fetched_once_for_all_its_tokens(
    receiver: Receiver,
    certificate: Path,
    login_url: str,
    workspace: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    key = signer("ES256")
    receiver.answers = [saying(200, key_set(key).decode())]
    settings = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": receiver.url}
    async with running(login_url, **settings) as connect:
        clients = [
            connect(key.sign(claims(workspace=workspace.hex, sub=f"caller-{number}")))
            for number in range(5)
        ]
        answers = await asyncio.gather(*(client.get("/v1/me") for client in clients))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert {answer.json()["subject"] for answer in answers} == {
            f"caller-{number}" for number in range(5)
        }
        for number in range(5):
            unknown = key.sign(claims(workspace=workspace.hex), kid=f"unknown-{number}")
            assert (await connect(unknown).get("/v1/me")).status_code == 401
    assert receiver.connections == 1
