"""`make run` on an installed tree, from nothing to the first answer: cold (a new data folder, the
demo included) and warm (the same folder again).

No yardstick: what it is held against is a person's patience.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from app.actions.load_demo import KEY
from app.actions.manage_keys import new_key
from bench.client import Client
from bench.report import Report

ROUNDS = 3
PATIENCE = 60.0


def measure(report: Report) -> None:
    """Seconds until the service answers at all, is ready, and shows a pipeline to its admin."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        folder = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
        folder.chmod(0o755)
        try:
            key = str(new_key())
            for start in ("cold", "warm"):
                for what, took in _start(folder / "data", key).items():
                    times.setdefault((start, what), []).append(took)
        finally:
            shutil.rmtree(folder)
    for (start, what), taken in times.items():
        aim = "≤ 3 s, aim 1.5 s" if (start, what) == ("cold", "first answer") else None
        report.add(f"{start} start to {what}", "s", taken, aim=aim)


def _start(data: Path, key: str) -> dict[str, float]:
    port = _free_port()
    environment = {
        **os.environ,
        "SLUICE_DATA_DIR": str(data),
        "SLUICE_PORT": str(port),
        "SLUICE_BOOTSTRAP_KEY": key,
    }
    began = perf_counter()
    process = subprocess.Popen(
        ["make", "run"],  # noqa: S607 - the `make` that a person would call
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        return {
            what: _answered(process, url, key, path) - began
            for what, path in (
                ("first answer", "/livez"),
                ("ready", "/readyz"),
                ("the demo pipeline", f"/v1/pipelines/{KEY}"),
            )
        }
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _answered(process: "subprocess.Popen[bytes]", url: str, key: str, path: str) -> float:
    deadline = perf_counter() + PATIENCE
    while perf_counter() < deadline and process.poll() is None:
        try:
            Client(url, key).get(path)
        except (OSError, RuntimeError):
            sleep(0.005)
        else:
            return perf_counter()
    raise RuntimeError(f"{path} was not answered within {PATIENCE:.0f} s")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
