"""The public keys of whoever issues tokens: asked for when needed, kept, asked for with measure.

They are fetched anew when they have grown old, and when a token names a key that is not among
them; never twice at a time nor twice within `PAUSE`, whatever tokens are sent. While the issuer
cannot be asked, the last keys known are good for `LASTING` from when they were fetched.

What a key may be used for is decided here and nowhere else: RSA of 2,048 bits at least for RS256,
P-256 for ES256, Ed25519 for EdDSA, public, and meant for signatures. Others are passed over.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from app.domain.errors import Unauthenticated, Unavailable
from app.outbound.fetching import MOST_BYTES, FetchFailed

FRESH: Final = 600.0
"""Seconds for which keys are taken without a question."""
FRESH_OF_FILE: Final = 10.0
"""The same where looking again costs nothing."""
PAUSE: Final = 10.0
"""Seconds from one attempt to fetch them to the next."""
LASTING: Final = 6 * 3600.0
"""Seconds for which keys are good while they cannot be fetched anew."""
FEWEST_BITS: Final = 2_048
_CALLED: Final[Mapping[str, tuple[str, ...]]] = {
    "RS256": ("RS256",),
    "ES256": ("ES256",),
    "EdDSA": ("EdDSA", "Ed25519"),  # RFC 9864 gave it a name of its own
}

Fetch = Callable[[], Awaitable[bytes]]
"""The key set (RFC 7517) as it is written now. Raises FetchFailed or OSError."""

log = structlog.get_logger("sluice.issuer")


class IssuerKeys:
    """The keys of one issuer. `fresh` in seconds of `clock`."""

    def __init__(
        self, fetch: Fetch, *, fresh: float = FRESH, clock: Callable[[], float] = monotonic
    ) -> None:
        self._fetch = fetch
        self._fresh = fresh
        self._clock = clock
        self._keys: tuple[PyJWK, ...] = ()
        self._fetched_at = self._tried_at = float("-inf")
        self._is_away = False
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, algorithm: str, kid: str | None) -> PyJWK:
        """The key of this id for the algorithm; without an id the only one there is.

        Raises Unauthenticated where the issuer has none, Unavailable where it cannot be asked.
        """
        key = self._kept(algorithm, kid)
        if key is not None and self._clock() - self._fetched_at < self._fresh:
            return key
        fetching = self._begun()
        # Who has a key need not wait for an issuer that did not answer the last time.
        if fetching is not None and not (key is not None and self._is_away):
            await asyncio.shield(fetching)  # others wait for it too
        key = self._kept(algorithm, kid)
        if key is not None:
            return key
        if self._is_away:
            raise Unavailable("The keys of the tokens' issuer cannot be had at the moment.")
        named = "no key id, and not one alone could be meant" if kid is None else "an unknown key"
        raise Unauthenticated(f"The token names {named} of its issuer for {algorithm}.")

    async def close(self) -> None:
        """End what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    def _kept(self, algorithm: str, kid: str | None) -> PyJWK | None:
        if self._clock() - self._fetched_at >= LASTING:
            return None
        fitting = [
            key
            for key in self._keys
            if key.algorithm_name == algorithm and kid in (None, key.key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _begun(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, which may begin now; None where it is too early for one."""
        if self._fetching is None and self._clock() - self._tried_at >= PAUSE:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._renew())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _renew(self) -> None:
        try:
            keys = await asyncio.to_thread(usable_keys, await self._fetch())
        except (FetchFailed, OSError, ValueError) as failed:
            self._is_away = True
            log.warning("issuer.away", reason=str(failed))
        else:
            self._keys, self._fetched_at, self._is_away = keys, self._clock(), False
            log.info("issuer.keys", kids=[key.key_id for key in keys])


async def read_file(path: Path) -> bytes:
    """The key set in a file. Raises OSError."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)

    text = await asyncio.to_thread(read)
    if len(text) > MOST_BYTES:
        raise FetchFailed(f"{path} has more than {MOST_BYTES:,} bytes")
    return text


def usable_keys(text: bytes) -> tuple[PyJWK, ...]:
    """The keys of a set that may verify tokens. Raises ValueError for what is no key set."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    match document:
        case {"keys": list(entries)}:
            return tuple(key for key in map(_usable, entries) if key is not None)
        case _:
            raise ValueError('it is no JSON object with an array "keys"')


def _usable(entry: Any) -> PyJWK | None:
    match entry:
        case {"d": _}:  # whoever can read it can sign with it
            return None
        case {"kty": "RSA"}:
            algorithm = "RS256"
        case {"kty": "EC", "crv": "P-256"}:
            algorithm = "ES256"
        case {"kty": "OKP", "crv": "Ed25519"}:
            algorithm = "EdDSA"
        case _:
            return None
    if not _is_for(entry, algorithm):
        return None
    try:
        key = PyJWK(entry, algorithm)
    except PyJWTError:
        return None
    return None if algorithm == "RS256" and key.key.key_size < FEWEST_BITS else key


def _is_for(entry: Mapping[str, Any], algorithm: str) -> bool:
    """Whether the issuer means the key for signatures of this algorithm, as far as it says."""
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and entry.get("alg", algorithm) in _CALLED[algorithm]
        and isinstance(entry.get("kid"), str | None)
    )
