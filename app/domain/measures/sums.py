"""How many deals, and what they are worth in each currency: the count that most figures show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

Amounts = Mapping[str, Decimal]
"""Exact sums by currency; amounts of different currencies are never added."""

NO_AMOUNTS: Amounts = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Count:
    """So many deals; `amounts` sums those of them that have an amount."""

    deals: int = 0
    amounts: Amounts = field(default_factory=lambda: NO_AMOUNTS)

    def __add__(self, other: "Count") -> "Count":
        return Count(self.deals + other.deals, added(self.amounts, other.amounts))


NONE = Count()


def one(amount: Decimal | None, currency: str | None) -> Count:
    """The count of a single deal."""
    return weighing(1, amount, currency)


def weighing(deals: int, amount: Decimal | None, currency: str | None) -> Count:
    """The count of deals that together are worth `amount`; None: none of them has one."""
    if amount is None or currency is None:
        return Count(deals)
    return Count(deals, {currency: amount})


def total(counts: Iterable[Count]) -> Count:
    """All of them together."""
    deals, zero = 0, Decimal(0)
    amounts: dict[str, Decimal] = {}
    for count in counts:
        deals += count.deals
        for currency, amount in count.amounts.items():
            amounts[currency] = amounts.get(currency, zero) + amount
    return Count(deals, dict(sorted(amounts.items())))


def added(these: Amounts, those: Amounts) -> Amounts:
    """Both sums, currency by currency, in the order of their codes."""
    zero = Decimal(0)
    return {
        currency: these.get(currency, zero) + those.get(currency, zero)
        for currency in sorted({*these, *those})
    }
