"""`sluice doctor` and the walls: what is wrong is found and told."""

import asyncio
import os
from urllib.parse import urlsplit

import pytest

from app.storage import walls
from app.storage.engine import Database
from tests.commands import sluice
from tests.conftest import (
    LOGIN_URL,
    OWNER_URL,
    at,
    cloned,
    make_workspace,
    on_server,
    running,
)
from tests.factories import keep_pipeline, open_deal, sales_pipeline


@pytest.fixture
async def installed(own_database: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """A database of its own with one deal: its owner's URL, the workspace's key, the deal's id."""
    owner = at(os.environ[OWNER_URL], urlsplit(own_database).path.removeprefix("/"))
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("DATABASE_OWNER_URL", owner)
    database = await Database.open(own_database, size=1)
    principal, key = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await database.close()
    async with running(own_database) as connect:
        deal = await open_deal(connect(key))
    return owner, principal.workspace_id.hex, deal["id"]


def test_the_doctor_finds_nothing_wrong_where_nothing_is(installed: tuple[str, str, str]) -> None:
    result = sluice("doctor")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("ok     settings", "ok     database", "ok     schema", "ok     walls"),
        f"ok     workspace {installed[1]}",
    ]


async def damage(owner: str, deal_id: str) -> None:
    await on_server(
        owner, f"UPDATE opportunity SET seq = 9, slot = 2 WHERE opportunity_id = '{deal_id}'"
    )


@pytest.fixture
async def damaged(installed: tuple[str, str, str]) -> str:
    owner, _, deal_id = installed
    await damage(owner, deal_id)
    return deal_id


def test_the_doctor_tells_of_a_row_that_differs_and_rebuilds_it_when_asked(damaged: str) -> None:
    ill = sluice("doctor")
    assert ill.exit_code == 1
    assert f"opportunity {damaged}: slot is 2, by the log 1; seq is 9, by the log 1" in ill.stderr
    assert "ok     workspace" not in ill.stdout
    healed = sluice("doctor", "--rebuild")
    assert healed.exit_code == 0, healed.output
    assert f"opportunity {damaged}: rebuilt: slot is 2" in healed.stdout
    assert sluice("doctor").exit_code == 0


@pytest.fixture
async def behind(installed: tuple[str, str, str]) -> None:
    await on_server(installed[0], "UPDATE alembic_version SET version_num = '0001'")


def test_the_doctor_says_when_migrations_are_missing(behind: None) -> None:
    result = sluice("doctor")
    assert result.exit_code == 1
    assert "schema: lacks migrations of this version: run `sluice migrate`" in result.stderr


def test_the_doctor_says_when_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://sluice@/sluice?host=/nowhere&port=1")
    result = sluice("doctor")
    assert result.exit_code == 1
    assert "database: cannot be reached" in result.stderr


async def test_the_walls_hold_on_every_table(database: Database) -> None:
    await walls.check(database)


@pytest.mark.parametrize(
    "opened",
    [
        "ALTER TABLE activity DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE activity OWNER TO sluice_app",
    ],
)
async def test_a_table_without_its_wall_is_named(
    installed: tuple[str, str, str], own_database: str, opened: str
) -> None:
    owner, _, _ = installed
    await on_server(owner, "GRANT CREATE ON SCHEMA public TO sluice_app", opened)
    with pytest.raises(walls.WallsDown, match="not active for sluice_app on activity:"):
        await walls.check_at(own_database)


async def test_a_replica_without_its_walls_is_named_by_the_doctor(
    installed: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cloned() as name:
        url, owner = (at(os.environ[login], name) for login in (LOGIN_URL, OWNER_URL))
        monkeypatch.setenv("DATABASE_READ_URL", url)
        well = await asyncio.to_thread(sluice, "doctor")
        assert well.exit_code == 0, well.output
        assert "ok     walls of the replica: " in well.stdout
        await on_server(owner, "ALTER TABLE activity DISABLE ROW LEVEL SECURITY")
        ill = await asyncio.to_thread(sluice, "doctor")
        assert ill.exit_code == 1
        assert "WRONG  walls of the replica: Row-level security is not active" in ill.stderr
        monkeypatch.setenv("DATABASE_READ_URL", "postgresql://sluice@/sluice?host=/nowhere&port=1")
        assert (
            "walls of the replica: cannot be asked"
            in (await asyncio.to_thread(sluice, "doctor")).stderr
        )


async def test_no_command_does_its_work_without_walls(installed: tuple[str, str, str]) -> None:
    owner, workspace, _ = installed
    listing = ("keys", "list", "--workspace", workspace)
    assert (await asyncio.to_thread(sluice, *listing)).exit_code == 0
    await on_server(owner, "ALTER TABLE activity DISABLE ROW LEVEL SECURITY")
    refused = await asyncio.to_thread(sluice, *listing)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Row-level security is not active for sluice_app on activity")
