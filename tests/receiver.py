"""A receiver of webhooks on this machine: keeps what it is sent, answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    """One request, its header's names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


def saying(status: int, body: str = "", **headers: str) -> bytes:
    """An answer as it is on the wire; `retry_after=` is `Retry-After:`."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


@dataclass
class Receiver:
    """`answers` are given in turn, the last one for ever; `connections` counts who knocked."""

    port: int = 0
    scheme: str = "http"
    answers: list[bytes] = field(default_factory=lambda: [saying(204)])
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    answered: int = 0
    hold: asyncio.Event | None = None  # answers wait for it
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def has(self, count: int) -> list[Received]:
        """What was received, once it is so many."""
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def keeps_waiting(self, count: int) -> None:
        """Return when so many requests are there without an answer."""
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: len(self.received) - self.answered >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            async with self._more:
                self.received.append(Received(head[0].split()[1], headers, body))
                self._more.notify_all()
            if self.hold is not None:
                await self.hold.wait()
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
            self.answered += 1
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender has gone, as it may
        finally:
            writer.close()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of 127.0.0.1 for as long as this lasts."""
    receiver = Receiver(scheme="http" if tls is None else "https")
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        if receiver.hold is not None:
            receiver.hold.set()
        server.close()
        await server.wait_closed()
