"""How many requests and event streams a worker has at once: what is beyond is refused immediately.

A service that takes on whatever comes answers everybody late. The guard stands before the look-up
of the credential and before the body is read, so that a refusal costs nothing but itself. Health
and figures are let through: they are asked for most when there is too much. A stream has a place
among the requests until its answer begins, and among the streams from then on.
"""

import resource
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.errors import Overloaded

MOST_CONNECTIONS: Final = "most_connections"
"""The name in the lifespan's state under which the server is told how many it may take."""
_IDLE_CONNECTIONS: Final = 256
_OTHER_FILES: Final = 256  # pools, webhooks under way, spooled imports

LET_THROUGH: Final = frozenset({"/livez", "/readyz", "/metrics"})


def most_connections(requests: int, streams: int) -> float:
    """How many connections a worker takes that has places for so many; zero: for any number.

    Those that fill the places, and some that rest; but no more than there may be open files.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if files == resource.RLIM_INFINITY else max(files - _OTHER_FILES, 1)
    return min(most, requests + streams + _IDLE_CONNECTIONS) if requests and streams else most


class Refusals:
    """How often which limit refused a request: in a registry of the application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refusals = Counter(
            "sluice_http_refusals",
            "Requests that were refused by a limit.",
            ("limit",),
            registry=registry,
        )

    def count(self, limit: str) -> None:
        self._refusals.labels(limit).inc()


class Places:
    """The places of one worker. Zero: as many as come."""

    def __init__(
        self, registry: CollectorRegistry, refusals: Refusals, *, requests: int, streams: int
    ) -> None:
        self.requests = 0
        self.streams = 0
        self._most_requests = requests
        self._most_streams = streams
        self._refusals = refusals
        for name, help_, count in (
            ("sluice_http_requests_in_progress", "Requests that have a place.", self._in_progress),
            ("sluice_event_streams", "Event streams that are open.", self._open_streams),
        ):
            Gauge(name, help_, registry=registry).set_function(count)

    def take(self) -> "Place":
        """A place for a request. Raises Overloaded."""
        if 0 < self._most_requests <= self.requests:
            self._refusals.count("requests-at-once")
            raise Overloaded(
                f"This worker has {self.requests} requests in progress, as many as it takes."
            )
        self.requests += 1
        return Place(self)

    def take_for_stream(self) -> None:
        """Raises Overloaded."""
        if 0 < self._most_streams <= self.streams:
            self._refusals.count("streams-at-once")
            raise Overloaded(
                f"This worker has {self.streams} event streams open, as many as it takes."
            )
        self.streams += 1

    def _in_progress(self) -> int:
        return self.requests

    def _open_streams(self) -> int:
        return self.streams


class Place:
    """What one request has of the places, until it is left."""

    __slots__ = ("_is_stream", "_places")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._is_stream = False

    def begin_stream(self) -> None:
        """Change to a place among the streams. Raises Overloaded, and keeps the one it has."""
        self._places.take_for_stream()
        self._places.requests -= 1
        self._is_stream = True

    def leave(self) -> None:
        if self._is_stream:
            self._places.streams -= 1
        else:
            self._places.requests -= 1


class Guard:
    """The layer that gives every request its place, or refuses it."""

    def __init__(self, app: ASGIApp, places: Places) -> None:
        self._app = app
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in LET_THROUGH:
            await self._app(scope, receive, send)
            return
        place = self._places.take()
        scope.setdefault("state", {})["place"] = place
        try:
            await self._app(scope, receive, send)
        finally:
            place.leave()
