"""Many moves in one request, each with its own outcome.

Moves of one deal happen in the order in which they stand; different deals side by side. Every move
is decided by itself and by the same rules as a single one: a batch is no way around them, and one
that is refused takes nothing else with it. Under an idempotency key every outcome is
kept, refusals too: a batch sent again is told the same, and one that was broken off goes on with
the moves that have no outcome.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.actions.deciding import VersionCheck
from app.actions.move_opportunity import Moved, move_opportunity
from app.domain.access import Principal
from app.domain.errors import RequestInProgress, SluiceError, Unavailable
from app.domain.transition import Move
from app.storage import idempotency
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.line import TOGETHER
from app.storage.statement import execute

AT_ONCE = TOGETHER
"""Deals of one batch moved side by side: as many as can go in one transaction."""

Refused = Callable[[SluiceError], Answer]
"""Renders what the caller is told of a move that was refused."""

Together = Callable[[Sequence[Answer]], Answer]
"""Renders the answer to the whole batch from its outcomes."""

UNDECIDED = (Unavailable, RequestInProgress)
"""No outcome: nothing is known of the move, and the batch sent again has to try it."""


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
    moved: Moved,
    refused: Refused,
    together: Together,
) -> Answer:
    """What became of each move, in the order in which they were sent.

    A move that could not be tried leaves those of its deal that follow it untried as well: at
    another attempt it would come after them. Raises IdempotencyKeyReused where the key was sent
    with another request.
    """
    workspace = principal.workspace_id
    if request is not None:
        # Claimed by an empty answer: another request under the key is refused before any move.
        known = await _kept(database, workspace, request, Answer(200, b""))
        if known.body:
            return known
    outcomes: dict[int, Answer] = {}
    undecided = False
    by_deal: defaultdict[UUID, list[int]] = defaultdict(list)
    for number, item in enumerate(moves):
        by_deal[item.opportunity_id].append(number)
    places = asyncio.Semaphore(AT_ONCE)

    async def outcome_of(number: int) -> Answer:
        item, own = moves[number], _numbered(request, number)
        try:
            return await move_opportunity(
                database,
                principal,
                item.opportunity_id,
                item.move,
                note=item.note,
                check=item.check,
                request=own,
                answer=moved,
            )
        except UNDECIDED:
            raise
        except SluiceError as refusal:
            told = refused(refusal)
            return told if own is None else await _kept(database, workspace, own, told)

    async def of_one_deal(numbers: list[int]) -> None:
        nonlocal undecided
        async with places:
            for place, number in enumerate(numbers):
                try:
                    outcomes[number] = await outcome_of(number)
                except UNDECIDED as unknown:
                    undecided = True
                    outcomes.update(dict.fromkeys(numbers[place:], refused(unknown)))
                    break

    async with asyncio.TaskGroup() as tasks:
        for numbers in by_deal.values():
            tasks.create_task(of_one_deal(numbers))
    answer = together([outcomes[number] for number in range(len(moves))])
    if request is None or undecided:
        return answer
    return await _kept(database, workspace, request, answer)


async def _kept(database: Database, workspace: UUID, request: Repeatable, answer: Answer) -> Answer:
    """The answer that the request has had already, else this one, which is kept from now on.

    An empty one is a claim and no answer yet: it gives way.
    """

    async def work(connection: Connection) -> Answer:
        known = await idempotency.find(connection, workspace, request)
        if known is not None and (known.body or not answer.body):
            return known
        await execute(connection, idempotency.keep(workspace, request, answer))
        return answer

    return await database.write(workspace, work, lock=Lock.NONE, keys=idempotency.keys(request))


def _numbered(request: Repeatable | None, number: int) -> Repeatable | None:
    """The same request as far as one of its moves is concerned, under a key nobody can send.

    No header's value holds a control character. The fingerprint keeps it apart from another batch
    under the same key, whose claim may be gone: expired, or dropped with an erased deal.
    """
    if request is None:
        return None
    own = "\x1f".join((request.key, request.fingerprint.hex(), str(number)))
    return Repeatable(own, request.fingerprint)
