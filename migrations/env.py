"""Runs migrations: one at a time over all services (an advisory lock), a transaction each.

No migration waits long for a lock (`lock_timeout`): a queue behind one that does would stop the
service, and a migration that fails at once can be run again.
"""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine

from app.storage.tables import TransactionId, metadata

ischema_names["xid8"] = TransactionId  # so that `alembic check` can read what it compares

ADVISORY_LOCK = 5_134_219_001
"""Any number that nothing else takes; workspaces' locks are spread over the other 2^64."""


def migrate(connection: Connection) -> None:
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})"))
        connection.commit()


async def connect(url: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://" + url.split("://", 1)[1], poolclass=pool.NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    where = context.config.get_main_option("sqlalchemy.url")
    where = where or os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not where:
        raise SystemExit("Set DATABASE_OWNER_URL (or DATABASE_URL) to the database to migrate.")
    asyncio.run(connect(where))
