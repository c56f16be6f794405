"""How many deals arrived and departed, bucket by bucket, and how many were in process?

Counted by the database as `domain.measures.cumulative_flow` defines it. A visit's row tells where
the deal went, and not whence it came: arrivals follow from who was there before and after, and who
departed, for nobody comes or goes otherwise.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.measures.calendar import By
from app.domain.measures.cumulative_flow import Bucket, CumulativeFlow, boundaries
from app.domain.measures.selection import Value
from app.domain.pipeline import StageKind
from app.storage.driver import Record
from app.storage.queries.population import deals
from app.storage.queries.question import Asked, Question, microseconds
from app.storage.queries.visits import visits

_DEPARTS = "('won', 'lost', 'handed_off')"


async def cumulative_flows(
    connection: AsyncConnection, asked: Asked, by: By, *, grouped: bool
) -> Mapping[Value, CumulativeFlow]:
    """By group: the buckets of the deals that were in process at some time in the period."""
    question = Question(asked, grouped=grouped)
    bounds = boundaries(asked.selection, by)
    counted: dict[Value, _Counted] = defaultdict(_Counted)
    for row in await _visits_by_bucket(connection, question, bounds):
        counted[row.group].add(row)
    ended = await _stays_ended(connection, question, bounds)
    return {
        group: found.flow(bounds, stays_ended=ended.get(group, 0))
        for group, found in counted.items()
    }


@dataclass(slots=True)
class _Counted:
    """Visits by bucket and slot; bucket 0 is before the period, 1 the first in it."""

    entered: Counter[tuple[int, int]] = field(default_factory=Counter)
    left: Counter[tuple[int, int]] = field(default_factory=Counter)
    departed: Counter[int] = field(default_factory=Counter)
    time_in_process: int = 0

    def add(self, row: Record) -> None:
        if row.by_entry:
            self.entered[row.came, row.slot] += row.visits
            self.time_in_process += int(row.time_in_process)
        elif row.went is not None:
            self.left[row.went, row.slot] += row.visits
            self.departed[row.went] += row.departures

    def flow(self, bounds: Sequence[datetime], *, stays_ended: int) -> CumulativeFlow:
        slots = {slot for _, slot in self.entered}
        standing = Counter({slot: self.entered[0, slot] for slot in slots})
        at_start = in_progress = standing.total()
        found = []
        for bucket in range(1, len(bounds)):
            entries = Counter({slot: self.entered[bucket, slot] for slot in slots})
            left = Counter({slot: self.left[bucket, slot] for slot in slots})
            standing = standing + entries - left  # none falls below nothing
            departures = self.departed[bucket]
            arrivals = standing.total() - in_progress + departures
            found.append(Bucket(arrivals, departures, +entries, standing))
            in_progress = standing.total()
        return CumulativeFlow(bounds, at_start, found, self.time_in_process, stays_ended)


async def _visits_by_bucket(
    connection: AsyncConnection, question: Question, bounds: Sequence[datetime]
) -> Sequence[Record]:
    """How many visits were entered in each bucket, how many left, and how much time is between?"""
    join, group = question.group()
    start, end = question.bind(bounds[0]), question.bind(bounds[-1])
    cuts = f"CAST({question.bind(list(bounds))} AS timestamptz[])"
    earliest = question.bind(min(bounds[0], question.selection.as_of))
    touching = visits(
        question,
        left=f" AND t.from_slot = ANY(:open_slots) AND t.occurred_at >= {start}"
        f" AND t.entered_at < {end}",
        under_way=f" AND d.status = 'open' AND d.entered_at < {end}",
        narrowed=f" AND (o.closed_at IS NULL OR o.closed_at >= {earliest})",
    )
    within = f"least(coalesce(d.left_at, {end}), {end}) - greatest(d.entered_at, {start})"
    return await question.rows(
        connection,
        f"""{touching},
        placed AS (
            SELECT {group} AS "group", d.slot, width_bucket(d.entered_at, {cuts}) AS came,
                   width_bucket(d.left_at, {cuts}) AS went, d.kind IN {_DEPARTS} AS departs,
                   CAST({microseconds(within)} AS bigint) AS lasted
            FROM visits AS d {join} WHERE TRUE{question.filters()}
        )
        SELECT p."group", p.slot, p.came, p.went, grouping(p.came) = 0 AS by_entry,
               count(*) AS visits, count(*) FILTER (WHERE p.departs) AS departures,
               sum(p.lasted) AS time_in_process
        FROM placed AS p
        GROUP BY GROUPING SETS ((p."group", p.slot, p.came), (p."group", p.slot, p.went))""",
    )


async def _stays_ended(
    connection: AsyncConnection, question: Question, bounds: Sequence[datetime]
) -> Mapping[Value, int]:
    """By group: how long, in all, were the stays that ended in the period, from their arrival on?

    Of a deal that was never reopened its row tells; of another, the log.
    """
    join, group = question.group()
    start, end = question.bind(bounds[0]), question.bind(bounds[-1])
    population, deal = "WITH", ""
    if question.dimensions:
        population = f"{deals(question, facts=False, joined=True)},"
        deal = "JOIN deals AS d ON d.opportunity_id = s.opportunity_id"
    once = _left_once(question)
    rows = await question.rows(
        connection,
        f"""{population} returned AS MATERIALIZED ({_returned(question, start, once)}),
        stays AS (
            SELECT o.opportunity_id, {microseconds("o.closed_at - o.opened_at")} AS lasted
            FROM opportunity AS o
            WHERE {question.of_pipeline} AND {once}
              AND o.closed_at >= {start} AND o.closed_at < {end}
            UNION ALL
            SELECT r.opportunity_id, {microseconds("m.occurred_at - m.arrived_at")}
            FROM returned AS r CROSS JOIN LATERAL (
                SELECT t.from_slot, t.kind, t.occurred_at,
                       max(t.occurred_at) FILTER (WHERE t.to_slot = ANY(:open_slots)
                           AND (t.from_slot IS NULL OR t.from_slot <> ALL(:open_slots))
                       ) OVER (ORDER BY t.seq) AS arrived_at
                FROM transition AS t
                WHERE t.workspace_id = :workspace AND t.opportunity_id = r.opportunity_id
                  AND {question.standing()}
            ) AS m
            WHERE m.from_slot = ANY(:open_slots) AND m.kind IN {_DEPARTS}
              AND m.occurred_at >= {start} AND m.occurred_at < {end}
        )
        SELECT {group} AS "group", sum(CAST(s.lasted AS bigint)) AS lasted
        FROM stays AS s {deal} {join} WHERE TRUE{question.filters()}
        GROUP BY 1""",
    )
    return {row.group: int(row.lasted) for row in rows if row.lasted is not None}


def _left_once(question: Question) -> str:
    """Is the deal of `o` out of process, never having been reopened?

    Then it was opened when its only stay began, and closed when that ended; one that was opened
    closed had none, and between the two lies no time. No visit of a closed stage has ended.
    """
    closed = question.ranking.slots(StageKind.WON) + question.ranking.slots(StageKind.LOST)
    told = ["o.closed_at IS NOT NULL", *(f"o.dwell[{slot}] IS NULL" for slot in closed)]
    if question.selection.known_at is not None:
        told.append("o.updated_at < :known_at")
    return " AND ".join(told)


def _returned(question: Question, start: str, once: str) -> str:
    """Of which deals must the log tell the stays that ended since the start?"""
    closed = question.ranking.slots(StageKind.WON) + question.ranking.slots(StageKind.LOST)
    mask = question.bind(sum(1 << (slot - 1) for slot in closed))
    reopened = f"o.closed_at IS NULL AND o.reach_mask & CAST({mask} AS bigint) <> 0"
    which = [f"o.closed_at >= {start} AND NOT ({once})", reopened]
    if question.selection.known_at is not None:
        which.append("o.updated_at >= :known_at")
    deals = f"SELECT o.opportunity_id FROM opportunity AS o WHERE {question.of_pipeline}"
    return " UNION ".join(f"{deals} AND {condition}" for condition in which)
