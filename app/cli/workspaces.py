"""Work in one workspace, for the commands that do some."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from app.domain.errors import NotFound, SluiceError
from app.settings import load_settings
from app.storage import access, walls
from app.storage.engine import Database, Role
from app.storage.provision import provided

T = TypeVar("T")


def in_workspace(key: str, work: Callable[[Database, UUID], Awaitable[T]], *, pool: int = 1) -> T:
    """Do the work in the workspace of that key, on the database that the settings name.

    Raises NotFound for the workspace, and what the work raises; `main` puts it into words.
    """

    async def found(database: Database, workspace: UUID | None) -> T:
        assert workspace is not None, "a key was given"
        return await work(database, workspace)

    return within(key, found, pool=pool)


def within(
    key: str | None, work: Callable[[Database, UUID | None], Awaitable[T]], *, pool: int = 1
) -> T:
    """The same; without a key the work is in no workspace, and is given None."""

    async def run(url: str) -> T:
        database = await Database.open(url, size=pool)
        try:
            await walls.check(database)
            return await work(database, None if key is None else await _found(database, key))
        except walls.WallsDown as down:
            raise SluiceError(str(down)) from down
        finally:
            await database.close()

    with provided(load_settings()) as (settings, _):
        assert settings.database_url is not None, "provided says where the database is"
        return asyncio.run(run(settings.database_url))


async def _found(database: Database, key: str) -> UUID:
    async with database.read(None, role=Role.JOBS) as connection:
        workspace = await access.find_workspace(connection, key)
    if workspace is None:
        raise NotFound(f"There is no workspace {key!r}.")
    return workspace
