"""What the service does by itself: scans on time, clearing, and an end that leaves nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import asyncpg
import pytest
import time_machine
from sqlalchemy import text

from app.actions.flag_idle import BATCH
from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleRule, Pipeline
from app.jobs.scheduler import Scheduler, clear_what_is_old, scheduled
from app.storage.engine import Connection, Database, connect_arguments
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, sales_pipeline
from tests.idle import open_deals

EARLY = "opened_at < idle_since"
RULE = IdleRule(after=Period(days=7))
WEEK = timedelta(days=7)


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[Database]:
    """A database in which the scheduler finds nothing but what this test has made."""
    opened = await Database.open(own_database)
    yield opened
    await opened.close()


@pytest.fixture
async def sales(alone: Database) -> tuple[Principal, Pipeline]:
    principal, _ = await make_workspace(alone)
    pipeline = await keep_pipeline(alone, principal.workspace_id, sales_pipeline(lead=RULE))
    return principal, pipeline


async def count(
    database: Database, sales: tuple[Principal, Pipeline], table: str, only: str = "true"
) -> int:
    """Read, as a write would wake those who wait for commits."""
    workspace = sales[0].workspace_id
    query = text(f"SELECT count(*) FROM {table} WHERE workspace_id = :workspace AND {only}")
    async with database.read(workspace) as connection:
        return await connection.scalar(query, {"workspace": workspace}) or 0


async def until(condition: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Ask again and again until it holds; how long that took. Fails after so many seconds."""
    began = monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():
            pass
    return monotonic() - began


async def test_a_deal_that_is_due_is_flagged_within_the_interval(
    alone: Database, sales: tuple[Principal, Pipeline]
) -> None:
    async with scheduled(alone, timedelta(seconds=0.2)):
        await until(lambda: count(alone, sales, "workspace"), 5)
        await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK)
        await until(lambda: count(alone, sales, "idle_flag"), 5)


async def test_a_deal_is_flagged_when_it_falls_idle_and_not_at_the_next_turn(
    alone: Database, sales: tuple[Principal, Pipeline]
) -> None:
    due_in = timedelta(seconds=0.5)
    await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK + due_in)
    async with scheduled(alone, timedelta(seconds=3600)):
        await until(lambda: count(alone, sales, "idle_flag"), 10)
    assert await count(alone, sales, "idle_flag", EARLY) == 0


async def test_a_deal_that_is_due_sooner_than_the_next_turn_is_not_kept_waiting_for_it(
    alone: Database, sales: tuple[Principal, Pipeline]
) -> None:
    await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK)
    async with scheduled(alone, timedelta(seconds=3600)):
        await until(lambda: count(alone, sales, "idle_flag"), 10)
        due_in = timedelta(seconds=0.5)  # and the next turn is in an hour
        await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK + due_in)

        async def flagged_too() -> bool:
            return await count(alone, sales, "idle_flag") == 2

        await until(flagged_too, 10)
    assert await count(alone, sales, "idle_flag", EARLY) == 0


async def test_the_watch_goes_on_after_a_look_that_failed(
    alone: Database,
    sales: tuple[Principal, Pipeline],
    own_database: str,
    owner_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arguments = connect_arguments(owner_url)
    owner = await asyncpg.connect(
        **{**arguments, "database": connect_arguments(own_database)["database"]}
    )
    await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK)
    async with scheduled(alone, timedelta(seconds=3600)):
        await until(lambda: count(alone, sales, "idle_flag"), 10)
        await owner.execute("REVOKE SELECT ON workspace FROM sluice_jobs")
        await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK)

        async def failed() -> bool:
            await asyncio.sleep(0)
            return any("idle.watch_failed" in record.getMessage() for record in caplog.records)

        async def flagged_too() -> bool:
            return await count(alone, sales, "idle_flag") == 2

        await until(failed, 10)
        await owner.execute("GRANT SELECT ON workspace TO sluice_jobs")
        await until(flagged_too, 10)
    await owner.close()


async def test_what_was_committed_before_it_could_be_heard_is_looked_for(
    alone: Database, sales: tuple[Principal, Pipeline], own_database: str
) -> None:
    await open_deals(alone, *sales, 1, datetime.now(UTC) - WEEK)
    later, _ = await make_workspace(alone)
    pipeline = await keep_pipeline(alone, later.workspace_id, sales_pipeline(lead=RULE))
    elsewhere = await Database.open(own_database)
    async with scheduled(alone, timedelta(seconds=3600)) as scheduler:
        await until(lambda: count(alone, sales, "idle_flag"), 10)
        await _two_turns(scheduler)  # the scan has ended too
        await open_deals(elsewhere, later, pipeline, 1, datetime.now(UTC) - WEEK)
        async with alone.notices.sent_and_heard():
            await until(lambda: count(alone, (later, pipeline), "idle_flag"), 10)
    await elsewhere.close()


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_host_whose_clock_is_set_makes_no_job_wait(hours: int) -> None:
    turns = [asyncio.Event() for _ in range(2)]

    async def take_turn() -> None:
        next(turn for turn in turns if not turn.is_set()).set()

    scheduler = Scheduler()
    scheduler.every(timedelta(hours=2), "rare", take_turn)
    scheduler.start()
    await asyncio.wait_for(turns[0].wait(), 5)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours), tick=True):
        await asyncio.wait_for(turns[1].wait(), 5)
        await scheduler.stop()


async def test_a_job_that_is_wanted_while_it_runs_runs_again() -> None:
    begun, go_on = [asyncio.Event() for _ in range(2)], asyncio.Event()

    async def work() -> None:
        next(turn for turn in begun if not turn.is_set()).set()
        await go_on.wait()

    scheduler = Scheduler()
    scheduler.every(timedelta(hours=1), "wanted", work)
    scheduler.start()
    await asyncio.wait_for(begun[0].wait(), 5)
    scheduler.bring_forward("wanted", timedelta(0))
    await _two_turns(scheduler)  # by now its own would have come
    assert not begun[1].is_set()
    go_on.set()
    await asyncio.wait_for(begun[1].wait(), 5)
    await scheduler.stop()


async def test_the_service_leaves_cleanly_in_the_middle_of_a_scan(
    alone: Database, sales: tuple[Principal, Pipeline]
) -> None:
    due = 6 * BATCH
    await open_deals(alone, *sales, due, datetime.now(UTC) - WEEK)
    before = asyncio.all_tasks()
    async with scheduled(alone, timedelta(seconds=3600)):
        await until(lambda: count(alone, sales, "idle_flag"), 30)
    flagged = await count(alone, sales, "idle_flag")
    assert flagged % BATCH == 0
    assert asyncio.all_tasks() <= before
    async with scheduled(alone, timedelta(seconds=3600)):

        async def complete() -> bool:
            return await count(alone, sales, "idle_flag") == due

        await until(complete, 30)
    # An event for each opening and one for each flag: none was raised twice.
    assert await count(alone, sales, "event") == 2 * due


async def test_a_job_that_hangs_is_broken_off_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    scheduler = Scheduler()
    scheduler.every(timedelta(hours=1), "hang", hang)
    scheduler.start()
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(scheduler.stop(), 5)
    assert ended.is_set()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_database_that_is_away_postpones_a_job_and_ends_none() -> None:
    away = await Database.open("postgresql://sluice@127.0.0.1:1/sluice")
    async with scheduled(away, timedelta(seconds=0.1)) as scheduler:
        turns = asyncio.Event()
        scheduler.every(timedelta(seconds=0.1), "another", _set(turns))
        await asyncio.wait_for(turns.wait(), 5)
    await away.close()


async def test_answers_kept_for_their_day_are_cleared_and_younger_ones_stay(
    alone: Database, sales: tuple[Principal, Pipeline]
) -> None:
    workspace = sales[0].workspace_id

    async def keep(connection: Connection) -> None:
        await connection.execute(
            """
            INSERT INTO idempotency_record (workspace_id, key, request_hash, status, body,
                                            created_at)
            SELECT $1, n::text, '', 200, '', clock_timestamp() - n * interval '1 hour'
            FROM unnest(ARRAY[0, 23, 25, 400]) AS n
            """,
            workspace,
        )

    await alone.write(workspace, keep)
    await clear_what_is_old(alone)

    async def left(connection: Connection) -> list[str]:
        rows = await connection.fetch("SELECT key FROM idempotency_record ORDER BY key")
        return [row["key"] for row in rows]

    assert await alone.write(workspace, left) == ["0", "23"]


async def _two_turns(scheduler: Scheduler) -> None:
    """Until another job has had two turns, a fifth of a second apart."""
    turn = asyncio.Event()
    scheduler.every(timedelta(seconds=0.2), "another", _set(turn))
    for _ in range(2):
        await asyncio.wait_for(turn.wait(), 5)
        turn.clear()


def _set(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        event.set()

    return work
