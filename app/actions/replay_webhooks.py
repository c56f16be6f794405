"""Deliveries on demand: a test event, one delivery again, or a stretch of the feed again.

All go the way of every other delivery. What is sent again bears the `webhook-id` that it had, as
it is the same event, and a number of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.domain.access import Principal
from app.domain.errors import Conflict, EndpointDisabled
from app.domain.webhook import TESTED, Delivery
from app.storage import events, idempotency, webhook_deliveries, webhooks
from app.storage.engine import Connection, Database
from app.storage.events import Position
from app.storage.idempotency import Answer, Repeatable
from app.storage.statement import execute
from app.storage.webhook_deliveries import Told

AT_ONCE: Final = 1_000
"""Events that one replay looks at; the caller goes on from where it ended."""
MOST_PENDING: Final = 10_000
"""Deliveries that may wait for an endpoint, when more are asked for."""

Added = Callable[[Delivery], Answer]
_Again = tuple[UUID, Position, int | None]
"""An event, and the number under which the endpoint had it last."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the feed: behind `after`, up to and with `until` (None: all that is settled)."""

    after: Position
    until: Position | None
    undelivered_only: bool


async def send_test(
    database: Database,
    principal: Principal,
    endpoint_id: UUID,
    *,
    request: Repeatable | None,
    answer: Added,
) -> Answer:
    """Tell the endpoint, and no other, of an event that is made for it.

    Raises NotFound, EndpointDisabled, Conflict.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        await _enabled(connection, principal, endpoint_id)
        now = await connection.fetchval("SELECT clock_timestamp()")
        data = {"endpoint_id": str(endpoint_id), "actor": principal.subject}
        told = events.append(workspace, TESTED, data, occurred_at=now)
        event_id, position = await webhook_deliveries.append_event(connection, told)
        last = await _add(connection, workspace, endpoint_id, [(event_id, position, None)])
        return await _answered(connection, workspace, endpoint_id, last, request, answer)

    return await database.write(workspace, work, keys=idempotency.keys(request))


async def replay_delivery(
    database: Database,
    principal: Principal,
    endpoint_id: UUID,
    sequence: int,
    *,
    request: Repeatable | None,
    answer: Added,
) -> Answer:
    """Send a delivery's event again, whatever became of it.

    Raises NotFound, EndpointDisabled, Conflict.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        await _enabled(connection, principal, endpoint_id)
        found = await webhook_deliveries.read(connection, workspace, endpoint_id, sequence)
        told = [(found.event_id, found.position, sequence)]
        last = await _add(connection, workspace, endpoint_id, told)
        return await _answered(connection, workspace, endpoint_id, last, request, answer)

    return await database.write(workspace, work, keys=idempotency.keys(request))


async def replay_stretch(
    database: Database,
    principal: Principal,
    endpoint_id: UUID,
    stretch: Stretch,
    *,
    request: Repeatable | None,
    answer: Callable[[int, Position | None], Answer],
) -> Answer:
    """Send what the endpoint asks for of a stretch of the feed, whether or not it was sent before.

    At most `AT_ONCE` events at a time: the answer is given how many deliveries were added and the
    `after` to go on with, None at the stretch's end. Raises NotFound, EndpointDisabled, Conflict,
    InvalidCursor.
    """
    workspace = principal.workspace_id
    async with database.read(workspace) as reading:
        endpoint = await webhooks.one(reading, workspace, principal.sight, endpoint_id)
        wanted = endpoint.subscription
        horizon = await events.horizon(reading)
        begins = await events.begin(reading, stretch.after, horizon)
        if stretch.until is not None:
            horizon = min(horizon, events.behind(stretch.until))
        happened = await events.after(
            reading,
            workspace,
            begins,
            horizon,
            limit=AT_ONCE,
            sight=endpoint.sight,
            types=wanted.types,
            pipeline_id=wanted.pipeline_id,
            historical=wanted.include_historical,
        )
    onward = happened[-1].position if len(happened) == AT_ONCE else None
    told = [event for event in happened if wanted.concerns(event.type, event.data)]

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        await _enabled(connection, principal, endpoint_id)
        ids = [event.event_id for event in told]
        earlier = await webhook_deliveries.earlier(connection, workspace, endpoint_id, ids)
        again: list[_Again] = []
        for event in told:
            last, is_served = earlier.get(event.event_id, (None, False))
            if not (is_served and stretch.undelivered_only):
                again.append((event.event_id, event.position, last))
        if again:
            await _add(connection, workspace, endpoint_id, again)
        answered = answer(len(again), onward)
        for part in idempotency.keep(workspace, request, answered):
            await execute(connection, [part])
        return answered

    return await database.write(workspace, work, keys=idempotency.keys(request))


async def _enabled(connection: Connection, principal: Principal, endpoint_id: UUID) -> None:
    """Hold the endpoint until the end.

    Raises NotFound, EndpointDisabled, and Conflict where too much waits for it already.
    """
    workspace = principal.workspace_id
    endpoint, _, _ = await webhooks.locked(connection, workspace, principal.sight, endpoint_id)
    if endpoint.disabled_at is not None:
        raise EndpointDisabled("It is sent nothing as long as it is disabled.")
    waiting = await webhook_deliveries.pending(
        connection, workspace, endpoint_id, up_to=MOST_PENDING
    )
    if waiting >= MOST_PENDING:
        raise Conflict(f"{MOST_PENDING:,} deliveries wait for it already; ask when fewer do.")


async def _add(
    connection: Connection,
    workspace: UUID,
    endpoint_id: UUID,
    again: Sequence[_Again],
) -> int:
    """Add deliveries of these events; the number of the last."""
    last = await webhooks.count_on(connection, workspace, endpoint_id, len(again))
    told = [
        Told(endpoint_id, sequence, *each)
        for sequence, each in enumerate(again, start=last - len(again) + 1)
    ]
    await webhook_deliveries.append(connection, workspace, told)
    return last


async def _answered(
    connection: Connection,
    workspace: UUID,
    endpoint_id: UUID,
    sequence: int,
    request: Repeatable | None,
    answer: Added,
) -> Answer:
    """The answer that shows the delivery, kept where the request can be repeated."""
    answered = answer(await webhook_deliveries.read(connection, workspace, endpoint_id, sequence))
    for part in idempotency.keep(workspace, request, answered):
        await execute(connection, [part])
    return answered
