"""Idle flags over HTTP: found by a scan, listed, acknowledged, snoozed, resolved, open again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from app.storage.engine import Connection, Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline

WEEK = Period(days=7)
NOW = datetime.now(UTC)


def ago(**length: float) -> str:
    return (NOW - timedelta(**length)).isoformat().replace("+00:00", "Z")


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(
        database,
        principal.workspace_id,
        sales_pipeline(
            lead=IdleRule(after=WEEK, after_by_priority={"high": Period(days=2), "low": None}),
            offer=IdleRule(clock=IdleClock.INACTIVITY, after=WEEK),
            talks=IdleRule(after=Period(days=1)),
        ),
    )


async def scan(client: httpx.AsyncClient) -> int:
    answer = await client.post("/v1/idle-scans")
    assert answer.status_code == 200, answer.text
    return answer.json()["flagged"]


async def flags(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/idle-flags", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def only_flag(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    (flag,) = await flags(client, **query)
    return flag


async def told(client: httpx.AsyncClient, *types: str) -> list[tuple[str, dict[str, Any]]]:
    feed = await client.get("/v1/events", params={"types": types, "limit": 200})
    return [(event["type"], event["data"]) for event in feed.json()["items"]]


async def let_snooze_end(database: Database, principal: Principal, deal_id: str) -> None:
    """Put the end of the deal's snooze into the past, as if the time had gone by."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            "UPDATE opportunity SET snoozed_until = clock_timestamp(), "
            "goes_idle_at = clock_timestamp() WHERE workspace_id = $1 AND opportunity_id = $2",
            principal.workspace_id,
            deal_id,
        )

    await database.write(principal.workspace_id, work)


async def test_a_deal_that_is_due_is_flagged_once_and_says_why(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10), owner="mia", team="north")
    await open_deal(client, opened_at=ago(days=6))
    assert await scan(client) == 1
    assert await scan(client) == 0
    flag = await only_flag(client)
    assert flag["opportunity"]["id"] == deal["id"]
    assert flag["opportunity"]["owner"] == "mia"
    assert (flag["pipeline"], flag["stage"], flag["state"]) == ("sales", "lead", "open")
    assert flag["clock"] == "stage_age"
    assert flag["clock_started_at"] == ago(days=10)
    shown = (await client.get(f"/v1/opportunities/{deal['id']}")).json()
    assert shown["idle"]["flag_id"] == flag["id"]
    assert shown["idle"]["flagged_at"] == flag["opened_at"]
    assert shown["version"] == deal["version"] + 1
    ((_, event),) = await told(client, "idle_flag.opened")
    assert event["flag_id"] == flag["id"]
    assert event["stage"] == "lead"
    assert event["opportunity"]["version"] == shown["version"]
    assert event["reopened"] is False


async def test_a_flag_is_idle_since_the_threshold_passed_however_late_it_is_seen(
    client: httpx.AsyncClient, sales: None
) -> None:
    await open_deal(client, opened_at=ago(days=100))
    await scan(client)
    flag = await only_flag(client)
    assert flag["idle_since"] == ago(days=93)
    assert datetime.fromisoformat(flag["opened_at"]) > NOW


@pytest.mark.parametrize(
    ("priority", "days", "idle"),
    [
        ("high", 3, True),
        ("high", 1, False),
        ("low", 300, False),
        (None, 8, True),
        ("mid", 6, False),
    ],
)
async def test_a_priority_may_have_a_threshold_of_its_own(
    client: httpx.AsyncClient, sales: None, priority: str | None, days: int, idle: bool
) -> None:
    await open_deal(client, opened_at=ago(days=days), priority=priority)
    assert await scan(client) == int(idle)


@pytest.mark.parametrize(
    ("to_stage", "cause"), [("parked", "moved"), ("won", "closed"), ("lost", "closed")]
)
async def test_a_move_resolves_the_flag_and_says_so(
    client: httpx.AsyncClient, sales: None, to_stage: str, cause: str
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    more = {"loss_reason": "price"} if to_stage == "lost" else {}
    moved = await move(client, deal["id"], to_stage, **more)
    assert moved["opportunity"]["idle"]["flag_id"] is None
    assert await flags(client) == []
    resolved = await only_flag(client, state="resolved")
    assert resolved["id"] == flag["id"]
    assert resolved["resolved"]["cause"] == cause
    ((_, event),) = await told(client, "idle_flag.resolved")
    assert (event["flag_id"], event["resolved_by"]) == (flag["id"], cause)


async def test_a_qualifying_activity_resolves_the_flag_of_an_inactivity_clock(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, stage="offer", opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    url = f"/v1/opportunities/{deal['id']}/activities"
    await client.post(url, json={"kind": "note"})
    assert await only_flag(client) == flag
    await client.post(url, json={"kind": "email"})
    assert (await only_flag(client, state="resolved"))["resolved"]["cause"] == "activity"
    assert await scan(client) == 0


async def test_an_activity_of_long_ago_begins_another_episode_which_is_due_at_once(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, stage="offer", opened_at=ago(days=30))
    await scan(client)
    first = await only_flag(client)
    url = f"/v1/opportunities/{deal['id']}/activities"
    await client.post(url, json={"kind": "call", "occurred_at": ago(days=20)})
    assert await scan(client) == 1
    second = await only_flag(client)
    assert second["id"] != first["id"]
    assert second["idle_since"] == ago(days=13)


async def test_a_priority_that_may_sit_longer_resolves_the_flag_and_the_old_one_reopens_it(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    url = f"/v1/opportunities/{deal['id']}"
    rested = await client.patch(url, json={"priority": "low"}, headers={"If-Match": "*"})
    assert rested.json()["idle"]["goes_idle_at"] is None
    assert (await only_flag(client, state="resolved"))["resolved"]["cause"] == "not_due"
    back = await client.patch(url, json={"priority": None}, headers={"If-Match": "*"})
    assert await scan(client) == 1
    reopened = await only_flag(client)
    assert reopened["id"] == flag["id"]
    assert reopened["opened_at"] == flag["opened_at"]
    # By today's rule it is idle since that rule began to apply to it.
    assert reopened["idle_since"] == back.json()["idle"]["goes_idle_at"]
    opened = await told(client, "idle_flag.opened")
    assert [event["reopened"] for _, event in opened] == [False, True]


async def test_a_longer_threshold_resolves_the_flag_and_a_shorter_one_reopens_it(
    client: httpx.AsyncClient,
) -> None:
    kinds = {"lead": "open", "offer": "open", "talks": "open", "won": "won", "lost": "lost"}
    stages: list[dict[str, Any]] = [
        {"key": key, "name": key.title(), "kind": kind} for key, kind in kinds.items()
    ]
    stages[0]["idle_after"] = "P7D"
    stages[4]["loss_reasons"] = [{"key": "price", "name": "Price"}]
    document = {"key": "sales", "name": "Sales", "stages": stages}
    made = await client.put("/v1/pipelines/sales", json=document)
    assert made.status_code == 201, made.text
    deal = await open_deal(client, opened_at=ago(days=10))
    assert datetime.fromisoformat(deal["idle"]["goes_idle_at"]) > NOW  # the rule is that young
    await scan(client)
    flag = await only_flag(client)

    async def allow(idle_after: str) -> dict[str, Any]:
        changed = await client.patch(
            "/v1/pipelines/sales/stages/lead",
            json={"idle_after": idle_after},
            headers={"If-Match": "*"},
        )
        assert changed.status_code == 200, changed.text
        return (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]

    longer = await allow("P11D")
    assert longer["goes_idle_at"] == ago(days=-1)
    assert (await only_flag(client, state="resolved"))["resolved"]["cause"] == "not_due"
    shorter = await allow("P8D")
    # A rule applies from the instant at which it came into force, never before it existed.
    assert datetime.fromisoformat(shorter["goes_idle_at"]) > NOW
    assert await scan(client) == 1
    reopened = await only_flag(client)
    assert reopened["id"] == flag["id"]
    assert reopened["idle_since"] == shorter["goes_idle_at"]


async def test_voiding_the_move_that_resolved_a_flag_has_it_open_again(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    moved = await move(client, deal["id"], "parked")
    voided = await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "a slip"}
    )
    assert voided.status_code < 300, voided.text
    await scan(client)
    assert await only_flag(client) == flag
    assert (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]["flag_id"] == flag[
        "id"
    ]


async def test_a_flag_is_acknowledged_by_whoever_is_first(
    client: httpx.AsyncClient, sales: None
) -> None:
    await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    url = f"/v1/idle-flags/{flag['id']}/acknowledgement"
    first = await client.post(url)
    assert first.status_code == 200
    assert first.json()["state"] == "acknowledged"
    assert first.json()["acknowledged"]["by"] == "tester"
    again = await client.post(url)
    assert again.json() == first.json()
    assert await only_flag(client, state="acknowledged") == first.json()
    assert await flags(client, state="open") == []
    assert len(await told(client, "idle_flag.acknowledged")) == 1


async def test_a_snoozed_flag_comes_back_as_the_same_flag(
    client: httpx.AsyncClient, sales: None, database: Database, principal: Principal
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    until = ago(days=-3)
    await client.post(f"/v1/idle-flags/{flag['id']}/acknowledgement")
    snoozed = await client.post(
        f"/v1/idle-flags/{flag['id']}/snooze", json={"until": until, "reason": "on holiday"}
    )
    assert snoozed.status_code == 200, snoozed.text
    assert snoozed.json()["state"] == "snoozed"
    assert snoozed.json()["snoozed"]["until"] == until
    assert snoozed.json()["snoozed"]["reason"] == "on holiday"
    assert await only_flag(client, state="snoozed") == snoozed.json()
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    assert (idle["goes_idle_at"], idle["flag_id"], idle["flagged_at"]) == (until, flag["id"], None)
    assert await scan(client) == 0

    await let_snooze_end(database, principal, deal["id"])
    assert await scan(client) == 1
    assert await only_flag(client) == flag
    opened = await told(client, "idle_flag.opened")
    assert [(event["flag_id"], event["reopened"]) for _, event in opened] == [
        (flag["id"], False),
        (flag["id"], True),
    ]
    assert opened[1][1]["idle_since"] == flag["idle_since"]
    assert [kind for kind, _ in await told(client, "idle_flag.snoozed")] == ["idle_flag.snoozed"]


async def test_a_move_ends_a_snooze_and_voiding_it_restores_the_snooze(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    until = ago(days=-3)
    snooze = {"until": until, "reason": "on holiday"}
    await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=snooze)
    moved = await move(client, deal["id"], "talks", occurred_at=ago(days=5))
    assert moved["opportunity"]["idle"]["goes_idle_at"] == ago(days=4)
    assert await scan(client) == 1
    await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "a slip"}
    )
    back = await only_flag(client)
    assert (back["id"], back["state"]) == (flag["id"], "snoozed")
    assert back["snoozed"]["until"] == until
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    assert (idle["goes_idle_at"], idle["flag_id"]) == (until, flag["id"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reason": "why"}, "/until"),
        ({"until": ago(days=-1)}, "/reason"),
        ({"until": ago(days=-1), "reason": ""}, "/reason"),
        ({"until": ago(seconds=1), "reason": "why"}, "/until"),
        ({"until": ago(days=-367), "reason": "why"}, "/until"),
    ],
)
async def test_a_snooze_needs_an_end_ahead_and_a_reason(
    client: httpx.AsyncClient, sales: None, body: dict[str, str], pointer: str
) -> None:
    await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    refused = await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=body)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert await only_flag(client) == flag


async def test_a_resolved_flag_is_beyond_attention_and_an_unknown_one_is_not_found(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    await move(client, deal["id"], "won")
    for flag_id, status, code in (
        (flag["id"], 409, "flag_resolved"),
        (uuid4(), 404, "not_found"),
    ):
        snooze = {"until": ago(days=-1), "reason": "why"}
        for path, body in (("acknowledgement", None), ("snooze", snooze)):
            refused = await client.post(f"/v1/idle-flags/{flag_id}/{path}", json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code)


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


async def test_the_deals_of_an_archived_pipeline_rest(
    client: httpx.AsyncClient, sales: None
) -> None:
    await open_deal(client, opened_at=ago(days=10))
    archived = await client.delete("/v1/pipelines/sales", headers={"If-Match": "*"})
    assert archived.status_code == 204, archived.text
    assert await scan(client) == 0
