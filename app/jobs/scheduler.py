"""What the service does by itself, and how often: APScheduler in every worker.

No worker is the leader. Each job may run in any number of workers at once, because what it does is
made of transactions that exclude each other; and each may be cancelled anywhere, because what it
has not committed is done by whoever comes next.

APScheduler keeps a job's next turn as an instant of the host's clock. Where that clock is put back
by an hour, all jobs would rest for an hour; so it is compared, twice a second, with the event
loop's clock, which nobody can set, and where the two have parted every job's turn is now.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.domain.errors import DatabaseUnavailable
from app.jobs.fold_segments import fold_all
from app.jobs.idle_scan import IdleScans, ScanMetrics
from app.jobs.run_imports import run_pending_imports
from app.storage import idempotency, idle_scans, webhook_deliveries, webhooks
from app.storage.engine import JOB, Connection, Database, Role

IMPORTING: Final = timedelta(seconds=1)
"""An import that was just taken on waits at most this long."""
FOLDING: Final = timedelta(seconds=5)
WATCHING: Final = 0.1
"""Seconds between two looks at what was committed."""
FALTERED: Final = 1.0
"""Seconds after a look that failed."""
CLEARING: Final = timedelta(minutes=10)
COMPARING: Final = 0.5
"""Seconds between two comparisons of the host's clock with the event loop's."""
STEP: Final = 0.1
"""Seconds by which the host's clock was set, rather than regulated or read late."""
_SOON: Final = timedelta(milliseconds=5)  # a job is not started again before it has ended

log = structlog.get_logger("sluice.jobs")


@asynccontextmanager
async def scheduled(
    database: Database, interval: timedelta, scan_metrics: ScanMetrics | None = None
) -> AsyncIterator["Scheduler"]:
    """Run the jobs for as long as this lasts; at its end none of them is left running.

    `interval` is the time between two idle scans.
    """
    scheduler = Scheduler()
    scans = IdleScans(database, interval, scan_metrics)

    async def scan() -> None:
        if (ahead := await scans.scan_all()) is not None:
            scheduler.bring_forward("idle_scan", ahead)

    async def run_imports() -> None:
        await run_pending_imports(database)

    async def fold() -> None:
        if await fold_all(database):
            scheduler.bring_forward("fold_segments", timedelta(0))

    async def clear() -> None:
        await clear_what_is_old(database)

    scheduler.every(IMPORTING, "run_imports", run_imports)
    scheduler.every(FOLDING, "fold_segments", fold)
    scheduler.every(CLEARING, "clear_what_is_old", clear)
    scheduler.every(interval, "idle_scan", scan)
    watching = asyncio.create_task(_watch(database, scans, scheduler, interval))
    scheduler.start()
    try:
        yield scheduler
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await scheduler.stop()


async def _watch(
    database: Database, scans: IdleScans, scheduler: "Scheduler", interval: timedelta
) -> None:
    """Bring the scan forward where a commit has left a deal that is due before its next turn."""
    with database.notices.listening() as wake:
        while True:
            where = await wake.wait(interval.total_seconds())
            try:
                ahead = await scans.next_due(where)
                if ahead is not None:
                    scheduler.bring_forward("idle_scan", ahead)
            except Exception as failed:
                if not isinstance(failed, DatabaseUnavailable):  # of that the scan will tell
                    log.exception("idle.watch_failed")
                wake.hear(None)  # it may have been anywhere that there was something to see
                await asyncio.sleep(FALTERED)
            await asyncio.sleep(WATCHING)


class Scheduler:
    """Jobs at their intervals, each at most once at a time in this process."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, datetime] = {}
        self._comparing: asyncio.Task[None] | None = None

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
        """Run the job in so long from now, if its turn were later; again, where it runs then."""
        at = datetime.now(UTC) + max(ahead, _SOON)
        if name in self._running:
            self._wanted[name] = min(at, self._wanted.get(name, at))
        elif at < self._scheduler.get_job(name).next_run_time:
            self._scheduler.modify_job(name, next_run_time=at)

    def start(self) -> None:
        self._scheduler.start()
        self._comparing = asyncio.create_task(self._compare_clocks())

    async def stop(self) -> None:
        """Begin nothing more, break off what runs, and return when it has ended."""
        self._scheduler.pause()
        running = [*self._running.values(), *filter(None, [self._comparing])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._scheduler.shutdown(wait=False)
        await asyncio.sleep(0)  # the scheduler ends itself in the loop's next round

    async def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        task = self._running[name] = asyncio.ensure_future(work())
        try:
            await asyncio.wait([task])
            if task.cancelled():
                log.info("job.broken_off", job=name)
            else:
                task.result()
        except DatabaseUnavailable as away:
            log.warning("job.postponed", job=name, reason=away.detail)
        finally:
            del self._running[name]
            if wanted := self._wanted.pop(name, None):
                self.bring_forward(name, wanted - datetime.now(UTC))

    async def _compare_clocks(self) -> None:
        """Let every job begin anew where the host's clock was put back, or forward."""
        loop = asyncio.get_running_loop()
        apart = time.time() - loop.time()
        while True:
            await asyncio.sleep(COMPARING)
            before, apart = apart, time.time() - loop.time()
            if abs(apart - before) >= STEP:
                log.warning("jobs.clock_set", seconds=round(apart - before, 3))
                now = datetime.now(UTC)
                for job in self._scheduler.get_jobs():
                    if job.id in self._running:
                        self._wanted[job.id] = now
                    else:
                        self._scheduler.modify_job(job.id, next_run_time=now)


async def clear_what_is_old(database: Database) -> None:
    """Delete what has had its time: kept answers, records of scans, deliveries, expired secrets."""

    async def work(connection: Connection) -> bool:
        await webhooks.clear(connection)
        more = [
            await idempotency.clear(connection),
            await idle_scans.clear(connection),
            await webhook_deliveries.clear(connection),
        ]
        return any(more)

    while await database.write(None, work, role=Role.JOBS, timeouts=JOB):
        pass
