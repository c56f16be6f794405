"""Several effects in one statement: a data-modifying WITH, and so one round trip and one snapshot.

An action lists its `Part`s (the deal's row, the appended transition, its event, the stored answer)
and `execute` sends them together. A part that is `guarded` compares and sets: it must touch all its
rows, or another writer came first and nothing of this attempt may stay. Parts insert with VALUES
and bind the workspace in every branch, so that the statement can be routed when the tables are
sharded. All parts see the snapshot from before the statement: none may read what another writes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import asyncpg

from app.domain.errors import AlreadyExists, SluiceError
from app.storage.engine import Connection

_PLACEHOLDER = re.compile(r"\$(\d+)")


class LostRace(Exception):
    """Another writer changed the row first. Roll back, read, and decide anew."""


@dataclass(frozen=True, slots=True)
class Part:
    """One effect: SQL whose placeholders count from $1, and its arguments.

    A guarded one touches so many `rows`, or nothing may stay.
    """

    sql: str
    args: tuple[Any, ...]
    guarded: bool = False
    rows: int = 1


async def execute(connection: Connection, parts: Sequence[Part]) -> None:
    """Do all parts or, by raising inside the transaction, none. Without any there is nothing to do.

    Raises LostRace when a guarded part lacked a row, a twin appended the same seq first or what a
    part refers to is gone, and AlreadyExists when a name that must be unique is taken.
    """
    if not parts:
        return
    sql = _composed(tuple((part.sql, part.guarded) for part in parts))
    try:
        touched = await connection.fetchval(sql, *(arg for part in parts for arg in part.args))
    except asyncpg.UniqueViolationError as violation:
        raise _refusal(violation) from violation
    except asyncpg.ForeignKeyViolationError as orphaned:  # the deal was deleted meanwhile
        raise LostRace from orphaned
    if touched != sum(part.rows for part in parts if part.guarded):
        raise LostRace


def _refusal(violation: asyncpg.UniqueViolationError) -> SluiceError | LostRace:
    """What a broken unique constraint means to the caller."""
    match violation.constraint_name:
        case "opportunity_external_id_uq":
            return AlreadyExists("Another opportunity bears this external_id.")
        case "pipeline_workspace_id_key_ix":
            return AlreadyExists("Another pipeline bears this key.")
        case _:
            return LostRace()


@lru_cache(maxsize=256)
def _composed(parts: tuple[tuple[str, bool], ...]) -> str:
    branches: list[str] = []
    counts: list[str] = []
    shift = 0
    for number, (sql, guarded) in enumerate(parts):
        highest = max((int(n) for n in _PLACEHOLDER.findall(sql)), default=0)
        numbered = _PLACEHOLDER.sub(lambda m, by=shift: f"${int(m[1]) + by}", sql)  # type: ignore[misc] # mypy cannot type a lambda's default
        branches.append(f"part{number} AS ({numbered}{' RETURNING 1' if guarded else ''})")
        if guarded:
            counts.append(f"(SELECT count(*) FROM part{number})")
        shift += highest
    return f"WITH {', '.join(branches)} SELECT {' + '.join(counts) or '0'}"
