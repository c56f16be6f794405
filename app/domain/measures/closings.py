"""Deals that were won or lost: cycle time, win rate, loss reasons (metrics.md, sections 4 and 5).

*Closed in the period* means closed at T, by a close that lies in it: a deal reopened since has left
the period, so each deal is in one period at most. A hand-off is neither won nor lost.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.domain.durations import Summary, summary
from app.domain.intervals import Proportion
from app.domain.journey import Status
from app.domain.measures.hindsight import Sighting
from app.domain.measures.selection import Selection, Value
from app.domain.measures.sums import NONE, Count, added, one

OUTCOMES = (Status.WON, Status.LOST)


class DealPopulation(StrEnum):
    """Which closed deals: those closed in the period, or those opened there."""

    CLOSED = "closed"
    OPENED = "opened"


class Outcome(StrEnum):
    """How closed deals ended: one way, or either."""

    WON = "won"
    LOST = "lost"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class WinRate:
    """Deals won and deals lost."""

    won: Count = NONE
    lost: Count = NONE

    @property
    def by_count(self) -> Proportion:
        return Proportion(self.won.deals, self.won.deals + self.lost.deals)

    @property
    def by_amount(self) -> float | None:
        """By what the deals of the one currency were worth; None where that is nothing.

        Amounts of two currencies have no rate.
        """
        worth = added(self.won.amounts, self.lost.amounts)
        if len(worth) != 1:
            return None
        ((currency, closed),) = worth.items()
        return float(self.won.amounts.get(currency, Decimal(0)) / closed) if closed else None


@dataclass(frozen=True, slots=True)
class Losses:
    """Deals lost from the stage `from_slot` (None: opened as lost) for one reason."""

    from_slot: int | None
    reason: str | None
    count: Count


def closed_deals(
    deals: Iterable[Sighting], selection: Selection, population: DealPopulation
) -> Iterator[tuple[Value, Sighting]]:
    """Each deal of the population with each group in which it counts."""
    for deal in deals:
        if deal.status not in OUTCOMES or deal.closed_at is None:
            continue
        counted = deal.closed_at if population is DealPopulation.CLOSED else deal.opened_at
        if selection.covers(counted):
            yield from ((group, deal) for group in selection.groups_of(deal.bearer))


def cycle_times(
    deals: Iterable[Sighting], selection: Selection, population: DealPopulation
) -> Mapping[Value, Mapping[Outcome, Summary]]:
    """Microseconds from the first opening to the last close, without the time spent closed."""
    lengths: dict[Value, dict[Outcome, list[int]]] = defaultdict(lambda: defaultdict(list))
    for group, deal in closed_deals(deals, selection, population):
        for outcome in (Outcome(deal.status.value), Outcome.ALL):
            lengths[group][outcome].append(deal.open_time)
    return {
        group: {outcome: summary(found[outcome]) for outcome in Outcome}
        for group, found in lengths.items()
    }


def win_rates(deals: Iterable[Sighting], selection: Selection) -> Mapping[Value, WinRate]:
    """won / (won + lost) among the deals closed in the period."""
    counts: dict[Value, dict[Status, Count]] = defaultdict(lambda: defaultdict(lambda: NONE))
    for group, deal in closed_deals(deals, selection, DealPopulation.CLOSED):
        counts[group][deal.status] += one(deal.facts.amount, deal.facts.currency)
    return {
        group: WinRate(won=found[Status.WON], lost=found[Status.LOST])
        for group, found in counts.items()
    }


def losses(deals: Iterable[Sighting], selection: Selection) -> Mapping[Value, list[Losses]]:
    """The deals lost in the period, by the stage in which they stood before, and why."""
    counts: dict[Value, dict[tuple[int | None, str | None], Count]] = defaultdict(
        lambda: defaultdict(lambda: NONE)
    )
    for group, deal in closed_deals(deals, selection, DealPopulation.CLOSED):
        if deal.status is Status.LOST:
            why = deal.last.from_slot, deal.last.loss_reason
            counts[group][why] += one(deal.facts.amount, deal.facts.currency)
    return {
        group: [Losses(slot, reason, count) for (slot, reason), count in found.items()]
        for group, found in counts.items()
    }
