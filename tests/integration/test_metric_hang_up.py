"""Callers who hang up before their figures are there: nothing is worked out for nobody.

Over real connections, since only a server tells when one ends. That takes a server in this process
on a database of the test's own, in which a policy makes each query endless.
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app.domain.api_key import ApiKey
from app.http.attendance import AttendedRoute
from app.http.middleware import CLIENT_LEFT
from app.main import create_app
from app.settings import Settings, load_settings
from app.storage.engine import REQUEST, Database
from tests.conftest import make_workspace, on_server
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.integration.test_metric_timeouts import ENDLESS, METRICS, SEVERAL, owned, until

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[int]:
    """The application behind the server that it is meant for; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", ws="none", lifespan="on", log_config=None)
    )
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def calling(url: str, *, pool_size: int = 10) -> AsyncIterator["Line"]:
    """A line to a service on this database, where one deal is open."""
    database = await Database.open(url, size=1)
    principal, key = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await database.close()
    # Jobs would wait for the policy too, and for one of two connections.
    app = create_app(Settings(database_url=url, pool_size=pool_size, jobs=False, webhooks=False))
    async with listening(app) as port:
        line = Line(app, port, key)
        async with line.client() as client:
            await open_deal(client)
        yield line


class Line:
    """How a service is reached, by HTTP and by hand."""

    def __init__(self, app: FastAPI, port: int, key: ApiKey) -> None:
        self.app = app
        self.port = port
        self.key = key

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.key}"},
        )

    async def ask(
        self, *paths: str, body: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One connection, on which all of these have been asked, the last with a body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for path in paths:
            length = len(body) if path == paths[-1] else 0
            head = f"GET {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {self.key}\r\n"
            writer.write(f"{head}Content-Length: {length}\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()
        return reader, writer

    async def answers(self, paths: Sequence[str]) -> None:
        """All of them, asked at once and then once more."""
        async with self.client() as client:
            for _ in range(2):
                found = await asyncio.gather(*(client.get(path) for path in paths))
                assert [answer.status_code for answer in found] == [200] * len(paths)

    def counted(self, *statuses: int) -> int:
        """How many requests were answered so."""
        return sum(
            int(sample.value)
            for metric in self.app.state.registry.collect()
            for sample in metric.samples
            if sample.name == "sluice_http_requests_total"
            and int(sample.labels["status"]) in statuses
        )


async def test_every_route_of_figures_looks_out_for_its_caller() -> None:
    routes = [
        route
        for route in iter_route_contexts(create_app(load_settings()).routes)
        if "/metrics/" in (route.path_format or "")
    ]
    assert len(routes) >= len(SEVERAL)
    assert [r.path_format for r in routes if not isinstance(r.original_route, AttendedRoute)] == []


@pytest.mark.parametrize("pool_size", [10, 2], ids=["all at work", "most waiting for a connection"])
async def test_what_a_caller_asked_ends_in_the_database_when_the_caller_goes(
    own_database: str, pool_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with calling(own_database, pool_size=pool_size) as line:
        await on_server(owned(own_database), ENDLESS)
        caplog.clear()
        began = time.monotonic()
        lines = [await line.ask(path) for path in SEVERAL]
        at_work = min(pool_size, len(SEVERAL))
        await until(own_database, ["PgSleep"] * at_work, seconds=REQUEST.statement)
        for _, writer in lines:
            writer.close()
        await until(own_database, [], seconds=began + REQUEST.statement - time.monotonic())
        assert time.monotonic() - began < REQUEST.statement, "the time-out ended them"
        await on_server(owned(own_database), "DROP POLICY endless ON opportunity")
        await line.answers(SEVERAL[:pool_size])
        assert line.counted(CLIENT_LEFT) == len(SEVERAL)
        assert line.counted(*range(500, 600)) == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_who_stays_is_answered_whoever_goes(own_database: str) -> None:
    async with calling(own_database) as line:
        await line.answers(SEVERAL)
        reader, writer = await line.ask(*SEVERAL[:3])  # all at once, on one connection
        for _ in range(3):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(value)
                for name, _, value in (row.partition(b":") for row in head.split(b"\r\n"))
                if name.lower() == b"content-length"
            )
            await reader.readexactly(length)
        writer.close()


@pytest.mark.parametrize("size", [10, 2 * 1024 * 1024])
async def test_a_body_that_nobody_asked_for_changes_nothing(own_database: str, size: int) -> None:
    async with calling(own_database) as line:
        reader, writer = await line.ask(f"{METRICS}/funnel", body=b" " * size)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
