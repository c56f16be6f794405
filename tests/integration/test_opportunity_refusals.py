"""What no caller gets from a deal: nonsense, what belongs to others, what a key does not allow."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.storage.engine import Database
from tests.conftest import make_workspace
from tests.deals import DEALS, FULL, listed, read
from tests.factories import keep_pipeline, open_deal, sales_pipeline

Connect = Callable[[ApiKey | None], httpx.AsyncClient]


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


def nested(depth: int) -> bytes:
    return (
        b'{"pipeline":"sales","name":"x","attributes":'
        + b'{"a":' * depth
        + b"1"
        + b"}" * (depth + 1)
    )


def body(fields: str) -> bytes:
    return f'{{"pipeline":"sales","name":"A deal",{fields}}}'.encode()


HUNDRED_AND_ONE = ",".join(f'"k{n}":1' for n in range(101))


FIFTY_ONE = ",".join(f'"{n}"' for n in range(51))


SIXTEEN_DIGITS = '{"amount":"1234567890123456","currency":"EUR"}'


NONSENSE: list[tuple[str, bytes, int, str]] = [
    ("no JSON", b"{", 400, "malformed"),
    ("nothing", b"", 422, "invalid"),
    ("no UTF-8", b'{"name":"\xff"}', 400, "malformed"),
    ("an array", b"[]", 422, "invalid"),
    ("null", b"null", 422, "invalid"),
    ("a number", b"1e400", 422, "invalid"),
    ("an unknown field", body('"colour":"red"'), 422, "invalid"),
    ("a server's field", body('"status":"won"'), 422, "invalid"),
    ("a name of the wrong type", b'{"pipeline":"sales","name":5}', 422, "invalid"),
    ("an empty name", b'{"pipeline":"sales","name":""}', 422, "invalid"),
    ("a name too long", b'{"pipeline":"sales","name":"' + b"x" * 201 + b'"}', 422, "invalid"),
    ("an amount without currency", body('"amount":{"amount":"1.00"}'), 422, "invalid"),
    ("a bare amount", body('"amount":"1.00"'), 422, "invalid"),
    ("a float", body('"amount":{"amount":1.5,"currency":"EUR"}'), 422, "invalid"),
    ("an exponent", body('"amount":{"amount":"1e3","currency":"EUR"}'), 422, "invalid"),
    ("too much money", body(f'"amount":{SIXTEEN_DIGITS}'), 422, "invalid"),
    ("a debt", body('"amount":{"amount":"-1","currency":"EUR"}'), 422, "invalid"),
    ("no currency", body('"amount":{"amount":"1","currency":"XXX"}'), 422, "invalid"),
    ("a probability of 2", body('"probability":2'), 422, "invalid"),
    ("a probability of NaN", body('"probability":NaN'), 422, "invalid"),
    ("a probability of 1e999", body('"probability":1e999'), 422, "invalid"),
    ("a probability that would be rounded", body('"probability":0.00001'), 422, "invalid"),
    ("a probability of five decimals", body('"probability":0.12345'), 422, "invalid"),
    ("a huge integer", body('"probability":' + "9" * 4000), 422, "invalid"),
    ("an integer beyond reading", body('"probability":' + "9" * 5000), 400, "malformed"),
    ("a date that is none", body('"expected_close_on":"2026-02-30"'), 422, "invalid"),
    ("a number for a date", body('"expected_close_on":20260230'), 422, "invalid"),
    ("a number for an instant", body('"opened_at":0'), 422, "invalid"),
    ("an instant without offset", body('"opened_at":"2026-01-01T00:00:00"'), 422, "invalid"),
    ("an instant in year 9999", body('"opened_at":"9999-12-31T23:59:59Z"'), 422, "invalid"),
    ("a NUL in a name", body('"owner":"a\\u0000b"'), 422, "invalid"),
    ("a NUL in an attribute", body('"attributes":{"a":"\\u0000"}'), 422, "invalid"),
    ("a NUL in a key", body('"attributes":{"a\\u0000":1}'), 422, "invalid"),
    ("a lone surrogate", body('"owner":"\\ud800"'), 422, "invalid"),
    ("a lone surrogate in an attribute", body('"attributes":{"a":"\\udfff"}'), 422, "invalid"),
    ("a lone surrogate in a key", body('"attributes":{"\\ud800":1}'), 422, "invalid"),
    ("an infinite attribute", body('"attributes":{"a":1e999}'), 422, "invalid"),
    ("attributes too deep", nested(6), 422, "invalid"),
    ("nesting beyond reading", nested(100_000), 400, "malformed"),
    ("too many keys", body(f'"attributes":{{{HUNDRED_AND_ONE}}}'), 422, "invalid"),
    ("attributes too large", body('"attributes":{"a":"' + "x" * 17_000 + '"}'), 422, "invalid"),
    ("a tag twice", body('"tags":["a","a"]'), 422, "invalid"),
    ("too many tags", body(f'"tags":[{FIFTY_ONE}]'), 422, "invalid"),
    ("an unknown stage", body('"stage":"nowhere"'), 422, "unknown_stage"),
    ("a closed stage", body('"stage":"won"'), 422, "move_not_allowed"),
    ("an unknown pipeline", b'{"pipeline":"nowhere","name":"x"}', 404, "not_found"),
    ("a key that is none", b'{"pipeline":"No Key!","name":"x"}', 422, "invalid"),
    ("2 MiB", body('"attributes":{"a":"' + "x" * 2_000_000 + '"}'), 413, "payload_too_large"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [row[1:] for row in NONSENSE],
    ids=[row[0] for row in NONSENSE],
)
async def test_nonsense_is_told_as_a_problem_and_changes_nothing(
    client: httpx.AsyncClient, sales: None, content: bytes, status: int, code: str
) -> None:
    answer = await client.post(DEALS, content=content, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    if code == "invalid":
        assert problem["errors"]
    assert await listed(client) == []


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", None])
async def test_another_media_type_is_refused(
    client: httpx.AsyncClient, sales: None, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = await client.post(DEALS, content=body('"owner":"mia"'), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "patch",
    [
        {"name": None},
        {"tags": None},
        {"attributes": None},
        {"stage": "won"},
        {"status": "won"},
        {"pipeline": "sales"},
        {"amount": {"amount": "1"}},
        {"currency": "EUR"},
        {"attributes": {"k" * 101: 1}},
    ],
)
async def test_a_patch_of_what_cannot_be_patched_changes_nothing(
    client: httpx.AsyncClient, sales: None, patch: dict[str, Any]
) -> None:
    deal = await open_deal(client, **FULL)
    answer = await client.patch(f"{DEALS}/{deal['id']}", json=patch, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert await read(client, deal["id"]) == deal


async def test_attributes_cannot_grow_past_their_limits_by_patches(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, attributes={f"k{n}": n for n in range(100)})
    answer = await client.patch(
        f"{DEALS}/{deal['id']}", json={"attributes": {"more": 1}}, headers={"If-Match": "*"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    swapped = await client.patch(
        f"{DEALS}/{deal['id']}",
        json={"attributes": {"more": 1, "k0": None}},
        headers={"If-Match": "*"},
    )
    assert swapped.status_code == 200


@pytest.mark.parametrize("strange", ["nothing", "00000000-0000-0000-0000-000000000000", "%00"])
@pytest.mark.parametrize("rest", ["", "/changes", "/transitions", "/next-stages"])
async def test_an_id_of_nothing_is_not_found(
    client: httpx.AsyncClient, sales: None, strange: str, rest: str
) -> None:
    answer = await client.get(f"{DEALS}/{strange}{rest}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_another_workspace_s_deal_is_not_found_whatever_is_asked_of_it(
    client: httpx.AsyncClient, service: Connect, database: Database, sales: None
) -> None:
    deal = await open_deal(client, external_id="CRM-1")
    row = (await client.get(f"{DEALS}/{deal['id']}/transitions")).json()["items"][0]
    stranger_principal, key = await make_workspace(database)
    await keep_pipeline(database, stranger_principal.workspace_id, sales_pipeline())
    stranger, path, any_version = service(key), f"{DEALS}/{deal['id']}", {"If-Match": "*"}
    answers = [
        await stranger.get(path),
        await stranger.patch(path, json={"owner": "eve"}, headers=any_version),
        await stranger.delete(path, headers=any_version),
        await stranger.get(f"{path}/changes"),
        await stranger.get(f"{path}/transitions"),
        await stranger.get(f"{path}/next-stages"),
        await stranger.post(f"{path}/transitions", json={"to_stage": "offer"}),
        await stranger.post(f"{path}/hand-off", json={"pipeline": "sales"}),
        await stranger.get(f"/v1/transitions/{row['id']}"),
        await stranger.post(f"/v1/transitions/{row['id']}/void", json={"reason": "x"}),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {
        (404, "not_found")
    }
    assert await listed(stranger) == []
    own = await stranger.put(
        f"{DEALS}/by-external-id/CRM-1", json={"pipeline": "sales", "name": "Its own"}
    )
    assert own.status_code == 201
    assert await read(client, deal["id"]) == deal


@pytest.mark.parametrize(
    ("scope", "method", "rest", "payload"),
    [
        (Scope.OPPORTUNITIES_READ, "POST", "", {"pipeline": "sales", "name": "x"}),
        (Scope.OPPORTUNITIES_READ, "PATCH", "/{id}", {"owner": "tom"}),
        (Scope.OPPORTUNITIES_WRITE, "DELETE", "/{id}", None),
        (Scope.OPPORTUNITIES_WRITE, "GET", "", None),
        (Scope.METRICS_READ, "GET", "/{id}", None),
        (Scope.OPPORTUNITIES_READ, "POST", "/{id}/transitions", {"to_stage": "offer"}),
        (
            Scope.OPPORTUNITIES_WRITE,
            "POST",
            "/{id}/transitions",
            {"to_stage": "offer", "override": {"reason": "Because"}},
        ),
    ],
)
async def test_a_key_does_no_more_than_its_scopes_say(
    service: Connect,
    database: Database,
    scope: Scope,
    method: str,
    rest: str,
    payload: dict[str, Any] | None,
) -> None:
    owner, key = await make_workspace(database, scope)
    await keep_pipeline(database, owner.workspace_id, sales_pipeline())
    path = DEALS + rest.format(id="019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a")
    answer = await service(key).request(method, path, json=payload, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_external_id_that_cannot_be_is_told_what_is_wrong_with_it(
    client: httpx.AsyncClient, sales: None
) -> None:
    body = {"pipeline": "sales", "name": "Its own"}
    answer = await client.put(f"{DEALS}/by-external-id/{'x' * 256}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    errors = [(each["pointer"], each["code"]) for each in answer.json()["errors"]]
    assert errors == [("{external_id}", "too_long")]
