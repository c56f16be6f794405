"""Webhook endpoints and their secrets: added, changed, read; and where each is in the feed.

Whoever gives an endpoint deliveries holds its row: so its sequence has no gap and no number twice.
Its position is compared and set by `told`, so that of two workers that read the same stretch of the
feed for it one has read in vain.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import RowScope, Sight
from app.domain.errors import NotFound
from app.domain.webhook import Disabling, Endpoint, Subscription
from app.domain.webhook_retries import Streak
from app.storage.engine import Connection
from app.storage.events import Position
from app.storage.ids import new_id
from app.storage.statement import Part
from app.storage.tables import pipeline, webhook_endpoint

# From now on: what is not settled yet counts as coming, whenever it began.
ADD: Final = """
INSERT INTO webhook_endpoint (workspace_id, endpoint_id, version, url, description, types,
                              pipeline_id, stages, include_historical, epoch, xid, n, created_at,
                              updated_at, row_scope, subject, team)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, (SELECT max(epoch) FROM epoch),
        pg_snapshot_xmin(pg_current_snapshot()), 0, $9, $9, $10, $11, $12)
"""

COUNT: Final = "SELECT count(*) FROM webhook_endpoint WHERE workspace_id = $1"

_COLUMNS: Final = """
    w.*, p.key AS pipeline, clock_timestamp() AS now
FROM webhook_endpoint AS w
LEFT JOIN pipeline AS p ON p.workspace_id = w.workspace_id AND p.pipeline_id = w.pipeline_id
WHERE w.workspace_id = $1 AND w.endpoint_id = $2
"""

# Read by a statement of its own, after the lock: its snapshot holds what came before it.
LOCK: Final = """
SELECT FROM webhook_endpoint WHERE workspace_id = $1 AND endpoint_id = $2 FOR NO KEY UPDATE
"""

READ: Final = f"SELECT {_COLUMNS}"

CHANGE: Final = """
UPDATE webhook_endpoint
SET version = $10, url = $3, description = $4, types = $5, pipeline_id = $6, stages = $7,
    include_historical = $8, updated_at = $9
WHERE workspace_id = $1 AND endpoint_id = $2
"""

ENABLE: Final = """
UPDATE webhook_endpoint
SET disabled_at = NULL, disabled_reason = NULL,
    epoch = (SELECT max(epoch) FROM epoch), xid = pg_snapshot_xmin(pg_current_snapshot()), n = 0
WHERE workspace_id = $1 AND endpoint_id = $2
"""

DISABLE: Final = """
UPDATE webhook_endpoint
SET version = $5, disabled_at = $3, disabled_reason = $4, updated_at = $3,
    epoch = $6, xid = $7, n = $8
WHERE workspace_id = $1 AND endpoint_id = $2 AND disabled_at IS NULL
"""

# Streaks come and go by themselves; whoever changes an endpoint need not have seen the last one.
FAILED: Final = """
UPDATE webhook_endpoint SET failing_since = $3, failed_deliveries = $4
WHERE workspace_id = $1 AND endpoint_id = $2
"""

END_STREAK: Final = """
UPDATE webhook_endpoint SET failing_since = NULL, failed_deliveries = 0
WHERE workspace_id = $1 AND endpoint_id = $2 AND failing_since IS NOT NULL
"""

# One that somebody holds is left for the next time: whoever waits for many could wait for another
# who waits for one of them.
TOLD: Final = """
WITH told AS (
    SELECT * FROM unnest($5::uuid[], $6::bigint[], $7::int[], $8::xid8[], $9::bigint[], $10::int[])
        AS told (endpoint_id, version, epoch, xid, n, deliveries)
), free AS MATERIALIZED (
    SELECT endpoint_id FROM webhook_endpoint WHERE workspace_id = $1 AND endpoint_id = ANY ($5)
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_endpoint AS w
SET epoch = $2, xid = $3, n = $4, last_sequence = w.last_sequence + told.deliveries
FROM told JOIN free USING (endpoint_id)
WHERE w.workspace_id = $1 AND w.endpoint_id = told.endpoint_id AND w.disabled_at IS NULL
  AND w.version = told.version AND (w.epoch, w.xid, w.n) = (told.epoch, told.xid, told.n)
RETURNING w.endpoint_id, w.last_sequence
"""

COUNT_ON: Final = """
UPDATE webhook_endpoint SET last_sequence = last_sequence + $3
WHERE workspace_id = $1 AND endpoint_id = $2
RETURNING last_sequence
"""

ADD_SECRETS: Final = """
INSERT INTO webhook_secret (workspace_id, endpoint_id, secret_id, secret) VALUES ($1, $2, $3, $4)
"""

# No secret stands longer for another rotation than the one before had granted it.
EXPIRE_SECRETS: Final = """
UPDATE webhook_secret SET expires_at = least(expires_at, $3)
WHERE workspace_id = $1 AND endpoint_id = $2
"""

CLEAR_SECRETS: Final = """
DELETE FROM webhook_secret
WHERE workspace_id = $1 AND endpoint_id = $2 AND expires_at <= clock_timestamp()
"""

CLEAR_EXPIRED: Final = "DELETE FROM webhook_secret WHERE expires_at <= statement_timestamp()"

COUNT_SECRETS: Final = """
SELECT count(*) FROM webhook_secret WHERE workspace_id = $1 AND endpoint_id = $2
"""

DELETE_SECRETS: Final = "DELETE FROM webhook_secret WHERE workspace_id = $1 AND endpoint_id = $2"
DELETE: Final = "DELETE FROM webhook_endpoint WHERE workspace_id = $1 AND endpoint_id = $2"


def add(
    workspace: UUID,
    endpoint_id: UUID,
    url: str,
    description: str,
    wanted: Subscription,
    sight: Sight,
    at: datetime,
) -> Part:
    """The part that adds an endpoint, which is told of what is settled from now on."""
    maker = sight.rows.value, sight.subject, sight.team
    return Part(ADD, (workspace, endpoint_id, url, description, *_filter(wanted), at, *maker))


def change(workspace: UUID, after: Endpoint, at: datetime) -> Part:
    """The part that writes what a caller may change, as the version after `after`'s."""
    return Part(
        CHANGE,
        (
            workspace,
            after.endpoint_id,
            after.url,
            after.description,
            *_filter(after.subscription),
            at,
            after.version + 1,
        ),
    )


def enable(workspace: UUID, endpoint_id: UUID) -> Part:
    """The part that has it told again, of what is settled from now on; part of a change."""
    return Part(ENABLE, (workspace, endpoint_id))


def disable(workspace: UUID, before: Endpoint, reason: Disabling, at: datetime) -> Part:
    """The part that has it told nothing more, as the version after `before`'s.

    Its position is kept, for a replay that makes up for what it misses.
    """
    return Part(
        DISABLE,
        (
            workspace,
            before.endpoint_id,
            at,
            reason.value,
            before.version + 1,
            *before.position,
        ),
    )


def failed(workspace: UUID, endpoint_id: UUID, streak: Streak) -> Part:
    """The part that keeps the streak of failures."""
    return Part(FAILED, (workspace, endpoint_id, streak.since, streak.deliveries))


def end_streak(workspace: UUID, endpoint_id: UUID) -> Part:
    """The part that ends a streak of failures, if there is one."""
    return Part(END_STREAK, (workspace, endpoint_id))


def add_secret(workspace: UUID, endpoint_id: UUID, secret: bytes) -> Part:
    """The part that adds a secret, by which deliveries are signed from now on."""
    return Part(ADD_SECRETS, (workspace, endpoint_id, new_id(), secret))


async def locked(
    connection: Connection, workspace: UUID, sight: Sight, endpoint_id: UUID
) -> tuple[Endpoint, Streak, datetime]:
    """The endpoint, its streak of failures and the database's clock. Raises NotFound.

    What is told more than a caller sees is no endpoint of the caller's: it could be sent elsewhere.
    """
    await connection.execute(LOCK, workspace, endpoint_id)
    return await read(connection, workspace, sight, endpoint_id)


async def read(
    connection: Connection, workspace: UUID, sight: Sight, endpoint_id: UUID
) -> tuple[Endpoint, Streak, datetime]:
    """As `locked`, without the lock. Raises NotFound."""
    row = await connection.fetchrow(READ, workspace, endpoint_id)
    if row is None or not sight.covers((endpoint := endpoint_of(dict(row))).sight):
        raise _no_endpoint(endpoint_id)
    return (
        endpoint,
        Streak(row["failing_since"], row["failed_deliveries"]),
        row["now"],
    )


async def told(
    connection: Connection,
    workspace: UUID,
    moved: Mapping[UUID, tuple[Endpoint, int]],
    onward: Position,
) -> dict[UUID, int]:
    """Note that the feed was looked through up to `onward`; so many deliveries follow for each.

    By endpoint the number of its last one; those that are not as they were read are left out, and
    nothing is done with them.
    """
    before = [endpoint for endpoint, _ in moved.values()]
    rows = await connection.fetch(
        TOLD,
        workspace,
        *onward,
        list(moved),
        [endpoint.version for endpoint in before],
        *(list(column) for column in zip(*(each.position for each in before), strict=True)),
        [deliveries for _, deliveries in moved.values()],
    )
    return {row["endpoint_id"]: row["last_sequence"] for row in rows}


async def count_on(
    connection: Connection, workspace: UUID, endpoint_id: UUID, deliveries: int
) -> int:
    """Take so many numbers of the sequence; the last of them."""
    last: int = await connection.fetchval(COUNT_ON, workspace, endpoint_id, deliveries)
    return last


async def clear(connection: Connection) -> None:
    """Forget the secrets that have expired. Under the jobs' role, of every workspace."""
    await connection.execute(CLEAR_EXPIRED)


async def one(
    connection: AsyncConnection, workspace: UUID, sight: Sight, endpoint_id: UUID
) -> Endpoint:
    """The endpoint. Raises NotFound."""
    wanted = _endpoints(workspace).where(
        webhook_endpoint.c.endpoint_id == endpoint_id, _covered(sight)
    )
    row = (await connection.execute(wanted)).mappings().one_or_none()
    if row is None:
        raise _no_endpoint(endpoint_id)
    return endpoint_of(row)


async def enabled(connection: AsyncConnection, workspace: UUID) -> list[Endpoint]:
    """All endpoints of the workspace that are told of events."""
    wanted = _endpoints(workspace).where(webhook_endpoint.c.disabled_at.is_(None))
    return [endpoint_of(row) for row in (await connection.execute(wanted)).mappings()]


async def page(
    connection: AsyncConnection, workspace: UUID, sight: Sight, *, after: UUID | None, limit: int
) -> list[Endpoint]:
    """The endpoints in the order in which they were made, after one."""
    wanted = _endpoints(workspace).where(_covered(sight))
    wanted = wanted.order_by(webhook_endpoint.c.endpoint_id).limit(limit)
    if after is not None:
        wanted = wanted.where(webhook_endpoint.c.endpoint_id > after)
    return [endpoint_of(row) for row in (await connection.execute(wanted)).mappings()]


def endpoint_of(row: Mapping[str, Any]) -> Endpoint:
    """The endpoint in a row of `webhook_endpoint` with its pipeline's key."""
    reason = row["disabled_reason"]
    return Endpoint(
        endpoint_id=row["endpoint_id"],
        version=row["version"],
        url=row["url"],
        description=row["description"],
        subscription=Subscription(
            tuple(row["types"]),
            row["pipeline_id"],
            tuple(row["stages"]),
            row["include_historical"],
        ),
        pipeline=row["pipeline"],
        position=(row["epoch"], int(row["xid"]), row["n"]),
        disabled_at=row["disabled_at"],
        disabled_reason=None if reason is None else Disabling(reason),
        failing_since=row["failing_since"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        sight=Sight(RowScope(row["row_scope"]), row["subject"] or "", row["team"]),
    )


def _filter(wanted: Subscription) -> Sequence[Any]:
    return (
        list(wanted.types),
        wanted.pipeline_id,
        list(wanted.stages),
        wanted.include_historical,
    )


def _endpoints(workspace: UUID) -> Select[Any]:
    w, p = webhook_endpoint.c, pipeline.c
    of_pipeline = (p.workspace_id == w.workspace_id) & (p.pipeline_id == w.pipeline_id)
    return (
        select(webhook_endpoint, p.key.label("pipeline"))
        .join(pipeline, of_pipeline, isouter=True)
        .where(w.workspace_id == workspace)
    )


def _covered(sight: Sight) -> ColumnElement[bool]:
    """`Sight.covers`, of the endpoints' own."""
    if sight.is_whole:
        return true()
    w = webhook_endpoint.c
    of_team = (w.row_scope == RowScope.TEAM.value) & w.team.is_not(None)
    within = ~of_team if sight.of_team is None else ~of_team | (w.team == sight.of_team)
    return (w.subject == sight.subject) & (w.row_scope != RowScope.ALL.value) & within


def _no_endpoint(endpoint_id: UUID) -> NotFound:
    return NotFound(f"There is no webhook endpoint {endpoint_id}.")
