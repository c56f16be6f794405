"""Event streams: from the write of an event to its arrival at those who follow.

The clock starts where the database stamps the event (`recorded_at`), just before the commit, and
stops where the message is read from the socket; all on one machine and one clock. The yardstick is
a bare table, whose rows are told of by a NOTIFY in the same transaction to a listening asyncpg
connection: it stamps its rows in the same way.

Once the moves are made through the worker that streams, once another process writes the events.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from statistics import quantiles
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from app.domain.api_key import ApiKey
from app.storage import events
from app.storage.engine import Connection, Database, Lock, connect_arguments
from app.storage.statement import execute
from bench.client import Client
from bench.load import STAGES
from bench.report import Report
from bench.stage import Running, make_workspace, service, stage

STREAMS = 5
ROUNDS = 3
EVENTS = 200
PAUSE = 0.01
"""Seconds between two of them."""
AGAINST = "INSERT and NOTIFY in one transaction, one listener"

Latencies = list[float]


def measure(report: Report) -> None:
    """Latencies of both ways of writing, and of the yardstick, in interleaved rounds."""
    with stage() as on, service(on) as server:
        workspace, key = on.run(make_workspace)
        asyncio.run(_measure(report, server, workspace, key, on.url, on.owner_url))


async def _measure(
    report: Report, server: Running, workspace: UUID, key: ApiKey, url: str, owner_url: str
) -> None:
    client = Client(server.url, key)
    deal = await asyncio.to_thread(_a_deal, client)
    database = await Database.open(url)
    here: list[Latencies] = []
    elsewhere: list[Latencies] = []
    bare: list[Latencies] = []
    async with database.notices.sent_and_heard(), _bare(owner_url) as told_barely:
        for _ in range(ROUNDS):
            async with _streams(server, key) as arrived:
                for number in range(EVENTS):
                    await asyncio.to_thread(_move, client, deal, STAGES[number % 2])
                    await asyncio.sleep(PAUSE)
                here.append(await _all(arrived))
            async with _streams(server, key) as arrived:
                for _ in range(EVENTS):
                    await _tell(database, workspace)
                    await asyncio.sleep(PAUSE)
                elsewhere.append(await _all(arrived))
            bare.append([await told_barely() for _ in range(EVENTS)])
    await database.close()
    for name, ours in (("by the worker that streams", here), ("by another process", elsewhere)):
        for nth in (50, 99):
            report.add(
                f"event to {STREAMS} streams, written {name}, p{nth}",
                "ms",
                [_percentile(taken, nth) for taken in ours],
                [_percentile(taken, nth) for taken in bare],
                against=AGAINST,
            )


def _a_deal(client: Client) -> str:
    for path, body in (
        ("/v1/pipelines", {"key": "moves", "template": "b2b"}),
        ("/v1/opportunities", {"pipeline": "moves", "name": "A deal", "owner": "mia"}),
    ):
        made = client.post(path, json.dumps(body).encode(), "application/json")
    return str(made["id"])


def _move(client: Client, deal: str, to_stage: str) -> None:
    body = json.dumps({"to_stage": to_stage}).encode()
    client.post(f"/v1/opportunities/{deal}/transitions", body, "application/json")


async def _tell(database: Database, workspace: UUID) -> None:
    async def work(connection: Connection) -> None:
        told = events.append(workspace, "bench.told", {}, occurred_at=datetime.now(UTC))
        await execute(connection, [told])

    await database.write(workspace, work, lock=Lock.NONE)


@asynccontextmanager
async def _streams(server: Running, key: ApiKey) -> AsyncIterator[list[Latencies]]:
    """Open streams, each with a list to which it adds how long its events were on the way."""
    arrived: list[Latencies] = [[] for _ in range(STREAMS)]
    opened = [asyncio.Event() for _ in range(STREAMS)]
    tasks = [
        asyncio.create_task(_follow(server, key, each, ready))
        for each, ready in zip(arrived, opened, strict=True)
    ]
    try:
        await asyncio.gather(*(ready.wait() for ready in opened))
        yield arrived
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(server: Running, key: ApiKey, arrived: Latencies, ready: asyncio.Event) -> None:
    host = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    try:
        writer.write(
            f"GET /v1/events/stream HTTP/1.1\r\nHost: {host.netloc}\r\n"
            f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        while line := await reader.readline():
            if line.startswith(b"data: "):
                now = time.time()
                recorded_at = datetime.fromisoformat(json.loads(line[6:])["recorded_at"])
                arrived.append((now - recorded_at.timestamp()) * 1000)
            elif line.startswith(b"id: "):
                ready.set()
    finally:
        writer.close()


async def _all(arrived: list[Latencies]) -> Latencies:
    """What the streams have measured, once the last event has come to each."""
    async with asyncio.timeout(10):
        while any(len(each) < EVENTS for each in arrived):  # noqa: ASYNC110 - nothing is timed
            await asyncio.sleep(PAUSE)
    return [latency for each in arrived for latency in each]


@asynccontextmanager
async def _bare(owner_url: str) -> "AsyncIterator[Bare]":
    writer = await asyncpg.connect(**connect_arguments(owner_url))
    listener = await asyncpg.connect(**connect_arguments(owner_url))
    await writer.execute("CREATE TABLE bare_event (recorded_at timestamptz, data jsonb)")
    try:
        yield await Bare.listening(writer, listener)
    finally:
        await writer.execute("DROP TABLE bare_event")
        await listener.close()
        await writer.close()


class Bare:
    """The yardstick: called, it writes a row and gives the milliseconds until it was told of."""

    INSERT = """
    WITH told AS (INSERT INTO bare_event VALUES (clock_timestamp(), $1) RETURNING recorded_at)
    SELECT pg_notify('bare_event', extract(epoch FROM recorded_at)::text) FROM told
    """

    def __init__(self, writer: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._writer = writer
        self._told: asyncio.Queue[float] = asyncio.Queue()

    @classmethod
    async def listening(
        cls,
        writer: "asyncpg.Connection[asyncpg.Record]",
        listener: "asyncpg.Connection[asyncpg.Record]",
    ) -> "Bare":
        bare = cls(writer)

        def heard(_: object, __: int, ___: str, payload: object) -> None:
            bare._told.put_nowait((time.time() - float(str(payload))) * 1000)

        await listener.add_listener("bare_event", heard)
        return bare

    async def __call__(self) -> float:
        await self._writer.execute(self.INSERT, "{}")
        latency = await self._told.get()
        await asyncio.sleep(PAUSE)
        return latency


def _percentile(latencies: Latencies, nth: int) -> float:
    return quantiles(latencies, n=100)[nth - 1]
