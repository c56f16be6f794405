"""Idle deals over HTTP, as lists: the flags, the deals that are next, and a scan at once."""

from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.storage.engine import Database
from tests.factories import keep_pipeline, open_deal
from tests.idle import ago, flags, only_flag, scan, watched_pipeline


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, watched_pipeline())


async def test_flags_are_filtered_by_where_the_deal_fell_idle_and_whose_it_is_now(
    client: httpx.AsyncClient, sales: None
) -> None:
    deals = {
        (stage, owner): await open_deal(
            client, stage=stage, owner=owner, team=f"team of {owner}", opened_at=ago(days=10)
        )
        for stage in ("lead", "offer")
        for owner in ("mia", "tom")
    }
    await scan(client)

    async def found(**query: str) -> set[str]:
        return {flag["opportunity"]["id"] for flag in await flags(client, **query)}

    def those(**wanted: str) -> set[str]:
        return {
            deal["id"]
            for (stage, owner), deal in deals.items()
            if wanted.get("stage", stage) == stage and wanted.get("owner", owner) == owner
        }

    assert await found() == those()
    assert await found(pipeline="sales") == those()
    assert await found(pipeline="sales", stage="lead") == those(stage="lead")
    assert await found(owner="mia") == those(owner="mia")
    assert await found(team="team of tom") == those(owner="tom")
    assert await found(pipeline="sales", stage="offer", owner="mia") == those(
        stage="offer", owner="mia"
    )
    for query, status in (
        ({"stage": "lead"}, 422),
        ({"pipeline": "sales", "stage": "nowhere"}, 422),
        ({"pipeline": "nowhere"}, 404),
        ({"state": "asleep"}, 422),
    ):
        assert (await client.get("/v1/idle-flags", params=query)).status_code == status


async def test_flags_are_paged_in_the_order_in_which_they_were_opened(
    client: httpx.AsyncClient, sales: None
) -> None:
    deals = []
    for _ in range(5):
        deals.append(await open_deal(client, opened_at=ago(days=10)))
        assert await scan(client) == 1
    seen: list[str] = []
    url: str | None = "/v1/idle-flags?limit=2"
    while url is not None:
        page = await client.get(url)
        seen += [flag["opportunity"]["id"] for flag in page.json()["items"]]
        url = page.links.get("next", {}).get("url")
    assert seen == [deal["id"] for deal in deals]
    cursor = (await client.get("/v1/idle-flags?limit=2")).json()["page"]["next_cursor"]
    foreign = await client.get(
        "/v1/idle-flags", params={"state": "open", "cursor": cursor, "limit": 2}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid_cursor")


async def test_upcoming_are_the_deals_that_will_fall_idle_within_the_time_the_soonest_first(
    client: httpx.AsyncClient, sales: None
) -> None:
    opened = {days: await open_deal(client, opened_at=ago(days=days)) for days in (1, 6, 5, 3, 4)}
    flagged = await open_deal(client, opened_at=ago(days=10))
    await scan(client)

    async def upcoming(**query: Any) -> list[str]:
        url: str | None = "/v1/pipelines/sales/idle/upcoming"
        seen: list[str] = []
        params: dict[str, Any] | None = query
        while url is not None:
            page = await client.get(url, params=params)
            seen += [item["opportunity"]["id"] for item in page.json()["items"]]
            url, params = page.links.get("next", {}).get("url"), None
        return seen

    assert await upcoming() == [opened[days]["id"] for days in (6, 5, 4)]
    assert await upcoming(within="P30D", limit=2) == [opened[n]["id"] for n in (6, 5, 4, 3, 1)]
    assert await upcoming(within="PT1H") == []
    flag = await only_flag(client)
    snooze = {"until": ago(days=-1), "reason": "tomorrow"}
    await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=snooze)
    assert flagged["id"] in await upcoming()
    (item,) = (await client.get("/v1/pipelines/sales/idle/upcoming?within=PT25H&limit=1")).json()[
        "items"
    ]
    assert item["stage"] == "lead"
    assert item["last_reset_by"] == "move"
    for query, status in (({"within": "3 days"}, 422), ({"within": "P1M"}, 422)):
        answer = await client.get("/v1/pipelines/sales/idle/upcoming", params=query)
        assert answer.status_code == status
    assert (await client.get("/v1/pipelines/nowhere/idle/upcoming")).status_code == 404


async def test_a_scan_asked_for_twice_under_one_key_is_answered_once(
    client: httpx.AsyncClient, sales: None
) -> None:
    key = {"Idempotency-Key": "a scan"}
    await open_deal(client, opened_at=ago(days=10))
    first = await client.post("/v1/idle-scans", headers=key)
    await open_deal(client, opened_at=ago(days=10))
    again = await client.post("/v1/idle-scans", headers=key)
    assert first.json()["flagged"] == 1
    assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await scan(client) == 1
