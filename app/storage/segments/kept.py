"""Columns that this process has read lately, so that they are not sent for every question.

The columns of a segment never change, so what was read of them stays right; and they are asked for
by an id that the database has just shown to whoever asks, so that the walls between workspaces
stand. How far a segment is filled, and what counts no more in it, every question reads anew.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import sample
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.driver import fetch
from app.storage.segments.columns import Plain
from app.storage.segments.stored import Stored, kept_as

MOST_BYTES: Final = 36 * 2**20
"""A worker keeps so much of them: most of what is commonly asked of a third of a million deals."""

turn: Final = asyncio.Lock()
"""Whoever reads columns has it from before that until they are counted.

What a question holds in its hands may be as much as what is kept: several at once would hold that
several times, and end no sooner.
"""

_OVERHEAD: Final = 512
_MEANING: Final = 64
"""Bytes, about, of what is around a column, and around a meaning."""

PERIODS: Final = frozenset(
    {"deal.opened_at", "deal.closed_at", "deal.entered_at", "visit.entered_at", "visit.left_at"}
)
"""The columns that a period is looked for in."""
_KEPT_AS: Final = {kept_as(name): name for name in PERIODS}

_EXTENTS: Final = """
SELECT c.segment_id, c.name, c.least, c.most FROM segment_column AS c
WHERE c.workspace_id = $1 AND c.segment_id = ANY($2) AND c.name = ANY($3)
"""
_READ: Final = """
SELECT c.segment_id, c.name, c.type, c.data, c.meanings FROM segment_column AS c
JOIN unnest($2::uuid[], $3::text[]) AS wanted (segment_id, name)
  ON wanted.segment_id = c.segment_id AND wanted.name = c.name
WHERE c.workspace_id = $1
"""


class Extent(NamedTuple):
    """The least and the most number of a column; None: it has none."""

    least: int | None
    most: int | None


Name = tuple[UUID, str]
"""A column of a segment."""


@dataclass(slots=True)
class _Column:
    """`size` is in bytes, `used` the number of its last use, of all uses of columns."""

    values: Plain
    size: int
    used: int


class Kept:
    """Up to `MOST_BYTES`; of two columns drawn by lot the one that was used longer ago goes.

    Where a little more is asked for in turn than there is room for, what was used longest ago is
    just what will be asked for next: always to let that go would read a third of all anew.
    """

    def __init__(self) -> None:
        self._columns: dict[Name, _Column] = {}
        self._names: list[Name] = []
        self._uses = 0
        self.bytes = 0

    def get(self, name: Name) -> Plain | None:
        """The column, where it is kept; that is a use of it."""
        found = self._columns.get(name)
        if found is None:
            return None
        self._uses = found.used = self._uses + 1
        return found.values

    def put(self, name: Name, values: Plain, size: int) -> None:
        """Keep a column of so many bytes, where it is not kept yet, and let others go for it."""
        if name in self._columns:
            return
        self._uses += 1
        self._columns[name] = _Column(values, size, self._uses)
        self._names.append(name)
        self.bytes += size
        while self.bytes > MOST_BYTES:
            self.bytes -= self._columns.pop(self._drawn()).size

    def _drawn(self) -> Name:
        drawn = sample(range(len(self._names)), min(2, len(self._names)))
        place = min(drawn, key=lambda place: self._columns[self._names[place]].used)
        name, self._names[place] = self._names[place], self._names[-1]
        self._names.pop()
        return name


_kept = Kept()
_extents: OrderedDict[UUID, Mapping[str, Extent]] = OrderedDict()
_MOST_EXTENTS: Final = 10_000


async def extents(
    connection: AsyncConnection, workspace: UUID, segments: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, Extent]]:
    """Between which numbers do the columns of PERIODS lie in these segments?"""
    found = {each: _extents[each] for each in segments if each in _extents}
    if unknown := [each for each in segments if each not in found]:
        told: dict[UUID, dict[str, Extent]] = {each: {} for each in unknown}
        for row in await fetch(connection, _EXTENTS, workspace, unknown, [*_KEPT_AS]):
            told[row.segment_id][_KEPT_AS[row.name]] = Extent(row.least, row.most)
        found |= told
    _extents.update(found)
    for each in segments:
        _extents.move_to_end(each)
    while len(_extents) > _MOST_EXTENTS:
        _extents.popitem(last=False)
    return found


async def columns(
    connection: AsyncConnection, workspace: UUID, segments: Sequence[UUID], names: Collection[str]
) -> list[dict[str, Plain]]:
    """What the rows of these names keep of each segment, from memory as far as it has that.

    The caller has the `turn`.
    """
    assert turn.locked(), "several would hold columns at once"
    found: list[dict[str, Plain]] = [{} for _ in segments]
    places = {each: place for place, each in enumerate(segments)}
    missing = []
    for segment, columns in zip(segments, found, strict=True):
        for name in names:
            values = _kept.get((segment, name))
            if values is None:
                missing.append((segment, name))
            else:
                columns[name] = values
    if missing:
        asked = zip(*missing, strict=True)
        for row in await fetch(connection, _READ, workspace, *asked):
            values = Stored(row.type, row.data, row.meanings).values
            found[places[row.segment_id]][row.name] = values
            meant = sum(_MEANING + len(str(meaning)) for meaning in row.meanings or ())
            size = len(row.data) + meant + _OVERHEAD
            _kept.put((row.segment_id, row.name), values, size)
    assert all(len(columns) == len(names) for columns in found), "a segment keeps all of them"
    return found
