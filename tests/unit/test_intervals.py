"""Shares and shifts, and how sure they are."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.domain import intervals
from app.domain.intervals import (
    MIN_CASES,
    Z_95,
    Proportion,
    Shift,
    Silence,
    hodges_lehmann,
    newcombe,
    wilson,
)

DAY = 86_400 * 10**6

shares = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_z_is_the_normal_quantile() -> None:
    assert pytest.approx(stats.norm.ppf(0.975), rel=1e-14) == Z_95


@given(share=shares)
def test_the_interval_is_wilsons(share: tuple[int, int]) -> None:
    found = wilson(*share)
    expected = stats.binomtest(*share).proportion_ci(0.95, method="wilson")
    assert found is not None
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


@given(share=shares)
def test_the_interval_holds_the_share_and_stays_between_0_and_1(share: tuple[int, int]) -> None:
    count, of = share
    proportion = Proportion(count, of)
    assert proportion.rate is not None
    assert proportion.interval is not None
    assert 0 <= proportion.interval.low <= proportion.rate <= proportion.interval.high <= 1


def test_of_nothing_there_is_no_share() -> None:
    assert Proportion(0, 0).rate is None
    assert Proportion(0, 0).interval is None


def test_visits_of_one_deal_have_a_share_but_no_interval() -> None:
    assert Proportion(1, 2, independent=False).rate == 0.5
    assert Proportion(1, 2, independent=False).interval is None


# The difference of two shares


@pytest.mark.parametrize(
    ("share", "against", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_a_difference_of_shares_is_as_newcombe_published_it(
    share: tuple[int, int], against: tuple[int, int], low: float, high: float
) -> None:
    # Statistics in Medicine 17 (1998), table II, method 10
    found = newcombe(Proportion(*share), Proportion(*against))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.00005)


@given(share=shares, against=shares)
def test_a_difference_lies_in_its_interval_and_turns_with_it(
    share: tuple[int, int], against: tuple[int, int]
) -> None:
    one, other = Proportion(*share), Proportion(*against)
    there, back = newcombe(one, other), newcombe(other, one)
    assert there is not None
    assert back is not None
    assert one.rate is not None
    assert other.rate is not None
    assert -1 <= there.low <= one.rate - other.rate <= there.high <= 1
    assert (-back.high, -back.low) == pytest.approx((there.low, there.high), abs=1e-15)


def test_two_shares_are_compared_only_where_both_have_an_interval() -> None:
    half = Proportion(1, 2)
    assert newcombe(half, Proportion(0, 0)) is None
    assert newcombe(Proportion(0, 0), half) is None
    assert newcombe(half, Proportion(1, 2, independent=False)) is None


# The shift between two samples of lengths


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([0.9, 0.95], 0.9 - 1 / 32),  # most holds none before the first: cut just beside it
        ([0.01, 0.02], 0.02 + 1 / 32),
        ([0.02], 0.02 + 1 / 32),
        ([0.2, 0.9], (0.2 + 0.9) / 2),  # and in the middle of a gap between two
        ([0.1, 0.2, 0.3, 0.8], (0.3 + 0.8) / 2),
        ([0.0], 1 / 32),
        ([1.0], 1 - 1 / 32),
    ],
)
def test_a_cut_takes_off_most_of_what_is_not_looked_for(
    marks: list[float], expected: float
) -> None:
    assert intervals.cut_at(marks) == pytest.approx(expected)


def by_brute_force(lengths: list[int], against: list[int]) -> tuple[float, float, float]:
    """The median of all differences, and the interval by its definition, in numpy."""
    differences = np.sort(np.subtract.outer(lengths, against), axis=None)
    n, m = len(lengths), len(against)
    rank = math.floor(n * m / 2 - stats.norm.ppf(0.975) * math.sqrt(n * m * (n + m + 1) / 12))
    return float(np.median(differences)), differences[rank - 1], differences[-rank]


def figures(shift: Shift) -> tuple[float | None, float, float]:
    assert shift.interval is not None
    return shift.estimate, shift.interval.low, shift.interval.high


def test_a_shift_is_the_published_one() -> None:
    # Fuel economy (Henderson & Velleman, Biometrics 37, 1981), automatic against manual, in tenths
    # of a mile per gallon; R's wilcox.test gives -6.799963 and (-11.699922, -2.900003).
    automatic = [214, 187, 181, 143, 244, 228, 192, 178, 164, 173, 152, 104, 104, 147, 215]
    automatic += [155, 152, 133, 192]
    manual = [210, 210, 228, 324, 304, 339, 273, 260, 304, 158, 197, 150, 214]
    assert figures(hodges_lehmann(automatic, manual)) == (-68, -117, -29)


@given(
    lengths=st.lists(st.integers(0, 10**15), min_size=MIN_CASES, max_size=40),
    against=st.lists(st.integers(0, 10**15), min_size=MIN_CASES, max_size=40),
)
def test_a_shift_is_the_median_of_all_differences(lengths: list[int], against: list[int]) -> None:
    assert figures(hodges_lehmann(lengths, against)) == by_brute_force(lengths, against)


KINDS: dict[str, Callable[[random.Random], int]] = {
    "spread over years": lambda chance: int(chance.lognormvariate(2, 1.5) * DAY),
    "with a heavy tail": lambda chance: int(chance.paretovariate(0.8) * DAY),
    "in whole days": lambda chance: int(chance.lognormvariate(1, 1)) * DAY,
    "mostly nothing": lambda chance: chance.choice((0, 0, int(chance.expovariate(1) * DAY))),
    "all the same": lambda _: DAY,
    "in two heaps": lambda chance: chance.choice((0, 400 * DAY)) + chance.randrange(1000),
    "next to each other": lambda chance: chance.randrange(30),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), [(900, 700), (60, 9_000), (9_000, 60)])
def test_a_shift_is_exact_where_the_differences_are_too_many_to_sort(
    kind: str, n: int, m: int
) -> None:
    chance = random.Random(f"{kind} {n} {m}")
    lengths = [KINDS[kind](chance) for _ in range(n)]
    against = [KINDS[kind](chance) for _ in range(m)]
    assert figures(hodges_lehmann(lengths, against)) == by_brute_force(lengths, against)


@given(
    lengths=st.lists(st.integers(0, 50), min_size=MIN_CASES, max_size=15),
    against=st.lists(st.integers(0, 50), min_size=MIN_CASES, max_size=15),
)
def test_a_shift_is_found_by_cutting_alone_as_well_as_by_sorting(
    lengths: list[int], against: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_SORTED", -1_000)
        patch.setattr(intervals, "_SAMPLED", 4)
        assert figures(hodges_lehmann(lengths, against)) == by_brute_force(lengths, against)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=MIN_CASES, max_size=20),
    against=st.lists(st.integers(0, 30), min_size=MIN_CASES, max_size=20),
    later=st.integers(0, 10**12),
)
def test_what_takes_longer_by_so_much_is_shifted_by_so_much(
    lengths: list[int], against: list[int], later: int
) -> None:
    estimate, low, high = figures(hodges_lehmann(lengths, against))
    assert estimate is not None
    assert low <= estimate <= high
    delayed = hodges_lehmann([length + later for length in lengths], against)
    assert figures(delayed) == (estimate + later, low + later, high + later)
    assert figures(hodges_lehmann(against, lengths)) == (-estimate, -high, -low)


@pytest.mark.parametrize("n", [6, 7, 8, 10, 15, 25])
@pytest.mark.parametrize("m", [6, 9, 20, 40])
def test_the_interval_of_a_shift_holds_the_true_one_in_95_of_100(n: int, m: int) -> None:
    # The differences are 0, 1, 2 … n·m - 1, so the lower bound tells its own rank. The interval
    # misses when at most so many differences as lie under it are on one side of the truth; how
    # many are is distributed as Mann and Whitney's U.
    found = hodges_lehmann([m * nth for nth in range(n)], [-nth for nth in range(m)])
    _, low, high = figures(found)
    assert low + high == n * m - 1
    below = int(low)  # so many differences lie under the interval
    assert mann_whitney_at_most(below, n, m) <= 0.025


def mann_whitney_at_most(u: int, n: int, m: int) -> float:
    """P(U <= u) without ties, by the recursion of Mann & Whitney (1947), as counts."""
    counts = [1] + [0] * u
    for size in range(1, n + 1):  # times (1 - q^(m+size)) / (1 - q^size), a Gaussian binomial
        for at in range(u, m + size - 1, -1):
            counts[at] -= counts[at - m - size]
        for at in range(size, u + 1):
            counts[at] += counts[at - size]
    return sum(counts) / math.comb(n + m, n)


def test_from_the_fewest_cases_on_their_range_holds_the_median_in_95_of_100() -> None:
    def sure(cases: int) -> float:
        return 1 - 2 * 0.5**cases  # all of them on one side of the median: one way or the other

    assert sure(MIN_CASES - 1) < 0.95 <= sure(MIN_CASES)


def test_too_few_lengths_have_no_shift() -> None:
    enough = list(range(MIN_CASES))
    assert hodges_lehmann(enough, enough[1:]) == Shift(None, None, Silence.TOO_FEW_CASES)
    assert hodges_lehmann([], enough) == Shift(None, None, Silence.TOO_FEW_CASES)
    assert hodges_lehmann(enough, enough).reason is None
