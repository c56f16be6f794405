"""Columns that a worker keeps: no more than there is room for, and what is asked for again."""

from collections.abc import Iterator
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.segments import kept
from app.storage.segments.kept import Kept, Name

ROOM = 1_000
VALUES = np.empty(0, dtype=np.int64)


@pytest.fixture(autouse=True, scope="module")
def _room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "MOST_BYTES", ROOM)
        yield


def name(number: int) -> Name:
    return UUID(int=number), "deal.opened_at"


def asked(columns: Kept, number: int, size: int) -> bool:
    """Whether it had to be read, as it is where it was not kept."""
    missing = columns.get(name(number)) is None
    if missing:
        columns.put(name(number), VALUES, size)
    return missing


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 2 * ROOM)), max_size=200))
def test_never_more_is_kept_than_there_is_room_for(asks: list[tuple[int, int]]) -> None:
    columns, sizes = Kept(), {}
    for number, size in asks:
        if asked(columns, number, size):
            sizes[number] = size
        there = [size for each, size in sizes.items() if columns.get(name(each)) is not None]
        assert sum(there) == columns.bytes <= ROOM


def test_what_fits_is_read_once() -> None:
    columns = Kept()
    read = [asked(columns, number, 10) for _ in range(5) for number in range(100)]
    assert read.count(True) == 100


def test_of_a_little_more_than_fits_asked_for_in_turn_most_is_kept() -> None:
    columns = Kept()
    for number in (*range(103),) * 10:
        asked(columns, number, 10)
    read = [asked(columns, number, 10) for _ in range(10) for number in range(103)]
    assert read.count(True) < len(read) / 2  # the one used longest ago would be missed every time


def test_what_is_asked_for_again_and_again_outlives_what_is_asked_for_once() -> None:
    columns = Kept()
    read = 0
    for other in range(1, 2_000):
        read += asked(columns, 0, 10)
        asked(columns, other, 10)
    assert read < 20
