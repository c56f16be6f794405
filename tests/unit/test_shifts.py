"""The shift of large samples is the one that the definition gives, to the microsecond."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import intervals
from app.domain.intervals import MIN_CASES, Shift
from app.storage.queries import shifts
from app.storage.queries.shifts import hodges_lehmann

lengths_of_any_kind = st.lists(st.integers(0, 10**15), max_size=40) | st.lists(
    st.integers(0, 30), max_size=40
)


def shift(lengths: list[int], against: list[int]) -> Shift:
    return hodges_lehmann(*(np.array(sorted(of), dtype=np.int64) for of in (lengths, against)))


@given(lengths=lengths_of_any_kind, against=lengths_of_any_kind, sort=st.booleans())
def test_a_shift_is_that_of_the_definition(
    lengths: list[int], against: list[int], sort: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not sort:  # but cut until nothing is left
            patch.setattr(shifts, "_SORTED", -1_000)
            patch.setattr(shifts, "_SAMPLED", 4)
        assert shift(lengths, against) == intervals.hodges_lehmann(lengths, against)


@pytest.mark.parametrize(("n", "m"), [(2_000, 1_500), (MIN_CASES, 400_000), (400_000, MIN_CASES)])
def test_a_shift_is_exact_where_the_differences_are_too_many_to_sort(n: int, m: int) -> None:
    chance = random.Random(f"{n} {m}")
    lengths = [int(chance.lognormvariate(26, 1.5)) for _ in range(n)]
    against = [int(chance.lognormvariate(26.1, 1)) for _ in range(m)]
    assert shift(lengths, against) == intervals.hodges_lehmann(lengths, against)
