"""Which segments hold a pipeline's deals at T, and what do they say of them?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.storage.driver import Record
from app.storage.queries.population import BORNE, PRESENT
from app.storage.queries.question import Question
from app.storage.segments import kept, stored
from app.storage.segments.columns import Coded, Mask, instant
from app.storage.segments.frames import Frame
from app.storage.segments.rows import FEW, UNFOLDED
from app.storage.segments.selecting import MONTH, Part
from app.storage.segments.stored import EDITION

MOST_UNFOLDED: Final = 50_000
"""With more deals in no segment, as right after an import, SQL counts all of them sooner."""

# What is selected beside the segments is found once, and not at all where there are none: each is a
# look into an index that holds just those deals, or at its end. There is no looking for the first
# row since T: a plan that is made for any T expects one row of three, and reads all in their order.
_OF_PIPELINE: Final = "o.workspace_id = :workspace AND o.pipeline_id = :pipeline"
_HELD: Final = f"""
WITH unfolded AS MATERIALIZED (
    SELECT o.segment_id, o.segment_position FROM opportunity AS o
    WHERE {_OF_PIPELINE} AND {FEW} LIMIT {MOST_UNFOLDED + 1}
)
SELECT s.segment_id, s.edition, s.deals, s.filled, s.gone || coalesce(written.since, '') AS gone,
       (SELECT count(*) FROM unfolded) AS unfolded,
       (:as_of <= greatest(
           (SELECT max(o.stage_entered_at) FROM opportunity AS o WHERE {_OF_PIPELINE}),
           (SELECT max(o.facts_changed_at) FROM opportunity AS o
            WHERE {_OF_PIPELINE} AND o.closed_at IS NULL))) IS TRUE AS moved,
       EXISTS (SELECT FROM opportunity AS o
               WHERE {_OF_PIPELINE} AND o.closed_facts = '{{}}' AND {UNFOLDED}) AS untold
FROM segment AS s LEFT JOIN (
    SELECT u.segment_id, string_agg(int4send(u.segment_position), CAST('' AS bytea)) AS since
    FROM unfolded AS u WHERE u.segment_id IS NOT NULL GROUP BY u.segment_id
) AS written ON written.segment_id = s.segment_id
WHERE s.workspace_id = :workspace AND s.pipeline_id = :pipeline
"""


_WITHOUT_NULLS: Final = kept.PERIODS - {"deal.closed_at"}
"""The columns of instants that every row has."""


@dataclass(frozen=True, slots=True)
class Held:
    """The segments of a pipeline, all of this edition, and how many deals are in none.

    `moved`: some deal has moved, or was amended while it was open, since T. `untold`: of some deal
    in no segment only the log tells what its close froze.
    """

    segments: list[Record]
    unfolded: int
    moved: bool
    untold: bool


async def held_by(connection: AsyncConnection, question: Question) -> Held | None:
    """The segments that the question can be asked of; None where SQL has to count."""
    if not _is_held(question):
        return None
    place = "segments", question.selection.as_of
    if place not in question.known:
        question.known[place] = await _look(connection, question)
    found: Held | None = question.known[place]
    return found


async def _look(connection: AsyncConnection, question: Question) -> Held | None:
    segments = await question.rows(connection, _HELD)
    if not segments or any(segment.edition != EDITION for segment in segments):
        return None  # those of another edition are written anew soon
    first = segments[0]
    if first.unfolded > MOST_UNFOLDED:
        return None
    return Held([*segments], first.unfolded, first.moved, first.untold)


async def near(
    connection: AsyncConnection,
    question: Question,
    held: Held,
    counted: str | None,
    relation: str,
) -> list[Record]:
    """The segments in which the period holds any of these instants; None: all."""
    if counted is None:
        return held.segments
    extents = await _extents(connection, question, held)
    return [
        segment
        for segment in held.segments
        if _touches(question, extents[segment.segment_id][f"{relation}.{counted}"])
    ]


async def opened(connection: AsyncConnection, question: Question, held: Held) -> list[Record]:
    """The segments of which some deal had been opened before T."""
    as_of = instant(question.selection.as_of)
    extents = await _extents(connection, question, held)
    return [
        segment
        for segment in held.segments
        if (first := extents[segment.segment_id]["deal.opened_at"].least) is not None
        and first < as_of
    ]


async def read(
    connection: AsyncConnection,
    question: Question,
    segments: Sequence[Record],
    relation: str,
    wanted: Iterable[str],
    of_deals: Iterable[str] = (),
) -> list[Part]:
    """A part for each of the segments; visits and changes bear the columns `of_deals` too."""
    place = f"{relation}.deal"
    names = {f"{relation}.{name}": name for name in wanted}
    borne = {f"deal.{name}": name for name in of_deals}
    present = {} if question.sight.is_whole else {f"deal.{name}": name for name in PRESENT}
    every = {*names, *borne, *present, *((place,) if relation != "deal" else ())}
    ids = [segment.segment_id for segment in segments]
    extents = await kept.extents(connection, question.workspace, ids)
    rows = {row for name in every for row in stored.needed(name)}
    found = await kept.columns(connection, question.workspace, ids, rows)
    bounded = {each: name for each, name in names.items() if each in _WITHOUT_NULLS}
    parts = []
    for segment, columns in zip(segments, found, strict=True):
        own, of_each, seen_by = (
            {name: stored.told(each, columns) for each, name in some.items()}
            for some in (names, borne, present)
        )
        alive = _alive(segment, question.sight, Frame(segment.deals, seen_by))
        lying = _bounds(extents[segment.segment_id], bounded)
        if relation == "deal":
            parts.append(Part(segment.deals, own, alive, extents=lying))
            continue
        deal = columns[place]
        assert not isinstance(deal, Coded), "a place is a number"
        parts.append(Part(len(deal), own, alive, deal, of_each, lying))
    return parts


def _bounds(
    extents: Mapping[str, kept.Extent], names: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """The extents of these columns by their own names: of those that hold anything."""
    return {
        name: (least, most)
        for each, name in names.items()
        for least, most in (extents[each],)
        if least is not None and most is not None
    }


def _alive(segment: Record, sight: Sight, present: Frame) -> Mask | None:
    """Which of the segment's deals count: those that it answers for, and that are seen."""
    alive = None
    if segment.gone or segment.filled < segment.deals:
        alive = np.zeros(segment.deals, dtype=bool)
        alive[: segment.filled] = True
        alive[np.frombuffer(segment.gone, dtype=">i4")] = False
    if sight.is_whole:
        return alive
    owner, team = PRESENT
    seen = present.bears(owner, sight.subject)
    if sight.of_team is not None:
        seen |= present.bears(team, sight.of_team)
    return seen if alive is None else seen & alive


def _is_held(question: Question) -> bool:
    """Whether segments hold what it asks for: no K, no tags, no attributes."""
    return question.selection.known_at is None and all(
        dimension.name in (*BORNE, MONTH) for dimension in question.dimensions
    )


async def _extents(
    connection: AsyncConnection, question: Question, held: Held
) -> Mapping[UUID, Mapping[str, kept.Extent]]:
    ids = [segment.segment_id for segment in held.segments]
    return await kept.extents(connection, question.workspace, ids)


def _touches(question: Question, extent: kept.Extent) -> bool:
    """Whether the period may hold any number of a column that lies so."""
    if extent.least is None or extent.most is None:
        return False
    start, end = question.selection.start, question.selection.end
    return (start is None or extent.most >= instant(start)) and (
        end is None or extent.least < instant(end)
    )
