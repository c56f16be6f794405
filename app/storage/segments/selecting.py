"""What a question selects among the rows of frames: its period, its filters, its group.

`domain.measures.selection` says what they mean.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from app.domain.measures.selection import Dimension, months
from app.storage.queries.question import EARLIEST, Question
from app.storage.segments.columns import Coded, Meaning, Numbers, Values, instant, taken
from app.storage.segments.frames import Frame, Mask

MONTH: Final = "opened_month"
"""The dimension that is no column, but told by the deal's opening."""


Period: TypeAlias = tuple[datetime | None, datetime | None]
"""`[start, end)`; None: open."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment's rows, or others. `alive` says which of its deals count; None: all do.

    Rows that are visits bear columns of their deals too: `deal` is the place of each visit's. Where
    there is none the rows are the deals.
    """

    size: int
    columns: Mapping[str, Values]
    alive: Mask | None = None
    deal: Numbers | None = None
    of_deals: Mapping[str, Values] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def frame(self) -> Frame:
        """All of its rows, in their own columns."""
        return Frame(self.size, self.columns)

    def counting(self, *conditions: Mask) -> Numbers:
        """The places of the rows that count and fulfil every condition."""
        told = [*conditions]
        if self.alive is not None:
            told.append(self.alive if self.deal is None else self.alive.take(self.deal))
        if not told:
            return np.arange(self.size)
        return np.flatnonzero(reduce(np.logical_and, told))

    def at(self, places: Numbers, names: Collection[str] | None = None) -> Frame:
        """The rows at these places, which ascend, in these columns; None: in all.

        The columns of their deals are taken there alone as well, and not for every visit.
        """
        own = self.frame if names is None else self.frame.only(self.columns.keys() & names)
        there = own.at(places)
        borne = self.of_deals.keys() if names is None else self.of_deals.keys() & names
        if not borne:
            return there
        assert self.deal is not None, "deals bear their own columns"
        deals = self.deal.take(places)
        more = {name: taken(self.of_deals[name], deals) for name in borne}
        return Frame(there.size, {**there.columns, **more})


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
        for part in self.parts:
            frame = self._there(part, lying, among)
            if frame.size:
                yield _grouped(frame, self.question, self.counted)

    def _there(
        self, part: Part, lying: Mapping[str, Period], among: Mapping[str, Collection[Meaning]]
    ) -> Frame:
        """The rows of the part that pass; taken out at once, since that costs the most."""
        selection, lies = self.question.selection, dict(lying)
        assert self.counted not in lies, "the period says how it lies"
        if self.counted is not None:
            lies[self.counted] = selection.start, selection.end
        if self.ended:
            start, end = lies.get("left_at", (None, None))
            lies["left_at"] = start, selection.as_of if end is None else min(end, selection.as_of)
        every = part.frame
        places = part.counting(*(every.lies(name, *period) for name, period in lies.items()))
        for name, wanted in among.items():
            places = _those(places, part.at(places, {name}).among(name, wanted))
        for dimension, wanted in selection.filters.items():
            looked_at = part.at(places, {column_of(dimension)})
            borne = _bearing(looked_at, dimension, self.question)
            places = _those(places, borne.among(dimension.name, wanted))
        return part.at(places)


def _those(places: Numbers, passing: Mask) -> Numbers:
    """The places that pass: a mask as an index would take several times as long."""
    return places.take(np.flatnonzero(passing))


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
