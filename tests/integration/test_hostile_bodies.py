"""Bodies that are too long, too deep, too many-membered: a clear 4xx, over a real socket.

Each is sent whole and in chunks without a length, so that what counts is what has come.
"""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from app.actions.manage_keys import issue_key
from app.domain.access import Principal, RowScope, Scope
from app.domain.api_key import ApiKey
from app.http.strictness import LARGE, MOST_MEMBERS
from app.storage.access import NewKey
from app.storage.engine import Database
from tests.callers import sighted
from tests.deals import DEALS
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.streams import serving

DEEP = 100_000
KEYS = b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}"
IMPORTS = "/v1/pipelines/sales/imports"
MAPPING = (
    b'Content-Disposition: form-data; name="mapping"',
    json.dumps({"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}).encode(),
)
FILE = (b'Content-Disposition: form-data; name="file"; filename="a.csv"', b"deal,stage,at\n")
AUDITOR = NewKey(name="audit", subject="audit", scopes=frozenset({Scope.AUDIT_READ}))
FORM = {"content-type": "multipart/form-data; boundary=xyz"}


@pytest.fixture
async def caller(
    database: Database, identity: tuple[Principal, ApiKey], login_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    principal, key = identity
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    async with serving(login_url, webhooks=False) as served, served.client(key) as client:
        yield client


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


async def sent(
    client: httpx.AsyncClient, method: str, path: str, body: bytes, **headers: str
) -> httpx.Response:
    """Sends the body whole and in chunks; both are answered alike."""
    asked = {"content-type": "application/json", "if-match": "*"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    whole = await client.request(method, path, content=body, headers=asked)
    parts = await client.request(method, path, content=chunks(body), headers=asked)
    assert (parts.status_code, told(parts)) == (whole.status_code, told(whole))
    return whole


def told(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


def refused(answer: httpx.Response, status: int, code: str) -> list[tuple[str, str]]:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    return [(error["pointer"], error["code"]) for error in problem["errors"]]


def writes(deal: str) -> Iterator[tuple[str, str]]:
    yield "POST", DEALS
    yield "PATCH", f"{DEALS}/{deal}"
    yield "PUT", f"{DEALS}/by-external-id/x"
    yield "POST", f"{DEALS}/{deal}/transitions"
    yield "POST", "/v1/transitions/batch"
    yield "PUT", "/v1/pipelines/sales"
    yield "POST", "/v1/pipelines/sales/idle/preview"
    yield "POST", "/v1/idle-scans"


async def test_a_body_of_nothing_but_depth_is_no_json_that_is_read_here(
    caller: httpx.AsyncClient,
) -> None:
    lists = b'{"name":' + b"[" * DEEP + b"]" * DEEP + b"}"
    objects = b'{"name":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}"
    for method, path in writes((await open_deal(caller))["id"]):
        for body in (lists, objects, b"[" * 1_000_000):
            refused(await sent(caller, method, path, body), 400, "malformed")


async def test_a_number_of_a_million_digits_is_refused(caller: httpx.AsyncClient) -> None:
    for method, path in writes((await open_deal(caller))["id"]):
        huge = b'{"name":' + b"9" * 1_000_000 + b"}"
        refused(await sent(caller, method, path, huge), 400, "malformed")
        beyond = b'{"probability":1' + b"0" * 500_000 + b".5e999999}"
        refused(await sent(caller, method, path, beyond), 422, "invalid")


async def test_a_body_of_too_many_members_is_refused_before_each_is_a_fault(
    caller: httpx.AsyncClient,
) -> None:
    for method, path in writes((await open_deal(caller))["id"]):
        errors = refused(await sent(caller, method, path, KEYS), 422, "invalid")
        if path == "/v1/idle-scans":  # takes no fields at all
            assert len(errors) == 100
        else:
            assert errors == [("", "too_long")]


async def test_members_are_counted_wherever_they_stand(caller: httpx.AsyncClient) -> None:
    moves = [{f"k{n}": 1 for n in range(100)} for _ in range(MOST_MEMBERS // 100)]
    body = json.dumps({"moves": moves}, separators=(",", ":")).encode()
    errors = refused(await sent(caller, "POST", "/v1/transitions/batch", body), 422, "invalid")
    assert errors == [("", "too_long")]


async def test_a_large_batch_of_moves_is_not_refused_for_its_size(
    caller: httpx.AsyncClient,
) -> None:
    deal = await open_deal(caller)
    move = {"opportunity_id": deal["id"], "to_stage": "offer", "note": "as told " * 8}
    body = json.dumps({"moves": [move] * 1_000}).encode()
    assert LARGE < len(body) < 1024 * 1024
    answer = await caller.post(
        "/v1/transitions/batch", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text


async def test_a_body_over_a_mebibyte_is_refused_wherever_it_goes(
    caller: httpx.AsyncClient,
) -> None:
    for method, path in writes((await open_deal(caller))["id"]):
        body = b" " * (1024 * 1024 + 1)
        refused(await sent(caller, method, path, body), 413, "payload_too_large")


def form(*parts: tuple[bytes, bytes]) -> bytes:
    written = (b"--xyz\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return b"".join(written) + b"--xyz--\r\n"


def field(name: str, content: bytes = b"1") -> tuple[bytes, bytes]:
    return b'Content-Disposition: form-data; name="%b"' % name.encode(), content


async def test_an_import_of_many_parts_is_refused_before_they_fill_the_memory(
    caller: httpx.AsyncClient,
) -> None:
    many = form(MAPPING, FILE, *(field(f"f{n}") for n in range(5_000)))
    large = form(MAPPING, *(field(f"f{n}", b"1" * 1_000_000) for n in range(30)), FILE)
    files = form(MAPPING, FILE, FILE, FILE)
    for body, reason in ((many, "fields"), (large, "fields"), (files, "files")):
        answer = await sent(caller, "POST", IMPORTS, body, **FORM)
        refused(answer, 400, "malformed")
        assert f"Too many {reason}" in answer.json()["detail"]


async def test_a_part_that_comes_twice_or_that_nobody_asked_for_is_refused(
    caller: httpx.AsyncClient,
) -> None:
    twice = await sent(caller, "POST", IMPORTS, form(MAPPING, MAPPING, FILE), **FORM)
    assert refused(twice, 422, "invalid") == [("/mapping", "duplicate")]
    other = await sent(caller, "POST", IMPORTS, form(MAPPING, FILE, field("owner")), **FORM)
    assert refused(other, 422, "invalid") == [("/owner", "unknown_field")]


async def test_a_part_that_is_too_large_or_has_too_much_of_a_head_is_refused(
    caller: httpx.AsyncClient,
) -> None:
    head, content = MAPPING
    for body in (
        form((head, b" " * (1024 * 1024 + 1)), FILE),
        form((head + b'; x="' + b"y" * 1_000_000 + b'"', content), FILE),
        form((head + b"".join(b"\r\nX-%d: y" % n for n in range(50_000)), content), FILE),
        form((b"Content-Type: text/plain", content), FILE),
        b"nothing like a form" * 1_000,
    ):
        answer = await sent(caller, "POST", IMPORTS, body, **FORM)
        refused(answer, 400, "malformed")
        assert answer.json()["detail"].startswith("The form could not be read: ")


async def test_a_mapping_of_nothing_but_depth_is_refused(caller: httpx.AsyncClient) -> None:
    for content in (b"[" * DEEP, b'{"shape":' + b"9" * DEEP + b"}"):
        body = form((MAPPING[0], content), FILE)
        refused(await sent(caller, "POST", IMPORTS, body, **FORM), 400, "malformed")
    many = await sent(caller, "POST", IMPORTS, form((MAPPING[0], KEYS), FILE), **FORM)
    assert refused(many, 422, "invalid") == [("/mapping/shape", "required")]


async def by_hand(client: httpx.AsyncClient, head: str) -> tuple[StreamReader, StreamWriter]:
    """A connection on which a request to import was begun, with this in its head."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        f"POST {IMPORTS} HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Authorization: {client.headers['Authorization']}\r\n"
        f"Content-Type: {FORM['content-type']}\r\n{head}\r\n\r\n".encode()
    )
    return reader, writer


async def test_an_import_that_says_it_is_larger_than_it_may_be_is_not_waited_for(
    caller: httpx.AsyncClient,
) -> None:
    reader, writer = await by_hand(caller, f"Content-Length: {256 * 1024 * 1024 + 1}")
    writer.write(b"--xyz\r\n")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("lacking", ["the scope", "sight of all deals"])
async def test_who_may_not_import_is_told_so_before_the_file_is_sent(
    database: Database,
    identity: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    lacking: str,
) -> None:
    principal, _ = identity
    key = (
        await sighted(database, principal, RowScope.OWN)
        if lacking == "sight of all deals"
        else await issue_key(database, principal.workspace_id, AUDITOR)
    )
    caller.headers["Authorization"] = f"Bearer {key}"
    reader, writer = await by_hand(caller, "Transfer-Encoding: chunked")
    writer.write(b"7\r\n--xyz\r\n\r\n")
    try:
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
    finally:  # the service waits for whoever sends
        writer.close()
        await writer.wait_closed()


async def test_who_may_not_write_is_told_so_whatever_was_sent(
    database: Database, identity: tuple[Principal, ApiKey], caller: httpx.AsyncClient
) -> None:
    deal = (await open_deal(caller))["id"]
    key = await issue_key(database, identity[0].workspace_id, AUDITOR)
    caller.headers["Authorization"] = f"Bearer {key}"
    for method, path in writes(deal):
        refused(await sent(caller, method, path, b"{"), 403, "forbidden")
        xml = await sent(caller, method, path, b"<x/>", content_type="text/xml")
        refused(xml, 403, "forbidden")
    for path in (DEALS, f"{DEALS}/{deal}", "/v1/events"):
        refused(await caller.get(path, params={"no_such": "1"}), 403, "forbidden")


async def test_who_hangs_up_in_the_middle_of_a_body_is_no_failure_and_leaves_no_place_behind(
    caller: httpx.AsyncClient, operating: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await by_hand(caller, "Content-Length: 1000")
    writer.write(form(MAPPING))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    left = 'route="/v1/pipelines/{pipeline}/imports",status="499"'
    async with asyncio.timeout(20):
        while left not in (figures := (await caller.get("/metrics", headers=operating)).text):
            pass
    assert 'status="500"' not in figures
    assert "sluice_http_requests_in_progress 0.0" in figures
    assert "request.failed" not in caplog.text
