"""What a question selects among the rows of frames: its period, its filters, its group.

`domain.measures.selection` says what they mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from app.domain.measures.selection import Dimension, months
from app.storage.queries.question import EARLIEST, Question
from app.storage.segments.columns import Coded, Values, instant
from app.storage.segments.frames import Frame

MONTH: Final = "opened_month"
"""The dimension that is no column, but told by the deal's opening."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Frames of a relation. `counted` is the column of the instant that the period must hold."""

    question: Question
    frames: list[Frame]
    counted: str | None

    def chosen(self) -> Iterable[Frame]:
        """With the rows chosen that the selection lets pass, and `group`, what each counts in."""
        selection = self.question.selection
        for every in self.frames:
            frame = every
            if self.counted is not None:
                frame = frame.within(self.counted, selection.start, selection.end)
            for dimension, wanted in selection.filters.items():
                frame = _bearing(frame, dimension, self.question).among(dimension.name, wanted)
            if not frame.is_empty:
                yield _grouped(frame, self.question, self.counted)


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
