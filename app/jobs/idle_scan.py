"""The idle scan of all workspaces: where is there work, and when will there be the next?

Only the first question is asked across workspaces, under the jobs' role, which sees of a deal no
more than when it is due; each workspace is then scanned under the app's role, one at a time.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from app.actions.flag_idle import flag_idle
from app.domain.errors import DatabaseUnavailable
from app.storage.engine import JOB, Database, Role
from app.storage.queries import idle
from app.storage.queries.idle import NextDue

AGAIN: Final = 0.25
"""Seconds until a deal is looked at again that was due and that another writer held."""

log = structlog.get_logger("sluice.idle")


async def scan_all(database: Database, horizon: timedelta) -> timedelta | None:
    """Flag what is due everywhere; how long until the next deal is due, if within `horizon`.

    A workspace that cannot be scanned is logged and does not keep the others waiting.
    """
    expected = await _soonest(database, horizon)
    due = [next_due.workspace_id for next_due in expected if next_due.seconds <= 0]
    failed = {workspace for workspace in due if not await _scanned(database, workspace)}
    if due:  # the deals behind those that have just been flagged come into view
        expected = await _soonest(database, horizon)
    # What is still due was held by another writer, and passed over; where a scan failed, the
    # interval is soon enough.
    ahead = [
        max(next_due.seconds, AGAIN)
        for next_due in expected
        if next_due.seconds > 0 or next_due.workspace_id not in failed
    ]
    return timedelta(seconds=min(ahead)) if ahead else None


async def next_due(
    database: Database, workspaces: Collection[UUID], horizon: timedelta
) -> timedelta | None:
    """How long until the first deal of these workspaces is due, if within `horizon`."""
    expected = await _soonest(database, horizon, workspaces)
    ahead = [max(found.seconds, 0.0) for found in expected]
    return timedelta(seconds=min(ahead)) if ahead else None


async def _scanned(database: Database, workspace: UUID) -> bool:
    """Flag what is due in the workspace; whether it could be scanned."""
    try:
        await flag_idle(database, workspace)
    except DatabaseUnavailable as busy:
        log.warning("idle.scan_postponed", workspace=str(workspace), reason=busy.detail)
        return False
    except Exception:
        log.exception("idle.scan_failed", workspace=str(workspace))
        return False
    return True


async def _soonest(
    database: Database, horizon: timedelta, workspaces: Collection[UUID] | None = None
) -> list[NextDue]:
    async with database.read(None, role=Role.JOBS, timeouts=JOB) as connection:
        return await idle.soonest(connection, horizon, workspaces)
