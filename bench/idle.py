"""The idle scan: what it costs when nothing is due, how fast newly idle deals are flagged, and how
long after its instant a flag is open.

The yardstick of the first is counting the overdue among all open deals, as a scan without
`goes_idle_at` would; of the second, a bare statement that writes as many flags, events and deals;
of the third, a timer that fires at such instants in the same event loop, and writes nothing.
"""

import asyncio
import json
from datetime import timedelta
from time import perf_counter
from uuid import UUID

import asyncpg

from app.actions.flag_idle import flag_idle
from app.actions.load_demo import KEY
from app.jobs.idle_scan import IdleScans
from app.jobs.scheduler import scheduled
from app.settings import Settings
from app.storage.engine import Database, connect_arguments
from bench.report import Report
from bench.stage import Stage, make_workspace, stage
from bench.world import load

OPEN = 200_000
DUE = 10_000
ROUNDS = 3
SCANS = 30
IN_TURN = 200
APART = 0.05
"""Seconds between two deals that fall idle in turn."""
HORIZON = timedelta(seconds=5)

# One open deal of the demo again and again, due in a week.
MULTIPLY = """
INSERT INTO opportunity
SELECT copied.*
FROM opportunity AS o,
     generate_series(1, $2::integer) AS n,
     LATERAL jsonb_populate_record(o, jsonb_build_object(
         'opportunity_id', gen_random_uuid(), 'version', n, 'flagged_at', NULL,
         'idle_flag_id', NULL, 'goes_idle_at', now() + interval '7 days',
         'critical_at', now() + interval '14 days', 'escalated_at', NULL)) AS copied
WHERE o.workspace_id = $1 AND o.opportunity_id = (
    SELECT opportunity_id FROM opportunity
    WHERE workspace_id = $1 AND status = 'open' ORDER BY opportunity_id LIMIT 1)
"""

MAKE_DUE = """
UPDATE opportunity
SET goes_idle_at = now() - interval '1 second', clock_started_at = now() - interval '8 days'
WHERE opportunity_id IN (
    SELECT opportunity_id FROM opportunity
    WHERE workspace_id = $1 AND status = 'open' AND flagged_at IS NULL LIMIT $2)
"""

MAKE_DUE_IN_TURN = """
UPDATE opportunity AS o
SET goes_idle_at = now() + soon.n * $3::float8 * interval '1 second',
    clock_started_at = now() - interval '9 days'
FROM (
    SELECT opportunity_id, row_number() OVER () AS n FROM (
        SELECT opportunity_id FROM opportunity
        WHERE workspace_id = $1 AND status = 'open' AND flagged_at IS NULL LIMIT $2) AS quiet
) AS soon
WHERE o.workspace_id = $1 AND o.opportunity_id = soon.opportunity_id
"""

LAGS = """
SELECT extract(epoch FROM opened_at - idle_since)::float8 * 1000 AS lag FROM idle_flag
WHERE workspace_id = $1 AND opened_at > $2 ORDER BY lag
"""

COUNT_ALL = """
SELECT count(*) FROM opportunity
WHERE workspace_id = $1 AND status = 'open' AND clock_started_at + interval '400 days' <= now()
"""

BARE_FLAGS = """
WITH due AS (
    SELECT * FROM opportunity WHERE workspace_id = $1 AND goes_idle_at <= now() FOR UPDATE
), flags AS (
    INSERT INTO idle_flag (workspace_id, flag_id, opportunity_id, pipeline_id, slot, clock,
                           clock_started_at, idle_since, opened_at)
    SELECT $1, gen_random_uuid(), opportunity_id, pipeline_id, slot, 'stage_age', clock_started_at,
           goes_idle_at, now()
    FROM due
), told AS (
    INSERT INTO event (workspace_id, epoch, event_id, type, pipeline_id, opportunity_id,
                       occurred_at, historical, data)
    SELECT $1, 1, gen_random_uuid(), 'idle_flag.opened', pipeline_id, opportunity_id, now(), false,
           $2
    FROM due
)
UPDATE opportunity AS o SET version = o.version + 1, flagged_at = now()
FROM due WHERE o.workspace_id = $1 AND o.opportunity_id = due.opportunity_id
"""


def measure(report: Report) -> None:
    """Scan a workspace full of quiet deals, then one with many newly idle."""
    with stage() as on:
        workspace, _ = on.run(make_workspace)
        bare, _ = on.run(make_workspace)
        for each in (workspace, bare):
            load(on, each, 500)
        asyncio.run(_measure(on, report, workspace, bare))


async def _measure(on: Stage, report: Report, workspace: UUID, bare: UUID) -> None:
    owner = await asyncpg.connect(**connect_arguments(on.owner_url))
    database = await Database.open(on.url)
    try:
        await flag_idle(database, workspace)  # what the tales left idle
        await owner.execute(
            "UPDATE opportunity SET goes_idle_at = NULL WHERE workspace_id = $1", bare
        )
        await owner.execute(MULTIPLY, workspace, OPEN)
        await owner.execute(MULTIPLY, bare, ROUNDS * DUE)
        await owner.execute("VACUUM ANALYZE")
        scans, counts = [], []
        for _ in range(SCANS):
            scans.append(await _timed(IdleScans(database, HORIZON).scan_all()))
            counts.append(await _timed(owner.fetchval(COUNT_ALL, workspace)))
        report.add(
            f"scan of all workspaces, {OPEN:,} open, none due",
            "ms",
            [each * 1000 for each in scans],
            [each * 1000 for each in counts],
            against="counting the overdue among all open deals",
            aim="≤ 5 ms, aim 1 ms",
        )
        data = json.dumps(
            {"opportunity": dict.fromkeys(map(str, range(12)), "about so long")} | {"pipeline": KEY}
        )
        flagged, written = [], []
        for _ in range(ROUNDS):
            for each in (workspace, bare):
                await owner.execute(MAKE_DUE, each, DUE)
            flagged.append(await _timed(flag_idle(database, workspace)))
            written.append(await _timed(owner.execute(BARE_FLAGS, bare, data)))
            await owner.execute(
                "UPDATE opportunity SET goes_idle_at = NULL WHERE workspace_id = $1"
                " AND flagged_at IS NOT NULL",
                bare,
            )
        report.add(
            f"{DUE:,} newly idle deals flagged, with events",
            "s",
            flagged,
            written,
            against="one bare statement of the same rows",
            aim="≤ 2 s, aim 1 s",
        )
        await _measure_lag(report, owner, database, workspace)
    finally:
        await database.close()
        await owner.close()


async def _measure_lag(
    report: Report, owner: asyncpg.Connection, database: Database, workspace: UUID
) -> None:
    """Deals fall due one after the other while the service's own scheduler looks after them."""
    began = await owner.fetchval("SELECT clock_timestamp()")
    await owner.execute(MAKE_DUE_IN_TURN, workspace, IN_TURN, APART)
    async with scheduled(database, Settings().idle_scan_interval):
        async with asyncio.timeout(10 * IN_TURN * APART):
            late = await _timers()
            while len(lags := await owner.fetch(LAGS, workspace, began)) < IN_TURN:
                pass
    for name, place in (("p50", 50), ("p99", 99)):
        report.add(
            f"from crossing to flag, {IN_TURN} deals {APART:g} s apart, {name}",
            "ms",
            [lags[len(lags) * place // 100]["lag"]],
            [late[len(late) * place // 100]],
            against="a timer in the same loop",
            aim="≤ 1,000 ms, aim 100 ms",
        )


async def _timers() -> list[float]:
    """By how many milliseconds timers are late, in order."""
    loop = asyncio.get_running_loop()
    late = []
    for _ in range(IN_TURN):
        due = loop.time() + APART
        await asyncio.sleep(APART)
        late.append((loop.time() - due) * 1000)
    return sorted(late)


async def _timed(work: object) -> float:
    began = perf_counter()
    await work  # type: ignore[misc] # any awaitable
    return perf_counter() - began
