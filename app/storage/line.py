"""Who comes while others are under way waits in line, and goes together with who waits as well.

A transaction takes as many round trips for one change as for twenty, so under load they share. A
line makes nobody wait who could go at once: it has `PLACES` of them, and only when all are taken is
there something to wait for. Who takes longer than `PATIENCE` holds nobody up any more. What was
spent in line is told to whoever does the work, so that nobody waits for long twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from app.domain.errors import DatabaseUnavailable

T = TypeVar("T")
R = TypeVar("R")

PLACES: Final = 2
"""Under way at the same time, each one item or several together."""
TOGETHER: Final = 32
"""So many items go together at most: what breaks one of them off, all have to do again."""
PATIENCE: Final = 0.1
"""Seconds after which a place is free again, though who had it has not ended."""
WAIT: Final = 2.0
"""Seconds that an item waits at most to get under way, and then for what it needs there."""

Names = frozenset[Hashable]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    names: Names


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[T, R]):
    item: T
    names: Names
    since: float
    outcome: "asyncio.Future[R | Exception | None]"


class Line(Generic[T, R]):
    """One line. Items that share a name, such as that of a deal, never go together, and one after
    the other as long as patience lasts.

    Both functions are told the seconds that were spent waiting, of several items the most.
    `together` tells what became of each item: its result, the error that its caller is told, or
    None where it has to go `alone`, outside of the line. What `together` raises, all are told.
    """

    def __init__(
        self,
        alone: Callable[[T, float], Awaitable[R]],
        together: Callable[[Sequence[T], float], Awaitable[Sequence[R | Exception | None]]],
    ) -> None:
        self._alone = alone
        self._together = together
        self._places: set[_Place] = set()
        self._waiting: list[_Waiting[T, R]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def go(self, item: T, names: Names) -> R:
        """What became of the item. Raises DatabaseUnavailable where it did not get under way."""
        if len(self._places) < PLACES and self._is_free(names):
            leave = self._take(names)
            try:
                return await self._alone(item, 0)
            finally:
                leave()
        loop = asyncio.get_running_loop()
        waiting: _Waiting[T, R] = _Waiting(item, names, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        expiry = loop.call_later(WAIT, self._expire, waiting)
        try:
            outcome = await waiting.outcome
        finally:
            expiry.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            return await self._alone(item, loop.time() - waiting.since)
        return outcome

    def _expire(self, waiting: _Waiting[T, R]) -> None:
        if waiting in self._waiting and not waiting.outcome.done():
            waiting.outcome.set_result(
                DatabaseUnavailable("Too many changes were waiting already; try again.")
            )

    def _is_free(self, names: Names) -> bool:
        return all(place.names.isdisjoint(names) for place in self._places)

    def _take(self, names: Names) -> Callable[[], None]:
        """Takes a place; what it answers gives it back, unless patience has done so before."""
        place = _Place(names)
        self._places.add(place)
        impatience = asyncio.get_running_loop().call_later(PATIENCE, self._free, place)

        def leave() -> None:
            impatience.cancel()
            self._free(place)

        return leave

    def _free(self, place: _Place) -> None:
        self._places.discard(place)
        while len(self._places) < PLACES and (group := self._next()):
            leave = self._take(frozenset().union(*(waiting.names for waiting in group)))
            # Of none of their requests: what is logged there shall not bear the id of one.
            task = asyncio.create_task(self._go(group, leave), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _go(self, group: Sequence[_Waiting[T, R]], leave: Callable[[], None]) -> None:
        outcomes: Sequence[R | Exception | None]
        waited = asyncio.get_running_loop().time() - min(waiting.since for waiting in group)
        try:
            if len(group) == 1:
                outcomes = [await self._alone(group[0].item, waited)]
            else:
                outcomes = await self._together([waiting.item for waiting in group], waited)
        except Exception as failed:  # noqa: BLE001 -- it is raised where they wait
            outcomes = [failed] * len(group)
        except BaseException:
            for waiting in group:
                waiting.outcome.cancel()
            raise
        finally:
            leave()
        for waiting, outcome in zip(group, outcomes, strict=True):
            if not waiting.outcome.done():  # else its caller has left
                waiting.outcome.set_result(outcome)

    def _next(self) -> list[_Waiting[T, R]]:
        """Those who go next, in the order in which they came; they wait no longer."""
        group: list[_Waiting[T, R]] = []
        taken: set[Hashable] = set()
        stay: list[_Waiting[T, R]] = []
        for waiting in self._waiting:
            names = waiting.names
            if waiting.outcome.done():  # it has waited in vain, or its caller has left
                continue
            if len(group) < TOGETHER and taken.isdisjoint(names) and self._is_free(names):
                group.append(waiting)
                taken |= names
            else:
                stay.append(waiting)
        self._waiting = stay
        return group
