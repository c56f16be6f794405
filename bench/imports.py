"""CSV history through the HTTP API, beside COPY of the same file into a bare table.

The file has a row per transition, as exports have; the time is from sending it to the import's
being completed. The worker's memory is its peak over the whole of it.
"""

import asyncio
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, sleep
from uuid import UUID

import asyncpg

from app.actions.load_demo import KEY, demo_pipeline
from app.storage import pipelines
from app.storage.engine import Connection, Database, Lock, connect_arguments
from bench.client import Client
from bench.report import Report
from bench.stage import Stage, make_workspace, service, stage
from bench.world import YEARS, tales

ROUNDS = 3
COLUMNS = ("deal", "stage", "at", "loss_reason", "amount", "currency", "owner", "team", "source")
MAPPING = {
    "shape": "long",
    "deal": "deal",
    "stage": "stage",
    "occurred_at": "at",
    "loss_reason": "loss_reason",
    "facts": {name: name for name in ("amount", "currency", "owner", "team", "source")},
}
BOUNDARY = "a-file-of-history"


def measure(report: Report, deals: int) -> None:
    """Import one file into a workspace of its own, several times over."""
    with stage() as on:
        file, rows = _file(on, deals)
        report.circumstances = {**report.circumstances, "deals": deals, "transitions": rows}
        ours, copies = [], []
        with service(on) as running:
            memory_before = _peak_memory(running.pid)
            for _ in range(ROUNDS):
                workspace, key = on.run(make_workspace)
                on.run(lambda database, into=workspace: _define(database, into))  # type: ignore[misc] # mypy cannot type a lambda's default
                ours.append(rows / _imported(Client(running.url, key), file, rows))
                copies.append(rows / asyncio.run(_copied(on, file)))
            memory = _peak_memory(running.pid)
        report.add(
            "transitions imported",
            "/s",
            ours,
            copies,
            against="COPY into a bare table",
            aim="≥ 20,000/s, aim 60,000",
        )
        report.add("peak memory of the worker before", "MB", [memory_before])
        report.add("peak memory of the worker after", "MB", [memory], aim="≤ 200 MB, aim 120")


def _imported(client: Client, file: Path, rows: int) -> float:
    parts = [
        ("mapping", "", json.dumps(MAPPING).encode()),
        ("file", '; filename="deals.csv"', file.read_bytes()),
    ]
    body = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, more, content in parts
    )
    body += f"--{BOUNDARY}--\r\n".encode()
    began = perf_counter()
    job = client.post(
        f"/v1/pipelines/{KEY}/imports", body, f"multipart/form-data; boundary={BOUNDARY}"
    )
    while job["state"] not in ("completed", "aborted", "failed"):
        sleep(0.05)
        job = client.get(f"/v1/imports/{job['id']}")
    took = perf_counter() - began
    if job["state"] != "completed" or job["counts"]["transitions"] != rows:
        raise RuntimeError(f"The import did not take every row: {job}")
    return took


async def _copied(on: Stage, file: Path) -> float:
    connection = await asyncpg.connect(**connect_arguments(on.owner_url))
    try:
        columns = ", ".join(f"{name} text" for name in COLUMNS)
        await connection.execute(f"DROP TABLE IF EXISTS bare; CREATE TABLE bare ({columns})")
        began = perf_counter()
        await connection.copy_to_table("bare", source=file, format="csv", header=True)
        return perf_counter() - began
    finally:
        await connection.close()


def _file(on: Stage, deals: int) -> tuple[Path, int]:
    until = datetime.now(UTC).replace(microsecond=0)
    since = until - timedelta(days=365 * YEARS)
    pipeline = demo_pipeline(since)
    path, rows = on.folder / "deals.csv", 0
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for number, tale in enumerate(tales(pipeline, deals, since, until)):
            for move in tale.log:
                facts = move.facts
                writer.writerow(
                    (
                        f"D-{number}",
                        pipeline.by_slot[move.to_slot].key,
                        move.occurred_at.isoformat(),
                        move.loss_reason,
                        *(facts.amount, facts.currency, facts.owner, facts.team, facts.source),
                    )
                )
                rows += 1
    path.chmod(0o644)
    return path, rows


async def _define(database: Database, workspace: UUID) -> None:
    now = datetime.now(UTC)
    pipeline = demo_pipeline(now)

    async def work(connection: Connection) -> None:
        await pipelines.save(connection, workspace, pipeline, actor=KEY, instant=now)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


def _peak_memory(pid: int) -> float:
    """The most that the process has ever had in memory, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
