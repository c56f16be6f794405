"""The idle scan of one workspace: flags the deals that have come to be due, makes flags critical
that have stood for too long, and tells of both.

A scan costs what has newly fallen idle, not what is open. Deals are taken by `goes_idle_at` in
batches, each a transaction of its own, and a row that someone else holds is passed over: any
number of scans may run at once, and one that is killed leaves whole batches behind. That an
episode has one flag is the key of the table; that a flag stands open only on a deal that is due is
the lock under which it is opened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TypeVar
from uuid import UUID

import structlog

from app.actions import announcements
from app.domain import opportunity
from app.domain.access import Principal
from app.domain.idle_flag import escalated, raised
from app.domain.opportunity import Opportunity
from app.storage import events, idempotency, idle_flags, idle_scans, pipelines
from app.storage.engine import JOB, Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.idle_scans import IdleScan
from app.storage.ids import new_id
from app.storage.statement import execute

BATCH = 250
"""Deals per transaction: what is worked out of them keeps this worker from its requests so long."""

log = structlog.get_logger("sluice.idle")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done: for how many deals, by how much the first of them was overdue, and whether
    there may be more.
    """

    deals: int = 0
    lag_seconds: float | None = None
    more: bool = False

    def __add__(self, other: "_Done") -> "_Done":
        lags = [lag for lag in (self.lag_seconds, other.lag_seconds) if lag is not None]
        return _Done(self.deals + other.deals, max(lags, default=None), other.more)


Batch = Callable[[Connection, UUID], Awaitable[_Done]]


async def flag_idle(
    database: Database,
    workspace: UUID,
    *,
    requested_by: str | None = None,
    turns: asyncio.Semaphore | None = None,
) -> IdleScan:
    """Flag every deal of the workspace that is due and that nobody else holds, then make the flags
    critical that have come to be; what was found is kept.

    A flag that was to be critical long ago is opened first: whoever follows hears of both. Each
    transaction waits for one of the `turns`: scans that share them go on batch by batch.
    """
    turns = turns or asyncio.Semaphore()

    async def in_turn(work: Callable[[Connection], Awaitable[T]], lock: Lock = Lock.NONE) -> T:
        async with turns:
            return await database.write(workspace, work, lock=lock, timeouts=JOB)

    async def all_of(batch: Batch) -> _Done:
        done = _Done(more=True)
        while done.more:
            done += await in_turn(lambda connection: batch(connection, workspace), Lock.DEALS)
        return done

    began, started_at = perf_counter(), await in_turn(_now)
    flagged = await all_of(_flag_batch)
    critical = await all_of(_escalate_batch)
    done = IdleScan(
        scan_id=new_id(),
        started_at=started_at,
        seconds=round(perf_counter() - began, 6),
        flagged=flagged.deals,
        escalated=critical.deals,
        lag_seconds=flagged.lag_seconds,
        requested_by=requested_by,
    )
    if requested_by is None and not (flagged.deals or critical.deals):
        return done  # others were faster, or a writer held what was due

    async def keep(connection: Connection) -> None:
        await idle_scans.keep(connection, workspace, done)

    await in_turn(keep)
    log.info(
        "idle.scanned",
        workspace=str(workspace),
        flagged=done.flagged,
        escalated=done.escalated,
        seconds=done.seconds,
        lag_seconds=done.lag_seconds,
    )
    return done


async def scan_workspace(
    database: Database,
    principal: Principal,
    *,
    request: Repeatable | None,
    answer: Callable[[IdleScan], Answer],
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
        return answer(await flag_idle(database, workspace, requested_by=principal.subject))
    keys = idempotency.keys(request)
    if first := await database.write(workspace, kept, lock=Lock.NONE, keys=keys):
        return first
    answered = answer(await flag_idle(database, workspace, requested_by=principal.subject))
    return await database.write(workspace, keep, lock=Lock.NONE, keys=keys)


async def _flag_batch(connection: Connection, workspace: UUID) -> _Done:
    due = await idle_flags.take_due(connection, workspace, BATCH)
    if not due:
        return _Done()
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
                opportunity.flagged(deal, flag.flag_id, now, escalated_at=flag.escalated_at),
                flag,
                pipeline,
                now,
                reopened=found.flag is not None,
            )
        )
    await idle_flags.raise_flags(connection, workspace, flags, now)
    await events.append_all(connection, workspace, told)
    return _Done(len(due), _overdue([found.deal for found in due], now), more=len(due) == BATCH)


async def _escalate_batch(connection: Connection, workspace: UUID) -> _Done:
    due = await idle_flags.take_escalating(connection, workspace, BATCH)
    if not due:
        return _Done()
    now = max(found.now for found in due)
    flags, told, without = [], [], []
    for found in due:
        if found.flag is None:
            without.append(found.deal.opportunity_id)
            continue
        pipeline = await pipelines.load(
            connection, workspace, found.deal.pipeline_id, found.revision
        )
        deal, flag = opportunity.escalated(found.deal, now), escalated(found.flag, now)
        flags.append(flag.flag_id)
        told.append(announcements.flag_escalated(workspace, deal, flag, pipeline, now))
    if without:
        # Which cannot be; but if it is, it must not keep the others waiting, now or ever again.
        log.error("idle.flag_missing", workspace=str(workspace), deals=[str(d) for d in without])
        await idle_flags.never_critical(connection, workspace, without, now)
    await idle_flags.escalate(connection, workspace, flags, now)
    await events.append_all(connection, workspace, told)
    return _Done(len(flags), more=len(due) == BATCH)


def _overdue(deals: Sequence[Opportunity], now: datetime) -> float:
    """Seconds. What was written as overdue could not be flagged before it was written."""
    due = [(deal.idle.goes_idle_at, deal.updated_at) for deal in deals]
    first = min(max(at, written_at) for at, written_at in due if at is not None)
    return max((now - first).total_seconds(), 0.0)


async def _now(connection: Connection) -> datetime:
    found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found
