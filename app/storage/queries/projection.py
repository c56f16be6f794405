"""Which deals are there, each with all of its log: what a check of the projection reads.

Batches go by the deals' ids, so that memory is bounded by a batch and its logs, however large the
workspace. A batch is one snapshot: a deal that is moved meanwhile is seen before or after, whole.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.agreement import Log
from app.domain.journey import TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import pipelines
from app.storage.opportunities import deal_of
from app.storage.tables import activity, opportunity, pipeline, transition, workspace
from app.storage.transitions import LogEntry, entry_of

AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """A deal as its row has it, its pipeline as it is defined now, its log, and when the last
    activity of each kind occurred.
    """

    deal: Opportunity
    pipeline: Pipeline
    log: Log
    now: datetime
    done: Mapping[str, datetime]


async def workspaces(connection: AsyncConnection) -> list[tuple[UUID, str]]:
    """Every workspace, its id and key. Asked under the jobs' role, which sees them all."""
    found = await connection.execute(
        select(workspace.c.workspace_id, workspace.c.key).order_by(workspace.c.key)
    )
    return [(row.workspace_id, row.key) for row in found]


async def deals_with_logs(
    connection: AsyncConnection, workspace_id: UUID, *, after: UUID | None, limit: int = AT_ONCE
) -> list[Told]:
    """The next deals in the order of their ids, with their logs; none when all were read."""
    o, t = opportunity, transition
    wanted = (
        select(o, pipelines.PRESENT_REVISION, func.clock_timestamp().label("now"))
        .join(pipeline, pipelines.owning(o))
        .where(o.c.workspace_id == workspace_id)
        .order_by(o.c.opportunity_id)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(o.c.opportunity_id > after)
    rows = (await connection.execute(wanted)).mappings().all()
    logs: defaultdict[UUID, list[LogEntry]] = defaultdict(list)
    done: defaultdict[UUID, dict[str, datetime]] = defaultdict(dict)
    if rows:
        first, last = rows[0]["opportunity_id"], rows[-1]["opportunity_id"]
        log = (
            select(t)
            .where(t.c.workspace_id == workspace_id, t.c.opportunity_id.between(first, last))
            .order_by(t.c.opportunity_id, t.c.seq)
        )
        for row in (await connection.execute(log)).mappings():
            logs[row["opportunity_id"]].append(entry_of(row))
        a = activity.c
        latest = (
            select(a.opportunity_id, a.kind, func.max(a.occurred_at))
            .where(a.workspace_id == workspace_id, a.opportunity_id.between(first, last))
            .group_by(a.opportunity_id, a.kind)
        )
        for opportunity_id, kind, occurred_at in await connection.execute(latest):
            done[opportunity_id][kind] = occurred_at
    return [
        Told(
            deal_of(row),
            await pipelines.read_present_of(connection, workspace_id, row),
            log_of(logs[row["opportunity_id"]]),
            row["now"],
            done[row["opportunity_id"]],
        )
        for row in rows
    ]


def log_of(entries: list[LogEntry]) -> Log:
    """The rows of one deal's log, voided ones included, as the domain looks at them."""
    standing = [entry for entry in entries if entry.voided_at is None]
    is_handed_off = bool(standing) and standing[-1].transition.kind is TransitionKind.HANDED_OFF
    return Log(
        standing=tuple(entry.transition for entry in standing),
        seqs=tuple(entry.transition.seq for entry in entries),
        continued_as=standing[-1].linked_id if is_handed_off else None,
    )
