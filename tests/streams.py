"""Following event streams over real sockets: a service in this process, and a small client.

An ASGI transport hands an answer over when it is complete, which a stream never is.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from app.domain.api_key import ApiKey
from app.http.broadcast import Broadcast
from app.http.connection import Connection
from app.main import create_app, leave
from app.settings import Settings


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals of the test run alone."""
        yield


@dataclass(frozen=True, slots=True)
class Serving:
    """A service that answers at `url`."""

    url: str
    app: FastAPI

    @property
    def broadcast(self) -> Broadcast:
        broadcast: Broadcast = self.app.state.broadcast
        return broadcast

    def client(self, key: ApiKey) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)


@asynccontextmanager
async def serving(
    url: str, *, protocol: type[Connection] = Connection, **settings: Any
) -> AsyncIterator[Serving]:
    """The application on a database, on a free port of this machine."""
    asked = {"idle_scan_interval": timedelta(hours=1), **settings}
    app = create_app(Settings(database_url=url, **asked))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(app, http=protocol, ws="none", log_config=None, access_log=False)
    server = _Server(config)
    running = asyncio.create_task(server.serve([listener]))
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    try:
        yield Serving(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
    finally:
        leave(app)
        server.should_exit = True
        await running


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a blank line ends. `id` is the last one that was sent, as clients keep it."""

    id: str | None
    event: str | None = None
    data: Any = None
    comment: str | None = None
    retry: str | None = None


class Stream:
    """One open stream, read message by message."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last_id: str | None = None
        self._lines = answer.aiter_lines()

    async def message(self) -> Message | None:
        """The next message, comments included; None: the stream has ended."""
        said: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                break
            name, _, value = line.partition(":")
            said[name or "comment"] = value.removeprefix(" ")
        else:
            return None
        self.last_id = said.get("id", self.last_id)
        data = json.loads(said["data"]) if "data" in said else None
        return Message(
            id=self.last_id,
            event=said.get("event"),
            data=data,
            comment=said.get("comment"),
            retry=said.get("retry"),
        )

    async def event(self) -> dict[str, Any]:
        """The next event, within a minute."""
        async with asyncio.timeout(60):
            while True:
                message = await self.message()
                assert message is not None, "the stream has ended"
                if message.data is not None:
                    assert message.event == message.data["type"]
                    assert message.id == message.data["position"]
                    event: dict[str, Any] = message.data
                    return event

    async def end(self) -> None:
        """Wait until the stream ends, which it does within 20 seconds without another event."""
        async with asyncio.timeout(20):
            while (message := await self.message()) is not None:
                assert message.data is None, message

    async def events(self, count: int) -> list[dict[str, Any]]:
        return [await self.event() for _ in range(count)]


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, *, last: str | None = None, **query: Any
) -> AsyncIterator[Stream]:
    """An open stream, of which the first message has come: it follows from here on."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", "/v1/events/stream", params=query, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        opened = Stream(answer)
        first = await opened.message()
        assert first is not None
        assert first.id is not None
        assert first.data is None
        yield opened
