"""The watchdog that stands in, off Linux, for the kernel's word that a parent has died."""

import signal
import subprocess
import sys

import pytest

from app.storage.embedded_process import Watchdog

pytestmark = pytest.mark.process


def test_a_watchdog_ends_its_process_when_the_parent_is_killed() -> None:
    watched = subprocess.Popen(["/bin/sh", "-c", "read -r _"], stdin=subprocess.PIPE)
    program = (
        "import signal, sys; from app.storage.embedded_process import Watchdog\n"
        "dog = Watchdog(int(sys.argv[1]), signal.SIGTERM); print(flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(watched.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.kill()
    parent.communicate()
    assert watched.wait(10) == -signal.SIGTERM
    watched.communicate()


def test_a_dismissed_watchdog_lets_its_process_live() -> None:
    watched = subprocess.Popen(["/bin/sh", "-c", "read -r _"], stdin=subprocess.PIPE)
    Watchdog(watched.pid, signal.SIGTERM).dismiss()
    assert watched.poll() is None
    watched.communicate(b"\n")
    assert watched.returncode == 0
