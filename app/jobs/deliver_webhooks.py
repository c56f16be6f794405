"""Webhooks on their way: a courier in every worker, woken by what is committed.

Whatever wakes it, a courier looks for all endpoints that have something to do, of all workspaces,
under the jobs' role; the work is done in one workspace at a time under the app's. It reads the feed
on for those that are behind, claims what is due and sends it, as many at once as fits: so many in
all, for one workspace and to one endpoint, so that whoever is slow or down keeps nobody else
waiting.

Any number of couriers may run: what each does is made of transactions that exclude each other.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import prometheus_client
import structlog

from app.actions.deliver_webhook import Outcome, claim, deliver
from app.actions.fan_out_webhooks import fan_out
from app.domain.errors import DatabaseUnavailable
from app.outbound.sending import Outbound
from app.storage.engine import JOB, Database, Role
from app.storage.notices import Wake
from app.storage.queries import webhooks
from app.storage.queries.webhooks import Stirring
from app.storage.webhook_deliveries import Claim

IN_FLIGHT: Final = 128
"""Attempts under way in one worker."""
OF_ONE_WORKSPACE: Final = 32
"""Of these, for one workspace: whose receivers are slow waits for itself."""
OF_ONE_ENDPOINT: Final = 8
"""Of these, to one endpoint; to one that is failing a single one."""
PAUSE: Final = 0.02
"""Seconds between two looks while nothing is under way, however much is committed."""
SOON: Final = 0.05
"""Seconds until an event that is committed is looked for again, held back by what still runs."""
GRACE: Final = 5.0
"""Seconds that attempts under way are given when the worker leaves."""
TALLY: Final = 15.0
"""Seconds between two counts of what waits."""

log = structlog.get_logger("sluice.webhooks")


class WebhookMetrics:
    """Attempts of this worker, and what waits in the whole database."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        self._attempts = prometheus_client.Counter(
            "sluice_webhook_attempts",
            "Attempts to deliver, by what they came to.",
            ("outcome",),
            registry=registry,
        )
        self._pending = prometheus_client.Gauge(
            "sluice_webhook_deliveries_pending",
            "Deliveries that wait to be tried, for the first time or again.",
            registry=registry,
        )
        self._oldest = prometheus_client.Gauge(
            "sluice_webhook_oldest_pending_seconds",
            "How long the oldest of them has been waiting.",
            registry=registry,
        )

    def attempted(self, outcome: Outcome) -> None:
        self._attempts.labels(outcome.value).inc()

    def waiting(self, backlog: webhooks.Backlog) -> None:
        self._pending.set(backlog.pending)
        self._oldest.set(backlog.oldest_seconds)


@asynccontextmanager
async def delivering(
    database: Database, outbound: Outbound, metrics: WebhookMetrics
) -> AsyncIterator[None]:
    """Have a courier run for as long as this lasts; at its end nothing of it is left running."""
    running = asyncio.create_task(Courier(database, outbound, metrics).run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class Courier:
    """Looks, claims and sends; see the module."""

    def __init__(self, database: Database, outbound: Outbound, metrics: WebhookMetrics) -> None:
        self._database = database
        self._outbound = outbound
        self._metrics = metrics
        self._under_way: dict[asyncio.Task[None], Claim] = {}
        self._counted_at = float("-inf")

    async def run(self) -> None:
        """Look whenever something may have happened, until cancelled."""
        try:
            with self._database.notices.listening() as wake:
                while True:
                    await self._rest(wake, await self._look_safely())
        finally:
            await self._leave()

    async def look(self) -> float | None:
        """Start what can be started; in how many seconds to look again at the latest, if known."""
        async with self._database.read(None, role=Role.JOBS, timeouts=JOB) as connection:
            now = asyncio.get_running_loop().time()
            if now - self._counted_at >= TALLY:
                self._metrics.waiting(await webhooks.backlog(connection))
                self._counted_at = now
            stirring = await webhooks.stirring(connection)
        ahead: list[float] = []
        for endpoint in stirring:
            try:
                await self._attend(endpoint)
            except DatabaseUnavailable as away:
                log.warning("webhooks.postponed", **_named(endpoint), reason=away.detail)
            except Exception:
                log.exception("webhooks.failed", **_named(endpoint))
            if endpoint.is_unsettled:
                ahead.append(SOON)
            if endpoint.due_in is not None and endpoint.due_in > 0:
                ahead.append(endpoint.due_in)
        return min(ahead, default=None)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _look_safely(self) -> float | None:
        try:
            return await self.look()
        except DatabaseUnavailable as away:
            log.warning("webhooks.postponed", reason=away.detail)
        except Exception:
            log.exception("webhooks.failed")
        return None

    async def _rest(self, wake: Wake, ahead: float | None) -> None:
        # What ends writes, and what writes wakes; so the end of an attempt needs no other signal.
        if not self._under_way:
            await asyncio.sleep(PAUSE)
        patience = self._database.notices.patience
        await wake.wait(patience if ahead is None else min(ahead, patience))

    async def _attend(self, endpoint: Stirring) -> None:
        """Read the feed on for an endpoint, and start what is due of its deliveries."""
        added = 0
        if endpoint.is_behind:  # a page at a time: a long way back keeps no other waiting
            added = await fan_out(
                self._database, endpoint.workspace_id, endpoint.endpoint_id, pages=1
            )
        is_due = endpoint.due_in is not None and endpoint.due_in <= 0
        if not added and not is_due:
            return
        room = self._room_for(endpoint)
        if room <= 0:
            return
        for claimed in await claim(
            self._database, endpoint.workspace_id, endpoint.endpoint_id, room
        ):
            task = asyncio.create_task(self._deliver(claimed))
            self._under_way[task] = claimed
            task.add_done_callback(self._under_way.pop)

    def _room_for(self, endpoint: Stirring) -> int:
        """How many attempts more may be under way to this endpoint."""
        of_endpoint = of_workspace = 0
        for claimed in self._under_way.values():
            of_endpoint += claimed.endpoint_id == endpoint.endpoint_id
            of_workspace += claimed.workspace_id == endpoint.workspace_id
        return min(
            (1 if endpoint.is_failing else OF_ONE_ENDPOINT) - of_endpoint,
            OF_ONE_WORKSPACE - of_workspace,
            IN_FLIGHT - len(self._under_way),
        )

    async def _deliver(self, claimed: Claim) -> None:
        draw = random.random()  # noqa: S311 -- jitter
        try:
            outcome = await deliver(self._database, self._outbound, claimed, draw)
        except DatabaseUnavailable as away:  # it will be sent again when its lease has run out
            log.warning("webhook.not_noted", endpoint=str(claimed.endpoint_id), reason=away.detail)
        except Exception:
            log.exception("webhook.failed", endpoint=str(claimed.endpoint_id))
        else:
            self._metrics.attempted(outcome)

    async def _leave(self) -> None:
        """Give what is under way a moment to end; what does not is another worker's to repeat."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=GRACE)
        left = list(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _named(endpoint: Stirring) -> dict[str, str]:
    return {"workspace": str(endpoint.workspace_id), "endpoint": str(endpoint.endpoint_id)}
