"""From a host's name to the addresses that may be connected to, and to one of them alone.

The name is asked for once. What it leads to is checked address by address, and the connection is
made to the very address that was checked: a name that leads elsewhere the next time it is asked
for (DNS rebinding) leads nowhere here. TLS goes on to verify the name.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from httpcore import (
    SOCKET_OPTION,
    AnyIOBackend,
    AsyncNetworkBackend,
    AsyncNetworkStream,
    ConnectError,
    ConnectTimeout,
)

from app.domain.webhook_target import Address, Target, not_public, unresolvable

MOST_TRIED: Final = 4
"""Addresses of one host that are tried before it counts as not answering."""

AT_ONCE: Final = 64
"""Names that are asked for at a time; one whose servers are silent takes its time."""
OF_ONE_WORKSPACE: Final = 8
"""Of these, for one workspace: whose names are silent waits for itself."""
ROOM_WITHIN: Final = 2.0
"""Seconds to wait until one more may be asked for."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, most preferred first; OSError where none is known."""


class NoRoom(Exception):
    """Too many names are being asked for, none of which this one can help."""


# Of their own: others work in the loop's.
_threads: Final = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="resolve")


async def resolve(host: str, port: int) -> Sequence[str]:
    """As the operating system has it."""
    asking = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_threads, asking)
    return [str(place[0]) for *_, place in found]


class Lookups:
    """Asks for names, so many at a time, and so many for one workspace.

    A question cannot be taken back: who gives up waiting leaves it under way, and it keeps its
    place until it is answered.
    """

    def __init__(self, resolving: Resolve) -> None:
        self._resolving = resolving
        self._places = asyncio.Semaphore(AT_ONCE)
        self._asking: set[asyncio.Task[Sequence[str]]] = set()  # the loop itself holds no task
        self._of: WeakValueDictionary[UUID | None, asyncio.Semaphore] = WeakValueDictionary()

    async def ask(self, whose: UUID | None, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, for a workspace. Raises what `Resolve` does, and NoRoom."""
        with suppress(ValueError):
            return [str(ip_address(host))]  # is one, and nobody need be asked
        own = self._of.setdefault(whose, asyncio.Semaphore(OF_ONE_WORKSPACE))
        asking = asyncio.create_task(self._ask(own, host, port))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return await asyncio.shield(asking)

    async def _ask(self, own: asyncio.Semaphore, host: str, port: int) -> Sequence[str]:
        patience = asyncio.timeout(ROOM_WITHIN)
        try:
            async with patience, own, self._places:
                patience.reschedule(None)
                return await self._resolving(host, port)
        except TimeoutError:
            if patience.expired():
                raise NoRoom from None
            raise


async def checked(target: Target, resolving: Resolve, *, allow_loopback: bool) -> list[Address]:
    """The host's addresses. Raises UrlRefused unless there are any and all of them are permitted.

    One that is not is enough: an honest name has no address that is none of its business.
    """
    try:
        written = await resolving(target.host, target.port)
        addresses = [ip_address(text) for text in dict.fromkeys(written)]
    except (OSError, ValueError) as failed:  # ValueError: a name or address that cannot be
        raise unresolvable() from failed
    if not addresses:
        raise unresolvable()
    if not all(target.permits(each, allow_loopback=allow_loopback) for each in addresses):
        raise not_public()
    return addresses


class CheckedBackend(AsyncNetworkBackend):
    """A network on which only a target's checked addresses exist."""

    def __init__(self, target: Target, resolving: Resolve, *, allow_loopback: bool) -> None:
        self._target = target
        self._resolving = resolving
        self._allow_loopback = allow_loopback
        self._network = AnyIOBackend()
        self._stream: AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first address that answers. Raises UrlRefused, NoRoom, ConnectError."""
        assert (host, port) == (self._target.host, self._target.port), "one target a backend"
        addresses = await checked(
            self._target, self._resolving, allow_loopback=self._allow_loopback
        )
        refused: ConnectError | ConnectTimeout | None = None
        for address in addresses[:MOST_TRIED]:
            try:
                self._stream = await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (ConnectError, ConnectTimeout) as failed:
                refused = failed
            else:
                return self._stream
        assert refused is not None  # there is at least one address
        raise refused

    async def aclose(self) -> None:
        """Close the connection, which a TLS handshake that is cancelled would leave open."""
        if self._stream is not None:
            await self._stream.aclose()
