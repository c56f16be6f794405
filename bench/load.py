"""Callers that move deals back and forth, in a process of their own: as lean as Python allows.

Each connection has deals of its own and moves them in turn, one request at a time. Reads one JSON
document (`Load`) and prints another (`Taken`).

    python -m bench.load < load.json
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from time import perf_counter, process_time
from typing import cast
from urllib.parse import urlsplit

import uvloop

STAGES = ("contact", "prospect")


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: for so many seconds, over so many connections, as whom, about which deals."""

    url: str
    key: str
    connections: int
    seconds: float
    deals: Sequence[str]
    run: str
    """Makes this run's idempotency keys its own."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came back. Latencies are in milliseconds, `cpu` is the share of a core used here."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    statuses: dict[str, int]


def take(load: Load) -> Taken:
    """Send the load from another process. Raises RuntimeError where any move failed."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(load)).encode(),
        capture_output=True,
        check=True,
        timeout=load.seconds + 30,
    )
    taken = Taken(**json.loads(done.stdout))
    if set(taken.statuses) != {"201"}:
        raise RuntimeError(f"{load.url} answered {taken.statuses}")
    return taken


class _Caller(asyncio.Protocol):
    """One connection: sends the next move as soon as the last one is answered."""

    def __init__(self, requests: Iterator[bytes], ends_at: float, seen: "_Seen") -> None:
        self._requests, self._ends_at, self._seen = requests, ends_at, seen
        self._answer = b""
        self._sent_at = 0.0
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._answer.lower().find(b"content-length: ", 0, end)
        length = int(self._answer[at + 16 : self._answer.index(b"\r\n", at)])
        if len(self._answer) < end + 4 + length:
            return
        now = perf_counter()
        self._seen.latencies.append(now - self._sent_at)
        self._seen.statuses[self._answer[9:12].decode()] += 1
        self._answer = b""
        if now < self._ends_at:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._seen.statuses[f"{type(exc).__name__}"] += 1
        self.left.set_result(None)

    def _send(self) -> None:
        self._sent_at = perf_counter()
        self._transport.write(next(self._requests))


class _Seen:
    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()


def _requests(load: Load, caller: int) -> Iterator[bytes]:
    """Every move of one connection, without an end: its deals in turn, there and back again."""
    deals = load.deals[caller :: load.connections]
    host = urlsplit(load.url).netloc
    for n in count():
        deal = deals[n % len(deals)]
        body = json.dumps({"to_stage": STAGES[n // len(deals) % 2]})
        yield (
            f"POST /v1/opportunities/{deal}/transitions HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {load.key}\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {load.run}-{caller}-{n}\r\nContent-Length: {len(body)}\r\n"
            f"Accept: */*\r\n\r\n{body}"
        ).encode()


async def _run(load: Load) -> Taken:
    seen = _Seen()
    loop = asyncio.get_running_loop()
    address = urlsplit(load.url)
    assert address.hostname is not None
    assert address.port is not None
    began, cpu = perf_counter(), process_time()
    callers = [
        _Caller(_requests(load, n), began + load.seconds, seen) for n in range(load.connections)
    ]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, address.hostname, address.port)  # type: ignore[misc] # mypy cannot type a lambda's default
    await asyncio.gather(*(caller.left for caller in callers))
    took = perf_counter() - began
    latencies = sorted(seen.latencies)
    return Taken(
        per_second=len(latencies) / took,
        p50=latencies[len(latencies) // 2] * 1000,
        p99=latencies[len(latencies) * 99 // 100] * 1000,
        cpu=(process_time() - cpu) / took,
        statuses=dict(seen.statuses),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_run(Load(**json.load(sys.stdin)))))))
