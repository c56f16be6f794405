"""Both ways in which a read may ask, by SQLAlchemy and past it: what a caller hears, what stays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import DatabaseUnavailable
from app.storage.engine import Database, Timeouts, fetch
from tests.conftest import make_workspace, on_server

SEEN = "SELECT workspace_id, current_user AS acts_as FROM workspace"
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
async def workspace(database: Database) -> UUID:
    principal, _ = await make_workspace(database)
    return principal.workspace_id


@pytest.fixture
async def one_place(login_url: str) -> AsyncIterator[Database]:
    """Pools of one connection, so that the next read has the one before's, or a new one."""
    opened = await Database.open(login_url, size=1)
    yield opened
    await opened.close()


async def assert_as_ever(database: Database, workspace: UUID, ask: Ask) -> None:
    async with database.read(workspace) as connection:
        (row,) = await ask(connection, SEEN)
    assert (row.workspace_id, row.acts_as) == (workspace, "sluice_app")


async def test_a_row_bears_its_columns_as_attributes_and_no_others(
    one_place: Database, workspace: UUID, ask: Ask
) -> None:
    await assert_as_ever(one_place, workspace, ask)
    async with one_place.read(workspace) as connection:
        (row,) = await ask(connection, "SELECT 1 AS one, 'b' AS two")
        assert tuple(row) == (row.one, row.two) == (1, "b")
        assert not hasattr(row, "three")


@pytest.mark.parametrize("refused", [A_CONFLICT, "SELECT pg_sleep(10)"])
async def test_what_the_server_refuses_is_told_and_the_next_read_is_as_ever(
    one_place: Database, workspace: UUID, ask: Ask, refused: str
) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with one_place.read(workspace, timeouts=Timeouts(statement=0.05)) as connection:
            await ask(connection, refused)
    await assert_as_ever(one_place, workspace, ask)


async def test_who_gives_up_in_the_middle_leaves_nothing_behind(
    one_place: Database, workspace: UUID, ask: Ask
) -> None:
    asking = asyncio.Event()

    async def given_up() -> None:
        async with one_place.read(workspace) as connection:
            asking.set()
            await ask(connection, "SELECT pg_sleep(4)")

    task = asyncio.create_task(given_up())
    await asking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_as_ever(one_place, workspace, ask)


async def test_a_connection_that_the_server_ends_is_replaced(
    one_place: Database, workspace: UUID, ask: Ask, login_url: str
) -> None:
    async def ended() -> None:
        async with one_place.read(workspace) as connection:
            (row,) = await ask(connection, "SELECT pg_backend_pid() AS pid")
            # Waits until it is gone.
            await on_server(login_url, f"SELECT pg_terminate_backend({row.pid}, 20000)")
            await ask(connection, SEEN)

    with pytest.raises(DatabaseUnavailable):
        await ended()
    await assert_as_ever(one_place, workspace, ask)
