"""How many requests a worker has at once, and what becomes of those that come beside them."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry

from app.domain.errors import Overloaded
from app.http import middleware, problems
from app.http.guard import Guard, Place, Places, Refusals, most_connections

IsProblem = Callable[[httpx.Response, str], dict[str, Any]]


class Service:
    """An application whose requests go on until they are told to end."""

    def __init__(self, registry: CollectorRegistry, *, requests: int, streams: int = 0) -> None:
        self.places = Places(registry, Refusals(registry), requests=requests, streams=streams)
        self.begun: asyncio.Queue[None] = asyncio.Queue()
        self.end = asyncio.Event()
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

        @app.post("/v1/slow")
        async def slow(request: Request) -> str:
            self.begun.put_nowait(None)
            await self.end.wait()
            return (await request.body()).decode()

        @app.get("/v1/broken")
        async def broken() -> None:
            raise RuntimeError("oh")

        @app.get("/v1/events/stream")
        async def stream(request: Request) -> None:
            request.state.place.begin_stream()
            self.begun.put_nowait(None)
            await self.end.wait()

        @app.get("/{path:path}")
        async def quick(path: str) -> str:
            return path

        problems.install(app)
        app.add_middleware(Guard, places=self.places)
        middleware.install(app, middleware.RequestMetrics(CollectorRegistry()))
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sluice.test")

    @asynccontextmanager
    async def busy(self, *requests: tuple[str, str]) -> AsyncIterator[None]:
        """So long as this lasts these requests are in progress."""
        async with asyncio.TaskGroup() as group:
            for method, path in requests:
                group.create_task(self.client.request(method, path))
            for _ in requests:
                await self.begun.get()
            try:
                yield
            finally:
                self.end.set()


SLOW = ("POST", "/v1/slow")
STREAM = ("GET", "/v1/events/stream")


async def test_beyond_the_limit_a_request_is_refused_at_once_and_before_its_body_is_read(
    registry: CollectorRegistry, is_problem: IsProblem
) -> None:
    service, read = Service(registry, requests=2), list[int]()

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"a large body"

    async with service.busy(SLOW, SLOW):
        refused = await service.client.post("/v1/slow", content=body())
        is_problem(refused, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert read == []
        in_progress = registry.get_sample_value("sluice_http_requests_in_progress")
        assert in_progress == 2
    counted = registry.get_sample_value("sluice_http_refusals_total", {"limit": "requests-at-once"})
    assert counted == 1


async def test_a_place_is_free_again_however_its_request_ends(registry: CollectorRegistry) -> None:
    service = Service(registry, requests=1)
    async with service.busy(SLOW):
        assert (await service.client.get("/v1/me")).status_code == 503
    for path, status in (("/v1/me", 200), ("/v1/broken", 500), ("/v1/me", 200)):
        assert (await service.client.get(path)).status_code == status
    gone = asyncio.create_task(service.client.post("/v1/slow"))
    service.end.clear()
    await service.begun.get()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert service.places.requests == 0


async def test_health_and_figures_are_answered_when_nothing_else_is(
    registry: CollectorRegistry,
) -> None:
    service = Service(registry, requests=1)
    async with service.busy(SLOW):
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await service.client.get(path)).status_code == 200
        assert (await service.client.get("/v1/me")).status_code == 503


async def test_streams_hold_no_place_among_the_requests(
    registry: CollectorRegistry, is_problem: IsProblem
) -> None:
    service = Service(registry, requests=3, streams=3)
    async with service.busy(STREAM, STREAM, STREAM):
        assert (service.places.requests, service.places.streams) == (0, 3)
        assert (await service.client.get("/v1/me")).status_code == 200
        assert registry.get_sample_value("sluice_event_streams") == 3
        is_problem(await service.client.get("/v1/events/stream"), "overloaded")
        assert service.places.requests == 0
    assert service.places.streams == 0
    labels = {"limit": "streams-at-once"}
    assert registry.get_sample_value("sluice_http_refusals_total", labels) == 1


async def test_a_stream_needs_a_place_among_the_requests_to_begin(
    registry: CollectorRegistry,
) -> None:
    service = Service(registry, requests=1, streams=3)
    async with service.busy(SLOW):
        assert (await service.client.get("/v1/events/stream")).status_code == 503


def test_a_limit_of_zero_is_none(registry: CollectorRegistry) -> None:
    places = Places(registry, Refusals(registry), requests=0, streams=0)
    taken = [places.take() for _ in range(10_000)]
    for place in taken[:5_000]:
        place.begin_stream()
    assert (places.requests, places.streams) == (5_000, 5_000)
    for place in taken:
        place.leave()
    assert (places.requests, places.streams) == (0, 0)


def test_a_stream_that_is_refused_keeps_its_place_until_it_leaves(
    registry: CollectorRegistry,
) -> None:
    places = Places(registry, Refusals(registry), requests=0, streams=1)
    first, second = Place(places), Place(places)
    places.requests = 2
    first.begin_stream()
    with pytest.raises(Overloaded, match="1 event streams"):
        second.begin_stream()
    assert (places.requests, places.streams) == (1, 1)
    second.leave()
    first.leave()
    assert (places.requests, places.streams) == (0, 0)


@pytest.mark.parametrize(
    ("files", "requests", "streams", "most"),
    [
        (1024, 256, 512, 768),
        (1_048_576, 256, 512, 1024),
        (1_048_576, 256, 10_000, 10_512),
        (1_048_576, 0, 512, 1_048_320),
        (1_048_576, 256, 0, 1_048_320),
        (64, 256, 512, 1),
        (resource.RLIM_INFINITY, 256, 512, 1024),
        (resource.RLIM_INFINITY, 0, 0, float("inf")),
    ],
)
def test_a_worker_takes_connections_for_its_places_and_never_all_its_files(
    monkeypatch: pytest.MonkeyPatch, files: int, requests: int, streams: int, most: float
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections(requests, streams) == most
