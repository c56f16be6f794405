"""Who waits for events is woken when some were committed: here, or by another process.

A notice says "look", in which workspace, and nothing else: it may be lost, come twice or come for
nothing. What happened is read from the feed, and a listener looks everywhere now and then whatever
it has heard; so notices make followers quick, and nothing depends on them.

A notice is sent *after* its commit, in a transaction of its own and at most once in `PAUSE`: a
NOTIFY inside of the commit would make all commits of the cluster wait for each other (see
docs/decisions/event-stream.md for what that costs). Listeners in the same process hear of it
without the database.

    with database.notices.listening() as wake:
        while True:
            where = await wake.wait()  # workspaces, or None: look everywhere
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

CHANNEL: Final = "sluice_events"
PAUSE: Final = 0.02
"""Seconds between two sendings of one process."""
PATIENCE: Final = 2.0
"""Seconds after which a listener looks everywhere, though it would have heard of what happens."""
PATIENCE_OF_THE_DEAF: Final = 0.1
"""The same where nothing is heard of other processes: behind PgBouncer, or while reconnecting."""
RECONNECT: Final = 1.0

log = structlog.stdlib.get_logger("sluice.notices")

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


class Wake:
    """One listener's ear. Made by `Notices.listening`."""

    def __init__(self, notices: "Notices") -> None:
        self._notices = notices
        self._told = asyncio.Event()
        self._workspaces: set[UUID] = set()
        self._everywhere = True  # what happened before is not known
        self._looked_at = asyncio.get_running_loop().time()
        self._told.set()

    async def wait(self, patience: float | None = None) -> frozenset[UUID] | None:
        """The workspaces in which something was committed since the last call.

        None: look everywhere. So it is at first, after notices may have been lost, and at the
        latest `patience` seconds (else as many as `Notices.patience` says) after the last None.
        """
        latest = self._looked_at + (self._notices.patience if patience is None else patience)
        try:
            async with asyncio.timeout_at(latest):
                await self._told.wait()
        except TimeoutError:
            self._everywhere = True
        self._told.clear()
        where, self._workspaces = frozenset(self._workspaces), set()
        now = asyncio.get_running_loop().time()
        # Who hears all the time of one workspace must not forget to look at the others.
        if not self._everywhere and now < latest:
            return where
        self._everywhere, self._looked_at = False, now
        return None

    def hear(self, workspace: UUID | None) -> None:
        """Something was committed there; None: perhaps anywhere."""
        if workspace is None:
            self._everywhere = True
        else:
            self._workspaces.add(workspace)
        self._told.set()


class Notices:
    """What a process tells and hears of commits; made and told by `storage.engine.Database`.

    Without `sent_and_heard` around it, listeners hear of their own process alone. `hears` False: a
    PgBouncer in transaction mode stands in between, through which one can notify but not listen.
    """

    def __init__(self, connect: Connect, *, hears: bool) -> None:
        self._connect = connect
        self._can_hear = hears
        self._hearing = False
        self._sends = False
        self._untold: set[UUID] = set()
        self._awake = asyncio.Event()
        self._wakes: set[Wake] = set()

    @property
    def patience(self) -> float:
        """Seconds that a listener may rely on notices alone."""
        return PATIENCE if self._hearing else PATIENCE_OF_THE_DEAF

    def tell(self, workspace: UUID) -> None:
        """Something was committed in the workspace: wake who listens here, and soon elsewhere."""
        for wake in self._wakes:
            wake.hear(workspace)
        if self._sends:
            self._untold.add(workspace)
            self._awake.set()

    @contextmanager
    def listening(self) -> Iterator[Wake]:
        """An ear for as long as this lasts."""
        wake = Wake(self)
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)

    @asynccontextmanager
    async def sent_and_heard(self) -> AsyncIterator[None]:
        """Exchange notices with other processes, over one connection, for as long as this lasts."""
        self._sends = True
        exchange = asyncio.create_task(self._exchange())
        try:
            yield
        finally:
            self._sends = self._hearing = False
            exchange.cancel()
            with suppress(asyncio.CancelledError):
                await exchange

    async def _exchange(self) -> None:
        while True:
            # An absent server is told of by whoever has something to ask of it.
            with suppress(
                OSError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ):
                await self._exchange_over(await self._connect())
            if self._hearing:
                self._hearing = False
                log.warning("notices.lost")
                self._look_everywhere()  # so that who waits learns that it hears nothing
            await asyncio.sleep(RECONNECT)

    async def _exchange_over(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Listen, and send what is to be told, until the connection is lost."""
        connection.add_termination_listener(lambda _: self._awake.set())
        try:
            if self._can_hear:
                await connection.add_listener(CHANNEL, self._heard)
                self._hearing = True
                self._look_everywhere()
            while True:
                await self._awake.wait()
                self._awake.clear()
                if connection.is_closed():
                    return
                if self._untold:
                    told, self._untold = self._untold, set()
                    # Nothing bound: behind PgBouncer a statement is best one message. A UUID
                    # object can hold nothing but hexadecimal digits and dashes.
                    await connection.execute(
                        ";".join(f"NOTIFY {CHANNEL}, '{workspace}'" for workspace in told)
                    )
                await asyncio.sleep(PAUSE)
        finally:
            connection.terminate()

    def _heard(self, connection: Any, sender: int, _: str, payload: object) -> None:
        if sender != connection.get_server_pid():  # else it was heard when it was told
            for wake in self._wakes:
                wake.hear(UUID(str(payload)))

    def _look_everywhere(self) -> None:
        for wake in self._wakes:
            wake.hear(None)
