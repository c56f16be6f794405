"""What happens to every request, once, in one pure ASGI class: it is on the path of all of them.

From the outside in: CORS, where it is configured → `RequestMiddleware` (request id, log line,
counters, headers, body limit, the last net for errors) → the guard on requests at once →
authentication, which binds `principal` and `workspace` to the log's context → rate limits →
FastAPI. `install` adds the first two, so whatever is to stand inside them is added to the
application before; it may simply raise a refusal.

Not here: who the caller is, and what a single route needs.
"""

import os
import re
from collections.abc import Collection
from time import perf_counter
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import Malformed
from app.http import problems

MOST_BYTES: Final = 1024 * 1024
MOST_BYTES_OF_IMPORT: Final = 256 * 1024 * 1024
CLIENT_LEFT: Final = 499  # nginx's number for a caller who hung up before the answer; log only

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NOT_A_URL: Final = "The URL is not written in ASCII and percent-encoded UTF-8."
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# Only where a route has not chosen: answers may be kept by their caller alone, and are asked for
# anew by ETag; nothing in them is to be run or framed.
_DEFAULT_HEADERS: Final = (
    (b"cache-control", b"private, no-cache"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_EXPOSED_HEADERS: Final = (
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
)

access_log = structlog.get_logger("sluice.access")


def install(app: FastAPI, metrics: "RequestMetrics", cors_origins: Collection[str] = ()) -> None:
    """Put the outer layers around the application, outside of whatever was added before."""
    app.add_middleware(RequestMiddleware, metrics=metrics)
    if cors_origins:  # outermost, so that a browser may read every problem, a 500 included
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=sorted(_METHODS),
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )


class RequestMetrics:
    """How many requests were answered and how fast, by route: in a registry of the application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "sluice_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "sluice_http_request_seconds",
            "From the request's first byte to the answer's last.",
            ("method", "route"),
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is the template, never the path: labels have to stay few."""
        key = (method, route, status)
        children = self._children.get(key)
        if children is None:  # looking labels up costs more than counting
            children = self._children[key] = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
        children[0].inc()
        children[1].observe(seconds)


class RequestMiddleware:
    """The outermost layer; see the module."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._templates: dict[Any, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        if scope["method"] == "HEAD":
            # What answers GET answers HEAD (RFC 9110, 9.1); the server leaves the body out.
            scope = {**scope, "method": "GET"}
        try:
            _check_encoding(scope.get("raw_path") or b"")
            _check_encoding(scope["query_string"])
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            pass  # in the middle of a body; there is nobody to answer, and nothing went wrong
        except Exception as error:
            answer = await problems.respond(Request(scope), error)
            if exchange.status != CLIENT_LEFT:
                raise  # half an answer is out: only breaking the connection tells the caller
            await answer(scope, receive, exchange.send)
        finally:
            self._account(scope, exchange)

    def _account(self, scope: Scope, exchange: "_Exchange") -> None:
        # A stream was answered when it began: how long it lasts says nothing of the service.
        seconds = scope["state"].get("streams_since", perf_counter()) - exchange.started
        route = self._template(scope)
        self._metrics.observe(exchange.method, route, exchange.status, seconds)
        access_log.info(
            "request",
            method=exchange.method,
            route=route,
            status=exchange.status,
            ms=round(seconds * 1000, 2),
        )

    def _template(self, scope: Scope) -> str:
        # The path's template is known by the endpoint that the router has put into the scope;
        # `scope["route"]` would lack the prefix under which a router was included.
        if self._templates is None:
            self._templates = {
                route.endpoint: route.path_format or ""
                for route in iter_route_contexts(scope["app"].routes)
            }
        return self._templates.get(scope.get("endpoint"), "unmatched")


class _Exchange:
    """One request on its way through: what was read of it, and what was answered."""

    __slots__ = (
        "_left",
        "_receive",
        "_request_id",
        "_send",
        "_state",
        "method",
        "started",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = perf_counter()
        self.status = CLIENT_LEFT
        self.method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._receive = receive
        self._send = send
        self._left = _most_bytes(scope)
        request_id = None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE_ID.fullmatch(value):
                request_id = value.decode()
            elif name == b"content-length" and value.isdigit() and int(value[:20]) > self._left:
                self._left = -1  # refused when it is first read, which is after authentication
        request_id = request_id or os.urandom(12).hex()
        self._request_id = request_id.encode()
        self._state = scope.setdefault("state", {})
        self._state["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise HTTPException(413)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"] = list(message.get("headers", ()))
            chosen = {name for name, _ in headers}
            headers += (pair for pair in _DEFAULT_HEADERS if pair[0] not in chosen)
            headers += _HEADERS
            headers += self._state.get("limits", ())  # of the caller's requests, see http.limits
            headers.append((b"x-request-id", self._request_id))
        elif self.method == "HEAD" and message.get("more_body"):
            # Nobody gets the rest, and that of an event stream has no end.
            await self._send({"type": "http.response.body"})
            raise ClientDisconnect
        await self._send(message)


def _check_encoding(part: bytes) -> None:
    """Raises Malformed for a part of the URL that is not percent-encoded UTF-8.

    Servers and frameworks put U+FFFD for what they cannot decode, which makes one name of many.
    """
    if b"%" not in part and part.isascii():
        return
    if not part.isascii() or _BROKEN_ESCAPE.search(part):
        raise Malformed(_NOT_A_URL)
    try:
        unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        raise Malformed(_NOT_A_URL) from error


def _most_bytes(scope: Scope) -> int:
    # Before routing there is only the path to tell an import by.
    importing = scope["method"] == "POST" and scope["path"].endswith("/imports")
    return MOST_BYTES_OF_IMPORT if importing else MOST_BYTES
