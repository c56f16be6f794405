"""A connection as uvicorn has it, where uvicorn trusts whoever connects: before any credential.

A request's head is limited in size and in time, connections are limited in number, and what is not
HTTP is refused with a problem like everything else (docs/decisions/limits.md says how much and
why). An answer can break the connection off, which ASGI has no word for: whoever takes nothing more
leaves what was written in a buffer, and to close a connection is to wait until that is empty.
"""

import asyncio
import os
from typing import Final, cast

import structlog
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.http import problems
from app.http.guard import MOST_CONNECTIONS

BREAK_OFF: Final = "sluice.break_off"
"""The extension of the scope: a function that ends the connection, whatever it still holds."""
MOST_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers; or of what stands between two parts of a body."""
HEAD_WITHIN: Final = 10.0
"""Seconds in which a head must be complete, from the connection's making or the head's begin."""
LINGERING: Final = 2.0
"""Seconds for a refusal to be read. To close on what has not been read would take it back."""

log = structlog.get_logger("sluice.http")


class Connection(HttpToolsProtocol):
    """uvicorn's own, with that extension and within those limits."""

    head_within = HEAD_WITHIN
    _ending: asyncio.TimerHandle | None = None
    _is_refused = False
    _is_in_body = False
    _unsettled = 0  # bytes since a head was complete or some of a body came

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        is_full = len(self.connections) >= self.app_state.get(MOST_CONNECTIONS, float("inf"))
        super().connection_made(transport)
        if is_full:
            self._refuse("overloaded", "This worker has as many connections as it takes.")
            self.transport.close()  # to linger would be to have one more
        else:
            self._end_in(self.head_within)

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_over():
            return
        self._unsettled += len(data)
        super().data_received(data)
        if self._is_over():
            return
        if self._unsettled > MOST_HEAD:
            self._refuse_head()
        elif self._under_way() is None:
            if self._is_in_body:  # which nobody reads any more: it may come, but not pause
                self._unset_keepalive_if_required()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
            elif self._ending is None:
                self._end_in(self.head_within)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {BREAK_OFF: self.transport.abort}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._go_on()
        if self._unsettled > MOST_HEAD:  # with what came behind it
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MOST_HEAD:
                raise ValueError  # ends the parser, which then has it refused
        self._unsettled = 0
        self._is_in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unsettled = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unsettled = 0
        self._is_in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """In uvicorn's place, which would send a text."""
        if self._unsettled > MOST_HEAD:
            self._refuse_head()
        else:
            self._refuse("malformed", f"{msg} It breaks the rules of HTTP/1.1.")

    def _refuse_head(self) -> None:
        detail = f"The request's first line and headers are larger than {MOST_HEAD // 1024} KiB."
        self._refuse("headers_too_large", detail)

    def _refuse(self, code: str, detail: str) -> None:
        """Answer so, and end the connection when it was read."""
        self._is_refused = True
        self._go_on()
        request_id = os.urandom(12).hex()
        log.warning("connection.refused", code=code, request_id=request_id)
        if cycle := self._under_way():
            if self.pipeline or cycle.response_started or not cycle.more_body:
                self.transport.close()  # the refusal would be taken for the answer to another
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(_answer(code, detail, request_id))
        self.transport.write_eof()
        self._end_in(LINGERING)

    def _under_way(self) -> RequestResponseCycle | None:
        """The last request, if it has not been answered."""
        last = cast("RequestResponseCycle | None", self.cycle)
        return None if last is None or last.response_complete else last

    def _is_over(self) -> bool:
        return self._is_refused or self.transport.is_closing()

    def _end_in(self, seconds: float) -> None:
        self._ending = self.loop.call_later(seconds, self.transport.close)

    def _go_on(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None


def _answer(code: str, detail: str, request_id: str) -> bytes:
    """A problem as it goes over the wire, for what no application has seen."""
    nothing = Request({"type": "http", "state": {"request_id": request_id}})
    problem = problems.problem(nothing, code, detail)
    headers = [
        *problem.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return STATUS_LINE[problem.status_code] + lines + b"\r\n" + bytes(problem.body)
