"""Follow-ups that are due by the cadence of a stage, and the timeline of a deal."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleRule
from app.storage.engine import Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import WEEK, ago, scan


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    """Every three days in `lead`, idle after a week there; no cadence elsewhere."""
    pipeline = sales_pipeline(lead=IdleRule(after=WEEK))
    stages = tuple(
        replace(stage, follow_up_every=Period(days=3)) if stage.key == "lead" else stage
        for stage in pipeline.stages
    )
    await keep_pipeline(database, principal.workspace_id, replace(pipeline, stages=stages))


async def record(client: httpx.AsyncClient, deal: dict[str, Any], **done: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/opportunities/{deal['id']}/activities", json=done)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def due(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/follow-ups", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_deal_is_due_when_its_last_follow_up_is_older_than_the_cadence(
    client: httpx.AsyncClient, sales: None
) -> None:
    quiet = await open_deal(client, opened_at=ago(days=5), owner="mia")
    called = await open_deal(client, opened_at=ago(days=6))
    await record(client, called, kind="call", occurred_at=ago(days=4))
    await record(client, called, kind="note", occurred_at=ago(days=1))  # counts for nothing
    fresh = await open_deal(client, opened_at=ago(days=6))
    await record(client, fresh, kind="meeting", occurred_at=ago(days=2))
    found = await due(client)
    assert [each["opportunity"]["id"] for each in found] == [quiet["id"], called["id"]]
    assert [each["due_at"] for each in found] == [ago(days=2), ago(days=1)]
    assert [each["last_follow_up_at"] for each in found] == [None, ago(days=4)]
    assert found[0]["goes_idle_at"] == ago(days=-2)
    ahead = await due(client, due=ago(days=-2))
    assert [each["opportunity"]["id"] for each in ahead] == [quiet["id"], called["id"], fresh["id"]]
    assert [each["opportunity"]["id"] for each in await due(client, owner="mia")] == [quiet["id"]]
    assert await due(client, pipeline="sales", stage="offer") == []


async def test_a_stage_without_a_cadence_and_a_closed_deal_ask_for_nothing(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=9))
    moved = await move(client, deal["id"], "offer")
    assert moved["opportunity"]["idle"]["follow_up_due_at"] is None
    other = await open_deal(client, opened_at=ago(days=9))
    await move(client, other["id"], "won")
    assert await due(client) == []


async def test_follow_ups_are_listed_page_by_page(client: httpx.AsyncClient, sales: None) -> None:
    deals = [await open_deal(client, opened_at=ago(days=days)) for days in (9, 8, 7)]
    first = await client.get("/v1/follow-ups", params={"limit": 2})
    assert [each["opportunity"]["id"] for each in first.json()["items"]] == [
        deal["id"] for deal in deals[:2]
    ]
    cursor = first.json()["page"]["next_cursor"]
    (last,) = await due(client, limit=2, cursor=cursor)
    assert last["opportunity"]["id"] == deals[2]["id"]
    other = await client.get("/v1/follow-ups", params={"cursor": cursor, "owner": "mia"})
    assert (other.status_code, other.json()["code"]) == (400, "invalid_cursor")


async def test_a_timeline_tells_of_stays_activities_and_flags_the_latest_first(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=12))
    note = await record(client, deal, kind="note", content="Hm.", occurred_at=ago(days=11))
    await scan(client)
    await move(client, deal["id"], "offer", occurred_at=ago(days=4))
    slip = await move(client, deal["id"], "talks", occurred_at=ago(days=3))
    await client.post(f"/v1/transitions/{slip['transition']['id']}/void", json={"reason": "a slip"})
    call = await record(
        client, deal, kind="call", outcome="reached", occurred_at=ago(days=1), next_step="Offer"
    )
    answer = await client.get(f"/v1/opportunities/{deal['id']}/timeline")
    entries = answer.json()["items"]
    assert [(each["type"], each["at"]) for each in entries] == [
        ("activity", ago(days=1)),
        ("visit", ago(days=4)),
        ("idle_flag", ago(days=5)),
        ("activity", ago(days=11)),
        ("visit", ago(days=12)),
    ]
    assert [entries[0]["activity"], entries[3]["activity"]] == [call, note]
    assert (call["outcome"], call["next_step"]) == ("reached", "Offer")
    here, was = entries[1], entries[4]
    assert (here["stage"], here["left_at"], here["dwell_seconds"], here["ended_by"]) == (
        *("offer", None, None, None),
    )
    assert (was["stage"], was["left_at"], was["dwell_seconds"], was["ended_by"]) == (
        *("lead", ago(days=4), 8 * 86_400, "advanced"),
    )
    assert entries[2]["idle_flag"]["resolved"]["cause"] == "moved"
    walked, cursor = [], None
    while cursor or not walked:
        more = {"cursor": cursor} if cursor else {}
        page = await client.get(
            f"/v1/opportunities/{deal['id']}/timeline", params={"limit": 2, **more}
        )
        walked += page.json()["items"]
        cursor = page.json()["page"]["next_cursor"]
    assert walked == entries


async def test_a_timeline_of_a_deal_that_is_not_there_is_not_found(
    client: httpx.AsyncClient, sales: None
) -> None:
    unknown = "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a"
    answer = await client.get(f"/v1/opportunities/{unknown}/timeline")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
