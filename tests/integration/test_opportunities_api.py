"""Deals over HTTP: made, read, listed, changed, replaced, erased."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule
from app.storage.engine import Database, connect_arguments
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline

Connect = Callable[[ApiKey | None], httpx.AsyncClient]
DEALS = "/v1/opportunities"


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def read(client: httpx.AsyncClient, deal_id: str) -> Any:
    answer = await client.get(f"{DEALS}/{deal_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def changes(client: httpx.AsyncClient, deal_id: str) -> list[Any]:
    answer = await client.get(f"{DEALS}/{deal_id}/changes")
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """The ids of one page."""
    answer = await client.get(DEALS, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


FULL = {
    "external_id": "CRM-1",
    "name": "十个席位 — ten seats",
    "amount": {"amount": "1250.5", "currency": "EUR"},
    "probability": 0.35,
    "owner": "mia",
    "team": "north",
    "source": "fair",
    "priority": "high",
    "tags": ["renewal", "vip"],
    "attributes": {"seats": 10, "nested": {"a": [1, None, True, "x"]}},
    "expected_close_on": "2026-12-15",
}


async def test_a_new_deal_is_what_was_sent_where_its_pipeline_begins(
    client: httpx.AsyncClient, sales: None
) -> None:
    answer = await client.post(DEALS, json={"pipeline": "sales", **FULL})
    deal = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{DEALS}/{deal['id']}"
    assert answer.headers["ETag"] == '"1"'
    sent = {**FULL, "amount": {"amount": "1250.50", "currency": "EUR"}}
    assert {name: deal[name] for name in sent} == sent
    assert (deal["stage"], deal["status"], deal["seq"], deal["version"]) == ("lead", "open", 1, 1)
    assert deal["opened_at"] == deal["stage_entered_at"] == deal["created_at"]
    assert deal["effective_probability"] == 0.35
    assert await read(client, deal["id"]) == deal


async def test_a_deal_may_have_opened_in_the_past_and_its_log_says_so(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at="2024-02-29T10:00:00+02:00", stage="offer")
    assert deal["opened_at"] == deal["stage_entered_at"] == "2024-02-29T08:00:00Z"
    log = (await client.get(f"{DEALS}/{deal['id']}/transitions")).json()["items"]
    assert [(row["kind"], row["occurred_at"]) for row in log] == [
        ("opened", "2024-02-29T08:00:00Z")
    ]
    assert log[0]["recorded_at"] == deal["created_at"]
    later = await move(client, deal["id"], "talks", occurred_at="2024-03-01T08:00:00Z")
    assert later["transition"]["dwell_seconds"] == 86_400
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    refused = await client.post(
        DEALS, json={"pipeline": "sales", "name": "A deal", "opened_at": future}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "time_out_of_range")


async def test_where_a_deal_opens_is_the_flow_s_matter(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(Flow.SEQUENTIAL))
    refused = await client.post(
        DEALS, json={"pipeline": "sales", "name": "A deal", "stage": "talks"}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "move_not_allowed")


async def test_an_external_id_belongs_to_one_deal(client: httpx.AsyncClient, sales: None) -> None:
    await open_deal(client, external_id="CRM-7")
    other = await open_deal(client)
    twice = await client.post(
        DEALS, json={"pipeline": "sales", "name": "Another", "external_id": "CRM-7"}
    )
    assert (twice.status_code, twice.json()["code"]) == (409, "already_exists")
    taken = await client.patch(
        f"{DEALS}/{other['id']}", json={"external_id": "CRM-7"}, headers={"If-Match": "*"}
    )
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
    assert await read(client, other["id"]) == other


async def test_a_patch_changes_what_it_names_and_keeps_every_old_value(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, **FULL)
    answer = await client.patch(
        f"{DEALS}/{deal['id']}",
        json={
            "owner": "tom",
            "source": None,
            "amount": {"amount": "99", "currency": "USD"},
            "tags": ["vip"],
            "attributes": {"seats": 12, "nested": None, "new": {"kept": 1, "gone": None}},
        },
        headers={"If-Match": '"1"', "Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["ETag"] == '"2"'
    after = answer.json()
    assert after == await read(client, deal["id"])
    assert after["attributes"] == {"seats": 12, "new": {"kept": 1}}
    expected = {
        "owner": ("mia", "tom"),
        "source": ("fair", None),
        "amount": ("1250.5", "99"),
        "currency": ("EUR", "USD"),
        "tags": (["renewal", "vip"], ["vip"]),
        "attributes": (FULL["attributes"], {"seats": 12, "new": {"kept": 1}}),
    }
    kept = await changes(client, deal["id"])
    assert {row["field"]: (row["old"], row["new"]) for row in kept} == expected
    assert {row["actor"] for row in kept} == {"tester"}
    assert {row["occurred_at"] for row in kept} == {after["updated_at"]}
    untouched = set(deal) - {*expected, "version", "updated_at"}
    assert {name: after[name] for name in untouched} == {name: deal[name] for name in untouched}


async def test_a_patch_that_changes_nothing_leaves_no_trace(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, **FULL)
    same = {name: FULL[name] for name in ("owner", "amount", "tags", "probability")}
    answer = await client.patch(
        f"{DEALS}/{deal['id']}", json=same | {"attributes": {}}, headers={"If-Match": "*"}
    )
    assert (answer.status_code, answer.json()) == (200, deal)
    assert await changes(client, deal["id"]) == []


@pytest.mark.parametrize(("old", "new"), [(1, True), (0, False), (True, 1), ("1", 1)])
async def test_attributes_differ_as_json_tells_them_apart(
    client: httpx.AsyncClient, sales: None, old: object, new: object
) -> None:
    deal = await open_deal(client, attributes={"x": old})
    answer = await client.patch(
        f"{DEALS}/{deal['id']}", json={"attributes": {"x": new}}, headers={"If-Match": "*"}
    )
    assert answer.json()["attributes"]["x"] is new or answer.json()["attributes"]["x"] == new
    stored = (await read(client, deal["id"]))["attributes"]["x"]
    assert (type(stored), stored) == (type(new), new)


async def test_a_change_needs_the_version_that_was_seen(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    path = f"{DEALS}/{deal['id']}"
    for method, body in (("PATCH", {"owner": "tom"}), ("DELETE", None)):
        none = await client.request(method, path, json=body)
        assert (none.status_code, none.json()["code"]) == (428, "if_match_required")
        stale = await client.request(method, path, json=body, headers={"If-Match": '"7"'})
        assert (stale.status_code, stale.json()["code"]) == (412, "stale")
        weak = await client.request(method, path, json=body, headers={"If-Match": 'W/"1"'})
        assert weak.status_code == 412
        bare = await client.request(method, path, json=body, headers={"If-Match": "1"})
        assert (bare.status_code, bare.json()["code"]) == (400, "malformed")
    assert await read(client, deal["id"]) == deal
    assert (
        await client.patch(path, json={"owner": "tom"}, headers={"If-Match": '"9", "1"'})
    ).status_code == 200
    assert (
        await client.patch(path, json={"owner": "ann"}, headers={"If-Match": "*"})
    ).status_code == 200


async def test_what_is_still_the_answer_is_not_sent_again(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    path = f"{DEALS}/{deal['id']}"
    same = await client.get(path, headers={"If-None-Match": 'W/"1"'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", '"1"')
    await move(client, deal["id"], "offer")
    other = await client.get(path, headers={"If-None-Match": '"1"'})
    assert (other.status_code, other.headers["ETag"]) == (200, '"2"')


async def test_a_priority_with_another_threshold_recomputes_when_the_deal_goes_idle(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    rule = IdleRule(after=Period.parse("P7D"), after_by_priority={"high": Period.parse("PT1H")})
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=rule))
    deal = await open_deal(client)
    opened_at = datetime.fromisoformat(deal["opened_at"])
    assert datetime.fromisoformat(deal["idle"]["goes_idle_at"]) == opened_at + timedelta(days=7)
    path, any_version = f"{DEALS}/{deal['id']}", {"If-Match": "*"}
    high = (await client.patch(path, json={"priority": "high"}, headers=any_version)).json()
    assert datetime.fromisoformat(high["idle"]["goes_idle_at"]) == opened_at + timedelta(hours=1)
    low = (await client.patch(path, json={"priority": None}, headers=any_version)).json()
    assert low["idle"] == deal["idle"]


async def test_a_rule_that_comes_by_priority_does_not_reach_back(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    rule = IdleRule(after_by_priority={"high": Period.parse("PT1H")})
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=rule))
    deal = await open_deal(client, opened_at="2026-01-01T00:00:00Z")
    assert deal["idle"]["goes_idle_at"] is None
    high = await client.patch(
        f"{DEALS}/{deal['id']}", json={"priority": "high"}, headers={"If-Match": "*"}
    )
    assert high.json()["idle"]["goes_idle_at"] == high.json()["updated_at"]


async def test_an_upsert_creates_then_replaces_and_never_moves(
    client: httpx.AsyncClient, sales: None
) -> None:
    path = f"{DEALS}/by-external-id/CRM%2F42"
    body = {"pipeline": "sales", "name": "First", "owner": "mia", "tags": ["a"], "stage": "offer"}
    created = await client.put(path, json=body)
    deal = created.json()
    assert (created.status_code, created.headers["ETag"]) == (201, '"1"')
    assert created.headers["Location"] == f"{DEALS}/{deal['id']}"
    assert (deal["external_id"], deal["stage"]) == ("CRM/42", "offer")
    again = await client.put(path, json=body)
    assert (again.status_code, again.json()) == (200, deal)
    replaced = await client.put(
        path, json={"pipeline": "sales", "name": "Second", "stage": "talks"}
    )
    after = replaced.json()
    assert (replaced.status_code, replaced.headers["ETag"]) == (200, '"2"')
    assert (after["id"], after["name"], after["owner"], after["tags"], after["stage"]) == (
        *(deal["id"], "Second", None, []),
        "offer",
    )
    assert {row["field"] for row in await changes(client, deal["id"])} == {"name", "owner", "tags"}


async def test_an_upsert_with_if_match_means_the_deal_that_was_seen(
    client: httpx.AsyncClient, sales: None
) -> None:
    path = f"{DEALS}/by-external-id/CRM-42"
    body = {"pipeline": "sales", "name": "A deal"}
    for tag in ('"1"', "*"):
        nothing = await client.put(path, json=body, headers={"If-Match": tag})
        assert (nothing.status_code, nothing.json()["code"]) == (412, "stale")
    assert await listed(client) == []
    await client.put(path, json=body)
    stale = await client.put(path, json=body | {"name": "B"}, headers={"If-Match": '"2"'})
    assert stale.status_code == 412
    seen = await client.put(path, json=body | {"name": "B"}, headers={"If-Match": '"1"'})
    assert (seen.status_code, seen.json()["name"]) == (200, "B")


async def test_an_upsert_into_another_pipeline_is_a_conflict(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    other = sales_pipeline()
    object.__setattr__(other, "key", "renewals")
    await keep_pipeline(database, principal.workspace_id, other)
    path = f"{DEALS}/by-external-id/CRM-42"
    await client.put(path, json={"pipeline": "sales", "name": "A deal"})
    answer = await client.put(path, json={"pipeline": "renewals", "name": "A deal"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["errors"][0]["pointer"] == "/pipeline"


async def test_twins_that_upsert_at_once_make_one_deal(
    client: httpx.AsyncClient, sales: None
) -> None:
    path = f"{DEALS}/by-external-id/CRM-42"
    answers = await asyncio.gather(
        *(client.put(path, json={"pipeline": "sales", "name": f"Deal {n}"}) for n in range(12))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    (deal_id,) = await listed(client)
    names = [row for row in await changes(client, deal_id) if row["field"] == "name"]
    for newer, older in pairwise(names):
        assert newer["old"] == older["new"]


async def test_erasing_leaves_nothing_but_a_tombstone_and_an_event(
    client: httpx.AsyncClient, owner_url: str, sales: None
) -> None:
    deal = await open_deal(client, external_id="CRM-9", owner="mia")
    kept = await open_deal(client)
    path = f"{DEALS}/{deal['id']}"
    await move(client, deal["id"], "offer")
    await client.patch(path, json={"owner": "tom"}, headers={"If-Match": "*"})
    await client.post(
        f"{path}/activities",
        json={"kind": "call", "content": "Spoke", "occurred_at": "2026-01-02T00:00:00Z"},
    )
    erased = await client.delete(path, headers={"If-Match": "*"})
    assert (erased.status_code, erased.content) == (204, b"")
    for gone in (path, f"{path}/transitions", f"{path}/changes", f"{path}/next-stages"):
        assert (await client.get(gone)).status_code == 404
    again = await client.delete(path, headers={"If-Match": "*"})
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    owner = await asyncpg.connect(**connect_arguments(owner_url))
    try:
        for table in ("opportunity", "transition", "opportunity_change", "activity", "idle_flag"):
            left = f"SELECT count(*) FROM {table} WHERE opportunity_id = $1"
            assert await owner.fetchval(left, UUID(deal["id"])) == 0
        stone = await owner.fetchrow(
            "SELECT * FROM tombstone WHERE opportunity_id = $1", UUID(deal["id"])
        )
        assert stone["deleted_by"] == "tester"
        told = await owner.fetch(
            "SELECT type FROM event WHERE opportunity_id = $1 ORDER BY xid, n", UUID(deal["id"])
        )
    finally:
        await owner.close()
    assert told[-1]["type"] == "opportunity.deleted"
    assert await listed(client) == [kept["id"]]
    # Its name is free again.
    await open_deal(client, external_id="CRM-9")


async def test_each_filter_gives_the_deals_that_pass_it(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    other = sales_pipeline()
    object.__setattr__(other, "key", "renewals")
    await keep_pipeline(database, principal.workspace_id, other)
    one = await open_deal(client, **FULL)
    two = await open_deal(client, name="50%_off Größe", owner="tom", tags=["vip"])
    three = await open_deal(client, pipeline="renewals", priority="low")
    await move(client, two["id"], "won")
    ids = {deal["id"]: name for name, deal in (("one", one), ("two", two), ("three", three))}

    async def passing(**query: Any) -> set[str]:
        return {ids[deal_id] for deal_id in await listed(client, **query)}

    assert await passing() == {"one", "two", "three"}
    for query, expected in (
        ({"pipeline": "sales"}, {"one", "two"}),
        ({"pipeline": "sales", "stage": "won"}, {"two"}),
        ({"status": "open"}, {"one", "three"}),
        ({"status": "won"}, {"two"}),
        ({"owner": "mia"}, {"one"}),
        ({"team": "north"}, {"one"}),
        ({"source": "fair"}, {"one"}),
        ({"priority": "low"}, {"three"}),
        ({"tag": "vip"}, {"one", "two"}),
        ({"external_id": "CRM-1"}, {"one"}),
        ({"idle": "false"}, {"one", "two", "three"}),
        ({"idle": "true"}, set()),
        ({"q": "GRÖSSE"}, set()),
        ({"q": "GRÖßE"}, {"two"}),
        ({"q": "0%_O"}, {"two"}),
        ({"q": "席位"}, {"one"}),
        ({"q": "%"}, {"two"}),
        ({"owner": "mia", "status": "won"}, set()),
        ({"updated_since": three["updated_at"]}, {"two", "three"}),
    ):
        assert await passing(**query) == expected, query
    assert await listed(client, updated_since="2020-01-01T00:00:00Z") == [
        one["id"],
        three["id"],
        two["id"],
    ]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"stage": "offer"}, 422, "invalid"),
        ({"pipeline": "sales", "stage": "nowhere"}, 422, "unknown_stage"),
        ({"pipeline": "nowhere"}, 404, "not_found"),
        ({"colour": "red"}, 422, "invalid"),
        ({"limit": "0"}, 422, "invalid"),
        ({"limit": "201"}, 422, "invalid"),
        ({"limit": "1_0"}, 422, "invalid"),
        ({"status": "OPEN"}, 422, "invalid"),
        ({"idle": "perhaps"}, 422, "invalid"),
        ({"owner": "a\x00b"}, 422, "invalid"),
        ({"updated_since": "yesterday"}, 422, "invalid"),
        ({"updated_since": "2026-01-01T00:00:00"}, 422, "invalid"),
        ({"cursor": "nonsense"}, 400, "invalid_cursor"),
        ({"cursor": "=" * 2000}, 422, "invalid"),
    ],
)
async def test_a_list_is_asked_for_properly(
    client: httpx.AsyncClient, sales: None, query: dict[str, str], status: int, code: str
) -> None:
    answer = await client.get(DEALS, params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("query", [{}, {"updated_since": "2020-01-01T00:00:00Z"}])
async def test_following_the_links_gives_every_deal_once_and_in_order(
    client: httpx.AsyncClient,
    sales: None,
    owner_url: str,
    workspace: UUID,
    query: dict[str, str],
) -> None:
    made = [(await open_deal(client))["id"] for _ in range(7)]
    # Changed in one instant, as by one statement: only the ids tell them apart.
    owner = await asyncpg.connect(**connect_arguments(owner_url))
    await owner.execute(
        "UPDATE opportunity SET updated_at = now() WHERE workspace_id = $1", workspace
    )
    await owner.close()
    found: list[str] = []
    link: str | None = f"{DEALS}?{httpx.QueryParams({**query, 'limit': 3, 'status': 'open'})}"
    pages = 0
    while link is not None:
        answer = await client.get(link)
        assert answer.status_code == 200, answer.text
        found += [item["id"] for item in answer.json()["items"]]
        pages += 1
        cursor = answer.json()["page"]["next_cursor"]
        assert (cursor is None) == ("next" not in answer.links)
        link = answer.links["next"]["url"] if "next" in answer.links else None
    assert pages == 3
    assert found == (sorted(made) if query else sorted(made, reverse=True))


async def test_a_cursor_opens_only_the_list_that_it_came_from(
    client: httpx.AsyncClient, service: Connect, database: Database, sales: None
) -> None:
    for _ in range(3):
        await open_deal(client, owner="mia")
    first = await client.get(DEALS, params={"limit": 1, "owner": "mia"})
    cursor = first.json()["page"]["next_cursor"]
    fits = await client.get(DEALS, params={"limit": 2, "owner": "mia", "cursor": cursor})
    assert len(fits.json()["items"]) == 2
    changed = ("A" if cursor[-6] != "A" else "B").join((cursor[:-6], cursor[-5:]))
    _, key = await make_workspace(database)
    for asker, path, query in (
        (client, DEALS, {"cursor": cursor}),
        (client, DEALS, {"cursor": cursor, "owner": "tom"}),
        (client, DEALS, {"cursor": changed, "owner": "mia"}),
        (client, DEALS, {"cursor": cursor + "AA", "owner": "mia"}),
        (client, "/v1/transitions", {"cursor": cursor, "owner": "mia"}),
        (service(key), DEALS, {"cursor": cursor, "owner": "mia"}),
    ):
        refused = await asker.get(path, params=query)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor"), query


async def test_concurrent_twins_with_one_key_make_one_deal_and_get_the_same_bytes(
    client: httpx.AsyncClient, sales: None
) -> None:
    body = {"pipeline": "sales", "name": "A deal"}
    answers = await asyncio.gather(
        *(client.post(DEALS, json=body, headers={"Idempotency-Key": "k-1"}) for _ in range(8))
    )
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.content for answer in answers}) == 1
    assert len({(a.headers["ETag"], a.headers["Location"]) for a in answers}) == 1
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert replayed.count("true") == 7
    assert len(await listed(client)) == 1
    quoted = await client.post(DEALS, json=body, headers={"Idempotency-Key": '"k-1"'})
    assert quoted.content == answers[0].content
    other = await client.post(
        DEALS, json=body | {"name": "Other"}, headers={"Idempotency-Key": "k-1"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_key_is_free_again_after_a_day(
    client: httpx.AsyncClient, sales: None, owner_url: str, workspace: UUID
) -> None:
    body, key = {"pipeline": "sales", "name": "A deal"}, {"Idempotency-Key": "k-3"}
    first = await client.post(DEALS, json=body, headers=key)
    owner = await asyncpg.connect(**connect_arguments(owner_url))
    for age, replayed in (("23 hours 59 minutes", "true"), ("24 hours", None)):
        await owner.execute(
            f"UPDATE idempotency_record SET created_at = now() - interval '{age}' "
            "WHERE workspace_id = $1",
            workspace,
        )
        again = await client.post(DEALS, json=body, headers=key)
        assert again.status_code == 201
        assert again.headers.get("Idempotent-Replayed") == replayed
        assert (again.content == first.content) == (replayed == "true")
    await owner.close()
    assert len(await listed(client)) == 2


async def test_a_refusal_is_not_kept_under_its_key(client: httpx.AsyncClient, sales: None) -> None:
    key = {"Idempotency-Key": "k-2"}
    body = {"pipeline": "sales", "name": "A deal", "external_id": "CRM-1"}
    first = await open_deal(client, external_id="CRM-1")
    assert (await client.post(DEALS, json=body, headers=key)).status_code == 409
    await client.delete(f"{DEALS}/{first['id']}", headers={"If-Match": "*"})
    assert (await client.post(DEALS, json=body, headers=key)).status_code == 201


@pytest.mark.parametrize("key", ['""', '"', "x" * 256])
async def test_a_key_that_is_none_is_refused(
    client: httpx.AsyncClient, sales: None, key: str
) -> None:
    answer = await client.post(
        DEALS, json={"pipeline": "sales", "name": "A deal"}, headers={"Idempotency-Key": key}
    )
    assert answer.status_code in (400, 422)
    assert await listed(client) == []


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
