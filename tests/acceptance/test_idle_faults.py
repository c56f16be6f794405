"""What is due is flagged once and at its instant, whatever happens to the services."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.actions.flag_idle import BATCH
from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleRule, Pipeline
from app.storage.engine import Connection, Database
from tests.acceptance.services import COMMAND, Service, until
from tests.conftest import OWNER_URL, at, make_workspace
from tests.factories import keep_pipeline, sales_pipeline
from tests.idle import open_deals

pytestmark = pytest.mark.process

WEEK = timedelta(days=7)
AN_HOUR_OFF = """
import sys, time_machine
from datetime import UTC, datetime, timedelta
time_machine.travel(datetime.now(UTC) + timedelta(hours={hours}), tick=True).start()
from app.cli import main
sys.argv = ["sluice", "serve"]
main()
"""
CLOCK_SET_ON_SIGNAL = """
import signal, sys, time_machine
from datetime import UTC, datetime, timedelta
def set_clock(*_):
    time_machine.travel(datetime.now(UTC) + timedelta(hours={hours}), tick=True).start()
signal.signal(signal.SIGUSR1, set_clock)
from app.cli import main
sys.argv = ["sluice", "serve"]
main()
"""

ON_RECORD = """
SELECT count(*) AS flags, count(DISTINCT f.opportunity_id) AS deals,
       count(*) FILTER (WHERE f.opened_at < f.idle_since) AS early,
       max(f.opened_at - f.idle_since) AS latest,
       bool_and(f.idle_since = f.clock_started_at + interval '7 days') AS as_due,
       (SELECT count(*) FROM event AS e
        WHERE e.workspace_id = $1 AND e.type = 'idle_flag.opened') AS told,
       (SELECT count(DISTINCT e.opportunity_id) FROM event AS e
        WHERE e.workspace_id = $1 AND e.type = 'idle_flag.opened') AS told_of
FROM idle_flag AS f WHERE f.workspace_id = $1
"""


class Scene:
    """A database with a pipeline in which a deal is idle after a week, and services on it."""

    def __init__(
        self, url: str, database: Database, principal: Principal, pipeline: Pipeline
    ) -> None:
        self.url, self.database = url, database
        self.principal, self.pipeline = principal, pipeline
        self._kept = ExitStack()

    async def open(self, count: int, due: datetime) -> None:
        """So many deals, due at that instant."""
        await open_deals(self.database, self.principal, self.pipeline, count, due - WEEK)

    def start(self, folder: Path, script: str | None = None) -> Service:
        """A service, begun by a script of its own if there is one."""
        folder.mkdir()
        owner = at(os.environ[OWNER_URL], urlsplit(self.url).path.removeprefix("/"))
        service = Service(
            folder,
            command=[sys.executable, "-c", script] if script else COMMAND,
            DATABASE_URL=self.url,
            DATABASE_OWNER_URL=owner,
        )
        self._kept.callback(service.end)
        return service

    def end(self) -> None:
        self._kept.close()

    async def found(self) -> Any:
        """What is on record of flags."""
        workspace = self.principal.workspace_id

        async def work(connection: Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(ON_RECORD, workspace)

        return await self.database.write(workspace, work)

    async def wait_for(self, flags: int) -> None:
        """Until so many flags are open."""
        until_then = datetime.now(UTC) + timedelta(seconds=60)
        while (await self.found())["flags"] < flags:
            assert datetime.now(UTC) < until_then, "waited in vain"


@pytest.fixture
async def scene(own_database: str) -> AsyncIterator[Scene]:
    database = await Database.open(own_database, size=2)
    principal, _ = await make_workspace(database)
    rule = IdleRule(after=Period(days=7))
    pipeline = await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=rule))
    found = Scene(own_database, database, principal, pipeline)
    yield found
    found.end()
    await database.close()


def assert_exact(found: Any, deals: int) -> None:
    """One flag and one event a deal, none before its time, each since its time."""
    assert (found["flags"], found["deals"]) == (deals, deals)
    assert (found["told"], found["told_of"]) == (deals, deals)
    assert (found["early"], found["as_due"]) == (0, True)


async def test_a_service_killed_in_the_middle_of_a_scan_leaves_nothing_out_and_nothing_twice(
    scene: Scene, tmp_path: Path
) -> None:
    deals = 12 * BATCH
    one, other = (scene.start(tmp_path / name) for name in ("one", "other"))
    for service in (one, other):
        until(service.answers)
    await scene.open(deals, datetime.now(UTC))
    await scene.wait_for(1)
    one.process.kill()
    one.process.wait(5)
    await scene.wait_for(deals)
    assert other.answers()
    assert_exact(await scene.found(), deals)


async def test_a_service_that_was_away_for_a_day_flags_what_fell_idle_meanwhile(
    scene: Scene, tmp_path: Path
) -> None:
    await scene.open(30, datetime.now(UTC) - timedelta(days=1))
    await scene.open(30, datetime.now(UTC) + timedelta(days=1))
    scene.start(tmp_path / "late")
    await scene.wait_for(30)
    found = await scene.found()
    assert_exact(found, 30)
    assert found["latest"] > timedelta(days=1)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_service_whose_clock_is_an_hour_off_goes_by_the_databases(
    scene: Scene, tmp_path: Path, hours: int
) -> None:
    service = scene.start(tmp_path / "off", AN_HOUR_OFF.format(hours=hours))
    until(service.answers)
    due = datetime.now(UTC) + timedelta(seconds=2)
    await scene.open(20, due)
    await scene.open(20, due + timedelta(minutes=30))
    await scene.wait_for(20)
    found = await scene.found()
    assert_exact(found, 20)
    assert found["latest"] < timedelta(minutes=1)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_service_whose_clock_is_set_while_it_runs_is_no_later_for_it(
    scene: Scene, tmp_path: Path, hours: int
) -> None:
    service = scene.start(tmp_path / "set", CLOCK_SET_ON_SIGNAL.format(hours=hours))
    until(service.answers)
    due = datetime.now(UTC) + timedelta(seconds=2)
    await scene.open(20, due)
    await scene.open(20, due + timedelta(minutes=30))
    service.process.send_signal(signal.SIGUSR1)
    await scene.wait_for(20)
    found = await scene.found()
    assert_exact(found, 20)
    assert found["latest"] < timedelta(seconds=30)
