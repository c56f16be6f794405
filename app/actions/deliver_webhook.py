"""One attempt to deliver: claimed in one transaction, sent in none, and noted in another.

At least once: whoever dies between sending and noting has sent what will be sent again when the
lease has run out, under the same `webhook-id`. So receivers keep the ids that they have seen.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from app.actions import audit_entries
from app.actions.manage_webhooks import disabling, held_back
from app.domain import webhook_retries
from app.domain.access import WHOLE
from app.domain.errors import DatabaseUnavailable, NotFound
from app.domain.webhook import DeliveryState, Disabling, Reply
from app.domain.webhook_signature import signature
from app.outbound.addresses import NoRoom
from app.outbound.sending import TIMEOUT, Outbound
from app.storage import events, webhook_deliveries, webhooks
from app.storage.engine import JOB, Connection, Database, Lock, Work
from app.storage.statement import LostRace, Part, execute
from app.storage.webhook_deliveries import LEASE, Claim

NOTED_WITHIN: Final = LEASE.total_seconds() - TIMEOUT
"""Seconds after the claim in which noting is tried anew; then the lease is nearly over."""
BETWEEN_NOTES: Final = 1.0
CROWDED: Final = timedelta(seconds=5)
"""How long what could not be tried is put off."""

log = structlog.get_logger("sluice.webhooks")


class Outcome(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    POSTPONED = "postponed"
    FAILED = "failed"
    SUPERSEDED = "superseded"  # another worker has taken it over, or the endpoint is gone


async def claim(
    database: Database, workspace: UUID, places: Mapping[UUID, int], limit: int
) -> list[Claim]:
    """Take what is due: for each endpoint as many as it has places, at most `limit` in all."""

    async def work(connection: Connection) -> list[Claim]:
        return await webhook_deliveries.claim(connection, workspace, places, limit)

    return await database.write(workspace, work, lock=Lock.NONE, timeouts=JOB)


async def deliver(database: Database, outbound: Outbound, claimed: Claim, draw: float) -> Outcome:
    """Send it and note what came of it. `draw` is a random number in [0, 1), for the next wait.

    What was sent and is not noted will be sent again: so a database that is away for a moment is
    asked again for as long as nobody else can have taken the delivery over. Raises
    DatabaseUnavailable after that.
    """
    clock = asyncio.get_running_loop().time
    latest = clock() + NOTED_WITHIN
    try:
        reply = await send(outbound, claimed)
    except NoRoom:
        noting = partial(release, database, claimed)
    else:
        noting = partial(note, database, claimed, reply, draw)
    while True:
        try:
            return await noting()
        except DatabaseUnavailable:
            if clock() >= latest:
                raise
        await asyncio.sleep(BETWEEN_NOTES)


async def send(outbound: Outbound, claimed: Claim) -> Reply:
    """Send it, signed as of the instant of its claim."""
    body = events.told(claimed.event)
    message_id = str(claimed.event.event_id)
    timestamp = int(claimed.now.timestamp())
    return await outbound.post(
        claimed.url,
        {
            "Content-Type": "application/json",
            "User-Agent": "Sluice-Webhooks/1.0",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(claimed.secrets, message_id, timestamp, body),
            "webhook-sequence": str(claimed.sequence),
        },
        body,
        claimed.workspace_id,
    )


async def release(database: Database, claimed: Claim) -> Outcome:
    """Give back what could not even be tried: that is no failure of the receiver's."""

    async def work(connection: Connection) -> Outcome:
        await execute(connection, [webhook_deliveries.release(claimed, CROWDED)])
        return Outcome.POSTPONED

    return await _settled(database, claimed, work)


async def note(database: Database, claimed: Claim, reply: Reply, draw: float) -> Outcome:
    """Keep what came of the attempt, and settle what becomes of the delivery and the endpoint."""
    workspace, endpoint_id = claimed.workspace_id, claimed.endpoint_id
    answered_at = claimed.now + timedelta(seconds=reply.seconds)
    asked = webhook_retries.retry_after(reply.status, reply.retry_after, answered_at)
    wait = None if reply.is_gone else webhook_retries.wait(claimed.number, draw, asked)

    async def succeeded(connection: Connection) -> Outcome:
        await execute(
            connection,
            [
                webhook_deliveries.finish(claimed, DeliveryState.DELIVERED),
                webhook_deliveries.note(claimed, reply),
                webhooks.end_streak(workspace, endpoint_id),
            ],
        )
        return Outcome.DELIVERED

    async def failed(connection: Connection) -> Outcome:
        endpoint, streak, now = await webhooks.locked(connection, workspace, WHOLE, endpoint_id)
        noted = webhook_deliveries.note(claimed, reply)
        if endpoint.url != claimed.url:  # what the old one says is no word of the new one
            is_last = claimed.number >= webhook_retries.ATTEMPTS
            outcome, settled = _settling(claimed, None if is_last else timedelta())
            await execute(connection, [settled, noted])
            return outcome
        outcome, settled = _settling(claimed, wait)
        streak = streak.failed(now, for_good=wait is None)
        parts = [settled, noted]
        if endpoint.disabled_at is None and (reply.is_gone or streak.is_hopeless(now)):
            reason = Disabling.GONE if reply.is_gone else Disabling.FAILING
            stopped = await held_back(connection, workspace, endpoint, streak)
            told = disabling(workspace, stopped, streak, reason, now)
            given_up = audit_entries.endpoint_given_up(workspace, stopped, reason, now)
            await execute(connection, [*told, given_up])
        else:
            parts.append(webhooks.failed(workspace, endpoint_id, streak))
        await execute(connection, parts)
        return outcome

    return await _settled(database, claimed, succeeded if reply.is_success else failed)


def _settling(claimed: Claim, wait: timedelta | None) -> tuple[Outcome, Part]:
    """What a failed attempt comes to, with the part that says so; no wait: it was the last one."""
    if wait is None:
        return Outcome.FAILED, webhook_deliveries.finish(claimed, DeliveryState.FAILED)
    return Outcome.POSTPONED, webhook_deliveries.postpone(claimed, wait)


async def _settled(database: Database, claimed: Claim, work: Work[Outcome]) -> Outcome:
    """Do it, unless the delivery is another's by now."""
    try:
        return await database.write(claimed.workspace_id, work, lock=Lock.NONE, timeouts=JOB)
    except (LostRace, NotFound):
        log.info(
            "webhook.superseded",
            workspace=str(claimed.workspace_id),
            endpoint=str(claimed.endpoint_id),
            sequence=claimed.sequence,
            attempt=claimed.number,
        )
        return Outcome.SUPERSEDED
