"""What do pace and conversion bring in, currency by currency?

Counted by the database as `domain.measures.velocity` and `domain.measures.bottlenecks` define it.
"""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.funnel import Tally
from app.domain.journey import Status
from app.domain.measures.bottlenecks import Cohort, Inputs
from app.domain.measures.closings import DealPopulation
from app.domain.measures.selection import Attribution, Value
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.measures.sums import weighing
from app.domain.measures.velocity import Velocity
from app.storage.queries.closings import in_population
from app.storage.queries.population import OPEN_AT_T, deals
from app.storage.queries.question import Asked, Question, status_of
from app.storage.queries.stage_time import stage_times


async def velocities(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[Value, Velocity]]:
    """By group and currency: how many deals are open, and what did the closed ones come to?"""
    found: dict[Value, dict[Value, Velocity]] = defaultdict(lambda: defaultdict(Velocity))
    for part in (_open_deals, _closed_deals):
        for group, currency, counted in await part(connection, asked, grouped=grouped):
            found[group][currency] += counted
    return found


async def bottleneck_inputs(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Inputs]:
    """By group: how far did the deals of each currency get, and how long do stays last?"""
    cohorts = await _cohorts(connection, asked, grouped=grouped)
    times = await stage_times(
        connection, asked, VisitPopulation.ENTERED, VisitReentry.EVERY, grouped=grouped
    )
    return {
        group: Inputs(cohorts.get(group, {}), times.get(group, {})) for group in {*cohorts, *times}
    }


async def _open_deals(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> list[tuple[Value, Value, Velocity]]:
    """How many deals are open at T?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    population = _deals(question, OPEN_AT_T, " AND o.status = 'open'")
    rows = await question.rows(
        connection,
        f"""{population}
        SELECT {group} AS "group", d.by_currency, count(*) AS deals
        FROM deals AS d {join} WHERE d.status = 'open'{question.filters()} GROUP BY 1, 2""",
    )
    return [(row.group, row.by_currency, Velocity(open_deals=row.deals)) for row in rows]


async def _closed_deals(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> list[tuple[Value, Value, Velocity]]:
    """How many deals were won in the period, how many lost, for how much, and after how long?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    opened_before = "" if asked.selection.end is None else " AND o.opened_at < :end"
    rows = await question.rows(
        connection,
        f"""{_deals(question, opened_before)}
        SELECT {group} AS "group", d.by_currency, d.status, count(*) AS deals,
               count(d.amount) AS priced, sum(d.amount) AS amount,
               -- As exact numbers: a sum of doubles loses microseconds.
               sum(CAST(d.open_time AS bigint)) AS cycle
        FROM deals AS d {join} WHERE {in_population(question, DealPopulation.CLOSED)}
        GROUP BY 1, 2, 3""",
    )
    return [(row.group, row.by_currency, _closed(row)) for row in rows]


def _closed(row: Row[Any]) -> Velocity:
    """Deals that were all won, or all lost."""
    if status_of(row) is Status.LOST:
        return Velocity(lost=row.deals)
    amount = row.amount or Decimal(0)
    return Velocity(won=row.deals, priced=row.priced, amount=amount, cycle=int(row.cycle))


async def _cohorts(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[Value, Cohort]]:
    """By group and currency: how far did the deals opened in the period get?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    rows = await question.rows(
        connection,
        f"""{_deals(question, question.period("o.opened_at"))}
        SELECT {group} AS "group", d.by_currency, d.status, d.reach_mask,
               CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
               count(*) AS deals, count(d.amount) AS priced, sum(d.amount) AS amount
        FROM deals AS d {join} WHERE TRUE{question.period("d.opened_at")}{question.filters()}
        GROUP BY 1, 2, 3, 4, 5""",
    )
    tallies: dict[Value, dict[Value, list[Tally]]] = defaultdict(lambda: defaultdict(list))
    priced: dict[tuple[Value, Value], int] = defaultdict(int)
    for row in rows:
        count = weighing(row.deals, row.amount, row.currency)
        tallies[row.group][row.by_currency].append(Tally(status_of(row), row.reach_mask, count))
        if status_of(row) is Status.WON:
            priced[row.group, row.by_currency] += row.priced
    return {
        value: {
            currency: Cohort(found, priced[value, currency])
            for currency, found in by_currency.items()
        }
        for value, by_currency in tallies.items()
    }


def _deals(question: Question, narrowed: str, unmoved: str = "") -> str:
    """The deals with the currency that a filter by it would look at."""
    by_move = question.selection.attribution is Attribution.AT_MOVE
    return deals(question, facts=True, narrowed=narrowed, unmoved=unmoved, by_move=by_move)
