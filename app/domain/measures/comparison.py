"""The same figure twice, and how far its two readings lie apart (metrics.md, section 5).

An interval is that of two samples which have no case in common: two periods that do not overlap,
or two groups that no deal is in both of.
"""

from dataclasses import dataclass
from enum import StrEnum

from app.domain.intervals import Interval, Shift, newcombe
from app.domain.measures.readings import Reading
from app.domain.measures.sums import Amounts, added


class DifferenceMethod(StrEnum):
    """How a difference is found."""

    NEWCOMBE = "newcombe"
    HODGES_LEHMANN = "hodges_lehmann"
    SUBTRACTION = "subtraction"


class DifferenceDoubt(StrEnum):
    """Why a difference has no interval, or is not given at all."""

    TOO_FEW_CASES = "too_few_cases"
    NO_INTERVAL = "no_interval"
    SHARED_CASES = "shared_cases"


@dataclass(frozen=True, slots=True)
class Difference:
    """The one reading less the other: `value`, or `amounts` of money, in the figure's own unit."""

    method: DifferenceMethod
    value: float | None
    interval: Interval | None = None
    doubt: DifferenceDoubt | None = None
    amounts: Amounts | None = None


def subtracted(reading: Reading, against: Reading, *, adds_up: bool = True) -> Difference:
    """The difference of two figures for which no interval is meant, or of two sums of money.

    Money that `adds_up` is nothing in a currency that it does not show; otherwise there is no
    difference in a currency that only the one or the other has.
    """
    if reading.amounts is not None and against.amounts is not None:
        owed = {currency: -amount for currency, amount in against.amounts.items()}
        both = reading.amounts.keys() & owed.keys()
        amounts = {
            currency: amount
            for currency, amount in added(reading.amounts, owed).items()
            if adds_up or currency in both
        }
        return Difference(
            DifferenceMethod.SUBTRACTION, None, doubt=DifferenceDoubt.NO_INTERVAL, amounts=amounts
        )
    value = _less(reading, against)
    return Difference(DifferenceMethod.SUBTRACTION, value, doubt=DifferenceDoubt.NO_INTERVAL)


def of_shares(reading: Reading, against: Reading, *, apart: bool) -> Difference:
    """The difference of two rates; `apart`: no case is behind both."""
    value = _less(reading, against)
    one, other = reading.share, against.share
    if one is None or other is None or not (one.independent and other.independent):
        return Difference(DifferenceMethod.SUBTRACTION, value, doubt=DifferenceDoubt.NO_INTERVAL)
    if value is None:
        return Difference(DifferenceMethod.NEWCOMBE, None, doubt=DifferenceDoubt.TOO_FEW_CASES)
    if not apart:
        return Difference(DifferenceMethod.SUBTRACTION, value, doubt=DifferenceDoubt.SHARED_CASES)
    return Difference(DifferenceMethod.NEWCOMBE, value, newcombe(one, other))


def of_lengths(shift: Shift, *, apart: bool) -> Difference:
    """By how much the lengths of the one sample are longer; microseconds."""
    if shift.estimate is None:
        return Difference(
            DifferenceMethod.HODGES_LEHMANN, None, doubt=DifferenceDoubt.TOO_FEW_CASES
        )
    if not apart:
        doubt = DifferenceDoubt.SHARED_CASES
        return Difference(DifferenceMethod.HODGES_LEHMANN, shift.estimate, doubt=doubt)
    return Difference(DifferenceMethod.HODGES_LEHMANN, shift.estimate, shift.interval)


def _less(reading: Reading, against: Reading) -> float | None:
    if reading.value is None or against.value is None:
        return None
    return reading.value - against.value
