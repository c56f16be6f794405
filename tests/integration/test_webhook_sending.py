"""One request to a receiver, as the network meets it: where it goes, how long, how much."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app.domain.errors import UrlRefused
from app.domain.webhook import Failure, Reply
from app.outbound import addresses
from app.outbound.addresses import OF_ONE_WORKSPACE, NoRoom
from app.outbound.sending import KEPT_BYTES, MOST_BYTES, Outbound
from tests.receiver import Receiver, receiving, saying

NAMED = {"X-Named": "yes"}


@dataclass
class Names:
    """Answers questions for a name in turn, the last answer for ever; and keeps them."""

    answers: list[Sequence[str]]
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


async def test_a_request_is_sent_as_it_is_and_its_answer_is_read(receiver: Receiver) -> None:
    receiver.answers = [saying(200, "thanks")]
    reply = await Outbound(allow_loopback=True).post(f"{receiver.url}?a=%20b", NAMED, b"{}")
    assert (reply.status, reply.failure, reply.text) == (200, None, "thanks")
    assert reply.is_success
    (got,) = receiver.received
    assert got.path == "/hook?a=%20b"
    assert got.body == b"{}"
    assert got.headers["x-named"] == "yes"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["connection"] == "close"


async def test_a_redirect_is_an_answer_like_any_other_and_leads_nowhere(
    receiver: Receiver,
) -> None:
    async with receiving() as elsewhere:
        receiver.answers = [saying(307, location=elsewhere.url)]
        reply = await Outbound(allow_loopback=True).post(receiver.url, {}, b"{}")
        assert reply.status == 307
        assert not reply.is_success
        assert elsewhere.connections == 0


async def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await Outbound(allow_loopback=True).post(receiver.url, {}, b"")).status == 204
        assert proxy.connections == 0


async def test_of_a_long_answer_no_more_is_read_than_the_limit(receiver: Receiver) -> None:
    receiver.answers = [saying(200, "x" * (64 * MOST_BYTES))]
    reply = await Outbound(allow_loopback=True).post(receiver.url, {}, b"")
    assert reply.status == 200
    assert reply.text == "x" * KEPT_BYTES


async def test_what_cannot_be_stored_of_an_answer_is_replaced(receiver: Receiver) -> None:
    receiver.answers = [b"HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\na\x00b\xffc"]
    reply = await Outbound(allow_loopback=True).post(receiver.url, {}, b"")
    assert reply.text == "a\ufffdb\ufffdc"


async def test_who_never_answers_is_not_waited_for(receiver: Receiver) -> None:
    receiver.hold = asyncio.Event()
    reply = await Outbound(allow_loopback=True, timeout=0.2).post(receiver.url, {}, b"")
    assert (reply.status, reply.failure) == (None, Failure.TIMEOUT)
    assert 0.2 <= reply.seconds < 5


async def test_a_name_that_is_never_resolved_is_not_waited_for() -> None:
    names = Silent()
    reply = await Outbound(resolving=names, timeout=0.1).post("https://a.example/", {}, b"")
    assert reply.failure is Failure.TIMEOUT
    names.speak.set()


async def test_who_does_not_speak_http_or_breaks_off_in_the_head_has_lost_the_connection(
    receiver: Receiver,
) -> None:
    for answer in (
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ):
        receiver.answers = [answer]
        reply = await Outbound(allow_loopback=True).post(receiver.url, {}, b"")
        assert (reply.status, reply.failure) == (None, Failure.CONNECTION_LOST), answer


@pytest.mark.parametrize("status", [200, 410, 503])
async def test_an_answer_whose_body_never_ends_is_the_answer_that_its_status_says(
    status: int,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} Said\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"5\r\nhello\r\n")
        await writer.drain()
        await reader.read()  # until the sender has had enough
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outbound = Outbound(allow_loopback=True, timeout=0.3)
        reply = await outbound.post(f"http://127.0.0.1:{port}/", {}, b"")
    assert (reply.status, reply.failure, reply.text) == (status, None, "hello")
    assert 0.3 <= reply.seconds < 5


async def test_an_answer_whose_body_breaks_off_is_an_answer(receiver: Receiver) -> None:
    receiver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
    reply = await Outbound(allow_loopback=True).post(receiver.url, {}, b"")
    assert (reply.status, reply.failure, reply.text) == (200, None, "x")


async def test_a_handshake_that_never_ends_leaves_no_connection_open() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outbound = Outbound(allow_loopback=True, timeout=1)
        reply = await outbound.post(f"https://127.0.0.1:{port}/", {}, b"")
        assert reply.failure is Failure.TIMEOUT
        async with asyncio.timeout(5):
            await ended.wait()


@dataclass
class Silent:
    """Servers of names that say nothing until they are let to, but for those of `quick.example`."""

    asked: int = 0
    speak: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, host: str, _: int) -> Sequence[str]:
        if host != "quick.example":
            self.asked += 1
            await self.speak.wait()
        return ["127.0.0.1"]


async def test_silent_names_of_a_workspace_keep_no_other_waiting(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "ROOM_WITHIN", 0.05)
    names, silent, other = Silent(), uuid4(), uuid4()
    outbound = Outbound(allow_loopback=True, resolving=names, timeout=0.2)
    posts = (
        outbound.post(f"http://silent{n}.example:{receiver.port}/", {}, b"", silent)
        for n in range(3 * OF_ONE_WORKSPACE)
    )
    came_of = await asyncio.gather(*posts, return_exceptions=True)
    waited = [each for each in came_of if isinstance(each, Reply)]
    assert [each.failure for each in waited] == [Failure.TIMEOUT] * OF_ONE_WORKSPACE
    assert sum(isinstance(each, NoRoom) for each in came_of) == 2 * OF_ONE_WORKSPACE
    quick = f"http://quick.example:{receiver.port}/"
    with pytest.raises(NoRoom):  # those that were given up are still being asked for
        await outbound.post(quick, {}, b"", silent)
    with pytest.raises(UrlRefused):
        await outbound.check(quick, silent)
    assert names.asked == OF_ONE_WORKSPACE
    assert (await outbound.post(receiver.url, {}, b"", silent)).status == 204  # is no name
    assert (await outbound.post(quick, {}, b"", other)).status == 204
    names.speak.set()
    async with asyncio.timeout(5):
        while not await _is_sent(outbound, quick, silent):
            pass


async def _is_sent(outbound: Outbound, url: str, whose: UUID) -> bool:
    try:
        return (await outbound.post(url, {}, b"", whose)).is_success
    except NoRoom:
        return False


async def test_where_nobody_listens_the_connection_fails() -> None:
    async with receiving() as gone:
        url = gone.url
    reply = await Outbound(allow_loopback=True).post(url, {}, b"")
    assert reply.failure is Failure.CONNECT_FAILED


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/",
        "https://localhost:{port}/",
        "https://127.1:{port}/",
        "https://2130706433:{port}/",
        "https://0x7f000001:{port}/",
        "https://[::1]:{port}/",
        "https://[::ffff:127.0.0.1]:{port}/",
        "https://0.0.0.0:{port}/",
    ],
)
async def test_this_machine_is_out_of_bounds_however_it_is_written(
    receiver: Receiver, url: str
) -> None:
    outbound = Outbound()
    reply = await outbound.post(url.format(port=receiver.port), {}, b"")
    assert reply.failure in {Failure.URL_REFUSED, Failure.UNRESOLVABLE}
    with pytest.raises(UrlRefused):
        await outbound.check(url.format(port=receiver.port))
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "found",
    [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1"], ["fe80::1%1"], ["::ffff:127.0.0.1"]],
)
async def test_one_address_that_is_not_public_is_enough_to_refuse_a_name(
    receiver: Receiver, found: list[str]
) -> None:
    outbound = Outbound(resolving=Names([found]))
    url = f"https://hooks.example:{receiver.port}/"
    with pytest.raises(UrlRefused) as refused:
        await outbound.check(url)
    assert [breach.code for breach in refused.value.errors] == ["not_public"]
    assert (await outbound.post(url, {}, b"")).failure is Failure.URL_REFUSED
    assert receiver.connections == 0


async def test_a_name_that_leads_nowhere_is_said_to() -> None:
    async def unknown(_: str, __: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    for resolving in (unknown, Names([[]]), Names([["nonsense"]])):
        outbound = Outbound(resolving=resolving)
        with pytest.raises(UrlRefused) as refused:
            await outbound.check("https://hooks.example/")
        assert [breach.code for breach in refused.value.errors] == ["unresolvable"]
        reply = await outbound.post("https://hooks.example/", {}, b"")
        assert reply.failure is Failure.UNRESOLVABLE


async def test_a_name_that_leads_elsewhere_the_next_time_is_refused_the_next_time(
    receiver: Receiver,
) -> None:
    names = Names([["8.8.8.8"], ["10.0.0.1"]])
    outbound = Outbound(resolving=names, timeout=5)
    await outbound.check(f"https://hooks.example:{receiver.port}/")
    reply = await outbound.post(f"https://hooks.example:{receiver.port}/", {}, b"")
    assert reply.failure is Failure.URL_REFUSED
    assert len(names.asked) == 2


async def test_a_connection_is_made_to_the_address_that_was_checked_and_the_name_asked_once(
    receiver: Receiver,
) -> None:
    async with receiving() as trap:
        names = Names([["127.0.0.1"], ["127.0.0.2"]])
        reply = await Outbound(allow_loopback=True, resolving=names).post(
            f"http://hooks.example:{receiver.port}/", {}, b""
        )
        assert reply.status == 204
        assert names.asked == [("hooks.example", receiver.port)]
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"
        assert trap.connections == 0


async def test_the_next_address_is_tried_where_one_does_not_answer(receiver: Receiver) -> None:
    names = Names([["127.9.9.9", "127.0.0.1"]])
    reply = await Outbound(allow_loopback=True, resolving=names).post(
        f"http://hooks.example:{receiver.port}/", {}, b""
    )
    assert reply.status == 204


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of hooks.example that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "made.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=hooks.example"),
            *("-addext", "subjectAltName=DNS:hooks.example"),
            *("-keyout", str(key), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


async def test_tls_verifies_the_name_though_the_connection_goes_to_an_address(
    certificate: tuple[Path, Path],
) -> None:
    made, key = certificate
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(made, key)
    trusting = ssl.create_default_context(cafile=str(made))
    async with receiving(served) as receiver:
        names = Names([["127.0.0.1"]])
        outbound = Outbound(allow_loopback=True, resolving=names, tls=trusting)
        reply = await outbound.post(f"https://hooks.example:{receiver.port}/", {}, b"{}")
        assert (reply.status, reply.failure) == (204, None)
        other = await outbound.post(f"https://other.example:{receiver.port}/", {}, b"{}")
        assert other.failure is Failure.TLS_FAILED
        untrusting = Outbound(allow_loopback=True, resolving=names)
        unknown = await untrusting.post(f"https://hooks.example:{receiver.port}/", {}, b"{}")
        assert unknown.failure is Failure.TLS_FAILED
        assert len(receiver.received) == 1
