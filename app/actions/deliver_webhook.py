"""One attempt to deliver: claimed in one transaction, sent in none, and noted in another.

At least once: whoever dies between sending and noting has sent what will be sent again when the
lease has run out, under the same `webhook-id`. So receivers keep the ids that they have seen.
"""

from enum import StrEnum
from uuid import UUID

import structlog

from app.actions.manage_webhooks import disabling
from app.domain import webhook_retries
from app.domain.errors import NotFound
from app.domain.webhook import DeliveryState, Disabling, Reply
from app.domain.webhook_signature import signature
from app.outbound.sending import Outbound
from app.storage import events, webhook_deliveries, webhooks
from app.storage.engine import JOB, Connection, Database, Lock
from app.storage.statement import LostRace, execute
from app.storage.webhook_deliveries import Claim

log = structlog.get_logger("sluice.webhooks")


class Outcome(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    POSTPONED = "postponed"
    FAILED = "failed"
    SUPERSEDED = "superseded"  # another worker has taken it over, or the endpoint is gone


async def claim(database: Database, workspace: UUID, endpoint_id: UUID, limit: int) -> list[Claim]:
    """Take at most so many deliveries that are due."""

    async def work(connection: Connection) -> list[Claim]:
        return await webhook_deliveries.claim(connection, workspace, endpoint_id, limit)

    return await database.write(workspace, work, lock=Lock.NONE, timeouts=JOB)


async def deliver(database: Database, outbound: Outbound, claimed: Claim, draw: float) -> Outcome:
    """Send it and note what came of it. `draw` is a random number in [0, 1), for the next wait."""
    reply = await send(outbound, claimed)
    return await note(database, claimed, reply, draw)


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
    )


async def note(database: Database, claimed: Claim, reply: Reply, draw: float) -> Outcome:
    """Keep what came of the attempt, and settle what becomes of the delivery and the endpoint."""
    workspace, endpoint_id = claimed.workspace_id, claimed.endpoint_id

    async def succeeded(connection: Connection) -> Outcome:
        await execute(
            connection,
            [
                webhook_deliveries.finish(claimed, DeliveryState.DELIVERED),
                webhook_deliveries.note(claimed, reply),
                webhooks.succeeded(workspace, endpoint_id),
            ],
        )
        return Outcome.DELIVERED

    async def failed(connection: Connection) -> Outcome:
        endpoint, streak, now = await webhooks.locked(connection, workspace, endpoint_id)
        streak = streak.failed(now)
        asked = webhook_retries.retry_after(reply.status, reply.retry_after, now)
        wait = None if reply.is_gone else webhook_retries.wait(claimed.number, draw, asked)
        if wait is None:
            outcome = Outcome.FAILED
            settled = webhook_deliveries.finish(claimed, DeliveryState.FAILED)
        else:
            outcome = Outcome.POSTPONED
            settled = webhook_deliveries.postpone(claimed, wait)
        parts = [settled, webhook_deliveries.note(claimed, reply)]
        if endpoint.disabled_at is None and (reply.is_gone or streak.is_hopeless):
            reason = Disabling.GONE if reply.is_gone else Disabling.FAILING
            await execute(connection, disabling(workspace, endpoint, streak, reason, now))
        else:
            parts.append(webhooks.failed(workspace, endpoint_id, streak))
        await execute(connection, parts)
        return outcome

    work = succeeded if reply.is_success else failed
    try:
        return await database.write(workspace, work, lock=Lock.NONE, timeouts=JOB)
    except (LostRace, NotFound):
        log.info(
            "webhook.superseded",
            workspace=str(workspace),
            endpoint=str(endpoint_id),
            sequence=claimed.sequence,
            attempt=claimed.number,
        )
        return Outcome.SUPERSEDED
