"""Counting in columns: which rows are meant, what do they have in common, how many are they?

A `Frame` is rows of one relation, column by column. What several frames hold is counted one after
the other and added up.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from app.domain.measures.sums import Count
from app.storage.queries.lengths import Lengths
from app.storage.segments.alike import Alike, Key, numbered
from app.storage.segments.columns import (
    DIGITS,
    NOTHING,
    Coded,
    Difference,
    Mask,
    Meaning,
    Numbers,
    Values,
    instant,
    marked,
    taken,
)

R = TypeVar("R")
_Rows: TypeAlias = tuple[Numbers, Numbers]
"""Some of a frame's rows: the lengths of all, and the places of those that are meant.

Mostly the lengths are a column that is held already, and a place takes half of their room.
"""
_ROWS: Final = "rows"
_SUM: Final = "sum"
_WORTH: Final = "worth"
_LENGTH: Final = "length"
_LIMB: Final = 22  # bits: a double adds up 2³¹ numbers of so many exactly
_EXACT: Final = 2**53
"""Up to here doubles are exact."""
_WHOLE: Final = 2**63
"""Below this 64 bits hold whole numbers."""
_COMPARED: Final = 4
"""To compare with so many codes takes less than to look up what each stands for."""
_FEW: Final = 4_096
_LARGE: Final = 2**18
"""Rows that are joined to be counted at once: some 10 MB."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows, column by column; each of the columns has `size` of them.

    `counts`: which of them count; None: all. A few that do not are sooner numbered apart than all
    others are taken out.
    """

    size: int
    columns: Mapping[str, Values]
    counts: Mask | None = None

    def numbers(self, name: str) -> Numbers:
        """A column of whole numbers."""
        column = self.columns[name]
        assert not isinstance(column, Coded), name
        return column.numbers if isinstance(column, Difference) else column

    def coded(self, name: str) -> Coded:
        """A column of meanings."""
        column = self.columns[name]
        assert isinstance(column, Coded), name
        return column

    def of(self, name: str) -> Numbers:
        """A column of whole numbers, wide enough to reckon with."""
        return self.numbers(name).astype(np.int64)

    def bears(self, name: str, meaning: Meaning) -> Mask:
        """Which rows bear this meaning?"""
        return self.among(name, (meaning,))

    def among(self, name: str, wanted: Collection[Meaning]) -> Mask:
        """Which rows bear one of these meanings?"""
        column = self.coded(name)
        named = np.array([meaning in wanted for meaning in column.meanings], dtype=bool)
        rarer = 2 * np.count_nonzero(named) <= len(named)
        codes = np.flatnonzero(named == rarer)
        if len(codes) > _COMPARED:
            return named.take(column.codes)
        found = np.full(self.size, not rarer)
        for code in codes.tolist():
            found ^= column.codes == code  # a row bears one of them at most
        return found

    def told(self, name: str, condition: Mask) -> "Frame":
        """With a column that tells of each row whether it fulfils the condition."""
        return self.bearing(name, Coded(condition.astype(np.uint8), (False, True)))

    def bearing(self, name: str, column: Values) -> "Frame":
        """With one column more."""
        return Frame(self.size, {**self.columns, name: column}, self.counts)

    def only(self, names: Iterable[str]) -> "Frame":
        """In these columns alone: the others' memory is not held any longer."""
        return Frame(self.size, {name: self.columns[name] for name in names}, self.counts)

    def where(self, condition: Mask) -> "Frame":
        """The rows that fulfil it."""
        assert len(condition) == self.size, "a condition speaks of these rows"
        return self.at(np.flatnonzero(condition))

    def at(self, places: Numbers) -> "Frame":
        """The rows at these places, which ascend."""
        return self if len(places) == self.size else self.in_order(places)

    def in_order(self, places: Numbers) -> "Frame":
        """The rows at these places, in the order of these."""
        columns = {name: taken(column, places) for name, column in self.columns.items()}
        counts = None if self.counts is None else self.counts.take(places)
        return Frame(len(places), columns, counts)

    @property
    def counted(self) -> "Frame":
        """The rows that count, by themselves."""
        if self.counts is None:
            return self
        return Frame(self.size, self.columns).where(self.counts)

    def lies(self, name: str, start: datetime | None, end: datetime | None) -> Mask:
        """Of which rows does the instant lie in `[start, end)`? None: open, but never null."""
        column = self.numbers(name)
        since = column > NOTHING if start is None else column >= instant(start)
        return since if end is None else since & (column < instant(end))

    def keyed(self, keys: Sequence[str]) -> Alike:
        """The rows, numbered by what they bear in all of `keys`."""
        return numbered(self.size, {name: self.coded(name) for name in keys}, self.counts)


def together(frames: Iterable[Frame], names: Sequence[str]) -> Frame:
    """The rows of all frames that count as one frame, in the columns of these names."""
    several = [frame.counted for frame in frames]
    columns = {name: _joined([frame.columns[name] for frame in several]) for name in names}
    return Frame(sum(frame.size for frame in several), columns)


def _joined(parts: Sequence[Values]) -> Values:
    """All parts of a column, one below the other."""
    places: dict[Meaning, int] = {}
    joined: list[Numbers] = []
    is_coded = False
    for values in parts:
        if isinstance(values, Coded):
            is_coded = True
            codes = [places.setdefault(meaning, len(places)) for meaning in values.meanings]
            named = np.array(codes, dtype=np.min_scalar_type(len(places)))
            joined.append(named.take(values.codes))
        else:
            joined.append(values.numbers if isinstance(values, Difference) else values)
    numbers = np.concatenate(joined) if joined else np.empty(0, dtype=np.int64)
    return Coded(numbers, [*places]) if is_coded else numbers


def _larger(frames: Iterable[Frame], names: Sequence[str]) -> Iterator[Frame]:
    """The same rows in fewer frames, since a frame costs more than a few rows; in these columns."""
    waiting: list[Frame] = []
    for frame in frames:
        if frame.size > _FEW:
            yield frame
            continue
        waiting.append(frame.only(names))
        if sum(each.size for each in waiting) >= _LARGE:
            yield together(waiting, names)
            waiting = []
    if waiting:
        yield together(waiting, names)


def tallied(frames: Iterable[Frame], keys: Sequence[str]) -> dict[Key, int]:
    """How many rows bear the same in all of `keys`?"""
    alike = (_alike(frame, keys) for frame in _larger(frames, keys))
    return {key: rows for key, (rows, _) in _added_up(alike, keys)}


def weighed(
    frames: Iterable[Frame], keys: Sequence[str], *, share: str | None = None
) -> dict[Key, Count]:
    """How many deals bear the same in all of `keys`, and what are they worth in each currency?

    `share`: the column that tells how many ten-thousandths of each amount count.
    """
    digits = DIGITS if share is None else 2 * DIGITS
    by = (*keys, _WORTH)

    def alike(frame: Frame) -> Frame:
        priced = _priced(frame)
        return _alike(priced, by, _addends(frame, share))

    names = [*keys, "currency", "amount", "amount_parts", *(() if share is None else (share,))]
    deals: dict[Key, int] = defaultdict(int)
    amounts: dict[Key, dict[str, Decimal]] = defaultdict(dict)
    for found, (rows, amount) in _added_up(map(alike, _larger(frames, names)), by):
        key, currency = found[:-1], found[-1]
        deals[key] += rows
        if currency is not None:  # else they have no amounts
            amounts[key][currency] = Decimal(amount).scaleb(-digits)
    return {key: Count(rows, dict(sorted(amounts[key].items()))) for key, rows in deals.items()}


def _alike(frame: Frame, keys: Sequence[str], addends: Sequence[tuple[int, Numbers]] = ()) -> Frame:
    """A row for all rows that are alike: how many they are, and what their addends sum up to."""
    alike = frame.keyed(keys)
    rows = alike.rows
    occurring = np.flatnonzero(rows)
    # Together, several may not fit into 64 bits.
    sums = np.zeros(len(occurring), dtype=np.int64 if len(addends) < 2 else object)
    for unit, each in addends:
        whole = np.bincount(alike.numbers, weights=each)[occurring].astype(np.int64)
        sums += unit * whole.astype(sums.dtype)
    counted = {_ROWS: rows.take(occurring), _SUM: sums}
    return Frame(len(occurring), {**alike.meant(occurring), **counted})


def _added_up(
    counts: Iterable[Frame], keys: Sequence[str]
) -> Iterator[tuple[Key, tuple[Any, ...]]]:
    """What frames have counted, of rows that bear the same in all of `keys` together."""
    names = (_ROWS, _SUM)
    several = [frame for frame in counts if frame.size]
    if not several:
        return
    every = together(several, [*keys, *names])
    alike = every.keyed(keys)
    occurring = np.flatnonzero(alike.rows)
    added = []
    for each in map(every.numbers, names):
        fits = each.dtype != object and int(np.abs(each).max()) * every.size < _WHOLE
        added.append(np.zeros(int(occurring[-1]) + 1, dtype=np.int64 if fits else object))
        np.add.at(added[-1], alike.numbers, each)
    counted = zip(*(each[occurring].tolist() for each in added), strict=True)
    yield from zip(alike.keys(occurring), counted, strict=True)


def sampled(
    frames: Iterable[tuple[Frame, Numbers]], keys: Sequence[str], told: Callable[[Key, Lengths], R]
) -> dict[Key, R]:
    """What `told` makes of all lengths of the rows that bear the same in all of `keys`.

    A length for each row; they come in no order, and `told` may put them into one where they lie.
    None is held for longer than that takes: a million lengths need not be there twice.
    """
    found = _gathered(frames, keys)
    return {key: told(key, _lengths(found.pop(key))) for key in [*found]}


def _lengths(parts: Sequence[_Rows]) -> Lengths:
    """The lengths of these rows in one array."""
    found = np.empty(sum(places.size for _, places in parts), dtype=np.int64)
    end = 0
    for lengths, places in parts:
        start, end = end, end + places.size
        lengths.take(places, out=found[start:end], mode="clip")  # else it makes a copy first
    return found


def _gathered(
    frames: Iterable[tuple[Frame, Numbers]], keys: Sequence[str]
) -> dict[Key, list[_Rows]]:
    """The rows of each frame that bear the same in all of `keys`."""
    found: dict[Key, list[_Rows]] = defaultdict(list)
    lasting = (frame.bearing(_LENGTH, lengths) for frame, lengths in frames)
    for frame in _larger(lasting, [*keys, _LENGTH]):
        alike, lengths = frame.keyed(keys), frame.numbers(_LENGTH).astype(np.int64, copy=False)
        rows = alike.rows
        # Stable, because numpy then puts small numbers in order by counting them.
        order, ends = np.argsort(alike.numbers, kind="stable"), np.cumsum(rows)
        order = order.astype(np.min_scalar_type(frame.size))
        occurring = np.flatnonzero(rows)
        for number, key in zip(occurring, alike.keys(occurring), strict=True):
            end = ends[number]
            found[key].append((lengths, order[end - rows[number] : end]))
    return found


def _priced(frame: Frame) -> Frame:
    """With the currency of the deals that have an amount, by themselves."""
    unpriced = frame.numbers("amount") == NOTHING
    return frame.bearing(_WORTH, marked(frame.coded("currency"), unpriced, None))


def _addends(frame: Frame, share: str | None) -> list[tuple[int, Numbers]]:
    """The amounts, whole or taken apart, in numbers that doubles add up exactly, with their units.

    Those of the unpriced are 0.
    """
    priced = frame.numbers("amount") != NOTHING
    amount, parts = (frame.of(name) * priced for name in ("amount", "amount_parts"))
    most = (int(np.abs(amount).max(initial=0)) + 1) * 10**DIGITS
    if share is None and most * frame.size <= _EXACT:
        return [(1, amount * 10**DIGITS + parts)]
    apart = [(1, parts), *_limbs(10**DIGITS, amount)]
    if share is None:
        return apart
    times = frame.of(share)
    return [limb for unit, numbers in apart for limb in _limbs(unit, numbers * times)]


def _limbs(unit: int, numbers: Numbers) -> list[tuple[int, Numbers]]:
    """The numbers in parts of `_LIMB` bits, each part with its unit; the last bears the sign."""
    mask = (1 << _LIMB) - 1
    low, high = numbers & mask, numbers >> _LIMB
    if np.abs(high).max(initial=0) <= mask:
        return [(unit, low), (unit << _LIMB, high)]
    return [(unit, low), (unit << _LIMB, high & mask), (unit << 2 * _LIMB, high >> _LIMB)]
