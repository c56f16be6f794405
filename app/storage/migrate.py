"""Brings a database to the schema of this version: roles first, then migrations, then the epoch.

Run as the owner of the schema. `upgrade` may be called by any number of services at once; they
take turns, and all but the first find nothing to do. Who finds nothing does not load Alembic: it
would take 7 MB of a service for as long as that runs.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.storage import roles
from app.storage.engine import connect_arguments

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).resolve().parent.parent
_CHECKOUT = _HERE.parent / "alembic.ini"
_SHIPPED = _HERE / "_migrations"


def configuration() -> "Config":
    """Alembic's configuration: `alembic.ini` in a checkout, the shipped migrations in a wheel."""
    from alembic.config import Config  # noqa: PLC0415 - see the module's first lines

    if _CHECKOUT.exists():
        return Config(_CHECKOUT)
    shipped = Config()
    shipped.set_main_option("script_location", str(_SHIPPED))
    shipped.set_main_option("path_separator", "os")
    return shipped


def head() -> str:
    """The last revision of this version: they are numbered, and their files are named by them."""
    scripts = _HERE.parent / "migrations" if _CHECKOUT.exists() else _SHIPPED
    last = max(path.name for path in (scripts / "versions").glob("[0-9]*_*.py"))
    return last.partition("_")[0]


async def upgrade(owner_url: str, login: str | None = None) -> None:
    """Make roles where missing, migrate to head, note the cluster's epoch.

    `login` is the role that the service logs in as, where it is not the owner. Raises asyncpg's
    errors when the owner may not do what is needed; each says which privilege is missing.
    """
    connection = await asyncpg.connect(**connect_arguments(owner_url))
    try:
        owner = await connection.fetchval("SELECT current_user")
        version = connection.get_server_version()
        number = version.major * 10_000 + version.minor
        for statement in roles.statements(number, owner, login or owner):
            await connection.execute(statement)
        is_at_head = await _revision(connection) == head()
    finally:
        await connection.close()
    engine = create_async_engine(
        "postgresql+asyncpg://" + owner_url.split("://", 1)[1], poolclass=pool.NullPool
    )
    if not is_at_head:
        async with engine.connect() as upgrading:
            await upgrading.run_sync(_migrate)
    async with engine.begin() as noting:
        await noting.run_sync(_note_installation)
    await engine.dispose()


async def at_head(url: str) -> bool:
    """Whether the database has every migration of this version."""
    connection = await asyncpg.connect(**connect_arguments(url))
    try:
        return await _revision(connection) == head()
    finally:
        await connection.close()


async def _revision(connection: "asyncpg.Connection[asyncpg.Record]") -> str | None:
    """The last migration that the database has; None: it has none."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see the module's first lines

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _note_installation(connection: Connection) -> None:
    """A secret made once, and a new epoch for every new cluster or timeline.

    Transaction ids order the events of one history of one cluster. After a restore elsewhere, or a
    return to an earlier point in time, they start over: events from then on bear the next epoch.
    """
    connection.execute(
        text("INSERT INTO installation VALUES ('secret', :secret) ON CONFLICT DO NOTHING"),
        {"secret": secrets.token_bytes(32)},
    )
    connection.execute(
        text(
            """
            INSERT INTO epoch (epoch, cluster, started_at)
            SELECT coalesce((SELECT max(epoch) FROM epoch), 0) + 1,
                   system_identifier || '/' || timeline_id, clock_timestamp()
            FROM pg_control_system(), pg_control_checkpoint()
            ON CONFLICT (cluster) DO NOTHING
            """
        )
    )
