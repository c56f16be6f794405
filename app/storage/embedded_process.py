"""Child processes that end when this one does, and the account they run under.

A server that outlives a killed service keeps its data folder, its memory and its socket. So every
child started here is told by the kernel when its parent dies (Linux), or watched by a shell that
waits on a pipe from the parent (elsewhere). PostgreSQL refuses to run as the superuser, so a
service that runs as root starts its database under an unprivileged account.

What the children do is not known here.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# `sluice` and `postgres` are accounts made for this; `nobody` exists everywhere.
UNPRIVILEGED = ("sluice", "postgres", "nobody")

_ON_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec a child should do as little as it can.
_libc = ctypes.CDLL(None, use_errno=True) if _ON_LINUX else None


class EmbeddedError(Exception):
    """The embedded database cannot run; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """Whether this process already runs under it."""
        return self.uid == os.geteuid()

    def can_reach(self, path: Path) -> bool:
        """Whether it can enter this folder, or run this file, through every folder above it."""
        if self.is_ours:
            return os.access(path, os.X_OK)
        # Asked of the kernel rather than worked out: groups and access lists count as well.
        question = ["/bin/sh", "-c", 'test -x "$0"', str(path)]
        return run(question, account=self).returncode == 0


def current_account() -> Account:
    """The account of this process; `EmbeddedError` where it has no name."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL cannot run under the user id {uid}, which has no name on this machine. "
            "Add it to /etc/passwd, or set DATABASE_URL to use a server of your own."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def server_account(owner_uid: int | None) -> Account:
    """The account a server runs under: this one, or as root that of its data, else a spare one.

    `owner_uid` is who owns the data that exist already, None before there are any.
    """
    if os.geteuid() != 0:
        return current_account()
    if owner_uid:
        try:
            entry = pwd.getpwuid(owner_uid)
        except KeyError:
            raise EmbeddedError(
                f"The database's files belong to the user id {owner_uid}, which has no name on "
                "this machine: give them to an account that exists."
            ) from None
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(UNPRIVILEGED)}. Make one, or run Sluice as an ordinary user."
    )


def die_with_parent(parent: int, sign: signal.Signals) -> None:
    """Ask the kernel to send `sign` to this process when the thread that forked it ends.

    `parent` is the pid that the parent had: one that is gone already can send no more. Changing
    the account clears the request, so this comes after it. Does nothing but on Linux.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), sign)


def _at_birth(sign: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()
    return lambda: die_with_parent(parent, sign)


def run(
    command: Sequence[str],
    *,
    account: Account,
    stdin: str = "",
    keep_open: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end under an account; its output is in the result, and so is failure."""
    as_other = not account.is_ours
    return subprocess.run(  # noqa: S603 - the commands are this package's own
        command,
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        cwd="/",
        env=_environment(),
        umask=0o077,
        pass_fds=keep_open,
        user=account.uid if as_other else None,
        group=account.gid if as_other else None,
        extra_groups=[] if as_other else None,
        preexec_fn=_at_birth(signal.SIGKILL),
    )


class Child:
    """A process that ends when this one does: with `on_orphaned` where it can be told."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        account: Account,
        log: IO[bytes],
        on_orphaned: signal.Signals,
        keep_open: Sequence[int] = (),
    ) -> None:
        """Start it, in a process group of its own: a Ctrl-C in the terminal is not for it."""
        if threading.current_thread() is not threading.main_thread():
            # The kernel tells of the death of the *thread* that forked.
            raise RuntimeError("a child must be started from the main thread")
        as_other = not account.is_ours
        self._process = subprocess.Popen(  # noqa: S603 - the commands are this package's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(),
            umask=0o077,
            pass_fds=keep_open,
            user=account.uid if as_other else None,
            group=account.gid if as_other else None,
            extra_groups=[] if as_other else None,
            process_group=0,
            preexec_fn=_at_birth(on_orphaned),  # noqa: PLW1509 - one C call, loaded beforehand
        )
        self._watchdog = None if _ON_LINUX else Watchdog(self.pid, on_orphaned)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send each signal in turn, and wait its seconds, until the process is gone."""
        for sign, seconds in steps:
            self._process.send_signal(sign)
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        if self._watchdog is not None:
            self._watchdog.dismiss()


class Watchdog:
    """A shell that sends a signal to a process when this one ends, however it ends.

    It waits on a pipe whose other end only we hold; the kernel closes it with us.
    """

    def __init__(self, pid: int, sign: signal.Signals) -> None:
        script = 'read -r _ || kill -s "$1" "$2"'
        name = sign.name.removeprefix("SIG")
        self._shell = subprocess.Popen(  # noqa: S603 - a fixed script
            ["/bin/sh", "-c", script, "sluice-watchdog", name, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the watch without sending anything."""
        self._shell.communicate(b"\n")


def _environment() -> Mapping[str, str]:
    """Nothing of ours: PG* variables, locales and preloaded libraries stay outside."""
    return {"LC_ALL": "C", "PATH": os.defpath}
