"""Velocity (metrics.md, section 5): the money that a pipeline brings in a day, by currency.

open deals at T × win rate × mean won amount ÷ mean won cycle in days. Amounts of two currencies
are never mixed, so every input is that of the deals of one currency: the same question, filtered
to it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from app.domain.intervals import Proportion
from app.domain.journey import Status
from app.domain.measures.closings import DealPopulation, closed_deals
from app.domain.measures.hindsight import Sighting
from app.domain.measures.selection import Selection, Value

DAY: Final = 86_400_000_000
"""Microseconds in a day of 24 hours."""

_PLACES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Velocity:
    """The deals of one currency, and what they come to a day.

    `won` and `lost` were closed in the period; of the won, `priced` bear an amount, `amount` in
    all, and all of them together took `cycle` microseconds.
    """

    open_deals: int = 0
    won: int = 0
    lost: int = 0
    priced: int = 0
    amount: Decimal = Decimal(0)
    cycle: int = 0

    def __add__(self, other: "Velocity") -> "Velocity":
        return Velocity(
            open_deals=self.open_deals + other.open_deals,
            won=self.won + other.won,
            lost=self.lost + other.lost,
            priced=self.priced + other.priced,
            amount=self.amount + other.amount,
            cycle=self.cycle + other.cycle,
        )

    @property
    def win_rate(self) -> Proportion:
        return Proportion(self.won, self.won + self.lost)

    @property
    def mean_won_amount(self) -> Decimal | None:
        """Of the won deals that bear an amount; rounded as `rounded` does."""
        return rounded(Fraction(self.amount) / self.priced) if self.priced else None

    @property
    def mean_won_cycle(self) -> float | None:
        """Microseconds."""
        return self.cycle / self.won if self.won else None

    @property
    def per_day(self) -> Decimal | None:
        """Made of the exact inputs and rounded once; None where one is missing, or takes no time.

        Without a won deal that bears an amount there is neither a rate nor a mean.
        """
        if not (self.priced and self.cycle):
            return None
        win_rate = Fraction(self.won, self.won + self.lost)
        days = Fraction(self.cycle, self.won * DAY)
        return rounded(self.open_deals * win_rate * (Fraction(self.amount) / self.priced) / days)


def velocities(
    deals: Sequence[Sighting], selection: Selection
) -> Mapping[Value, Mapping[Value, Velocity]]:
    """By group and currency; None are the deals that bear no currency."""
    found: dict[Value, dict[Value, Velocity]] = defaultdict(lambda: defaultdict(Velocity))
    for deal in deals:
        if deal.status is Status.OPEN:
            for group in selection.groups_of(deal.bearer):
                found[group][deal.bearer.currency] += Velocity(open_deals=1)
    for group, deal in closed_deals(deals, selection, DealPopulation.CLOSED):
        found[group][deal.bearer.currency] += _closed(deal)
    return found


def rounded(amount: Fraction) -> Decimal:
    """Money that was divided: to four places, a tie to the even one."""
    return Decimal(round(amount * _PLACES)) / _PLACES


def _closed(deal: Sighting) -> Velocity:
    """A single deal that was won or lost."""
    if deal.status is Status.LOST:
        return Velocity(lost=1)
    amount = deal.facts.amount
    return Velocity(
        won=1, priced=int(amount is not None), amount=amount or Decimal(0), cycle=deal.open_time
    )
