"""The deals of segments at a T in the past: what is asked of the database, and what comes of it.

How they are told by their visits and changes says `segments.hindsight`.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.pipeline import StageKind
from app.storage.aside import aside
from app.storage.queries.question import Question
from app.storage.segments import hindsight, holding, kept
from app.storage.segments.columns import CHANGEABLE, CHANGES, instant
from app.storage.segments.hindsight import Split
from app.storage.segments.holding import Held
from app.storage.segments.selecting import Part

Sparse: TypeAlias = Sequence[Part | None]
"""A part for each segment, but for those that have nothing to tell."""


async def seek(
    connection: AsyncConnection,
    question: Question,
    held: Held,
    wanted: Collection[str],
    counted: str | None,
) -> tuple[Callable[[], Awaitable[list[Part]]], list[UUID]]:
    """The deals of segments as they were at T, and those of which only the log can tell.

    Whatever the period: a deal that has moved since was in it at another instant. The log is asked
    between two turns: until it has answered nothing is held.
    """
    as_of, slots = instant(question.selection.as_of), question.ranking.slots(StageKind.OPEN)
    segments = await holding.opened(connection, question, held)
    # Whoever has moved since was open at T, or only the log can tell.
    with_moved = counted != "closed_at"
    with_changes = with_moved and not {*wanted}.isdisjoint(CHANGEABLE)
    read = partial(holding.read, connection, question)

    async def sparsely(relation: str, names: Collection[str], some: Sequence[bool]) -> Sparse:
        them = [segment for segment, is_one in zip(segments, some, strict=True) if is_one]
        each = iter(await read(them, relation, names))
        return [next(each) if is_one else None for is_one in some]

    async with kept.turn:
        deals_now = await read(segments, "deal", hindsight.ASKED)
        splits = await aside(_split, deals_now, as_of)
        winding = await sparsely(
            "visit", hindsight.STAYS, [bool(each.log.any()) for each in splits]
        )
        splits, others = await aside(_looked_into, deals_now, splits, winding, as_of, slots)
        del deals_now, winding

    async def found() -> list[Part]:
        deals = await read(segments, "deal", {*wanted, "opened_at"})
        moved = [with_moved and bool(each.visits.any()) for each in splits]
        visits = await sparsely("visit", hindsight.VISITED, moved)
        still = [with_changes and bool(each.open.any()) for each in splits]
        changes = await sparsely("change", CHANGES, still)
        return await aside(look, deals, visits, changes)

    def look(deals: Sequence[Part], visits: Sparse, changes: Sparse) -> list[Part]:
        parts = []
        for part, of_visits, of_changes, each in zip(deals, visits, changes, splits, strict=True):
            then = part.frame
            if of_changes is not None:
                then = hindsight.taken_back(then, each.open, of_changes, as_of)
            parts.append(Part(then.size, then.columns, each.rows))
            if of_visits is not None:
                seen = hindsight.seen(then, each.visits, of_visits, as_of, slots, wanted)
                parts.append(Part(seen.size, seen.columns))
        return parts

    return found, others


def _split(parts: Sequence[Part], as_of: int) -> list[Split]:
    return [hindsight.split(part, as_of) for part in parts]


def _looked_into(
    parts: Sequence[Part],
    splits: Sequence[Split],
    visits: Sparse,
    as_of: int,
    open_slots: Collection[int],
) -> tuple[list[Split], list[UUID]]:
    """As far as visits tell of the winding ones too, and the ids of those that the log has to."""
    told, others = [], []
    for part, each, of_visits in zip(parts, splits, visits, strict=True):
        split = each
        if of_visits is not None:
            split = hindsight.found_open(each, of_visits, as_of, open_slots)
            ids = part.frame.numbers("opportunity_id")[split.log].tolist()
            others += [UUID(bytes=packed) for packed in ids]
        told.append(split)
    return told, others
