"""What holds for every operation, whatever it is about: how a request must be written."""

import asyncio
import gzip
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from app.domain.access import Principal
from app.http.strictness import StrictRoute
from app.main import create_app
from app.settings import load_settings
from app.storage.engine import Database
from tests.asking import decided
from tests.deals import DEALS
from tests.factories import keep_pipeline, open_deal, sales_pipeline

DEAL = b'{"pipeline":"sales","name":"A deal"}'
JSON = {"content-type": "application/json"}

ID = "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a"  # of nothing; a fixed one, so that workers agree


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


def refused(answer: httpx.Response, status: int, code: str) -> list[tuple[str, str]]:
    """Checks the problem; gives its errors as (pointer, code)."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    return [(error["pointer"], error["code"]) for error in problem["errors"]]


def test_every_operation_of_the_api_takes_only_what_it_declares() -> None:
    lenient = {
        route.path_format
        for route in iter_route_contexts(create_app(load_settings()).routes)
        if (route.path_format or "").startswith("/v1/")
        and not isinstance(route.original_route, StrictRoute)
    }
    assert lenient == set()


@pytest.mark.parametrize("name", ["%ff", "%fe", "a%C3", "%ED%A0%80", "100%", "%zz"])
async def test_a_url_that_is_not_utf_8_names_nothing_rather_than_something_else(
    client: httpx.AsyncClient, sales: None, name: str
) -> None:
    raw = httpx.URL("http://127.0.0.1").copy_with(
        raw_path=f"{DEALS}/by-external-id/{name}".encode()
    )
    refused(await client.put(raw, content=DEAL, headers=JSON), 400, "malformed")
    raw = raw.copy_with(raw_path=f"{DEALS}?owner={name}".encode())
    refused(await client.get(raw), 400, "malformed")
    assert (await client.get(DEALS)).json()["items"] == []


async def test_a_url_of_any_language_is_read(client: httpx.AsyncClient, sales: None) -> None:
    path = f"{DEALS}/by-external-id/%E5%95%86%E6%9C%BA%20100%25"
    answer = await client.put(path, content=DEAL, headers=JSON)
    assert answer.status_code == 201
    assert answer.json()["external_id"] == "商机 100%"


@pytest.mark.parametrize(
    ("body", "status", "code", "errors"),
    [
        (b"{", 400, "malformed", []),
        (b"\xff", 400, "malformed", []),
        (b"[" * 100_000, 400, "malformed", []),
        (b"[]", 422, "invalid", [("", "wrong_type")]),
        (b'{"a/b":1}', 422, "invalid", [("/a~1b", "unknown_field")]),
    ],
)
async def test_an_operation_without_a_body_refuses_one(
    client: httpx.AsyncClient, body: bytes, status: int, code: str, errors: list[Any]
) -> None:
    for path in ("/v1/idle-scans", f"/v1/idle-flags/{ID}/acknowledgement"):
        answer = await client.post(path, content=body, headers=JSON)
        assert refused(answer, status, code) == errors


async def test_an_operation_without_a_body_takes_none_or_an_empty_object(
    client: httpx.AsyncClient,
) -> None:
    for body in (b"", b"{}", b" { } "):
        answer = await client.post("/v1/idle-scans", content=body, headers=JSON)
        assert answer.status_code == 200, answer.text
    form = {"content-type": "application/x-www-form-urlencoded"}  # of curl -d ''
    assert (await client.post("/v1/idle-scans", headers=form)).status_code == 200


async def test_a_coded_body_is_refused_and_told_what_would_be_read(
    client: httpx.AsyncClient, sales: None
) -> None:
    for coding, body in (("gzip", gzip.compress(DEAL)), ("br", DEAL)):
        for path in (DEALS, "/v1/idle-scans", "/v1/pipelines/sales/imports"):
            headers = {"content-encoding": coding}
            answer = await client.post(path, content=body, headers=headers)
            refused(answer, 415, "unsupported_media_type")
            assert answer.headers["Accept-Encoding"] == "identity"
    headers = {**JSON, "content-encoding": "identity"}
    assert (await client.post(DEALS, content=DEAL, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    "media",
    [
        "application/json; charset=latin1",
        "application/vnd.api+json",
        "application/merge-patch+json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "nonsense",
    ],
)
async def test_a_body_of_another_media_type_is_refused(
    client: httpx.AsyncClient, sales: None, media: str
) -> None:
    answer = await client.post(DEALS, content=DEAL, headers={"content-type": media})
    refused(answer, 415, "unsupported_media_type")
    assert answer.headers["Accept"] == "application/json"
    answer = await client.post(
        "/v1/pipelines/sales/imports", content=b"", headers={"content-type": media}
    )
    refused(answer, 415, "unsupported_media_type")
    assert answer.headers["Accept"] == "multipart/form-data"


async def test_json_in_utf_8_is_read_however_its_media_type_is_spelt(
    client: httpx.AsyncClient, sales: None
) -> None:
    for media in ("application/json;charset=UTF-8", 'Application/JSON; charset="utf-8"'):
        answer = await client.post(DEALS, content=DEAL, headers={"content-type": media})
        assert answer.status_code == 201, answer.text
    deal = await open_deal(client)
    for media in ("application/json", "application/merge-patch+json; charset=utf-8"):
        headers = {"content-type": media, "if-match": "*"}
        answer = await client.patch(f"{DEALS}/{deal['id']}", content=b"{}", headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (f"{DEALS}?limit=1&limit=2", ("?limit", "duplicate")),
        (f"{DEALS}?limit=1&limit=1", ("?limit", "duplicate")),
        (f"{DEALS}/{ID}?foo=1", ("?foo", "unknown_field")),
        (f"{DEALS}/{ID}/transitions?limit=1&limit=2", ("?limit", "duplicate")),
        ("/v1/me?foo=1", ("?foo", "unknown_field")),
        ("/v1/me?foo", ("?foo", "unknown_field")),
        (
            "/v1/pipelines/sales/metrics/funnel?as_of=2026-01-01&as_of=2026-02-01",
            ("?as_of", "duplicate"),
        ),
        (
            "/v1/pipelines/sales/metrics/funnel?from=2026-01-01&from=2026-01-02",
            ("?from", "duplicate"),
        ),
    ],
)
async def test_a_query_parameter_that_nobody_would_look_at_is_refused(
    client: httpx.AsyncClient, sales: None, target: str, error: tuple[str, str]
) -> None:
    assert refused(await client.get(target), 422, "invalid") == [error]


async def test_a_write_refuses_query_parameters_as_a_read_does(
    client: httpx.AsyncClient, sales: None
) -> None:
    answer = await client.post(f"{DEALS}?dry_run=true", content=DEAL, headers=JSON)
    assert refused(answer, 422, "invalid") == [("?dry_run", "unknown_field")]
    assert (await client.get(DEALS)).json()["items"] == []


async def test_a_filter_that_is_a_list_may_be_repeated(
    client: httpx.AsyncClient, sales: None
) -> None:
    for target in (
        "/v1/pipelines/sales/metrics/funnel?owner=mia&owner=tom&attributes.size=1&attributes.size=2",
        "/v1/events?types=opportunity.created&types=opportunity.updated",
    ):
        answer = await client.get(target)
        assert answer.status_code == 200, answer.text


async def test_a_cursor_of_another_list_is_no_position_of_the_feed(
    client: httpx.AsyncClient, sales: None
) -> None:
    for _ in range(2):
        await open_deal(client)
    page = (await client.get(f"{DEALS}?limit=1")).json()["page"]
    answer = await client.get("/v1/events", params={"after": page["next_cursor"]})
    refused(answer, 400, "invalid_cursor")


async def test_a_revision_has_one_path(client: httpx.AsyncClient, sales: None) -> None:
    revisions = "/v1/pipelines/sales/revisions"
    assert (await client.get(f"{revisions}/1")).status_code == 200
    for spelling in ("1.0", "+1", "%2B1", "01", "%201", "1_0", "1e0", "-1", "0", "²", "9" * 30):
        refused(await client.get(f"{revisions}/{spelling}"), 404, "not_found")


async def test_a_merge_names_each_stage_once(client: httpx.AsyncClient, sales: None) -> None:
    body = {"stages": ["lead", "lead"], "into": "offer"}
    answer = await client.post("/v1/pipelines/sales/stages/merge", json=body)
    assert refused(answer, 422, "invalid") == [("/stages", "duplicate")]


async def test_a_pipeline_can_be_put_back_as_it_was_read(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/pipelines", json={"key": "b2b", "template": "b2b"})
    assert made.status_code == 201, made.text
    path = "/v1/pipelines/b2b"
    await client.post(f"{path}/stages/quote/archive", json={})
    read = await client.get(path)
    assert read.json()["archived_stages"], "so that one of them is sent back too"
    put = await client.put(path, json=read.json(), headers={"If-Match": read.headers["ETag"]})
    assert put.status_code == 200, put.text
    assert put.headers["ETag"] == read.headers["ETag"]
    assert put.json() == read.json()


async def test_a_copy_of_a_pipeline_is_made_from_what_was_read(client: httpx.AsyncClient) -> None:
    await client.post("/v1/pipelines", json={"key": "b2b", "template": "b2b"})
    read = (await client.get("/v1/pipelines/b2b")).json()
    made = await client.post("/v1/pipelines", json={**read, "key": "copy"})
    assert made.status_code == 201, made.text
    assert made.json()["stages"] == read["stages"]
    assert made.json()["id"] != read["id"]


async def test_what_only_the_server_makes_is_not_taken_from_a_request(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/pipelines", json={"key": "b2b", "template": "b2b"})
    read = await client.get("/v1/pipelines/b2b")
    untrue = {**read.json(), "revision": "many", "id": 7, "archived_at": "yesterday"}
    untrue["stages"] = [{**stage, "position": 9} for stage in untrue["stages"]]
    put = await client.put("/v1/pipelines/b2b", json=untrue, headers={"If-Match": "*"})
    assert put.status_code == 200, put.text
    assert put.json() == read.json()


async def test_a_put_that_is_to_create_changes_nothing_that_exists(
    client: httpx.AsyncClient, sales: None
) -> None:
    path, new = f"{DEALS}/by-external-id/CRM-1", {"If-None-Match": "*"}
    deal = {"pipeline": "sales", "name": "First"}
    assert (await client.put(path, json=deal, headers=new)).status_code == 201
    again = await client.put(path, json={**deal, "name": "Second"}, headers=new)
    refused(again, 412, "stale")
    held = await client.put(path, json=deal, headers={"If-None-Match": 'W/"1"'})
    refused(held, 412, "stale")
    assert [each["name"] for each in (await client.get(DEALS)).json()["items"]] == ["First"]
    assert (await client.put(path, json=deal)).status_code == 200
    unread = await client.put(path, json=deal, headers={"If-None-Match": "1"})
    refused(unread, 400, "malformed")

    document = (await client.get("/v1/pipelines/sales")).json()
    answer = await client.put("/v1/pipelines/sales", json=document, headers=new)
    refused(answer, 412, "stale")
    await client.post("/v1/pipelines", json={"key": "b2b", "template": "b2b"})
    document = (await client.get("/v1/pipelines/b2b")).json()
    answer = await client.put("/v1/pipelines/other", json={**document, "key": "other"}, headers=new)
    assert answer.status_code == 201, answer.text


async def test_of_many_puts_that_are_to_create_exactly_one_does(
    client: httpx.AsyncClient, sales: None
) -> None:
    path, new = f"{DEALS}/by-external-id/CRM-1", {"If-None-Match": "*"}
    answers = await asyncio.gather(
        *(
            decided(
                client.put, path, json={"pipeline": "sales", "name": f"Number {n}"}, headers=new
            )
            for n in range(6)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201, *[412] * 5]
    (deal,) = (await client.get(DEALS)).json()["items"]
    assert (deal["version"], deal["name"]) == (
        1,
        next(answer for answer in answers if answer.status_code == 201).json()["name"],
    )


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_word_where_others_have_an_id_knows_its_own_methods_alone(
    client: httpx.AsyncClient, method: str
) -> None:
    answer = await client.request(method, "/v1/transitions/batch")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/opportunities/none/changes", "/v1/imports/none/errors"])
async def test_what_lies_below_an_id_that_cannot_be_is_not_found(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
