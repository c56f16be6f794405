"""What do pace and conversion bring in, currency by currency?

As `domain.measures.velocity` and `domain.measures.bottlenecks` define it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.funnel import Tally
from app.domain.journey import Status
from app.domain.measures.bottlenecks import Cohort, Inputs
from app.domain.measures.selection import Attribution, Value
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.measures.sums import Count
from app.domain.measures.velocity import Velocity
from app.storage.queries.deal_counts import Among, sampled, weighed
from app.storage.queries.lengths import summed
from app.storage.queries.question import Asked, Question
from app.storage.queries.stage_time import stage_times


async def velocities(
    connection: AsyncConnection, asked: Asked, *, grouped: bool, closed_alone: bool = False
) -> Mapping[Value, Mapping[Value, Velocity]]:
    """By group and currency: how many deals are open, and what did the closed ones come to?

    `closed_alone`: who is open is left out, of whom no bucket of a period can tell.
    """
    found: dict[Value, dict[Value, Velocity]] = defaultdict(lambda: defaultdict(Velocity))
    for part in (_closed_deals,) if closed_alone else (_open_deals, _closed_deals):
        for group, currency, counted in await part(connection, asked, grouped=grouped):
            found[group][currency] += counted
    return found


async def bottleneck_inputs(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Inputs]:
    """By group: how far did the deals of each currency get, and how long do stays last?"""
    opened = await cohorts(connection, asked, grouped=grouped)
    times = await stage_times(
        connection, asked, VisitPopulation.ENTERED, VisitReentry.EVERY, grouped=grouped
    )
    return {
        group: Inputs(opened.get(group, {}), times.get(group, {})) for group in {*opened, *times}
    }


async def cohorts(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[Value, Cohort]]:
    """By group and currency: how far did the deals opened in the period get?"""
    question = Question(asked, grouped=grouped)
    keys = ["currency", "status", "reach_mask", "priced"]
    counts = await weighed(connection, question, Among.OPENED, keys, by_move=_by_move(question))
    tallies: dict[Value, dict[Value, list[Tally]]] = defaultdict(lambda: defaultdict(list))
    priced: dict[tuple[Value, Value], int] = defaultdict(int)
    for (group, currency, status, reach_mask, is_priced), count in counts.items():
        tallies[group][currency].append(Tally(Status(status), reach_mask, count))
        if status == Status.WON and is_priced:
            priced[group, currency] += count.deals
    return {
        value: {
            currency: Cohort(found, priced[value, currency])
            for currency, found in by_currency.items()
        }
        for value, by_currency in tallies.items()
    }


async def _open_deals(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Iterable[tuple[Value, Value, Velocity]]:
    """How many deals are open at T?"""
    question = Question(asked, grouped=grouped)
    counts = await weighed(
        connection, question, Among.OPEN, ["currency"], by_move=_by_move(question)
    )
    return (
        (group, currency, Velocity(open_deals=count.deals))
        for (group, currency), count in counts.items()
    )


async def _closed_deals(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Iterable[tuple[Value, Value, Velocity]]:
    """How many deals were won in the period, how many lost, for how much, and after how long?"""
    question = Question(asked, grouped=grouped)
    keys, by_move = ["currency", "status"], _by_move(question)
    counts = await weighed(connection, question, Among.CLOSED, [*keys, "priced"], by_move=by_move)
    cycles = await sampled(connection, question, Among.CLOSED, keys, by_move=by_move)
    told = [
        (group, currency, _closed(status, count, priced=priced))
        for (group, currency, status, priced), count in counts.items()
    ]
    took = [
        (group, currency, Velocity(cycle=summed(lengths)))
        for (group, currency, status), lengths in cycles.items()
        if status == Status.WON
    ]
    return [*told, *took]


def _closed(status: str, count: Count, *, priced: bool) -> Velocity:
    """Deals that were all won, or all lost, and that all have an amount, or none."""
    if status == Status.LOST:
        return Velocity(lost=count.deals)
    amount = sum(count.amounts.values(), Decimal(0))  # of one currency
    return Velocity(won=count.deals, priced=count.deals if priced else 0, amount=amount)


def _by_move(question: Question) -> bool:
    """The currency is the one that a filter by it would look at."""
    return question.selection.attribution is Attribution.AT_MOVE
