"""What the service does by itself, and how often: APScheduler in every worker.

No worker is the leader. Each job may run in any number of workers at once, because what it does is
made of transactions that exclude each other; and each may be cancelled anywhere, because what it
has not committed is done by whoever comes next.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.domain.errors import DatabaseUnavailable
from app.jobs.fold_segments import fold_all
from app.jobs.idle_scan import scan_all
from app.jobs.run_imports import run_pending_imports
from app.settings import Settings
from app.storage import idempotency
from app.storage.engine import JOB, Connection, Database, Role

IMPORTING: Final = timedelta(seconds=1)
"""An import that was just taken on waits at most this long."""
FOLDING: Final = timedelta(seconds=5)
CLEARING: Final = timedelta(minutes=10)
_SOON: Final = timedelta(milliseconds=5)  # a job is not started again before it has ended

log = structlog.get_logger("sluice.jobs")


@asynccontextmanager
async def scheduled(database: Database, settings: Settings) -> AsyncIterator["Scheduler"]:
    """Run the jobs for as long as this lasts; at its end none of them is left running."""
    scheduler = Scheduler()
    interval = settings.idle_scan_interval

    async def scan() -> None:
        ahead = await scan_all(database, interval)
        if ahead is not None:
            scheduler.bring_forward("idle_scan", ahead)

    async def run_imports() -> None:
        await run_pending_imports(database)

    async def fold() -> None:
        await fold_all(database)

    async def clear() -> None:
        await clear_idempotency_records(database)

    scheduler.every(interval, "idle_scan", scan)
    scheduler.every(IMPORTING, "run_imports", run_imports)
    scheduler.every(FOLDING, "fold_segments", fold)
    scheduler.every(CLEARING, "clear_idempotency_records", clear)
    scheduler.start()
    try:
        yield scheduler
    finally:
        await scheduler.stop()


class Scheduler:
    """Jobs at their intervals, each at most once at a time in this process."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._running: set[asyncio.Task[None]] = set()

    def every(self, interval: timedelta, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` now and then at this interval; late rather than not at all."""
        self._scheduler.add_job(
            self._run,
            "interval",
            args=(name, work),
            id=name,
            seconds=interval.total_seconds(),
            next_run_time=datetime.now(UTC),
            misfire_grace_time=ceil(interval.total_seconds()),
            coalesce=True,
            max_instances=1,
        )

    def bring_forward(self, name: str, ahead: timedelta) -> None:
        """Run the job in so long from now, if its turn were later."""
        at = datetime.now(UTC) + max(ahead, _SOON)
        if at < self._scheduler.get_job(name).next_run_time:
            self._scheduler.modify_job(name, next_run_time=at)

    def start(self) -> None:
        self._scheduler.start()

    async def stop(self) -> None:
        """Begin nothing more, break off what runs, and return when it has ended."""
        self._scheduler.pause()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._scheduler.shutdown(wait=False)
        await asyncio.sleep(0)  # the scheduler ends itself in the loop's next round

    async def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(work())
        self._running.add(task)
        try:
            await asyncio.wait([task])
            if task.cancelled():
                log.info("job.broken_off", job=name)
            else:
                task.result()
        except DatabaseUnavailable as away:
            log.warning("job.postponed", job=name, reason=away.detail)
        finally:
            self._running.discard(task)


async def clear_idempotency_records(database: Database) -> None:
    """Delete the answers that have been kept for their day."""

    async def work(connection: Connection) -> bool:
        return await idempotency.clear(connection)

    while await database.write(None, work, role=Role.JOBS, timeouts=JOB):
        pass
