"""From the feed to an endpoint's deliveries: every event that it asked for, once and in order.

What is new in the feed is read without holding anything. Then, in one transaction, the endpoint's
position is moved on from where it was read and the deliveries are added: of two workers that read
the same stretch one finds that the position has moved, and adds nothing; one that dies in between
has added nothing either.
"""

from itertools import count
from typing import Final
from uuid import UUID

from app.domain.errors import NotFound
from app.domain.webhook import Endpoint
from app.storage import events, webhook_deliveries, webhooks
from app.storage.engine import JOB, Connection, Database, Lock
from app.storage.events import Position

PAGE: Final = 500
"""Events that are looked at in one go."""


async def fan_out(
    database: Database, workspace: UUID, endpoint_id: UUID, *, pages: int | None = None
) -> int:
    """Add the endpoint's deliveries for what is settled in the feed; how many.

    At most so many pages of it, else all. An endpoint that is gone or disabled gets none.
    """
    added = 0
    for _ in count() if pages is None else range(pages):
        async with database.read(workspace, timeouts=JOB) as reading:
            try:
                endpoint = await webhooks.one(reading, workspace, endpoint_id)
            except NotFound:
                break
            wanted = endpoint.subscription
            horizon = await events.horizon(reading)
            happened = await events.after(
                reading,
                workspace,
                endpoint.position,
                horizon,
                limit=PAGE,
                types=wanted.types,
                pipeline_id=wanted.pipeline_id,
                historical=wanted.include_historical,
            )
        is_full = len(happened) == PAGE
        onward = happened[-1].position if is_full else max(endpoint.position, horizon)
        told = [
            (event.event_id, event.position)
            for event in happened
            if wanted.concerns(event.type, event.data)
        ]
        if endpoint.disabled_at is not None or onward == endpoint.position:
            break
        if not await _add(database, workspace, endpoint, onward, told):
            break  # another worker was here, or the endpoint has changed: look again later
        added += len(told)
        if not is_full:
            break
    return added


async def _add(
    database: Database,
    workspace: UUID,
    endpoint: Endpoint,
    onward: Position,
    told: list[tuple[UUID, Position]],
) -> bool:
    """Move the endpoint on and add its deliveries, if it is still as it was read."""

    async def work(connection: Connection) -> bool:
        last = await webhooks.told(connection, workspace, endpoint, onward, len(told))
        if last is None:
            return False
        await webhook_deliveries.append(connection, workspace, endpoint.endpoint_id, last, told)
        return True

    return await database.write(workspace, work, lock=Lock.NONE, timeouts=JOB)
