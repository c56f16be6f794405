"""What a measurement takes place on: a durable cluster of its own, a workspace, a running service.

The cluster lies in a temporary folder with the service's own settings (`fsync` on) and goes with
the measurement. Servers are processes of their own, ended by their ids.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar
from urllib.request import urlopen
from uuid import UUID

from app.actions.manage_keys import issue_key
from app.domain.access import Scope
from app.domain.api_key import ApiKey
from app.storage import access, migrate, roles
from app.storage.access import NewKey
from app.storage.embedded import EmbeddedPostgres
from app.storage.embedded_cluster import SUPERUSER
from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id

T = TypeVar("T")

READY_WITHIN = 30.0
_SERVES = re.compile(rb"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True, slots=True)
class Stage:
    """A migrated cluster. `url` is the service's login, then the owner's and the superuser's."""

    folder: Path
    url: str
    owner_url: str
    superuser_url: str

    @property
    def data(self) -> Path:
        """The cluster's data folder."""
        return self.folder / "data"

    def run(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do something through the service's own seam."""

        async def opened() -> T:
            database = await Database.open(self.url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(opened())


@contextmanager
def stage() -> Iterator[Stage]:
    """A cluster for one measurement, migrated, and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    folder.chmod(0o755)  # a server that root starts runs under an account of its own
    try:
        with EmbeddedPostgres(folder / "data") as server:
            owner_url = server.url(roles.OWNER)
            asyncio.run(migrate.upgrade(owner_url, "sluice"))
            yield Stage(folder, server.url(), owner_url, server.url(SUPERUSER))
    finally:
        shutil.rmtree(folder)


async def make_workspace(database: Database) -> tuple[UUID, ApiKey]:
    """A workspace and an admin's key for it."""
    workspace = new_id()

    async def work(connection: Connection) -> None:
        await access.add_workspace(connection, workspace, workspace.hex, "Bench")

    await database.write(workspace, work, lock=Lock.NONE)
    new = NewKey(name="bench", subject="bench", scopes=frozenset({Scope.ADMIN}))
    key = await issue_key(database, workspace, new)
    return workspace, key


@dataclass(frozen=True, slots=True)
class Running:
    """A server process and where it answers."""

    url: str
    pid: int


@contextmanager
def service(on: Stage, **settings: str) -> Iterator[Running]:
    """`sluice serve` on the stage's cluster, as users run it."""
    environment = {
        "DATABASE_URL": on.url,
        "DATABASE_OWNER_URL": on.owner_url,
        "SLUICE_PORT": "0",
        "SLUICE_DEMO": "0",
        # Counted as ever and never met: one key stands for all callers here.
        "SLUICE_RATE_LIMIT_KEY": "1000000",
        "SLUICE_RATE_LIMIT_WORKSPACE": "1000000",
        "SLUICE_RATE_LIMIT_COSTLY_KEY": "1000000",
        "SLUICE_RATE_LIMIT_COSTLY_WORKSPACE": "1000000",
        **settings,
    }
    command = [str(Path(sys.executable).with_name("sluice")), "serve"]
    with _process(command, environment, on.folder / "service.log") as running:
        yield running


@contextmanager
def bare_service(on: Stage, workspace: UUID) -> Iterator[Running]:
    """The yardstick of moves, `bench.bare`, on the same cluster."""
    command = [sys.executable, "-m", "bench.bare", on.owner_url, str(workspace)]
    with _process(command, {}, on.folder / "bare.log") as running:
        yield running


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[Running]:
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own modules
            command, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield Running(_address(process, log), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The base URL that the process prints, once it answers there."""
    deadline = monotonic() + READY_WITHIN
    while monotonic() < deadline and process.poll() is None:
        found = _SERVES.search(log.read_bytes())
        if found is not None and _answers(found[0].decode()):
            return found[0].decode()
        sleep(0.01)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()}")


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/livez", timeout=1) as answer:  # noqa: S310 - our own, on loopback
            return bool(answer.status == 200)
    except OSError:
        return False
