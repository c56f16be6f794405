"""What every test stands on: one real PostgreSQL, a database cloned per worker, a workspace a test.

A template database is made by the migrations once per run and cloned for each worker. Each test
works in a workspace of its own with real commits, which tests the wall between workspaces all the
time; a test that looks across workspaces asks for `own_database`. With DATABASE_URL set, the same
tests run on that server (its login must be allowed to make databases and roles).
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings

from app import logs
from app.actions.manage_keys import issue_key
from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.main import create_app
from app.settings import Settings
from app.storage import access, migrate
from app.storage.access import NewKey
from app.storage.embedded import EmbeddedPostgres
from app.storage.engine import Database, Lock, connect_arguments
from app.storage.ids import new_id
from app.storage.prepared import Prepared

OWNER_URL = "TESTED_OWNER_URL"
LOGIN_URL = "TESTED_LOGIN_URL"
# Two workers have an application each, and some tests one or two of their own beside it.
OPTIONS = {"fsync": "off", "max_connections": "200"}
TEMPLATE = "sluice_template"

_cluster: list[tuple[EmbeddedPostgres, Path]] = []


def at(url: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def on_server(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(url))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def pytest_configure(config: pytest.Config) -> None:
    """Send logs where pytest looks for them; in the steering process bring up the server."""
    logs.configure()
    # How long an example takes tells how busy the machine is. A profile that is asked for by name
    # is loaded after this one.
    settings.register_profile(
        "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("unhurried")
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    # Workers inherit the environment; a setting of the developer's own shell must not steer tests.
    external = os.environ.pop("DATABASE_URL", None)
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        del os.environ[name]
    if external is None:
        # A cluster of a name of its own per run; reachable by the account that a root-owned server
        # drops to.
        folder = Path(tempfile.mkdtemp(prefix="sluice-tests-"))
        folder.chmod(0o755)
        cluster = EmbeddedPostgres(folder / "data", options=OPTIONS)
        cluster.start()
        _cluster.append((cluster, folder))
        owner, login = cluster.url("sluice_owner"), cluster.url("sluice")
    else:
        owner = login = external
    template = f"{TEMPLATE}_{os.getpid()}"
    os.environ.update({OWNER_URL: owner, LOGIN_URL: login, "TESTED_TEMPLATE": template})

    async def make() -> None:
        await on_server(owner, f"CREATE DATABASE {template}")
        name = "sluice" if external is None else None
        await migrate.upgrade(at(owner, template), name)

    asyncio.run(make())


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or OWNER_URL not in os.environ:
        return
    template = os.environ["TESTED_TEMPLATE"]
    asyncio.run(dropped(os.environ[OWNER_URL], template))
    for cluster, folder in _cluster:
        cluster.stop()
        shutil.rmtree(folder)


@asynccontextmanager
async def cloned() -> AsyncIterator[str]:
    """A database of one's own, made from the template; gives its name."""
    name = f"sluice_test_{uuid4().hex[:12]}"
    owner = os.environ[OWNER_URL]
    template = os.environ["TESTED_TEMPLATE"]
    await on_server(owner, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield name
    finally:
        await dropped(owner, name)


async def dropped(owner: str, name: str) -> None:
    """Drop the database; one that autovacuum is at work in, which no owner may end, a bit later."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await on_server(owner, f"DROP DATABASE {name} WITH (FORCE)")
            except asyncpg.InsufficientPrivilegeError:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
async def database_name() -> AsyncIterator[str]:
    """The database of this worker."""
    async with cloned() as name:
        yield name


@pytest.fixture(scope="session")
def login_url(database_name: str) -> str:
    """Where the service logs in."""
    return at(os.environ[LOGIN_URL], database_name)


@pytest.fixture(scope="session")
def owner_url(database_name: str) -> str:
    """Where the owner of the schema logs in."""
    return at(os.environ[OWNER_URL], database_name)


@pytest.fixture(scope="session")
async def database(login_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(login_url)
    yield opened
    await opened.close()


@pytest.fixture
async def one_place(login_url: str) -> AsyncIterator[Database]:
    """Pools of one connection, so that who comes next has the one before's, or a new one."""
    opened = await Database.open(login_url, size=1)
    yield opened
    await opened.close()


@pytest.fixture
async def own_database() -> AsyncIterator[str]:
    """The login's URL of a database that this test shares with nobody."""
    async with cloned() as name:
        yield at(os.environ[LOGIN_URL], name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own are closed to all but their maker."""
    path = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cluster(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, to be stopped and started."""
    server = EmbeddedPostgres(folder / "cluster", options={"fsync": "off"})
    server.start()
    yield server
    server.stop()


async def make_workspace(
    database: Database, *scopes: Scope, subject: str = "tester"
) -> tuple[Principal, ApiKey]:
    """A workspace with one key that has these scopes (all of them where none is named)."""
    workspace = new_id()
    key = ApiKey(os.urandom(8).hex(), os.urandom(24).hex())
    held = frozenset(scopes or (Scope.ADMIN,))
    new = NewKey(name="test", subject=subject, scopes=held)

    async def work(connection: object) -> None:
        await access.add_workspace(connection, workspace, workspace.hex, "Test")
        await access.add_key(connection, workspace, key, new)

    await database.write(workspace, work, lock=Lock.NONE)
    return Principal(workspace, subject, held, key.key_id), key


@pytest.fixture
async def identity(database: Database) -> tuple[Principal, ApiKey]:
    return await make_workspace(database)


@pytest.fixture
def principal(identity: tuple[Principal, ApiKey]) -> Principal:
    """The admin of a workspace that is this test's own."""
    return identity[0]


@pytest.fixture
def workspace(principal: Principal) -> object:
    return principal.workspace_id


@pytest.fixture
async def operating(database: Database) -> dict[str, str]:
    """Headers of who runs the installation, and sees into no workspace."""
    new = NewKey(name="operator", subject="operator", scopes=frozenset())
    return {"Authorization": f"Bearer {await issue_key(database, None, new)}"}


@asynccontextmanager
async def running(
    url: str, prepared: Prepared | None = None, **others: object
) -> AsyncIterator[Callable[[ApiKey | str | None], httpx.AsyncClient]]:
    """The application on a database, in this process; gives a maker of clients.

    `others` are further settings; a client may bear a token instead of a key.
    """
    # Jobs are run by the tests that mean them: one in between would have flagged or folded first.
    # Webhooks are sent by the tests that mean them, too, and stay on this machine.
    app = create_app(
        Settings(
            database_url=url,
            jobs=False,
            webhooks=False,
            webhooks_allow_loopback=True,
            **others,
        ),
        prepared,
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    clients: list[httpx.AsyncClient] = []

    def connect(key: ApiKey | str | None = None) -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        clients.append(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)
        )
        return clients[-1]

    async with app.router.lifespan_context(app):
        yield connect
        for client in clients:
            await client.aclose()


@pytest.fixture(scope="session")
async def service(
    login_url: str,
) -> AsyncIterator[Callable[[ApiKey | None], httpx.AsyncClient]]:
    """The application on this worker's database: `service(key)` gives a client."""
    async with running(login_url) as connect:
        yield connect


@pytest.fixture
def client(
    service: Callable[[ApiKey | None], httpx.AsyncClient], identity: tuple[Principal, ApiKey]
) -> httpx.AsyncClient:
    """A client with the admin key of this test's workspace."""
    return service(identity[1])
