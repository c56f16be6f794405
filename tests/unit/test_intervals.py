"""Shares and how sure they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.domain.intervals import Z_95, Proportion, wilson

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
