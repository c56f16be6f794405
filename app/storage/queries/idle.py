"""Who is idle, who will be, and where a scan has work."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.idle_flag import FlagState, IdleFlag, Severity
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import pipelines
from app.storage.driver import fetch
from app.storage.idle_flags import COLUMNS, flag_of
from app.storage.opportunities import deal_of
from app.storage.sight import seen
from app.storage.tables import idle_flag, opportunity, pipeline

Flagged = tuple[IdleFlag, Opportunity, Pipeline]
"""A flag, its deal as it stands now, and the pipeline as it is defined now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Flags that pass all of these; None passes everything, but for `state`.

    `slot` is the stage in which the deal fell idle, `owner` and `team` are the deal's present
    ones. Without a `state`, flags that are not resolved.
    """

    pipeline_id: UUID | None = None
    slot: int | None = None
    owner: str | None = None
    team: str | None = None
    state: FlagState | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class NextDue:
    """When a workspace's first deal is due to be flagged, or its first flag to be critical: in so
    many seconds; ≤ 0: it is due.
    """

    workspace_id: UUID
    seconds: float


SOONEST: Final = """
    SELECT w.workspace_id, extract(epoch FROM next.due_at - clock_timestamp())::float8 AS seconds
    FROM workspace AS w CROSS JOIN LATERAL (
        SELECT least((
            SELECT o.goes_idle_at FROM opportunity AS o
            WHERE o.workspace_id = w.workspace_id
              AND o.flagged_at IS NULL AND o.goes_idle_at IS NOT NULL
            ORDER BY o.goes_idle_at LIMIT 1
        ), (
            SELECT o.critical_at FROM opportunity AS o
            WHERE o.workspace_id = w.workspace_id
              AND o.flagged_at IS NOT NULL AND o.escalated_at IS NULL AND o.critical_at IS NOT NULL
              AND o.goes_idle_at IS NOT NULL
            ORDER BY o.critical_at LIMIT 1
        )) AS due_at
    ) AS next
    WHERE next.due_at <= clock_timestamp() + CAST($1 AS interval)
      AND (CAST($2 AS uuid[]) IS NULL OR w.workspace_id = ANY($2))
"""


async def soonest(
    connection: AsyncConnection, within: timedelta, workspaces: Collection[UUID] | None = None
) -> list[NextDue]:
    """Each workspace's first deal that is due or will be within the time: two probes of an index.

    Of these workspaces; None: of all. Asked under the jobs' role, which sees every workspace, and
    after every commit: so past SQLAlchemy.
    """
    there = None if workspaces is None else list(workspaces)
    rows = await fetch(connection, SOONEST, within, there)
    return [NextDue(row.workspace_id, row.seconds) for row in rows]


async def flags(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    filters: Filters,
    *,
    after: UUID | None,
    limit: int,
) -> list[Flagged]:
    """Flags that pass the filters, in the order in which they were first opened, after one."""
    f, o = idle_flag.c, opportunity.c
    query = (
        _seen(
            *(f[name].label(f"flag_{name}") for name in COLUMNS),
        )
        .join(
            idle_flag,
            (f.workspace_id == o.workspace_id) & (f.opportunity_id == o.opportunity_id),
        )
        .where(f.workspace_id == workspace, seen(sight), *_passing(filters))
        .order_by(f.flag_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(f.flag_id > after)
    return [
        (
            flag_of({name: row[f"flag_{name}"] for name in COLUMNS}),
            deal_of(row),
            await pipelines.read_present_of(connection, workspace, row),
        )
        for row in (await connection.execute(query)).mappings().all()
    ]


async def upcoming(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    pipeline_id: UUID,
    within: timedelta,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[tuple[Opportunity, Pipeline]]:
    """Deals of the pipeline without an open flag that are due within the time, the soonest first.

    A snoozed deal is among them where its snooze ends by then, and so is one that has just fallen
    idle and waits for the next scan.
    """
    o = opportunity.c
    query = (
        _seen()
        .where(
            o.workspace_id == workspace,
            seen(sight),
            o.pipeline_id == pipeline_id,
            o.flagged_at.is_(None),
            o.goes_idle_at <= select(func.clock_timestamp() + within).scalar_subquery(),
        )
        .order_by(o.goes_idle_at, o.opportunity_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(o.goes_idle_at, o.opportunity_id) > after)
    rows = (await connection.execute(query)).mappings().all()
    return [
        (deal_of(row), await pipelines.read_present_of(connection, workspace, row)) for row in rows
    ]


def _passing(filters: Filters) -> Iterable[ColumnElement[bool]]:
    f, o = idle_flag.c, opportunity.c
    equal = (
        (f.pipeline_id, filters.pipeline_id),
        (f.slot, filters.slot),
        (o.owner, filters.owner),
        (o.team, filters.team),
    )
    yield from (column == value for column, value in equal if value is not None)
    if filters.severity is not None:
        is_critical = f.escalated_at.is_not(None)
        yield is_critical if filters.severity is Severity.CRITICAL else ~is_critical
    # IdleFlag.state, as a condition.
    if filters.state is FlagState.RESOLVED:
        yield f.resolved_at.is_not(None)
        return
    yield f.resolved_at.is_(None)
    match filters.state:
        case FlagState.SNOOZED:
            yield f.snoozed_until.is_not(None)
        case FlagState.ACKNOWLEDGED:
            yield f.snoozed_until.is_(None) & f.acknowledged_at.is_not(None)
        case FlagState.OPEN:
            yield f.snoozed_until.is_(None) & f.acknowledged_at.is_(None)


def _seen(*more: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*opportunity.c, pipelines.PRESENT_REVISION, *more)
        .select_from(opportunity)
        .join(pipeline, pipelines.owning(opportunity))
    )
