"""Webhooks on loopback: from the write of an event to its arrival, and how fast a backlog drains.

The clock starts where the database stamps the event (`recorded_at`), just before the commit, and
stops where the receiver has read the request. The yardstick sends the same bodies to the same
receiver, each on a connection of its own and as many at once as the service has to one endpoint,
and neither signs them nor keeps what came of them.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from statistics import quantiles
from time import perf_counter
from typing import Final
from uuid import UUID

from app.jobs.deliver_webhooks import OF_ONE_ENDPOINT
from app.storage import events
from app.storage.engine import Connection, Database, Lock
from bench.client import Client
from bench.report import Report
from bench.stage import make_workspace, service, stage

ROUNDS: Final = 3
IN_TURN: Final = 200
APART: Final = 0.02
"""Seconds between two events, when latencies are measured."""
BACKLOG: Final = 2_000
BARE: Final = "bare POSTs to the same receiver"
DATA: Final = {f"field_{n}": "about so long as a field is" for n in range(16)}


def measure(report: Report) -> None:
    """Latencies of single events, then the rate at which many written at once are delivered."""
    with stage() as on, service(on, SLUICE_WEBHOOKS_ALLOW_LOOPBACK="1") as server:
        workspace, key = on.run(make_workspace)
        asyncio.run(_measure(report, Client(server.url, key), workspace, on.url))


async def _measure(report: Report, client: Client, workspace: UUID, url: str) -> None:
    database = await Database.open(url)
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    drained: list[float] = []
    posted: list[float] = []
    async with _receiver() as receiver, database.notices.sent_and_heard():
        asked = json.dumps({"url": f"http://127.0.0.1:{receiver.port}/hooks"}).encode()
        await asyncio.to_thread(client.post, "/v1/webhook-endpoints", asked, "application/json")
        for _ in range(ROUNDS):
            receiver.forget()
            for _ in range(IN_TURN):
                await _tell(database, workspace, 1)
                await asyncio.sleep(APART)
            ours.append(await receiver.have(IN_TURN))
            receiver.forget()
            for _ in range(IN_TURN):
                await receiver.post(_stamped())
                await asyncio.sleep(APART)
            bare.append(await receiver.have(IN_TURN))
            receiver.forget()
            began = perf_counter()
            await _tell(database, workspace, BACKLOG)
            await receiver.have(BACKLOG)
            drained.append(BACKLOG / (perf_counter() - began))
            receiver.forget()
            began = perf_counter()
            await asyncio.gather(*(_post_share(receiver) for _ in range(OF_ONE_ENDPOINT)))
            posted.append(receiver.count / (perf_counter() - began))
    await database.close()
    for nth in (50, 99):
        report.add(
            f"event to webhook, one at a time, p{nth}",
            "ms",
            [quantiles(taken, n=100)[nth - 1] for taken in ours],
            [quantiles(taken, n=100)[nth - 1] for taken in bare],
            against=BARE,
        )
    report.add(f"{BACKLOG:,} events to one endpoint, drained", "/s", drained, posted, against=BARE)


async def _tell(database: Database, workspace: UUID, count: int) -> None:
    async def work(connection: Connection) -> None:
        told = [
            events.append(workspace, "bench.told", DATA, occurred_at=datetime.now(UTC))
            for _ in range(count)
        ]
        await events.append_all(connection, workspace, told)

    await database.write(workspace, work, lock=Lock.NONE)


async def _post_share(receiver: "Receiver") -> None:
    for _ in range(BACKLOG // OF_ONE_ENDPOINT):
        await receiver.post(_stamped())


def _stamped() -> bytes:
    return json.dumps({"recorded_at": datetime.now(UTC).isoformat(), "data": DATA}).encode()


class Receiver:
    """Takes requests on loopback, one a connection, and how long each was on its way."""

    def __init__(self) -> None:
        self.port = 0
        self._took: list[float] = []
        self._came = asyncio.Event()

    @property
    def count(self) -> int:
        return len(self._took)

    def forget(self) -> None:
        self._took = []

    async def have(self, count: int) -> list[float]:
        """The milliseconds of so many requests, once they have come."""
        async with asyncio.timeout(120):
            while len(self._took) < count:
                self._came.clear()
                await self._came.wait()
        return self._took

    async def post(self, body: bytes) -> None:
        """The yardstick's request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /hooks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.read()
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = json.loads(await reader.readexactly(int(length)))
        recorded_at = datetime.fromisoformat(body["recorded_at"]).timestamp()
        self._took.append((time.time() - recorded_at) * 1000)
        self._came.set()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def _receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver
