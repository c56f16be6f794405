"""`sluice serve` as a process: how it comes up, what survives which kill, and that it leaves."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

COMMAND = [sys.executable, "-m", "app.cli", "serve"]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something another process does, looking again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Service:
    """A service in a process of its own, known by the data folder in its environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DATABASE_")}
        ours = {"SLUICE_DATA_DIR": str(folder), "SLUICE_PORT": "0", "SLUICE_DEMO": "0"}
        with (folder / "stderr.log").open("ab") as stderr:
            self.process = subprocess.Popen(
                COMMAND,
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
        return [
            pid
            for pid in self.pids()
            if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own are closed to all but their maker."""
    path = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(**settings: str) -> Service:
        services.append(Service(folder, **settings))
        until(services[-1].answers)
        return services[-1]

    yield start
    for service in services:
        service.process.kill()
        service.process.communicate()
    until(lambda: not any(service.pids() for service in services))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_with_status_0_and_nothing_behind(
    start: Callable[..., Service], workers: str, sign: signal.Signals
) -> None:
    service = start(SLUICE_WORKERS=workers)
    assert len(service.worker_pids()) == (0 if workers == "1" else 2)
    os.killpg(service.process.pid, sign)
    assert service.process.wait(20) == 0
    assert service.pids() == []


def test_it_leaves_in_time_while_a_request_hangs(start: Callable[..., Service]) -> None:
    service = start()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as hanging:
        hanging.sendall(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12")
        service.process.terminate()
        assert service.process.wait(20) == 0
    assert service.pids() == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_supervisor_takes_workers_and_database_with_it(
    start: Callable[..., Service], workers: str
) -> None:
    service = start(SLUICE_WORKERS=workers)
    service.process.kill()
    service.process.wait()
    until(lambda: not service.pids())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_database_is_started_again(start: Callable[..., Service], workers: str) -> None:
    service = start(SLUICE_WORKERS=workers)
    killed = service.database_pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: service.database_pid() not in {None, killed})
    assert service.answers()


def test_a_killed_worker_is_replaced(start: Callable[..., Service]) -> None:
    service = start(SLUICE_WORKERS="2")
    killed = service.worker_pids()[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(service.worker_pids()) == 2 and killed not in service.worker_pids())
    until(service.answers)


def test_a_second_service_on_the_same_data_takes_the_database_over(
    start: Callable[..., Service],
) -> None:
    first, second = start(), start()
    killed = first.database_pid()
    first.process.kill()
    first.process.wait()
    until(lambda: second.database_pid() not in {None, killed})
    assert second.answers()


def test_a_taken_port_is_told_in_words(start: Callable[..., Service], folder: Path) -> None:
    port = start().url.rsplit(":", 1)[1]
    second = Service(folder, SLUICE_PORT=port)
    assert second.process.wait(20) == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in (folder / "stderr.log").read_text()
    second.process.communicate()


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("SLUICE_PORT", "80x", "from 1 to 65535"),
        ("SLUICE_PROT", "8000", "there is no such setting"),
        ("DATABASE_URL", "mysql://user:secret@host/db", "postgresql://"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(
    folder: Path, name: str, value: str, accepted: str
) -> None:
    service = Service(folder, **{name: value})
    assert service.process.wait(20) == 2
    (line,) = (folder / "stderr.log").read_text().splitlines()
    assert line.startswith(f"{name}: ")
    assert accepted in line
    assert "secret" not in line
    service.process.communicate()


def test_a_database_that_is_away_is_waited_for(start: Callable[..., Service]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    service = start(DATABASE_URL=f"postgresql://sluice@127.0.0.1:{port}/sluice")
    service.process.terminate()
    assert service.process.wait(20) == 0
