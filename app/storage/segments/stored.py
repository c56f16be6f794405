"""How a segment keeps its columns: each in as few bytes a row as hold it, or as what it differs by.

An instant takes eight bytes, and most of a deal's are the same: it is closed, and has moved, when
it entered where it stands. So some columns are kept as what is between them and others, which is
mostly nothing. A completed visit is kept by its end and how long it lasted: nobody who asks how
long need subtract.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.storage.segments.columns import (
    ID_TYPE,
    NOTHING,
    Coded,
    Difference,
    Meaning,
    Plain,
    Values,
    coded,
    narrowed,
    uncoded,
)
from app.storage.segments.frames import Frame

EDITION: Final = 2
"""Of segments that keep all of these columns so: the next with each that is added or means another.

What means another has another name too: a worker of the version before may look for it.
"""

_WHOLE_TYPES: Final = ("<i1", "<i2", "<i4", "<i8")
_FEW: Final = 256
"""Meanings that a code of one byte tells apart."""

_BETWEEN: Final[Mapping[str, tuple[str, ...]]] = {
    "deal.closed_at": ("deal.entered_at",),
    "deal.moved_at": ("deal.entered_at",),
    "deal.open_time": ("deal.entered_at", "deal.opened_at"),
    "visit.entered_at": ("visit.left_at",),
}
"""A column is the first of these, which has no nulls, less the others, less what is kept."""
_KEPT_AS: Final = {
    name: "-".join([others[0], *(each.partition(".")[2] for each in (*others[1:], name))])
    for name, others in _BETWEEN.items()
}
_ITSELF: Final = {"visit.lasted": _KEPT_AS["visit.entered_at"]}
"""What is kept of another column is this one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A column as a row of `segment_column` keeps it."""

    type: str
    data: bytes
    meanings: list[Meaning] | None

    @property
    def values(self) -> Plain:
        """The column in memory, where it takes as much room as `data`."""
        numbers = np.frombuffer(self.data, dtype=self.type)
        return numbers if self.meanings is None else Coded(numbers, self.meanings)


def kept_as(name: str) -> str:
    """The name of the row that keeps what this column tells, and between what it lies."""
    return _ITSELF.get(name) or _KEPT_AS.get(name, name)


def needed(name: str) -> tuple[str, ...]:
    """The names of all rows that are read to tell this column."""
    return kept_as(name), *_BETWEEN.get(name, ())


def told(name: str, read: Mapping[str, Plain]) -> Values:
    """The column, where what is `needed` has been read."""
    kept = read[kept_as(name)]
    if name in _ITSELF:
        return uncoded(kept)
    if name not in _BETWEEN:
        return kept
    whole, *less = (read[other] for other in _BETWEEN[name])
    assert not isinstance(whole, Coded), "instants are numbers"
    return Difference(whole, (*less, kept))


def rows(relation: str, frame: Frame) -> Iterator[tuple[Any, ...]]:
    """The columns as rows of `segment_column`, from the name on."""
    for own, values in frame.columns.items():
        assert not isinstance(values, Difference), "what SQL hands over is plain"
        name = f"{relation}.{own}"
        kept = stored(_apart(name, frame) if name in _BETWEEN else values)
        meanings = None if kept.meanings is None else json.dumps(kept.meanings)
        yield kept_as(name), kept.type, kept.data, meanings, *extent(values)


def _apart(name: str, frame: Frame) -> Plain:
    """What is between the column and the others: coded, if that takes less room."""
    relation = f"{name.partition('.')[0]}."
    whole, *less = (frame.numbers(each.removeprefix(relation)) for each in _BETWEEN[name])
    values = frame.numbers(name.removeprefix(relation))
    between = np.where(values == NOTHING, NOTHING, whole - sum(less) - values)
    return coded(between) if len(np.unique(between)) <= _FEW else between


def stored(values: Plain) -> Stored:
    """The column as it is kept, in as few bytes a row as hold it."""
    if isinstance(values, Coded):
        return Stored(values.codes.dtype.str, values.codes.tobytes(), [*values.meanings])
    numbers = values if values.dtype == ID_TYPE else narrowed(values, _WHOLE_TYPES)
    return Stored(numbers.dtype.str, numbers.tobytes(), None)


def extent(values: Plain) -> tuple[int | None, int | None]:
    """The least and the most of a column's numbers; of meanings, ids, and of nulls alone, none."""
    if isinstance(values, Coded) or values.dtype == ID_TYPE:
        return None, None
    if not len(told := values[values != NOTHING]):
        return None, None
    return int(told.min()), int(told.max())
