"""Webhook endpoints and their secrets: added, changed, read; and where each is in the feed.

Whoever gives an endpoint deliveries holds its row: so its sequence has no gap and no number twice.
Its position is compared and set by `told`, so that of two workers that read the same stretch of the
feed for it one has read in vain.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

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
                              updated_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, (SELECT max(epoch) FROM epoch),
        pg_snapshot_xmin(pg_current_snapshot()), 0, $9, $9)
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
SET version = version + 1, url = $3, description = $4, types = $5, pipeline_id = $6, stages = $7,
    include_historical = $8, updated_at = $9
WHERE workspace_id = $1 AND endpoint_id = $2
"""

# The streak of failures goes on or ends with the attempts to come, not with those that were.
ENABLE: Final = """
UPDATE webhook_endpoint
SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, last_failed_at = NULL,
    epoch = (SELECT max(epoch) FROM epoch), xid = pg_snapshot_xmin(pg_current_snapshot()), n = 0
WHERE workspace_id = $1 AND endpoint_id = $2
"""

DISABLE: Final = """
UPDATE webhook_endpoint
SET version = version + 1, disabled_at = $3, disabled_reason = $4, updated_at = $3
WHERE workspace_id = $1 AND endpoint_id = $2 AND disabled_at IS NULL
"""

FAILED: Final = """
UPDATE webhook_endpoint
SET version = version + (failing_since IS DISTINCT FROM $3)::int, failing_since = $3,
    last_failed_at = $4
WHERE workspace_id = $1 AND endpoint_id = $2
"""

SUCCEEDED: Final = """
UPDATE webhook_endpoint SET version = version + 1, failing_since = NULL, last_failed_at = NULL
WHERE workspace_id = $1 AND endpoint_id = $2 AND failing_since IS NOT NULL
"""

TOLD: Final = """
UPDATE webhook_endpoint
SET epoch = $3, xid = $4, n = $5, last_sequence = last_sequence + $6
WHERE workspace_id = $1 AND endpoint_id = $2 AND disabled_at IS NULL AND version = $7
  AND (epoch, xid, n) = ($8, $9, $10)
RETURNING last_sequence
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
    at: datetime,
) -> Part:
    """The part that adds an endpoint, which is told of what is settled from now on."""
    return Part(ADD, (workspace, endpoint_id, url, description, *_filter(wanted), at))


def change(workspace: UUID, after: Endpoint, at: datetime) -> Part:
    """The part that writes what a caller may change."""
    return Part(
        CHANGE,
        (
            workspace,
            after.endpoint_id,
            after.url,
            after.description,
            *_filter(after.subscription),
            at,
        ),
    )


def enable(workspace: UUID, endpoint_id: UUID) -> Part:
    """The part that has it told again, of what is settled from now on; part of a change."""
    return Part(ENABLE, (workspace, endpoint_id))


def disable(workspace: UUID, endpoint_id: UUID, reason: Disabling, at: datetime) -> Part:
    """The part that has it told nothing more."""
    return Part(DISABLE, (workspace, endpoint_id, at, reason.value))


def failed(workspace: UUID, endpoint_id: UUID, streak: Streak) -> Part:
    """The part that keeps the streak of failures."""
    return Part(FAILED, (workspace, endpoint_id, streak.since, streak.last_at))


def succeeded(workspace: UUID, endpoint_id: UUID) -> Part:
    """The part that ends a streak of failures, if there is one."""
    return Part(SUCCEEDED, (workspace, endpoint_id))


def add_secret(workspace: UUID, endpoint_id: UUID, secret: bytes) -> Part:
    """The part that adds a secret, by which deliveries are signed from now on."""
    return Part(ADD_SECRETS, (workspace, endpoint_id, new_id(), secret))


async def locked(
    connection: Connection, workspace: UUID, endpoint_id: UUID
) -> tuple[Endpoint, Streak, datetime]:
    """The endpoint, its streak of failures and the database's clock. Raises NotFound."""
    await connection.execute(LOCK, workspace, endpoint_id)
    return await read(connection, workspace, endpoint_id)


async def read(
    connection: Connection, workspace: UUID, endpoint_id: UUID
) -> tuple[Endpoint, Streak, datetime]:
    """As `locked`, without the lock. Raises NotFound."""
    row = await connection.fetchrow(READ, workspace, endpoint_id)
    if row is None:
        raise _no_endpoint(endpoint_id)
    return endpoint_of(dict(row)), Streak(row["failing_since"], row["last_failed_at"]), row["now"]


async def told(
    connection: Connection, workspace: UUID, before: Endpoint, onward: Position, deliveries: int
) -> int | None:
    """Note that the feed was looked through up to `onward`, and that so many deliveries follow.

    The number of the last of them; None, and nothing done, where the endpoint is not as it was.
    """
    last: int | None = await connection.fetchval(
        TOLD,
        workspace,
        before.endpoint_id,
        *onward,
        deliveries,
        before.version,
        *before.position,
    )
    return last


async def count_on(
    connection: Connection, workspace: UUID, endpoint_id: UUID, deliveries: int
) -> int:
    """Take so many numbers of the sequence; the last of them."""
    last: int = await connection.fetchval(COUNT_ON, workspace, endpoint_id, deliveries)
    return last


async def clear(connection: Connection) -> None:
    """Forget the secrets that have expired. Under the jobs' role, of every workspace."""
    await connection.execute(CLEAR_EXPIRED)


async def one(connection: AsyncConnection, workspace: UUID, endpoint_id: UUID) -> Endpoint:
    """The endpoint. Raises NotFound."""
    wanted = _endpoints(workspace).where(webhook_endpoint.c.endpoint_id == endpoint_id)
    row = (await connection.execute(wanted)).mappings().one_or_none()
    if row is None:
        raise _no_endpoint(endpoint_id)
    return endpoint_of(row)


async def page(
    connection: AsyncConnection, workspace: UUID, *, after: UUID | None, limit: int
) -> list[Endpoint]:
    """The endpoints in the order in which they were made, after one."""
    wanted = _endpoints(workspace).order_by(webhook_endpoint.c.endpoint_id).limit(limit)
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


def _no_endpoint(endpoint_id: UUID) -> NotFound:
    return NotFound(f"There is no webhook endpoint {endpoint_id}.")
