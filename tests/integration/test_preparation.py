"""A service whose database comes late: nothing is asked of it before its walls are checked."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.domain.errors import DatabaseUnavailable
from app.preparation import Preparation
from app.settings import Settings
from app.storage import migrate, walls
from app.storage.embedded import EmbeddedPostgres
from app.storage.engine import Database, Role, connect_arguments
from app.storage.prepared import Prepared
from tests.acceptance.services import Service, until
from tests.conftest import LOGIN_URL, OWNER_URL, at, cloned, make_workspace, on_server, running
from tests.factories import keep_pipeline, sales_pipeline

OPENED = "ALTER TABLE activity DISABLE ROW LEVEL SECURITY"
FUNNEL = "/v1/pipelines/sales/metrics/funnel"


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(**settings: str) -> Service:
        services.append(Service(folder, **settings))
        return services[-1]

    yield start
    for service in services:
        service.end()


@pytest.fixture
async def known(cluster: EmbeddedPostgres) -> ApiKey:
    """A key that the server knows from an earlier run."""
    await migrate.upgrade(cluster.url("sluice_owner"), "sluice")
    database = await Database.open(cluster.url(), size=1)
    _, key = await make_workspace(database)
    await database.close()
    return key


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port: int = nobody.getsockname()[1]
    return port


def later(port: int) -> dict[str, str]:
    """The settings of a service whose server will be found at this port."""
    return {
        "DATABASE_URL": f"postgresql://sluice@127.0.0.1:{port}/sluice",
        "DATABASE_OWNER_URL": f"postgresql://sluice_owner@127.0.0.1:{port}/sluice",
    }


@asynccontextmanager
async def reached_at(port: int, cluster: EmbeddedPostgres) -> AsyncIterator[None]:
    """Whoever connects to the port is connected to the server."""
    place = connect_arguments(cluster.url())
    path = f"{place['host']}/.s.PGSQL.{place['port']}"
    busy: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(path)
        for each in (pass_on(reader, back), pass_on(there, writer)):
            task = asyncio.ensure_future(each)
            busy.add(task)
            task.add_done_callback(busy.discard)

    server = await asyncio.start_server(connect, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in list(busy):
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def answers(service: Service, key: ApiKey) -> AsyncIterator[int]:
    """The statuses of one question asked again and again, until the service has ended."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=10) as client:
        while service.process.poll() is None:
            try:
                yield (await client.get("/v1/pipelines")).status_code
                yield (await client.get("/readyz")).status_code
            except httpx.TransportError:
                continue


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_database_that_comes_late_is_served_from_once_it_is_prepared(
    cluster: EmbeddedPostgres, known: ApiKey, start: Callable[..., Service], workers: str
) -> None:
    port = closed_port()
    service = await asyncio.to_thread(start, **later(port), SLUICE_WORKERS=workers)
    asked = answers(service, known)
    assert {await anext(asked) for _ in range(20)} == {503}
    async with reached_at(port, cluster), asyncio.timeout(60):
        # Each worker answers some of so many, and none says 200 and then 503 again.
        while [await anext(asked) for _ in range(20)] != [200] * 20:
            pass
        service.process.terminate()
        assert await asyncio.to_thread(service.process.wait, 20) == 0
        await asked.aclose()


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_database_that_comes_late_and_without_walls_answers_nobody(
    cluster: EmbeddedPostgres,
    known: ApiKey,
    start: Callable[..., Service],
    folder: Path,
    workers: str,
) -> None:
    await on_server(cluster.url("postgres"), "ALTER ROLE sluice_app BYPASSRLS")
    port = closed_port()
    service = await asyncio.to_thread(start, **later(port), SLUICE_WORKERS=workers)
    asked = answers(service, known)
    assert await anext(asked) == 503
    async with reached_at(port, cluster), asyncio.timeout(60):
        assert {status async for status in asked} == {503}
    assert service.process.wait(20) == 1
    assert "Row-level security is not active for sluice_app" in (folder / "stderr.log").read_text()


async def test_an_unprepared_database_is_as_good_as_away(
    own_database: str, identity: tuple[Principal, ApiKey]
) -> None:
    prepared = Prepared()
    opened = await Database.open(own_database, size=1, prepared=prepared)
    for role in Role:
        with pytest.raises(DatabaseUnavailable, match="is being prepared"):
            await opened.write(None, lambda connection: connection.execute("SELECT 1"), role=role)
        with pytest.raises(DatabaseUnavailable, match="is being prepared"):
            async with opened.read(None, role=role, report=True):
                pass
    assert set(opened.in_use.values()) == {0}
    prepared.tell_of_database()
    await walls.check(opened)
    await opened.close()


@pytest.fixture
async def replica() -> AsyncIterator[str]:
    """Another database, which stands in for a replica that is not one of ours."""
    async with cloned() as name:
        yield at(os.environ[LOGIN_URL], name)


def owner_of(url: str) -> str:
    return at(os.environ[OWNER_URL], urlsplit(url).path.removeprefix("/"))


async def test_while_the_replica_is_away_only_reports_wait(own_database: str) -> None:
    prepared = Prepared()
    prepared.tell_of_database()
    database = await Database.open(own_database, size=1)
    principal, key = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await database.close()
    async with running(own_database, prepared, database_read_url=own_database) as connect:
        client = connect(key)
        assert (await client.get("/v1/pipelines/sales")).status_code == 200
        refused = await client.get(FUNNEL)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        prepared.tell_of_replica()
        assert (await client.get(FUNNEL)).status_code == 200


def test_a_database_with_its_replica_is_prepared(own_database: str, replica: str) -> None:
    preparation = Preparation(
        Settings(
            database_url=own_database,
            database_owner_url=owner_of(own_database),
            database_read_url=replica,
            demo=False,
        )
    )
    preparation.begin()
    assert preparation.prepared.database
    assert preparation.prepared.replica
    assert preparation.key is not None


@pytest.fixture
async def open_replica(replica: str) -> str:
    await on_server(owner_of(replica), OPENED)
    return replica


def test_a_replica_without_its_walls_is_not_served_from(
    own_database: str, open_replica: str
) -> None:
    preparation = Preparation(
        Settings(
            database_url=own_database,
            database_owner_url=owner_of(own_database),
            database_read_url=open_replica,
            demo=False,
        )
    )
    with pytest.raises(walls.WallsDown, match=r"^DATABASE_READ_URL: .* for sluice_app on activity"):
        preparation.begin()
    assert not preparation.prepared.replica


def test_a_replica_that_is_away_is_no_reason_to_wait_with_the_rest(
    cluster: EmbeddedPostgres,
) -> None:
    port = closed_port()
    preparation = Preparation(
        Settings(
            database_url=cluster.url(),
            database_owner_url=cluster.url("sluice_owner"),
            database_read_url=later(port)["DATABASE_URL"],
            demo=False,
        )
    )
    preparation.begin()
    assert preparation.prepared.database
    assert not preparation.prepared.replica

    async def come() -> None:
        async with reached_at(port, cluster):
            await asyncio.to_thread(until, lambda: preparation.prepared.replica)

    asyncio.run(come())
    assert preparation.failure is None
