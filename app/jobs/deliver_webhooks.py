"""Webhooks on their way: a courier in every worker, woken by what is committed.

It looks in the workspaces in which something was committed or has come due, and now and then in
all, for endpoints that have something to do, under the jobs' role; the work is done in one
workspace at a time under the app's. It reads the feed on for those that are behind, claims what is
due and sends it, as many at once as fits: so many in all, for one workspace and to one endpoint, so
that whoever is slow or down keeps nobody else waiting.

Any number of couriers may run: what each does is made of transactions that exclude each other.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import UUID

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
"""Attempts under way in one worker; half as many to endpoints that are failing."""
OF_ONE_WORKSPACE: Final = 32
"""Of these, for one workspace: whose receivers are slow waits for itself."""
OF_ONE_ENDPOINT: Final = 8
"""Of these, to one endpoint; to one that is failing a single one."""
PAUSE: Final = 0.02
"""Seconds between two looks, however much is committed."""
PAUSE_OF_NONE: Final = 0.1
"""The same after a look that found no endpoint with anything to do: much is committed that none
asks for, and each look takes some 0.4 ms of the worker."""
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
            "Deliveries that wait to be tried, for the first time or again, at enabled endpoints.",
            registry=registry,
        )
        self._oldest = prometheus_client.Gauge(
            "sluice_webhook_oldest_pending_seconds",
            "How long the longest due of them has been due.",
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
        self._under_way: dict[asyncio.Task[None], Stirring] = {}
        self._crowded_out: set[UUID] = set()
        self._next_look: dict[UUID, float] = {}
        self._counted_at = float("-inf")

    async def run(self) -> None:
        """Look whenever something may have happened, until cancelled."""
        try:
            with self._database.notices.listening() as wake:
                while True:
                    stirring = await self._look_safely(await self._woken(wake))
                    await asyncio.sleep(PAUSE if stirring else PAUSE_OF_NONE)
        finally:
            await self._leave()

    async def look(self, where: Collection[UUID] | None = None) -> bool:
        """Start what can be started in these workspaces; None: in all. Whether any endpoint had
        something to do.
        """
        async with self._database.read(None, role=Role.JOBS, timeouts=JOB) as connection:
            now = asyncio.get_running_loop().time()
            if now - self._counted_at >= TALLY:
                self._metrics.waiting(await webhooks.backlog(connection))
                self._counted_at = now
            stirring = await webhooks.stirring(connection, where)
        of: dict[UUID, list[Stirring]] = {}
        for endpoint in stirring:
            of.setdefault(endpoint.workspace_id, []).append(endpoint)
        for workspace in sorted(of, key=self._held_by):
            try:
                await self._attend(workspace, of[workspace], lazily=where is not None)
            except DatabaseUnavailable as away:
                log.warning("webhooks.postponed", workspace=str(workspace), reason=away.detail)
            except Exception:
                log.exception("webhooks.failed", workspace=str(workspace))
            ahead = [each.due_in for each in of[workspace] if each.due_in and each.due_in > 0]
            if any(each.is_unsettled for each in of[workspace]):
                ahead.append(SOON)
            if ahead:
                self._next_look[workspace] = now + min(ahead)
        return bool(stirring)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _look_safely(self, where: Collection[UUID] | None) -> bool:
        try:
            return await self.look(where)
        except DatabaseUnavailable as away:
            log.warning("webhooks.postponed", reason=away.detail)
        except Exception:
            log.exception("webhooks.failed")
        return True  # perhaps

    async def _woken(self, wake: Wake) -> Collection[UUID] | None:
        """Where to look, once it is time: where was something committed, or is due; None: in all.

        What ends writes, and what writes wakes; so the end of an attempt needs no other signal,
        and who found no room is looked at again whenever anything happens.
        """
        told: frozenset[UUID] | None = frozenset()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._next_look.values(), default=None)):
                told = await wake.wait()
        now = asyncio.get_running_loop().time()
        due = {where for where, at in self._next_look.items() if at <= now or told is None}
        for workspace in due:
            del self._next_look[workspace]
        due |= self._crowded_out
        self._crowded_out.clear()
        return None if told is None else told | due

    async def _attend(self, workspace: UUID, stirring: Sequence[Stirring], *, lazily: bool) -> None:
        """Read the feed on for the endpoints of a workspace, and start what is due for them."""
        added: Mapping[UUID, int] = {}
        if any(each.is_behind for each in stirring):
            # A page at a time: a long way back keeps no other waiting.
            added = await fan_out(self._database, workspace, lazily=lazily)
        waiting = {
            each.endpoint_id: each
            for each in stirring
            if each.endpoint_id in added or (each.due_in is not None and each.due_in <= 0)
        }
        places, limit = self._places(workspace, waiting.values())
        if not places:
            return
        claimed = await claim(self._database, workspace, places, limit)
        for each in claimed:
            task = asyncio.create_task(self._deliver(each))
            self._under_way[task] = waiting[each.endpoint_id]
            task.add_done_callback(self._under_way.pop)
        if len(claimed) >= limit:
            self._crowded_out.add(workspace)

    def _places(
        self, workspace: UUID, waiting: Collection[Stirring]
    ) -> tuple[dict[UUID, int], int]:
        """How many attempts more may be under way to these endpoints, and how many in all.

        A workspace may hold no more than it leaves free: so whoever comes next finds room, however
        many of those before hang. Endpoints that are known to fail come last, and share a half.
        """
        free = IN_FLIGHT - len(self._under_way)
        held = self._held_by(workspace)
        limit = min(OF_ONE_WORKSPACE - held, (free - held + 1) // 2)
        failing = IN_FLIGHT // 2 - sum(each.is_failing for each in self._under_way.values())
        to_each = Counter(each.endpoint_id for each in self._under_way.values())
        places: dict[UUID, int] = {}
        for each in sorted(
            waiting, key=lambda each: (each.is_failing, to_each[each.endpoint_id], each.due_in or 0)
        ):
            room = (1 if each.is_failing else OF_ONE_ENDPOINT) - to_each[each.endpoint_id]
            if room <= 0:
                continue  # the end of its own attempts is awaited
            if limit <= 0 or (each.is_failing and failing <= 0):
                self._crowded_out.add(workspace)
                break
            failing -= each.is_failing
            places[each.endpoint_id] = room
        return places, limit

    def _held_by(self, workspace: UUID) -> int:
        return sum(each.workspace_id == workspace for each in self._under_way.values())

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
