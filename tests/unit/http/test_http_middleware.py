"""What the outer layers do for every request: id, log, counters, headers, limits, last net."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest

Client = httpx.AsyncClient
IsProblem = Callable[[httpx.Response, str], dict[str, Any]]
MakeApp = Callable[..., FastAPI]
ID = "01980000-0000-7000-8000-000000000000"


async def post(client: Client, body: bytes, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"content-type": "application/json"} | given
    return await client.post("/v1/gadgets", content=body, headers=sent)


async def test_a_refusal_outside_of_routes_is_a_problem_too(
    client: Client, is_problem: IsProblem
) -> None:
    response = await client.get("/v1/gadgets", headers={"authorization": "Bearer wrong"})
    is_problem(response, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_body_over_one_mebibyte_is_refused_however_it_is_announced(
    client: Client, is_problem: IsProblem
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    headers = {"content-type": "application/json"}
    for content in (b" " * (1024 * 1024 + 1), chunks()):
        response = await client.post("/v1/gadgets", content=content, headers=headers)
        is_problem(response, "payload_too_large")
    exactly = b"{}" + b" " * (1024 * 1024 - 2)
    assert (await post(client, exactly)).status_code == 201
    lying = await post(client, b"{}", content_length="99999999999999999999999999")
    is_problem(lying, "payload_too_large")


@pytest.mark.parametrize("name", ["%FF", "%ED%A0%80", "%", "%4", "%zz"])
async def test_a_url_that_is_no_percent_encoded_utf_8_is_refused(
    client: Client, is_problem: IsProblem, name: str
) -> None:
    for target in (f"/v1/gadgets/{name}", f"/v1/gadgets?name={name}"):
        url = httpx.URL("http://sluice.test").copy_with(raw_path=target.encode())
        is_problem(await client.get(url), "malformed")


async def test_an_import_may_be_larger(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    response = await client.post("/v1/pipelines/sales/imports", content=chunks())
    assert response.status_code == 204


async def test_the_unexpected_says_nothing_of_itself_but_its_request_id(
    client: Client, is_problem: IsProblem
) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logged:
        response = await client.get("/v1/broken", headers={"x-request-id": "trace-42"})
    body = is_problem(response, "internal_error")
    assert body["request_id"] == "trace-42"
    assert "hunter2" not in response.text
    (failure,) = (line for line in logged if line["event"] == "request.failed")
    assert failure["request_id"] == "trace-42"
    assert "hunter2" in str(failure["exc_info"])


async def test_half_an_answer_is_broken_off_rather_than_ended_well(client: Client) -> None:
    with structlog.testing.capture_logs(), pytest.raises(RuntimeError, match="midway"):
        await client.get("/v1/broken-stream")


async def test_a_request_id_is_taken_when_sane_and_made_otherwise(client: Client) -> None:
    async def answered(asked: str | bytes | None) -> str:
        headers = {} if asked is None else {"x-request-id": asked}
        response = await client.get("/v1/gadgets", headers=headers)
        return str(response.headers["x-request-id"])

    assert await answered("a.B-7_c:9") == "a.B-7_c:9"
    made = {
        await answered(asked) for asked in (None, "", "a b", "-x", "x" * 129, 'x"', "é".encode())
    }
    assert len(made) == 7
    assert all(re.fullmatch("[0-9a-f]{24}", each) for each in made)


async def test_each_request_leaves_one_line_in_the_log(client: Client) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logged:
        await client.get(f"/v1/gadgets/{ID}", headers={"x-request-id": "r1"})
        await client.get("/v1/nothing?key=slc_live_secret", headers={"x-request-id": "r2"})
    first, second = logged
    assert first.pop("ms") >= 0
    assert first == {
        "event": "request",
        "log_level": "info",
        "request_id": "r1",
        "method": "GET",
        "route": "/v1/gadgets/{gadget}",
        "status": 200,
        "principal": "key:1",
        "workspace": "acme",
    }
    assert (second["route"], second["status"]) == ("unmatched", 404)
    assert "slc_live" not in str(second)


async def test_what_answers_get_answers_head(client: Client, registry: CollectorRegistry) -> None:
    assert (await client.head("/v1/gadgets")).status_code == 200
    assert (await client.head("/nothing")).status_code == 404
    labels = {"method": "HEAD", "route": "/v1/gadgets", "status": "200"}
    assert registry.get_sample_value("sluice_http_requests_total", labels) == 1


async def test_requests_are_counted_by_route_in_a_registry_of_the_application(
    client: Client, registry: CollectorRegistry, make_app: MakeApp
) -> None:
    make_app(CollectorRegistry())  # a second application in the process disturbs nothing
    for number in range(3):
        await client.get(f"/v1/gadgets/{ID[:-1]}{number}")
    await client.request("BREW", "/v1/gadgets")
    labels = {"method": "GET", "route": "/v1/gadgets/{gadget}"}
    count = registry.get_sample_value("sluice_http_requests_total", labels | {"status": "200"})
    assert count == 3
    assert registry.get_sample_value("sluice_http_request_seconds_count", labels) == 3
    assert 'method="OTHER",route="/v1/gadgets",status="405"' in generate_latest(registry).decode()


async def test_every_answer_bears_the_security_headers(client: Client) -> None:
    for path in ("/v1/gadgets", "/nothing", "/v1/broken", "/docs", "/openapi.json"):
        with structlog.testing.capture_logs():  # the console's way to show a failure takes seconds
            headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "private, no-cache"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert len(headers.get_list("content-security-policy")) == 1


async def test_other_origins_are_let_in_only_when_configured(
    client: Client, is_problem: IsProblem, make_app: MakeApp
) -> None:
    origin = {"origin": "https://crm.example"}
    asked = origin | {"access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in (await client.get("/docs", headers=origin)).headers
    is_problem(await client.options("/v1/gadgets", headers=asked), "method_not_allowed")

    app = make_app(CollectorRegistry(), ("https://crm.example",))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sluice.test") as open_client:
        # A preflight bears no credential, and has to get past authentication.
        preflight = asked | {"authorization": "Bearer wrong"}
        allowed = await open_client.options("/v1/gadgets", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == "https://crm.example"
        with structlog.testing.capture_logs():
            broken = await open_client.get("/v1/broken", headers=origin)
        is_problem(broken, "internal_error")
        assert broken.headers["access-control-allow-origin"] == "https://crm.example"
        exposed = broken.headers["access-control-expose-headers"].split(", ")
        assert {"ETag", "RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed)
