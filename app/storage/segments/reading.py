"""Which columns does a question count in? Those of segments, and of the deals that are in none.

`deals` and `completed_visits` are the relations that `population.deals` and `queries.visits`
define, in columns: the segments, without the deals that have been written since; those unfolded
deals from their rows; and the deals of which only the log can tell. None where the pipeline has no
segments or some of another edition, where too many deals are unfolded, or where the question asks
for what segments do not hold: then SQL counts.

What the database has to tell is asked first. Columns are read when it is the question's turn
(`kept.turn`), and are there within the `async with` that they are asked by, to be counted in it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.journey import Status
from app.domain.measures.selection import Attribution
from app.storage.queries import population
from app.storage.queries.population import BORNE
from app.storage.queries.question import Question
from app.storage.segments import holding, kept, past
from app.storage.segments.columns import DEALS, STAYS, TOLD, Coded, Meaning
from app.storage.segments.frames import Frame
from app.storage.segments.rows import FEW, packed_part, visits_of_unfolded
from app.storage.segments.selecting import Columns, Period, column_of

Sought: TypeAlias = Callable[[], Awaitable[Columns]]
"""Reads the columns that a question seeks, when it is its turn."""


TOUCHING: Final = ("slot", "entered_at", "left_at", "kind")
"""The columns that `Visits.touching` looks at."""


@asynccontextmanager
async def deals(
    connection: AsyncConnection,
    question: Question,
    names: Iterable[str],
    *,
    counted: str | None = None,
) -> AsyncIterator[Columns | None]:
    """The deals at T, in the columns of `TOLD` of these names; they bear their values at T."""
    async with _in_turn(await _seek_deals(connection, question, names, counted)) as found:
        yield found


@asynccontextmanager
async def completed_visits(
    connection: AsyncConnection,
    question: Question,
    names: Iterable[str],
    *,
    counted: str | None = None,
) -> AsyncIterator[Columns | None]:
    """The visits that ended before T, in the columns of `STAYS` of these names."""
    async with _in_turn(await _seek_visits(connection, question, names, counted)) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Visits:
    """All visits at T: those that had ended, and those of the deals that stood somewhere."""

    completed: Columns
    standing: Columns

    def touching(
        self, start: datetime | None, end: datetime | None, **among: Collection[Meaning]
    ) -> Iterator[Frame]:
        """Those entered before the end and not left before the start; who stays leaves after all.

        In the columns `group` and `TOUCHING`; who stays has no kind. `among`: as `Columns.chosen`
        has it.
        """
        entered: dict[str, Period] = {"entered_at": (None, end)}
        yield from self.completed.chosen({**entered, "left_at": (start, None)}, **among)
        for frame in self.standing.chosen(entered, **among):
            stays = frame.where(~frame.bears("status", Status.HANDED_OFF))
            kind = Coded(np.zeros(stays.size, dtype=np.uint8), [None])
            never = np.full(stays.size, np.iinfo(np.int64).max)
            yield stays.bearing("kind", kind).bearing("left_at", never)


@asynccontextmanager
async def visits(
    connection: AsyncConnection,
    question: Question,
    names: Iterable[str],
    *,
    counted: str | None = None,
) -> AsyncIterator[Visits | None]:
    """All visits at T: those ended in these columns, who stands in `slot, entered_at, status`."""
    ended = await _seek_visits(connection, question, names, counted)
    here = {"slot", "entered_at", "status"}
    standing = ended and await _seek_deals(connection, question, here, counted)
    if ended is None or standing is None:
        yield None
    else:
        async with kept.turn:
            yield Visits(await ended(), await standing())


@asynccontextmanager
async def _in_turn(sought: Sought | None) -> AsyncIterator[Columns | None]:
    """What is sought, read when it is the question's turn, which lasts as long as this does."""
    if sought is None:
        yield None
    else:
        async with kept.turn:
            yield await sought()


async def _seek_deals(
    connection: AsyncConnection, question: Question, names: Iterable[str], counted: str | None
) -> Sought | None:
    held = await holding.held_by(connection, question)
    if held is None:
        return None
    wanted = {*names, *_dimensions(question)} | ({counted} if counted else set())
    others: list[UUID] = []
    if held.moved:
        read, others = await past.seek(connection, question, held, wanted, counted)
    else:
        near = await holding.near(connection, question, held, counted, "deal")
        read = partial(holding.read, connection, question, near, "deal", wanted)
    rest = []
    if held.unfolded or others:
        packed = {name: TOLD[name] for name in sorted(wanted)}
        replaying = held.moved or held.untold
        known, picked = population.picked(question, FEW, replaying=replaying, others=others)
        rest = [await packed_part(connection, question, packed, known, f"{picked} AS d")]

    async def found() -> Columns:
        return Columns(question, [*await read(), *rest], counted)

    return found


async def _seek_visits(
    connection: AsyncConnection, question: Question, names: Iterable[str], counted: str | None
) -> Sought | None:
    held = await holding.held_by(connection, question)
    dimensions = _dimensions(question)
    current = question.asks_facts and question.selection.attribution is Attribution.CURRENT
    of_deals = {name for name in dimensions if current or name not in BORNE}
    if held is None or (of_deals and held.moved):
        return None
    wanted = {*names, *(dimensions - of_deals), "left_at"} | ({counted} if counted else set())
    near = await holding.near(connection, question, held, counted, "visit")
    rest = []
    if held.unfolded:
        packed = {name: STAYS[name] for name in sorted(wanted)}
        packed |= {name: DEALS[name] for name in sorted(of_deals)}
        known, source = visits_of_unfolded(question, of_deals=bool(of_deals), replaying=held.untold)
        rest = [await packed_part(connection, question, packed, known, source)]

    async def found() -> Columns:
        parts = await holding.read(connection, question, near, "visit", wanted, of_deals)
        return Columns(question, [*parts, *rest], counted, ended=True)

    return found


def _dimensions(question: Question) -> set[str]:
    """The columns that filters and the group look at."""
    return {column_of(dimension) for dimension in question.dimensions}
