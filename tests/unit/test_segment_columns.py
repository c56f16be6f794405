"""Columns keep what they are given; frames count what plain Python counts row by row, exactly."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import durations
from app.domain.measures.sums import NONE, Count, one
from app.storage.queries.lengths import Lengths, in_order, quantiles
from app.storage.segments import frames
from app.storage.segments.columns import (
    CHANGES,
    DEALS,
    DIGITS,
    NOTHING,
    VISITS,
    Coded,
    Values,
    instant,
    marked,
)
from app.storage.segments.frames import Frame, Key
from app.storage.segments.stored import EDITION, extent, stored
from tests.columns import numbers
from tests.past_deals import BEGIN

CURRENCIES = ("EUR", "JPY", None)
OWNERS = ("ada", "ben", None)
MOST = Decimal("999999999999999.9999")
START = BEGIN - timedelta(hours=2)


@dataclass(frozen=True)
class Row:
    """A deal as columns hold it; `passes` whether it is chosen."""

    owner: str | None
    slot: int | None
    amount: Decimal | None
    currency: str | None
    closed_at: datetime | None
    length: int
    share: int
    passes: bool

    @property
    def shared(self) -> Decimal | None:
        """So many ten-thousandths of the amount."""
        return None if self.amount is None else self.amount * Decimal(self.share).scaleb(-DIGITS)


amounts = st.none() | st.decimals(0, MOST, places=DIGITS) | st.just(MOST)
instants = st.none() | st.integers(-3, 3).map(lambda hours: BEGIN + timedelta(hours=hours))
rows_ = st.lists(
    st.builds(
        Row,
        owner=st.sampled_from(OWNERS),
        slot=st.sampled_from((1, 2, 60, None)),
        amount=amounts,
        currency=st.sampled_from(CURRENCIES),
        closed_at=instants,
        length=st.integers(0, 2**53),
        share=st.integers(0, 10**DIGITS),
        passes=st.booleans(),
    ),
    max_size=12,
)
several = st.lists(rows_, max_size=3)
keyings = st.lists(st.sampled_from(("owner", "slot", "currency")), max_size=3, unique=True)


def listed(_: Key, lengths: Lengths) -> list[int]:
    found: list[int] = in_order(lengths).tolist()
    return found


def coded(values: Sequence[Any]) -> Coded:
    meanings = list(dict.fromkeys(values))
    return Coded(np.array([meanings.index(each) for each in values], dtype=np.uint8), meanings)


def frame(rows: Sequence[Row], *, whole: bool = False) -> Frame:
    """The rows that pass, in the columns that are kept; `whole`: all of them."""
    amounts = [row.amount for row in rows]
    columns = {
        "owner": coded([row.owner for row in rows]),
        "slot": coded([row.slot for row in rows]),
        "currency": coded([row.currency for row in rows]),
        "amount": numbers([None if each is None else int(each) for each in amounts]),
        "amount_parts": numbers(
            [None if each is None else int(each % 1 * 10**DIGITS) for each in amounts]
        ),
        "closed_at": numbers([row.closed_at and instant(row.closed_at) for row in rows]),
        "length": numbers([row.length for row in rows]),
        "share": numbers([row.share for row in rows]),
    }
    every = Frame(len(rows), {name: stored(each).values for name, each in columns.items()})
    return every if whole else every.where(np.array([row.passes for row in rows], dtype=bool))


def grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[tuple(getattr(row, key) for key in keys)].append(row)
    return found


def chosen(several: Sequence[Sequence[Row]]) -> list[Row]:
    return [row for rows in several for row in rows if row.passes]


@given(several=several, keys=keyings)
def test_alike_rows_are_told_as_often_as_they_are_there(
    several: list[list[Row]], keys: list[str]
) -> None:
    found = frames.tallied([frame(rows) for rows in several], keys)
    assert found == {key: len(rows) for key, rows in grouped(chosen(several), keys).items()}


@given(several=several, keys=keyings)
def test_amounts_are_added_up_exactly_by_currency(
    several: list[list[Row]], keys: list[str]
) -> None:
    found = frames.weighed([frame(rows) for rows in several], keys)
    expected = {
        key: sum((one(row.amount, row.currency) for row in rows), NONE)
        for key, rows in grouped(chosen(several), keys).items()
    }
    assert found == expected


@given(several=several, keys=keyings)
def test_shares_of_amounts_are_added_up_exactly(several: list[list[Row]], keys: list[str]) -> None:
    found = frames.weighed([frame(rows) for rows in several], keys, share="share")
    expected = {
        key: sum((one(row.shared, row.currency) for row in rows), NONE)
        for key, rows in grouped(chosen(several), keys).items()
    }
    assert found == expected


@given(several=several, keys=keyings)
def test_quantiles_are_those_of_the_whole_sample(several: list[list[Row]], keys: list[str]) -> None:
    shares = (0.25, 0.5, 0.95)
    several_frames = [frame(rows) for rows in several]
    found = frames.sampled(
        [(each, each.numbers("length")) for each in several_frames],
        keys,
        lambda _, lengths: quantiles(lengths, shares),
    )
    samples = {
        key: sorted(row.length for row in rows)
        for key, rows in grouped(chosen(several), keys).items()
    }
    assert found == {
        key: [durations.quantile(lengths, share) for share in shares]
        for key, lengths in samples.items()
    }


def test_many_of_the_largest_amounts_are_added_up_exactly() -> None:
    row = Row("ada", 1, MOST, "EUR", None, 0, 10_000, passes=True)
    found = frames.weighed([frame([row] * 1_000)] * 3, ["owner"])
    assert found == {("ada",): Count(3_000, {"EUR": 3_000 * MOST})}


@given(several=several, keys=keyings)
def test_a_sample_holds_every_length_in_order(several: list[list[Row]], keys: list[str]) -> None:
    found = frames.sampled(
        ((each, each.numbers("length")) for each in (frame(rows) for rows in several)), keys, listed
    )
    assert found == {
        key: sorted(row.length for row in rows)
        for key, rows in grouped(chosen(several), keys).items()
    }


@given(rows=rows_, start=instants, end=instants)
def test_a_period_holds_its_first_instant_not_its_last_and_never_what_is_null(
    rows: list[Row], start: datetime | None, end: datetime | None
) -> None:
    every = frame(rows)
    held = every.where(every.lies("closed_at", start, end))
    inside = [
        row
        for row in chosen([rows])
        if row.closed_at is not None
        and (start is None or start <= row.closed_at)
        and (end is None or row.closed_at < end)
    ]
    assert held.of("length").tolist() == [row.length for row in inside]
    assert held.size == len(inside)


def bearing(every: Frame, owners: Collection[str | None]) -> Frame:
    return every.where(every.among("owner", owners))


@given(rows=rows_, wanted=st.sets(st.sampled_from((*OWNERS, "who"))))
def test_a_filter_passes_those_that_bear_one_of_its_values(
    rows: list[Row], wanted: set[str | None]
) -> None:
    passing = [row for row in rows if row.owner in wanted]
    whole = bearing(frame(rows, whole=True), wanted)
    assert whole.of("length").tolist() == [row.length for row in passing]
    narrowed = bearing(frame(rows), wanted)
    assert narrowed.of("length").tolist() == [row.length for row in passing if row.passes]


@given(rows=rows_, owner=st.sampled_from((*OWNERS, "who")))
def test_of_all_rows_it_is_told_who_bears_a_meaning(rows: list[Row], owner: str | None) -> None:
    every = frame(rows)
    borne = every.bears("owner", owner)
    assert borne.tolist() == [row.owner == owner for row in chosen([rows])]
    assert frames.tallied([every.told("is", borne)], ["is"]) == Counter(
        (row.owner == owner,) for row in chosen([rows])
    )


@given(several=several)
def test_frames_together_hold_the_chosen_rows_of_all(several: list[list[Row]]) -> None:
    whole = frames.together([frame(rows) for rows in several], ["owner", "length"])
    rows = chosen(several)
    assert whole.size == len(rows)
    if several:
        assert whole.of("length").tolist() == [row.length for row in rows]
        assert meant(whole.coded("owner")) == [row.owner for row in rows]


@pytest.mark.parametrize("rows", [[], [Row("ada", 1, MOST, "EUR", BEGIN, 5, 0, passes=False)]])
def test_where_there_are_no_rows_there_is_nothing_to_count(rows: list[Row]) -> None:
    none = frame(rows)
    assert none.size == 0
    for keys in ([], ["owner"], ["owner", "slot"]):
        assert frames.tallied([none, none], keys) == {}
        assert frames.weighed([none], keys) == {}
        assert frames.sampled([(none, none.of("length"))], keys, listed) == {}
    assert bearing(none.where(none.lies("closed_at", START, None)), ["ada"]).size == 0


BOUNDARIES = [
    boundary + step
    for bits in (7, 8, 15, 16, 31, 32, 63)
    for boundary in (-(2**bits), 2**bits)
    for step in (-1, 0, 1)
    if NOTHING < boundary + step < 2**63
]


@given(values=st.lists(st.sampled_from(BOUNDARIES) | st.none() | st.integers(-5, 5)))
def test_a_column_is_kept_as_it_was_read(values: list[int | None]) -> None:
    column = numbers(values)
    assert not isinstance(column, Coded)
    kept = stored(column).values
    assert not isinstance(kept, Coded)
    assert kept.tolist() == [NOTHING if value is None else value for value in values]
    told = [value for value in values if value is not None]
    assert extent(column) == ((min(told), max(told)) if told else (None, None))


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([], 1),
        ([-128, 127], 1),
        ([-129], 2),
        ([128], 2),
        ([-32768, 32767], 2),
        ([32768], 4),
        ([-(2**31), 2**31 - 1], 4),
        ([2**31], 8),
        ([0, None], 8),
    ],
)
def test_a_column_takes_no_more_bytes_than_its_numbers_need(
    values: list[int | None], size: int
) -> None:
    kept = stored(numbers(values))
    assert (np.dtype(kept.type).itemsize, len(kept.data)) == (size, size * len(values))


@pytest.mark.parametrize(
    ("meanings", "size"), [(1, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)]
)
def test_codes_take_no_more_bytes_than_their_number_needs(meanings: int, size: int) -> None:
    texts = [f"m{number}" for number in range(meanings)]
    column = DEALS["owner"].read(packed(texts))
    kept = stored(column)
    assert np.dtype(kept.type).itemsize == size
    assert meant(kept.values) == texts
    assert extent(column) == (None, None)


def packed(texts: Sequence[str | None]) -> bytes | None:
    """As the database sends them."""
    sent = (b"\xff" if each is None else each.encode() for each in texts)
    return b"\x00".join(sent) if texts else None


def meant(values: Values) -> list[Any]:
    assert isinstance(values, Coded)
    return [values.meanings[code] for code in values.codes.tolist()]


def test_segments_of_this_edition_have_these_columns() -> None:
    """Whoever adds one makes the next edition: segments that lack it are then written anew."""
    borne = {"owner", "team", "source", "priority", "currency"}
    deals = {"opened_at", "entered_at", "moved_at", "closed_at", "status", "slot", "reach_mask"}
    worth = {"amount", "amount_parts", "probability", "open_time", "lost_from", "loss_reason"}
    assert EDITION == 2
    assert {*DEALS} == borne | deals | worth | {"winding", "present_owner", "present_team"}
    assert {*VISITS} == borne | {"slot", "entered_at", "left_at", "kind", "to_slot"}
    assert {*CHANGES} == {"field", "occurred_at", "old", "old_number", "old_parts"}


@given(texts=st.lists(st.sampled_from(("a", "b", "", "文", "\x01", "ÿ", None))))
def test_texts_are_read_and_kept_as_what_they_mean(texts: list[str | None]) -> None:
    column = DEALS["owner"].read(packed(texts))
    assert meant(column) == meant(stored(column).values) == texts


@given(slots=st.lists(st.none() | st.integers(-(2**62), 2**62)))
def test_few_numbers_are_read_and_kept_as_what_they_mean(slots: list[int | None]) -> None:
    sent = np.array([NOTHING if slot is None else slot for slot in slots], dtype=">i8").tobytes()
    column = DEALS["reach_mask"].read(sent or None)
    assert meant(column) == meant(stored(column).values) == slots


@pytest.mark.parametrize("meanings", [1, 2, 255, 256, 257, 65_535, 65_536, 65_537])
@pytest.mark.parametrize("size", [0, 1, 3, 20_000])
def test_rows_are_told_apart_however_many_meanings_there_are(meanings: int, size: int) -> None:
    codes = np.arange(size) * 7_919 % meanings
    column = Coded(codes.astype(np.min_scalar_type(meanings - 1)), range(meanings))
    bears = Coded((np.arange(size) % 2).astype(np.uint8), (False, True))
    whole = Frame(size, {"a": column, "b": bears, "c": column})
    keys = zip(codes.tolist(), (n % 2 == 1 for n in range(size)), codes.tolist(), strict=True)
    assert frames.tallied([whole], ["a", "b", "c"]) == Counter(keys)


@given(values=st.lists(st.integers(0, 255)), known=st.sampled_from((254, 255, 256)))
def test_one_meaning_more_is_told_from_all_others(values: list[int], known: int) -> None:
    column = Coded(np.array([each % known for each in values], dtype=np.uint8), range(known))
    places = np.array([each > 99 for each in values], dtype=bool)
    found = meant(marked(column, places, "none"))
    assert found == ["none" if each > 99 else each % known for each in values]


@given(rows=st.lists(st.tuples(*[st.integers(0, 39)] * 4), min_size=1, max_size=30))
def test_many_keys_of_many_meanings_take_no_room_for_what_does_not_occur(
    rows: list[tuple[int, ...]],
) -> None:
    keys = ["a", "b", "c", "d"]  # 40⁴ combinations
    columns = {
        name: Coded(np.array(column, dtype=np.uint8), range(40))
        for name, column in zip(keys, zip(*rows, strict=True), strict=True)
    }
    whole = Frame(len(rows), columns)
    assert whole.keyed(keys).numbers.max() < 4_096 * 40
    assert frames.tallied([whole], keys) == Counter(rows)
    lengths = np.arange(len(rows))
    assert frames.sampled([(whole, lengths)], keys, listed) == {
        key: [n for n, row in enumerate(rows) if row == key] for key in rows
    }
