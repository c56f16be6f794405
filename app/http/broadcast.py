"""Event streams: one reader of the feed a worker, however many streams it has.

**Live.** For each workspace that is followed the reader takes what has been settled, once, and
hands it to every follower that asks for it. It is woken by notices of commits, and looks again in a
moment while something is committed but not settled.

**Behind.** A follower that comes with an old position, or has not taken what was handed to it, is
read for alone, page by page when its socket takes more, until it has caught up. So a slow reader
costs a full hand at most, holds nobody up and loses nothing: its own position is the only memory.

A stream ends after its lifetime, when its caller's credential is good no longer, when its client
takes nothing for long, and when the service leaves; whoever comes back with the last `id` goes on
from there.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final
from uuid import UUID

import structlog
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.domain.access import WHOLE
from app.domain.errors import DatabaseUnavailable
from app.http.connection import BREAK_OFF
from app.http.follower import AT_ONCE, Follower
from app.http.guard import Place
from app.storage import events
from app.storage.engine import Database
from app.storage.events import Event, Position
from app.storage.notices import Wake

PAGE: Final = 200
"""Events that the reader takes in one look."""
READERS: Final = 2
"""Connections that all streams that are behind share."""
SOON: Final = 0.005
LATER: Final = 0.1
"""Seconds until what is not settled is looked at again: at first, and at the most."""
AWAY: Final = 0.5
"""Seconds until a database that is away is asked again."""
TAKEN_WITHIN: Final = 30.0
"""Seconds in which a client takes what it is sent, or is broken off."""
PARTING: Final = 1.0
"""Seconds that it has for that when the stream is to end."""
RETRY: Final = 1000
"""Milliseconds that a client is to wait before it comes back."""

log = structlog.stdlib.get_logger("sluice.stream")


@dataclass(slots=True, eq=False)
class _Watch:
    """A workspace with live followers: everything before `position` was handed to them."""

    position: Position
    followers: set[Follower] = field(default_factory=set)
    pause: float = SOON


class Broadcast:
    """The streams of one worker. `heartbeat` and `lifetime` in seconds."""

    def __init__(self, database: Database, *, heartbeat: float, lifetime: float) -> None:
        self._database = database
        self._heartbeat = heartbeat
        self._lifetime = lifetime
        self._watches: dict[UUID, _Watch] = {}
        self.streams: set[Follower] = set()
        self._readers = asyncio.Semaphore(READERS)
        self._followed = asyncio.Event()
        self._wake: Wake | None = None
        self._leaving = False
        self._sending: set[asyncio.Timeout] = set()

    @property
    def is_leaving(self) -> bool:
        return self._leaving

    @property
    def watched(self) -> int:
        """How many workspaces are read for live followers."""
        return len(self._watches)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read for the followers as long as this lasts; at its end every stream ends."""
        reading = asyncio.create_task(self._read())
        try:
            yield
        finally:
            self.leave()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    def leave(self) -> None:
        """End every stream, and let no other begin."""
        self._leaving = True
        for follower in self.streams:
            follower.rouse()
        parted = asyncio.get_running_loop().time() + PARTING
        for sending in self._sending:
            if not sending.expired():
                sending.reschedule(min(sending.when() or parted, parted))

    @asynccontextmanager
    async def sending(self, follower: Follower) -> AsyncIterator[None]:
        """Send the follower something meanwhile; raises TimeoutError where it is not taken."""
        now = asyncio.get_running_loop().time()
        ends = now if self._leaving else max(follower.until, now)
        async with asyncio.timeout_at(min(now + TAKEN_WITHIN, ends + PARTING)) as sending:
            self._sending.add(sending)
            try:
                yield
            finally:
                self._sending.discard(sending)

    async def stream(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        """The stream as it is sent. Its first message is the position alone: a place to come back
        to, for a client that is cut off before anything happens.
        """
        now = asyncio.get_running_loop().time
        # All that were opened after a restart would come back at once.
        lifetime = self._lifetime * random.uniform(0.9, 1)  # noqa: S311 -- jitter
        looked = now()
        until = follower.until = looked + min(lifetime, follower.credential.lasts)
        told = follower.position
        self.streams.add(follower)
        try:
            yield format_sse_event(retry=RETRY, id=events.written(told))
            while not self._leaving and now() < until:
                if now() >= looked + self._heartbeat:
                    if not await follower.credential.is_good():
                        return
                    looked = now()
                frames = follower.take() if follower.is_live else await self._catch_up(follower)
                if frames:
                    told = follower.position
                    yield frames
                elif follower.is_live and not await follower.news(
                    min(self._heartbeat, max(until - now(), 0))
                ):
                    # Nothing in hand: of all that was handed out, nothing more was wanted.
                    watched = self._watches[follower.wanted.workspace].position
                    follower.position = max(follower.position, watched)
                    moved = follower.position if follower.position > told else None
                    told = follower.position
                    yield _heartbeat(moved)
        finally:
            self.streams.discard(follower)
            self._part(follower)

    async def _catch_up(self, follower: Follower) -> bytes:
        """The next page for a follower that is behind; live, once there is nothing to read."""
        wanted = follower.wanted
        try:
            async with self._readers, self._database.read(wanted.workspace) as connection:
                end = follower.gap_ends or await events.horizon(connection)
                page = await events.after(
                    connection,
                    wanted.workspace,
                    follower.position,
                    end,
                    limit=AT_ONCE,
                    sight=wanted.sight,
                    types=wanted.types,
                    pipeline_id=wanted.pipeline_id,
                    historical=wanted.historical,
                )
        except DatabaseUnavailable:
            await asyncio.sleep(AWAY)
            return _heartbeat(None)
        if len(page) == AT_ONCE:
            follower.position = page[-1].position
        else:
            follower.position = max(follower.position, end)
            self._join(follower)
        return b"".join(map(_frame, page))

    def _join(self, follower: Follower) -> None:
        """From here on the follower is handed what comes; live, unless that begins further on."""
        workspace = follower.wanted.workspace
        watch = self._watches.get(workspace)
        if watch is None:
            watch = self._watches[workspace] = _Watch(follower.position)
            self._followed.set()
            if self._wake is not None:
                self._wake.hear(workspace)  # of what is committed but not settled nobody tells
        if follower not in watch.followers:
            watch.followers.add(follower)
            follower.gap_ends = watch.position
        follower.is_live = follower.gap_ends is not None and follower.gap_ends <= follower.position

    def _part(self, follower: Follower) -> None:
        workspace = follower.wanted.workspace
        watch = self._watches.get(workspace)
        if watch is not None:
            watch.followers.discard(follower)
            if not watch.followers:
                del self._watches[workspace]

    async def _read(self) -> None:
        """Read while there are live followers; without them a commit here wakes nobody."""
        while True:
            await self._followed.wait()
            with self._database.notices.listening() as self._wake:
                await self._read_for_followers(self._wake)
            self._wake = None
            self._followed.clear()

    async def _read_for_followers(self, wake: Wake) -> None:
        """Look where something was committed, and everywhere when that is not known."""
        seen: str | None = None
        while self._watches:
            where = await wake.wait()
            try:
                if where is None:
                    async with self._database.read(None) as connection:
                        current = await events.snapshot(connection)
                    where = frozenset() if current == seen else frozenset(self._watches)
                    seen = current
                for workspace in where or ():
                    if watch := self._watches.get(workspace):
                        await self._look(workspace, watch, wake)
            except Exception as failed:  # streams outlive whatever one look meets
                expected = isinstance(failed, DatabaseUnavailable)
                log.warning(
                    "stream.postponed", reason=str(failed), exc_info=None if expected else failed
                )
                seen = None
                await asyncio.sleep(AWAY)
                wake.hear(None)

    async def _look(self, workspace: UUID, watch: _Watch, wake: Wake) -> None:
        """Hand out what has been settled since the last look."""
        if not watch.followers:  # all of them have fallen behind
            del self._watches[workspace]
            return
        async with self._database.read(workspace) as connection:
            horizon = await events.horizon(connection)
            page = await events.after(
                connection, workspace, watch.position, horizon, limit=PAGE, sight=WHOLE
            )
            # At once: nobody waits for what this look has still to ask and to end.
            for event in page:
                self._hand_out(watch, event)
            is_full = len(page) == PAGE
            watch.position = page[-1].position if is_full else max(watch.position, horizon)
            waiting = not is_full and await events.unsettled(connection, workspace, horizon)
        if is_full:
            wake.hear(workspace)
        elif waiting:
            asyncio.get_running_loop().call_later(watch.pause, wake.hear, workspace)
            watch.pause = SOON if page else min(watch.pause * 2, LATER)
        else:
            watch.pause = SOON

    def _hand_out(self, watch: _Watch, event: Event) -> None:
        wanting = [each for each in watch.followers if each.wanted.holds(event)]
        if wanting:
            frame = _frame(event)
            watch.followers -= {each for each in wanting if not each.offer(event, frame)}


class EventStream(EventSourceResponse):
    """The answer that a stream is; however it ends, its follower is parted with at once.

    A client that takes nothing more is broken off; when the service leaves, also one that has not
    taken the last of it.
    """

    def __init__(self, broadcast: Broadcast, follower: Follower) -> None:
        self._broadcast, self._follower = broadcast, follower
        self._frames = broadcast.stream(follower)
        super().__init__(
            self._frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place: Place = scope["state"]["place"]
        place.begin_stream()  # before the answer begins: a refusal is a problem still
        scope["state"]["streams_since"] = perf_counter()  # for the log and the figures
        break_off = scope.get("extensions", {}).get(BREAK_OFF, _nothing)

        async def sent(message: Message) -> None:
            try:
                async with self._broadcast.sending(self._follower):
                    await send(message)
            except TimeoutError:
                break_off()
                raise ClientDisconnect from None

        async with aclosing(self._frames):
            with suppress(ClientDisconnect):
                await super().__call__(scope, receive, sent)
        if self._broadcast.is_leaving:
            asyncio.get_running_loop().call_later(PARTING, break_off)


def _nothing() -> None:
    """Break nothing off: the server has no way to."""


def _frame(event: Event) -> bytes:
    return format_sse_event(
        id=events.written(event.position), event=event.type, data_str=events.told(event).decode()
    )


def _heartbeat(position: Position | None) -> bytes:
    """A comment, and the position where a client may come back to, if it has moved on."""
    return format_sse_event(
        comment="heartbeat", id=None if position is None else events.written(position)
    )
