"""Which columns does a question count in? Those of segments, and of the deals that are in none.

`deals` and `completed_visits` are the relations that `population.deals` and `queries.visits`
define, in columns: the segments, without the deals that have been written since; those unfolded
deals from their rows; and the deals of which only the log can tell. None where the pipeline has no
segments, where too many deals are unfolded, or where the question asks for what segments do not
hold: then SQL counts.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.measures.selection import Attribution
from app.domain.pipeline import StageKind
from app.storage.queries import population
from app.storage.queries.question import Question
from app.storage.segments import hindsight, kept
from app.storage.segments.columns import (
    BORNE,
    DEALS,
    TOLD,
    VISITS,
    Coded,
    instant,
)
from app.storage.segments.rows import UNFOLDED, packed_part, visits
from app.storage.segments.selecting import MONTH, Columns, Part

MOST_UNFOLDED: Final = 50_000
"""With more deals in no segment, as right after an import, SQL counts all of them sooner."""

_OF_PIPELINE: Final = "o.workspace_id = :workspace AND o.pipeline_id = :pipeline"
# What is selected beside the segments is found once, and not at all where there are none: each is a
# look into an index that holds just those deals, or at its end.
_HELD: Final = f"""
SELECT s.segment_id, s.deals, s.filled, s.visits, s.gone || coalesce(written.since, '') AS gone,
       (SELECT count(*) FROM (SELECT FROM opportunity AS o
            WHERE {_OF_PIPELINE} AND {UNFOLDED} LIMIT {MOST_UNFOLDED + 1}) AS them) AS unfolded,
       EXISTS (SELECT FROM opportunity AS o
               WHERE {_OF_PIPELINE} AND o.stage_entered_at >= :as_of)
    OR EXISTS (SELECT FROM opportunity AS o WHERE {_OF_PIPELINE}
               AND o.closed_at IS NULL AND o.facts_changed_at >= :as_of) AS moved,
       EXISTS (SELECT FROM opportunity AS o
               WHERE {_OF_PIPELINE} AND o.closed_facts = '{{}}' AND {UNFOLDED}) AS untold
FROM segment AS s LEFT JOIN (
    SELECT o.segment_id, string_agg(int4send(o.segment_position), CAST('' AS bytea)) AS since
    FROM opportunity AS o
    WHERE {_OF_PIPELINE} AND {UNFOLDED} AND o.segment_id IS NOT NULL
    GROUP BY o.segment_id
) AS written ON written.segment_id = s.segment_id
WHERE s.workspace_id = :workspace AND s.pipeline_id = :pipeline
"""


@dataclass(frozen=True, slots=True)
class _Held:
    """The segments of a pipeline, and how many deals are in none.

    `moved`: some deal has moved, or was amended while it was open, since T. `untold`: of some deal
    in no segment only the log tells what its close froze.
    """

    segments: list[Row[Any]]
    unfolded: int
    moved: bool
    untold: bool


async def deals(
    connection: AsyncConnection,
    question: Question,
    names: Iterable[str],
    *,
    counted: str | None = None,
) -> Columns | None:
    """The deals at T, in the columns of `TOLD` of these names; they bear their values at T."""
    if not _is_held(question):
        return None
    held = await _held(connection, question)
    if held is None:
        return None
    wanted = {*names, *_dimensions(question)} | ({counted} if counted else set())
    others: list[UUID] = []
    if held.moved:
        parts, others = await _at_t(connection, question, held, wanted)
    else:
        near = await _near(connection, question, held, counted, "deal")
        parts = await _read(connection, question, near, "deal", wanted)
    if held.unfolded or others:
        packed = {name: TOLD[name] for name in sorted(wanted)}
        replaying = held.moved or held.untold
        known, rest = population.picked(question, UNFOLDED, replaying=replaying, others=others)
        parts.append(await packed_part(connection, question, packed, known, f"{rest} AS d"))
    return Columns(question, parts, counted)


async def completed_visits(
    connection: AsyncConnection,
    question: Question,
    names: Iterable[str],
    *,
    counted: str | None = None,
) -> Columns | None:
    """The visits that ended before T, in the columns of `VISITS` of these names."""
    if not _is_held(question):
        return None
    held = await _held(connection, question)
    dimensions = _dimensions(question)
    current = question.asks_facts and question.selection.attribution is Attribution.CURRENT
    of_deals = {name for name in dimensions if current or name not in BORNE}
    if held is None or (of_deals and held.moved):
        return None
    wanted = {*names, *(dimensions - of_deals), "left_at"} | ({counted} if counted else set())
    near = await _near(connection, question, held, counted, "visit")
    parts = await _read(connection, question, near, "visit", wanted, of_deals)
    if held.unfolded:
        packed = {name: VISITS[name] for name in sorted(wanted)}
        packed |= {name: DEALS[name] for name in sorted(of_deals)}
        known, source = visits(question, of_deals=bool(of_deals), replaying=held.untold)
        parts.append(await packed_part(connection, question, packed, known, source))
    return Columns(question, parts, counted, ended=True)


def _is_held(question: Question) -> bool:
    """Whether segments hold what it asks for: no K, no tags, no attributes."""
    return question.selection.known_at is None and all(
        dimension.name in (*BORNE, MONTH) for dimension in question.dimensions
    )


def _dimensions(question: Question) -> set[str]:
    """The columns that filters and the group look at."""
    return {
        "opened_at" if dimension.name == MONTH else dimension.name
        for dimension in question.dimensions
    }


async def _held(connection: AsyncConnection, question: Question) -> _Held | None:
    place = "segments", question.selection.as_of
    if place not in question.known:
        question.known[place] = await _look(connection, question)
    held: _Held | None = question.known[place]
    return held


async def _look(connection: AsyncConnection, question: Question) -> _Held | None:
    segments = await question.rows(connection, _HELD)
    if not segments:
        return None
    first = segments[0]
    if first.unfolded > MOST_UNFOLDED:
        return None
    return _Held([*segments], first.unfolded, first.moved, first.untold)


async def _near(
    connection: AsyncConnection,
    question: Question,
    held: _Held,
    counted: str | None,
    relation: str,
) -> list[Row[Any]]:
    """The segments in which the period holds any of these instants; None: all."""
    if counted is None:
        return held.segments
    ids = [segment.segment_id for segment in held.segments]
    extents = await kept.extents(connection, question.workspace, ids)
    return [
        segment
        for segment in held.segments
        if _touches(question, extents[segment.segment_id][f"{relation}.{counted}"])
    ]


async def _read(
    connection: AsyncConnection,
    question: Question,
    segments: Sequence[Row[Any]],
    relation: str,
    wanted: Iterable[str],
    of_deals: Iterable[str] = (),
) -> list[Part]:
    """A part for each of the segments; visits bear the columns `of_deals` too."""
    place = "visit.deal"
    names = {f"{relation}.{name}": name for name in wanted}
    borne = {f"deal.{name}": name for name in of_deals}
    every = {*names, *borne, *((place,) if relation == "visit" else ())}
    asked = [(segment.segment_id, name) for segment in segments for name in every]
    read = await kept.columns(connection, question.workspace, asked)
    parts = []
    for segment in segments:
        columns, of_each = (
            {name: read[segment.segment_id, stored] for stored, name in some.items()}
            for some in (names, borne)
        )
        alive = None
        if segment.gone or segment.filled < segment.deals:
            alive = np.arange(segment.deals) < segment.filled
            alive[np.frombuffer(segment.gone, dtype=">i4")] = False
        if relation == "deal":
            parts.append(Part(segment.deals, columns, alive))
            continue
        deal = read[segment.segment_id, place]
        assert not isinstance(deal, Coded), "a place is a number"
        living = None if alive is None else alive[deal]
        parts.append(Part(segment.visits, columns, living, deal, of_each))
    return parts


async def _at_t(
    connection: AsyncConnection,
    question: Question,
    held: _Held,
    wanted: Iterable[str],
) -> tuple[list[Part], list[UUID]]:
    """The deals of segments as they were at T, and those of which only the log can tell.

    All segments are looked at: a deal that has moved since was in the period at another instant.
    """
    names = {*wanted, *hindsight.ASKED}
    deals = await _read(connection, question, held.segments, "deal", names)
    visits = await _read(connection, question, held.segments, "visit", hindsight.VISITED)
    as_of, slots = instant(question.selection.as_of), question.ranking.slots(StageKind.OPEN)

    def look() -> tuple[list[Part], list[UUID]]:
        parts, others = [], []
        for of_rows, of_visits in zip(deals, visits, strict=True):
            frame, alive = of_rows.frame, of_rows.alive
            split = hindsight.split(
                frame, np.ones(frame.size, dtype=bool) if alive is None else alive, as_of
            )
            moved = hindsight.seen(frame, split.visits, of_visits, as_of, slots)
            parts += [replace(of_rows, alive=split.rows), Part(moved.size, moved.columns)]
            others += frame.numbers("opportunity_id")[split.log].tolist()
        return parts, [UUID(bytes=each) for each in others]

    return await asyncio.to_thread(look)


def _touches(question: Question, extent: kept.Extent) -> bool:
    """Whether the period may hold any number of a column that lies so."""
    if extent.least is None or extent.most is None:
        return False
    start, end = question.selection.start, question.selection.end
    return (start is None or extent.most >= instant(start)) and (
        end is None or extent.least < instant(end)
    )
