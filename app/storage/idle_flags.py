"""Idle flags: one a (deal, clock start), opened, acknowledged, snoozed, resolved, open again.

Who changes whether a flag stands open writes the deal's row as well, guarded by its version: the
deal's `idle_flag_id` and `flagged_at` and the flag never disagree.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.domain.errors import NotFound
from app.domain.idle_flag import IdleFlag
from app.domain.idleness import Resolution
from app.domain.opportunity import Opportunity
from app.domain.pipeline import IdleClock, Stage
from app.storage.engine import Connection
from app.storage.opportunities import deal_of
from app.storage.statement import Part

COLUMNS: Final = tuple(field.name for field in fields(IdleFlag))

FIND: Final = """
SELECT * FROM idle_flag WHERE workspace_id = $1 AND flag_id = $2
"""

EPISODE: Final = """
SELECT * FROM idle_flag
WHERE workspace_id = $1 AND opportunity_id = $2 AND clock_started_at = $3
"""

RESOLVE: Final = """
UPDATE idle_flag SET resolved_at = $3, resolved_by = $4
WHERE workspace_id = $1 AND flag_id = $2 AND resolved_at IS NULL
"""

# A snooze that would have ended meanwhile does not stand again.
REOPEN: Final = """
UPDATE idle_flag SET resolved_at = NULL, resolved_by = NULL, slot = $4, clock = $5,
    snoozed_until = CASE WHEN snoozed_until > $3 THEN snoozed_until END
WHERE workspace_id = $1 AND flag_id = $2
"""

PLACE: Final = """
UPDATE idle_flag SET slot = $3, clock = $4
WHERE workspace_id = $1 AND flag_id = ANY ($2::uuid[]) AND (slot, clock) <> ($3, $4)
"""

ACKNOWLEDGE: Final = """
UPDATE idle_flag SET acknowledged_at = $3, acknowledged_by = $4
WHERE workspace_id = $1 AND flag_id = $2 AND resolved_at IS NULL AND acknowledged_at IS NULL
  AND escalated_at IS NOT DISTINCT FROM $5  -- what was seen is what is acknowledged
"""

SNOOZE: Final = """
UPDATE idle_flag
SET snoozed_at = $3, snoozed_by = $4, snoozed_until = $5, snooze_reason = $6
WHERE workspace_id = $1 AND flag_id = $2 AND resolved_at IS NULL
"""

# The clock is asked once, by a sub-select, so that the index can be searched for its answer. A row
# that a mover or another scan holds is passed over: the one gives it a new clock, the other flags
# it.
TAKE: Final = """
SELECT o.opportunity_id FROM opportunity AS o
WHERE o.workspace_id = $1 AND o.flagged_at IS NULL
  AND o.goes_idle_at <= (SELECT clock_timestamp())
ORDER BY o.goes_idle_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
"""

TAKE_ESCALATING: Final = """
SELECT o.opportunity_id FROM opportunity AS o
WHERE o.workspace_id = $1 AND o.flagged_at IS NOT NULL AND o.escalated_at IS NULL
  AND o.critical_at <= (SELECT clock_timestamp())
ORDER BY o.critical_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
"""

# Read by a statement of its own, after the locks: its snapshot holds what came before them.
_FLAG_COLUMNS = ", ".join(f"f.{name} AS flag_{name}" for name in COLUMNS)
TAKEN: Final = f"""
SELECT o.*, p.revision AS pipeline_revision, clock_timestamp() AS now, {_FLAG_COLUMNS}
FROM opportunity AS o
JOIN pipeline AS p ON p.workspace_id = $1 AND p.pipeline_id = o.pipeline_id
LEFT JOIN LATERAL (
    -- One probe of its key a deal, whatever is believed of the table's size.
    SELECT * FROM idle_flag AS kept
    WHERE kept.workspace_id = $1 AND kept.opportunity_id = o.opportunity_id
      AND kept.clock_started_at = o.clock_started_at LIMIT 1
) AS f ON true
WHERE o.workspace_id = $1 AND o.opportunity_id = ANY ($2::uuid[])
ORDER BY o.goes_idle_at, o.opportunity_id
"""

RAISE: Final = """
WITH raised AS (
    SELECT * FROM unnest(
        $2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::text[], $7::timestamptz[],
        $8::timestamptz[], $9::timestamptz[], $10::timestamptz[]
    ) AS raised (flag_id, opportunity_id, pipeline_id, slot, clock, clock_started_at, idle_since,
                 opened_at, escalated_at)
), kept AS (
    INSERT INTO idle_flag (workspace_id, flag_id, opportunity_id, pipeline_id, slot, clock,
                           clock_started_at, idle_since, opened_at, escalated_at)
    SELECT $1, raised.* FROM raised
    ON CONFLICT (workspace_id, opportunity_id, clock_started_at) DO UPDATE
    SET slot = excluded.slot, clock = excluded.clock, idle_since = excluded.idle_since,
        escalated_at = excluded.escalated_at, acknowledged_at = NULL, acknowledged_by = NULL,
        snoozed_at = NULL, snoozed_by = NULL, snoozed_until = NULL, snooze_reason = NULL,
        resolved_at = NULL, resolved_by = NULL
)
UPDATE opportunity AS o
SET version = o.version + 1, idle_flag_id = raised.flag_id, flagged_at = $11, updated_at = $11,
    escalated_at = raised.escalated_at
FROM raised WHERE o.workspace_id = $1 AND o.opportunity_id = raised.opportunity_id
"""

ESCALATE: Final = """
WITH critical AS (
    UPDATE idle_flag SET escalated_at = $3, acknowledged_at = NULL, acknowledged_by = NULL
    WHERE workspace_id = $1 AND flag_id = ANY ($2::uuid[])
    RETURNING opportunity_id
)
UPDATE opportunity AS o SET version = o.version + 1, escalated_at = $3, updated_at = $3
FROM critical WHERE o.workspace_id = $1 AND o.opportunity_id = critical.opportunity_id
"""

NEVER_CRITICAL: Final = """
UPDATE opportunity SET version = version + 1, critical_at = NULL, updated_at = $3
WHERE workspace_id = $1 AND opportunity_id = ANY ($2::uuid[])
"""


class Due:
    """A deal that is due, to be flagged or for its flag to be critical, and locked: its pipeline's
    revision, and its episode's flag if any.
    """

    __slots__ = ("deal", "flag", "now", "revision")

    def __init__(self, row: Any) -> None:
        self.deal: Opportunity = deal_of(row)
        self.revision: int = row["pipeline_revision"]
        self.now: datetime = row["now"]
        self.flag: IdleFlag | None = None
        if row["flag_flag_id"] is not None:
            self.flag = flag_of({name: row[f"flag_{name}"] for name in COLUMNS})


async def take_due(connection: Connection, workspace: UUID, limit: int) -> list[Due]:
    """Lock deals that are due and not flagged, at most so many, the longest due first."""
    return await _taken(connection, TAKE, workspace, limit)


async def take_escalating(connection: Connection, workspace: UUID, limit: int) -> list[Due]:
    """Lock deals whose open flag has come to be critical, at most so many, likewise."""
    return await _taken(connection, TAKE_ESCALATING, workspace, limit)


async def _taken(connection: Connection, take: str, workspace: UUID, limit: int) -> list[Due]:
    taken = await connection.fetch(take, workspace, limit)
    if not taken:
        return []
    ids = [row["opportunity_id"] for row in taken]
    return [Due(row) for row in await connection.fetch(TAKEN, workspace, ids)]


async def raise_flags(
    connection: Connection, workspace: UUID, flags: Sequence[IdleFlag], at: datetime
) -> None:
    """Open these flags, and mark their deals, which this transaction holds locked."""
    opening = ("flag_id", "opportunity_id", "pipeline_id", "slot", "clock")
    times = ("clock_started_at", "idle_since", "opened_at", "escalated_at")
    columns = [[getattr(flag, name) for flag in flags] for name in (*opening, *times)]
    await connection.execute(RAISE, workspace, *columns, at)


async def escalate(
    connection: Connection, workspace: UUID, flags: Sequence[UUID], at: datetime
) -> None:
    """Make these flags critical, and mark their deals, which this transaction holds locked."""
    await connection.execute(ESCALATE, workspace, flags, at)


async def never_critical(
    connection: Connection, workspace: UUID, deals: Sequence[UUID], at: datetime
) -> None:
    """Let these deals, which this transaction holds locked, not come to be critical until their
    clocks are worked out anew.
    """
    await connection.execute(NEVER_CRITICAL, workspace, deals, at)


async def find(connection: Connection, workspace: UUID, flag_id: UUID) -> IdleFlag:
    """The flag of that id. Raises NotFound."""
    row = await connection.fetchrow(FIND, workspace, flag_id)
    if row is None:
        raise no_flag(flag_id)
    return flag_of(row)


def no_flag(flag_id: UUID) -> NotFound:
    """It is not there, or its deal is not to be seen: nobody is told which."""
    return NotFound(f"There is no idle flag {flag_id}.")


async def episode(
    connection: Connection, workspace: UUID, opportunity_id: UUID, clock_started_at: datetime
) -> IdleFlag | None:
    """The flag of that episode, if there ever was one."""
    row = await connection.fetchrow(EPISODE, workspace, opportunity_id, clock_started_at)
    return None if row is None else flag_of(row)


def flag_of(row: Any) -> IdleFlag:
    """A row of `idle_flag` as the domain sees it."""
    values = {name: row[name] for name in COLUMNS}
    cause = values["resolved_by"]
    return IdleFlag(
        **{
            **values,
            "clock": IdleClock(values["clock"]),
            "resolved_by": None if cause is None else Resolution(cause),
        }
    )


def resolve(workspace: UUID, flag_id: UUID, at: datetime, cause: Resolution) -> Part:
    """The part that ends an episode."""
    return Part(RESOLVE, (workspace, flag_id, at, cause.value))


def reopen(workspace: UUID, flag: IdleFlag, at: datetime) -> Part:
    """The part by which an episode that resumes has its flag open, or snoozed, again."""
    return Part(REOPEN, (workspace, flag.flag_id, at, flag.slot, flag.clock.value))


async def place(
    connection: Connection, workspace: UUID, flags: Sequence[UUID], stage: Stage
) -> None:
    """Have these flags, whose deals a changed definition has put into the stage, stand there."""
    await connection.execute(PLACE, workspace, flags, stage.slot, stage.idle.clock.value)


def acknowledge(workspace: UUID, flag: IdleFlag) -> Part:
    """Saves who has seen to the flag, unless someone was faster."""
    return Part(
        ACKNOWLEDGE,
        (
            workspace,
            flag.flag_id,
            flag.acknowledged_at,
            flag.acknowledged_by,
            flag.escalated_at,
        ),
        guarded=True,
    )


def snooze(workspace: UUID, flag: IdleFlag) -> Part:
    """Saves until when the flag is put aside, by whom and why."""
    return Part(
        SNOOZE,
        (
            workspace,
            flag.flag_id,
            flag.snoozed_at,
            flag.snoozed_by,
            flag.snoozed_until,
            flag.snooze_reason,
        ),
        guarded=True,
    )
