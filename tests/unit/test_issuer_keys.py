"""The issuer's keys: which are usable, when they are asked for, and what holds while they are not.

The clock is a number that the tests move; the issuer is a function that they own.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.domain.errors import Unauthenticated, Unavailable
from app.http.issuer_keys import FRESH, LASTING, PAUSE, IssuerKeys, read_file, usable_keys
from app.outbound.fetching import MOST_BYTES, FetchFailed
from tests.issuer import key_set, signer

OLD, NEW = signer("ES256", "old"), signer("ES256", "new")


@dataclass
class Issuer:
    """Publishes `document`, or fails where it is None; counts who asks. `hold` keeps waiting."""

    document: bytes | None = field(default_factory=lambda: key_set(OLD))
    now: float = 1_000.0
    asked: int = 0
    at_once: int = 0
    most_at_once: int = 0
    hold: asyncio.Event | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> bytes:
        self.asked += 1
        self.begun.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.document is None:
                raise FetchFailed("nobody answers")
            return self.document
        finally:
            self.at_once -= 1

    def keys(self) -> IssuerKeys:
        return IssuerKeys(self, clock=lambda: self.now)


async def found(keys: IssuerKeys, kid: str) -> bool:
    try:
        return (await keys.find("ES256", kid)).key_id == kid
    except Unauthenticated:
        return False


async def test_keys_are_asked_for_once_and_again_when_they_are_old() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    for later in (0, 1, FRESH - 2):
        issuer.now += later
        assert await found(keys, "old")
    assert issuer.asked == 1
    issuer.now += 1
    assert await found(keys, "old")
    assert issuer.asked == 2


async def test_a_new_key_is_found_when_a_token_names_it() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    assert await found(keys, "old")
    issuer.document = key_set(OLD, NEW)
    issuer.now += PAUSE
    assert await found(keys, "new")
    assert await found(keys, "old")
    assert issuer.asked == 2


async def test_a_key_that_is_withdrawn_is_good_no_longer_than_keys_are_fresh() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    assert await found(keys, "old")
    issuer.document = key_set(NEW)
    issuer.now += FRESH
    assert not await found(keys, "old")
    issuer.document = key_set()  # an issuer may withdraw them all
    issuer.now += FRESH
    assert not await found(keys, "new")


async def test_unknown_keys_make_nobody_ask_more_than_once_in_a_pause() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    for number in range(500):
        assert not await found(keys, f"unknown-{number}")
        issuer.now += PAUSE / 100
    assert issuer.asked == 5


async def test_an_issuer_that_fails_is_not_asked_more_often_either() -> None:
    issuer = Issuer(document=None)
    keys = issuer.keys()
    for _ in range(500):
        with pytest.raises(Unavailable):
            await keys.find("ES256", "old")
        issuer.now += PAUSE / 100
    assert issuer.asked == 5


async def test_many_who_wait_ask_once_and_who_gives_up_takes_nothing_from_the_others() -> None:
    issuer = Issuer(hold=asyncio.Event())
    keys = issuer.keys()
    waiting = [asyncio.create_task(keys.find("ES256", "old")) for _ in range(50)]
    async with asyncio.timeout(5):
        await issuer.begun.wait()
    waiting[0].cancel()
    issuer.now += 10 * PAUSE  # a slow one is not asked a second time
    late = asyncio.create_task(keys.find("ES256", "old"))
    await asyncio.sleep(0)
    assert not any(task.done() for task in (*waiting[1:], late))
    issuer.hold.set()
    answers = await asyncio.gather(*waiting[1:], late)
    assert {key.key_id for key in answers} == {"old"}
    assert waiting[0].cancelled()
    assert (issuer.asked, issuer.most_at_once) == (1, 1)


async def test_while_the_issuer_is_away_the_last_keys_are_good_for_their_while() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    began = issuer.now
    assert await found(keys, "old")
    issuer.document = None
    issuer.now = began + FRESH
    assert await found(keys, "old")
    with pytest.raises(Unavailable):  # it may be one that was made since
        await keys.find("ES256", "new")
    issuer.now = began + LASTING - 1
    assert await found(keys, "old")
    issuer.now = began + LASTING
    with pytest.raises(Unavailable):
        await keys.find("ES256", "old")
    issuer.document = key_set(OLD)
    issuer.now += PAUSE
    assert await found(keys, "old")


async def test_nobody_waits_for_an_issuer_that_did_not_answer_the_last_time() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    assert await found(keys, "old")
    issuer.document = None
    issuer.now += FRESH
    assert await found(keys, "old")
    issuer.hold = asyncio.Event()
    issuer.begun.clear()
    issuer.now += PAUSE
    async with asyncio.timeout(5):
        assert await found(keys, "old")  # though the fetch goes on
        await issuer.begun.wait()
    assert issuer.asked == 3
    issuer.document = key_set(OLD, NEW)
    issuer.hold.set()
    assert await found(keys, "new")
    assert issuer.asked == 3


@pytest.mark.parametrize("document", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b"[" * 99_999])
async def test_what_is_no_key_set_changes_nothing(document: bytes) -> None:
    issuer = Issuer(document=document)
    with pytest.raises(Unavailable):
        await issuer.keys().find("ES256", "old")
    issuer = Issuer()
    keys = issuer.keys()
    assert await found(keys, "old")
    issuer.document = document
    issuer.now += FRESH
    assert await found(keys, "old")


async def test_closing_ends_what_is_under_way() -> None:
    issuer = Issuer(hold=asyncio.Event())
    keys = issuer.keys()
    await keys.close()
    waiting = asyncio.create_task(keys.find("ES256", "old"))
    async with asyncio.timeout(5):
        await issuer.begun.wait()
    await keys.close()
    assert issuer.at_once == 0
    with pytest.raises(asyncio.CancelledError):
        await waiting


SMALL = RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 1_024).public_key(), as_dict=True)
P384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
PRIVATE = ECAlgorithm.to_jwk(OLD.private, as_dict=True)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"},
        SMALL,
        P384,
        PRIVATE,
        OLD.jwk(use="enc"),
        OLD.jwk(alg="ES384"),
        OLD.jwk(alg=["ES256"]),
        OLD.jwk(key_ops=["sign"]),
        OLD.jwk(key_ops=5),
        OLD.jwk(kid=5),
        OLD.jwk(x="!"),
        OLD.jwk(x=5),
        OLD.jwk(y=None),
        {"kty": "RSA"},
        {"kty": "RSA", "n": 5, "e": [1]},
        {"kty": ["RSA"]},
        {},
        "key",
        None,
    ],
)
def test_a_key_that_is_not_meant_for_this_is_passed_over(entry: Any) -> None:
    kept = usable_keys(key_set(entry, NEW))
    assert [key.key_id for key in kept] == ["new"]


def test_a_key_need_not_say_what_it_is_for() -> None:
    for each in (signer("RS256"), signer("ES256"), signer("EdDSA")):
        entry = {name: value for name, value in each.jwk().items() if name not in {"use", "alg"}}
        (key,) = usable_keys(key_set(entry))
        assert key.algorithm_name == each.algorithm
    (key,) = usable_keys(key_set(signer("EdDSA").jwk(alg="Ed25519", key_ops=["verify"])))
    assert key.algorithm_name == "EdDSA"


async def test_two_keys_of_one_id_are_told_apart_by_their_algorithm_or_not_at_all() -> None:
    issuer = Issuer(document=key_set(signer("RS256", "same"), signer("ES256", "same")))
    keys = issuer.keys()
    assert (await keys.find("RS256", "same")).algorithm_name == "RS256"
    assert (await keys.find("ES256", "same")).algorithm_name == "ES256"
    issuer = Issuer(document=key_set(OLD, NEW.jwk(kid="old")))
    with pytest.raises(Unauthenticated):
        await issuer.keys().find("ES256", "old")


async def test_a_file_is_read_and_no_more_of_it_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(OLD))
    assert await read_file(path) == key_set(OLD)
    path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(FetchFailed, match="more than"):
        await read_file(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await read_file(path)
