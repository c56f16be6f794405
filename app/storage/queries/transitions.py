"""What the log says: of one deal in its order, of all deals the newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.pipeline import Pipeline
from app.storage import pipelines
from app.storage.sight import seen_with_deal
from app.storage.tables import pipeline, transition
from app.storage.transitions import LogEntry, entry_of, no_transition

Told = tuple[LogEntry, Pipeline]
"""A row of the log, and its pipeline as it is defined now: stages keep their keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Rows that pass all of these; None passes everything."""

    pipeline_id: UUID | None = None
    kind: str | None = None
    owner: str | None = None
    occurred_from: datetime | None = None
    occurred_to: datetime | None = None
    voided: bool | None = None


async def of_deal(
    connection: AsyncConnection,
    workspace: UUID,
    opportunity_id: UUID,
    *,
    after: int,
    limit: int,
) -> list[Told]:
    """The deal's log after the seq `after`, in order, voided rows included."""
    query = (
        _log(workspace)
        .where(transition.c.opportunity_id == opportunity_id, transition.c.seq > after)
        .order_by(transition.c.seq)
        .limit(limit)
    )
    return await _told(connection, workspace, query)


async def newest(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    filters: Filters,
    *,
    before: UUID | None,
    limit: int,
) -> list[Told]:
    """The log of every deal, the row recorded last first, older than the transition `before`."""
    t = transition.c
    query = _log(workspace).where(seen_with_deal(sight, transition))
    query = query.order_by(t.transition_id.desc()).limit(limit)
    if before is not None:
        query = query.where(t.transition_id < before)
    if filters.pipeline_id is not None:
        query = query.where(t.pipeline_id == filters.pipeline_id)
    if filters.kind is not None:
        query = query.where(t.kind == filters.kind)
    if filters.owner is not None:
        query = query.where(t.owner == filters.owner)
    if filters.occurred_from is not None:
        query = query.where(t.occurred_at >= filters.occurred_from)
    if filters.occurred_to is not None:
        query = query.where(t.occurred_at < filters.occurred_to)
    if filters.voided is not None:
        query = query.where(t.voided_at.is_not(None) if filters.voided else t.voided_at.is_(None))
    return await _told(connection, workspace, query)


async def one(
    connection: AsyncConnection, workspace: UUID, sight: Sight, transition_id: UUID
) -> Told:
    """The row of that id. Raises NotFound."""
    wanted = transition.c.transition_id == transition_id, seen_with_deal(sight, transition)
    found = await _told(connection, workspace, _log(workspace).where(*wanted))
    if not found:
        raise no_transition(transition_id)
    return found[0]


def _log(workspace: UUID) -> Select[Any]:
    return (
        select(transition, pipelines.PRESENT_REVISION)
        .join(pipeline, pipelines.owning(transition))
        .where(transition.c.workspace_id == workspace)
    )


async def _told(connection: AsyncConnection, workspace: UUID, query: Select[Any]) -> list[Told]:
    rows = (await connection.execute(query)).mappings().all()
    return [
        (entry_of(row), await pipelines.read_present_of(connection, workspace, row)) for row in rows
    ]
