"""The service's own PostgreSQL: one owner starts it, looks after it and stops it; others attach.

    data folder
      lock        held by the owner and, inherited, by its server: free only when both are gone
      cluster/    PostgreSQL's data, made whole by one rename
      run/        its socket (or `run.link`, to a short folder, where the path would be too long)
      *.conf      who may connect
      postgres.log

There are neither ports nor passwords: who may connect is decided by the kernel, which knows the
account of the process at the other end of the socket. A server chosen by DATABASE_URL is none of
this module's business.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from app.storage import roles
from app.storage.embedded_cluster import (
    DATABASE,
    PORT,
    SETTINGS,
    Installation,
    check_version,
    find_installation,
    make_cluster,
    write_access_rules,
)
from app.storage.embedded_process import Account, Child, EmbeddedError, server_account

__all__ = ["EmbeddedError", "EmbeddedPostgres"]

_READY_WITHIN = 120.0  # seconds; recovery after a crash is part of a start
_RETRY_AFTER = 0.25  # seconds between two attempts to revive it
_LOOK_EVERY = 0.01  # seconds
_LOG_LIMIT = 10_000_000  # bytes, above which the log is put aside at a start

# A socket's path may have 107 bytes on Linux, 103 on macOS.
_SOCKET_PATH_LIMIT = 103
# A comma would read as a list of folders; the rest is what every client parses alike.
_PLAIN_PATH = re.compile(r"[\w/. +@~=-]+")


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What a running server says of itself in `postmaster.pid`."""

    pid: int
    socket_folder: Path
    is_ready: bool

    @classmethod
    def read(cls, cluster: Path) -> "_Postmaster | None":
        """None where there is none, or where the file is still being written."""
        try:
            lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return cls(int(lines[0]), Path(lines[4]), lines[7].strip() == "ready")
        except (FileNotFoundError, IndexError, ValueError):
            return None

    @property
    def answers(self) -> bool:
        """Whether something listens on its socket: the file may be a dead server's."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket_folder / f".s.PGSQL.{PORT}")) == 0


class EmbeddedPostgres:
    """The database server of one data folder, shared by every process that starts it.

    `options` are further settings of the server, by name.
    """

    def __init__(self, data_dir: Path, *, options: Mapping[str, str] | None = None) -> None:
        self._folder = data_dir.expanduser().resolve()
        self._cluster = self._folder / "cluster"
        self._log = self._folder / "postgres.log"
        self._options = dict(options or {})
        self._lock: int | None = None
        self._server: Child | None = None
        self._command: list[str] = []
        self._account: Account | None = None
        self._socket_folder: Path | None = None
        self._next_start = 0.0

    @property
    def is_owner(self) -> bool:
        """Whether this process started the server, and so looks after it."""
        return self._server is not None

    def url(self, user: str = roles.LOGIN, database: str = DATABASE) -> str:
        """Where to connect, for SQLAlchemy; without `+asyncpg` also for asyncpg."""
        if self._socket_folder is None:
            raise RuntimeError("the embedded database has not been started")
        folder = quote(str(self._socket_folder))
        return f"postgresql+asyncpg://{quote(user)}@/{quote(database)}?host={folder}&port={PORT}"

    def start(self) -> None:
        """Own the server, or attach to the owner's; returns once it accepts connections.

        Makes the cluster where there is none. Must be called from the main thread. Raises
        `EmbeddedError`.
        """
        if self._socket_folder is not None:
            return
        try:
            self._open_folder()
            self._own_or_attach()
        except OSError as error:
            self.stop()
            raise EmbeddedError(
                f"The data folder {self._folder} cannot be used: {error}. "
                "Choose another with SLUICE_DATA_DIR."
            ) from error
        except BaseException:
            self.stop()
            raise

    def revive(self) -> bool:
        """Start the server again if it has died; True when this call started it.

        Never waits: clients see lost connections until the server has recovered. To be called
        every now and then, from the main thread. A process that is attached becomes the owner,
        at the same address, once the one before it is gone.
        """
        if self._lock is None or time.monotonic() < self._next_start:
            return False
        if self._server is not None and self._server.is_alive:
            return False
        self._next_start = time.monotonic() + _RETRY_AFTER
        if self._server is None:
            if not self._take_lock():
                return False
            self._prepare()
        # While backends of the dead server hold its shared memory, the new one ends at once and
        # is started again by a later call.
        self._launch()
        return True

    def stop(self) -> None:
        """As the owner, stop the server, within 7 seconds; otherwise let go of it."""
        if self._server is not None:
            # Disconnect everybody and write a checkpoint; failing that, leave it to recovery.
            self._server.end((signal.SIGINT, 4.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 1.0))
            self._server = None
            self._remove_short_folder()
        self._socket_folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _own_or_attach(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while not (self._own() or self._attach()):
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Another process holds {self._folder}, but its database does not answer."
                )
            time.sleep(_LOOK_EVERY)

    def _own(self) -> bool:
        if not self._take_lock():
            return False
        self._prepare()
        self._launch()
        self._await_ready()
        return True

    def _take_lock(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _prepare(self) -> None:
        """Whatever the server needs before it can be launched, a cluster first of all."""
        assert self._lock is not None
        exists = self._cluster.exists()
        account = server_account(self._cluster.stat().st_uid if exists else None)
        installation = find_installation(account)
        if not account.can_reach(self._folder):
            raise EmbeddedError(
                f"The account {account.name}, under which PostgreSQL runs, cannot enter "
                f"{self._folder}: open the folders above it (chmod a+x), or choose another data "
                "folder with SLUICE_DATA_DIR."
            )
        if exists:
            check_version(self._cluster)
            self._forget_dead_server()
        else:
            make_cluster(
                self._cluster,
                account=account,
                installation=installation,
                options=self._options,
                keep_open=[self._lock],
            )
        if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT:
            self._log.replace(self._log.with_suffix(".log.1"))
        self._account = account
        self._socket_folder = self._make_socket_folder(account)
        self._command = self._server_command(installation, account)

    def _attach(self) -> bool:
        running = _Postmaster.read(self._cluster)
        if running is None or not running.is_ready or not running.answers:
            return False
        self._socket_folder = running.socket_folder
        return True

    def _open_folder(self) -> None:
        """Make the data folder where it is missing, and open its lock."""
        # The unprivileged account of a service that runs as root must be able to pass through.
        self._folder.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        # The server inherits it (a child's descriptor shares the lock), nothing else does.
        self._lock = self._open("lock", os.O_RDWR)

    def _open(self, name: str, flags: int) -> int:
        """Open or make a file of the data folder, for whoever the folder belongs to."""
        path = self._folder / name
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:
            owner = self._folder.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    def _forget_dead_server(self) -> None:
        """Remove `postmaster.pid` where its pid belongs to some other process by now.

        A restarted container hands out the same pids again, and PostgreSQL takes any living
        process of its account for the server. We hold the lock, so none of ours is alive; a
        server started by hand works in the cluster's folder, and is left alone.
        """
        dead = _Postmaster.read(self._cluster)
        if dead is None or sys.platform != "linux":
            return
        with contextlib.suppress(OSError):  # no such process: PostgreSQL sees that by itself
            if Path(f"/proc/{dead.pid}/cwd").readlink() != self._cluster:
                (self._cluster / "postmaster.pid").unlink()

    def _server_command(self, installation: Installation, account: Account) -> list[str]:
        settings = {
            **SETTINGS,
            **write_access_rules(self._folder, account),
            "unix_socket_directories": str(self._socket_folder),
            **self._options,
        }
        switches = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        return [installation.program("postgres"), "-D", str(self._cluster), *switches]

    def _launch(self) -> None:
        assert self._lock is not None
        assert self._account is not None
        if self._server is not None:
            self._server.end()
        with os.fdopen(self._open("postgres.log", os.O_WRONLY | os.O_APPEND), "ab") as log:
            self._server = self._child(log, self._account, self._lock)

    def _child(self, log: IO[bytes], account: Account, lock: int) -> Child:
        # SIGQUIT: an orphan leaves at once, and the next start recovers.
        return Child(
            self._command,
            account=account,
            log=log,
            on_orphaned=signal.SIGQUIT,
            keep_open=[lock],
        )

    def _await_ready(self) -> None:
        # One try: whatever could still hold the shared memory would hold the lock as well.
        assert self._server is not None
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            state = _Postmaster.read(self._cluster)
            if state is not None and state.pid == self._server.pid and state.is_ready:
                return
            if not self._server.is_alive or time.monotonic() > deadline:
                said = self._log.read_bytes()[-2_000:].decode(errors="replace")
                raise EmbeddedError(f"PostgreSQL does not start. {self._log} ends with: {said}")
            time.sleep(_LOOK_EVERY)

    def _make_socket_folder(self, account: Account) -> Path:
        """A folder of the server's account that nobody else can enter, with a usable path."""
        folder = self._folder / "run"
        path = str(folder / f".s.PGSQL.{PORT}")
        if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(path):
            folder.mkdir(mode=0o700, exist_ok=True)
        else:
            self._remove_short_folder()
            if self._socket_folder is None:
                folder = Path(tempfile.mkdtemp(prefix="sluice-", dir="/tmp"))
            else:  # clients know the address of the owner before us
                folder = self._socket_folder
                folder.mkdir(mode=0o700)
            self._short_folder_link.symlink_to(folder)
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
        return folder

    @property
    def _short_folder_link(self) -> Path:
        return self._folder / "run.link"

    def _remove_short_folder(self) -> None:
        """Remove the short socket folder that this owner or a killed one before it made."""
        link = self._short_folder_link
        if not link.is_symlink():
            return
        folder = link.readlink()
        with contextlib.suppress(FileNotFoundError):
            # The link outlives a reboot, its folder may not: touch only what is still ours.
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == self._cluster.stat().st_uid:
                shutil.rmtree(folder)
        link.unlink()
