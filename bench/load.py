"""Callers that move deals back and forth, in a process of their own: as lean as Python allows.

Each connection has deals of its own and moves them in turn, one request at a time: the next as
soon as the last is answered, or at random, so many a second. Reads one JSON document (`Load`) and
prints another (`Taken`).

    python -m bench.load < load.json
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, repeat
from random import Random
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
    stages: Sequence[str] = STAGES
    """Between which deals go: first to the one, then to the other."""
    pace: float | None = None
    """Moves a second of all connections together, due at the instants at which callers come who
    know nothing of each other (a Poisson process); None: as many as are answered. One that is due
    while its connection waits for an answer goes when that has come, and is timed from then on."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came back. Latencies are in milliseconds, `cpu` is the share of a core used here."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    statuses: dict[str, int]


class Sending:
    """A load on its way from another process, once its first move has been answered.

    Raises ValueError where there is not a deal for each connection.
    """

    def __init__(self, load: Load) -> None:
        if len(load.deals) < load.connections:
            raise ValueError(f"{load.connections} connections cannot share {len(load.deals)} deals")
        self._load = load
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)).encode())
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stopped(self) -> Taken:
        """Ask for no more, and see what came back."""
        self._process.terminate()
        return self.taken()

    def taken(self) -> Taken:
        """Wait for its end. Raises RuntimeError where any move failed."""
        assert self._process.stdout is not None
        with self._process:
            said = self._process.stdout.read()
        if self._process.returncode:
            raise RuntimeError("The load could not be sent.")
        taken = Taken(**json.loads(said))
        if set(taken.statuses) != {"201"}:
            raise RuntimeError(f"{self._load.url} answered {taken.statuses}")
        return taken


def take(load: Load) -> Taken:
    """Send the load from another process. Raises RuntimeError where any move failed."""
    return Sending(load).taken()


class _Caller(asyncio.Protocol):
    """One connection: sends the next move once it is due and the last one is answered.

    `gaps` are the seconds from when one is due to when the next is.
    """

    def __init__(self, requests: Iterator[bytes], gaps: Iterator[float], seen: "_Seen") -> None:
        self._requests, self._gaps, self._seen = requests, gaps, seen
        self._answer = b""
        self._sent_at = self._due = 0.0
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._due = perf_counter()
        self._send_next()

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
        if not self._seen.latencies:
            print(flush=True)  # says that the load is under way
        self._seen.latencies.append(now - self._sent_at)
        self._seen.statuses[self._answer[9:12].decode()] += 1
        self._answer = b""
        self._send_next()

    def _send_next(self) -> None:
        now = perf_counter()
        self._due += next(self._gaps)
        next_at = max(now, self._due)
        if next_at >= self._seen.ends_at:
            self._transport.close()
        elif next_at > now:
            asyncio.get_running_loop().call_later(next_at - now, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._seen.statuses[f"{type(exc).__name__}"] += 1
        self.left.set_result(None)

    def _send(self) -> None:
        self._sent_at = perf_counter()
        self._transport.write(next(self._requests))


class _Seen:
    """What the callers have seen, and until when they go on."""

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()


def _requests(load: Load, caller: int) -> Iterator[bytes]:
    """Every move of one connection, without an end: its deals in turn, there and back again."""
    deals = load.deals[caller :: load.connections]
    host = urlsplit(load.url).netloc
    for n in count():
        deal = deals[n % len(deals)]
        body = json.dumps({"to_stage": load.stages[n // len(deals) % 2]})
        yield (
            f"POST /v1/opportunities/{deal}/transitions HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {load.key}\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {load.run}-{caller}-{n}\r\nContent-Length: {len(body)}\r\n"
            f"Accept: */*\r\n\r\n{body}"
        ).encode()


def _gaps(load: Load, caller: int) -> Iterator[float]:
    """Of one connection, the same in every run."""
    if not load.pace:
        return repeat(0.0)
    random, pace = Random(caller), load.pace / load.connections
    return (random.expovariate(pace) for _ in count())


async def _run(load: Load) -> Taken:
    began, cpu = perf_counter(), process_time()
    seen = _Seen(began + load.seconds)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(seen, "ends_at", 0.0))
    address = urlsplit(load.url)
    assert address.hostname is not None
    assert address.port is not None
    callers = [_Caller(_requests(load, n), _gaps(load, n), seen) for n in range(load.connections)]
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
