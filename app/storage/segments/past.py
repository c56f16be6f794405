"""The deals of segments at a T in the past: what is asked of the database, and what comes of it.

How they are told by their visits and changes says `segments.hindsight`.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.pipeline import StageKind
from app.storage.aside import aside
from app.storage.queries.question import Question
from app.storage.segments import hindsight, holding, kept
from app.storage.segments.columns import instant
from app.storage.segments.frames import Frame, Mask
from app.storage.segments.hindsight import Change, Split
from app.storage.segments.holding import Held
from app.storage.segments.selecting import Part


@dataclass(frozen=True, slots=True)
class _Told:
    """What tells of the deals of a segment at T, by their ids where the database has to."""

    split: Split
    log: Sequence[UUID]
    amended: Sequence[UUID]


async def seek(
    connection: AsyncConnection,
    question: Question,
    held: Held,
    wanted: Collection[str],
    counted: str | None,
) -> tuple[Callable[[], Awaitable[list[Part] | None]], list[UUID]] | None:
    """The deals of segments as they were at T, and those of which only the log can tell.

    All segments are looked at: a deal that has moved since was in the period at another instant.
    The database is asked between two turns: until it has answered nothing is held.
    """
    as_of, slots = instant(question.selection.as_of), question.ranking.slots(StageKind.OPEN)
    every = {*wanted, *hindsight.ASKED}
    read = partial(holding.read, connection, question, held.segments, "deal", every)
    async with kept.turn:
        deals_now = await read()
        if deals_now is None:
            return None
        told = await aside(_told, deals_now, as_of)
        del deals_now
    splits = [each.split for each in told]
    others = [deal for each in told for deal in each.log]
    # Whoever has moved since was open at T, or is among the others.
    with_moved = counted != "closed_at"
    fields = sorted({*wanted} & {*hindsight.CHANGEABLE}) if with_moved else []
    changes = await _changes(connection, question, told, fields)

    async def found() -> list[Part]:
        deals = await read()
        assert deals is not None, "they were there in this snapshot"
        if not with_moved:
            return [
                replace(part, alive=each.rows) for part, each in zip(deals, splits, strict=True)
            ]
        visits = await holding.read(connection, question, held.segments, "visit", hindsight.VISITED)
        assert visits is not None, "what holds deals holds their visits"
        return await aside(look, deals, visits)

    def look(deals: Sequence[Part], visits: Sequence[Part]) -> list[Part]:
        parts = []
        for part, of_visits, each, changed in zip(deals, visits, splits, changes, strict=True):
            then = hindsight.taken_back(part.frame, changed)
            seen = hindsight.seen(then, each.visits, of_visits, as_of, slots, wanted)
            parts += [Part(then.size, then.columns, each.rows), Part(seen.size, seen.columns)]
        return parts

    return found, others


def _told(parts: Sequence[Part], as_of: int) -> list[_Told]:
    frames = [part.frame for part in parts]
    splits = [
        hindsight.split(frame, part.counting, as_of)
        for frame, part in zip(frames, parts, strict=True)
    ]
    return [
        _Told(split, _ids(frame, split.log), _ids(frame, split.amended))
        for frame, split in zip(frames, splits, strict=True)
    ]


async def _changes(
    connection: AsyncConnection,
    question: Question,
    told: Sequence[_Told],
    fields: Sequence[str],
) -> list[list[Change]]:
    """What were these facts of the amended before their first change since T? By segment."""
    found: list[list[Change]] = [[] for _ in told]
    amended = [deal for each in told for deal in each.amended]
    if not fields or not amended:
        return found
    ids = question.bind(amended)
    named = question.bind(list(fields))
    (row,) = await question.rows(
        connection,
        f"""SELECT array_agg(u.place) AS places, array_agg(u.field) AS fields,
                   array_agg(u.old #>> '{{}}') AS olds
        FROM (
            SELECT DISTINCT ON (d.place, c.field) CAST(d.place AS int) AS place, c.field, c.old
            FROM unnest(CAST({ids} AS uuid[])) WITH ORDINALITY AS d (opportunity_id, place)
            CROSS JOIN LATERAL (
                SELECT c.field, c.old, c.occurred_at, c.change_id FROM opportunity_change AS c
                WHERE c.workspace_id = :workspace AND c.opportunity_id = d.opportunity_id
                  AND c.occurred_at >= :as_of AND c.field = ANY(CAST({named} AS text[]))
                ORDER BY c.occurred_at
            ) AS c
            ORDER BY d.place, c.field, c.occurred_at, c.change_id
        ) AS u""",
    )
    # The ids were given segment after segment: so each place tells which, and where in it.
    where = [
        (number, place)
        for number, each in enumerate(told)
        for place in np.flatnonzero(each.split.amended).tolist()
    ]
    for place, name, old in zip(row.places or (), row.fields or (), row.olds or (), strict=True):
        number, inside = where[place - 1]
        found[number].append(Change(inside, name, old))
    return found


def _ids(deals: Frame, which: Mask) -> list[UUID]:
    packed = deals.numbers("opportunity_id")[which].tolist()
    return [UUID(bytes=each) for each in packed]
