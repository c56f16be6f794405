"""`sluice serve` as a process: how it comes up, what survives which kill, and that it leaves."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.services import Service, until

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_with_status_0_and_nothing_behind(
    start: Callable[..., Service], workers: str, sign: signal.Signals
) -> None:
    service = start(SLUICE_WORKERS=workers)
    assert len(service.worker_pids()) == (0 if workers == "1" else 2)
    os.killpg(service.process.pid, sign)
    assert service.process.wait(20) == 0
    until(lambda: service.pids() == [])  # a helper of multiprocessing ends a moment later


def test_it_leaves_in_time_while_a_request_hangs(start: Callable[..., Service]) -> None:
    service = start()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as hanging:
        hanging.sendall(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12")
        service.process.terminate()
        assert service.process.wait(20) == 0
    until(lambda: service.pids() == [])  # a helper of multiprocessing ends a moment later


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
