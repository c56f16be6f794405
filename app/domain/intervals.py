"""How sure a share is: the counts behind it, and the interval in which the true one lies."""

import math
from dataclasses import dataclass
from typing import Final

Z_95: Final = 1.959963984540054
"""The standard normal quantile of 0.975: 95 % lie within ±z."""


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """`count` out of `of`; no share where `of` is zero. `0 <= count <= of`.

    Only where each of the `of` decides by itself (`independent`) has the share an interval; visits
    of one deal do not.
    """

    count: int
    of: int
    independent: bool = True

    @property
    def rate(self) -> float | None:
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> Interval | None:
        return wilson(self.count, self.of) if self.independent else None


def wilson(successes: int, trials: int, z: float = Z_95) -> Interval | None:
    """The score interval of a binomial share; None without trials.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    Unlike the textbook's p ± z·s it stays within 0…1 and says something when p is 0 or 1.
    """
    if not trials:
        return None
    share, square = successes / trials, z * z
    centre = share + square / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    shrink = 1 + square / trials
    # At 0 and at 1 the bound is exact; rounding must not push it past them, nor past the share.
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / shrink)
    high = 1.0 if successes == trials else min(1.0, (centre + spread) / shrink)
    return Interval(low, high)
