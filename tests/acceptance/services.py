"""Services as processes of their own, for tests that start, kill and call them."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from app.domain.api_key import ApiKey

COMMAND = [sys.executable, "-m", "app.cli", "serve"]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something another process does, looking again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def command_of(pid: int) -> bytes:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Service:
    """A service in a process of its own, known by the data folder in its environment."""

    def __init__(self, folder: Path, *, command: Sequence[str] = COMMAND, **settings: str) -> None:
        self.folder = folder
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DATABASE_")}
        ours = {"SLUICE_DATA_DIR": str(folder), "SLUICE_PORT": "0", "SLUICE_DEMO": "0"}
        self.key = ApiKey(os.urandom(8).hex(), os.urandom(24).hex())
        ours["SLUICE_BOOTSTRAP_KEY"] = str(self.key)
        with (folder / "stderr.log").open("ab") as stderr:
            self.process = subprocess.Popen(
                command,
                env=inherited | ours | settings,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                process_group=0,  # so that a test can press Ctrl-C for all of it
            )
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            if "http://" in line:
                self.url = "http://" + line.split("http://")[1].split()[0].rstrip("/")
                break

    def end(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.communicate()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/livez", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def database_pid(self) -> int | None:
        """The database server's, once it accepts connections."""
        try:
            lines = (self.folder / "cluster" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return int(lines[0]) if lines and lines[-1].strip() == "ready" else None

    def pids(self) -> list[int]:
        """Every process of the service: itself, its workers, its database."""
        marks = (f"SLUICE_DATA_DIR={self.folder}\0".encode(), f"{self.folder}/".encode())
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                at_work = os.fsencode((entry / "cwd").readlink()) + b"/"
            except OSError:  # ended meanwhile
                continue
            if any(mark in told for mark in marks) or at_work.startswith(marks[1]):
                found.append(int(entry.name))
        return found

    def worker_pids(self) -> list[int]:
        return [pid for pid in self.pids() if b"multiprocessing.spawn" in command_of(pid)]
