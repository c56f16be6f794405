"""Who follows a stream: what they ask for, by which right, and what was handed to them so far."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final
from uuid import UUID

from app.domain.access import Sight
from app.http.authentication import Credential
from app.storage import events
from app.storage.events import Event, Position

MOST_HANDED: Final = 256
"""Events that wait in a stream's hand; one more, and the stream is behind."""
AT_ONCE: Final = 50
"""Events in one write to a socket, or read for a stream that is behind: what a client that takes
nothing more leaves in the server's buffer.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a follower asks for; an empty `types` or no pipeline leaves nothing out."""

    workspace: UUID
    types: tuple[str, ...] = ()
    pipeline: str | None = None
    pipeline_id: UUID | None = None
    historical: bool = False
    sight: Sight

    def holds(self, event: Event) -> bool:
        return (
            (self.historical or not event.historical)
            and (self.pipeline is None or event.pipeline == self.pipeline)
            and (not self.types or events.is_named(event, self.types))
            and events.is_seen(event, self.sight)
        )


class Follower:
    """One stream: what it asks for, and the position before which all of that was sent."""

    def __init__(self, wanted: Wanted, position: Position, credential: Credential) -> None:
        self.wanted = wanted
        self.credential = credential
        self.position = position
        self.gap_ends: Position | None = None
        """Where what is handed begins; between here and there the stream reads for itself."""
        self.is_live = False
        self.until = inf
        """When the stream ends, by the loop's clock."""
        self._hand: deque[tuple[Position, bytes]] = deque()
        self._news = asyncio.Event()

    def offer(self, event: Event, frame: bytes) -> bool:
        """Hand over an event that is wanted; False: the hand is full, and the stream behind."""
        if event.position > self.position:
            if len(self._hand) == MOST_HANDED:
                self.fall_behind()
                return False
            self._hand.append((event.position, frame))
            self._news.set()
        return True

    @property
    def in_hand(self) -> int:
        """How many events were handed over and not sent yet."""
        return len(self._hand)

    def fall_behind(self) -> None:
        self.is_live, self.gap_ends = False, None
        self._hand.clear()
        self._news.set()

    def take(self) -> bytes:
        """What is to be sent next of all that was handed over; it counts as sent from now on."""
        self._news.clear()
        frames: list[bytes] = []
        while self._hand and len(frames) < AT_ONCE:
            self.position, frame = self._hand.popleft()
            frames.append(frame)
        return b"".join(frames)

    async def news(self, seconds: float) -> bool:
        """Wait for something to happen; whether it did in so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        return self._news.is_set()

    def rouse(self) -> None:
        self._news.set()
