"""Metrics that the database takes too long over: a 503 that says so, and nothing left running.

Nothing is mocked: a lock that another connection holds makes a query wait, and a policy that sleeps
over every deal makes it slow. Both need a database of the test's own.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from app.domain.api_key import ApiKey
from app.storage.engine import REQUEST, Database, connect_arguments
from tests.conftest import OWNER_URL, at, make_workspace, on_server, running
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.feed import events_so_far

METRICS = "/v1/pipelines/sales/metrics"
SEVERAL = (  # fewer than a service has connections, so that none of them waits for one
    f"{METRICS}/funnel",
    f"{METRICS}/funnel/deals?cell=deals",
    f"{METRICS}/time-in-stage/curve?stage=lead",
    f"{METRICS}/snapshot",
    f"{METRICS}/velocity",
    f"{METRICS}/trend?figure=opened&from=2024-01-01&by=quarter",
    f"{METRICS}/cumulative-flow?from=2024-01-01&by=quarter",
)
ENDLESS = (  # for requests alone: jobs look at deals in a role of their own
    "CREATE POLICY endless ON opportunity AS RESTRICTIVE TO sluice_app"
    " USING (pg_sleep(600) IS NOT NULL)"
)

Clients = Callable[[ApiKey | None], httpx.AsyncClient]


@pytest.fixture
async def client(own_database: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service on a database of the test's own, where one deal is open."""
    database = await Database.open(own_database, size=1)
    principal, key = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await database.close()
    async with running(own_database) as connect:
        client = connect(key)
        await open_deal(client)
        yield client


def owned(url: str) -> str:
    """The database of this URL, as the owner of its tables reaches it."""
    return at(os.environ[OWNER_URL], urlsplit(url).path.removeprefix("/"))


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Callable[[], Awaitable[list[str | None]]]]:
    """A look at what the service's connections to this database wait for, of those not idle."""
    connection = await asyncpg.connect(**connect_arguments(url))

    async def look() -> list[str | None]:
        rows = await connection.fetch(
            "SELECT wait_event FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'sluice' AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        return [row["wait_event"] for row in rows]

    try:
        yield look
    finally:
        await connection.close()


async def under_way(url: str) -> list[str | None]:
    """What they wait for now."""
    async with looking(url) as look:
        return await look()


async def until(url: str, expected: list[str | None], *, seconds: float) -> None:
    """Wait until that is what they wait for."""
    async with asyncio.timeout(seconds), looking(url) as look:
        while await look() != expected:
            pass


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Nobody else reads deals meanwhile."""
    connection = await asyncpg.connect(**connect_arguments(owned(url)))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE opportunity IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


def check_told(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "database_unavailable"
    assert answer.json()["detail"] == "The database took too long to answer; try again."
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_metric_that_waits_for_a_lock_is_told_within_two_seconds(
    client: httpx.AsyncClient, own_database: str
) -> None:
    async with locked(own_database):
        began = time.monotonic()
        answers = await asyncio.gather(*(client.get(path) for path in SEVERAL))
        assert REQUEST.lock <= time.monotonic() - began < REQUEST.statement
        for answer in answers:
            check_told(answer)
        assert await under_way(own_database) == []
    for path in SEVERAL:
        assert (await client.get(path)).status_code == 200


async def test_a_metric_that_takes_too_long_is_told_and_ended_in_the_database(
    client: httpx.AsyncClient, own_database: str
) -> None:
    assert [(await client.get(path)).status_code for path in SEVERAL] == [200] * len(SEVERAL)
    await on_server(owned(own_database), ENDLESS)
    began = time.monotonic()
    answers = await asyncio.gather(*(client.get(path) for path in SEVERAL))
    assert REQUEST.statement <= time.monotonic() - began < 2 * REQUEST.statement
    for answer in answers:
        check_told(answer)
    assert await under_way(own_database) == []
    await on_server(owned(own_database), "DROP POLICY endless ON opportunity")
    for path in SEVERAL:
        assert (await client.get(path)).status_code == 200


async def test_an_unchanged_answer_is_told_though_deals_cannot_be_read(
    client: httpx.AsyncClient, database: Database, own_database: str
) -> None:
    past = f"{METRICS}/funnel?as_of={datetime.now(UTC):%Y-%m-%dT%H:%M:00Z}"
    await events_so_far(database, client)  # else the ETag is of this very moment
    held = {"If-None-Match": (await client.get(past)).headers["ETag"]}
    async with locked(own_database):
        assert (await client.get(past, headers=held)).status_code == 304


async def test_a_metric_that_is_given_up_leaves_nothing_running(
    client: httpx.AsyncClient, own_database: str
) -> None:
    await on_server(owned(own_database), ENDLESS)
    asking = [asyncio.create_task(client.get(path)) for path in SEVERAL]
    await until(own_database, ["PgSleep"] * len(SEVERAL), seconds=REQUEST.statement)
    for task in asking:
        task.cancel()
    given_up = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in given_up)
    # Sooner than their time-out would have ended them.
    await until(own_database, [], seconds=REQUEST.statement / 2)
    await on_server(owned(own_database), "DROP POLICY endless ON opportunity")
    assert (await client.get(SEVERAL[0])).status_code == 200
