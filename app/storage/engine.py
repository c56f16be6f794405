"""How Sluice talks to PostgreSQL: two ways in, one transaction story.

**Writes** go through `Database.write(workspace, work)` on an asyncpg pool. Actions cannot live
inside a framework's dependency: the whole work must be able to run *again*, because PostgreSQL may
refuse a transaction that did nothing wrong (a serialization failure, a deadlock, a twin that took
the idempotency key first). So the transaction belongs to the action, `work` is a function of the
connection, and every effect outside the database waits until `write` has returned.

**Reads** use SQLAlchemy Core through `Database.read(workspace)`, or `driver.fetch` for SQL that is
text already; they are never retried.

Either way a transaction begins in one round trip with the role and the workspace that row-level
security looks at, and both end with it (`SET LOCAL`): a pooled connection remembers nothing, which
also makes PgBouncer's transaction mode safe. SQLAlchemy would begin lazily, and spend a round trip
on each of those; so its connections are in autocommit, and `read` itself begins and ends.

**The definition lock.** A writer of deals shares an advisory lock of its workspace, a change of a
definition takes it alone: it waits for the moves in flight (milliseconds), and a move that begins
after it reads the new definition. Without it a deal could enter a stage that has just been
archived, or keep a `goes_idle_at` computed from a threshold that is no more. It is taken with
BEGIN, so it costs no round trip.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from hashlib import sha256
from typing import Any, Self, TypeAlias, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.domain.errors import DatabaseUnavailable, RequestInProgress
from app.storage import driver
from app.storage.ids import new_id
from app.storage.line import WAIT, Line
from app.storage.notices import Notices
from app.storage.plainly import told_plainly
from app.storage.prepared import Prepared

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Work: TypeAlias = Callable[["Connection"], Awaitable[T]]

ATTEMPTS = 4
"""A transaction is tried once and retried at most three times."""
POOL_WAIT = WAIT
"""Seconds that a request waits for a free connection before it is told 503."""
LEAST_WAIT = 0.1
"""Of these, what is left at the least to one that has waited in line before."""

REPORT_MEMORY = "32MB"
"""What one sort or hash of a report may take before it goes to disk."""

RETRYABLE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class Lock(Enum):
    """What a write asks of the workspace's definition lock."""

    DEALS = "pg_advisory_xact_lock_shared({key})"
    DEFINITIONS = "pg_advisory_xact_lock({key})"
    NONE = ""


class Role(Enum):
    """As whom a transaction runs; the login itself may do nothing."""

    APP = "sluice_app"
    JOBS = "sluice_jobs"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. What a statement, a lock and a forgotten transaction may take."""

    statement: float = 5
    lock: float = 2
    idle_in_transaction: float = 15

    @property
    def settings(self) -> dict[str, str]:
        """They in PostgreSQL's words, in milliseconds."""
        return {
            "statement_timeout": f"{self.statement * 1000:.0f}",
            "lock_timeout": f"{self.lock * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction * 1000:.0f}",
        }


REQUEST = Timeouts()
JOB = Timeouts(statement=60)


def opening(
    workspace: UUID | None,
    *,
    role: Role = Role.APP,
    lock: Lock = Lock.NONE,
    keys: Collection[str] = (),
    timeouts: Timeouts | None = None,
) -> list[str]:
    """The statements that follow BEGIN in every transaction; without `timeouts`, the session's.

    The workspace is written into the text, not bound: `SET LOCAL` takes no parameters, and a UUID
    object can hold nothing but hexadecimal digits and dashes.
    """
    statements = [f"SET LOCAL ROLE {role.value}"]
    if timeouts is not None:
        statements += [f"SET LOCAL {name} = {value}" for name, value in timeouts.settings.items()]
    if workspace is not None:
        statements.append(f"SET LOCAL app.workspace_id = '{workspace}'")
        # One SELECT for both: each further statement is parsed and planned for itself.
        locks: list[str] = []
        if lock is not Lock.NONE:
            locks.append(lock.value.format(key=_advisory_key(workspace.bytes)))
        # In one order, so that two transactions with the same keys do not wait for each other.
        once = sorted(_advisory_key(workspace.bytes + key.encode()) for key in keys)
        locks += (f"pg_advisory_xact_lock({number})" for number in once)
        if locks:
            statements.append(f"SELECT {', '.join(locks)}")
    return statements


def _advisory_key(material: bytes) -> int:
    """A signed 64-bit number for an advisory lock; two that collide only wait for each other."""
    return int.from_bytes(sha256(material).digest()[:8], "big", signed=True)


def connect_arguments(url: str) -> dict[str, Any]:
    """What asyncpg needs to connect to a SQLAlchemy-style URL, socket folders included."""
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    found = {
        "host": query.pop("host", None) or parts.hostname,
        "port": int(query.pop("port", 0)) or parts.port,
        "user": parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
        "database": unquote(parts.path.lstrip("/")) or None,
        "ssl": query.pop("ssl", None) or query.pop("sslmode", None),
    }
    return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Session:
    """What a connection is given when it is made; `timeouts` None: each transaction sets its own.

    Behind a PgBouncer in transaction mode nothing can be left to the session, neither timeouts nor
    prepared statements.
    """

    timeouts: Timeouts | None
    connect_args: dict[str, Any]
    engine_args: dict[str, Any]

    @classmethod
    def behind(cls, *urls: str) -> Self:
        settings = {"application_name": "sluice", "timezone": "UTC"}
        if any("pgbouncer" in make_url(url).query for url in urls):
            connect_args = {"server_settings": settings, "statement_cache_size": 0}
            engine_args = {
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": lambda: f"s{new_id()}",
            }
            return cls(None, {"timeout": POOL_WAIT, **connect_args}, engine_args)
        connect_args = {"server_settings": settings | REQUEST.settings}
        return cls(REQUEST, {"timeout": POOL_WAIT, **connect_args}, {})

    def engine(self, url: str, size: int) -> AsyncEngine:
        named = make_url("postgresql+asyncpg://" + url.split("://", 1)[1])
        return create_async_engine(
            named.difference_update_query(["pgbouncer"]),
            isolation_level="AUTOCOMMIT",  # a read begins its transaction itself
            pool_size=size,
            max_overflow=0,
            pool_timeout=POOL_WAIT,
            pool_recycle=300,
            pool_use_lifo=True,  # the one used last has its plans at hand, and its memory near
            connect_args=self.connect_args | self.engine_args,
        )


class Database:
    """Both pools of one service. Made by `open`, ended by `close`."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        engine: AsyncEngine,
        reports: AsyncEngine,
        default: Timeouts | None,
        notices: Notices,
        prepared: Prepared | None,
    ) -> None:
        self.notices = notices
        self.lines: dict[UUID, Line[Any, Any]] = {}
        """Where changes of deals wait for each other, by workspace; see `actions.deciding`."""
        self._pool = pool
        self._engine = engine
        self._reports = reports
        self._default = default  # what every session has, and no transaction need set
        self._prepared = prepared

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        read_url: str | None = None,
        size: int = 10,
        prepared: Prepared | None = None,
    ) -> Self:
        """Make the pools. Connections are made when they are first needed, so this never fails.

        `?pgbouncer=true` in a URL says that a PgBouncer in transaction mode stands in between.
        What is not `prepared` is as good as away; None: whoever opens it knows that it is.
        """
        session = _Session.behind(url, read_url or url)
        arguments = session.connect_args | connect_arguments(url)
        pool = await asyncpg.create_pool(
            **arguments,
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=300,
            reset=_nothing_to_reset,
        )
        engine = session.engine(url, size)
        reports = engine if read_url is None else session.engine(read_url, size)
        hears = session.timeouts is not None  # a LISTEN is left to the session too
        notices = Notices(partial(asyncpg.connect, **arguments), hears=hears)
        return cls(pool, engine, reports, session.timeouts, notices, prepared)

    @property
    def in_use(self) -> Mapping[str, int]:
        """How many connections of each pool are in use; without a replica, two of them are one."""
        used = {"writes": self._pool.get_size() - self._pool.get_idle_size()}
        for name, engine in (("reads", self._engine), ("reports", self._reports)):
            used[name] = cast("AsyncAdaptedQueuePool", engine.pool).checkedout()
        return used

    def _check_prepared(self, *, replica: bool = False) -> None:
        prepared = self._prepared
        if prepared is not None and not (prepared.replica if replica else prepared.database):
            raise DatabaseUnavailable("The database is being prepared, or waited for; try again.")

    def _stated(self, timeouts: Timeouts) -> Timeouts | None:
        return None if timeouts == self._default else timeouts

    async def close(self) -> None:
        await self._pool.close()
        await self._engine.dispose()
        if self._reports is not self._engine:
            await self._reports.dispose()

    async def write(
        self,
        workspace: UUID | None,
        work: Work[T],
        *,
        role: Role = Role.APP,
        lock: Lock = Lock.DEALS,
        keys: Collection[str] = (),
        timeouts: Timeouts = REQUEST,
        waited: float = 0,
    ) -> T:
        """Run `work` in a transaction of its own and commit; when this returns, it is durable.

        `keys` are the idempotency keys of the requests: a twin waits for the first one to end
        before it reads anything, and then finds the stored answer; `RequestInProgress` when it
        waited in vain. Raises whatever `work` raises, after a rollback; `DatabaseUnavailable`
        where the server is away, the pool is exhausted or a lock was not to be had in time. Only
        the jobs' role writes without a workspace, and only what its policies show. Who has
        `waited` before waits so many seconds less for a connection.
        """
        self._check_prepared()
        statements = opening(
            workspace, role=role, lock=lock, keys=keys, timeouts=self._stated(timeouts)
        )
        begin = "; ".join(["BEGIN", *statements])
        for attempt in range(ATTEMPTS):
            try:
                with told_plainly():
                    result = await self._attempt(begin, work, keys, POOL_WAIT - waited)
            except RETRYABLE as refused:
                if attempt + 1 == ATTEMPTS:
                    raise DatabaseUnavailable(
                        "Too many requests change the same thing at once; try again."
                    ) from refused
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 -- jitter
            else:
                if workspace is not None:
                    self.notices.tell(workspace)
                return result
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(
        self, begin: str, work: Work[T], keys: Collection[str], patience: float
    ) -> T:
        # Who has not to wait needs no clock.
        timeout = None if self._pool.get_idle_size() else max(patience, LEAST_WAIT)
        async with self._pool.acquire(timeout=timeout) as connection:
            ended = False
            try:
                try:
                    await connection.execute(begin)
                except asyncpg.LockNotAvailableError as waited:
                    if not keys:
                        raise
                    raise RequestInProgress(
                        "The first request with this Idempotency-Key has not ended yet."
                    ) from waited
                result = await work(connection)
                ending = await connection.execute("COMMIT")
                ended = True
                # PostgreSQL answers so where a statement failed and `work` went on regardless.
                assert ending == "COMMIT", "nothing was committed"
                return result
            finally:
                if not ended and not connection.is_closed():
                    await connection.execute("ROLLBACK")

    @asynccontextmanager
    async def read(
        self,
        workspace: UUID | None,
        *,
        role: Role = Role.APP,
        timeouts: Timeouts = REQUEST,
        report: bool = False,
    ) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction, all of whose statements see one snapshot.

        A `report` goes to the replica where there is one: it may lag behind what was just written.

        Without a workspace nothing is visible to the app's role; the jobs' role sees of every
        workspace the little that its policies show.
        """
        engine = self._reports if report else self._engine
        self._check_prepared(replica=engine is not self._engine)
        statements = opening(workspace, role=role, timeouts=self._stated(timeouts))
        if report:
            statements.append(f"SET LOCAL work_mem = '{REPORT_MEMORY}'")
        begin = "; ".join(["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", *statements])
        with told_plainly():
            async with engine.connect() as connection:
                await driver.begin(connection, begin)
                try:
                    yield connection
                finally:
                    await driver.roll_back(connection)


async def _nothing_to_reset(_: object) -> None:
    """asyncpg would spend a round trip on RESET ALL; all that we set is local to a transaction."""
