"""The idle scan of all workspaces: where is there work, and when will there be the next?

Only the first question is asked across workspaces, under the jobs' role, which sees of a deal no
more than when it is due; each workspace is then scanned under the app's role. Scans take turns
batch by batch, so that a workspace with much to flag keeps no other waiting.
"""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

import prometheus_client
import structlog

from app.actions.flag_idle import flag_idle
from app.domain.errors import DatabaseUnavailable
from app.storage.engine import JOB, Database, Role
from app.storage.idle_scans import IdleScan
from app.storage.queries import idle

AGAIN: Final = 0.25
"""Seconds until a deal is looked at again that was due and that another writer held; and between
two looks for workspaces that have come to be due while others are scanned."""
AT_ONCE: Final = 2
"""Batches at once: few, as each keeps this worker from its requests; more than one, as a batch may
have to wait for its workspace's lock."""

log = structlog.get_logger("sluice.idle")


class ScanMetrics:
    """What the scans of this worker found, and how late the service is at present."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        self._flags = prometheus_client.Counter(
            "sluice_idle_flags",
            "Idle flags that this worker's scans opened, and that they escalated.",
            ("change",),
            registry=registry,
        )
        self._lag = prometheus_client.Gauge(
            "sluice_idle_scan_lag_seconds",
            "How long the longest overdue deal of all workspaces had been due at the last look.",
            registry=registry,
        )

    def found(self, scan: IdleScan) -> None:
        self._flags.labels("opened").inc(scan.flagged)
        self._flags.labels("escalated").inc(scan.escalated)

    def looked(self, due: Collection[idle.NextDue]) -> None:
        self._lag.set(max([0.0, *(-each.seconds for each in due)]))


class IdleScans:
    """The scans of one process, and where it would be of no use to scan again at once."""

    def __init__(
        self, database: Database, interval: timedelta, metrics: ScanMetrics | None = None
    ) -> None:
        self._metrics = metrics or ScanMetrics(prometheus_client.CollectorRegistry())
        self._database = database
        self._interval = interval
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._rests: dict[UUID, float] = {}  # until when, by the event loop's clock

    async def scan_all(self) -> timedelta | None:
        """Flag what is due everywhere; how long until the next deal is due, if within the interval.

        What comes to be due meanwhile is flagged as well. A workspace that cannot be scanned is
        logged, and its next scan is at the interval. Raises DatabaseUnavailable.
        """
        under_way: dict[UUID, asyncio.Task[None]] = {}
        ended: set[UUID] = set()
        try:
            while True:
                expected = await self._expected()
                for workspace in ended:
                    if expected.get(workspace, AGAIN) <= 0:  # what another writer held
                        expected[workspace] = self._rest(workspace, AGAIN)
                for workspace, seconds in expected.items():
                    if seconds <= 0 and workspace not in under_way:
                        under_way[workspace] = asyncio.create_task(self._scan(workspace))
                if not under_way:
                    return _first(expected.values())
                await asyncio.wait(under_way.values(), timeout=AGAIN)
                ended = {workspace for workspace, scan in under_way.items() if scan.done()}
                for workspace in ended:
                    under_way.pop(workspace).result()
        finally:
            for scan in under_way.values():
                scan.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)

    async def next_due(self, workspaces: Collection[UUID] | None) -> timedelta | None:
        """How long until there is something to scan in these workspaces (None: in all), if within
        the interval. Raises DatabaseUnavailable.
        """
        return _first((await self._expected(workspaces)).values())

    async def _scan(self, workspace: UUID) -> None:
        self._rests.pop(workspace, None)
        try:
            self._metrics.found(await flag_idle(self._database, workspace, turns=self._turns))
        except DatabaseUnavailable as busy:
            log.warning("idle.scan_postponed", workspace=str(workspace), reason=busy.detail)
            self._rest(workspace, self._interval.total_seconds())
        except Exception:
            log.exception("idle.scan_failed", workspace=str(workspace))
            self._rest(workspace, self._interval.total_seconds())

    def _rest(self, workspace: UUID, seconds: float) -> float:
        self._rests[workspace] = asyncio.get_running_loop().time() + seconds
        return seconds

    async def _expected(self, workspaces: Collection[UUID] | None = None) -> dict[UUID, float]:
        """In how many seconds each workspace is to be scanned, where that is within the interval;
        ≤ 0: now.
        """
        async with self._database.read(None, role=Role.JOBS, timeouts=JOB) as connection:
            found = await idle.soonest(connection, self._interval, workspaces)
        if workspaces is None:
            self._metrics.looked(found)
        now = asyncio.get_running_loop().time()
        return {
            due.workspace_id: max(due.seconds, self._rests.get(due.workspace_id, 0.0) - now)
            for due in found
        }


def _first(seconds: Collection[float]) -> timedelta | None:
    return timedelta(seconds=max(min(seconds), 0.0)) if seconds else None
