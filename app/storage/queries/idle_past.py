"""Past visits of open stages in columns: what idle rules are replayed on.

One statement, packed as `queries.lengths` has it: a million visits come as a few arrays of numbers,
never as objects. Read are the visits that ended in the period or later, and those under way at T.
So for every visit that was entered in the period the one before it is there too, and tells whether
a rearranged definition began it. `domain.measures.idle_replay` says what the columns mean.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import Invalid
from app.domain.journey import Status
from app.domain.measures.idle_replay import Rules
from app.domain.pipeline import IdleClock, StageKind
from app.storage.driver import Record
from app.storage.engine import Timeouts
from app.storage.queries.population import deals
from app.storage.queries.question import Asked, Question
from app.storage.segments.columns import NOTHING, instant

MOST_VISITS: Final = 1_000_000
"""More are not replayed at once: they would take some 250 MB."""
MOST_IN_WORKING_TIME: Final = 250_000
"""Nor more than these, and as many activities, where a calendar is asked about each: that takes
some seconds."""
MOST_ACTIVITIES: Final = 2_000_000

PATIENCE: Final = Timeouts(statement=30)
"""A million visits take ten seconds: this is asked seldom, and not by a dashboard."""

STATUSES: Final = (*Status,)
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

_LAST: Final = 2**31 - 1  # the seq of a visit under way: after all others


@dataclass(frozen=True, slots=True)
class Past:
    """Visits in the order of their deals and, in a deal, of its log; then activities, likewise.

    Instants are microseconds as `segments.columns` has them. `status` is a place in STATUSES,
    `closed_at` NOTHING of an open deal. `priority` is a place in `priorities`, whose first is None:
    any that no rule names. `kind` is a place in `kinds`.
    """

    deal: Numbers
    slot: Numbers
    entered_at: Numbers
    ended_at: Numbers
    moved_at: Numbers
    priority: Numbers
    under_way: Mask
    rearranged: Mask
    status: Numbers
    closed_at: Numbers
    priorities: Sequence[str | None]
    deed_deal: Numbers
    deed_kind: Numbers
    deed_at: Numbers
    kinds: Sequence[str]


async def past_visits(connection: AsyncConnection, asked: Asked, ruled: Iterable[Rules]) -> Past:
    """The visits since the period's beginning, with the activities that these rules look at.

    Raises Invalid where they are more than can be replayed at once.
    """
    assert asked.selection.start is not None, "past visits have a period"
    rules = [rule for each in ruled for rule in each.items()]
    quiet = [(slot, rule) for slot, rule in rules if rule.clock is IdleClock.INACTIVITY]
    priorities = sorted({named for _, rule in rules for named in rule.after_by_priority})
    kinds = sorted({kind for _, rule in quiet for kind in rule.qualifying})
    most = {"visits": MOST_VISITS, "activities": MOST_ACTIVITIES}
    if any(rule.calendar is not None for _, rule in rules):
        most = {what: min(count, MOST_IN_WORKING_TIME) for what, count in most.items()}
    question = Question(asked, grouped=False)
    sql = _statement(question, priorities, kinds, sorted({slot for slot, _ in quiet}), most)
    (row,) = await question.rows(connection, sql)
    for what, count in most.items():
        if getattr(row, what) > count:
            problem = f"The period holds more than {count:,} {what} to replay; ask for less of it."
            raise Invalid(problem)
    until = instant(asked.aged_until)
    return await asyncio.to_thread(_in_order, row, [None, *priorities], kinds, until)


def _statement(
    question: Question,
    priorities: Sequence[str],
    kinds: Sequence[str],
    quiet: Sequence[int],
    most: Mapping[str, int],
) -> str:
    # Whoever closed before the period, and stayed closed, has made no visit in it.
    population = deals(
        question,
        facts=True,
        narrowed=" AND (o.closed_at IS NULL OR o.closed_at >= :start)",
        joined=True,
    )
    named = f"CAST({question.bind(list(priorities))} AS text[])"
    statuses = f"CAST({question.bind([status.value for status in STATUSES])} AS text[])"
    return f"""{population},
        told AS MATERIALIZED (
            SELECT row_number() OVER () AS deal, d.opportunity_id, d.slot, d.entered_at, d.moved_at,
                   d.closed_at, d.priority, array_position({statuses}, d.status) - 1 AS status
            FROM deals AS d
        ),
        visits AS MATERIALIZED ({_visits(question)} LIMIT {most["visits"] + 1}),
        deeds AS MATERIALIZED (
            {_deeds(question, kinds, quiet)} LIMIT {most["activities"] + 1}
        )
        SELECT v.*, a.* FROM (
            SELECT count(*) AS visits, {_whole("d.deal", 4)} AS deal, {_whole("d.seq", 4)} AS seq,
                   {_whole("d.slot", 2)} AS slot, {_instant("d.entered_at")} AS entered_at,
                   {_instant("d.left_at")} AS left_at, {_instant("d.moved_at")} AS moved_at,
                   {_whole("d.rearranged", 2)} AS rearranged,
                   {_whole(f"coalesce(array_position({named}, d.priority), 0)", 2)} AS priority,
                   {_whole("d.status", 2)} AS status, {_instant("d.closed_at")} AS closed_at
            FROM visits AS d
        ) AS v CROSS JOIN (
            SELECT count(*) AS activities, {_whole("d.deal", 4)} AS deed_deal,
                   {_whole("d.kind", 2)} AS deed_kind, {_instant("d.occurred_at")} AS deed_at
            FROM deeds AS d
        ) AS a"""


def _visits(question: Question) -> str:
    """The clock of a visit that began before the period is looked up: they are few."""
    slots = ", ".join(map(str, question.ranking.slots(StageKind.OPEN)))
    return f"""
        SELECT d.deal, d.status, d.closed_at, t.seq, t.from_slot AS slot, t.entered_at,
               t.occurred_at AS left_at, CAST(t.kind = 'rearranged' AS int) AS rearranged,
               t.priority, CASE WHEN t.entered_at < :start THEN (
                   SELECT max(m.occurred_at) FROM transition AS m
                   WHERE m.workspace_id = :workspace AND m.opportunity_id = t.opportunity_id
                     AND m.seq < t.seq AND m.kind <> 'rearranged' AND {question.standing("m")}
                     AND NOT (m.kind = 'handed_off' AND m.entered_at IS NULL)
               ) END AS moved_at
        FROM transition AS t JOIN told AS d ON d.opportunity_id = t.opportunity_id
        WHERE t.workspace_id = :workspace AND t.pipeline_id = :pipeline
          AND t.entered_at IS NOT NULL AND {question.standing()}
          AND t.occurred_at >= :start AND t.occurred_at < :as_of AND t.from_slot IN ({slots})
        UNION ALL
        SELECT d.deal, d.status, d.closed_at, {_LAST}, d.slot, d.entered_at, NULL, 0, d.priority,
               d.moved_at
        FROM told AS d WHERE d.status = {STATUSES.index(Status.OPEN)}"""


def _deeds(question: Question, kinds: Sequence[str], quiet: Sequence[int]) -> str:
    """The activities in the period and since of the deals that were in a stage that asks."""
    named = f"CAST({question.bind(list(kinds))} AS text[])"
    slots = f"CAST({question.bind(list(quiet))} AS int[])"
    return f"""
        SELECT d.deal, array_position({named}, a.kind) - 1 AS kind, a.occurred_at
        FROM told AS d JOIN activity AS a
          ON a.workspace_id = :workspace AND a.opportunity_id = d.opportunity_id
        WHERE a.occurred_at >= :start AND a.occurred_at < :as_of AND a.kind = ANY({named})
          AND d.deal IN (SELECT v.deal FROM visits AS v WHERE v.slot = ANY({slots}))"""


def _in_order(
    row: Record, priorities: Sequence[str | None], kinds: Sequence[str], until: int
) -> Past:
    deal, seq = _read(row.deal, 4), _read(row.seq, 4)
    order = np.lexsort((seq, deal))
    deal, seq = deal[order], seq[order]
    entered_at, rearranged = _read(row.entered_at)[order], _read(row.rearranged, 2)[order] == 1
    left_at, moved_at = _read(row.left_at)[order], _read(row.moved_at)[order]
    goes_on = np.zeros(len(deal), dtype=bool)
    goes_on[1:] = rearranged[:-1] & (deal[1:] == deal[:-1])
    # A clock that is not told starts with its visit, or goes on from the one before.
    told = np.where(moved_at == NOTHING, entered_at, moved_at)
    begun = np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(deal))))
    under_way = seq == _LAST
    deeds = _read(row.deed_deal, 4), _read(row.deed_at)
    place = np.lexsort((deeds[1], deeds[0]))
    return Past(
        deal=deal,
        slot=_read(row.slot, 2)[order],
        entered_at=entered_at,
        ended_at=np.where(under_way, until + 1, left_at),
        moved_at=told[begun],
        priority=_read(row.priority, 2)[order],
        under_way=under_way,
        rearranged=goes_on | rearranged,
        status=_read(row.status, 2)[order],
        closed_at=_read(row.closed_at)[order],
        priorities=priorities,
        deed_deal=deeds[0][place],
        deed_kind=_read(row.deed_kind, 2)[place],
        deed_at=deeds[1][place],
        kinds=kinds,
    )


def _whole(sql: str, width: int) -> str:
    kind = {2: "smallint", 4: "int"}[width]
    return f"string_agg(int{width}send(CAST({sql} AS {kind})), CAST('' AS bytea))"


def _instant(sql: str) -> str:
    return f"string_agg(timestamptz_send(coalesce({sql}, '-infinity')), CAST('' AS bytea))"


def _read(packed: bytes | None, width: int = 8) -> Numbers:
    return np.frombuffer(packed or b"", dtype=f">i{width}").astype(np.int64)
