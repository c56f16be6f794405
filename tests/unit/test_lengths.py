"""Lengths in arrays come to the same as in plain Python, however many and however long they are."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.durations import risk_of
from app.storage.queries.lengths import in_order, risk, summed, together

LONGEST = 2**53
"""In microseconds, 285 years: up to there a double holds every length."""

samples = st.lists(st.integers(0, LONGEST), max_size=30)


@given(lengths=samples, times=st.integers(1, 100))
@example(lengths=[LONGEST], times=3_000)
def test_the_sum_is_exact(lengths: list[int], times: int) -> None:
    assert summed(np.array(lengths * times, dtype=np.int64)) == sum(lengths) * times


@given(several=st.lists(samples, max_size=4))
def test_samples_together_are_one_in_order(several: list[list[int]]) -> None:
    held = [in_order(np.array(each, dtype=np.int64)) for each in several]
    assert together(held).tolist() == sorted(length for each in several for length in each)


@given(ended=samples, running=samples)
def test_a_survival_estimate_is_the_definition_to_the_digit(
    ended: list[int], running: list[int]
) -> None:
    # False before True: who has ended stands before who is still running there.
    order = sorted([(length, False) for length in ended] + [(length, True) for length in running])
    places = [place for place, (_, is_running) in enumerate(order, 1) if is_running]
    defined = risk_of(len(order), places)
    found = risk(*(in_order(np.array(each, dtype=np.int64)) for each in (ended, running)))
    assert (found.total, found.censored) == (defined.total, defined.censored)
    assert (*found.before,) == (*defined.before,)
    assert (*found.weights,) == (*defined.weights,)
