"""The idle clock of many deals at once: `domain.idleness` as SQL, for when the rules change.

One deal's clock is worked out in Python by the action that writes the deal. A changed definition
concerns every open deal of a stage, and is worked out here, in one statement a stage; tests hold
the two readings together. Without a calendar a period is a number of seconds.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.domain.opportunity import Opportunity
from app.domain.period import Period
from app.domain.pipeline import IdleClock, Stage
from app.storage.engine import Connection
from app.storage.opportunities import deal_of

Reclocked = tuple[Opportunity, UUID | None]
"""A deal with its new clock, and the flag that it bore where that one is no longer due."""


def threshold(after: int, priorities: int, afters: int) -> str:
    """The seconds that deal `o` may sit, by the rule in these parameters; null: for ever."""
    return (
        f"CASE WHEN o.priority = ANY (${priorities}::text[])"
        f" THEN (${afters}::bigint[])[array_position(${priorities}, o.priority)]"
        f" ELSE ${after}::bigint END"
    )


# Parameters 1 to 8 are the workspace, the instant of the change and the rule (`rule_arguments`).
_CLOCKS: Final = """
clocks AS MATERIALIZED (
    SELECT o.opportunity_id, o.idle_flag_id AS flag_id, held.rule_since, reset.*, due.crossing,
           coalesce(
               acted.qualified_at,
               CASE WHEN o.last_activity_at <= o.moved_at THEN o.last_activity_at END
           ) AS last_activity_at,
           CASE WHEN due.crossing IS NOT NULL THEN
               greatest(due.crossing, $5::timestamptz, held.rule_since, o.snoozed_until)
           END AS goes_idle_at,
           -- Another clock start is another episode; a snooze alone does not end one.
           o.idle_flag_id IS NOT NULL AND (
               due.crossing IS NULL OR due.crossing > $2::timestamptz
               OR reset.started_at <> o.clock_started_at
           ) AS flag_ends
    FROM opportunity AS o
    CROSS JOIN LATERAL (
        -- Only what was done since the last move can reset a clock.
        SELECT max(a.occurred_at) AS qualified_at FROM activity AS a
        WHERE a.workspace_id = $1 AND a.opportunity_id = o.opportunity_id
          AND a.kind = ANY ($4::text[]) AND a.occurred_at > o.moved_at
    ) AS acted
    CROSS JOIN LATERAL (
        SELECT CASE WHEN $3::boolean THEN acted.qualified_at END IS NOT NULL AS by_activity
    ) AS cause
    CROSS JOIN LATERAL (
        SELECT CASE WHEN cause.by_activity THEN acted.qualified_at ELSE o.moved_at END
                   AS started_at,
               CASE WHEN cause.by_activity THEN 'activity' ELSE 'move' END AS reset_by
    ) AS reset
    CROSS JOIN LATERAL (
        SELECT reset.started_at + ({threshold}) * interval '1 second' AS crossing
    ) AS due
    CROSS JOIN LATERAL (SELECT {rule_since} AS rule_since) AS held
    WHERE o.workspace_id = $1 AND o.status = 'open' AND {deals}
)
"""

ASSIGNMENTS: Final = """
    version = o.version + 1, updated_at = $2, last_activity_at = c.last_activity_at,
    idle_rule_since = c.rule_since, clock_started_at = c.started_at, clock_reset_by = c.reset_by,
    goes_idle_at = c.goes_idle_at,
    idle_flag_id = CASE WHEN c.flag_ends THEN NULL ELSE o.idle_flag_id END,
    flagged_at = CASE WHEN c.flag_ends THEN NULL ELSE o.flagged_at END
"""

RESOLVE: Final = """
UPDATE idle_flag SET resolved_at = $2, resolved_by = 'not_due'
WHERE workspace_id = $1 AND flag_id = ANY ($3::uuid[])
"""


def clocks(deals: str, rule_since: str = "o.idle_rule_since") -> str:
    """The common table `clocks`: the open deals `o` that fulfil `deals`, under the rule given."""
    return _CLOCKS.format(threshold=threshold(6, 7, 8), rule_since=rule_since, deals=deals)


# `RETURNING` tells of the flag itself: a join of `clocks` with what was saved would be planned for
# the one row that the planner expects of each, and take a minute for ten thousand.
RETURNED: Final = "o.*, CASE WHEN c.flag_ends THEN c.flag_id END AS ended_flag"

# Every deal is written, also one whose clock starts and ends as before: what a caller sees of it
# names the clock, so its version must move on. Only those that lose their flag have to be told of.
RECOMPUTE: Final = f"""
WITH {clocks("o.pipeline_id = $9 AND o.slot = $10")},
saved AS (
    UPDATE opportunity AS o SET {ASSIGNMENTS} FROM clocks AS c
    WHERE o.workspace_id = $1 AND o.opportunity_id = c.opportunity_id
    RETURNING {RETURNED}
)
SELECT * FROM saved WHERE ended_flag IS NOT NULL
"""


async def recompute(
    connection: Connection, workspace: UUID, pipeline_id: UUID, stage: Stage, instant: datetime
) -> list[Reclocked]:
    """Work out the clock of every open deal in `stage` anew; the ones that lose their flag.

    The caller holds the definition lock, so that no deal is written meanwhile.
    """
    rows = await connection.fetch(
        RECOMPUTE, workspace, instant, *rule_arguments(stage), pipeline_id, stage.slot
    )
    return await with_flags_resolved(connection, workspace, rows, instant)


async def with_flags_resolved(
    connection: Connection, workspace: UUID, rows: Sequence[asyncpg.Record], instant: datetime
) -> list[Reclocked]:
    """The deals of these rows, after the flags that they lost were resolved."""
    reclocked = [(deal_of(row), row["ended_flag"]) for row in rows]
    ended = [flag for _, flag in reclocked if flag is not None]
    if ended:
        await connection.execute(RESOLVE, workspace, instant, ended)
    return reclocked


def rule_arguments(stage: Stage) -> tuple[Any, ...]:
    """A stage's rule as the statements bind it: clock, activities, since, and the thresholds."""
    rule = stage.idle
    return (
        rule.clock is IdleClock.INACTIVITY,
        list(rule.qualifying),
        rule.since,
        *threshold_arguments(stage),
    )


def threshold_arguments(stage: Stage) -> tuple[int | None, list[str], list[int | None]]:
    """The thresholds in seconds: for any deal, and for those of these priorities."""
    rule = stage.idle
    return (
        _seconds(rule.after),
        list(rule.after_by_priority),
        [_seconds(after) for after in rule.after_by_priority.values()],
    )


def _seconds(period: Period | None) -> int | None:
    return None if period is None else round(period.length.total_seconds())
