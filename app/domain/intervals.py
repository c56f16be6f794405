"""How sure a figure is: the counts behind a share, the interval in which the true one lies, how far
two shares or two samples of lengths lie apart, and why an estimate is not given at all.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise, repeat
from operator import sub
from typing import Final

Z_95: Final = 1.959963984540054
"""The standard normal quantile of 0.975: 95 % lie within ±z."""


MIN_CASES: Final = 6
"""No quantile of a curve from fewer ends, no shift between samples of fewer.

Six is where nonparametric certainty begins: the whole range of n lengths holds the true median
with probability 1 - 2·0.5^n, which first reaches 95 % at n = 6. From fewer, no 95 % interval for
it exists that does not assume a shape.
"""

_SORTED: Final = 50_000  # differences that are sorted sooner than cut once more
_SAMPLED: Final = 2_048  # differences that a pivot is drawn from
_BESIDE: Final = 1 / 32  # how far from a rank to cut: beyond what the sample may be wrong by


class Silence(StrEnum):
    """Why an estimate is null."""

    TOO_FEW_CASES = "too_few_cases"
    NOT_REACHED = "not_reached"
    ENDED_ONLY = "ended_only"


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


def newcombe(share: Proportion, against: Proportion) -> Interval | None:
    """The 95 % interval of the difference share - against of two independent shares.

    None where either has no interval of its own. Newcombe, Interval Estimation for the Difference
    between Independent Proportions: Comparison of Eleven Methods, Statistics in Medicine 17 (1998),
    method 10: the two Wilson intervals, squared and added. It stays within -1…1.
    """
    one, other = share.interval, against.interval
    if one is None or other is None:
        return None
    p, q = share.count / share.of, against.count / against.of
    return Interval(
        p - q - math.hypot(p - one.low, other.high - q),
        p - q + math.hypot(one.high - p, q - other.low),
    )


@dataclass(frozen=True, slots=True)
class Shift:
    """How much longer one sample's lengths are than another's; null for a `reason`."""

    estimate: float | None = None
    interval: Interval | None = None
    reason: Silence | None = Silence.TOO_FEW_CASES


def hodges_lehmann(lengths: Sequence[int], against: Sequence[int]) -> Shift:
    """The median of all differences (one of `lengths` - one of `against`), with a 95 % interval.

    Hodges & Lehmann, Estimates of Location Based on Rank Tests, Ann. Math. Statistics 34 (1963).
    The interval is Moses's, which assumes no shape, by the large-sample approximation of its rank
    (Hollander & Wolfe, Nonparametric Statistical Methods, 2nd ed., 4.2 and 4.3), rounded outwards
    and without the correction for ties: ties only lessen the variance, so it is never too narrow.
    Whole numbers (microseconds, Python's own int), so that every figure is a true difference,
    exactly; 50,000 against 50,000 take about a second.
    """

    def differences_at(ranks: list[int]) -> list[int]:
        # A difference is a sum with the other sample negated; the shorter one is walked through.
        rows, columns = sorted((sorted(lengths), sorted(-length for length in against)), key=len)
        whole = [0] * len(rows), [len(columns)] * len(rows)
        return _order_statistics(rows, columns, *whole, 0, ranks)

    return shift(len(lengths), len(against), differences_at)


def shift(n: int, m: int, differences_at: Callable[[list[int]], list[int]]) -> Shift:
    """What `hodges_lehmann` says of samples of n and m lengths, by the few differences it names.

    `differences_at` tells those at given ranks, ascending from 1, of all n × m in order.
    """
    if min(n, m) < MIN_CASES:
        return Shift()
    spread = Z_95 * math.sqrt(n * m * (n + m + 1) / 12)
    outer = max(1, math.floor(n * m / 2 - spread))
    ranks = [outer, (n * m + 1) // 2, n * m // 2 + 1, n * m + 1 - outer]
    low, below, above, high = differences_at(ranks)
    return Shift((below + above) / 2, Interval(float(low), float(high)), None)


def _order_statistics(
    rows: Sequence[int],
    columns: Sequence[int],
    starts: Sequence[int],
    stops: Sequence[int],
    less: int,
    ranks: list[int],
) -> list[int]:
    """The sums of a row and a column at these ranks (from 1), without forming all of them.

    A quickselect after Johnson & Mizoguchi (Selecting the Kth Element in X + Y, SIAM J. Computing
    7, 1978): what is left of the matrix, a range of columns in every row with `less` sums beneath
    it all, is cut at a pivot by one binary search a row, until few enough are left to sort. The
    pivot is one of evenly spaced sums, so that it cuts just beside the ranks that are looked for.
    """
    ends = list(accumulate(map(sub, stops, starts)))
    if ends[-1] <= len(rows) + _SORTED:
        left = sorted(
            row + column
            for row, start, stop in zip(rows, starts, stops, strict=True)
            for column in columns[start:stop]
        )
        return [left[rank - less - 1] for rank in ranks]
    sample = []
    for nth in range(_SAMPLED):
        place = (2 * nth + 1) * ends[-1] // (2 * _SAMPLED)
        row = bisect_right(ends, place)
        sample.append(rows[row] + columns[stops[row] - (ends[row] - place)])
    cut = cut_at([(rank - less) / ends[-1] for rank in ranks])
    pivot = sorted(sample)[int(cut * (_SAMPLED - 1))]

    wanted = list(map(sub, repeat(pivot), rows))
    to = list(map(bisect_left, repeat(columns), wanted, starts, stops))
    past = list(map(bisect_right, repeat(columns), wanted, to, stops))
    under, up_to = (less + sum(map(sub, ends, starts)) for ends in (to, past))
    lower = [rank for rank in ranks if rank <= under]
    upper = [rank for rank in ranks if rank > up_to]
    return [
        *(_order_statistics(rows, columns, starts, to, less, lower) if lower else ()),
        *repeat(pivot, len(ranks) - len(lower) - len(upper)),
        *(_order_statistics(rows, columns, past, stops, up_to, upper) if upper else ()),
    ]


def cut_at(marks: Sequence[float]) -> float:
    """Where from 0 to 1 to cut off most of what holds none of the marks."""
    edges = (0.0, *marks, 1.0)
    _, widest = max((high - low, at) for at, (low, high) in enumerate(pairwise(edges)))
    if widest == 0:
        return max(0.0, marks[0] - _BESIDE)
    if widest == len(marks):
        return min(1.0, marks[-1] + _BESIDE)
    return (edges[widest] + edges[widest + 1]) / 2
