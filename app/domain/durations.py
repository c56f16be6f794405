"""What a list of lengths of time comes to: its mean, its quantiles, its longest.

The unit is the caller's. Measured lengths are handed about in whole microseconds, which a double
holds exactly for 285 years, so that a definition in Python and the database agree to the digit.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

QUANTILES: Final = (0.5, 0.75, 0.9, 0.95)
"""The shares that every summary names."""

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Summary:
    """How many lengths there are, and what they come to; all None where there are none."""

    count: int = 0
    mean: float | None = None
    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p95: float | None = None
    longest: float | None = None


NOTHING: Final = Summary()


def microseconds(length: timedelta) -> int:
    """The length in whole microseconds, exactly."""
    return length // _MICROSECOND


def summary(lengths: Iterable[float]) -> Summary:
    """The summary of the lengths, in their own unit."""
    ordered = sorted(lengths)
    if not ordered:
        return NOTHING
    p50, p75, p90, p95 = (quantile(ordered, share) for share in QUANTILES)
    mean = math.fsum(ordered) / len(ordered)
    return Summary(len(ordered), mean, p50, p75, p90, p95, float(ordered[-1]))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics: numpy's default, type 7 of Hyndman & Fan.

    (Sample Quantiles in Statistical Packages, The American Statistician 50, 1996.) `ordered` is
    ascending and not empty. The arithmetic is PostgreSQL's `percentile_cont`, step by step, so
    that a length that meets a quantile exactly does so in both.
    """
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (place - math.floor(place)) * (above - below)
