"""Rows that bear the same in some columns, by number: what they are counted by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.storage.segments.columns import Coded, Mask, Numbers

Key: TypeAlias = tuple[Any, ...]
"""What rows have in common: what they mean in each of some columns."""

ROOMY: Final = 4_096
"""What is counted has a place for each number, so these are few, or no more than a few a row."""


@dataclass(frozen=True, slots=True)
class _Occurring:
    """Here the numbers were made fewer: each became its place among those that occur."""

    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Alike:
    """The number of each row, in as few bytes as hold it: the same for rows that are alike.

    A number is made of the codes of the columns like the digits of a clock, the last column's the
    least; so it tells them, and no row has to be looked at. Rows that do not count bear `width`,
    which is above all others.
    """

    numbers: Numbers
    width: int
    columns: Mapping[str, Coded]
    _steps: Sequence[str | _Occurring]

    @property
    def rows(self) -> NDArray[np.intp]:
        """How many rows that count bear each number?"""
        return np.bincount(self.numbers)[: self.width]

    def meant(self, numbers: Numbers) -> dict[str, Coded]:
        """What these numbers stand for in each column."""
        left, found = numbers.astype(np.intp), {}
        for step in reversed(self._steps):
            if isinstance(step, _Occurring):
                left = step.numbers.take(left).astype(np.intp)
            else:
                meanings = self.columns[step].meanings
                left, codes = np.divmod(left, max(len(meanings), 1))
                found[step] = Coded(codes, meanings)
        return {name: found[name] for name in self.columns}

    def keys(self, numbers: Numbers) -> Iterator[Key]:
        """What each of these numbers stands for."""
        named = [
            [column.meanings[code] for code in column.codes.tolist()]
            for column in self.meant(numbers).values()
        ]
        return zip(*named, strict=True) if named else iter([()] * len(numbers))


def numbered(size: int, columns: Mapping[str, Coded], counts: Mask | None) -> Alike:
    """So many rows, numbered by what they bear in these columns. `counts`: which; None: all."""
    numbers, width = np.zeros(size, dtype=np.uint8), 1
    steps: list[str | _Occurring] = []
    for name, column in columns.items():
        steps.append(name)
        if len(column.meanings) < 2:
            continue  # it tells no rows apart
        width *= len(column.meanings)
        numbers = numbers.astype(np.min_scalar_type(width))
        numbers *= len(column.meanings)
        np.add(numbers, column.codes, out=numbers, casting="unsafe")  # `width` holds the sum
        if width > max(ROOMY, 4 * size):
            occurring, places = np.unique(numbers, return_inverse=True)
            steps.append(_Occurring(occurring))
            width = max(len(occurring), 1)
            numbers = places.astype(np.min_scalar_type(width))
    if counts is not None:
        numbers = np.where(counts, numbers, np.min_scalar_type(width).type(width))
    return Alike(numbers, width, columns, steps)
