"""What a deal's row says of its clock holds wherever its past is changed, and doctors agree."""

import json
from typing import Any

import httpx
import pytest

from app.actions.check_projection import disagreements
from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from app.jobs.run_imports import run_pending_imports
from app.storage.engine import Connection, Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import WEEK, ago, only_flag, scan, told

SILENCE = IdleClock.INACTIVITY


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    """Calls count in `lead`, meetings in `offer`."""
    pipeline = sales_pipeline(
        lead=IdleRule(clock=SILENCE, after=WEEK, qualifying=("call",)),
        offer=IdleRule(clock=SILENCE, after=WEEK, qualifying=("meeting",)),
    )
    await keep_pipeline(database, principal.workspace_id, pipeline)


async def record(client: httpx.AsyncClient, deal: dict[str, Any], kind: str, **more: Any) -> None:
    answer = await client.post(
        f"/v1/opportunities/{deal['id']}/activities", json={"kind": kind, **more}
    )
    assert answer.status_code == 201, answer.text


async def clock(client: httpx.AsyncClient, deal: dict[str, Any]) -> tuple[str, str]:
    """Since when the deal's clock runs, and by what."""
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    return idle["clock_started_at"], idle["last_reset_by"]


async def void(client: httpx.AsyncClient, moved: dict[str, Any]) -> None:
    answer = await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "a slip"}
    )
    assert answer.status_code == 200, answer.text


async def test_a_call_on_a_closed_deal_counts_once_the_close_is_voided(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=20))
    lost = await move(client, deal["id"], "won", occurred_at=ago(days=2))
    await record(client, deal, "call", occurred_at=ago(days=1))
    await void(client, lost)
    assert await clock(client, deal) == (ago(days=1), "activity")
    assert await scan(client) == 0


async def test_a_backdated_move_is_judged_by_what_counts_where_it_leads(
    client: httpx.AsyncClient, sales: None
) -> None:
    called = await open_deal(client, opened_at=ago(days=20))
    await record(client, called, "call", occurred_at=ago(days=2))
    await move(client, called["id"], "offer", occurred_at=ago(days=10))
    assert await clock(client, called) == (ago(days=10), "move")
    met = await open_deal(client, opened_at=ago(days=20))
    await record(client, met, "meeting", occurred_at=ago(days=2))
    moved = await move(client, met["id"], "offer", occurred_at=ago(days=10))
    assert await clock(client, met) == (ago(days=2), "activity")
    await void(client, moved)
    assert await clock(client, met) == (ago(days=20), "move")


async def test_a_row_whose_clock_is_not_that_of_its_activities_is_found_and_mended(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=20))
    await record(client, deal, "call", occurred_at=ago(days=2))

    async def forget(connection: Connection) -> None:
        await connection.execute(
            "UPDATE opportunity SET last_activity_at = NULL, clock_started_at = moved_at,"
            " clock_reset_by = 'move', goes_idle_at = moved_at + interval '7 days',"
            " critical_at = moved_at + interval '14 days' WHERE workspace_id = $1",
            principal.workspace_id,
        )

    await database.write(principal.workspace_id, forget)
    (found,) = [each async for each in disagreements(database, principal.workspace_id)]
    assert {"clock_started_at", "clock_reset_by", "goes_idle_at"} <= found.differences.keys()


async def test_history_imported_into_an_archived_pipeline_rests_like_its_other_deals(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    mapping = {"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}
    taken = await client.post(
        "/v1/pipelines/sales/imports",
        data={"mapping": json.dumps(mapping)},
        files={"file": ("h.csv", "deal,stage,at\nD1,lead,2026-01-01T00:00:00Z\n", "text/csv")},
    )
    assert taken.status_code == 202, taken.text
    archived = await client.delete("/v1/pipelines/sales", headers={"If-Match": "*"})
    assert archived.status_code == 204
    await run_pending_imports(database)
    for deal in (await client.get("/v1/opportunities")).json()["items"]:
        assert deal["idle"]["goes_idle_at"] is None
    assert await scan(client) == 0
    assert [each async for each in disagreements(database, principal.workspace_id)] == []


async def test_a_snooze_ends_with_the_flag_that_it_put_aside(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    rule = IdleRule(after=WEEK, after_by_priority={"low": Period(days=30)})
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=rule))
    deal = await open_deal(client, opened_at=ago(days=20))
    await scan(client)
    flag = await only_flag(client)
    snooze = {"until": ago(days=-90), "reason": "on holiday"}
    await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=snooze)
    patched = await client.patch(
        f"/v1/opportunities/{deal['id']}", json={"priority": "low"}, headers={"If-Match": "*"}
    )
    idle = patched.json()["idle"]
    assert (idle["flag_id"], idle["snoozed_until"]) == (None, None)
    assert (idle["goes_idle_at"], idle["held_by"]) == (ago(days=-10), None)


async def test_a_flag_is_not_critical_in_a_stage_that_gives_it_more_time(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    pipeline = sales_pipeline(
        lead=IdleRule(clock=SILENCE, after=Period(days=1)),
        offer=IdleRule(clock=SILENCE, after=Period(days=3), critical_after=Period(days=30)),
    )
    await keep_pipeline(database, principal.workspace_id, pipeline)
    deal = await open_deal(client, opened_at=ago(days=20))
    await record(client, deal, "call", occurred_at=ago(days=5))
    await scan(client)
    assert (await only_flag(client))["severity"] == "critical"
    await move(client, deal["id"], "offer", occurred_at=ago(days=6))
    assert await scan(client) == 1
    flag = await only_flag(client)
    assert (flag["stage"], flag["severity"], flag["clock_started_at"]) == (
        *("offer", "warning", ago(days=5)),
    )
    assert len(await told(database, client, "idle_flag.escalated")) == 1


async def test_what_a_rule_says_of_a_closed_deal_does_not_change_behind_its_version(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=2))
    await move(client, deal["id"], "won")
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    assert (idle["threshold"], idle["goes_idle_at"], idle["held_by"]) == (None, None, None)


async def test_a_longer_way_to_critical_leaves_what_was_due_as_it_was(
    client: httpx.AsyncClient,
) -> None:
    lead = {"key": "lead", "name": "Lead", "kind": "open", "idle_after": "PT1S"}
    closed = [
        {"key": "won", "name": "Won", "kind": "won"},
        {
            "key": "lost",
            "name": "Lost",
            "kind": "lost",
            "loss_reasons": [{"key": "p", "name": "P"}],
        },
    ]
    sales = {"key": "sales", "name": "Sales", "stages": [lead, *closed]}
    assert (await client.post("/v1/pipelines", json=sales)).status_code == 201
    deal = await open_deal(client)
    changed = await client.patch(
        "/v1/pipelines/sales/stages/lead",
        json={"critical_after": "P60D"},
        headers={"If-Match": "*"},
    )
    assert changed.status_code == 200, changed.text
    after = (await client.get(f"/v1/opportunities/{deal['id']}")).json()
    assert after["idle"]["goes_idle_at"] == deal["idle"]["goes_idle_at"]
    assert after["idle"]["critical_at"] > deal["idle"]["critical_at"]
    assert after["version"] == deal["version"] + 1
