"""The same part many times over, as one statement: arrays of its arguments, unnested.

    INSERT INTO t (w, a, b) VALUES ($1, $2, $3)
 →  INSERT INTO t (w, a, b) SELECT $1, given.p2, given.p3 FROM unnest($2::…[], $3::…[]) AS given

so that a deal or a transition is written by the statement it is always written by. COPY would be
faster still, but PostgreSQL refuses it on tables with row-level security, and every table has that.
What is the same in all of them, the workspace above all, is bound once: the statement can be
routed when the tables are sharded.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY
from sqlalchemy.dialects import postgresql

from app.storage import statement
from app.storage.engine import Connection
from app.storage.statement import Part
from app.storage.tables import metadata

_INSERT = re.compile(
    r"\s*INSERT INTO (\w+) \((.+?)\)\s+VALUES \((.+?)\)\s*(ON CONFLICT .+)?", re.DOTALL
)
_UPDATE = re.compile(r"\s*UPDATE (\w+) (.+)", re.DOTALL)
_ASSIGNED = re.compile(r"(\w+) = \$(\d+)")
_FOUND_BY = re.compile(r"(\w+) = \$(\d+)\b(?! -)")
_PLACEHOLDER = re.compile(r"\$(\d+)\b")


async def execute(connection: Connection, parts: Sequence[Part]) -> None:
    """Do parts of one SQL text and one workspace. Raises what `statement.execute` raises."""
    if not parts:
        return
    columns = list(zip(*(part.args for part in parts), strict=True))
    # What is the same in all parts is bound once: arrays are what this costs, on both sides.
    shared = [len(parts) > 1 and column.count(column[0]) == len(column) for column in columns]
    await statement.execute(connection, [_joined(parts, (True, *shared[1:]))])


async def execute_all(connection: Connection, parts: Sequence[Part]) -> None:
    """Do parts of one workspace, those of each SQL text as one: all of it is one statement.

    Its text depends on the texts alone, so that the server knows it again whatever is bound.
    Raises what `statement.execute` raises.
    """
    alike: defaultdict[tuple[str, bool], list[Part]] = defaultdict(list)
    for part in parts:
        alike[part.sql, part.guarded].append(part)
    await statement.execute(
        connection,
        [
            _joined(each, (True, *(False for _ in each[0].args[1:])))
            for _, each in sorted(alike.items())
        ],
    )


def _joined(parts: Sequence[Part], shared: tuple[bool, ...]) -> Part:
    """One part that does what all of these do, whose arguments are the same where `shared`."""
    widened = _widened(parts[0].sql, shared)
    columns = zip(*(part.args for part in parts), strict=True)
    args: list[Any] = [
        column[0] if same else column for column, same in zip(columns, shared, strict=True)
    ]
    for place in widened.arrays:
        args[place] = [_literal(value) for value in args[place]]
    return Part(widened.sql, tuple(args), guarded=parts[0].guarded, rows=len(parts))


@dataclass(frozen=True, slots=True)
class _Widened:
    """The statement for many, and which arguments are lists of what are arrays themselves."""

    sql: str
    arrays: tuple[int, ...]


@lru_cache(maxsize=256)
def _widened(sql: str, shared: tuple[bool, ...]) -> _Widened:
    if insertion := _INSERT.fullmatch(sql):
        table, columns, values, otherwise = insertion.groups()
        listed = zip(columns.split(","), values.split(","), strict=True)
        columns_by_place = {
            int(value.strip()[1:]): column.strip()
            for column, value in listed
            if _PLACEHOLDER.fullmatch(value.strip())
        }
    else:
        update = _UPDATE.fullmatch(sql)
        assert update is not None, "only an INSERT or an UPDATE can be widened"
        table, body = update.groups()
        columns_by_place = {int(place): column for column, place in _ASSIGNED.findall(body)}
    placed = {int(place) for place in _PLACEHOLDER.findall(sql)}
    assert placed == set(columns_by_place), "each argument is the value of one column"
    types = {
        place: metadata.tables[table].c[column].type for place, column in columns_by_place.items()
    }
    written = {
        place: str(type_.compile(postgresql.dialect()))  # type: ignore[no-untyped-call] # as SQLAlchemy has it
        for place, type_ in types.items()
    }
    many = [place for place in sorted(types) if not shared[place - 1]]
    # An array of arrays would come out flat, so an argument that is one itself travels as text.
    arrays = tuple(place for place in many if isinstance(types[place], ARRAY))
    given = ", ".join(f"${n}::{'text' if n in arrays else written[n]}[]" for n in many)
    source = f"FROM unnest({given}) AS given ({', '.join(f'p{n}' for n in many)})"

    def bound(match: re.Match[str]) -> str:
        place = int(match[1])
        if shared[place - 1]:
            return f"${place}::{written[place]}"
        return f"given.p{place}::{written[place]}" if place in arrays else f"given.p{place}"

    if insertion:
        selected = f"SELECT {_PLACEHOLDER.sub(bound, values)} {source}"
        text = f"INSERT INTO {table} ({columns}) {selected} {otherwise or ''}"
    else:
        before, condition = sql.split("WHERE", 1)
        # Said beside the join: a planner that knows nothing of the table yet would rather read all
        # of the workspace once than look up each row.
        found_by = "".join(
            f" AND {column} = ANY(${place}::{written[int(place)]}[])"
            for column, place in _FOUND_BY.findall(condition)
            if int(place) in many
        )
        before, condition = (_PLACEHOLDER.sub(bound, part) for part in (before, condition))
        text = f"{before}{source} WHERE{condition}{found_by}"
    return _Widened(text, tuple(place - 1 for place in arrays))


def _literal(value: Sequence[str | int | None]) -> str:
    """An array as PostgreSQL writes it (its manual, "Array Input and Output Syntax")."""
    return "{" + ",".join(_element(item) for item in value) + "}"


def _element(item: str | int | None) -> str:
    if isinstance(item, str):
        escaped = item.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "NULL" if item is None else str(item)
