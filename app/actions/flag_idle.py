"""The idle scan of one workspace: flags the deals that have come to be due, and tells of them.

A scan costs what has newly fallen idle, not what is open. Deals are taken by `goes_idle_at` in
batches, each a transaction of its own, and a row that someone else holds is passed over: any
number of scans may run at once, and one that is killed leaves whole batches behind. That an
episode has one flag is the key of the table; that a flag stands open only on a deal that is due is
the lock under which it is opened.
"""

from collections.abc import Callable
from time import perf_counter
from uuid import UUID

import structlog

from app.actions import announcements
from app.domain import opportunity
from app.domain.access import Principal
from app.domain.idle_flag import raised
from app.storage import events, idempotency, idle_flags, pipelines
from app.storage.engine import JOB, Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.statement import execute

BATCH = 250
"""Deals per transaction: what is worked out of them keeps this worker from its requests so long."""

log = structlog.get_logger("sluice.idle")


async def flag_idle(database: Database, workspace: UUID) -> int:
    """Flag every deal of the workspace that is due and that nobody else holds; how many."""
    began = perf_counter()
    flagged = taken = await _flag_batch(database, workspace)
    while taken == BATCH:
        taken = await _flag_batch(database, workspace)
        flagged += taken
    if flagged:
        seconds = round(perf_counter() - began, 4)
        log.info("idle.flagged", workspace=str(workspace), flags=flagged, seconds=seconds)
    return flagged


async def scan_workspace(
    database: Database,
    principal: Principal,
    *,
    request: Repeatable | None,
    answer: Callable[[int], Answer],
) -> Answer:
    """A scan that a caller asks for. The same request again gets the first one's answer.

    A scan is many transactions and repeating one does no harm; so its answer is kept after it.
    """
    workspace = principal.workspace_id

    async def kept(connection: Connection) -> Answer | None:
        return await idempotency.find(connection, workspace, request)

    async def keep(connection: Connection) -> Answer:
        earlier = await idempotency.find(connection, workspace, request)
        if earlier is None:
            await execute(connection, idempotency.keep(workspace, request, answered))
        return earlier or answered

    if request is None:
        return answer(await flag_idle(database, workspace))
    if first := await database.write(workspace, kept, lock=Lock.NONE, key=request.key):
        return first
    answered = answer(await flag_idle(database, workspace))
    return await database.write(workspace, keep, lock=Lock.NONE, key=request.key)


async def _flag_batch(database: Database, workspace: UUID) -> int:
    async def work(connection: Connection) -> int:
        due = await idle_flags.take_due(connection, workspace, BATCH)
        if not due:
            return 0
        now = max(found.now for found in due)
        flags, told = [], []
        for found in due:
            deal = found.deal
            pipeline = await pipelines.load(connection, workspace, deal.pipeline_id, found.revision)
            flag = raised(deal, pipeline, found.flag, new_id(), now)
            flags.append(flag)
            told.append(
                announcements.flag_opened(
                    workspace,
                    opportunity.flagged(deal, flag.flag_id, now),
                    flag,
                    pipeline,
                    now,
                    reopened=found.flag is not None,
                )
            )
        await idle_flags.raise_flags(connection, workspace, flags, now)
        await events.append_all(connection, workspace, told)
        return len(due)

    return await database.write(workspace, work, timeouts=JOB)
