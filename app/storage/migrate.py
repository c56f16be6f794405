"""Brings a database to the schema of this version: roles first, then migrations, then the epoch.

Run as the owner of the schema. `upgrade` may be called by any number of services at once; they
take turns, and all but the first find nothing to do.
"""

import secrets
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.storage import roles
from app.storage.engine import connect_arguments

_HERE = Path(__file__).resolve().parent.parent


def configuration() -> Config:
    """Alembic's configuration: `alembic.ini` in a checkout, the shipped migrations in a wheel."""
    checkout = _HERE.parent / "alembic.ini"
    if checkout.exists():
        return Config(checkout)
    shipped = Config()
    shipped.set_main_option("script_location", str(_HERE / "_migrations"))
    shipped.set_main_option("path_separator", "os")
    return shipped


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
    finally:
        await connection.close()
    engine = create_async_engine(
        "postgresql+asyncpg://" + owner_url.split("://", 1)[1], poolclass=pool.NullPool
    )
    async with engine.connect() as upgrading:
        await upgrading.run_sync(_migrate)
    async with engine.begin() as noting:
        await noting.run_sync(_note_installation)
    await engine.dispose()


async def at_head(url: str) -> bool:
    """Whether the database has every migration of this version."""
    engine = create_async_engine(
        "postgresql+asyncpg://" + url.split("://", 1)[1], poolclass=pool.NullPool
    )
    heads = set(ScriptDirectory.from_config(configuration()).get_heads())
    async with engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: MigrationContext.configure(sync).get_current_heads()
        )
    await engine.dispose()
    return set(found) == heads


def _migrate(connection: Connection) -> None:
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
