"""What a database needs before it can be served from: roles, schema, a first key, a demo.

A database that is away is waited for while the workers are up already: they ask nothing of it,
answer 503, and `/readyz` says why, until all of this has succeeded. So it is with a replica, on
which only reports wait. Any other failure ends the service. The demo is loaded when the service
answers.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from app.actions.bootstrap import WORKSPACE, bootstrap, chosen_key
from app.actions.load_demo import load_demo
from app.domain.api_key import ApiKey
from app.domain.errors import DatabaseUnavailable
from app.settings import Settings
from app.storage import access, walls
from app.storage.engine import Database, Role, connect_arguments
from app.storage.migrate import upgrade
from app.storage.plainly import told_plainly
from app.storage.prepared import Prepared

_LOOK_FOR_DATABASE = 1.0  # seconds

log = structlog.stdlib.get_logger("sluice.serve")


class Preparation:
    """Prepares in the thread that asks, and what can wait in one of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.prepared = Prepared()
        self.key: ApiKey | None = None
        """The admin key that the very first start made, unless it was given one."""
        self.failure: BaseException | None = None
        """Why the service had to be ended."""

    def begin(self) -> None:
        """Prepare now; where a database is away, go on trying in a thread.

        Raises SettingsError, WallsDown, and what a migration may fail with.
        """
        try:
            asyncio.run(self._prepare())
            asyncio.run(self._check_replica())
        except DatabaseUnavailable:
            what = "replica" if self.prepared.database else "database"
            log.warning("the %s is away; waiting for it", what)
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        if not self.prepared.database:
            if not self._wait(self._prepare):
                return
            log.info("the database is there and prepared")
            if self.key is not None:
                print(f"The admin key, shown this once: {self.key}", flush=True)
        self._fill()
        if not self.prepared.replica and self._wait(self._check_replica):
            log.info("the replica is there and checked")

    def _wait(self, step: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Try until the database is there; False where the step failed, which ends the service."""
        while True:
            try:
                asyncio.run(step())
            except DatabaseUnavailable:
                time.sleep(_LOOK_FOR_DATABASE)
            except Exception as failure:  # noqa: BLE001 - told by `serve`, in the main thread
                self.failure = failure
                os.kill(os.getpid(), signal.SIGTERM)
                return False
            else:
                return True

    async def _prepare(self) -> None:
        url, owner_url = self._settings.database_url, self._settings.owner_url
        assert url is not None
        assert owner_url is not None
        with told_plainly():
            await upgrade(owner_url, connect_arguments(url).get("user"))
        database = await Database.open(url, size=1)
        try:
            await walls.check(database)
            chosen = self._settings.bootstrap_key
            key = None if chosen is None else chosen_key(chosen.get_secret_value())
            made = await bootstrap(database, key)
            self.key = made if key is None else None  # one that was given is no news, but a secret
        finally:
            await database.close()
        self.prepared.tell_of_database()

    async def _check_replica(self) -> None:
        if self._settings.database_read_url is not None:
            try:
                await walls.check_at(self._settings.database_read_url)
            except walls.WallsDown as down:
                raise walls.WallsDown(f"DATABASE_READ_URL: {down}") from down
        self.prepared.tell_of_replica()

    def _fill(self) -> None:
        if not self._settings.demo:
            return
        try:
            asyncio.run(self._load_demo())
        except DatabaseUnavailable:
            log.warning("the database went away: the demo is not loaded")

    async def _load_demo(self) -> None:
        assert self._settings.database_url is not None
        database = await Database.open(self._settings.database_url, size=1)
        try:
            async with database.read(None, role=Role.JOBS) as connection:
                workspace = await access.find_workspace(connection, WORKSPACE)
            assert workspace is not None, "bootstrap made it, or found it made"
            await load_demo(database, workspace)
        finally:
            await database.close()
