"""One request to a receiver: a POST, and what came of it. Never more than one, never elsewhere.

No redirect is followed and no proxy of the environment is used; a connection serves one request.
The whole of it, from the name's resolution to the answer's end, has one time limit, and of the
answer no more is read than a limit says. Once its status is there, it is answered: how its body
ends makes no difference.
"""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from time import perf_counter
from typing import Final
from uuid import UUID

import httpcore

from app.domain.errors import UrlRefused
from app.domain.webhook import Failure, Reply
from app.domain.webhook_target import Target, target_of, unresolvable
from app.outbound.addresses import CheckedBackend, Lookups, NoRoom, Resolve, checked, resolve

TIMEOUT: Final = 15.0
"""Seconds for a whole attempt."""
CONNECT_TIMEOUT: Final = 5.0
"""Seconds for each address of a host that has several."""
MOST_BYTES: Final = 64 * 1024
"""Of an answer's body; what comes after is not read."""
KEPT_BYTES: Final = 1024
"""Of an answer's body, kept for those who look for the fault."""


_LATE: Final = (TimeoutError, httpcore.TimeoutException)
BROKEN_OFF: Final = (*_LATE, httpcore.NetworkError, httpcore.ProtocolError, OSError)


class Outbound:
    """The way out, with its rules. Opens nothing before it is asked to, and keeps nothing open."""

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        resolving: Resolve = resolve,
        timeout: float = TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_loopback = allow_loopback
        self._lookups = Lookups(resolving)
        self._timeout = timeout
        self._given_tls = tls

    async def check(self, url: str, whose: UUID | None = None) -> None:
        """Ask now what will be asked again at every attempt. Raises UrlRefused."""
        target = target_of(url, allow_loopback=self._allow_loopback)
        resolving = partial(self._lookups.ask, whose)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await checked(target, resolving, allow_loopback=self._allow_loopback)
        except (TimeoutError, NoRoom) as late:
            raise unresolvable() from late

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, whose: UUID | None = None
    ) -> Reply:
        """Send it for a workspace, and say what came of it.

        Never raises for what the receiver or the network does; NoRoom, if it could not be tried.
        """
        began = perf_counter()
        try:
            target = target_of(url, allow_loopback=self._allow_loopback)
            resolving = partial(self._lookups.ask, whose)
            backend = CheckedBackend(target, resolving, allow_loopback=self._allow_loopback)
            try:
                status, retry_after, text = await self._exchange(target, backend, headers, body)
            finally:
                await backend.aclose()
        except UrlRefused as refused:
            unknown = any(breach.code == "unresolvable" for breach in refused.errors)
            failure = Failure.UNRESOLVABLE if unknown else Failure.URL_REFUSED
        except _LATE:
            failure = Failure.TIMEOUT
        except httpcore.ConnectError as failed:
            tls = isinstance(failed.__cause__, ssl.SSLError)
            failure = Failure.TLS_FAILED if tls else Failure.CONNECT_FAILED
        except BROKEN_OFF:
            failure = Failure.CONNECTION_LOST
        else:
            return Reply(_since(began), status, None, retry_after, text)
        return Reply(_since(began), None, failure)

    async def _exchange(
        self, target: Target, backend: CheckedBackend, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str | None, str]:
        """Status, Retry-After and the beginning of the body."""
        ends = asyncio.get_running_loop().time() + self._timeout
        url = url_of(target)
        connection = httpcore.AsyncHTTPConnection(
            url.origin,
            ssl_context=self._tls if target.scheme == "https" else None,
            network_backend=backend,
        )
        sent = [
            ("Host", host_of(target)),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *headers.items(),
        ]
        async with AsyncExitStack() as answering:
            async with asyncio.timeout_at(ends):
                response = await answering.enter_async_context(
                    connection.stream(
                        "POST",
                        url,
                        headers=sent,
                        content=body,
                        extensions={"timeout": {"connect": CONNECT_TIMEOUT}},
                    )
                )
            text = _text(await _beginning(response, ends))
        asked = next(
            (
                value.decode("latin-1")
                for name, value in response.headers
                if name.lower() == b"retry-after"
            ),
            None,
        )
        return response.status, asked, text

    @property
    def _tls(self) -> ssl.SSLContext:
        # Reading the world's certificates takes a while; most processes never send anything.
        if self._given_tls is None:
            self._given_tls = httpcore.default_ssl_context()
        return self._given_tls


def url_of(target: Target) -> httpcore.URL:
    """What is asked of the target's host."""
    return httpcore.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode(),
        port=target.port,
        target=target.path.encode(),
    )


def host_of(target: Target) -> str:
    """What the header Host says."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    usual = target.port == (443 if target.scheme == "https" else 80)
    return host if usual else f"{host}:{target.port}"


async def _beginning(response: httpcore.Response, ends: float) -> bytes:
    """What is kept of the body; one that breaks off or has no end is read as far as it goes."""
    kept, read = b"", 0
    with suppress(*BROKEN_OFF):
        async with asyncio.timeout_at(ends):
            async for chunk in response.aiter_stream():
                kept += chunk[: KEPT_BYTES - len(kept)]
                read += len(chunk)
                if read >= MOST_BYTES:
                    break
    return kept


def _since(began: float) -> float:
    return round(perf_counter() - began, 6)


def _text(body: bytes) -> str:
    """What can be read of it, and stored: U+0000 cannot."""
    return body.decode(errors="replace").replace("\x00", "\ufffd")
