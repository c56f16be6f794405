"""Activities: follow-ups on deals, appended and never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.errors import NotFound
from app.storage.engine import Connection
from app.storage.sight import seen_with_deal
from app.storage.statement import Part
from app.storage.tables import activity

APPEND: Final = """
INSERT INTO activity (workspace_id, opportunity_id, activity_id, pipeline_id, kind, content,
                      outcome, next_step, next_step_at, occurred_at, recorded_at, actor, import_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

LAST: Final = """
SELECT max(occurred_at) FROM activity
WHERE workspace_id = $1 AND opportunity_id = $2 AND kind = ANY ($3::text[])
"""

LAST_BY_KIND: Final = """
SELECT kind, max(occurred_at) AS last_at FROM activity
WHERE workspace_id = $1 AND opportunity_id = $2 GROUP BY kind
"""

RECORDED_SINCE: Final = """
SELECT * FROM activity
WHERE workspace_id = $1 AND opportunity_id = $2 AND recorded_at >= $3
ORDER BY recorded_at, activity_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A row of `activity`: what was done, what came of it, and what was agreed to be done next.

    `import_id` is set on imported history.
    """

    activity_id: UUID
    opportunity_id: UUID
    pipeline_id: UUID
    kind: str
    content: str | None
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    outcome: str | None = None
    next_step: str | None = None
    next_step_at: datetime | None = None
    import_id: UUID | None = None


def append(workspace: UUID, done: Activity) -> Part:
    """The part that records an activity."""
    return Part(
        APPEND,
        (
            workspace,
            done.opportunity_id,
            done.activity_id,
            done.pipeline_id,
            done.kind,
            done.content,
            done.outcome,
            done.next_step,
            done.next_step_at,
            done.occurred_at,
            done.recorded_at,
            done.actor,
            done.import_id,
        ),
    )


async def last_by_kind(
    connection: Connection, workspace: UUID, opportunity_id: UUID
) -> Mapping[str, datetime]:
    """When the deal's last activity of each kind occurred."""
    rows = await connection.fetch(LAST_BY_KIND, workspace, opportunity_id)
    return {row["kind"]: row["last_at"] for row in rows}


async def last_of(
    connection: Connection, workspace: UUID, opportunity_id: UUID, kinds: Sequence[str]
) -> datetime | None:
    """When the deal's last activity of these kinds occurred; None: there is none."""
    found: datetime | None = await connection.fetchval(LAST, workspace, opportunity_id, kinds)
    return found


async def recorded_since(
    connection: Connection, workspace: UUID, opportunity_id: UUID, since: datetime
) -> list[Activity]:
    """The deal's activities that were recorded then and later, in the order of their recording."""
    rows = await connection.fetch(RECORDED_SINCE, workspace, opportunity_id, since)
    return [Activity(**{name: row[name] for name in Activity.__dataclass_fields__}) for row in rows]


async def one(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    opportunity_id: UUID,
    activity_id: UUID,
) -> Activity:
    """The activity of that id on that deal. Raises NotFound."""
    c = activity.c
    found = await connection.execute(
        select(activity).where(
            c.workspace_id == workspace,
            c.opportunity_id == opportunity_id,
            c.activity_id == activity_id,
            seen_with_deal(sight, activity),
        )
    )
    row = found.one_or_none()
    if row is None:
        raise NotFound(f"The opportunity has no activity {activity_id}.")
    return _activity(row)


async def latest(
    connection: AsyncConnection,
    workspace: UUID,
    opportunity_id: UUID,
    *,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Activity]:
    """The deal's activities, the latest first, before (instant, id)."""
    c = activity.c
    query = (
        select(activity)
        .where(c.workspace_id == workspace, c.opportunity_id == opportunity_id)
        .order_by(c.occurred_at.desc(), c.activity_id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(tuple_(c.occurred_at, c.activity_id) < before)
    return [_activity(row) for row in await connection.execute(query)]


def _activity(row: Any) -> Activity:
    return Activity(**{name: getattr(row, name) for name in Activity.__dataclass_fields__})
