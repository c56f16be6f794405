"""CSV and NDJSON as records: line, raw text and the cells of the columns that are asked for.

Memory stays constant whatever the file is: a line is read up to 1 MiB, and what is longer, or
cannot be read for another reason, is a record with its fault.
"""

import csv
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Generator, Iterator, Sequence
from decimal import Decimal
from io import TextIOWrapper
from typing import IO, Any, Final, NamedTuple, NoReturn

from app.actions.import_mapping import LongMapping, WideMapping
from app.domain.errors import Breach, Invalid

MOST_OF_LINE: Final = 1 << 20
MOST_OF_RAW: Final = 2_000
"""Characters of a line that a report repeats."""
MOST_OF_HEADER: Final = 500
"""Characters of a header that a refusal repeats."""
_DELIMITERS: Final = (";", "\t", ",", "|")


class Fault(NamedTuple):
    """Why a record cannot be read."""

    code: str
    reason: str


class Record(NamedTuple):
    """A record beginning on `line` (from 1, the header counts); `cells` in the order asked for."""

    line: int
    raw: str
    cells: Sequence[Any]
    fault: Fault | None = None


_UNREADABLE: Final = Fault("wrong_format", "The line is no text in UTF-8.")
_WITH_NUL: Final = Fault("wrong_format", "The line has U+0000, which no text can hold.")
_TOO_LONG: Final = Fault("too_long", "The line is longer than a million characters.")


def records(
    file: IO[bytes], mapping: LongMapping | WideMapping, columns: Sequence[str]
) -> Generator[Record, None, None]:
    """Every record of the file, in order; blank lines are none.

    Raises Invalid where a CSV's header lacks a column.
    """
    text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = _Lines(text)
        read = _csv if mapping.format == "csv" else _ndjson
        yield from read(lines, mapping, columns)
    finally:
        text.detach()  # the file is the caller's


def check_head(head: bytes, mapping: LongMapping | WideMapping, columns: Sequence[str]) -> None:
    """Refuse a file whose first line already shows that the mapping is not its own.

    Raises Invalid.
    """
    if not head.strip():
        raise Invalid("The file is empty.", [Breach("/file", "required", "It has no rows.")])
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        detail = "The file is written in UTF-16: save it as UTF-8."
        raise Invalid(detail, [Breach("/file", "wrong_format", detail)])
    if mapping.format == "csv":
        first = head.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
        _places(_header(csv.reader([first], delimiter=mapping.delimiter)), columns)


class _Lines:
    """The lines of a text, remembered until they are taken as the raw text of a record."""

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self._taken: list[str] = []
        self.number = 0
        self.too_long = False

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MOST_OF_LINE):
            self.number += 1
            if len(line) == MOST_OF_LINE and not line.endswith("\n"):
                self.too_long = True
                while (rest := self._text.readline(MOST_OF_LINE)) and not rest.endswith("\n"):
                    pass
            if len(self._taken) < 100:
                self._taken.append(line)
            yield line

    def take(self) -> tuple[str, Fault | None]:
        """The raw text since the last taking, fit to be stored, and what is wrong with it."""
        raw = "".join(self._taken).rstrip("\r\n")
        self._taken.clear()
        fault = None
        if self.too_long:
            fault, self.too_long = _TOO_LONG, False
        if not raw.isascii() and not _is_unicode(raw):
            fault, raw = _UNREADABLE, raw.encode(errors="replace").decode()
        if "\x00" in raw:
            fault, raw = _WITH_NUL, raw.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        return raw[:MOST_OF_RAW], fault


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that is no UTF-8 was read as a lone surrogate
        return False
    return True


def _csv(
    lines: _Lines, mapping: LongMapping | WideMapping, columns: Sequence[str]
) -> Iterator[Record]:
    reader = csv.reader(iter(lines), delimiter=mapping.delimiter)
    header = _header(reader)
    places = _places(header, columns)
    lines.take()
    width = len(header)
    while True:
        line = lines.number + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raw, _ = lines.take()
            yield Record(line, raw, (), Fault("wrong_format", f"No CSV: {error}."))
            continue
        if row is None:
            return
        raw, fault = lines.take()
        if not row:
            continue
        if fault is None and len(row) != width:
            reason = f"The line has {len(row)} cells, the header {width}."
            fault = Fault("wrong_number_of_cells", reason)
        yield Record(line, raw, () if fault else [row[place] for place in places], fault)


def _header(reader: Iterator[list[str]]) -> list[str]:
    """The first row. Raises Invalid where it is no CSV."""
    try:
        return next(reader, [])
    except csv.Error as error:
        detail = f"The header is no CSV: {error}. Lines end with LF or CR LF."
        raise Invalid(detail, [Breach("/file", "wrong_format", detail)]) from error


def _places(header: list[str], columns: Sequence[str]) -> list[int]:
    """Where the columns stand. Raises Invalid for one that is not there, or twice."""
    names = [name.strip() for name in header]
    breaches = [
        Breach("/file", "unknown_column", _difference(names, column))
        for column in columns
        if names.count(column) != 1
    ]
    if breaches:
        read = ", ".join(repr(name) for name in names)
        shown = read if len(read) <= MOST_OF_HEADER else f"{read[:MOST_OF_HEADER]} …"
        raise Invalid(
            f"The file's header and the mapping differ; see errors. It was read as {shown}."
            f"{_suspicion(names)}",
            breaches,
        )
    return [names.index(column) for column in columns]


def _difference(names: Sequence[str], column: str) -> str:
    """What is wrong with a column that the header does not have just once."""
    if times := names.count(column):
        return f"The header has the column {column!r} {times} times."
    alike = next((name for name in names if name.lower() == column.lower()), None)
    if alike is None:
        return f"The header has no column {column!r}."
    return f"The header has no column {column!r} but {alike!r}: upper and lower case differ."


def _suspicion(names: Sequence[str]) -> str:
    """What may be wrong with the reading of a header in which columns are missing."""
    if any("\N{REPLACEMENT CHARACTER}" in name for name in names):
        return " It is no text in UTF-8: save the file as UTF-8."
    other = max(_DELIMITERS, key=names[0].count) if len(names) == 1 else ""
    if other and other in names[0]:
        return f" If {other!r} stands between its columns, say so in the mapping's `delimiter`."
    return ""


def _ndjson(
    lines: _Lines, mapping: LongMapping | WideMapping, columns: Sequence[str]
) -> Iterator[Record]:
    facts = mapping.facts
    listed = {*facts.attributes.values(), *([facts.tags.column] if facts.tags else [])}
    for line in lines:
        number = lines.number
        raw, fault = lines.take()
        if not line.strip():
            continue
        cells: list[Any] = []
        if fault is None:
            cells, fault = _object(line, columns, listed)
        yield Record(number, raw, cells, fault)


def _object(line: str, columns: Sequence[str], listed: set[str]) -> tuple[list[Any], Fault | None]:
    """The values under these keys; an array may stand only under those `listed`."""
    try:
        found = json.loads(line, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return [], Fault("wrong_format", "The line is no JSON.")
    if not isinstance(found, dict):
        return [], Fault("wrong_type", "The line is no JSON object.")
    cells = [found.get(column) for column in columns]
    for column, value in zip(columns, cells, strict=True):
        parts = value if isinstance(value, list) and column in listed else [value]
        if any(isinstance(part, (dict, list)) for part in parts):
            return [], Fault("wrong_type", f"{column!r} holds no plain value.")
        # Escapes may spell what no line of text can hold.
        if any(isinstance(p, str) and ("\x00" in p or not _is_unicode(p)) for p in parts):
            return [], Fault("wrong_format", f"{column!r} holds what no text can.")
    return cells, None


def _no_number(constant: str) -> NoReturn:
    raise ValueError(constant)
