"""What is chosen of a segment's rows is what plain Python chooses row by row, however many pass."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.access import WHOLE
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Dimension, Selection
from app.storage.queries.question import Asked, Question
from app.storage.segments import frames, selecting
from app.storage.segments.columns import Coded, Numbers, instant
from app.storage.segments.frames import Frame
from app.storage.segments.selecting import Columns, Part
from app.storage.segments.stored import stored
from tests.past_deals import BEGIN
from tests.unit.test_funnel import PIPELINE

HOUR = timedelta(hours=1)
OWNERS = ("ada", "ben", None)
SLOTS = (1, 2, 3)


@dataclass(frozen=True)
class Visit:
    """A visit as a segment holds it; `deal` is the place of its deal there."""

    deal: int
    slot: int
    owner: str | None
    entered_at: datetime
    left_at: datetime


@dataclass(frozen=True)
class Segment:
    visits: list[Visit]
    alive: list[bool]
    """Of its deals, which count."""

    def part(self, *, bounded: bool) -> Part:
        """With its extents or without: they may tell something, but never anything else."""
        instants = {
            name: np.array([instant(getattr(visit, name)) for visit in self.visits], dtype=np.int64)
            for name in ("entered_at", "left_at")
        }
        told = ((name, (int(each.min()), int(each.max()))) for name, each in instants.items())
        extents = dict(told) if bounded and self.visits else {}
        return Part(
            len(self.visits),
            {
                "slot": coded([visit.slot for visit in self.visits]),
                "owner": coded([visit.owner for visit in self.visits]),
                **{name: stored(each).values for name, each in instants.items()},
            },
            None if all(self.alive) else np.array(self.alive, dtype=bool),
            np.array([visit.deal for visit in self.visits], dtype=np.int16),
            extents=extents,
        )


def coded(values: list[Any]) -> Coded:
    meanings = list(dict.fromkeys(values))
    return Coded(np.array([meanings.index(each) for each in values], dtype=np.uint8), meanings)


hours = st.integers(-3, 3).map(lambda hours: BEGIN + hours * HOUR)
visits = st.builds(
    Visit,
    deal=st.integers(0, 3),
    slot=st.sampled_from(SLOTS),
    owner=st.sampled_from(OWNERS),
    entered_at=hours,
    left_at=hours,
)
segments = st.builds(
    Segment,
    visits=st.lists(visits, max_size=9),
    # Mostly nearly all deals count, as in a segment of which a few have been written since.
    alive=st.lists(st.sampled_from((True, True, True, False)), min_size=4, max_size=4),
)
wholes = st.lists(segments, max_size=3)
bounds = st.none() | hours
selections = st.builds(
    Selection,
    as_of=hours,
    start=bounds,
    end=bounds,
    filters=st.just({})
    | st.sets(st.sampled_from(OWNERS), min_size=1).map(
        lambda owners: {Dimension("owner"): frozenset(owners)}
    ),
    group_by=st.sampled_from((None, Dimension("owner"))),
)


def passing(several: list[Segment], selection: Selection, slots: set[int]) -> Iterator[Visit]:
    """Row by row: entered in the period, left before T, of a deal that counts, in these slots."""
    wanted = selection.filters.get(Dimension("owner"), frozenset(OWNERS))
    for segment in several:
        for visit in segment.visits:
            if (
                segment.alive[visit.deal]
                and selection.covers(visit.entered_at)
                and visit.left_at < selection.as_of
                and visit.slot in slots
                and visit.owner in wanted
            ):
                yield visit


def columns(several: list[Segment], selection: Selection, *, bounded: bool) -> Columns:
    ranking = Ranking(PIPELINE, PIPELINE)
    asked = Asked(UUID(int=0), WHOLE, ranking, selection, selection.as_of)
    parts = [segment.part(bounded=bounded) for segment in several]
    return Columns(Question(asked, grouped=True), parts, "entered_at", ended=True)


def lengths(each: Frame) -> tuple[Frame, Numbers]:
    return each, each.of("left_at") - each.of("entered_at")


@pytest.fixture(
    scope="module",
    params=[(0, 0), (0, 0.5), (0.5, 0.75), (2, 2)],
    ids=["all are left among them", "half", "some are found by place", "all are taken out"],
)
def _shares(request: pytest.FixtureRequest) -> Iterator[None]:
    """Below which share of rows they are found by place, and from which on none is taken out."""
    with pytest.MonkeyPatch.context() as patch:
        sparse, dense = request.param
        patch.setattr(selecting, "_SPARSE", sparse)
        patch.setattr(selecting, "_DENSE", dense)
        yield


@pytest.fixture(scope="module", params=[0, 4_096], ids=["each by itself", "small ones joined"])
def _few(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_FEW", request.param)
        yield


@pytest.mark.usefixtures("_shares", "_few")
@given(
    several=wholes,
    selection=selections,
    slots=st.sets(st.sampled_from(SLOTS)),
    left=st.tuples(bounds, bounds),
    bounded=st.booleans(),
)
def test_what_is_counted_is_what_passes(
    several: list[Segment],
    selection: Selection,
    slots: set[int],
    left: tuple[datetime | None, datetime | None],
    *,
    bounded: bool,
) -> None:
    leaving = Selection(as_of=selection.as_of, start=left[0], end=left[1])
    expected = [each for each in passing(several, selection, slots) if leaving.covers(each.left_at)]
    by_owner = selection.group_by is not None
    asked = columns(several, selection, bounded=bounded)

    tallied = frames.tallied(asked.chosen({"left_at": left}, slot=slots), ("group", "slot"))
    assert tallied == Counter((each.owner if by_owner else None, each.slot) for each in expected)

    lasted = map(lengths, asked.chosen({"left_at": left}, slot=slots))
    sampled = frames.sampled(lasted, ("slot",), lambda _, found: sorted(found.tolist()))
    assert sampled == {
        (slot,): sorted(
            (each.left_at - each.entered_at) // timedelta(microseconds=1)
            for each in expected
            if each.slot == slot
        )
        for slot in {each.slot for each in expected}
    }

    whole = frames.together(asked.chosen({"left_at": left}, slot=slots), ["slot"])
    assert whole.size == len(expected)


@given(rows=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=9))
def test_who_does_not_count_does_not_count_among_some_of_the_rows_either(
    rows: list[tuple[bool, bool]],
) -> None:
    counting, taken = (np.array([row[n] for row in rows], dtype=bool) for n in (0, 1))
    every = Frame(len(rows), {"place": np.arange(len(rows))}, counting)
    some = every.where(taken).counted
    assert some.numbers("place").tolist() == [n for n, row in enumerate(rows) if all(row)]
    assert some.size == sum(map(all, rows))
