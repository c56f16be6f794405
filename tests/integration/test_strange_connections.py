"""Whoever connects, before any credential: what is held for him, for how long, and what he is told.

Over real sockets, byte by byte; a head has two tenths of a second here.
"""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.http.connection import MOST_HEAD, Connection
from tests.streams import Serving, serving

LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
KIB = 1024


class Impatient(Connection):
    head_within = 0.2


@pytest.fixture
async def served(login_url: str) -> AsyncIterator[Serving]:
    async with serving(login_url, webhooks=False, jobs=False) as served:
        yield served


@pytest.fixture
async def impatient(login_url: str) -> AsyncIterator[Serving]:
    async with serving(login_url, protocol=Impatient, webhooks=False, jobs=False) as served:
        yield served


@asynccontextmanager
async def connected(served: Serving) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()


async def answer(reader: StreamReader) -> tuple[int, dict[str, str], Any]:
    """The next answer: its status, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body)


async def refused(reader: StreamReader, status: int, code: str) -> dict[str, Any]:
    """A problem like every other, after which the connection is at its end."""
    told, headers, problem = await answer(reader)
    assert (told, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-request-id"] == problem["request_id"]
    assert await reader.read() == b""
    return dict(problem)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"X-Long: " + b"a" * 1024 * KIB, id="one header without an end"),
        pytest.param(b"".join(b"X-%d: aaaa\r\n" % n for n in range(20_000)), id="many headers"),
        pytest.param(b"X-Long: " + b"a" * 65 * KIB + b"\r\n\r\n", id="a complete head"),
    ],
)
async def test_a_head_larger_than_64_kib_is_refused(served: Serving, sent: bytes) -> None:
    async with connected(served) as (reader, writer):
        writer.write(LIVE + sent)
        await refused(reader, 431, "headers_too_large")


async def test_a_url_larger_than_64_kib_is_refused(served: Serving) -> None:
    async with connected(served) as (reader, writer):
        writer.write(b"GET /livez?" + b"a" * 200 * KIB)
        await refused(reader, 431, "headers_too_large")


async def test_a_head_just_below_that_is_read_however_it_comes(served: Serving) -> None:
    head = LIVE + b"X-Long: " + b"a" * (MOST_HEAD - 100) + b"\r\n\r\n"
    async with connected(served) as (reader, writer):
        writer.write(head)
        assert (await answer(reader))[0] == 200
        for start in range(0, len(head), 1000):
            writer.write(head[start : start + 1000])
            await writer.drain()
        assert (await answer(reader))[0] == 200


async def test_what_stands_between_the_parts_of_a_body_is_limited_too(
    served: Serving, identity: tuple[Principal, ApiKey]
) -> None:
    post = (
        b"POST /v1/opportunities HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n"
    ) % str(identity[1]).encode()
    for between in (b"1;x=", b"0\r\nX-Trailer: "):
        async with connected(served) as (reader, writer):
            writer.write(post)
            await writer.drain()
            writer.write(between + b"a" * 1024 * KIB)
            await refused(reader, 431, "headers_too_large")


async def test_a_large_body_is_no_large_head(
    served: Serving, identity: tuple[Principal, ApiKey]
) -> None:
    body = json.dumps({"pipeline": "none", "name": "x", "source": "y" * 500 * KIB}).encode()
    head = (
        b"POST /v1/opportunities HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    ) % (str(identity[1]).encode(), len(body))
    async with connected(served) as (reader, writer):
        writer.write((head + body) * 2 + LIVE + b"\r\n")
        assert [(await answer(reader))[0] for _ in range(3)] == [422, 422, 200]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9\r\n\r\n", LIVE + b": x\r\n\r\n"]
)
async def test_what_is_no_http_is_refused_with_a_problem(served: Serving, sent: bytes) -> None:
    async with connected(served) as (reader, writer):
        writer.write(sent)
        problem = await refused(reader, 400, "malformed")
        assert "HTTP/1.1" in problem["detail"]


async def test_nonsense_after_a_request_is_not_taken_for_its_answer(
    served: Serving, identity: tuple[Principal, ApiKey]
) -> None:
    async with connected(served) as (reader, writer):
        asked = b"GET /v1/pipelines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
        writer.write(asked % str(identity[1]).encode() + b"nonsense\r\n\r\n")
        assert await reader.read() == b""


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"G", LIVE, LIVE + b"X-Half: "])
async def test_who_connects_and_sends_no_whole_head_is_not_waited_for(
    impatient: Serving, sent: bytes
) -> None:
    async with connected(impatient) as (reader, writer):
        writer.write(sent)
        assert await reader.read() == b""


async def test_a_head_that_trickles_is_not_waited_for(impatient: Serving) -> None:
    async with connected(impatient) as (reader, writer):
        ended = asyncio.ensure_future(reader.read())
        writer.write(LIVE)
        while not (await asyncio.wait([ended], timeout=0.05))[0]:
            writer.write(b"X")
        assert await ended == b""


async def test_a_second_head_has_its_time_too_and_no_more(impatient: Serving) -> None:
    async with connected(impatient) as (reader, writer):
        for _ in range(3):
            writer.write(LIVE + b"\r\n")
            assert (await answer(reader))[0] == 200
        writer.write(LIVE)
        assert await reader.read() == b""


async def test_who_sends_on_when_answered_and_then_falls_silent_is_not_waited_for(
    impatient: Serving,
) -> None:
    async with connected(impatient) as (reader, writer):
        writer.write(b"POST /v1/opportunities HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert (await answer(reader))[0] == 401
        writer.write(b"123456789")
        assert await reader.read() == b""


async def test_a_slow_body_has_its_time(
    impatient: Serving, identity: tuple[Principal, ApiKey]
) -> None:
    async with connected(impatient) as (reader, writer), connected(impatient) as (silent, _):
        writer.write(
            b"POST /v1/opportunities HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: 2\r\n\r\n{" % str(identity[1]).encode()
        )
        assert await silent.read() == b""  # so long was waited for nothing
        writer.write(b"}")
        assert (await answer(reader))[0] == 422


async def test_more_connections_than_there_are_places_for_are_refused_at_once(
    login_url: str,
) -> None:
    async with serving(login_url, requests_at_once=1, streams_at_once=1, webhooks=False) as served:
        host, port = served.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(258)]
        held[0][1].write(LIVE + b"\r\n")
        assert (await answer(held[0][0]))[0] == 200
        async with connected(served) as (reader, _):
            problem = await refused(reader, 503, "overloaded")
            assert "connections" in problem["detail"]
        for _, writer in held:
            writer.transport.abort()
        async with asyncio.timeout(20):
            while True:  # places are free again
                async with connected(served) as (reader, writer):
                    writer.write(LIVE + b"\r\n")
                    if (await answer(reader))[0] == 200:
                        break
