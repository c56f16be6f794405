"""What the service answers is what its description says: status, headers, media type and body."""

import asyncio
import json
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.domain.access import Principal
from app.http import openapi
from app.main import create_app
from app.settings import load_settings
from app.storage.engine import Database
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.metric_routes import LISTS, opened_world

DEALS = "/v1/opportunities"
ANY = {"If-Match": "*"}
DEAL = {"pipeline": "sales", "name": "A deal"}
MAPPING = {"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}

# Those that every answer of a server bears, and those of the middleware, described in words.
GENERAL = {
    "content-length",
    "content-type",
    "cache-control",
    "content-security-policy",
    "referrer-policy",
    "x-content-type-options",
    "x-request-id",
}
LIMITS = {"ratelimit", "ratelimit-policy"}  # of every answer to a caller who is known
SOMETIMES = {"Link", "Idempotent-Replayed", "Accept-Encoding"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(openapi.text(create_app(load_settings())))  # type: ignore[no-any-return]


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


def operation(document: dict[str, Any], request: httpx.Request) -> dict[str, Any]:
    for path, item in sorted(document["paths"].items(), key=lambda each: each[0].count("{")):
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path))
        if re.fullmatch(pattern, request.url.path) and request.method.lower() in item:
            return item[request.method.lower()]  # type: ignore[no-any-return]
    raise AssertionError(f"{request.method} {request.url.path} is not described")


def holds(document: dict[str, Any], answer: httpx.Response, status: int) -> httpx.Response:
    """Checks an answer against the description; gives it back."""
    assert answer.status_code == status, answer.text
    asked = operation(document, answer.request)
    described = asked["responses"][str(status)]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]

    headers = {name.lower() for name in described.get("headers", {})}
    assert set(answer.headers) - GENERAL <= headers
    assert (set(answer.headers) >= LIMITS) is bool(asked["security"] and status != 401)
    always = {name.lower() for name in set(described.get("headers", {})) - SOMETIMES} - LIMITS
    assert always <= set(answer.headers)

    if "content" not in described:
        assert answer.content == b""
        return answer
    media = answer.headers["content-type"].partition(";")[0]
    schema = described["content"][media]["schema"]
    body = answer.json() if media.endswith(("/json", "+json")) else answer.text
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(body)] == []
    return answer


async def test_deals_are_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any], sales: None
) -> None:
    key = {"Idempotency-Key": "once"}
    deal = holds(document, await client.post(DEALS, json=DEAL, headers=key), 201).json()
    again = holds(document, await client.post(DEALS, json=DEAL, headers=key), 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    one = f"{DEALS}/{deal['id']}"
    holds(document, await client.get(one), 200)
    holds(document, await client.get(one, headers={"If-None-Match": '"1"'}), 304)
    merge = {**ANY, "Content-Type": "application/merge-patch+json"}
    holds(document, await client.patch(one, content=b'{"owner":"mia"}', headers=merge), 200)
    holds(document, await client.patch(one, json={"owner": "tom"}), 428)
    holds(document, await client.patch(one, json={}, headers={"If-Match": '"9"'}), 412)
    holds(document, await client.patch(one, json={"owner": 1}, headers=ANY), 422)
    by_external_id = f"{DEALS}/by-external-id/CRM-1"
    holds(document, await client.put(by_external_id, json=DEAL), 201)
    holds(document, await client.put(by_external_id, json=DEAL), 200)
    new = {"If-None-Match": "*"}
    holds(document, await client.put(by_external_id, json=DEAL, headers=new), 412)
    first = holds(document, await client.get(DEALS, params={"limit": 1}), 200)
    assert 'rel="next"' in first.headers["Link"]
    holds(document, await client.get(f"{one}/changes"), 200)
    holds(document, await client.delete(one, headers=ANY), 204)
    holds(document, await client.get(one), 404)


async def test_the_audit_log_is_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    for key in ("sales", "hiring"):
        await client.post("/v1/pipelines", json={"key": key, "template": "b2b"})
    first = holds(document, await client.get("/v1/audit-log", params={"limit": 1}), 200)
    assert 'rel="next"' in first.headers["Link"]
    (entry,) = first.json()["items"]
    holds(document, await client.get(f"/v1/audit-log/{entry['id']}"), 200)
    holds(document, await client.get("/v1/audit-log/export"), 200)
    holds(document, await client.get(f"/v1/audit-log/{uuid4()}"), 404)
    holds(document, await client.get("/v1/audit-log", params={"cursor": "x"}), 400)
    holds(document, await client.get("/v1/audit-log/export", params={"limit": 1}), 422)
    body = {"name": "n", "subject": "s", "scopes": ["audit:read"], "row_scope": "own"}
    key = (await client.post("/v1/api-keys", json=body)).json()["key"]
    narrow = {"Authorization": f"Bearer {key}"}
    holds(document, await client.get("/v1/audit-log/export", headers=narrow), 403)


async def test_a_pipeline_that_a_body_or_a_query_names_is_described_as_not_found(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    holds(document, await client.post(DEALS, json=DEAL), 404)
    for listed in (DEALS, "/v1/transitions", "/v1/events", "/v1/idle-flags"):
        holds(document, await client.get(listed, params={"pipeline": "sales"}), 404)


async def test_moves_are_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any], sales: None
) -> None:
    deal = await open_deal(client)
    log = f"{DEALS}/{deal['id']}/transitions"
    holds(document, await client.get(f"{DEALS}/{deal['id']}/next-stages"), 200)
    moved = holds(document, await client.post(log, json={"to_stage": "offer"}), 201).json()
    holds(document, await client.post(log, json={"to_stage": "offer"}), 409)
    row = f"/v1/transitions/{moved['transition']['id']}"
    holds(document, await client.get(row), 200)
    holds(document, await client.post(f"{row}/void", json={"reason": "A slip."}), 200)
    holds(document, await client.get(log), 200)
    moves = [{"opportunity_id": deal["id"], "to_stage": stage} for stage in ("talks", "talks")]
    holds(document, await client.post("/v1/transitions/batch", json={"moves": moves[:1]}), 200)


async def test_pipelines_are_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    holds(document, await client.get("/v1/pipeline-templates"), 200)
    made = await client.post("/v1/pipelines", json={"key": "b2b", "template": "b2b"})
    read = holds(document, made, 201).json()
    one = "/v1/pipelines/b2b"
    holds(document, await client.get(one), 200)
    holds(document, await client.get("/v1/pipelines"), 200)
    copy = {**read, "key": "copy"}
    holds(document, await client.put("/v1/pipelines/copy", json=copy), 201)
    holds(document, await client.put("/v1/pipelines/copy", json=copy, headers=ANY), 200)
    holds(document, await client.patch(one, json={"name": "B2B"}, headers=ANY), 200)
    stage = {"key": "legal", "name": "Legal", "kind": "open"}
    holds(document, await client.post(f"{one}/stages", json=stage), 201)
    holds(document, await client.get(f"{one}/revisions"), 200)
    holds(document, await client.get(f"{one}/revisions/1"), 200)
    holds(document, await client.get(f"{one}/revisions/01"), 404)


async def test_imports_flags_and_events_are_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any], sales: None
) -> None:
    taken = await client.post(
        "/v1/pipelines/sales/imports",
        data={"mapping": json.dumps(MAPPING)},
        files={"file": ("deals.csv", "deal,stage,at\n")},
    )
    holds(document, taken, 202)
    holds(document, await client.get(taken.headers["Location"]), 200)
    holds(document, await client.post("/v1/idle-scans"), 200)
    holds(document, await client.get("/v1/events"), 200)
    acknowledged = await client.post(f"/v1/idle-flags/{uuid4()}/acknowledgement")
    holds(document, acknowledged, 404)


async def test_webhooks_are_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    endpoints, key = "/v1/webhook-endpoints", {"Idempotency-Key": "once"}
    asked = {"url": "http://127.0.0.1:9/hook"}
    made = holds(document, await client.post(endpoints, json=asked, headers=key), 201)
    holds(document, await client.post(endpoints, json=asked, headers=key), 201)
    holds(document, await client.post(endpoints, json={"url": "http://10.0.0.1/"}), 422)
    one = made.headers["Location"]
    holds(document, await client.get(endpoints), 200)
    holds(document, await client.get(one), 200)
    holds(document, await client.patch(one, json={"enabled": True}), 428)
    holds(document, await client.post(f"{one}/secret", json={}), 200)
    tested = holds(document, await client.post(f"{one}/test"), 201)
    holds(document, await client.get(tested.headers["Location"]), 200)
    holds(document, await client.post(f"{tested.headers['Location']}/replay"), 201)
    first = holds(document, await client.get(f"{one}/deliveries", params={"limit": 1}), 200)
    assert 'rel="next"' in first.headers["Link"]
    stretch = {"after": tested.json()["position"]}
    holds(document, await client.post(f"{one}/replays", json=stretch), 200)
    holds(document, await client.post(f"{one}/replays", json={"after": "here"}), 400)
    holds(document, await client.patch(one, json={"enabled": False}, headers=ANY), 200)
    holds(document, await client.post(f"{one}/test"), 409)
    holds(document, await client.get(one), 200)
    holds(document, await client.delete(one, headers=ANY), 204)
    holds(document, await client.get(one), 404)


async def test_figures_and_what_is_behind_them_are_answered_as_described(
    database: Database, login_url: str, document: dict[str, Any]
) -> None:
    async with opened_world(database, login_url) as world:
        for route in world.routes:
            asked = route.asked("sales")
            async with asyncio.timeout(20):  # the last change is not settled while others write
                while True:
                    counted = holds(document, await world.client.get(asked), 200)
                    held = {"If-None-Match": counted.headers["ETag"]}
                    unchanged = await world.client.get(asked, headers=held)
                    if unchanged.status_code == 304:
                        break
            holds(document, unchanged, 304)
            grouped = 422 if route.path.endswith(("/curve", "/trend", LISTS)) else 200
            holds(document, await world.ask(route, "sales", ("group_by", "owner")), grouped)
            holds(document, await world.ask(route, "nowhere"), 404)


async def test_definitions_of_metrics_are_answered_as_described(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    for path in ("/v1/metric-definitions", "/v1/metric-definitions/funnel"):
        told = holds(document, await client.get(path), 200)
        held = {"If-None-Match": told.headers["ETag"]}
        holds(document, await client.get(path, headers=held), 304)
    holds(document, await client.get("/v1/metric-definitions/turnover"), 404)


async def test_what_no_operation_reads_is_refused_as_described(
    client: httpx.AsyncClient, document: dict[str, Any], operating: dict[str, str]
) -> None:
    holds(document, await client.get("/v1/me"), 200)
    holds(document, await client.get("/v1/me?foo=1"), 422)
    coded = {"Content-Encoding": "gzip"}
    holds(document, await client.post("/v1/idle-scans", content=b"{}", headers=coded), 415)
    holds(document, await client.post("/v1/idle-scans", content=b" " * (1 << 20 | 1)), 413)
    nameless = {"Authorization": "Bearer nobody"}
    holds(document, await client.get("/v1/me", headers=nameless), 401)
    holds(document, await client.get("/metrics", headers=operating), 200)
    holds(document, await client.get("/readyz"), 200)
