"""The open deals of a stage, many at a time: for when a changed definition concerns all of them.

What becomes of each is `domain.opportunity`'s business; here they are read and saved again. The
caller holds the definition lock, so that no deal is written meanwhile.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.domain.idleness import Resolution
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline, Stage
from app.storage import bulk, idle_flags, opportunities
from app.storage.engine import Connection
from app.storage.opportunities import deal_of

AT_ONCE: Final = 2_000
"""Deals read and saved by one statement, so that none comes near the time that it may take."""

HOLDING: Final = """
-- How many open deals stand in each of these stages?
SELECT slot, count(*) AS deals FROM opportunity
WHERE workspace_id = $1 AND pipeline_id = $2 AND slot = ANY ($3::smallint[]) AND status = 'open'
GROUP BY slot
"""

STANDING: Final = """
-- The next open deals of a stage, and of each the last activity of the kinds that count.
SELECT o.*, acted.last_at AS qualified_at
FROM opportunity AS o
CROSS JOIN LATERAL (
    SELECT max(a.occurred_at) AS last_at FROM activity AS a
    WHERE a.workspace_id = $1 AND a.opportunity_id = o.opportunity_id AND a.kind = ANY ($5::text[])
) AS acted
WHERE o.workspace_id = $1 AND o.pipeline_id = $2 AND o.slot = $3 AND o.status = 'open'
  AND o.opportunity_id > $4
ORDER BY o.opportunity_id LIMIT $6
"""

_BEFORE_ALL: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Standing:
    """An open deal, and when the last activity of the kinds that count occurred."""

    deal: Opportunity
    last_activity_at: datetime | None


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
) -> AsyncIterator[list[Standing]]:
    """Every open deal of the stage, some at a time; those given may leave it meanwhile."""
    last = _BEFORE_ALL
    while rows := await connection.fetch(
        STANDING, workspace, pipeline_id, stage.slot, last, qualifying, AT_ONCE
    ):
        yield [Standing(deal_of(row), row["qualified_at"]) for row in rows]
        last = rows[-1]["opportunity_id"]


async def save(
    connection: Connection, workspace: UUID, changed: Sequence[Changed], instant: datetime
) -> None:
    """Save where the deals stand and their clocks, and resolve the flags that they have lost."""
    deals = [opportunities.save_position(workspace, each.after) for each in changed]
    await bulk.execute(connection, deals)
    ended = [
        idle_flags.resolve(workspace, each.before.flag_id, instant, each.resolution)
        for each in changed
        if each.resolution is not None and each.before.flag_id is not None
    ]
    await bulk.execute(connection, ended)
