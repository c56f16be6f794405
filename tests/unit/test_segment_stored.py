"""What a segment keeps as the difference of columns is told as it was, and takes less room."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.storage.segments import frames
from app.storage.segments.columns import NOTHING
from app.storage.segments.frames import Frame
from app.storage.segments.stored import Stored, kept_as, needed, rows, told
from tests.columns import numbers

APART = ("deal.closed_at", "deal.moved_at", "deal.open_time", "visit.entered_at", "visit.lasted")


class Stay(NamedTuple):
    """A deal's row, in microseconds since the epoch of columns."""

    opened_at: int
    entered_at: int
    moved_at: int
    closed_at: int | None
    open_time: int


microseconds = st.integers(-(2**60), 2**60)


@st.composite
def stays(draw: st.DrawFn) -> Stay:
    """Mostly as deals are: moved and closed when they entered, and never reopened."""
    opened, entered = sorted((draw(microseconds), draw(microseconds)))
    return Stay(
        opened,
        entered,
        draw(st.just(entered) | microseconds),
        draw(st.none() | st.just(entered) | microseconds),
        draw(st.just(entered - opened) | st.integers(0, 2**60)),
    )


def read_back(relation: str, whole: Frame, asked: Iterable[str]) -> Frame:
    """As a question is told what a segment keeps of these rows."""
    kept = {
        name: Stored(type_, data, None if meanings is None else json.loads(meanings)).values
        for name, type_, data, meanings, *_ in rows(relation, whole)
    }
    told_of = {}
    for own in asked:
        name = f"{relation}.{own}"
        told_of[own] = told(name, {each: kept[each] for each in needed(name)})
    return Frame(whole.size, told_of)


@given(deals=st.lists(stays()), take=st.data(), repeated=st.sampled_from((1, 300)))
def test_instants_kept_as_what_is_between_them_are_told_as_they_were(
    deals: list[Stay], take: st.DataObject, repeated: int
) -> None:
    # More than a byte tells apart, now and then.
    deals = [deal._replace(moved_at=deal.moved_at + n) for deal in deals for n in range(repeated)]
    names = Stay._fields
    whole = Frame(
        len(deals), {name: numbers([getattr(each, name) for each in deals]) for name in names}
    )
    again = read_back("deal", whole, names)
    places = (
        take.draw(st.lists(st.sampled_from(range(len(deals))), unique=True).map(sorted))
        if deals
        else []
    )
    some = again.at(np.array(places, dtype=np.int64))
    joined = frames.together([again, some], names)
    for name in names:
        expected = whole.numbers(name).tolist()
        assert again.numbers(name).tolist() == expected
        assert some.numbers(name).tolist() == [expected[place] for place in places]
        assert joined.numbers(name).tolist() == expected + some.numbers(name).tolist()


@given(visits=st.lists(st.tuples(microseconds, microseconds).map(sorted)))
def test_a_visit_tells_when_it_began_and_how_long_it_lasted(visits: list[list[int]]) -> None:
    entered, left = ([each[n] for each in visits] for n in (0, 1))
    columns = {"entered_at": numbers(entered), "left_at": numbers(left)}
    whole = Frame(len(visits), columns)
    again = read_back("visit", whole, ("entered_at", "left_at", "lasted"))
    assert again.numbers("entered_at").tolist() == entered
    assert again.numbers("left_at").tolist() == left
    assert again.numbers("lasted").tolist() == [end - start for start, end in visits]


def test_what_differs_in_every_row_is_kept_as_numbers_nulls_among_them() -> None:
    deals = [Stay(0, 5, 5, None if n == 9 else n**3, 0) for n in range(1_000)]
    columns = {name: numbers([getattr(each, name) for each in deals]) for name in Stay._fields}
    whole = Frame(len(deals), columns)
    kept = {name: meanings for name, _, _, meanings, *_ in rows("deal", whole)}
    assert kept[kept_as("deal.closed_at")] is None  # so many meanings would take more room
    found = read_back("deal", whole, ["closed_at"]).numbers("closed_at").tolist()
    assert found == [NOTHING if each.closed_at is None else each.closed_at for each in deals]


def test_what_is_mostly_nothing_takes_a_byte_a_row() -> None:
    deals = [Stay(n, 7 * n, 7 * n, 7 * n if n % 2 else None, 6 * n) for n in range(1_000)]
    columns = {name: numbers([getattr(each, name) for each in deals]) for name in Stay._fields}
    found = {
        name: (len(data), bounds)
        for name, _, data, _, *bounds in rows("deal", Frame(1_000, columns))
    }
    assert found == {
        "deal.opened_at": (2_000, [0, 999]),
        "deal.entered_at": (2_000, [0, 6_993]),
        "deal.entered_at-moved_at": (1_000, [0, 6_993]),
        "deal.entered_at-closed_at": (1_000, [7, 6_993]),  # where a period is looked for
        "deal.entered_at-opened_at-open_time": (1_000, [0, 5_994]),
    }


def test_what_is_kept_otherwise_has_another_name() -> None:
    """Workers of the version before look for the old one."""
    assert {name: kept_as(name) for name in APART} == {
        "deal.closed_at": "deal.entered_at-closed_at",
        "deal.moved_at": "deal.entered_at-moved_at",
        "deal.open_time": "deal.entered_at-opened_at-open_time",
        "visit.entered_at": "visit.left_at-entered_at",
        "visit.lasted": "visit.left_at-entered_at",
    }
