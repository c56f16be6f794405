"""What a question selects among the rows of frames: its period, its filters, its group.

`domain.measures.selection` says what they mean.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

import numpy as np

from app.domain.measures.selection import Dimension, months
from app.storage.queries.question import EARLIEST, Question
from app.storage.segments.columns import Coded, Meaning, Numbers, Values, instant, taken
from app.storage.segments.frames import Frame, Mask

MONTH: Final = "opened_month"
"""The dimension that is no column, but told by the deal's opening."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment's rows, or others. `alive` says which of them count; None: all do.

    Rows that are visits bear columns of their deals too: `deal` is the place of each visit's.
    """

    size: int
    columns: Mapping[str, Values]
    alive: Mask | None = None
    deal: Numbers | None = None
    of_deals: Mapping[str, Values] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def counting(self) -> Mask:
        """Which of the rows count?"""
        return np.ones(self.size, dtype=bool) if self.alive is None else self.alive

    @property
    def frame(self) -> Frame:
        """All of the rows."""
        if self.deal is None:
            return Frame(self.size, self.columns)
        borne = {name: taken(column, self.deal) for name, column in self.of_deals.items()}
        return Frame(self.size, {**self.columns, **borne})


@dataclass(frozen=True, slots=True)
class Columns:
    """Parts of a relation. `counted` is the column of the instant that the period must hold.

    `ended`: only rows count that had ended before T.
    """

    question: Question
    parts: Sequence[Part]
    counted: str | None
    ended: bool = False

    def chosen(self, **among: Collection[Meaning]) -> Iterator[Frame]:
        """The rows that the selection lets pass, and `group`, what each counts in.

        `among`: only those that bear one of the meanings in the column of that name.
        """
        for part in self.parts:
            frame = self._there(part, among)
            if frame.size:
                yield _grouped(frame, self.question, self.counted)

    def _there(self, part: Part, among: Mapping[str, Collection[Meaning]]) -> Frame:
        """The rows of the part that pass; taken out at once, since that costs the most."""
        selection, frame = self.question.selection, part.frame
        lies = {} if self.counted is None else {self.counted: (selection.start, selection.end)}
        if self.ended:
            start, end = lies.get("left_at", (None, None))
            lies["left_at"] = start, selection.as_of if end is None else min(end, selection.as_of)
        there = [frame.lies(name, *period) for name, period in lies.items()]
        places: Numbers = np.flatnonzero(np.logical_and.reduce([part.counting, *there]))
        for name, wanted in among.items():
            places = frame.among(name, wanted, places)
        for dimension, wanted in selection.filters.items():
            frame = _bearing(frame, dimension, self.question)
            places = frame.among(dimension.name, wanted, places)
        return frame.at(places)


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
