"""How long did closed deals take, how many were won, and why were the others lost?

Counted by the database as `domain.measures.closings` defines it.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.durations import NOTHING, Summary
from app.domain.journey import Status
from app.domain.measures.closings import DealPopulation, Losses, Outcome, WinRate
from app.domain.measures.selection import Value
from app.domain.measures.sums import NONE, Count, weighing
from app.storage.queries.population import deals
from app.storage.queries.question import SUMMARY, Asked, Question, status_of, summary_of


async def cycle_times(
    connection: AsyncConnection, asked: Asked, population: DealPopulation, *, grouped: bool
) -> Mapping[Value, Mapping[Outcome, Summary]]:
    """By group and outcome: how long, in microseconds, from the first opening to the last close?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    rows = await question.rows(
        connection,
        f"""{_closed(question, population, facts=False)},
        closed AS (
            SELECT {group} AS "group", d.status, d.open_time
            FROM deals AS d {join} WHERE {_in_population(question, population)}
        )
        SELECT c."group", c.status, {SUMMARY.format("c.open_time")}
        FROM closed AS c GROUP BY GROUPING SETS ((c."group"), (c."group", c.status))""",
    )
    found: dict[Value, dict[Outcome, Summary]] = defaultdict(
        lambda: dict.fromkeys(Outcome, NOTHING)
    )
    for row in rows:
        outcome = Outcome.ALL if row.status is None else Outcome(row.status)
        found[row.group][outcome] = summary_of(row)
    return found


async def win_rates(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, WinRate]:
    """By group: how many of the deals closed in the period were won, how many lost?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    population = DealPopulation.CLOSED
    rows = await question.rows(
        connection,
        f"""{_closed(question, population, facts=True)}
        SELECT {group} AS "group", d.status,
               CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
               count(*) AS deals, sum(d.amount) AS amount
        FROM deals AS d {join} WHERE {_in_population(question, population)}
        GROUP BY 1, 2, 3""",
    )
    found: dict[Value, dict[Status, Count]] = defaultdict(lambda: defaultdict(lambda: NONE))
    for row in rows:
        found[row.group][status_of(row)] += weighing(row.deals, row.amount, row.currency)
    return {
        group: WinRate(won=counts[Status.WON], lost=counts[Status.LOST])
        for group, counts in found.items()
    }


async def losses(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, list[Losses]]:
    """By group: from which stages were deals lost in the period, and why?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    population = DealPopulation.CLOSED
    rows = await question.rows(
        connection,
        f"""{_closed(question, population, facts=True)}
        SELECT {group} AS "group", lost.from_slot, lost.loss_reason,
               CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
               count(*) AS deals, sum(d.amount) AS amount
        FROM deals AS d {join}
        -- The move that lost it is the last one at the instant of its close.
        CROSS JOIN LATERAL (
            SELECT t.from_slot, t.loss_reason FROM transition AS t
            WHERE t.workspace_id = :workspace AND t.opportunity_id = d.opportunity_id
              AND {question.standing()} AND t.occurred_at = d.closed_at AND t.kind <> 'handed_off'
            ORDER BY t.seq DESC LIMIT 1
        ) AS lost
        WHERE {_in_population(question, population)} AND d.status = 'lost'
        GROUP BY 1, 2, 3, 4""",
    )
    found: dict[Value, dict[tuple[int | None, str | None], Count]] = defaultdict(
        lambda: defaultdict(lambda: NONE)
    )
    for row in rows:
        count = weighing(row.deals, row.amount, row.currency)
        found[row.group][row.from_slot, row.loss_reason] += count
    return {
        group: [Losses(slot, reason, count) for (slot, reason), count in counts.items()]
        for group, counts in found.items()
    }


def _closed(question: Question, population: DealPopulation, *, facts: bool) -> str:
    narrowed = ""
    if population is DealPopulation.OPENED:
        narrowed = question.period("o.opened_at")
    elif question.selection.end is not None:
        narrowed = " AND o.opened_at < :end"
    return deals(question, facts=facts, narrowed=narrowed, by_move=question.asks_moved_facts)


def _in_population(question: Question, population: DealPopulation) -> str:
    column = "closed_at" if population is DealPopulation.CLOSED else "opened_at"
    period = question.period(f"d.{column}")
    return f"d.status IN ('won', 'lost'){period}{question.filters()}"
