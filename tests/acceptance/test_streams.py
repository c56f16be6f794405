"""Many event streams on one service process, and what becomes of them when it leaves."""

import asyncio
import json
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.services import Service

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc"),
]

STREAMS = 500
MOVES = 20
MOST_MEGABYTES = 60
"""What so many streams may cost; measured: 21."""


@pytest.fixture
def many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 4 * STREAMS:
        pytest.skip(f"this account may open {most} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * STREAMS, most))


def caller(service: Service) -> httpx.AsyncClient:
    """Who relies on no silent connection for as long as the service might close it."""
    return httpx.AsyncClient(
        base_url=service.url,
        headers={"Authorization": f"Bearer {service.key}"},
        timeout=30,
        limits=httpx.Limits(keepalive_expiry=2),
    )


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[asyncio.StreamReader]:
    """A stream of the service, whose first message has been read."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = f"GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}"
    writer.write(f"{request}\r\n\r\n".encode())
    try:
        assert b" 200 " in await reader.readline()
        await reader.readuntil(b"id: ")
        yield reader
    finally:
        writer.close()


async def positions(reader: asyncio.StreamReader, count: int) -> list[str]:
    """The positions of the next events."""
    found: list[str] = []
    while len(found) < count:
        line = await reader.readline()
        assert line, "the stream has ended"
        if line.startswith(b"data: "):
            found.append(json.loads(line.removeprefix(b"data: "))["position"])
    return found


async def make_deal(client: httpx.AsyncClient) -> str:
    stages = [
        {"key": "lead", "name": "Lead", "kind": "open"},
        {"key": "offer", "name": "Offer", "kind": "open"},
        {"key": "won", "name": "Won", "kind": "won"},
        {
            "key": "lost",
            "name": "Lost",
            "kind": "lost",
            "loss_reasons": [{"key": "price", "name": "Price"}],
        },
    ]
    sales = {"key": "sales", "name": "Sales", "flow": "free", "stages": stages}
    assert (await client.post("/v1/pipelines", json=sales)).status_code == 201
    new = {"pipeline": "sales", "name": "A deal"}
    made: dict[str, Any] = (await client.post("/v1/opportunities", json=new)).json()
    return str(made["id"])


def megabytes(service: Service) -> float:
    """What the service's own process holds in memory."""
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def test_five_hundred_streams_are_told_of_every_move_by_one_process(
    start: Callable[..., Service], many_files: None
) -> None:
    service = start()
    async with caller(service) as client, AsyncExitStack() as streams:
        deal = await make_deal(client)
        before = megabytes(service)
        async with asyncio.timeout(120):
            readers = [
                await streams.enter_async_context(connected(service)) for _ in range(STREAMS)
            ]
            for number in range(MOVES):
                body = {"to_stage": ("offer", "lead")[number % 2]}
                moved = await client.post(f"/v1/opportunities/{deal}/transitions", json=body)
                assert moved.status_code == 201, moved.text
            told = await asyncio.gather(*(positions(reader, MOVES) for reader in readers))
        held = megabytes(service) - before
        feed = (await client.get("/v1/events", params={"types": "opportunity.transitioned"})).json()
        for each in told:
            assert each == [event["position"] for event in feed["items"]]
        assert held < MOST_MEGABYTES, f"{held:.0f} MB"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_that_leaves_ends_its_streams_and_is_not_held_up_by_them(
    start: Callable[..., Service], workers: str
) -> None:
    service = start(SLUICE_WORKERS=workers)
    async with connected(service) as one, connected(service) as other:
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            for reader in (one, other):
                # Ended by its last chunk: one that holds the service up is broken off without it.
                assert (await reader.read()).endswith(b"\r\n0\r\n\r\n")
        status = await asyncio.to_thread(service.process.wait, 20)
        assert status == 0


async def test_a_move_through_one_worker_is_told_by_the_other(
    start: Callable[..., Service],
) -> None:
    service = start(SLUICE_WORKERS="2")
    async with caller(service) as client, AsyncExitStack() as streams:
        deal = await make_deal(client)
        # The kernel gives each to either worker.
        readers = [await streams.enter_async_context(connected(service)) for _ in range(8)]
        async with asyncio.timeout(30):
            for number in range(MOVES):
                body = {"to_stage": ("offer", "lead")[number % 2]}
                moved = await client.post(f"/v1/opportunities/{deal}/transitions", json=body)
                assert moved.status_code == 201, moved.text
            told = await asyncio.gather(*(positions(reader, MOVES) for reader in readers))
        assert all(each == told[0] for each in told)
