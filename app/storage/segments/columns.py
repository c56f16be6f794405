"""The columns of a segment: what each holds, how SQL hands it over, and how it is kept.

SQL packs the rows of a relation into one value a column, so that a thousand deals come as one row.
In memory a column is whole numbers, or *coded*: small numbers that stand for its few meanings; or
it is the difference of other columns. How a segment keeps it says `segments.stored`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.journey import Status, TransitionKind
from app.storage.queries.population import BORNE, PRESENT
from app.storage.queries.question import microseconds

Numbers: TypeAlias = NDArray[np.integer[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Meaning: TypeAlias = str | int | None

NOTHING: Final = -(2**63)
"""Stands for null among whole numbers; as an instant it is PostgreSQL's `-infinity`."""

DIGITS: Final = 4
"""Amounts and shares are kept to the ten-thousandth."""

_BETWEEN: Final = b"\x00"
_NO_TEXT: Final = b"\xff"
"""Neither is in any text: stands between two, and for null."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ID: Final = "opportunity_id"
ID_TYPE: Final = "|V16"
"""Of the bytes of an id, which numpy only hands on."""

CODE_TYPES: Final = ("<u1", "<u2", "<u4")


@dataclass(frozen=True, slots=True)
class Coded:
    """A column of few meanings: `meanings[codes[n]]` is what row n bears."""

    codes: Numbers
    meanings: Sequence[Meaning]


Plain: TypeAlias = Numbers | Coded
"""A column that tells by itself what its rows bear."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A column of whole numbers: `whole`, which has no nulls, less what all of `less` bear there.

    It is null where one of these is.
    """

    whole: Numbers
    less: Sequence[Plain]

    @property
    def numbers(self) -> Numbers:
        """What the rows bear: made anew each time, so that nobody holds it for long."""
        found = self.whole.astype(np.int64)
        for each in self.less:
            if not isinstance(each, Coded):
                found -= each
                if each.min(initial=0) == NOTHING:
                    np.putmask(found, each == NOTHING, NOTHING)
                continue
            if any(each.meanings):  # mostly they differ by nothing
                found -= uncoded(each)
            if None in each.meanings:
                np.putmask(found, each.codes == each.meanings.index(None), NOTHING)
        return found


Values: TypeAlias = Plain | Difference


class Holds(Enum):
    """What the values of a column are: `MEANINGS` are few numbers."""

    IDS = auto()
    NUMBERS = auto()
    MEANINGS = auto()
    TEXTS = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """`packed` is the aggregate that makes one value of all its rows, nulls among them.

    `names`: its numbers stand for these, from 1.
    """

    name: str
    packed: str
    holds: Holds
    names: Sequence[str] = ()

    def read(self, value: bytes | None) -> Plain:
        """What the aggregate gave; None: there was no row."""
        if self.holds is Holds.IDS:
            return np.frombuffer(value or b"", dtype=ID_TYPE)
        if self.holds is Holds.TEXTS:
            return _texts(value)
        numbers = np.frombuffer(value or b"", dtype=">i8").astype(np.int64)
        return coded(numbers, self.names) if self.holds is Holds.MEANINGS else numbers


def _ids(sql: str) -> Column:
    return Column(_ID, f"string_agg(uuid_send({sql}), CAST('' AS bytea))", Holds.IDS)


def _instant(name: str, sql: str) -> Column:
    """Microseconds since 2000, as PostgreSQL has them."""
    sent = f"timestamptz_send(coalesce({sql}, '-infinity'))"
    return Column(name, f"string_agg({sent}, CAST('' AS bytea))", Holds.NUMBERS)


def _whole(name: str, sql: str, holds: Holds = Holds.NUMBERS) -> Column:
    sent = f"int8send(coalesce(CAST({sql} AS bigint), {NOTHING}))"
    return Column(name, f"string_agg({sent}, CAST('' AS bytea))", holds)


def _few(name: str, sql: str) -> Column:
    return _whole(name, sql, Holds.MEANINGS)


def _text(name: str, sql: str) -> Column:
    """Packed too: in an array each text of each column would be an object, all at the same time."""
    sent = f"coalesce(textsend(CAST({sql} AS text)), {_bytea(_NO_TEXT)})"
    return Column(name, f"string_agg({sent}, {_bytea(_BETWEEN)})", Holds.TEXTS)


def _bytea(value: bytes) -> str:
    return f"CAST('\\x{value.hex()}' AS bytea)"


def _texts(value: bytes | None) -> Coded:
    places: dict[bytes, int] = {}
    packed = () if value is None else value.split(_BETWEEN)
    found = np.array([places.setdefault(each, len(places)) for each in packed], dtype=np.int64)
    meanings = [None if each == _NO_TEXT else each.decode() for each in places]
    return Coded(narrowed(found, CODE_TYPES), meanings)


def _member(name: str, sql: str, among: type[StrEnum]) -> Column:
    """One of a few names: as its number it is sent in a fraction of the time."""
    names = [each.value for each in among]
    listed = ", ".join(f"'{each}'" for each in names)
    number = _few(name, f"array_position(ARRAY[{listed}], {sql})")
    return replace(number, names=names)


def _named(*columns: Column) -> dict[str, Column]:
    return {column.name: column for column in columns}


_PARTS: Final = 10**DIGITS

_LOSS: Final = """CASE WHEN d.status = 'lost' THEN (SELECT t.{0} FROM transition AS t
    WHERE t.workspace_id = :workspace AND t.opportunity_id = d.opportunity_id
      AND t.occurred_at = d.closed_at AND t.loss_reason IS NOT NULL AND t.voided_at IS NULL
    ORDER BY t.seq DESC LIMIT 1) END"""
"""Of the move that lost a deal: of those at the instant of its close, the last."""

DEALS: Final = _named(
    *(_instant(name, f"d.{name}") for name in ("opened_at", "entered_at", "moved_at", "closed_at")),
    _few("winding", "CAST(d.winding AS int)"),
    _member("status", "d.status", Status),
    _few("slot", "d.slot"),
    _few("reach_mask", "d.reach_mask"),
    _whole("open_time", "d.open_time"),
    # Apart, because together they may not fit into 64 bits; mostly both are small.
    _whole("amount", "floor(d.amount)"),
    _whole("amount_parts", f"(d.amount - floor(d.amount)) * {_PARTS}"),
    _few("probability", f"d.probability * {_PARTS}"),
    *(_text(name, f"d.by_{name}") for name in BORNE),
    *(_text(name, f"d.{name}") for name in PRESENT),
    _few("lost_from", _LOSS.format("from_slot")),
    _text("loss_reason", _LOSS.format("loss_reason")),
)
"""Of a relation `d` like `population.deals`."""

ID: Final = _ids(f"d.{_ID}")
TOLD: Final = DEALS | _named(ID)
"""All that can be asked of deals."""

HELD: Final = _named(
    _ids(f"o.{_ID}"),
    _whole("version", "o.version"),
    _text("segment_id", "o.segment_id"),
    *(_whole(name, f"o.{name}") for name in ("segment_position", "segment_version")),
)
"""Of the row `o` of a deal: which segment held it at which place, by which version, if any did."""

PLACE: Final = _whole("deal", "deal")
"""The place of a visit's or a change's deal among the deals of its segment."""

VISITS: Final = _named(
    _few("slot", "v.slot"),
    _instant("entered_at", "v.entered_at"),
    _instant("left_at", "v.left_at"),
    _member("kind", "v.kind", TransitionKind),
    _few("to_slot", "v.to_slot"),
    *(_text(name, f"v.by_{name}") for name in BORNE),
)
"""Of a relation `v` of completed visits."""

STAYS: Final = VISITS | _named(_whole("lasted", microseconds("v.left_at - v.entered_at")))
"""All that can be asked of visits."""

MEASURED: Final = ("amount", "probability")
"""The facts that are numbers."""
CHANGEABLE: Final = (*BORNE, *MEASURED)
"""The facts of which segments hold what they were before, by number from 1 in this order."""

_IS_NUMBER: Final = f"c.field > {len(BORNE)}"
_OLD: Final = "c.old #>> '{}'"
_NUMBER: Final = f"CASE WHEN {_IS_NUMBER} THEN CAST({_OLD} AS numeric) END"

CHANGES: Final = _named(
    _few("field", "c.field"),
    _instant("occurred_at", "c.occurred_at"),
    _text("old", f"CASE WHEN NOT {_IS_NUMBER} THEN {_OLD} END"),
    _whole("old_number", f"floor({_NUMBER})"),
    _whole("old_parts", f"({_NUMBER} - floor({_NUMBER})) * {_PARTS}"),
)
"""Of the relation `c` of `rows.changes_of`: what each fact was before, as a text or a number."""


def instant(at: datetime) -> int:
    """The instant as columns hold it."""
    return (at - _EPOCH) // _MICROSECOND


def moment(number: int) -> datetime:
    """The instant that a column holds: the inverse of `instant`."""
    return _EPOCH + number * _MICROSECOND


def coded(numbers: Numbers, names: Sequence[str] = ()) -> Coded:
    """The column of a few different numbers, or of the `names` that they stand for, from 1.

    Null is a meaning too.
    """
    found, codes = np.unique(numbers, return_inverse=True)
    meant: dict[int, Meaning] = {NOTHING: None, **dict(enumerate(names, 1))}
    return Coded(narrowed(codes, CODE_TYPES), [meant.get(each, each) for each in found.tolist()])


def taken(values: Values, places: Numbers) -> Values:
    """The column of the rows at these places."""
    if isinstance(values, Difference):
        less = [_taken(each, places) for each in values.less]
        return Difference(values.whole.take(places), less)
    return _taken(values, places)


def _taken(values: Plain, places: Numbers) -> Plain:
    if isinstance(values, Coded):
        return Coded(values.codes.take(places), values.meanings)
    return values.take(places)


def uncoded(values: Plain) -> Numbers:
    """The column of numbers, where its meanings are numbers."""
    if not isinstance(values, Coded):
        return values
    meant = [NOTHING if each is None else each for each in values.meanings]
    return np.array(meant, dtype=np.int64).take(values.codes)


def marked(column: Coded, places: Mask, meaning: Meaning) -> Coded:
    """The column with one meaning more, which the rows at these places bear."""
    codes = column.codes.astype(np.min_scalar_type(len(column.meanings)))
    codes[places] = len(column.meanings)
    return Coded(codes, [*column.meanings, meaning])


def narrowed(numbers: Numbers, types: Sequence[str]) -> Numbers:
    """The numbers in the first of these types that holds them all, as the last one does."""
    least, most = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    for type_ in types:
        held = np.iinfo(type_)
        if held.min <= least and most <= held.max:
            return numbers.astype(type_)
    raise AssertionError("the last type holds every number")
