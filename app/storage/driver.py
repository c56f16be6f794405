"""Past SQLAlchemy, on its own connection: how a read begins and ends, and SQL that is text already.

SQLAlchemy must hear of it where that leaves the connection broken; so it does of a request that is
given up in the middle. `Database.read` is the only one to begin and to end.
"""

from typing import Any, Final, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import DatabaseUnavailable
from app.storage.plainly import CONFLICT

_TOLD: Final = (asyncpg.PostgresError, asyncpg.InterfaceError)
"""After these the connection is as good as before, unless it is closed."""


class Record(asyncpg.Record):
    """A row that bears its columns as attributes, as SQLAlchemy's rows do."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


async def fetch(connection: AsyncConnection, sql: str, *values: object) -> list[Record]:
    """What a statement has to say that is text already, asked within `Database.read`.

    SQLAlchemy would do nothing for it and take as long again as the driver and the server together:
    a question about figures asks several. `$1` stands for the first value.
    """
    raw = await _raw(connection)
    try:
        return cast("list[Record]", await raw.fetch(sql, *values, record_class=Record))
    except asyncpg.SerializationError as failed:
        raise DatabaseUnavailable(CONFLICT) from failed
    except asyncpg.ReadOnlySQLTransactionError as failed:
        raise AssertionError("a read writes nothing") from failed
    except BaseException as failed:
        if raw.is_closed() or not isinstance(failed, _TOLD):
            await connection.invalidate()
        raise


async def begin(connection: AsyncConnection, statements: str) -> None:
    """Begin a transaction with these statements; a connection that died in the pool is replaced."""
    raw = await _raw(connection)
    if raw.is_closed():
        await connection.invalidate()
        raw = await _raw(connection)
    await _execute(connection, raw, statements)


async def roll_back(connection: AsyncConnection) -> None:
    """End the transaction, if it has not ended with its connection."""
    if connection.invalidated:
        return
    raw = await _raw(connection)
    if raw.is_closed():
        await connection.invalidate()
    else:
        await _execute(connection, raw, "ROLLBACK")


async def _raw(connection: AsyncConnection) -> asyncpg.Connection:
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None, "a connection of the pool has one of the driver's"
    return cast("asyncpg.Connection", raw)


async def _execute(connection: AsyncConnection, raw: asyncpg.Connection, statements: str) -> None:
    try:
        await raw.execute(statements)
    except BaseException:
        await connection.invalidate()
        raise
