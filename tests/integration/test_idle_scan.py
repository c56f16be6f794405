"""The scan itself: many at once, killed in the middle, racing with moves, one workspace at a time.

These go below HTTP, to the function that the scheduler and the route share.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.actions.flag_idle import BATCH, flag_idle
from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleRule
from app.jobs.idle_scan import AGAIN, IdleScans
from app.storage.engine import Connection, Database, connect_arguments
from tests.asking import decided
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.idle import NOW, open_deals

HOUR = timedelta(hours=1)
RULE = IdleRule(after=Period(days=7))


async def figures(database: Database, workspace: UUID) -> dict[str, int]:
    """How many flags, flagged deals and events there are, and how many do not go together."""

    async def work(connection: Connection) -> Any:
        return await connection.fetchrow(
            """
            SELECT (SELECT count(*) FROM idle_flag WHERE workspace_id = $1) AS flags,
                   (SELECT count(*) FROM opportunity
                    WHERE workspace_id = $1 AND flagged_at IS NOT NULL) AS flagged,
                   (SELECT count(*) FROM event
                    WHERE workspace_id = $1 AND type = 'idle_flag.opened') AS told,
                   (SELECT count(*) FROM event
                    WHERE workspace_id = $1 AND type = 'idle_flag.resolved') AS told_resolved,
                   (SELECT count(*) FROM idle_flag AS f
                    FULL JOIN (SELECT * FROM opportunity
                               WHERE workspace_id = $1 AND idle_flag_id IS NOT NULL) AS o
                    ON o.idle_flag_id = f.flag_id AND o.opportunity_id = f.opportunity_id
                       AND o.clock_started_at = f.clock_started_at
                    WHERE coalesce(f.workspace_id, $1) = $1
                      AND (f.resolved_at IS NULL) <> (o.idle_flag_id IS NOT NULL)) AS at_odds
            """,
            workspace,
        )

    return dict(await database.write(workspace, work))


async def test_many_scans_at_once_flag_each_deal_exactly_once(
    database: Database, principal: Principal
) -> None:
    pipeline = sales_pipeline(lead=RULE)
    await keep_pipeline(database, principal.workspace_id, pipeline)
    due = 2 * BATCH + 100
    await open_deals(database, principal, pipeline, due, NOW - timedelta(days=8))
    await open_deals(database, principal, pipeline, 50, NOW - timedelta(days=6))
    scans = await asyncio.gather(*(flag_idle(database, principal.workspace_id) for _ in range(8)))
    # A scan passes over what another one holds, so a last one looks for what was left between two.
    scans.append(await flag_idle(database, principal.workspace_id))
    assert sum(scan.flagged for scan in scans) == due
    assert await figures(database, principal.workspace_id) == {
        "flags": due,
        "flagged": due,
        "told": due,
        "told_resolved": 0,
        "at_odds": 0,
    }


async def test_a_scan_broken_off_in_the_middle_leaves_whole_batches_and_nothing_twice(
    database: Database, principal: Principal
) -> None:
    pipeline = sales_pipeline(lead=RULE)
    await keep_pipeline(database, principal.workspace_id, pipeline)
    due = 4 * BATCH
    await open_deals(database, principal, pipeline, due, NOW - timedelta(days=8))
    scan = asyncio.create_task(flag_idle(database, principal.workspace_id))
    async with asyncio.timeout(30):
        while not (found := await figures(database, principal.workspace_id))["flags"]:
            assert not scan.done()
    scan.cancel()
    await asyncio.wait([scan])
    found = await figures(database, principal.workspace_id)
    assert found["flags"] % BATCH == 0
    assert found["flags"] == found["flagged"] == found["told"]
    assert found["at_odds"] == 0
    assert (await flag_idle(database, principal.workspace_id)).flagged == due - found["flags"]
    found = await figures(database, principal.workspace_id)
    assert (found["flags"], found["told"], found["at_odds"]) == (due, due, 0)


async def test_moves_that_race_with_scans_leave_no_flag_on_a_deal_that_moved(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=RULE))
    opened_at = (NOW - timedelta(days=8)).isoformat()

    async def move_on(deal: dict[str, Any]) -> None:
        moves = f"/v1/opportunities/{deal['id']}/transitions"
        answer = await decided(client.post, moves, json={"to_stage": "offer"})
        assert answer.status_code == 201, answer.text

    for _ in range(5):
        deals = [await open_deal(client, opened_at=opened_at) for _ in range(12)]
        await asyncio.gather(
            *(flag_idle(database, principal.workspace_id) for _ in range(3)),
            *(move_on(deal) for deal in deals),
            *(flag_idle(database, principal.workspace_id) for _ in range(3)),
        )
        found = await figures(database, principal.workspace_id)
        assert found["flagged"] == 0
        assert found["at_odds"] == 0
        assert found["told"] == found["told_resolved"] == found["flags"]


async def test_a_scan_passes_over_a_deal_that_somebody_holds_and_finds_it_the_next_time(
    database: Database, principal: Principal
) -> None:
    pipeline = sales_pipeline(lead=RULE)
    await keep_pipeline(database, principal.workspace_id, pipeline)
    await open_deals(database, principal, pipeline, 1, NOW - timedelta(days=8))

    async def hold(connection: Connection) -> int:
        await connection.execute(
            "SELECT 1 FROM opportunity WHERE workspace_id = $1 FOR UPDATE", principal.workspace_id
        )
        async with asyncio.timeout(20):  # who waits for the row is refused after two seconds
            return (await flag_idle(database, principal.workspace_id)).flagged

    assert await database.write(principal.workspace_id, hold) == 0
    assert (await flag_idle(database, principal.workspace_id)).flagged == 1


async def test_a_scan_touches_no_other_workspace(database: Database, principal: Principal) -> None:
    other, _ = await make_workspace(database)
    for owner in (principal, other):
        pipeline = sales_pipeline(lead=RULE)
        await keep_pipeline(database, owner.workspace_id, pipeline)
        await open_deals(database, owner, pipeline, 3, NOW - timedelta(days=8))
    assert (await flag_idle(database, principal.workspace_id)).flagged == 3
    assert (await figures(database, other.workspace_id))["flags"] == 0
    assert (await flag_idle(database, other.workspace_id)).flagged == 3


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[Database]:
    """A database in which there are no workspaces but this test's."""
    opened = await Database.open(own_database)
    yield opened
    await opened.close()


@pytest.fixture
async def owner(
    own_database: str, owner_url: str
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Who may break what the service itself cannot."""
    arguments = connect_arguments(owner_url)
    connection = await asyncpg.connect(
        **{**arguments, "database": connect_arguments(own_database)["database"]}
    )
    yield connection
    await connection.close()


async def test_all_workspaces_are_scanned_and_the_next_due_deal_is_foretold(
    alone: Database,
) -> None:
    principals = [(await make_workspace(alone))[0] for _ in range(3)]
    for principal in principals:
        pipeline = sales_pipeline(lead=RULE)
        await keep_pipeline(alone, principal.workspace_id, pipeline)
        await open_deals(alone, principal, pipeline, 2, NOW - timedelta(days=8))
    await open_deals(alone, principal, pipeline, 1, NOW - timedelta(days=7) + HOUR / 2)
    await open_deals(alone, principal, pipeline, 1, NOW - timedelta(days=6))
    ahead = await IdleScans(alone, HOUR).scan_all()
    for principal in principals:
        assert (await figures(alone, principal.workspace_id))["flags"] == 2
    assert ahead is not None
    assert HOUR / 4 < ahead <= HOUR / 2
    assert await IdleScans(alone, HOUR / 4).scan_all() is None


async def test_a_due_deal_that_somebody_holds_is_looked_at_again_soon(alone: Database) -> None:
    principal, _ = await make_workspace(alone)
    pipeline = sales_pipeline(lead=RULE)
    await keep_pipeline(alone, principal.workspace_id, pipeline)
    await open_deals(alone, principal, pipeline, 1, NOW - timedelta(days=8))

    async def hold(connection: Connection) -> timedelta | None:
        await connection.execute(
            "SELECT 1 FROM opportunity WHERE workspace_id = $1 FOR UPDATE", principal.workspace_id
        )
        return await IdleScans(alone, HOUR).scan_all()

    ahead = await alone.write(principal.workspace_id, hold)
    assert ahead is not None
    assert timedelta(0) < ahead <= timedelta(seconds=AGAIN)
    assert (await figures(alone, principal.workspace_id))["flags"] == 0
    assert await IdleScans(alone, HOUR).scan_all() is None
    assert (await figures(alone, principal.workspace_id))["flags"] == 1


async def test_a_workspace_that_cannot_be_scanned_does_not_keep_the_others_waiting(
    alone: Database, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    principals = [(await make_workspace(alone))[0] for _ in range(3)]
    for principal in principals:
        pipeline = sales_pipeline(lead=RULE)
        await keep_pipeline(alone, principal.workspace_id, pipeline)
        await open_deals(alone, principal, pipeline, 1, NOW - timedelta(days=8))
    broken = principals[1].workspace_id
    await owner.execute("DELETE FROM pipeline_revision WHERE workspace_id = $1", broken)
    # Trying again at once would fail again: the interval is soon enough, whoever asks.
    scans = IdleScans(alone, HOUR)
    for ahead in (await scans.scan_all(), await scans.next_due([broken])):
        assert ahead is not None
        assert HOUR / 2 < ahead <= HOUR
    for principal in principals:
        found = await figures(alone, principal.workspace_id)
        assert found["flags"] == (0 if principal.workspace_id == broken else 1)


class Turns(asyncio.Semaphore):
    """Turns, and how many of them were taken."""

    taken = 0

    async def acquire(self) -> Literal[True]:
        self.taken += 1
        return await super().acquire()


async def test_scans_that_share_their_turns_go_on_batch_by_batch(
    database: Database, principal: Principal
) -> None:
    other, _ = await make_workspace(database)
    for owner, due in ((principal, 8 * BATCH), (other, 1)):
        pipeline = sales_pipeline(lead=RULE)
        await keep_pipeline(database, owner.workspace_id, pipeline)
        await open_deals(database, owner, pipeline, due, NOW - timedelta(days=8))
    turns = Turns(1)
    large = asyncio.create_task(flag_idle(database, principal.workspace_id, turns=turns))
    await asyncio.sleep(0)  # it has the first turn
    assert (await flag_idle(database, other.workspace_id, turns=turns)).flagged == 1
    assert not large.done()
    assert (await large).flagged == 8 * BATCH
    assert turns.taken > 8


async def test_what_comes_to_be_due_while_another_workspace_is_scanned_does_not_wait_for_its_end(
    alone: Database,
) -> None:
    (large, _), (small, _) = [await make_workspace(alone) for _ in range(2)]
    pipeline, other = sales_pipeline(lead=RULE), sales_pipeline(lead=RULE)
    await keep_pipeline(alone, large.workspace_id, pipeline)
    await keep_pipeline(alone, small.workspace_id, other)
    due = 16 * BATCH
    await open_deals(alone, large, pipeline, due, NOW - timedelta(days=8))
    scan = asyncio.create_task(IdleScans(alone, HOUR).scan_all())
    async with asyncio.timeout(60):
        while not (await figures(alone, large.workspace_id))["flags"]:
            assert not scan.done()
        await open_deals(alone, small, other, 1, NOW - timedelta(days=8))
        while not (await figures(alone, small.workspace_id))["flags"]:
            assert not scan.done()
    assert (await figures(alone, large.workspace_id))["flags"] < due
    assert await scan is None
    assert (await figures(alone, large.workspace_id))["flags"] == due


async def test_deals_that_have_lost_their_flags_keep_no_other_from_being_critical(
    alone: Database, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    principal, _ = await make_workspace(alone)
    rule = IdleRule(after=Period(days=7), critical_after=Period(days=30))
    pipeline = sales_pipeline(lead=rule)
    await keep_pipeline(alone, principal.workspace_id, pipeline)
    await open_deals(alone, principal, pipeline, BATCH, NOW - timedelta(days=9))
    assert (await flag_idle(alone, principal.workspace_id)).flagged == BATCH
    await owner.execute("DELETE FROM idle_flag")
    await open_deals(alone, principal, pipeline, 1, NOW - timedelta(days=8))
    assert (await flag_idle(alone, principal.workspace_id)).flagged == 1
    await owner.execute("UPDATE opportunity SET critical_at = clock_started_at + interval '8 days'")
    async with asyncio.timeout(30):
        assert (await flag_idle(alone, principal.workspace_id)).escalated == 1
    assert await IdleScans(alone, HOUR).scan_all() is None  # and nothing is left to be scanned
