"""From the feed to the endpoints' deliveries: every event that was asked for, once and in order.

What is new in the feed is read once for all endpoints of a workspace, without holding anything.
Then, in one transaction, the position of each is moved on from where it was read and the deliveries
are added: of two workers that read the same stretch one finds that a position has moved, and adds
nothing; one that dies in between has added nothing either.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from app.domain.access import WHOLE
from app.domain.webhook import Endpoint
from app.storage import events, webhook_deliveries, webhooks
from app.storage.engine import JOB, Connection, Database, Lock
from app.storage.events import Event, Position
from app.storage.webhook_deliveries import Told

PAGE: Final = 200
"""Events that are read in one go."""
DELIVERIES: Final = 5_000
"""That one transaction adds: with many endpoints a page is shorter."""
SPAN: Final = 10_000
"""Events that are passed over in one go where none of them is read."""

Moved = dict[UUID, tuple[Endpoint, list[Event]]]
"""Endpoints that are to be moved on, and the events that they are told of."""


async def fan_out(database: Database, workspace: UUID, *, lazily: bool = False) -> dict[UUID, int]:
    """Add what follows from the next page of the feed; how many deliveries for which endpoint.

    Lazily, endpoints that only pass over what was read stay where they are: it is read for them
    again, which costs less than to write down after every event that it was none of theirs. At a
    page's end they are moved on in any case.
    """
    async with database.read(workspace, timeouts=JOB) as reading:
        horizon = await events.horizon(reading)
        behind = [
            endpoint
            for endpoint in await webhooks.enabled(reading, workspace)
            if endpoint.position < horizon
        ]
        if not behind:
            return {}
        start = min(endpoint.position for endpoint in behind)
        limit = min(PAGE, max(1, DELIVERIES // len(behind)))
        span = await events.nth(reading, workspace, start, horizon, SPAN)
        happened = await events.after(
            reading,
            workspace,
            start,
            horizon if span is None else events.behind(span),
            limit=limit,
            sight=WHOLE,
            historical=any(endpoint.subscription.include_historical for endpoint in behind),
        )
    onward = happened[-1].position if len(happened) == limit else span or horizon
    lazily = lazily and onward == horizon
    moved: Moved = {}
    for endpoint in behind:
        wanted = [event for event in happened if _is_wanted(event, endpoint)]
        if endpoint.position < onward and (wanted or not lazily):
            moved[endpoint.endpoint_id] = endpoint, wanted
    return await _move(database, workspace, moved, onward) if moved else {}


def _is_wanted(event: Event, endpoint: Endpoint) -> bool:
    """Whether the endpoint, which may have been told of it already, asks for the event."""
    asked = endpoint.subscription
    return (
        event.position > endpoint.position
        and (not asked.types or events.is_named(event, asked.types))
        and (endpoint.pipeline is None or event.pipeline == endpoint.pipeline)
        and (asked.include_historical or not event.historical)
        and asked.concerns(event.type, event.data)
        and events.is_seen(event, endpoint.sight)
    )


async def _move(
    database: Database, workspace: UUID, moved: Moved, onward: Position
) -> dict[UUID, int]:
    """Move the endpoints on and add their deliveries, those that still are as they were read."""

    async def work(connection: Connection) -> dict[UUID, int]:
        last = await webhooks.told(
            connection,
            workspace,
            {key: (endpoint, len(wanted)) for key, (endpoint, wanted) in moved.items()},
            onward,
        )
        told = {key: _numbered(key, moved[key][1], last[key]) for key in last}
        await webhook_deliveries.append(
            connection, workspace, [each for one in told.values() for each in one]
        )
        return {key: len(one) for key, one in told.items() if one}

    return await database.write(workspace, work, lock=Lock.NONE, timeouts=JOB)


def _numbered(endpoint_id: UUID, wanted: Sequence[Event], last: int) -> list[Told]:
    """The events in order, so that the last one has that number."""
    return [
        Told(endpoint_id, sequence, event.event_id, event.position)
        for sequence, event in enumerate(wanted, start=last - len(wanted) + 1)
    ]
