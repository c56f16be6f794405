"""Suggested thresholds: percentile, its interval, the point where half the chance is gone."""

from datetime import timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.domain.durations import microseconds
from app.domain.intervals import MIN_CASES, Silence
from app.domain.measures.idle_suggestions import (
    MIN_WON,
    SHARE,
    Halving,
    halved,
    quantile_ranks,
    rounded_up,
    suggest,
)
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from tests.factories import OFFICE

DAY = 86_400_000_000


@given(cases=st.integers(1, 3_000), share=st.sampled_from((0.1, 0.5, 0.85, 0.99)))
def test_the_ranks_leave_at_most_a_fortieth_on_either_side_and_no_others_are_closer(
    cases: int, share: float
) -> None:
    below, ranks = stats.binom(cases, share), np.arange(1, cases + 1)
    lows = ranks[below.cdf(ranks - 1) <= 0.025]
    highs = ranks[below.sf(ranks - 1) <= 0.025]
    expected = (lows.max(), highs.min()) if len(lows) and len(highs) else None
    assert quantile_ranks(cases, share) == expected


def test_the_ranks_of_a_million_are_found_at_once() -> None:
    below = stats.binom(1_000_000, SHARE)
    low, high = quantile_ranks(1_000_000, SHARE) or (0, 0)
    assert below.cdf(low - 1) <= 0.025 < below.cdf(low)
    assert below.sf(high - 1) <= 0.025 < below.sf(high - 2)


def test_a_suggestion_begins_where_an_interval_of_its_percentile_exists() -> None:
    assert quantile_ranks(MIN_WON - 1, SHARE) is None
    assert quantile_ranks(MIN_WON, SHARE) is not None
    stays = [n * DAY for n in range(1, MIN_WON)]
    thin = suggest(stays, 7, IdleRule())
    assert (thin.won, thin.lost, thin.reason) == (MIN_WON - 1, 7, Silence.TOO_FEW_CASES)
    assert (thin.p85, thin.interval, thin.rule) == (None, None, None)


def test_the_suggested_rule_counts_all_time_since_the_stage_was_entered() -> None:
    present = IdleRule(
        clock=IdleClock.INACTIVITY,
        after=Period(days=2),
        after_by_priority={"low": None},
        calendar=OFFICE,
    )
    found = suggest([n * DAY for n in range(1, 31)], 0, present)
    assert found.p85 == pytest.approx(25.65 * DAY)
    assert found.rule is not None
    assert (found.rule.clock, found.rule.calendar) == (IdleClock.STAGE_AGE, None)
    assert found.rule.after == Period(days=26)
    assert found.rule.after_by_priority == {"low": None}
    assert found.interval is not None
    assert found.interval.low <= found.p85 <= found.interval.high


@pytest.mark.parametrize(
    ("stay", "period"),
    [
        (timedelta(0), "PT1H"),
        (timedelta(minutes=61), "PT2H"),
        (timedelta(hours=23), "PT23H"),
        (timedelta(hours=23, microseconds=1), "P1D"),
        (timedelta(days=1), "P1D"),
        (timedelta(days=1, microseconds=1), "P2D"),
        (timedelta(days=400_000), "P36525D"),
    ],
)
def test_thresholds_are_whole_days_or_hours_where_less_than_a_day_never_shorter_than_the_stay(
    stay: timedelta, period: str
) -> None:
    assert str(rounded_up(microseconds(stay))) == period


def test_half_the_chance_is_gone_where_the_share_of_the_won_is_half_of_what_it_was() -> None:
    won, lost = [n * DAY for n in range(1, 31)], [40 * DAY] * 30
    # 30 of 60 at first; beyond the 20th day 10 of 40.
    assert halved(won, lost) == Halving(20 * DAY, 40, 10, None)


def test_the_chance_of_deals_that_are_all_won_never_halves() -> None:
    assert halved([n * DAY for n in range(1, 31)], []).reason is Silence.NOT_REACHED


def test_nothing_is_said_of_the_chance_from_fewer_than_six_won_deals() -> None:
    assert halved([DAY] * (MIN_CASES - 1), [2 * DAY] * 50).reason is Silence.TOO_FEW_CASES
    assert halved([DAY] * MIN_CASES, [2 * DAY] * 50) == Halving(DAY, 50, 0, None)


def test_fewer_than_six_deals_that_stayed_longer_prove_nothing() -> None:
    assert halved([DAY] * 9, [2 * DAY] * (MIN_CASES - 1)).reason is Silence.NOT_REACHED


lengths = st.lists(st.integers(0, 30), max_size=25)


@given(won=lengths, lost=lengths)
def test_the_halving_is_the_first_instant_at_which_its_definition_holds(
    won: list[int], lost: list[int]
) -> None:
    found, every = halved(won, lost), [*won, *lost]

    def holds(after: int) -> bool:
        still = [stay for stay in every if stay > after]
        still_won = [stay for stay in won if stay > after]
        return len(still) >= MIN_CASES and Fraction(len(still_won), len(still)) <= Fraction(
            len(won), 2 * len(every)
        )

    if found.after is None:
        assert len(won) < MIN_CASES or not any(holds(after) for after in range(31))
    else:
        assert holds(found.after)
        assert not any(holds(after) for after in range(found.after))
