"""How an action decides about a deal that others may be moving: read, decide, compare and set.

Without a lock, whoever writes second finds that the version has moved on, rolls back and decides
anew against what the first one left behind. After three lost races the deal is locked before it is
read, so that nobody loses for ever.

A `Change` of one deal says how it is decided and leaves the rest to `change`, so that those which
wait at the same time can share a transaction: one read for all, one statement, one commit. What is
refused is refused to its caller alone; what breaks the transaction sends each of them on its own.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog

from app.domain.errors import DatabaseUnavailable, RequestInProgress, SluiceError
from app.storage import bulk, idempotency, opportunities
from app.storage.engine import Connection, Database, Timeouts
from app.storage.idempotency import Answer, Repeatable
from app.storage.line import Line
from app.storage.opportunities import Asked, Reading
from app.storage.plainly import is_held_up
from app.storage.statement import LostRace, Part, execute

T = TypeVar("T")

log = structlog.stdlib.get_logger("sluice.deciding")

VersionCheck = Callable[[int], None]
"""Raises VersionRequired or Stale unless the caller may change this version."""

UNLOCKED_ATTEMPTS = 3
ATTEMPTS = 16
"""Under the lock a race is lost to what else may disappear, such as the deal itself; and where the
feed would tell of it too early (`storage.opportunities.LOCK`), of three locks one at the worst."""

BRIEFLY = Timeouts(lock=0.1)
"""Those who share a transaction do not wait long for the deal of one of them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the caller is answered, and the parts that make it so."""

    answer: Answer
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Change:
    """What a caller wants of one deal. `decide` raises where it may not be, and writes nothing."""

    asked: Asked
    decide: Callable[[Connection, Reading], Awaitable[Decision]]


async def change(database: Database, workspace: UUID, wanted: Change) -> Answer:
    """Make the change, alone or together with others that wait, and keep its answer.

    Raises NotFound, IdempotencyKeyReused, DatabaseUnavailable, and what `wanted.decide` raises.
    """
    line: Line[Change, Answer] | None = database.lines.get(workspace)
    if line is None:
        line = Line(partial(_alone, database, workspace), partial(_together, database, workspace))
        database.lines[workspace] = line
    asked = wanted.asked
    return await line.go(
        wanted, frozenset((asked.opportunity_id, *idempotency.keys(asked.request)))
    )


async def _alone(database: Database, workspace: UUID, wanted: Change, waited: float) -> Answer:
    asked = wanted.asked

    async def work(connection: Connection, locked: bool) -> Answer:
        found = await opportunities.read_asked(connection, workspace, asked, locked=locked)
        if isinstance(found, Answer):
            return found
        decision = await wanted.decide(connection, found)
        kept = idempotency.keep(workspace, asked.request, decision.answer)
        await execute(connection, [*decision.parts, *kept])
        return decision.answer

    return await decide(database, workspace, asked.request, work, waited=waited)


async def _together(
    database: Database, workspace: UUID, group: Sequence[Change], waited: float
) -> list[Answer | Exception | None]:
    """What became of each, which are of different deals; None: it has to be made alone."""
    is_decided = False

    async def work(connection: Connection) -> list[Answer | Exception | None]:
        nonlocal is_decided
        is_decided = False
        found = await opportunities.read_all(connection, workspace, [each.asked for each in group])
        outcomes: dict[UUID, Answer | SluiceError] = {}
        parts: list[Part] = []
        # In the order of the deals, so that two groups hardly ever wait for each other.
        for wanted in sorted(group, key=lambda wanted: wanted.asked.opportunity_id):
            deal, reading = wanted.asked.opportunity_id, found[wanted.asked.opportunity_id]
            if not isinstance(reading, Reading):
                outcomes[deal] = reading
                continue
            try:
                decision = await wanted.decide(connection, reading)
            except SluiceError as refused:
                outcomes[deal] = refused
                continue
            outcomes[deal] = decision.answer
            parts += decision.parts
            parts += idempotency.keep(workspace, wanted.asked.request, decision.answer)
        await bulk.execute_all(connection, parts)
        is_decided = True
        return [outcomes[wanted.asked.opportunity_id] for wanted in group]

    try:
        return await database.write(
            workspace,
            work,
            keys=idempotency.keys(*(each.asked.request for each in group)),
            timeouts=BRIEFLY,
            waited=waited,
        )
    except DatabaseUnavailable as unavailable:
        if not is_held_up(unavailable):
            raise
    except (LostRace, RequestInProgress):
        pass
    except Exception:
        if is_decided:  # perhaps it is committed: nothing of it is to be done again
            raise
        log.exception("changes.failed_together", changes=len(group))  # whose fault, shows alone
    return [None] * len(group)


async def decide(
    database: Database,
    workspace: UUID,
    request: Repeatable | None,
    work: Callable[[Connection, bool], Awaitable[T]],
    *,
    waited: float = 0,
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
                keys=idempotency.keys(request),
                waited=waited,
            )
        except LostRace:
            continue
    raise DatabaseUnavailable("Too many requests change the same thing at once; try again.")
