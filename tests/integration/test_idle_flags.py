"""Idle flags over HTTP: opened by a scan, resolved by what happens to the deal, open again."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.pipeline import IdleRule
from app.storage.engine import Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import NOW, WEEK, ago, flags, only_flag, scan, told, watched_pipeline


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, watched_pipeline())


async def test_a_deal_that_is_due_is_flagged_once_and_says_why(
    client: httpx.AsyncClient, database: Database, sales: None
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
    ((_, event),) = await told(database, client, "idle_flag.opened")
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
    client: httpx.AsyncClient, database: Database, sales: None, to_stage: str, cause: str
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
    ((_, event),) = await told(database, client, "idle_flag.resolved")
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
    client: httpx.AsyncClient, database: Database, sales: None
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
    opened = await told(database, client, "idle_flag.opened")
    assert [event["reopened"] for _, event in opened] == [False, True]


def document(idle_after: str) -> dict[str, Any]:
    """A pipeline whose deals are idle after so long in their first stage."""
    kinds = {"lead": "open", "offer": "open", "talks": "open", "won": "won", "lost": "lost"}
    stages: list[dict[str, Any]] = [
        {"key": key, "name": key.title(), "kind": kind} for key, kind in kinds.items()
    ]
    stages[0]["idle_after"] = idle_after
    stages[4]["loss_reasons"] = [{"key": "price", "name": "Price"}]
    return {"key": "sales", "name": "Sales", "stages": stages}


async def flagged_under_a_document(
    client: httpx.AsyncClient,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A deal of ten days, and its flag under a rule of a week that is just coming into force."""
    made = await client.put("/v1/pipelines/sales", json=document("P7D"))
    assert made.status_code == 201, made.text
    deal = await open_deal(client, opened_at=ago(days=10))
    assert datetime.fromisoformat(deal["idle"]["goes_idle_at"]) > NOW  # the rule is that young
    await scan(client)
    return deal, await only_flag(client)


async def test_a_longer_threshold_resolves_the_flag_and_a_shorter_one_reopens_it(
    client: httpx.AsyncClient,
) -> None:
    deal, flag = await flagged_under_a_document(client)

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


async def test_a_hand_off_closes_the_episode_and_the_new_deal_begins_its_own(
    client: httpx.AsyncClient, sales: None, database: Database, principal: Principal
) -> None:
    renewals = replace(sales_pipeline(lead=IdleRule(after=WEEK)), key="renewals")
    await keep_pipeline(database, principal.workspace_id, renewals)
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    handed = await client.post(
        f"/v1/opportunities/{deal['id']}/hand-off", json={"pipeline": "renewals"}
    )
    assert handed.status_code == 201, handed.text
    assert (await only_flag(client, state="resolved"))["resolved"]["cause"] == "closed"
    assert await scan(client) == 0
    upcoming = await client.get("/v1/pipelines/renewals/idle/upcoming?within=P8D")
    (item,) = upcoming.json()["items"]
    assert item["opportunity"]["id"] != deal["id"]
    assert (await client.get("/v1/pipelines/sales/idle/upcoming?within=P8D")).json()["items"] == []


async def test_a_deleted_deal_takes_its_flag_with_it(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    erased = await client.delete(f"/v1/opportunities/{deal['id']}", headers={"If-Match": "*"})
    assert erased.status_code == 204
    assert await flags(client) == await flags(client, state="resolved") == []
    gone = await client.post(f"/v1/idle-flags/{flag['id']}/acknowledgement")
    assert gone.status_code == 404


async def test_the_deals_of_an_archived_pipeline_rest_until_it_is_put_back(
    client: httpx.AsyncClient,
) -> None:
    deal, flag = await flagged_under_a_document(client)
    archived = await client.delete("/v1/pipelines/sales", headers={"If-Match": "*"})
    assert archived.status_code == 204, archived.text
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    assert (idle["goes_idle_at"], idle["flag_id"]) == (None, None)
    assert (await only_flag(client, state="resolved"))["resolved"]["cause"] == "not_due"
    assert await scan(client) == 0
    put = await client.put("/v1/pipelines/sales", json=document("P7D"), headers={"If-Match": "*"})
    assert put.status_code == 200, put.text
    assert await scan(client) == 1
    assert (await only_flag(client))["id"] == flag["id"]
