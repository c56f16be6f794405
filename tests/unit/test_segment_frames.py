"""What is counted in columns is what counting row by row gives, to the last digit."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import durations
from app.domain.measures.sums import NONE, Count, one
from app.storage.queries.lengths import in_order, quantiles
from app.storage.segments import frames
from app.storage.segments.columns import DIGITS, NOTHING, Coded, Meaning
from app.storage.segments.frames import Frame

SHARES = (0.5, 0.7, 0.85, 0.95)
LARGEST = 10 ** (15 + DIGITS) - 1


class Row(NamedTuple):
    """A row of a frame; the amount and the share are in ten-thousandths."""

    stage: Meaning
    currency: str | None
    amount: int | None
    share: int
    length: int
    is_chosen: bool


def rows(most: int) -> st.SearchStrategy[Row]:
    """Rows with amounts up to `most`."""
    return st.builds(
        Row,
        stage=st.sampled_from((1, 2, None)),
        currency=st.sampled_from(("EUR", "JPY")),
        amount=st.none() | st.integers(0, most) | st.just(most),
        share=st.integers(0, 10**DIGITS),
        length=st.integers(0, 2**52),
        is_chosen=st.booleans(),
    )


# Small amounts are added up as they are, large ones in parts.
several = st.lists(
    st.sampled_from((LARGEST, 10**9)).flatmap(lambda most: st.lists(rows(most), max_size=12)),
    max_size=3,
)


def coded(meanings: Sequence[Meaning]) -> Coded:
    """Numbered in the order in which they come, so that frames number them differently."""
    places: dict[Meaning, int] = {}
    codes = [places.setdefault(each, len(places)) for each in meanings]
    return Coded(np.array(codes, dtype=np.uint8), [*places])


def frame(told: Sequence[Row]) -> Frame:
    apart = [
        (NOTHING, NOTHING) if row.amount is None else divmod(row.amount, 10**4) for row in told
    ]
    every = Frame(
        len(told),
        {
            "stage": coded([row.stage for row in told]),
            "currency": coded([row.currency for row in told]),
            "amount": np.array([units for units, _ in apart], dtype=np.int64),
            "amount_parts": np.array([parts for _, parts in apart], dtype=np.int64),
            "share": np.array([row.share for row in told], dtype=np.int64),
            "length": np.array([row.length for row in told], dtype=np.int64),
        },
    )
    return every.where(np.array([row.is_chosen for row in told], dtype=bool))


def chosen(told: Sequence[Sequence[Row]]) -> list[Row]:
    return [row for each in told for row in each if row.is_chosen]


@given(told=several)
def test_amounts_and_their_shares_are_summed_exactly(told: Sequence[Sequence[Row]]) -> None:
    whole: dict[Any, Count] = defaultdict(lambda: NONE)
    shared: dict[Any, Count] = defaultdict(lambda: NONE)
    for row in chosen(told):
        amount = None if row.amount is None else Decimal(row.amount).scaleb(-DIGITS)
        part = None if amount is None else amount * Decimal(row.share).scaleb(-DIGITS)
        whole[(row.stage,)] += one(amount, row.currency)
        shared[(row.stage,)] += one(part, row.currency)
    found = [frame(each) for each in told]
    assert frames.weighed(found, ["stage"]) == whole
    assert frames.weighed(found, ["stage"], share="share") == shared


def test_sums_of_segments_may_be_larger_than_64_bits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_FEW", 0)  # so that each of them is counted by itself
    amount = 2**53 - 10**DIGITS  # of which doubles hold one, and 64 bits a thousand
    row = Row("offer", "EUR", amount, 10**DIGITS, 0, is_chosen=True)
    large = row._replace(amount=LARGEST)
    for each, count in ((row, 2_000), (large, 2_000)):
        worth = Decimal(count * (each.amount or 0)).scaleb(-DIGITS)
        for several in ([frame([each])] * count, [frame([each] * count)]):
            found = frames.weighed(several, ["stage"])
            assert found == {("offer",): Count(count, {"EUR": worth})}


@given(told=several)
def test_quantiles_of_unordered_lengths_are_those_of_the_ordered(
    told: Sequence[Sequence[Row]],
) -> None:
    lengths: dict[Any, list[int]] = defaultdict(list)
    for row in chosen(told):
        lengths[(row.stage,)].append(row.length)
    each = [frame(part) for part in told]
    found = frames.sampled(
        ((one, one.of("length")) for one in each),
        ["stage"],
        lambda _, held: quantiles(held, SHARES),
    )
    assert found == {
        key: [durations.quantile(sorted(those), share) for share in SHARES]
        for key, those in lengths.items()
    }


def test_the_lengths_of_many_rows_are_told_of_each_key_by_itself() -> None:
    """So many are put in order by several threads."""
    lengths = [(7919 * n) % 70_001 for n in range(70_001)]
    stages = [n % 3 for n in range(len(lengths))]
    every = Frame(len(lengths), {"stage": coded(stages), "length": np.array(lengths)})
    found = frames.sampled(
        [(every, every.numbers("length"))],
        ["stage"],
        lambda key, held: (key, in_order(held).tolist()),
    )
    assert found == {(stage,): ((stage,), sorted(lengths[stage::3])) for stage in range(3)}


@given(told=several)
def test_frames_put_together_are_the_chosen_rows_of_all_of_them(
    told: Sequence[Sequence[Row]],
) -> None:
    whole = frames.together([frame(each) for each in told], ("stage", "length"))
    rows = chosen(told)
    assert whole.size == len(rows)
    assert whole.numbers("length").tolist() == [row.length for row in rows]
    if rows:
        stage = whole.coded("stage")
        assert [stage.meanings[n] for n in stage.codes] == [row.stage for row in rows]
