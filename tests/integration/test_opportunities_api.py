"""Deals over HTTP: made, read, changed, replaced."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule
from app.storage.engine import Database, connect_arguments
from tests.asking import decided
from tests.deals import DEALS, FULL, changes, listed, read
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline

Connect = Callable[[ApiKey | None], httpx.AsyncClient]


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


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
        *(
            decided(client.put, path, json={"pipeline": "sales", "name": f"Deal {n}"})
            for n in range(12)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    (deal_id,) = await listed(client)
    names = [row for row in await changes(client, deal_id) if row["field"] == "name"]
    for newer, older in pairwise(names):
        assert newer["old"] == older["new"]


@pytest.mark.parametrize("change", [{"probability": 0.9}, {"name": "Anfrage"}])
async def test_the_etag_of_a_deal_covers_all_that_is_shown_of_it(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    await client.post("/v1/pipelines", json={"key": "b2b", "template": "b2b"})
    path = f"{DEALS}/{(await open_deal(client, 'b2b'))['id']}"
    before = await client.get(path)
    changed = await client.patch(
        "/v1/pipelines/b2b/stages/prospect", json=change, headers={"If-Match": "*"}
    )
    assert changed.status_code == 200, changed.text
    after = await client.get(path)
    assert (before.content == after.content) == (before.headers["ETag"] == after.headers["ETag"])


async def test_concurrent_twins_with_one_key_make_one_deal_and_get_the_same_bytes(
    client: httpx.AsyncClient, sales: None
) -> None:
    body = {"pipeline": "sales", "name": "A deal"}
    answers = await asyncio.gather(
        *(
            decided(client.post, DEALS, json=body, headers={"Idempotency-Key": "k-1"})
            for _ in range(8)
        )
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


async def test_another_clock_for_its_stage_is_another_version_of_the_deal(
    client: httpx.AsyncClient,
) -> None:
    made = await client.post("/v1/pipelines", json={"key": "clocked", "template": "b2b"})
    assert made.status_code == 201, made.text
    deal = await open_deal(client, "clocked")
    path, held = f"/v1/opportunities/{deal['id']}", {"If-None-Match": f'"{deal["version"]}"'}
    assert (await client.get(path, headers=held)).status_code == 304
    changed = await client.patch(
        "/v1/pipelines/clocked/stages/prospect",
        json={"idle_clock": "stage_age"},
        headers={"If-Match": "*"},
    )
    assert changed.status_code == 200, changed.text
    answer = await client.get(path, headers=held)
    assert (answer.status_code, answer.json()["idle"]["clock"]) == (200, "stage_age")
