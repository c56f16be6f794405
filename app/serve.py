"""`sluice serve`: the processes of one service, brought up in order and down in reverse.

The port is taken first (a taken one is told at once), then the database, its preparation, and last
the workers. While the database comes up, a thread reads the modules of everything after it: they
take longer than a whole initdb, so this module itself imports little. One worker runs in this
process, several in their own under uvicorn's supervisor. Either way this process looks after the
database, from its main thread: the kernel ends a child when the thread that forked it ends. Nothing
outlives it, however it ends.

What the application does with a request is not known here.
"""

import asyncio
import ctypes
import gc
import logging.config
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import parent_process
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app import logs
from app.domain.api_key import ApiKey
from app.settings import Settings
from app.storage.embedded import EmbeddedError, EmbeddedPostgres
from app.storage.embedded_process import die_with_parent
from app.storage.prepared import Prepared
from app.storage.provision import provided

if TYPE_CHECKING:
    from fastapi import FastAPI

# Seconds, of the 20 in which a service must be gone: first requests finish, then everything else
# in the workers ends; the database may take 7 more.
_DRAIN = 9
_WORKERS_GONE = 12
# Seconds a worker may be silent, its imports included, before it is replaced. While it is waited
# for, the database is not looked after: so not much more than the imports of a busy machine.
_WORKER_ANSWERS = 10

GARBAGE = 5_000
"""So many objects are made before the youngest are looked through; Python's own number is 700."""

_M_ARENA_MAX = -8  # of malloc.h

log = structlog.stdlib.get_logger("sluice.serve")


class ServiceError(Exception):
    """The service cannot start or go on; the message says why."""


def serve(settings: Settings, announce: Callable[[str, ApiKey | None], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, which raise `SystemExit(0)` here once all is down.

    `announce` is called when the workers are about to start, with the base URL and, on the very
    first start, with the admin key that was made. Raises
    `ServiceError` and `EmbeddedError`; `SystemExit` with another status where a worker cannot
    start.
    """
    logging.config.dictConfig(logs.log_config(settings.log_level))
    logs.configure()
    _share_memory()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, _leave)
    reading = threading.Thread(target=_read_modules)
    reading.start()
    with _listen(settings) as listener, provided(settings) as (resolved, database):
        try:
            reading.join()
            from app.preparation import Preparation  # noqa: PLC0415 - see the module's first lines
            from app.storage.walls import WallsDown  # noqa: PLC0415

            preparation = Preparation(resolved)
            try:
                preparation.begin()
            except WallsDown as down:
                raise ServiceError(str(down)) from down
            announce(_address(listener), preparation.key)
            try:
                _run_workers(resolved, listener, database, preparation.prepared)
            except SystemExit:  # of the signal that ended a single worker
                if preparation.failure is None:
                    raise
            if preparation.failure is not None:
                raise ServiceError(
                    f"The database could not be prepared: {preparation.failure}"
                ) from preparation.failure
        finally:
            # From here on nothing but the database is left, and a second Ctrl-C would only
            # leave it to recovery.
            for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                signal.signal(sign, signal.SIG_IGN)


def _read_modules() -> None:
    import app.main  # noqa: PLC0415 - see the module's first lines
    import app.preparation  # noqa: F401, PLC0415


def _leave(sign: int, _: FrameType | None) -> NoReturn:
    sys.exit(1 if sign == signal.SIGALRM else 0)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ServiceError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}. "
            "Choose another with SLUICE_HOST and SLUICE_PORT."
        ) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run_workers(
    settings: Settings,
    listener: socket.socket,
    database: EmbeddedPostgres | None,
    prepared: Prepared,
) -> None:
    config = uvicorn.Config(
        partial(_application, settings, os.getpid(), prepared),
        factory=True,
        loop="uvloop",
        http="app.http.connection:Connection",
        ws="none",
        lifespan="on",
        log_config=logs.log_config(settings.log_level),
        access_log=False,  # the application logs its requests, with who asked
        server_header=False,
        workers=settings.workers,
        timeout_graceful_shutdown=_DRAIN,
        timeout_worker_healthcheck=_WORKER_ANSWERS,
    )
    if settings.workers == 1:
        _Worker(config, database).run([listener])
    else:
        _Workers(config, [listener], database).run()


def _application(settings: Settings, supervisor: int, prepared: Prepared) -> "FastAPI":
    """The application of one worker, which ends with its supervisor."""
    from app.main import create_app  # noqa: PLC0415 - see the module's first lines

    logs.configure()
    if os.getpid() != supervisor:
        _share_memory()
        die_with_parent(supervisor, signal.SIGKILL)
        if sys.platform != "linux":
            threading.Thread(target=_end_with_parent, daemon=True).start()
    application = create_app(settings, prepared)
    _leave_in_time(application)
    _collect_seldom()
    return application


def _leave_in_time(application: "FastAPI") -> None:
    """Tell the application of the signal to leave when it comes.

    uvicorn tells it when every answer has been sent, and some go on for as long as they may. The
    server's own handlers are in place by now: it makes the application after them.
    """
    from app.main import leave  # noqa: PLC0415 - see the module's first lines

    loop = asyncio.get_running_loop()

    def told(handler: "signal._HANDLER", sign: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(leave, application)
        if callable(handler):
            handler(sign, frame)

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, partial(told, signal.getsignal(sign)))


def _collect_seldom() -> None:
    """Look through all objects less often: a large answer makes tens of thousands at once.

    What the start has made stays for good, and need not be looked through at all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


def _share_memory() -> None:
    """Let all threads take memory from one place, from the first thread on.

    glibc would give each its own, and each would keep the most that it ever had.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # there is none elsewhere
        mallopt(_M_ARENA_MAX, 1)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _look_after(database: EmbeddedPostgres | None) -> None:
    if database is None:
        return
    try:
        if database.revive():
            log.warning("the database server had died and was started again")
    except (EmbeddedError, OSError):
        log.exception("the database server cannot be started")


class _Worker(uvicorn.Server):
    """The only worker, in this process, with the database in its care."""

    def __init__(self, config: uvicorn.Config, database: EmbeddedPostgres | None) -> None:
        super().__init__(config)
        self._database = database

    async def on_tick(self, counter: int) -> bool:
        _look_after(self._database)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        signal.alarm(_WORKERS_GONE)  # whatever hangs: `_leave` breaks it off
        await super().shutdown(sockets)


class _Workers(Multiprocess):
    """Several workers, each in a process of its own, with the database in this one's care."""

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        database: EmbeddedPostgres | None,
    ) -> None:
        super().__init__(config, sockets)
        self._database = database
        self._asked_to_leave = False

    def handle_int(self) -> None:
        self._asked_to_leave = True
        super().handle_int()

    def handle_term(self) -> None:
        self._asked_to_leave = True
        super().handle_term()

    def keep_subprocess_alive(self) -> None:
        _look_after(self._database)
        for worker in self.processes:
            # The worker has its own by now; with ours open, its death would not end a wait for it.
            worker.child_conn.close()
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        for listener in self.sockets:  # else new callers would wait here, for nobody
            listener.close()
        super().terminate_all()

    def join_all(self) -> None:
        deadline = time.monotonic() + _WORKERS_GONE
        for worker in self.processes:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.exitcode is None:
                worker.kill()
                worker.join()

    def run(self) -> None:
        super().run()
        # A worker that was told to leave while it started bears the mark of one that could not.
        if self._asked_to_leave or self.signal_queue:
            return
        if any(worker.exitcode == STARTUP_FAILURE for worker in self.processes):
            sys.exit(STARTUP_FAILURE)
