"""How long did closed deals take, how many were won, and why were the others lost?

As `domain.measures.closings` defines it; `deal_counts` counts.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.durations import Summary
from app.domain.journey import Status
from app.domain.measures.closings import DealPopulation, Losses, Outcome, WinRate
from app.domain.measures.selection import Value
from app.domain.measures.sums import NONE
from app.storage.aside import aside
from app.storage.queries.deal_counts import Among, sampled, weighed
from app.storage.queries.lengths import NONE as NO_LENGTHS
from app.storage.queries.lengths import Lengths, summary, together
from app.storage.queries.question import Asked, Question


async def cycle_times(
    connection: AsyncConnection, asked: Asked, population: DealPopulation, *, grouped: bool
) -> Mapping[Value, Mapping[Outcome, Summary]]:
    """By group and outcome: how long, in microseconds, from the first opening to the last close?"""
    found = await cycles(connection, asked, population, grouped=grouped)
    return await aside(_summed_up, found)


def _summed_up(
    found: Mapping[Value, Mapping[Outcome, Lengths]],
) -> Mapping[Value, Mapping[Outcome, Summary]]:
    return {
        group: {
            **{outcome: summary(of.get(outcome, NO_LENGTHS)) for outcome in Outcome},
            Outcome.ALL: summary(together(of.values())),
        }
        for group, of in found.items()
    }


async def cycles(
    connection: AsyncConnection, asked: Asked, population: DealPopulation, *, grouped: bool
) -> Mapping[Value, Mapping[Outcome, Lengths]]:
    """By group and outcome, won or lost: every cycle."""
    question = Question(asked, grouped=grouped)
    found: dict[Value, dict[Outcome, Lengths]] = defaultdict(dict)
    every = await sampled(connection, question, among(population), ["status"])
    for (group, status), lengths in every.items():
        found[group][Outcome(status)] = lengths
    return found


async def lifetimes(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, tuple[Mapping[Status, Lengths], Lengths]]:
    """By group: how long did deals opened in the period run, by how they ended, and those open?"""
    question = Question(asked, grouped=grouped)
    every = await sampled(connection, question, Among.OPENED, ["status"], age=True)
    found: dict[Value, dict[Status, Lengths]] = defaultdict(dict)
    for (group, status), lengths in every.items():
        found[group][Status(status)] = lengths
    return {group: (ended, ended.pop(Status.OPEN, NO_LENGTHS)) for group, ended in found.items()}


async def win_rates(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, WinRate]:
    """By group: how many of the deals closed in the period were won, how many lost?"""
    question = Question(asked, grouped=grouped)
    counts = await weighed(connection, question, Among.CLOSED, ["status"])
    return {
        group: WinRate(
            won=counts.get((group, Status.WON), NONE), lost=counts.get((group, Status.LOST), NONE)
        )
        for group, _ in counts
    }


async def losses(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, list[Losses]]:
    """By group: from which stages were deals lost in the period, and why?"""
    question = Question(asked, grouped=grouped)
    counts = await weighed(connection, question, Among.LOST, ["lost_from", "loss_reason"])
    found: dict[Value, list[Losses]] = defaultdict(list)
    for (group, slot, reason), count in counts.items():
        found[group].append(Losses(slot, reason, count))
    return found


def among(population: DealPopulation) -> Among:
    """The closed deals of a population."""
    return Among.CLOSED if population is DealPopulation.CLOSED else Among.OPENED_AND_CLOSED
