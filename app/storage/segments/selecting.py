"""What a question selects among the rows of frames: its period, its filters, its group.

`domain.measures.selection` says what they mean.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from app.domain.measures.selection import Dimension, months
from app.storage.queries.question import EARLIEST, Question
from app.storage.segments.columns import Coded, Mask, Meaning, Numbers, Values, instant, taken
from app.storage.segments.frames import Frame

MONTH: Final = "opened_month"
"""The dimension that is no column, but told by the deal's opening."""

_SPARSE: Final = 1 / 4
"""Once fewer rows than this share are left, they are looked at by their places."""
_DENSE: Final = 3 / 4
"""If at least this share of them passes, the others are left among them."""

Period: TypeAlias = tuple[datetime | None, datetime | None]
"""`[start, end)`; None: open."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment's rows, or others. `alive` says which of its deals count; None: all do.

    Rows that are visits bear columns of their deals too: `deal` is the place of each visit's. Where
    there is none the rows are the deals. `extents`: the least and the most number of columns that
    hold no null.
    """

    size: int
    columns: Mapping[str, Values]
    alive: Mask | None = None
    deal: Numbers | None = None
    of_deals: Mapping[str, Values] = field(default_factory=lambda: MappingProxyType({}))
    extents: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def frame(self) -> Frame:
        """All of its rows, in their own columns."""
        return Frame(self.size, self.columns)

    def counts(self, places: Numbers | None) -> Mask | None:
        """Which of the rows at these places are of deals that count? None: all are."""
        if self.alive is None:
            return None
        if self.deal is None:
            return self.alive if places is None else self.alive.take(places)
        return self.alive.take(self.deal if places is None else self.deal.take(places))

    def lies(self, name: str, period: Period, places: Numbers | None) -> Mask | None:
        """Of which of these rows does the instant lie in the period? None: of all.

        Where the column's extent tells that the period begins or ends beyond it, nobody is asked.
        """
        start, end = period
        if name in self.extents:
            least, most = self.extents[name]
            start = None if start is None or instant(start) <= least else start
            end = None if end is None or most < instant(end) else end
            if start is None and end is None:
                return None
        return self.at(places, {name}).lies(name, start, end)

    def at(self, places: Numbers | None, names: Collection[str] | None = None) -> Frame:
        """The rows at these places, which ascend, in these columns; None: all of them.

        The columns of their deals are taken there alone as well, and not for every visit.
        """
        own = self.frame if names is None else self.frame.only(self.columns.keys() & names)
        there = own if places is None else own.at(places)
        borne = self.of_deals.keys() if names is None else self.of_deals.keys() & names
        if not borne:
            return there
        assert self.deal is not None, "deals bear their own columns"
        deals = self.deal if places is None else self.deal.take(places)
        more = {name: taken(self.of_deals[name], deals) for name in borne}
        return Frame(there.size, {**there.columns, **more})


class _Passing:
    """Which rows of a part pass: a mask of all while they are many, their places once few are left.

    To find a row by its place takes three to five times what it takes to look at it among all.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._mask: Mask | None = None
        self._places: Numbers | None = None

    def narrow(self, passing: Callable[[Numbers | None], Mask | None]) -> None:
        """Only who passes: of the rows at the places it is given, or of all; None: all of them."""
        passed = passing(self._places)
        if passed is None:
            return
        if self._places is not None:
            # A mask as an index would take several times as long.
            self._places = self._places.take(np.flatnonzero(passed))
            return
        self._mask = passed if self._mask is None else self._mask & passed
        if np.count_nonzero(self._mask) < _SPARSE * self._part.size:
            self._places = np.flatnonzero(self._mask)

    @property
    def frame(self) -> Frame:
        """They, taken out once; or all, if nearly all pass, and which of them count."""
        places, mask = self._places, self._mask
        if places is None and mask is not None:
            if np.count_nonzero(mask) >= _DENSE * self._part.size:
                return replace(self._part.at(None), counts=mask)
            places = np.flatnonzero(mask)
        return self._part.at(places)


@dataclass(frozen=True, slots=True)
class Columns:
    """Parts of a relation. `counted` is the column of the instant that the period must hold.

    `ended`: only rows count that had ended before T.
    """

    question: Question
    parts: Sequence[Part]
    counted: str | None
    ended: bool = False

    def chosen(
        self,
        lying: Mapping[str, Period] = MappingProxyType({}),
        /,
        **among: Collection[Meaning],
    ) -> Iterator[Frame]:
        """The rows that the selection lets pass, and `group`, what each counts in.

        `lying`: only those of which the instants in the columns of these names lie so; `among`:
        only those that bear one of the meanings in the column of that name.
        """
        lies = self._lying(lying)
        for part in self.parts:
            frame = self._there(part, lies, among)
            if frame.size:
                yield _grouped(frame, self.question, self.counted)

    def _lying(self, lying: Mapping[str, Period]) -> Mapping[str, Period]:
        """How which instants lie, by the period and by T too; the period's first."""
        selection = self.question.selection
        assert self.counted not in lying, "the period says how it lies"
        lies: dict[str, Period] = {}
        if self.counted is not None:
            lies[self.counted] = selection.start, selection.end
        lies |= lying
        if self.ended:
            start, end = lies.get("left_at", (None, None))
            lies["left_at"] = start, selection.as_of if end is None else min(end, selection.as_of)
        return lies

    def _there(
        self, part: Part, lies: Mapping[str, Period], among: Mapping[str, Collection[Meaning]]
    ) -> Frame:
        """The rows of the part that pass, or all and which of them do: taking out costs most."""
        passing = _Passing(part)
        for name, period in lies.items():
            passing.narrow(partial(part.lies, name, period))
        passing.narrow(part.counts)
        for name, wanted in among.items():
            passing.narrow(partial(_bears, part, name, wanted))
        for dimension, values in self.question.selection.filters.items():
            passing.narrow(partial(self._passes, part, dimension, values))
        return passing.frame

    def _passes(
        self, part: Part, dimension: Dimension, wanted: Collection[Meaning], places: Numbers | None
    ) -> Mask:
        looked_at = part.at(places, {column_of(dimension)})
        return _bearing(looked_at, dimension, self.question).among(dimension.name, wanted)


def _bears(
    part: Part, name: str, wanted: Collection[Meaning], places: Numbers | None
) -> Mask | None:
    """Which of the part's rows at these places bear one of the meanings? None: all do."""
    column = part.columns[name]
    if isinstance(column, Coded) and all(meaning in wanted for meaning in column.meanings):
        return None
    return part.at(places, {name}).among(name, wanted)


def column_of(dimension: Dimension) -> str:
    """The column that tells what a deal bears in the dimension."""
    return "opened_at" if dimension.name == MONTH else dimension.name


def placed(frame: Frame, name: str, boundaries: Sequence[datetime]) -> Coded:
    """In which bucket does each row's instant lie? 0: before the first boundary."""
    starts = np.array([instant(each) for each in boundaries])
    places = np.searchsorted(starts, frame.numbers(name), side="right")
    return Coded(places, range(len(starts) + 1))


def _grouped(frame: Frame, question: Question, counted: str | None) -> Frame:
    """With the column `group`: by bucket, by a dimension, or all in one."""
    group: Values
    if question.buckets:
        assert counted is not None, "what is counted at no instant lies in no bucket"
        group = placed(frame, counted, question.buckets)
        group = Coded(group.codes, [str(number) for number in group.meanings])
    elif question.group_by is not None:
        frame = _bearing(frame, question.group_by, question)
        group = frame.coded(question.group_by.name)
    else:
        group = Coded(np.zeros(frame.size, dtype=np.uint8), [None])
    return frame.bearing("group", group)


def _bearing(frame: Frame, dimension: Dimension, question: Question) -> Frame:
    """With the column of the dimension: of all but the month it is there."""
    if dimension.name != MONTH or MONTH in frame.columns:
        return frame
    selection = question.selection
    labels, starts = zip(*months(EARLIEST, selection.as_of, selection.timezone), strict=True)
    opened = frame.numbers("opened_at")
    places = np.searchsorted([instant(start) for start in starts], opened, side="right") - 1
    first, last = (int(places.min()), int(places.max())) if len(places) else (0, 0)
    return frame.bearing(MONTH, Coded(places - first, labels[first : last + 1]))
