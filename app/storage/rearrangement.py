"""Moves that a changed definition makes: the open deals of one stage go to another, all at once.

The projection that `domain.journey.after` defines, as SQL: dwell ends and the log gets a
transition of the kind `rearranged`, but no deal has moved by itself, so `moved_at` stays and the
idle clock and its flag go on. Tests hold both readings together.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from app.domain.pipeline import IdleClock, Pipeline, Stage
from app.domain.transition import effective_probability
from app.storage.engine import Connection
from app.storage.idle_clock import (
    ASSIGNMENTS,
    RETURNED,
    Reclocked,
    clocks,
    rule_arguments,
    threshold,
    threshold_arguments,
    with_flags_resolved,
)
from app.storage.ids import new_id
from app.storage.opportunities import FACTS
from app.storage.transitions import LogEntry, entry_of

AT_ONCE: Final = 2_000
"""Deals moved by one statement, so that none comes near the time that a statement may take."""

HOLDING: Final = """
-- How many open deals stand in each of these stages?
SELECT slot, count(*) AS deals FROM opportunity
WHERE workspace_id = $1 AND pipeline_id = $2 AND slot = ANY ($3::smallint[]) AND status = 'open'
GROUP BY slot
"""

STANDING: Final = """
SELECT opportunity_id FROM opportunity
WHERE workspace_id = $1 AND pipeline_id = $2 AND slot = $3 AND status = 'open'
ORDER BY opportunity_id LIMIT $4
"""

# A deal that entered the stage in this very microsecond leaves it in the next: time never stands
# still within a deal.
_LEFT_AT = "greatest($2::timestamptz, o.stage_entered_at + interval '1 microsecond')"
_FROZEN = ", ".join(
    f"coalesce(o.{fact}, $10::numeric)" if fact == "probability" else f"o.{fact}" for fact in FACTS
)

APPEND: Final = f"""
INSERT INTO transition (
    workspace_id, opportunity_id, seq, transition_id, pipeline_id, revision, kind, from_slot,
    from_name, entered_at, to_slot, to_name, occurred_at, recorded_at, actor, {", ".join(FACTS)}
)
SELECT $1, o.opportunity_id, o.seq + 1, moving.transition_id, o.pipeline_id, $5::integer,
       'rearranged', o.slot, $6::text, o.stage_entered_at, $7::smallint, $8::text, {_LEFT_AT}, $2,
       $9::text, {_FROZEN}
FROM unnest($3::uuid[], $4::uuid[]) AS moving (opportunity_id, transition_id)
JOIN opportunity AS o ON o.workspace_id = $1 AND o.opportunity_id = moving.opportunity_id
RETURNING *
"""

_RESTATED = f"""
CASE WHEN $13::boolean OR {threshold(6, 7, 8)} IS DISTINCT FROM {threshold(14, 15, 16)}
    THEN $2::timestamptz ELSE o.idle_rule_since END
"""

MOVE: Final = f"""
WITH {clocks("o.opportunity_id = ANY ($9::uuid[])", _RESTATED)}
UPDATE opportunity AS o SET {ASSIGNMENTS},
    slot = $10::smallint, seq = o.seq + 1, stage_entered_at = {_LEFT_AT},
    reach_mask = o.reach_mask | $11::bigint,
    dwell = ARRAY(
        SELECT CASE WHEN n = $12::integer THEN
            coalesce(o.dwell[n], 0)
            + (extract(epoch FROM {_LEFT_AT} - o.stage_entered_at) * 1000000)::bigint
            ELSE o.dwell[n] END
        FROM generate_series(1, greatest($12::integer, cardinality(o.dwell))) AS n ORDER BY n
    )
FROM clocks AS c WHERE o.workspace_id = $1 AND o.opportunity_id = c.opportunity_id
RETURNING {RETURNED}
"""


async def deals_held(
    connection: Connection, workspace: UUID, pipeline: Pipeline, stages: Sequence[Stage]
) -> dict[str, int]:
    """The number of open deals in each of the stages that holds any, by key."""
    slots = [stage.slot for stage in stages]
    rows = await connection.fetch(HOLDING, workspace, pipeline.pipeline_id, slots)
    return {pipeline.by_slot[row["slot"]].key: row["deals"] for row in rows}


async def next_deals(
    connection: Connection, workspace: UUID, pipeline_id: UUID, origin: Stage
) -> list[UUID]:
    """Some open deals that stand in the stage, at most `AT_ONCE`; none when all have left."""
    rows = await connection.fetch(STANDING, workspace, pipeline_id, origin.slot, AT_ONCE)
    return [row["opportunity_id"] for row in rows]


async def move(
    connection: Connection,
    workspace: UUID,
    deals: Sequence[UUID],
    *,
    revised: Pipeline,
    origin: Stage,
    target: Stage,
    actor: str,
    instant: datetime,
) -> list[tuple[Reclocked, LogEntry]]:
    """Move these open deals from `origin` to the open stage `target` of the revision.

    `origin` bears the idle rule by which they were clocked until now. The caller holds the
    definition lock, so that no deal is written meanwhile.
    """
    appended = await connection.fetch(
        APPEND,
        workspace,
        instant,
        deals,
        [new_id() for _ in deals],
        revised.revision,
        origin.name,
        target.slot,
        target.name,
        actor,
        effective_probability(None, target),
    )
    entries = {row["opportunity_id"]: entry_of(row) for row in appended}
    moved = await connection.fetch(
        MOVE,
        workspace,
        instant,
        *rule_arguments(target),
        deals,
        target.slot,
        target.bit,
        origin.slot,
        _is_other_clock(origin, target),
        *threshold_arguments(origin),
    )
    reclocked = await with_flags_resolved(connection, workspace, moved, instant)
    return [(each, entries[each[0].opportunity_id]) for each in reclocked]


def _is_other_clock(origin: Stage, target: Stage) -> bool:
    before, after = origin.idle, target.idle
    if before.clock is not after.clock:
        return True
    counts = after.clock is IdleClock.INACTIVITY
    return counts and set(before.qualifying) != set(after.qualifying)
