"""Kaplan-Meier and Aalen-Johansen: how long things last when some are still running."""

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import AalenJohansenFitter, KaplanMeierFitter

from app.domain.durations import (
    DRAWN,
    QUANTILES,
    Incidence,
    Quantiles,
    competing_points,
    incidence_curve,
    incidence_quantiles,
    risk_of,
    survival_curve,
    survival_quantiles,
)
from app.domain.intervals import MIN_CASES, Silence

CAUSES = ("won", "lost", "handed_off")

few_lengths = st.lists(st.integers(0, 12), max_size=25)  # so few values that most are ties
by_cause = st.fixed_dictionaries(dict.fromkeys(CAUSES, few_lengths))
seeds = st.integers(0, 2**32)


# The definitions, as the textbooks write them: exact, and blind to everything made for speed.


def survival_by_definition(ended: Sequence[int], running: Sequence[int], length: int) -> Fraction:
    """The product of 1 - d/n over the lengths at which some end."""
    share = Fraction(1)
    for at in sorted({end for end in ended if end <= length}):
        share *= 1 - Fraction(ended.count(at), still_under_way(ended, running, at))
    return share


def incidence_by_definition(
    ended: Mapping[str, Sequence[int]], running: Sequence[int], cause: str, length: int
) -> Fraction:
    """The sum of S(t-) · d/n over the lengths at which some end by the cause."""
    every = [end for lengths in ended.values() for end in lengths]
    share = Fraction(0)
    for at in sorted({end for end in ended[cause] if end <= length}):
        before = survival_by_definition(every, running, at - 1)
        share += before * Fraction(ended[cause].count(at), still_under_way(every, running, at))
    return share


def still_under_way(ended: Sequence[int], running: Sequence[int], length: int) -> int:
    return sum(each >= length for each in (*ended, *running))


def first_to_meet(lengths: Iterable[int], met: Mapping[int, bool]) -> int | None:
    return next((length for length in sorted(lengths) if met[length]), None)


def shown(quantiles: Quantiles) -> list[float | None]:
    return [quantiles.p50, quantiles.p75, quantiles.p90, quantiles.p95]


def exactly(share: float) -> Fraction:
    return Fraction(str(share))


def lasting(seed: int, size: int) -> tuple[dict[str, list[int]], list[int]]:
    """A large sample: lengths by cause, and those of the running."""
    chance = random.Random(seed)
    grain = chance.choice((1, 20_000))
    ended: dict[str, list[int]] = {cause: [] for cause in CAUSES}
    running: list[int] = []
    lists = [ended["won"], ended["lost"], ended["lost"], ended["handed_off"], running]
    for _ in range(size):
        chance.choice(lists).append(int(chance.lognormvariate(12, 1)) // grain * grain)
    return ended, running


# Kaplan and Meier


@given(ended=few_lengths, running=few_lengths)
def test_the_curve_is_the_product_of_those_who_stay(ended: list[int], running: list[int]) -> None:
    points = survival_curve(ended, running)
    assert [point.length for point in points] == sorted(set(ended))
    for point in points:
        length = int(point.length)
        expected = survival_by_definition(ended, running, length)
        assert point.survival == pytest.approx(float(expected), rel=1e-12)
        left = sum(each > length for each in ended) + sum(each >= length for each in running)
        assert point.at_risk == left


@given(ended=few_lengths, running=few_lengths)
def test_a_quantile_is_the_first_length_that_few_enough_outlast(
    ended: list[int], running: list[int]
) -> None:
    found = survival_quantiles(ended, running)
    assert found.cases == len(ended) + len(running)
    if len(ended) < MIN_CASES:
        assert shown(found) == [None] * len(QUANTILES)
        assert found.reason is Silence.TOO_FEW_CASES
        return
    survival = {end: survival_by_definition(ended, running, end) for end in ended}
    expected = [
        first_to_meet(ended, {end: share <= 1 - exactly(p) for end, share in survival.items()})
        for p in QUANTILES
    ]
    assert shown(found) == expected
    assert found.reason is (Silence.NOT_REACHED if None in expected else None)


@given(ended=few_lengths, running=few_lengths)
def test_curve_and_interval_are_those_of_lifelines(ended: list[int], running: list[int]) -> None:
    if not ended:
        return
    lengths, observed = [*ended, *running], [1] * len(ended) + [0] * len(running)
    theirs = KaplanMeierFitter().fit(lengths, observed)
    bounds = theirs.confidence_interval_
    for point in survival_curve(ended, running):
        assert point.survival == pytest.approx(theirs.predict(point.length), rel=1e-9, abs=1e-12)
        if point.interval is None:
            assert point.survival == 0
            continue
        low, high = bounds.loc[point.length]
        assert point.interval.low == pytest.approx(low, rel=1e-9, abs=1e-12)
        assert point.interval.high == pytest.approx(high, rel=1e-9, abs=1e-12)


def test_the_leukaemia_remissions_come_out_as_published() -> None:
    # 6-MP arm of Freireich et al., Blood 21 (1963), in weeks; estimate and Greenwood's standard
    # error as tabulated in Cox & Oakes, Analysis of Survival Data (1984), and Kleinbaum & Klein.
    ended = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    running = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    published = {
        6: (0.857, 0.0764),
        7: (0.807, 0.0869),
        10: (0.753, 0.0963),
        13: (0.690, 0.1068),
        16: (0.627, 0.1141),
        22: (0.538, 0.1282),
        23: (0.448, 0.1346),
    }
    points = survival_curve(ended, running)
    assert [point.length for point in points] == list(published)
    for point, (survival, error) in zip(points, published.values(), strict=True):
        assert point.survival == pytest.approx(survival, abs=0.0006)
        reach = np.exp(1.96 * error / (survival * -np.log(survival)))
        assert point.interval is not None
        assert point.interval.low == pytest.approx(survival**reach, abs=0.002)
        assert point.interval.high == pytest.approx(survival ** (1 / reach), abs=0.002)
    quantiles = survival_quantiles(ended, running)
    assert quantiles == Quantiles(21, p50=23, reason=Silence.NOT_REACHED)


@pytest.mark.parametrize("size", [10, 20, 100, 1_000, 10_000])
def test_nine_of_ten_ended_are_ninety_percent(size: int) -> None:
    found = survival_quantiles(range(1, size + 1), [])
    assert shown(found) == [-(-size * exactly(p) // 1) for p in QUANTILES]


def test_a_level_met_exactly_behind_censorings_is_met_in_spite_of_rounding() -> None:
    # after `first` ends some are censored: S = (n-first)/n · (rest-m)/rest, often 1/2, 1/4, 1/10 …
    met_exactly = 0
    for size in range(8, 60):
        for first in range(1, 4):
            for censored in range(1, size - first):
                risk = risk_of(size, range(first + 1, first + censored + 1))
                rest = size - first - censored
                for share in QUANTILES:
                    kept = (1 - exactly(share)) * Fraction(size, size - first) * rest
                    needed = max(0, -(-(rest - kept) // 1))  # ends after the censored, rounded up
                    met_exactly += kept == rest - needed
                    assert risk.end_at(share) == first + needed
    assert met_exactly > 50


def test_a_leaving_comes_before_a_censoring_at_the_same_length() -> None:
    # All six leave at 5 while the seventh is still there at 5: it was at risk for each of them.
    (point,) = survival_curve([5] * 6, [5])
    assert (point.survival, point.at_risk) == (pytest.approx(1 / 7), 1)


def test_before_the_first_end_all_last_and_nothing_is_estimated() -> None:
    (point,) = risk_of(3, (1,)).points([(0, 0)])
    assert (point.at_risk, point.survival, point.interval) == (3, 1.0, None)


def test_no_share_is_too_large_to_be_asked_for() -> None:
    assert (risk_of(10).end_at(1), risk_of(10, (10,)).end_at(1)) == (10, None)
    assert (risk_of(10).end_at(0), risk_of(0).end_at(0)) == (1, None)
    assert risk_of(0).survival(0) == 1


def test_a_curve_that_nobody_has_left_is_empty() -> None:
    assert survival_curve([], [1, 2, 3]) == []
    assert survival_quantiles([], [1, 2, 3]) == Quantiles(3)
    assert survival_quantiles([], []) == Quantiles(0, reason=Silence.TOO_FEW_CASES)


# The order in which a database numbers the lengths


@given(ended=few_lengths, running=few_lengths)
def test_the_places_of_the_censored_tell_the_places_of_the_ends(
    ended: list[int], running: list[int]
) -> None:
    order = sorted([(length, False) for length in ended] + [(length, True) for length in running])
    numbered = list(enumerate((censored for _, censored in order), 1))
    risk = risk_of(len(order), tuple(place for place, censored in numbered if censored))
    ends = [place for place, censored in numbered if not censored]
    assert [risk.place(end) for end in range(1, risk.ends + 1)] == ends
    assert [risk.ends_by(place) for place, _ in numbered] == [
        bisect_right(ends, place) for place, _ in numbered
    ]


# Thinning


@given(seed=seeds, size=st.integers(1_000, 2_000))
def test_a_thinned_curve_has_every_quantile_and_no_gap(seed: int, size: int) -> None:
    by, running = lasting(seed, size)
    ended = sorted(length for lengths in by.values() for length in lengths)
    points = survival_curve(ended, running)
    assert len(points) <= DRAWN
    assert points[-1].length == ended[-1]
    quantiles = survival_quantiles(ended, running)
    for share, expected in zip(QUANTILES, shown(quantiles), strict=True):
        read = [p.length for p in points if p.survival <= (1 - share) * (1 + 1e-9)]
        assert (read[0] if read else None) == expected
    levels = [1.0, *(point.survival for point in points)]
    ties = max(Counter(ended).values()) + 1
    coarsest = 1 / 150 + ties / size * 8  # one step of level, and the fall of one length
    assert all(0 < high - low <= coarsest for high, low in pairwise(levels))


@given(seed=seeds)
def test_a_curve_can_be_drawn_coarser(seed: int) -> None:
    by, running = lasting(seed, 500)
    ended = sorted(length for lengths in by.values() for length in lengths)
    places = [bisect_right(ended, length) + nth for nth, length in enumerate(sorted(running), 1)]
    risk = risk_of(500, places)
    drawn = risk.drawn(20)
    assert len(drawn) <= 20
    assert {risk.end_at(share) for share in QUANTILES} - {None} <= set(drawn)
    assert drawn[-1] == risk.ends


def test_a_curve_is_drawn_whole_as_long_as_it_may_be() -> None:
    assert risk_of(DRAWN).drawn() == tuple(range(1, DRAWN + 1))


def test_a_thinned_curve_falls_from_point_to_point_by_the_same() -> None:
    # Half of them end before the others are censored: no quantile but the median, the last end.
    half = risk_of(1_000, range(501, 1_001))
    assert half.drawn(20) == tuple(range(25, 501, 25))
    assert len(risk_of(1_000).drawn(21)) == 21  # four quantiles, the last end, and all that may be


@pytest.mark.parametrize("ended", range(MIN_CASES))
def test_from_too_few_ends_no_quantile_is_even_looked_for(ended: int) -> None:
    risk = risk_of(ended)
    assert risk.quantile_ends() == Incidence(risk, (ended,)).quantile_ends() == (None,) * 4


# Aalen and Johansen


@given(ended=by_cause, running=few_lengths)
def test_the_incidence_of_a_cause_is_the_sum_of_what_it_takes(
    ended: dict[str, list[int]], running: list[int]
) -> None:
    points = incidence_curve(ended, running, "won")
    every = [n for lengths in ended.values() for n in lengths]
    assert [point.length for point in points] == sorted(set(every))
    for point in points:
        left = sum(n > point.length for n in every) + sum(n >= point.length for n in running)
        assert point.at_risk == left
        for cause, share in point.incidence.items():
            expected = incidence_by_definition(ended, running, cause, int(point.length))
            assert share == pytest.approx(float(expected), rel=1e-12)
        assert point.survival + sum(point.incidence.values()) == pytest.approx(1, rel=1e-12)


@given(ended=by_cause, running=few_lengths, cause=st.sampled_from(CAUSES))
def test_a_quantile_of_a_cause_is_the_first_length_by_which_it_took_enough(
    ended: dict[str, list[int]], running: list[int], cause: str
) -> None:
    found = incidence_quantiles(ended, running, cause)
    if len(ended[cause]) < MIN_CASES:
        assert (shown(found), found.reason) == ([None] * 4, Silence.TOO_FEW_CASES)
        return
    taken = {end: incidence_by_definition(ended, running, cause, end) for end in ended[cause]}
    expected = [
        first_to_meet(taken, {end: share >= exactly(p) for end, share in taken.items()})
        for p in QUANTILES
    ]
    assert shown(found) == expected
    assert found.reason is (Silence.NOT_REACHED if None in expected else None)


@settings(max_examples=40)  # each fit is slow, and Fractions have said it already
@given(
    cases=st.lists(
        st.tuples(st.integers(1, 10**6), st.sampled_from((*CAUSES, None))),
        min_size=2,
        max_size=40,
        unique_by=lambda case: case[0],  # lifelines moves ties about at random, and warns
    )
)
def test_the_incidence_is_that_of_lifelines(cases: list[tuple[int, str | None]]) -> None:
    codes = {cause: code for code, cause in enumerate((None, *CAUSES))}
    ended = {cause: [n for n, how in cases if how == cause] for cause in CAUSES}
    running = [length for length, how in cases if how is None]
    points = incidence_curve(ended, running, "won")
    for cause in CAUSES:
        if not ended[cause]:
            assert all(point.incidence[cause] == 0 for point in points)
            continue
        fitter = AalenJohansenFitter(calculate_variance=False)
        fitter.fit([n for n, _ in cases], [codes[how] for _, how in cases], codes[cause])
        theirs = fitter.cumulative_density_[fitter.cumulative_density_.columns[0]]
        for point in points:
            assert point.incidence[cause] == pytest.approx(theirs.loc[point.length], rel=1e-9)


@given(ended=few_lengths, running=few_lengths)
def test_with_a_single_cause_incidence_and_survival_are_one_curve(
    ended: list[int], running: list[int]
) -> None:
    points = incidence_curve({"left": ended}, running, "left")
    assert [p.survival for p in points] == [p.survival for p in survival_curve(ended, running)]
    assert incidence_quantiles({"left": ended}, running, "left") == survival_quantiles(
        ended, running
    )


def test_one_minus_kaplan_meier_would_promise_wins_that_losses_have_taken() -> None:
    # Six are won after six were lost: half of all is ever won, though the last to go was a win.
    found = incidence_quantiles({"won": range(7, 13), "lost": range(1, 7)}, [], "won")
    assert found == Quantiles(12, p50=12, reason=Silence.NOT_REACHED)
    assert survival_quantiles(range(7, 13), range(1, 7)).p95 == 12


@given(seed=seeds, cause=st.sampled_from(CAUSES))
def test_a_thinned_incidence_keeps_the_quantiles_of_its_cause(seed: int, cause: str) -> None:
    ended, running = lasting(seed, 1_200)
    ended[cause] += [length + 7 for length in running[::2]] * 9  # enough for some quantiles
    points = incidence_curve(ended, running, cause)
    assert len(points) <= DRAWN
    assert points[-1].length == max(n for of in ended.values() for n in of)
    quantiles = incidence_quantiles(ended, running, cause)
    assert quantiles.p50 is not None
    for share, expected in zip(QUANTILES, shown(quantiles), strict=True):
        read = [p.length for p in points if p.incidence[cause] >= share * (1 - 1e-9)]
        assert (read[0] if read else None) == expected


def test_the_ends_of_a_cause_count_among_those_drawn() -> None:
    risk = risk_of(1_000)
    of_all, own = Incidence(risk, (1_000,)).drawn(20)
    assert own == (500, 750, 900, 950)
    assert len(of_all) + len(own) <= 20
    assert of_all[-1] == 1_000


def test_before_anything_has_ended_all_are_at_risk_and_no_cause_has_any() -> None:
    risk = risk_of(6, (4,))
    causes = {"won": Incidence(risk, (2, 3)), "lost": Incidence(risk, (1, 2))}
    later, first = (3, {"won": 1, "lost": 1}), (0, {"won": 0, "lost": 0})
    begin, point = competing_points(causes, [later, first])
    assert (begin.length, begin.at_risk, begin.survival) == (0, 6, 1.0)
    assert begin.incidence == {"won": 0.0, "lost": 0.0}
    assert (point.length, point.at_risk) == (3, 4)


def test_incidence_is_known_from_counts_alone() -> None:
    # won at 1, 3, 6 and lost at 2, 5; running at 4: after it each end weighs a third of a half
    risk = risk_of(6, (4,))
    won, lost = Incidence(risk, (2, 3)), Incidence(risk, (1, 2))
    assert [won.share(ends) for ends in range(4)] == pytest.approx([0, 1 / 6, 2 / 6, 2 / 6 + 1 / 4])
    assert [lost.share(ends) for ends in range(3)] == pytest.approx([0, 1 / 6, 1 / 6 + 1 / 4])
    assert (won.end_at(1 / 3), won.end_at(0.6), lost.end_at(0.4)) == (2, None, 2)
    assert bisect_left([risk.place(end) for end in range(1, 6)], 5) == 3
