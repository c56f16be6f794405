"""Which deals are there: one, or a page of those that pass the filters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, any_, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import pipelines
from app.storage.opportunities import deal_of
from app.storage.sight import no_deal, seen
from app.storage.tables import opportunity, opportunity_change, pipeline

Seen = tuple[Opportunity, Pipeline]
"""A deal, and its pipeline as it is defined now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Deals that pass all of these; None passes everything."""

    pipeline_id: UUID | None = None
    slot: int | None = None
    status: str | None = None
    owner: str | None = None
    team: str | None = None
    source: str | None = None
    priority: str | None = None
    tag: str | None = None
    external_id: str | None = None
    idle: bool | None = None
    name_part: str | None = None
    updated_since: datetime | None = None


async def one(
    connection: AsyncConnection, workspace: UUID, sight: Sight, opportunity_id: UUID
) -> Seen:
    """The deal. Raises NotFound."""
    wanted = _deals(workspace, sight).where(opportunity.c.opportunity_id == opportunity_id)
    found = await _seen(connection, workspace, wanted)
    if not found:
        raise no_deal(opportunity_id)
    return found[0]


async def newest(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    filters: Filters,
    *,
    before: UUID | None,
    limit: int,
) -> list[Seen]:
    """Deals that pass the filters, the newest first, older than the deal `before`."""
    query = _filtered(_deals(workspace, sight), filters).order_by(
        opportunity.c.opportunity_id.desc()
    )
    if before is not None:
        query = query.where(opportunity.c.opportunity_id < before)
    return await _seen(connection, workspace, query.limit(limit))


async def changed(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    filters: Filters,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Seen]:
    """Deals that pass the filters in the order of their last change, after (instant, id)."""
    key = tuple_(opportunity.c.updated_at, opportunity.c.opportunity_id)
    query = _filtered(_deals(workspace, sight), filters).order_by(
        opportunity.c.updated_at, opportunity.c.opportunity_id
    )
    if after is not None:
        query = query.where(key > after)
    return await _seen(connection, workspace, query.limit(limit))


async def to_follow_up(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    filters: Filters,
    due: datetime | None,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Seen]:
    """Deals that pass the filters and whose follow-up is due by then, the longest due first.

    `due` None: by now. After (instant, id).
    """
    o = opportunity.c
    until = select(func.clock_timestamp()).scalar_subquery() if due is None else due
    query = (
        _filtered(_deals(workspace, sight), filters)
        .where(o.follow_up_due_at <= until)
        .order_by(o.follow_up_due_at, o.opportunity_id)
    )
    if after is not None:
        query = query.where(tuple_(o.follow_up_due_at, o.opportunity_id) > after)
    return await _seen(connection, workspace, query.limit(limit))


async def changes(
    connection: AsyncConnection,
    workspace: UUID,
    opportunity_id: UUID,
    *,
    before: tuple[UUID, str] | None,
    limit: int,
) -> list[Any]:
    """The changes of a deal's facts, the newest first, before (change id, field)."""
    c = opportunity_change.c
    query = (
        select(opportunity_change)
        .where(c.workspace_id == workspace, c.opportunity_id == opportunity_id)
        .order_by(c.change_id.desc(), c.field.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(tuple_(c.change_id, c.field) < before)
    return list(await connection.execute(query))


def _deals(workspace: UUID, sight: Sight) -> Select[Any]:
    return (
        select(opportunity, pipelines.PRESENT_REVISION)
        .join(pipeline, pipelines.owning(opportunity))
        .where(opportunity.c.workspace_id == workspace, seen(sight))
    )


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    o = opportunity.c
    equal: dict[Column[Any], Any] = {
        o.pipeline_id: filters.pipeline_id,
        o.slot: filters.slot,
        o.status: filters.status,
        o.owner: filters.owner,
        o.team: filters.team,
        o.source: filters.source,
        o.priority: filters.priority,
        o.external_id: filters.external_id,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if filters.tag is not None:
        query = query.where(literal(filters.tag) == any_(o.tags))
    if filters.idle is not None:
        query = query.where(o.flagged_at.is_not(None) if filters.idle else o.flagged_at.is_(None))
    if filters.name_part is not None:
        query = query.where(o.name.icontains(filters.name_part, autoescape=True))
    if filters.updated_since is not None:
        query = query.where(o.updated_at >= filters.updated_since)
    return query


async def _seen(connection: AsyncConnection, workspace: UUID, query: Select[Any]) -> list[Seen]:
    rows = (await connection.execute(query)).mappings().all()
    return [
        (deal_of(row), await pipelines.read_present_of(connection, workspace, row)) for row in rows
    ]
