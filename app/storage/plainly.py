"""What the driver says of an absent or busy server, in the words of the error tree."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.domain.errors import DatabaseUnavailable

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has said goodbye on it while it lay in the pool
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
AWAY = "The database cannot be reached; try again."
CONFLICT = "The replica went on while it was being read; try again."
# In this order: a time-out is an OSError too.
_PLAINLY: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((PoolTimeout, TimeoutError), "No database connection was free in time; try again."),
    (
        (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError),
        "The database took too long to answer; try again.",
    ),
    ((asyncpg.InsufficientResourcesError,), "The database is short of resources; try again."),
    (LOST, AWAY),
)
"""What the driver raises, and what the caller is told of it."""


@contextmanager
def told_plainly() -> Iterator[None]:
    """What the driver says of an absent or busy server, in the words of the error tree."""
    try:
        yield
    except DBAPIError as failed:
        cause = failed.orig and failed.orig.__cause__
        if plain := _unavailable(cause):
            raise plain from failed
        if isinstance(cause, asyncpg.SerializationError):
            # A read has no conflict of its own: a standby had to replay what it was looking at.
            raise DatabaseUnavailable(CONFLICT) from failed
        if failed.connection_invalidated:
            raise DatabaseUnavailable(AWAY) from failed
        raise
    except asyncpg.ReadOnlySQLTransactionError as following:
        # A write that met a standby: another server took over. (A read that writes is our mistake:
        # it comes as SQLAlchemy's error, or as that of `driver.fetch`.)
        raise DatabaseUnavailable(AWAY) from following
    except Exception as failed:
        if plain := _unavailable(failed):
            raise plain from failed
        raise


def is_held_up(unavailable: DatabaseUnavailable) -> bool:
    """Whether it is for a lock that was not to be had in time, and not for the database."""
    return isinstance(unavailable.__cause__, asyncpg.LockNotAvailableError)


def _unavailable(failed: BaseException | None) -> DatabaseUnavailable | None:
    for kinds, detail in _PLAINLY:
        if isinstance(failed, kinds):
            return DatabaseUnavailable(detail)
    return None
