"""Both ways in which a read may ask, by SQLAlchemy and past it: what a caller hears, what stays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import DatabaseUnavailable
from app.storage.driver import fetch
from app.storage.engine import Database, Timeouts, connect_arguments
from tests.conftest import make_workspace, on_server

SEEN = "SELECT workspace_id, current_user AS acts_as, pg_backend_pid() AS pid FROM workspace"
SLEEP = "SELECT pg_sleep(4)"
ASLEEP = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event = 'PgSleep' AND state = 'active'
"""
A_CONFLICT = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"
"""As a standby says it that had to replay what was being looked at."""

Ask = Callable[[AsyncConnection, str], Awaitable[Any]]


async def by_sqlalchemy(connection: AsyncConnection, sql: str) -> Any:
    return (await connection.execute(text(sql))).all()


@pytest.fixture(params=[by_sqlalchemy, fetch])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[Database]:
    """A pool of one connection to a database in which nobody else sleeps."""
    opened = await Database.open(own_database, size=1)
    yield opened
    await opened.close()


async def assert_as_ever(database: Database, ask: Ask) -> int:
    """Of another workspace nothing is seen, nothing is under way; which backend answers?"""
    principal, _ = await make_workspace(database)
    async with database.read(principal.workspace_id) as connection:
        (row,) = await ask(connection, SEEN)
    assert (row.workspace_id, row.acts_as) == (principal.workspace_id, "sluice_app")
    pid: int = row.pid
    return pid


async def asleep(url: str) -> list[int]:
    """The backends of the database that sleep."""
    connection = await asyncpg.connect(**connect_arguments(url))
    try:
        return [row["pid"] for row in await connection.fetch(ASLEEP)]
    finally:
        await connection.close()


async def test_a_row_bears_its_columns_as_attributes_and_no_others(
    one_place: Database, workspace: UUID, ask: Ask
) -> None:
    async with one_place.read(workspace) as connection:
        (row,) = await ask(connection, "SELECT 1 AS one, 'b' AS two")
    assert tuple(row) == (row.one, row.two) == (1, "b")
    assert not hasattr(row, "three")


@pytest.mark.parametrize("refused", [A_CONFLICT, SLEEP])
async def test_what_the_server_refuses_is_told_and_the_connection_goes_on(
    one_place: Database, workspace: UUID, ask: Ask, refused: str
) -> None:
    before = await assert_as_ever(one_place, ask)
    with pytest.raises(DatabaseUnavailable):
        async with one_place.read(workspace, timeouts=Timeouts(statement=0.05)) as connection:
            await ask(connection, refused)
    assert await assert_as_ever(one_place, ask) == before


async def test_a_text_that_writes_is_our_mistake_and_not_an_absent_server(
    one_place: Database, workspace: UUID
) -> None:
    before = await assert_as_ever(one_place, fetch)
    with pytest.raises(AssertionError, match="a read writes nothing"):
        async with one_place.read(workspace) as connection:
            await fetch(connection, "UPDATE workspace SET name = 'another'")
    assert await assert_as_ever(one_place, fetch) == before


async def test_who_gives_up_in_the_middle_leaves_nothing_behind(
    alone: Database, own_database: str, ask: Ask
) -> None:
    principal, _ = await make_workspace(alone)
    before = await assert_as_ever(alone, ask)

    async def given_up() -> None:
        async with alone.read(principal.workspace_id) as connection:
            await ask(connection, SLEEP)

    task = asyncio.create_task(given_up())
    async with asyncio.timeout(60):
        while not await asleep(own_database):
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while await asleep(own_database):
            pass
    assert await assert_as_ever(alone, ask) != before


@pytest.mark.parametrize("by", ["the one way", "both ways"])
async def test_a_connection_that_the_server_ends_is_told_and_replaced(
    alone: Database, own_database: str, ask: Ask, by: str
) -> None:
    principal, _ = await make_workspace(alone)

    async def ended() -> None:
        async with alone.read(principal.workspace_id) as connection:
            if by == "both ways":
                await by_sqlalchemy(connection, "SELECT 1")
            await ask(connection, SLEEP)

    task = asyncio.create_task(ended())
    async with asyncio.timeout(60):
        while not (pids := await asleep(own_database)):
            pass
        await on_server(own_database, f"SELECT pg_terminate_backend({pids[0]}, 20000)")
        with pytest.raises(DatabaseUnavailable):
            await task
    assert await assert_as_ever(alone, ask) not in pids
