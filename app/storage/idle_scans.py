"""The record of idle scans: what each found, how long it took, and how late it was."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.engine import Connection
from app.storage.tables import idle_scan

KEEP: Final = """
INSERT INTO idle_scan (workspace_id, scan_id, started_at, seconds, flagged, escalated, lag_seconds,
                       requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

# Under the jobs' role, which sees every workspace.
CLEAR: Final = """
DELETE FROM idle_scan
WHERE started_at < clock_timestamp() - interval '30 days' AND ctid = ANY (ARRAY(
    SELECT ctid FROM idle_scan
    WHERE started_at < clock_timestamp() - interval '30 days' LIMIT $1
))
"""
CLEARED_AT_ONCE: Final = 5_000

LAG: Final = text(
    """
    SELECT greatest(extract(epoch FROM
        clock_timestamp() - min(greatest(o.goes_idle_at, o.updated_at))), 0)::float8
    FROM opportunity AS o
    WHERE o.workspace_id = :workspace AND o.flagged_at IS NULL
      AND o.goes_idle_at <= (SELECT clock_timestamp())
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleScan:
    """One scan of a workspace.

    `lag_seconds` is for how long the longest overdue of the deals that it flagged could have been
    flagged already: since it was due, or written as overdue. None: it flagged none. `requested_by`
    None: the service's own.
    """

    scan_id: UUID
    seconds: float
    flagged: int
    escalated: int
    lag_seconds: float | None
    requested_by: str | None
    started_at: datetime


async def keep(connection: Connection, workspace: UUID, scan: IdleScan) -> None:
    """Record a scan that has ended."""
    await connection.execute(
        *(KEEP, workspace, scan.scan_id, scan.started_at, scan.seconds, scan.flagged),
        *(scan.escalated, scan.lag_seconds, scan.requested_by),
    )


async def clear(connection: Connection) -> bool:
    """Delete some that are a month old; whether there may be more. Under the jobs' role."""
    tag = await connection.execute(CLEAR, CLEARED_AT_ONCE)
    return tag == f"DELETE {CLEARED_AT_ONCE}"


async def latest(
    connection: AsyncConnection, workspace: UUID, *, before: UUID | None, limit: int
) -> list[IdleScan]:
    """The scans of the workspace, the latest first, before one."""
    c = idle_scan.c
    query = (
        select(idle_scan).where(c.workspace_id == workspace).order_by(c.scan_id.desc()).limit(limit)
    )
    if before is not None:
        query = query.where(c.scan_id < before)
    return [_scan(row) for row in await connection.execute(query)]


async def lag(connection: AsyncConnection, workspace: UUID) -> float:
    """For how many seconds a deal has waited that could have been flagged; 0: none waits."""
    return (await connection.scalar(LAG, {"workspace": workspace})) or 0.0


def _scan(row: Any) -> IdleScan:
    return IdleScan(**{name: getattr(row, name) for name in IdleScan.__dataclass_fields__})
