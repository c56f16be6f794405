"""Quantiles and summaries of lengths of time."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.durations import NOTHING, QUANTILES, microseconds, quantile, summary

lengths = st.lists(st.integers(0, 10**15), min_size=1, max_size=50)


@given(lengths=lengths, share=st.floats(0, 1))
def test_a_quantile_is_numpys_default_one(lengths: list[int], share: float) -> None:
    expected = np.quantile(np.array(lengths, dtype=float), share)
    assert quantile(sorted(lengths), share) == pytest.approx(expected, rel=1e-12, abs=1e-6)


@given(lengths=lengths)
def test_a_summary_agrees_with_numpy(lengths: list[int]) -> None:
    found = summary(lengths)
    values = np.array(lengths, dtype=float)
    expected = [values.mean(), *np.quantile(values, (0.25, *QUANTILES)), values.max()]
    assert found.count == len(lengths)
    shown = [found.mean, found.p25, found.p50, found.p75, found.p90, found.p95, found.longest]
    assert shown == pytest.approx(expected, rel=1e-12, abs=1e-6)


def test_between_two_lengths_the_quantile_lies_on_the_line() -> None:
    assert quantile([10, 20], 0.5) == 15
    assert quantile([10, 20, 40], 0.75) == 30


def test_of_nothing_there_is_nothing_to_say() -> None:
    assert summary([]) == NOTHING
    assert NOTHING.count == 0
    assert NOTHING.mean is None


def test_a_length_in_microseconds_is_exact() -> None:
    assert microseconds(timedelta(days=36_525, microseconds=1)) == 36_525 * 86_400 * 10**6 + 1
    longer = timedelta(days=146_097, microseconds=1)  # than a double tells microseconds apart
    assert microseconds(longer) == 146_097 * 86_400 * 10**6 + 1
