"""The open deals of a stage, many at a time: for when a changed definition concerns all of them.

What becomes of each is `domain.opportunity`'s business; here they are read and saved again. The
caller holds the definition lock, so that no deal is written meanwhile.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from app.domain.idleness import Holds, IdleState, Resolution
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline, Stage
from app.storage import bulk, idle_flags, opportunities
from app.storage.engine import Connection
from app.storage.opportunities import deal_of
from app.storage.statement import Part

AT_ONCE: Final = 500
"""Deals read and saved by one statement: few enough that other requests hardly wait for the work
between two statements, which holds the event loop.
"""

HOLDING: Final = """
-- How many open deals stand in each of these stages?
SELECT slot, count(*) AS deals FROM opportunity
WHERE workspace_id = $1 AND pipeline_id = $2 AND slot = ANY ($3::smallint[]) AND status = 'open'
GROUP BY slot
"""

_NEXT = """
-- The next open deals of a stage, and of each the last activity of the kinds that count.
SELECT {columns}, acted.last_at AS qualified_at
FROM opportunity AS o
CROSS JOIN LATERAL (
    SELECT max(a.occurred_at) AS last_at FROM activity AS a
    WHERE a.workspace_id = $1 AND a.opportunity_id = o.opportunity_id AND a.kind = ANY ($5::text[])
) AS acted
WHERE o.workspace_id = $1 AND o.pipeline_id = $2 AND o.slot = $3 AND o.status = 'open'
  AND o.opportunity_id > $4{only}
ORDER BY o.opportunity_id LIMIT $6
"""
STANDING: Final = _NEXT.format(columns="o.*", only="")
FLAGGED: Final = _NEXT.format(columns="o.*", only=" AND o.idle_flag_id IS NOT NULL")

# To read a whole row takes longer than to work out its clock, and most deals bear no flag: of those
# nothing is read but what bears on the clock.
UNFLAGGED: Final = _NEXT.format(
    columns="o.opportunity_id, o.version, o.priority, o.moved_at, o.last_activity_at,"
    " o.idle_rule_since, o.snoozed_until, o.next_step_at, o.next_step_planned_at, o.next_step,"
    " o.clock_started_at, o.clock_reset_by, o.goes_idle_at, o.critical_at, o.follow_up_due_at",
    only=" AND o.idle_flag_id IS NULL",
)

_GUARD = "WHERE workspace_id = $1 AND opportunity_id = $2 AND version = $3 - 1"
TOUCH: Final = f"UPDATE opportunity SET version = $3, updated_at = $4 {_GUARD}"
RESET: Final = (
    "UPDATE opportunity SET version = $3, updated_at = $4, last_activity_at = $5,"
    " clock_started_at = $6, clock_reset_by = $7, goes_idle_at = $8, critical_at = $9,"
    f" follow_up_due_at = $10 {_GUARD}"
)

_BEFORE_ALL: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Standing:
    """An open deal, and when the last activity of the kinds that count occurred."""

    deal: Opportunity
    last_activity_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unflagged:
    """What bears on the clock of an open deal without a flag, and what that clock says.

    `known_activity_at` is the last activity that counted by the old rule, `last_activity_at` the
    last of the kinds that count now.
    """

    opportunity_id: UUID
    version: int
    priority: str | None
    moved_at: datetime
    known_activity_at: datetime | None
    last_activity_at: datetime | None
    holds: Holds
    idle: IdleState


@dataclass(frozen=True, slots=True)
class Changed:
    """A deal as it was and as it is, and why its flag is resolved where it is."""

    before: Opportunity
    after: Opportunity
    resolution: Resolution | None


async def held(
    connection: Connection, workspace: UUID, pipeline: Pipeline, stages: Sequence[Stage]
) -> dict[str, int]:
    """The number of open deals in each of the stages that holds any, by key."""
    slots = [stage.slot for stage in stages]
    rows = await connection.fetch(HOLDING, workspace, pipeline.pipeline_id, slots)
    return {pipeline.by_slot[row["slot"]].key: row["deals"] for row in rows}


async def standing(
    connection: Connection,
    workspace: UUID,
    pipeline_id: UUID,
    stage: Stage,
    qualifying: Sequence[str],
    *,
    flagged: bool = False,
) -> AsyncIterator[list[Standing]]:
    """Every open deal of the stage, or every one that bears a flag, some at a time.

    Those given may leave the stage, or lose their flag, meanwhile.
    """
    asked = FLAGGED if flagged else STANDING
    async for rows in _slices(connection, asked, workspace, pipeline_id, stage, qualifying):
        yield [Standing(deal_of(row), row["qualified_at"]) for row in rows]


async def unflagged(
    connection: Connection, workspace: UUID, pipeline_id: UUID, stage: Stage
) -> AsyncIterator[list[Unflagged]]:
    """Of every open deal of the stage that bears no flag what its clock needs, some at a time."""
    kinds = stage.idle.qualifying
    async for rows in _slices(connection, UNFLAGGED, workspace, pipeline_id, stage, kinds):
        yield [
            Unflagged(
                row["opportunity_id"],
                row["version"],
                row["priority"],
                row["moved_at"],
                row["last_activity_at"],
                row["qualified_at"],
                opportunities.holds_of(row),
                opportunities.idle_of(row),
            )
            for row in rows
        ]


async def _slices(
    connection: Connection,
    asked: str,
    workspace: UUID,
    pipeline_id: UUID,
    stage: Stage,
    qualifying: Sequence[str],
) -> AsyncIterator[list[asyncpg.Record]]:
    last = _BEFORE_ALL
    while rows := await connection.fetch(
        asked, workspace, pipeline_id, stage.slot, last, qualifying, AT_ONCE
    ):
        yield rows
        last = rows[-1]["opportunity_id"]


async def reset(
    connection: Connection,
    workspace: UUID,
    clocks: Sequence[tuple[Unflagged, IdleState]],
    instant: datetime,
) -> None:
    """Save these clocks of deals that bear no flag, each as the deal's next version.

    Of a deal whose clock is as it was, the version alone is written.
    """
    touched, otherwise = [], []
    for deal, idle in clocks:
        key = (workspace, deal.opportunity_id, deal.version + 1, instant)
        if idle == deal.idle and deal.last_activity_at == deal.known_activity_at:
            touched.append(Part(TOUCH, key, guarded=True))
            continue
        told = (idle.goes_idle_at, idle.critical_at, idle.follow_up_due_at)
        cause = (deal.last_activity_at, idle.clock_started_at, idle.reset_by.value)
        otherwise.append(Part(RESET, (*key, *cause, *told), guarded=True))
    await bulk.execute(connection, touched)
    await bulk.execute(connection, otherwise)


async def save_clocks(
    connection: Connection,
    workspace: UUID,
    changed: Sequence[Changed],
    stage: Stage,
    instant: datetime,
) -> None:
    """Save the clocks of the stage's deals, and resolve the flags that they have lost."""
    deals = [opportunities.save_clock(workspace, each.after) for each in changed]
    await _save(connection, workspace, deals, changed, stage, instant)


async def save_positions(
    connection: Connection,
    workspace: UUID,
    changed: Sequence[Changed],
    stage: Stage,
    instant: datetime,
) -> None:
    """Save that the deals stand in the stage, and their clocks, and resolve the flags that they
    have lost; those that they keep stand there too.
    """
    deals = [opportunities.save_position(workspace, each.after) for each in changed]
    await _save(connection, workspace, deals, changed, stage, instant)


async def _save(
    connection: Connection,
    workspace: UUID,
    deals: Sequence[Part],
    changed: Sequence[Changed],
    stage: Stage,
    instant: datetime,
) -> None:
    await bulk.execute(connection, deals)
    kept = [each.after.flag_id for each in changed if each.after.flag_id is not None]
    await idle_flags.place(connection, workspace, kept, stage)
    ended = [
        idle_flags.resolve(workspace, each.before.flag_id, instant, each.resolution)
        for each in changed
        if each.resolution is not None and each.before.flag_id is not None
    ]
    await bulk.execute(connection, ended)
