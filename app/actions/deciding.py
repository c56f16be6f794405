"""How an action decides about a deal that others may be moving: read, decide, compare and set.

Without a lock, whoever writes second finds that the version has moved on, rolls back and decides
anew against what the first one left behind. After three lost races the deal is locked before it is
read, so that nobody loses for ever.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from app.domain.errors import DatabaseUnavailable
from app.storage.engine import Connection, Database
from app.storage.idempotency import Repeatable
from app.storage.statement import LostRace

T = TypeVar("T")

VersionCheck = Callable[[int], None]
"""Raises VersionRequired or Stale unless the caller may change this version."""

UNLOCKED_ATTEMPTS = 3
ATTEMPTS = 16
"""Under the lock a race is lost to what else may disappear, such as the deal itself; and where the
feed would tell of it too early (`storage.opportunities.LOCK`), of three locks one at the worst."""


async def decide(
    database: Database,
    workspace: UUID,
    request: Repeatable | None,
    work: Callable[[Connection, bool], Awaitable[T]],
) -> T:
    """Run `work(connection, locked)` in a transaction until it has not lost a race.

    Raises what `work` raises, and DatabaseUnavailable when every race was lost.
    """
    for attempt in range(ATTEMPTS):
        locked = attempt >= UNLOCKED_ATTEMPTS
        try:
            return await database.write(
                workspace,
                lambda connection, locked=locked: work(connection, locked),  # type: ignore[misc] # mypy cannot type a lambda's default
                key=None if request is None else request.key,
            )
        except LostRace:
            continue
    raise DatabaseUnavailable("Too many requests change the same thing at once; try again.")
