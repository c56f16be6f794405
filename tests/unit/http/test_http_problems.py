"""Every refusal is a problem: whatever is sent, wherever it is refused."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.http.codes import CODES

Client = httpx.AsyncClient
IsProblem = Callable[[httpx.Response, str], dict[str, Any]]
ID = "01980000-0000-7000-8000-000000000000"


async def post(client: Client, body: bytes, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"content-type": "application/json"} | given
    return await client.post("/v1/gadgets", content=body, headers=sent)


# What HTTP itself refuses, and no rule of the domain, is tried further down.
OF_HTTP = {
    "internal_error",
    "method_not_allowed",
    "payload_too_large",
    "headers_too_large",
    "route_not_found",
    "unsupported_media_type",
}


@pytest.mark.parametrize("code", sorted(set(CODES) - OF_HTTP))
async def test_every_refusal_of_the_domain_is_answered_with_its_status(
    client: Client, code: str, is_problem: IsProblem
) -> None:
    body = is_problem(await client.get(f"/v1/refusals/{code}"), code)
    assert body["detail"] == "So it is."
    assert body["errors"] == [{"pointer": "/a~1b", "code": "x", "detail": "y"}]


async def test_what_is_unavailable_says_when_to_come_back(
    client: Client, is_problem: IsProblem
) -> None:
    response = await client.get("/v1/refusals/database_unavailable")
    is_problem(response, "database_unavailable")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("sent", "breaches"),
    [
        ('{"nmae": 1}', [("/nmae", "unknown_field")]),
        ('{"a/b~c": 1}', [("/a~1b~0c", "unknown_field")]),
        ('{"name": null}', [("/name", "wrong_type")]),
        ('{"name": ""}', [("/name", "too_short")]),
        ('{"name": " x"}', [("/name", "wrong_format")]),
        (
            '{"price": {"amount": 1}}',
            [("/price/amount", "wrong_type"), ("/price/currency", "required")],
        ),
        ('{"price": {"amount": "1", "currency": "XXX"}}', [("/price/currency", "wrong_format")]),
        ('{"size": 1.5}', [("/size", "wrong_type")]),
        ('{"size": "1"}', [("/size", "wrong_type")]),
        ('{"size": true}', [("/size", "wrong_type")]),
        ('{"size": 1e999}', [("/size", "wrong_type")]),
        ('{"weight": 1e999}', [("/weight", "out_of_range")]),
        ('{"weight": NaN}', [("/weight", "out_of_range")]),
        ('{"weight": -Infinity}', [("/weight", "out_of_range")]),
        ('{"facts": {"a": NaN}}', [("/facts", "wrong_format")]),
        ('{"facts": {"a": {"a": {"a": {"a": {"a": {}}}}}}}', [("/facts", "too_long")]),
        ('{"name": "\\u0000"}', [("/name", "wrong_format")]),
        ('{"name": "\\ud800"}', [("/name", "wrong_format")]),
        ('{"facts": {"\\ud800": 1}}', [("/facts", "wrong_format")]),
        ('{"\\ud800": 1}', [("", "wrong_format")]),
        ('{"needs": [{"type": "call"}]}', [("/needs/0/minutes", "required")]),
        ('{"needs": [{"type": "call", "minutes": 1, "x": 1}]}', [("/needs/0/x", "unknown_field")]),
        ('{"needs": [{"type": "mail"}]}', [("/needs/0/type", "not_one_of")]),
        ('{"needs": [{}]}', [("/needs/0/type", "required")]),
        ("null", [("", "wrong_type")]),
        ("[]", [("", "wrong_type")]),
        ("", [("", "required")]),
    ],
)
async def test_everything_wrong_with_a_body_is_listed_where_it_is(
    client: Client, sent: str, breaches: list[tuple[str, str]], is_problem: IsProblem
) -> None:
    body = is_problem(await post(client, sent.encode()), "invalid")
    assert [(each["pointer"], each["code"]) for each in body["errors"]] == breaches


async def test_parameters_and_headers_are_named_where_they_are_wrong(
    client: Client, is_problem: IsProblem
) -> None:
    response = await client.get("/v1/gadgets", params={"limit": "1_0", "page": "2"})
    body = is_problem(response, "invalid")
    assert {each["pointer"]: each["code"] for each in body["errors"]} == {
        "?limit": "wrong_type",
        "?page": "unknown_field",
    }
    response = await client.get(f"/v1/gadgets/{ID}", headers={"if-none-match": "x" * 1001})
    assert is_problem(response, "invalid")["errors"][0]["pointer"] == "If-None-Match"


@pytest.mark.parametrize(
    ("sent", "details"),
    [
        ("{}", []),
        ("[]", ["It should be an object"]),
        ("", ["It is missing"]),
        ('{"nmae": 1}', ["There is no field or parameter of that name"]),
        ('{"name": 1}', ["It should be a text"]),
        ('{"name": ""}', ["It should have 1 or more characters"]),
        ('{"size": 1.5}', ["It should be a whole number"]),
        ('{"weight": 1e999}', ["It should be a finite number"]),
        ('{"needs": {}}', ["It should be an array"]),
        ('{"needs": [{"type": "mail"}]}', ["It should be one of 'field', 'call'"]),
        ('{"needs": [{}]}', ["It is missing: it says which of several forms is meant"]),
    ],
)
async def test_what_is_wrong_is_said_in_plain_words(
    client: Client, sent: str, details: list[str]
) -> None:
    errors = (await post(client, sent.encode())).json().get("errors", [])
    assert [each["detail"] for each in errors] == details


async def test_what_a_put_would_make_is_told_what_is_wrong_with_its_name(
    client: Client, is_problem: IsProblem
) -> None:
    answer = await client.put(f"/v1/gadgets/by-name/{'x' * 201}", json={})
    errors = is_problem(answer, "invalid")["errors"]
    assert [(each["pointer"], each["code"]) for each in errors] == [("{name}", "too_long")]


async def test_a_parameter_that_is_given_several_times_is_one_parameter(
    client: Client, is_problem: IsProblem
) -> None:
    answer = await client.get("/v1/colours", params={"colour": ["red", "nothing"]})
    errors = is_problem(answer, "invalid")["errors"]
    assert [(each["pointer"], each["code"]) for each in errors] == [("?colour", "not_one_of")]


async def test_the_list_of_breaches_is_capped(client: Client, is_problem: IsProblem) -> None:
    response = await post(client, json.dumps({"needs": [{}] * 500}).encode())
    assert len(is_problem(response, "invalid")["errors"]) == 100


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"name": }',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"size": ' + b"9" * 5_000 + b"}",
        b'{"name": "a\x00b"}',
    ],
)
async def test_a_body_that_is_not_sensible_json_is_malformed(
    client: Client, body: bytes, is_problem: IsProblem
) -> None:
    is_problem(await post(client, body), "malformed")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "multipart/form-data", "application/xml", "x"]
)
async def test_a_body_of_another_media_type_is_not_read(
    client: Client, media_type: str, is_problem: IsProblem
) -> None:
    response = await post(client, b"{}", content_type=media_type)
    is_problem(response, "unsupported_media_type")
    assert "application/json" in response.headers["accept"]


async def test_json_and_merge_patch_are_read(client: Client) -> None:
    for media_type in ("application/json; charset=utf-8", "application/merge-patch+json"):
        assert (await post(client, b"{}", content_type=media_type)).status_code == 201


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1", "/v2/gadgets", "/v1/gadgets/", "/v1/%00", "/docs/x"]
)
async def test_an_unknown_path_is_a_problem(
    client: Client, path: str, is_problem: IsProblem
) -> None:
    is_problem(await client.get(path), "route_not_found")


@pytest.mark.parametrize("gadget", ["7", "NA", "%00", ID + "0"])
async def test_an_id_that_could_not_have_been_given_is_not_found(
    client: Client, gadget: str, is_problem: IsProblem
) -> None:
    is_problem(await client.get(f"/v1/gadgets/{gadget}"), "not_found")


async def test_a_wrong_method_is_told_every_right_one(
    client: Client, is_problem: IsProblem
) -> None:
    response = await client.delete("/v1/gadgets")
    is_problem(response, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"
    response = await client.put(f"/v1/gadgets/{ID}", json={})
    assert response.headers["allow"] == "GET, HEAD, PATCH"


async def test_a_conditional_get_is_answered_without_a_body(client: Client) -> None:
    first = await client.get(f"/v1/gadgets/{ID}")
    headers = {"if-none-match": first.headers["etag"]}
    again = await client.get(f"/v1/gadgets/{ID}", headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"] == '"3"'


async def test_a_change_needs_the_present_version(client: Client, is_problem: IsProblem) -> None:
    async def patch(**headers: str) -> httpx.Response:
        return await client.patch(f"/v1/gadgets/{ID}", json={}, headers=headers)

    is_problem(await patch(), "if_match_required")
    is_problem(await patch(**{"if-match": '"2"'}), "stale")
    is_problem(await patch(**{"if-match": "3"}), "malformed")
    assert (await patch(**{"if-match": '"3"'})).status_code == 200
