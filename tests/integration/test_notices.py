"""Notices of commits: who listens is woken, here and elsewhere, whatever was lost on the way."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id
from app.storage.notices import CHANNEL, PATIENCE, PATIENCE_OF_THE_DEAF, Wake
from tests.conftest import on_server

NEVER = 3600.0
"""Seconds of patience with which a listener looks by itself in no test."""


async def nothing(_: Connection) -> None:
    """A transaction that commits."""


async def commit(database: Database, workspace: UUID) -> None:
    await database.write(workspace, nothing, lock=Lock.NONE)


async def heard_of(wake: Wake, workspace: UUID) -> None:
    """Wait until the listener is told of the workspace by name."""
    async with asyncio.timeout(10):
        while True:
            where = await wake.wait(NEVER)
            if where is not None and workspace in where:
                return


async def hearing(database: Database) -> None:
    """Wait until notices of other processes arrive."""
    async with asyncio.timeout(10):
        with database.notices.listening() as wake:
            while database.notices.patience != PATIENCE:
                await wake.wait(NEVER)


@pytest.fixture
async def other(login_url: str) -> AsyncIterator[Database]:
    """Another process' way into the same database."""
    opened = await Database.open(login_url)
    async with opened.notices.sent_and_heard():
        yield opened
    await opened.close()


@pytest.fixture
async def here(login_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(login_url)
    async with opened.notices.sent_and_heard():
        await hearing(opened)
        yield opened
    await opened.close()


async def test_a_commit_of_this_process_is_heard_without_the_database(database: Database) -> None:
    workspace = new_id()
    with database.notices.listening() as wake:
        assert await wake.wait(NEVER) is None  # what was before is not known
        await commit(database, workspace)
        assert await wake.wait(NEVER) == {workspace}


async def test_a_commit_of_another_process_is_heard(here: Database, other: Database) -> None:
    workspace = new_id()
    with here.notices.listening() as wake:
        assert await wake.wait(NEVER) is None
        await commit(other, workspace)
        await heard_of(wake, workspace)


async def test_a_transaction_that_fails_is_not_told_of(database: Database) -> None:
    failed, committed = new_id(), new_id()

    async def fail(_: Connection) -> None:
        raise LookupError

    with database.notices.listening() as wake:
        await wake.wait(NEVER)
        with pytest.raises(LookupError):
            await database.write(failed, fail, lock=Lock.NONE)
        await commit(database, committed)
        assert await wake.wait(NEVER) == {committed}


async def test_many_commits_are_one_notice_and_none_of_their_workspaces_is_left_out(
    here: Database, other: Database
) -> None:
    workspaces = {new_id() for _ in range(50)}
    heard: set[UUID] = set()
    with here.notices.listening() as wake:
        assert await wake.wait(NEVER) is None
        await asyncio.gather(*(commit(other, workspace) for workspace in workspaces))
        async with asyncio.timeout(10):
            while not workspaces <= heard:
                heard |= await wake.wait(NEVER) or set()


async def test_who_is_told_all_the_time_of_one_workspace_still_looks_at_the_others(
    database: Database,
) -> None:
    workspace = new_id()
    with database.notices.listening() as wake:
        assert await wake.wait(0.05) is None
        async with asyncio.timeout(10):
            while True:
                database.notices.tell(workspace)
                where = await wake.wait(0.05)
                if where is None:
                    break
                assert where == {workspace}
                await asyncio.sleep(0)


async def test_a_lost_connection_has_everybody_look_everywhere_and_is_made_anew(
    here: Database, other: Database, login_url: str
) -> None:
    workspace = new_id()
    with here.notices.listening() as wake:
        assert await wake.wait(NEVER) is None
        await on_server(
            login_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = current_database() AND query LIKE '%{CHANNEL}%'"
            " AND pid <> pg_backend_pid()",
        )
        async with asyncio.timeout(10):
            while await wake.wait(NEVER) is not None:
                pass
        assert here.notices.patience == PATIENCE_OF_THE_DEAF
        await hearing(here)
        await hearing(other)
        await commit(other, workspace)
        await heard_of(wake, workspace)


async def test_behind_pgbouncer_a_listener_hears_its_own_process_and_looks_often(
    login_url: str, here: Database
) -> None:
    deaf = await Database.open(f"{login_url}{'&' if '?' in login_url else '?'}pgbouncer=true")
    async with deaf.notices.sent_and_heard():
        with deaf.notices.listening() as wake, here.notices.listening() as elsewhere:
            assert deaf.notices.patience == PATIENCE_OF_THE_DEAF
            workspace = new_id()
            await commit(here, workspace)
            assert await wake.wait() is None  # it was not told: it looks by itself
            assert await wake.wait() is None
            await commit(deaf, workspace)
            assert await wake.wait(NEVER) == {workspace}
            await heard_of(elsewhere, workspace)  # notifying needs no session
    await deaf.close()
