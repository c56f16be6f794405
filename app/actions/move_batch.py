"""Many moves in one request, each with its own outcome.

Moves of one deal happen in the order in which they stand; different deals side by side. Every move
is a transaction of its own, decided by the same rules as a single one: a batch is no way around
them, and one that is refused takes nothing else with it. Under an idempotency key each move is
repeatable by itself, so that sending the batch again only does what had not been done.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from app.actions.deciding import VersionCheck
from app.actions.move_opportunity import Moved, move_opportunity
from app.domain.access import Principal
from app.domain.errors import SluiceError
from app.domain.transition import Move
from app.storage import idempotency
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.statement import execute

AT_ONCE = 4
"""Deals of one batch moved side by side: a batch shares the pool with everyone else."""


@dataclass(frozen=True, slots=True)
class BatchMove:
    opportunity_id: UUID
    move: Move
    note: str | None
    check: VersionCheck


async def move_batch(
    database: Database,
    principal: Principal,
    moves: Sequence[BatchMove],
    *,
    request: Repeatable | None,
    answer: Moved,
) -> list[Answer | SluiceError]:
    """What became of each move, in the order in which they were sent.

    Raises IdempotencyKeyReused where the key was sent with another request.
    """
    if request is not None:
        await _claim(database, principal.workspace_id, request)
    outcomes: dict[int, Answer | SluiceError] = {}
    by_deal: defaultdict[UUID, list[int]] = defaultdict(list)
    for number, item in enumerate(moves):
        by_deal[item.opportunity_id].append(number)
    places = asyncio.Semaphore(AT_ONCE)

    async def of_one_deal(numbers: list[int]) -> None:
        async with places:
            for number in numbers:
                item = moves[number]
                try:
                    outcomes[number] = await move_opportunity(
                        database,
                        principal,
                        item.opportunity_id,
                        item.move,
                        note=item.note,
                        check=item.check,
                        request=_numbered(request, number),
                        answer=answer,
                    )
                except SluiceError as refused:
                    outcomes[number] = refused

    async with asyncio.TaskGroup() as tasks:
        for numbers in by_deal.values():
            tasks.create_task(of_one_deal(numbers))
    return [outcomes[number] for number in range(len(moves))]


async def _claim(database: Database, workspace: UUID, request: Repeatable) -> None:
    """Keep whose key it is. There is no answer to keep: what each move is told, it keeps itself."""

    async def work(connection: Connection) -> None:
        if await idempotency.find(connection, workspace, request) is None:
            await execute(connection, idempotency.keep(workspace, request, Answer(200, b"")))

    await database.write(workspace, work, lock=Lock.NONE, key=request.key)


def _numbered(request: Repeatable | None, number: int) -> Repeatable | None:
    """The same request as far as one of its moves is concerned."""
    if request is None:
        return None
    own = sha256(request.fingerprint + str(number).encode()).digest()
    return Repeatable(f"{request.key}#{number}", own)
