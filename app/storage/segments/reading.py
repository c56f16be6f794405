"""Which columns does a question count in? Those of segments, and of the deals that are in none.

`deals` and `completed_visits` are the relations that `population.deals` and `queries.visits`
define, in columns: the segments, without the deals that have been written since; those unfolded
deals from their rows; and the deals of which only the log can tell. None where the pipeline has no
segments, where too many deals are unfolded, or where the question asks for what segments do not
hold: then SQL counts.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.journey import Status
from app.domain.measures.selection import Attribution
from app.domain.pipeline import StageKind
from app.storage.aside import aside
from app.storage.queries import population
from app.storage.queries.population import BORNE, PRESENT
from app.storage.queries.question import Question
from app.storage.segments import hindsight, kept
from app.storage.segments.columns import (
    DEALS,
    TOLD,
    VISITS,
    Coded,
    Meaning,
    instant,
)
from app.storage.segments.frames import Frame, Mask
from app.storage.segments.hindsight import Change, Split
from app.storage.segments.rows import FEW, UNFOLDED, packed_part, visits_of_unfolded
from app.storage.segments.selecting import MONTH, Columns, Part

MOST_UNFOLDED: Final = 50_000
"""With more deals in no segment, as right after an import, SQL counts all of them sooner."""

# What is selected beside the segments is found once, and not at all where there are none: each is a
# look into an index that holds just those deals, or at its end.
_OF_PIPELINE: Final = "o.workspace_id = :workspace AND o.pipeline_id = :pipeline"
_HELD: Final = f"""
SELECT s.segment_id, s.deals, s.filled, s.visits, s.gone || coalesce(written.since, '') AS gone,
       (SELECT count(*) FROM (SELECT FROM opportunity AS o
            WHERE {_OF_PIPELINE} AND {FEW} LIMIT {MOST_UNFOLDED + 1}) AS them) AS unfolded,
       EXISTS (SELECT FROM opportunity AS o
               WHERE {_OF_PIPELINE} AND o.stage_entered_at >= :as_of)
    OR EXISTS (SELECT FROM opportunity AS o WHERE {_OF_PIPELINE}
               AND o.closed_at IS NULL AND o.facts_changed_at >= :as_of) AS moved,
       EXISTS (SELECT FROM opportunity AS o
               WHERE {_OF_PIPELINE} AND o.closed_facts = '{{}}' AND {UNFOLDED}) AS untold
FROM segment AS s LEFT JOIN (
    SELECT o.segment_id, string_agg(int4send(o.segment_position), CAST('' AS bytea)) AS since
    FROM opportunity AS o
    WHERE {_OF_PIPELINE} AND {FEW} AND o.segment_id IS NOT NULL
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
    held = await _held(connection, question)
    if held is None:
        return None
    wanted = {*names, *_dimensions(question)} | ({counted} if counted else set())
    others: list[UUID] = []
    parts: list[Part] | None
    if held.moved:
        parts, others = await _at_t(connection, question, held, wanted, counted)
    else:
        near = await _near(connection, question, held, counted, "deal")
        parts = await _read(connection, question, near, "deal", wanted)
    if parts is None:
        return None
    if held.unfolded or others:
        packed = {name: TOLD[name] for name in sorted(wanted)}
        replaying = held.moved or held.untold
        known, rest = population.picked(question, FEW, replaying=replaying, others=others)
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
    held = await _held(connection, question)
    dimensions = _dimensions(question)
    current = question.asks_facts and question.selection.attribution is Attribution.CURRENT
    of_deals = {name for name in dimensions if current or name not in BORNE}
    if held is None or (of_deals and held.moved):
        return None
    wanted = {*names, *(dimensions - of_deals), "left_at"} | ({counted} if counted else set())
    near = await _near(connection, question, held, counted, "visit")
    parts = await _read(connection, question, near, "visit", wanted, of_deals)
    if parts is None:
        return None
    if held.unfolded:
        packed = {name: VISITS[name] for name in sorted(wanted)}
        packed |= {name: DEALS[name] for name in sorted(of_deals)}
        known, source = visits_of_unfolded(question, of_deals=bool(of_deals), replaying=held.untold)
        parts.append(await packed_part(connection, question, packed, known, source))
    return Columns(question, parts, counted, ended=True)


@dataclass(frozen=True, slots=True)
class Visits:
    """All visits at T: those that had ended, and those of the deals that stood somewhere."""

    completed: Columns
    standing: Columns

    def touching(
        self, start: datetime | None, end: datetime | None, **among: Collection[Meaning]
    ) -> Iterator[Frame]:
        """Those entered before the end and not left before the start; who stays leaves after all.

        In the columns `group, slot, entered_at, left_at, kind`; who stays has no kind. `among`: as
        `Columns.chosen` has it.
        """
        for frame in self.completed.chosen(**among):
            there = frame.lies("left_at", start, None) & frame.lies("entered_at", None, end)
            yield frame.where(there)
        for frame in self.standing.chosen(**among):
            gone = frame.bears("status", Status.HANDED_OFF)
            stays = frame.where(~gone & frame.lies("entered_at", None, end))
            kind = Coded(np.zeros(stays.size, dtype=np.uint8), [None])
            never = np.full(stays.size, np.iinfo(np.int64).max)
            yield stays.bearing("kind", kind).bearing("left_at", never)


async def visits(connection: AsyncConnection, question: Question) -> Visits | None:
    """All visits at T; None where SQL has to count them."""
    names = {"slot", "entered_at"}
    completed = await completed_visits(connection, question, {*names, "kind"})
    if completed is None:
        return None
    standing = await deals(connection, question, {*names, "status"})
    assert standing is not None, "what holds visits holds deals"
    return Visits(completed, standing)


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
    if not _is_held(question):
        return None
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
) -> list[Part] | None:
    """A part for each of the segments; visits bear the columns `of_deals` too.

    None where one was folded before there were all of these columns: it is written anew soon.
    """
    place = "visit.deal"
    names = {f"{relation}.{name}": name for name in wanted}
    borne = {f"deal.{name}": name for name in of_deals}
    present = {} if question.sight.is_whole else {f"deal.{name}": name for name in PRESENT}
    every = {*names, *borne, *present, *((place,) if relation == "visit" else ())}
    asked = [(segment.segment_id, name) for segment in segments for name in every]
    read = await kept.columns(connection, question.workspace, asked)
    if len(read) < len(asked):
        return None
    parts = []
    for segment in segments:
        columns, of_each, seen_by = (
            {name: read[segment.segment_id, stored] for stored, name in some.items()}
            for some in (names, borne, present)
        )
        alive = _alive(segment, question.sight, Frame(segment.deals, seen_by))
        if relation == "deal":
            parts.append(Part(segment.deals, columns, alive))
            continue
        deal = read[segment.segment_id, place]
        assert not isinstance(deal, Coded), "a place is a number"
        living = None if alive is None else alive[deal]
        parts.append(Part(segment.visits, columns, living, deal, of_each))
    return parts


def _alive(segment: Row[Any], sight: Sight, present: Frame) -> Mask | None:
    """Which of the segment's deals count: those that it answers for, and that are seen."""
    alive = None
    if segment.gone or segment.filled < segment.deals:
        alive = np.arange(segment.deals) < segment.filled
        alive[np.frombuffer(segment.gone, dtype=">i4")] = False
    if sight.is_whole:
        return alive
    owner, team = PRESENT
    seen = present.bears(owner, sight.subject)
    if sight.of_team is not None:
        seen |= present.bears(team, sight.of_team)
    return seen if alive is None else seen & alive


async def _at_t(
    connection: AsyncConnection,
    question: Question,
    held: _Held,
    wanted: Collection[str],
    counted: str | None,
) -> tuple[list[Part] | None, list[UUID]]:
    """The deals of segments as they were at T, and those of which only the log can tell.

    All segments are looked at: a deal that has moved since was in the period at another instant.
    """
    deals = await _read(connection, question, held.segments, "deal", {*wanted, *hindsight.ASKED})
    if deals is None:
        return None, []
    as_of, slots = instant(question.selection.as_of), question.ranking.slots(StageKind.OPEN)
    frames = [part.frame for part in deals]
    splits = [
        hindsight.split(frame, part.counting, as_of)
        for frame, part in zip(frames, deals, strict=True)
    ]
    log = [_ids(frame, each.log) for frame, each in zip(frames, splits, strict=True)]
    others = [deal for each in log for deal in each]
    if counted == "closed_at":  # whoever has moved since was open at T, or is among the others
        rows = (each.rows for each in splits)
        return [replace(part, alive=alive) for part, alive in zip(deals, rows, strict=True)], others
    visits = await _read(connection, question, held.segments, "visit", hindsight.VISITED)
    assert visits is not None, "what holds deals holds their visits"
    fields = sorted({*wanted} & {*hindsight.CHANGEABLE})
    changes = await _changes(connection, question, frames, splits, fields)

    def look() -> list[Part]:
        parts = []
        for frame, of_visits, each, changed in zip(frames, visits, splits, changes, strict=True):
            then = hindsight.taken_back(frame, changed)
            moved = hindsight.seen(then, each.visits, of_visits, as_of, slots, wanted)
            parts += [Part(then.size, then.columns, each.rows), Part(moved.size, moved.columns)]
        return parts

    return await aside(look), others


async def _changes(
    connection: AsyncConnection,
    question: Question,
    deals: Sequence[Frame],
    splits: Sequence[Split],
    fields: Sequence[str],
) -> list[list[Change]]:
    """What were these facts of the amended before their first change since T? By segment."""
    found: list[list[Change]] = [[] for _ in splits]
    amended = [_ids(frame, each.amended) for frame, each in zip(deals, splits, strict=True)]
    if not fields or not any(amended):
        return found
    ids = question.bind([deal for each in amended for deal in each])
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
        for number, split in enumerate(splits)
        for place in np.flatnonzero(split.amended).tolist()
    ]
    for place, name, old in zip(row.places or (), row.fields or (), row.olds or (), strict=True):
        number, inside = where[place - 1]
        found[number].append(Change(inside, name, old))
    return found


def _ids(deals: Frame, which: Mask) -> list[UUID]:
    packed = deals.numbers("opportunity_id")[which].tolist()
    return [UUID(bytes=each) for each in packed]


def _touches(question: Question, extent: kept.Extent) -> bool:
    """Whether the period may hold any number of a column that lies so."""
    if extent.least is None or extent.most is None:
        return False
    start, end = question.selection.start, question.selection.end
    return (start is None or extent.most >= instant(start)) and (
        end is None or extent.least < instant(end)
    )
