"""Flags that stand for too long become critical; what was found is on record."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from app.actions.flag_idle import BATCH, flag_idle
from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from app.jobs.idle_scan import IdleScans
from app.storage.engine import Connection, Database
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import NOW, WEEK, ago, flags, let_snooze_end, only_flag, open_deals, scan, told


async def keep_sales(database: Database, workspace: UUID) -> None:
    """A week in `lead`, critical after nine days; in `offer` critical after twice a week."""
    pipeline = sales_pipeline(
        lead=IdleRule(after=WEEK, critical_after=Period(days=9)),
        offer=IdleRule(clock=IdleClock.INACTIVITY, after=WEEK),
    )
    await keep_pipeline(database, workspace, pipeline)


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> None:
    await keep_sales(database, workspace)


async def shown(client: httpx.AsyncClient, deal_id: str) -> dict[str, object]:
    idle: dict[str, object] = (await client.get(f"/v1/opportunities/{deal_id}")).json()["idle"]
    return idle


async def run_out(database: Database, principal: Principal) -> None:
    """Put the instant at which every flag is critical into the past, as if time had gone by."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            "UPDATE opportunity SET critical_at = clock_timestamp() WHERE workspace_id = $1",
            principal.workspace_id,
        )

    await database.write(principal.workspace_id, work)


async def test_a_flag_opens_as_a_warning_and_is_told_again_when_it_becomes_critical(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=8))
    await scan(client)
    warned = await only_flag(client)
    assert (warned["severity"], warned["escalated_at"]) == ("warning", None)
    idle = await shown(client, deal["id"])
    assert (idle["critical_at"], idle["severity"]) == (ago(days=-1), "warning")
    await client.post(f"/v1/idle-flags/{warned['id']}/acknowledgement")
    await run_out(database, principal)
    assert await scan(client) == 0
    critical = await only_flag(client, severity="critical")
    assert critical["id"] == warned["id"]
    assert critical["escalated_at"] is not None
    assert (critical["state"], critical["acknowledged"]) == ("open", None)
    assert await flags(client, severity="warning") == []
    after = await shown(client, deal["id"])
    assert (after["severity"], after["flag_id"]) == ("critical", warned["id"])
    assert await scan(client) == 0
    ((_, event),) = await told(database, client, "idle_flag.escalated")
    assert event["flag_id"] == warned["id"]


async def test_a_flag_that_was_to_be_critical_long_ago_is_opened_first(
    client: httpx.AsyncClient, database: Database, sales: None
) -> None:
    await open_deal(client, opened_at=ago(days=100))
    assert await scan(client) == 1
    assert (await only_flag(client))["severity"] == "critical"
    types = ("idle_flag.opened", "idle_flag.escalated")
    assert [kind for kind, _ in await told(database, client, *types)] == list(types)


async def test_without_a_length_of_its_own_a_flag_is_critical_after_twice_the_threshold(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    moved = await move(client, deal["id"], "offer", occurred_at=ago(days=9))
    idle = moved["opportunity"]["idle"]
    assert (idle["goes_idle_at"], idle["critical_at"]) == (ago(days=2), ago(days=-5))


async def test_many_scans_at_once_make_each_flag_critical_exactly_once(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    pipeline = sales_pipeline(lead=IdleRule(after=WEEK))
    await keep_pipeline(database, principal.workspace_id, pipeline)
    many = BATCH + 50
    await open_deals(database, principal, pipeline, many, NOW - timedelta(days=30))
    workspace = principal.workspace_id
    scans = await asyncio.gather(*(flag_idle(database, workspace) for _ in range(6)))
    scans.append(await flag_idle(database, workspace))
    assert sum(found.flagged for found in scans) == many
    assert sum(found.escalated for found in scans) == many
    critical = await told(database, client, "idle_flag.escalated")
    assert len({event["flag_id"] for _, event in critical}) == len(critical) == many


async def test_a_critical_flag_that_comes_back_from_a_snooze_is_critical_still_and_told_once(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=30))
    await scan(client)
    flag = await only_flag(client)
    snooze = {"until": ago(days=-3), "reason": "on holiday"}
    await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=snooze)
    assert (await only_flag(client, severity="critical"))["state"] == "snoozed"

    async def end_snooze(connection: Connection) -> None:
        await connection.execute(
            "UPDATE opportunity SET goes_idle_at = clock_timestamp(),"
            " critical_at = clock_timestamp() WHERE workspace_id = $1",
            principal.workspace_id,
        )

    await database.write(principal.workspace_id, end_snooze)
    assert await scan(client) == 1
    back = await only_flag(client)
    assert (back["id"], back["severity"], back["state"]) == (flag["id"], "critical", "open")
    assert (await shown(client, deal["id"]))["severity"] == "critical"
    assert len(await told(database, client, "idle_flag.escalated")) == 1


async def test_a_voided_move_brings_a_critical_flag_back_as_critical(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=30))
    await scan(client)
    moved = await move(client, deal["id"], "talks")
    assert moved["opportunity"]["idle"]["severity"] is None
    undone = await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "a slip"}
    )
    assert undone.status_code == 200, undone.text
    assert (await only_flag(client))["severity"] == "critical"
    assert (await shown(client, deal["id"]))["severity"] == "critical"


async def test_the_service_comes_back_when_the_next_flag_is_to_be_critical(
    own_database: str,
) -> None:
    alone = await Database.open(own_database)
    principal, key = await make_workspace(alone)
    await keep_sales(alone, principal.workspace_id)
    nearly = datetime.now(UTC) - timedelta(days=9) + timedelta(seconds=50)
    async with running(own_database) as connect:
        await open_deal(connect(key), opened_at=nearly.isoformat())
        await scan(connect(key))
    ahead = await IdleScans(alone, timedelta(days=2)).scan_all()
    await alone.close()
    assert ahead is not None
    assert timedelta(0) < ahead <= timedelta(minutes=1)


async def test_a_planned_next_step_holds_the_flag_back_but_not_for_ever(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    rule = IdleRule(after=WEEK, max_pause=Period(days=5))
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=rule))
    deal = await open_deal(client, opened_at=ago(days=8))
    assert await scan(client) == 1

    async def plan(**more: str) -> dict[str, object]:
        answer = await client.post(
            f"/v1/opportunities/{deal['id']}/activities", json={"kind": "call", **more}
        )
        assert answer.status_code == 201, answer.text
        return await shown(client, deal["id"])

    idle = await plan(next_step="Meet their board", next_step_at=ago(days=-2))
    assert (idle["goes_idle_at"], idle["held_by"]) == (ago(days=-2), "next_step")
    assert idle["next_step"]["what"] == "Meet their board"  # type: ignore[index] # it is planned
    assert idle["flag_id"] is None
    ((_, resolved),) = await told(database, client, "idle_flag.resolved")
    assert resolved["resolved_by"] == "not_due"
    idle = await plan(next_step_at=ago(days=-30))
    assert idle["goes_idle_at"] == ago(days=-4)  # the threshold, and five days
    idle = await plan()
    assert (idle["next_step"], idle["goes_idle_at"]) == (None, ago(days=1))
    assert (idle["held_by"], idle["threshold"]) == (None, "P7D")
    assert await scan(client) == 1
    assert (await only_flag(client))["clock_started_at"] == ago(days=8)


async def test_what_was_agreed_while_a_deal_was_closed_is_planned_when_its_close_is_undone(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=6))
    one = f"/v1/opportunities/{deal['id']}"
    lost = await move(client, deal["id"], "lost", loss_reason="price")
    for said in (
        {"kind": "call", "next_step": "Meet their board", "next_step_at": ago(days=-2)},
        {"kind": "call", "occurred_at": ago(days=1), "next_step_at": ago(days=-9)},  # before it
        {"kind": "note"},
    ):
        assert (await client.post(f"{one}/activities", json=said)).is_success
    assert (await client.get(one)).json()["idle"]["next_step"] is None
    void = f"/v1/transitions/{lost['transition']['id']}/void"
    assert (await client.post(void, json={"reason": "A slip."})).is_success
    planned = (await client.get(one)).json()["idle"]["next_step"]
    assert planned["what"] == "Meet their board"
    assert (await client.post(f"{one}/activities", json={"kind": "call"})).is_success
    assert (await client.get(one)).json()["idle"]["next_step"] is None
    lost = await move(client, deal["id"], "lost", loss_reason="price")
    void = f"/v1/transitions/{lost['transition']['id']}/void"
    assert (await client.post(void, json={"reason": "A slip."})).is_success
    assert (await client.get(one)).json()["idle"]["next_step"] is None  # that is done


async def test_a_flag_goes_with_its_deal_where_a_changed_definition_puts_it(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    week = {"kind": "open", "idle_after": "P7D"}
    stages = [
        {"key": "lead", "name": "Lead", **week},
        {"key": "offer", "name": "Offer", **week, "idle_clock": "inactivity"},
        {"key": "won", "name": "Won", "kind": "won"},
        {
            "key": "lost",
            "name": "Lost",
            "kind": "lost",
            "loss_reasons": [{"key": "price", "name": "Price"}],
        },
    ]
    made = await client.put(
        "/v1/pipelines/sales",
        json={"key": "sales", "name": "Sales", "flow": "free", "stages": stages},
    )
    assert made.status_code == 201, made.text
    deal = await open_deal(client, opened_at=ago(days=20))
    await scan(client)
    before = await only_flag(client, pipeline="sales", stage="lead")
    assert (before["severity"], before["clock"]) == ("critical", "stage_age")
    archived = await client.post(
        "/v1/pipelines/sales/stages/lead/archive", json={"move_open_to": "offer"}
    )
    assert archived.status_code == 201, archived.text
    assert await flags(client, pipeline="sales", stage="lead") == []
    after = await only_flag(client, pipeline="sales", stage="offer")
    assert after == {**after, "id": before["id"], "severity": "critical", "clock": "inactivity"}
    snooze = {"until": ago(days=-1), "reason": "Later."}
    assert (await client.post(f"/v1/idle-flags/{after['id']}/snooze", json=snooze)).is_success
    await let_snooze_end(database, principal, deal["id"])
    assert await scan(client) == 1
    back = await only_flag(client)
    assert (back["id"], back["severity"]) == (before["id"], "critical")


async def test_a_next_step_comes_after_what_was_done(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    refused = await client.post(
        f"/v1/opportunities/{deal['id']}/activities",
        json={"kind": "call", "occurred_at": ago(days=1), "next_step_at": ago(days=2)},
    )
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/next_step_at"]
    listed = await client.get(f"/v1/opportunities/{deal['id']}/activities")
    assert listed.json()["items"] == []


async def test_scans_that_found_something_are_on_record_with_how_late_they_were(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    await open_deal(client, opened_at=ago(days=8))
    before = (await client.get("/v1/idle-scans")).json()
    assert before["items"] == []
    assert before["lag_seconds"] < 3_600  # it was written as overdue a moment ago

    async def let_an_hour_pass(connection: Connection) -> None:
        await connection.execute(
            "UPDATE opportunity SET updated_at = updated_at - interval '1 hour'"
            " WHERE workspace_id = $1",
            principal.workspace_id,
        )

    await database.write(principal.workspace_id, let_an_hour_pass)
    assert 3_600 <= (await client.get("/v1/idle-scans")).json()["lag_seconds"] < 86_400
    found = await flag_idle(database, principal.workspace_id)
    await flag_idle(database, principal.workspace_id)  # finds nothing
    after = (await client.get("/v1/idle-scans")).json()
    (scanned,) = after["items"]
    assert after["lag_seconds"] == 0
    assert (scanned["id"], scanned["flagged"], scanned["escalated"]) == (str(found.scan_id), 1, 0)
    assert 3_600 <= scanned["lag_seconds"] < 86_400
    assert scanned["requested_by"] is None
    key = {"Idempotency-Key": str(uuid4())}
    asked = await client.post("/v1/idle-scans", headers=key)
    again = await client.post("/v1/idle-scans", headers=key)
    assert again.json() == asked.json()
    assert (asked.json()["requested_by"], asked.json()["lag_seconds"]) == ("tester", None)
    pages = await client.get("/v1/idle-scans", params={"limit": 1})
    assert pages.json()["items"] == [asked.json()]
    cursor = pages.json()["page"]["next_cursor"]
    following = await client.get("/v1/idle-scans", params={"limit": 1, "cursor": cursor})
    assert following.json()["items"] == [scanned]
