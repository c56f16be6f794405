"""What endpoints were sent, and where there is something to send."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.webhook import Attempt, Delivery, DeliveryState, Failure
from app.storage.driver import fetch
from app.storage.tables import event, webhook_attempt, webhook_delivery
from app.storage.webhook_deliveries import delivery_of, no_delivery


@dataclass(frozen=True, slots=True)
class Stirring:
    """An endpoint at work: is it behind the feed, and in how long is its next delivery due?

    `is_unsettled`: not yet, but in a moment. `due_in` is in seconds, ≤ 0 where a delivery is
    due; None: none waits.
    """

    workspace_id: UUID
    endpoint_id: UUID
    is_failing: bool
    is_behind: bool
    is_unsettled: bool
    due_in: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many deliveries wait for enabled endpoints, of all workspaces.

    And for how many seconds the longest due of them has been due.
    """

    pending: int
    oldest_seconds: float


# Two probes of an index an endpoint, whatever has happened and however much waits: sorted and cut
# after the first, so that no statistics make the planner read all events for it.
STIRRING: Final = """
    SELECT w.workspace_id, w.endpoint_id, w.failing_since IS NOT NULL AS is_failing,
           coalesce(unread.place < (settled.epoch, settled.xmin, 0::bigint), false) AS is_behind,
           coalesce(unread.place >= (settled.epoch, settled.xmin, 0::bigint), false)
               AS is_unsettled,
           extract(epoch FROM next.at - clock_timestamp())::float8 AS due_in
    FROM (
        SELECT max(epoch) AS epoch, pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM epoch
    ) AS settled, webhook_endpoint AS w
    LEFT JOIN LATERAL (
        SELECT (e.epoch, e.xid, e.n) AS place FROM event AS e
        WHERE e.workspace_id = w.workspace_id AND (e.epoch, e.xid, e.n) > (w.epoch, w.xid, w.n)
        ORDER BY e.epoch, e.xid, e.n LIMIT 1
    ) AS unread ON true
    CROSS JOIN LATERAL (
        SELECT min(d.next_attempt_at) AS at FROM webhook_delivery AS d
        WHERE d.workspace_id = w.workspace_id AND d.endpoint_id = w.endpoint_id
          AND d.state = 'pending'
    ) AS next
    WHERE w.disabled_at IS NULL
"""
THERE: Final = "AND w.workspace_id = ANY ($1)"

BACKLOG: Final = text(
    """
    SELECT count(*) AS pending,
           greatest(extract(epoch FROM clock_timestamp() - min(d.next_attempt_at)), 0)::float8
               AS oldest
    FROM webhook_delivery AS d
    JOIN webhook_endpoint AS w USING (workspace_id, endpoint_id)
    WHERE d.state = 'pending' AND w.disabled_at IS NULL
    """
)


async def stirring(
    connection: AsyncConnection, workspaces: Collection[UUID] | None
) -> list[Stirring]:
    """Endpoints of these workspaces (None: of all) for which something is or will be to do.

    Asked under the jobs' role, and after every commit: so past SQLAlchemy.
    """
    if workspaces is None:
        rows = await fetch(connection, STIRRING)
    else:
        rows = await fetch(connection, f"{STIRRING}{THERE}", list(workspaces))
    return [
        Stirring(*row)
        for row in rows
        if row.is_behind or row.is_unsettled or row.due_in is not None
    ]


async def backlog(connection: AsyncConnection) -> Backlog:
    """What waits to be delivered. Asked under the jobs' role."""
    row = (await connection.execute(BACKLOG)).one()
    return Backlog(row.pending, row.oldest)


async def deliveries(
    connection: AsyncConnection,
    workspace: UUID,
    endpoint_id: UUID,
    *,
    state: DeliveryState | None,
    event_id: UUID | None,
    before: int | None,
    limit: int,
) -> list[Delivery]:
    """An endpoint's deliveries, the last first, below the number `before`."""
    d = webhook_delivery.c
    wanted = _deliveries(workspace, endpoint_id).order_by(d.sequence.desc()).limit(limit)
    if state is not None:
        wanted = wanted.where(d.state == state.value)
    if event_id is not None:
        wanted = wanted.where(d.event_id == event_id)
    if before is not None:
        wanted = wanted.where(d.sequence < before)
    return [delivery_of(dict(row)) for row in (await connection.execute(wanted)).mappings()]


async def delivery(
    connection: AsyncConnection, workspace: UUID, endpoint_id: UUID, sequence: int
) -> Delivery:
    """The delivery under that number. Raises NotFound."""
    wanted = _deliveries(workspace, endpoint_id).where(webhook_delivery.c.sequence == sequence)
    row = (await connection.execute(wanted)).mappings().one_or_none()
    if row is None:
        raise no_delivery(sequence)
    return delivery_of(dict(row))


async def attempts(
    connection: AsyncConnection, workspace: UUID, endpoint_id: UUID, sequence: int
) -> Sequence[Attempt]:
    """What came of each attempt of a delivery, the first one first."""
    a = webhook_attempt.c
    rows = await connection.execute(
        select(a.number, a.started_at, a.seconds, a.status, a.failure, a.response)
        .where(a.workspace_id == workspace, a.endpoint_id == endpoint_id, a.sequence == sequence)
        .order_by(a.number)
    )
    return [
        Attempt(
            row.number,
            row.started_at,
            row.seconds,
            row.status,
            None if row.failure is None else Failure(row.failure),
            row.response,
        )
        for row in rows
    ]


def _deliveries(workspace: UUID, endpoint_id: UUID) -> Select[Any]:
    d, e = webhook_delivery.c, event.c
    of_event = and_(
        e.workspace_id == d.workspace_id, e.epoch == d.epoch, e.xid == d.xid, e.n == d.n
    )
    return (
        select(webhook_delivery, e.type)
        .join(event, of_event)
        .where(d.workspace_id == workspace, d.endpoint_id == endpoint_id)
    )
