"""Folding: deals, their visits and changes become columns, and worn segments are replaced.

A batch is read in one snapshot and made into columns outside of any transaction. They are stored
as a segment in which no place is taken; then some deals at a time take theirs, in transactions so
short that nobody waits for their rows. A deal that somebody has written or folded meanwhile is left
as it is, and its place counts for nothing; so nothing breaks where several fold at once, or where
one is killed in the middle.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import WHOLE
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection
from app.domain.pipeline import Pipeline
from app.storage.engine import Connection
from app.storage.ids import new_id
from app.storage.queries import population
from app.storage.queries.question import Asked, Question
from app.storage.segments.columns import (
    CHANGES,
    HELD,
    ID,
    NOTHING,
    PLACE,
    TOLD,
    VISITS,
    Column,
    Numbers,
)
from app.storage.segments.frames import Frame, together
from app.storage.segments.rows import UNFOLDED, changes_of, one_row, part_of, visits_of
from app.storage.segments.stored import EDITION, rows
from app.storage.statement import LostRace

MOST: Final = 16_384
"""Deals in a segment."""
SMALL: Final = MOST // 2
TOGETHER: Final = 8
"""So many small segments are made into one; so a deal is stored two or three times in its rest."""

SLICE: Final = 1_024
"""Deals that take their places in one transaction: their rows are locked for some 50 ms."""
_PIECE: Final = 4_096
"""Deals whose visits are read at once: what the driver holds of them would be most of a batch."""
ABANDONED: Final = "1 minute"
"""Who has not filled a segment by then does not live any more."""

_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Every row answers for it, but for what only the log can tell of a close."""

WAITING: Final = text(f"""
-- Which pipelines have so many deals to fold, or a segment to write anew: one that holds an erased
-- deal, that was never filled, or that is of an earlier edition?
SELECT p.workspace_id, p.key, due.outdated IS TRUE AS outdated
FROM pipeline AS p LEFT JOIN (
    SELECT s.workspace_id, s.pipeline_id, bool_or(s.edition < {EDITION}) AS outdated
    FROM segment AS s WHERE s.holds_erased OR s.filled < s.deals OR s.edition < {EDITION}
    GROUP BY s.workspace_id, s.pipeline_id
) AS due ON due.workspace_id = p.workspace_id AND due.pipeline_id = p.pipeline_id
WHERE due.outdated IS NOT NULL OR EXISTS (
    SELECT FROM opportunity AS o
    WHERE o.workspace_id = p.workspace_id AND o.pipeline_id = p.pipeline_id AND {UNFOLDED}
    OFFSET :enough - 1 LIMIT 1
)
""")
_FRESH: Final = text(f"""
SELECT o.opportunity_id FROM opportunity AS o
WHERE o.workspace_id = :workspace AND o.pipeline_id = :pipeline AND {UNFOLDED}
ORDER BY o.opened_at LIMIT :most
""")
_SEGMENTS: Final = text(f"""
SELECT s.segment_id, s.deals, s.filled, s.holds_erased,
       s.filled - length(s.gone) / 4 - count(o) AS alive,
       s.filled < s.deals AS unfinished, s.edition < {EDITION} AS outdated,
       s.created_at < clock_timestamp() - interval '{ABANDONED}' AS old
FROM segment AS s LEFT JOIN opportunity AS o
  ON o.workspace_id = s.workspace_id AND o.pipeline_id = s.pipeline_id
  AND o.segment_id = s.segment_id AND {UNFOLDED}
WHERE s.workspace_id = :workspace AND s.pipeline_id = :pipeline
GROUP BY s.workspace_id, s.segment_id ORDER BY alive
""")
_MEMBERS: Final = text("""
SELECT c.data FROM segment_column AS c
WHERE c.workspace_id = :workspace AND c.segment_id = ANY(:segments) AND c.name = :name
""")
_LEFT: Final = text(f"""
-- Of the deals that took places in these segments, those that no other answers for by now.
SELECT o.opportunity_id FROM opportunity AS o
WHERE o.workspace_id = :workspace AND o.opportunity_id = ANY(:members)
  AND o.segment_id = ANY(:segments) AND NOT ({UNFOLDED})
""")
_VISITS: Final = {**VISITS, PLACE.name: PLACE}
_CHANGES: Final = {**CHANGES, PLACE.name: PLACE}

ADD: Final = """
INSERT INTO segment (workspace_id, segment_id, pipeline_id, deals, visits, edition, created_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
"""
ADD_COLUMN: Final = """
INSERT INTO segment_column (workspace_id, segment_id, name, type, data, meanings, least, most)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
TAKE: Final = """
-- The deals that nobody has written or folded since take their places in the new segment.
UPDATE opportunity AS o
SET segment_id = $2, segment_position = $3 + read.place - 1, segment_version = o.version
FROM unnest($4::uuid[], $5::bigint[], $6::uuid[], $7::bigint[]) WITH ORDINALITY
    AS read (opportunity_id, version, segment_id, segment_version, place)
WHERE o.workspace_id = $1 AND o.opportunity_id = read.opportunity_id AND o.version = read.version
  AND o.segment_id IS NOT DISTINCT FROM read.segment_id
  AND o.segment_version IS NOT DISTINCT FROM read.segment_version
RETURNING o.segment_position AS place
"""
FILL: Final = """
UPDATE segment SET filled = $4, gone = gone || $5, holds_erased = holds_erased OR $6
WHERE workspace_id = $1 AND segment_id = $2 AND filled = $3
"""
LEAVE: Final = """
UPDATE segment SET gone = gone || $3 WHERE workspace_id = $1 AND segment_id = $2
"""
ARE_THERE: Final = """
-- Locked, so that whoever is just erasing one of them is waited for.
SELECT count(*) FROM (
    SELECT FROM opportunity WHERE workspace_id = $1 AND opportunity_id = ANY($2) FOR KEY SHARE
) AS them
"""
REPLACED: Final = """
-- A segment that has filled further since it was read holds deals that the batch knows nothing of.
SELECT s.segment_id FROM segment AS s
JOIN unnest($2::uuid[], $3::int[]) AS read (segment_id, filled) USING (segment_id, filled)
WHERE s.workspace_id = $1 FOR UPDATE OF s
"""
DROP: Final = (
    "DELETE FROM segment_column WHERE workspace_id = $1 AND segment_id = ANY($2)",
    "DELETE FROM segment WHERE workspace_id = $1 AND segment_id = ANY($2)",
)


class Waiting(NamedTuple):
    """A pipeline in which there is something to fold; `outdated`: SQL counts there until then."""

    workspace: UUID
    pipeline: str
    outdated: bool


class Filled(NamedTuple):
    """A segment, and how far it was filled."""

    segment_id: UUID
    filled: int


class Before(NamedTuple):
    """A deal as it was read: its version, and where it was held, by which version, if it was."""

    opportunity_id: UUID
    version: int
    segment_id: UUID | None
    segment_position: int | None
    segment_version: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Deals as they were read, in the order of their places; `worn`: the segments they replace.

    `before` has the columns of `HELD`; `columns` are rows of `segment_column`, from the name on.
    """

    before: Frame
    visits: int
    columns: Sequence[tuple[Any, ...]]
    worn: Sequence[Filled]


async def waiting(connection: AsyncConnection, enough: int) -> list[Waiting]:
    """Where there is something to fold: an erased deal, an earlier edition, or `enough` deals."""
    found = await connection.execute(WAITING, {"enough": enough})
    return [Waiting(row.workspace_id, row.key, row.outdated) for row in found]


async def read_batch(
    connection: AsyncConnection, workspace: UUID, pipeline: Pipeline, enough: int
) -> Batch | None:
    """What is to be folded next: what is left in worn segments, with the unfolded deals.

    Of these `enough` are waited for, where no segment is worn.
    """
    place = {"workspace": workspace, "pipeline": pipeline.pipeline_id}
    segments = (await connection.execute(_SEGMENTS, place)).all()
    if any(each.unfinished and not each.old for each in segments):
        return None  # somebody is at it
    worn = _worn(segments)
    left = await _left(connection, workspace, worn) if worn else []
    fresh = [*await connection.scalars(_FRESH, {**place, "most": MOST - len(left)})]
    if not worn and len(fresh) < enough:
        return None
    return await _read(connection, workspace, pipeline, [*left, *fresh], worn)


async def _left(connection: AsyncConnection, workspace: UUID, worn: Sequence[Filled]) -> list[UUID]:
    """The deals that these segments still answer for."""
    asked = {"workspace": workspace, "segments": [each.segment_id for each in worn]}
    packed = await connection.scalars(_MEMBERS, {**asked, "name": f"deal.{ID.name}"})
    members = [each for data in packed for each in _ids(data)]
    return [*await connection.scalars(_LEFT, {**asked, "members": members})]


async def add(
    connection: Connection, workspace: UUID, pipeline_id: UUID, batch: Batch
) -> UUID | None:
    """A segment of the batch in which no place is taken; None: there is no deal to take one."""
    size = batch.before.size
    if not size:
        return None
    segment = new_id()
    await connection.execute(ADD, workspace, segment, pipeline_id, size, batch.visits, EDITION)
    # One by one: broken off in the middle, the driver's executemany() waits for ever for a server
    # that waits for it, and the service with it.
    for column in batch.columns:
        await connection.execute(ADD_COLUMN, workspace, segment, *column)
    return segment


async def take(
    connection: Connection, workspace: UUID, segment: UUID, batch: Batch, start: int
) -> int:
    """The next deals, from place `start` on, take their places; how many do.

    Raises LostRace where the segment was replaced meanwhile.
    """
    deals = _deals(batch.before, start, start + SLICE)
    names = ("opportunity_id", "version", "segment_id", "segment_version")
    read = [[getattr(deal, name) for deal in deals] for name in names]
    rows = await connection.fetch(TAKE, workspace, segment, start, *read)
    taken = {row["place"] for row in rows}
    left: dict[UUID, list[int]] = defaultdict(list)
    lost: dict[int, UUID] = {}
    for place, deal in enumerate(deals, start):
        if place not in taken:
            lost[place] = deal.opportunity_id
        elif deal.segment_id is not None and deal.segment_position is not None:
            left[deal.segment_id].append(deal.segment_position)
    # One that is gone altogether was erased meanwhile, and must be forgotten here too. Deals are
    # locked before segments, as whoever erases does.
    ids = [*lost.values()]
    erased = bool(ids) and await connection.fetchval(ARE_THERE, workspace, ids) < len(ids)
    for before, positions in sorted(left.items()):
        await connection.execute(LEAVE, workspace, before, _places(positions))
    end = start + len(deals)
    filled = (workspace, segment, start, end, _places([*lost]), erased)
    if await connection.execute(FILL, *filled) != "UPDATE 1":
        raise LostRace
    return len(taken)


async def drop(connection: Connection, workspace: UUID, worn: Sequence[Filled]) -> None:
    """Remove the segments of which the batch has replaced every deal."""
    read = [each.segment_id for each in worn], [each.filled for each in worn]
    replaced = [row["segment_id"] for row in await connection.fetch(REPLACED, workspace, *read)]
    for statement in DROP:
        await connection.execute(statement, workspace, replaced)


def _worn(segments: Sequence[Row[Any]]) -> list[Filled]:
    """Which segments are to be made into one? `segments` are in the order of the deals left.

    Those that have to go come first: others may be worn again each time.
    """
    due = [each for each in segments if each.holds_erased or each.unfinished or each.outdated]
    spent = [each for each in segments if each.alive * 2 < each.deals and each not in due]
    small = [each for each in segments if each.alive < SMALL and each not in (*due, *spent)]
    chosen: list[Filled] = []
    total = 0
    for each in (*due, *spent, *(small if len(small) >= TOGETHER else ())):
        total += each.alive
        if chosen and total > MOST:
            break
        chosen.append(Filled(each.segment_id, each.filled))
    return chosen


async def _read(
    connection: AsyncConnection,
    workspace: UUID,
    pipeline: Pipeline,
    ids: Sequence[UUID],
    worn: Sequence[Filled],
) -> Batch:
    """These deals, as they are to replace the worn segments."""
    asked = Asked(workspace, WHOLE, Ranking(pipeline, pipeline), Selection(as_of=_LAST), _LAST)
    question = Question(asked, grouped=False)
    condition = f"o.opportunity_id = ANY(CAST({question.bind(list(ids))} AS uuid[]))"
    known, told = population.picked(question, condition, replaying=True)
    # In the order of their lengths: what is taken out of them for whatever reason is in order too,
    # and sorted by merging a few such runs.
    ordered = f"(SELECT * FROM {told} AS r ORDER BY r.open_time) AS d"
    deals = await _frame(connection, question, TOLD, known, ordered)
    in_order = _ids(deals.numbers(ID.name).tobytes())

    def given(start: int, end: int) -> str:
        """The deals from place to place."""
        some = question.bind(in_order[start:end])
        return f"""(SELECT e.opportunity_id, {question.bind(start)} + e.place - 1 AS place
            FROM unnest(CAST({some} AS uuid[])) WITH ORDINALITY AS e (opportunity_id, place)
        ) AS d"""

    async def of_each(packed: Mapping[str, Column], told: str, relation: str) -> list[Frame]:
        """What is told of each deal, of some deals at a time."""
        sources = (
            f"""(SELECT d.place AS deal, r.* FROM {given(start, start + _PIECE)}
                CROSS JOIN LATERAL ({told}) AS r ORDER BY d.place, r.nth) AS {relation}"""
            for start in range(0, len(in_order), _PIECE)
        )
        return [await _frame(connection, question, packed, "", source) for source in sources]

    held = f"""(SELECT {", ".join(f"o.{name}" for name in HELD)} FROM {given(0, len(in_order))}
            JOIN opportunity AS o
            ON o.workspace_id = :workspace AND o.opportunity_id = d.opportunity_id
        ORDER BY d.place) AS o"""
    before = await _frame(connection, question, HELD, "", held)
    visits = await of_each(_VISITS, visits_of("d"), "v")
    told_of = {
        "deal": deals,
        "visit": await asyncio.to_thread(_by_length, visits),
        "change": together(await of_each(_CHANGES, changes_of("d"), "c"), [*_CHANGES]),
    }
    columns = await asyncio.to_thread(_columns, told_of)
    return Batch(before, told_of["visit"].size, columns, worn)


async def _frame(
    connection: AsyncConnection,
    question: Question,
    packed: Mapping[str, Column],
    known: str,
    source: str,
) -> Frame:
    """The columns of a relation. In a thread: thousands of texts take a while."""
    row = await one_row(connection, question, packed, known, source)
    return (await asyncio.to_thread(part_of, row, packed)).frame


def _by_length(pieces: list[Frame]) -> Frame:
    """The visits of all pieces in the order of their lengths; nothing is left of the pieces."""
    visits = together(pieces, [*_VISITS])
    pieces.clear()
    return visits.in_order(np.argsort(visits.numbers("left_at") - visits.numbers("entered_at")))


def _columns(told_of: Mapping[str, Frame]) -> list[tuple[Any, ...]]:
    return [row for relation, frame in told_of.items() for row in rows(relation, frame)]


def _deals(before: Frame, start: int, end: int) -> list[Before]:
    """The deals at these places."""
    deals = before.at(np.arange(start, min(end, before.size)))
    held_by = deals.coded("segment_id")
    segments = [None if each is None else UUID(str(each)) for each in held_by.meanings]
    return [
        *map(
            Before,
            _ids(deals.numbers(ID.name).tobytes()),
            deals.numbers("version").tolist(),
            (segments[code] for code in held_by.codes.tolist()),
            *(_or_none(deals.numbers(name)) for name in ("segment_position", "segment_version")),
        )
    ]


def _or_none(numbers: Numbers) -> list[int | None]:
    return [None if each == NOTHING else each for each in numbers.tolist()]


def _ids(packed: bytes) -> list[UUID]:
    return [UUID(bytes=packed[at : at + 16]) for at in range(0, len(packed), 16)]


def _places(places: Sequence[int]) -> bytes:
    return np.array(places, dtype=">i4").tobytes()
