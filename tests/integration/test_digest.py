"""The digest of a day: what each of its sections holds."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.domain.access import Principal
from app.jobs.run_imports import run_pending_imports
from app.storage.engine import Database
from tests.deals import DEALS
from tests.digest import (
    DAY,
    MIDNIGHT,
    SECTIONS,
    TICK,
    TODAY,
    as_if_seen_at_once,
    deals_in,
    digest,
    keep_pipelines,
    plan,
    written,
)
from tests.factories import move, open_deal
from tests.idle import NOW, WEEK, ago, flags, scan


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipelines(database, principal.workspace_id)


async def test_where_there_is_nothing_every_section_is_empty(client: httpx.AsyncClient) -> None:
    found = await digest(client, owner="nobody")
    for name in SECTIONS:
        assert found[name] == {"count": 0, "items": []}, name
    assert set(found["idle_flags"].values()) == {0}
    assert (found["on"], found["timezone"]) == (TODAY.isoformat(), "UTC")
    assert found["since"] == written(MIDNIGHT - DAY)
    assert found["until"] == written(MIDNIGHT + DAY)
    assert found["ahead_until"] == written(MIDNIGHT + 4 * DAY)


async def test_newly_idle_are_deals_that_fell_idle_since_yesterday_and_still_are(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    first = MIDNIGHT - DAY - WEEK.length
    await open_deal(client, opened_at=written(first - TICK))
    edge = await open_deal(client, opened_at=written(first))
    fresh = await open_deal(client, opened_at=ago(days=7, hours=1), owner="mia")
    resolved = await open_deal(client, opened_at=ago(days=7, hours=1))
    assert await scan(client) == 4
    await move(client, resolved["id"], "talks")
    await as_if_seen_at_once(database, principal.workspace_id)
    found = await digest(client)
    assert deals_in(found["newly_idle"]) == [edge["id"], fresh["id"]]
    assert found["newly_idle"]["count"] == 2
    shown = {flag["id"]: flag for flag in await flags(client)}
    assert all(item == shown[item["id"]] for item in found["newly_idle"]["items"])
    assert deals_in((await digest(client, owner="mia"))["newly_idle"]) == [fresh["id"]]
    before = await digest(client, on=TODAY - 2 * DAY)
    (earlier,) = before["newly_idle"]["items"]
    assert earlier["idle_since"] == written(MIDNIGHT - DAY - TICK)


async def test_a_deal_whose_flag_was_opened_late_is_newly_idle_when_it_was_opened(
    client: httpx.AsyncClient, sales: None
) -> None:
    late = await open_deal(client, opened_at=ago(days=12))  # idle for five days, in which nobody
    assert await scan(client) == 1  # looked
    found = await digest(client, on=datetime.now(UTC).date())
    assert deals_in(found["newly_idle"]) == [late["id"]]
    assert (await digest(client, on=TODAY - 4 * DAY))["newly_idle"]["count"] == 0


async def test_the_backlog_of_flags_is_counted_by_state_and_severity(
    client: httpx.AsyncClient, sales: None
) -> None:
    for days in (8, 8, 8, 8, 30, 30):
        await open_deal(client, opened_at=ago(days=days))
    gone = await open_deal(client, opened_at=ago(days=8))
    await scan(client)
    await scan(client)  # what stands long enough becomes critical
    await move(client, gone["id"], "talks")
    first, second, third = (flag["id"] for flag in (await flags(client))[:3])
    await client.post(f"/v1/idle-flags/{first}/acknowledgement")
    for aside in (second, third):
        await client.post(f"/v1/idle-flags/{aside}/acknowledgement")
        snooze = {"until": ago(days=-9), "reason": "a holiday"}
        await client.post(f"/v1/idle-flags/{aside}/snooze", json=snooze)
    counts = (await digest(client))["idle_flags"]
    assert counts == {"count": 6, "open": 3, "acknowledged": 1, "snoozed": 2, "critical": 2}
    for state in ("open", "acknowledged", "snoozed"):
        assert counts[state] == len(await flags(client, state=state))
    assert counts["critical"] == len(await flags(client, severity="critical"))


async def test_about_to_be_idle_are_deals_without_an_open_flag_up_to_the_end_of_within(
    client: httpx.AsyncClient, sales: None
) -> None:
    flagged = await open_deal(client, opened_at=ago(days=9))
    await scan(client)
    (flag,) = await flags(client)
    unseen = await open_deal(client, opened_at=ago(days=8))
    end = MIDNIGHT + DAY - WEEK.length
    soon = await open_deal(client, opened_at=written(end - TICK))
    later = await open_deal(client, opened_at=written(end))
    latest = await open_deal(client, opened_at=written(end + 3 * DAY - TICK))
    too_late = await open_deal(client, opened_at=written(end + 3 * DAY))
    assert deals_in((await digest(client, within="PT0S"))["about_to_be_idle"]) == [
        *(unseen["id"], soon["id"]),
    ]
    found = (await digest(client))["about_to_be_idle"]
    assert deals_in(found) == [unseen["id"], soon["id"], later["id"], latest["id"]]
    wider = (await digest(client, within="P4D"))["about_to_be_idle"]
    assert deals_in(wider) == [*deals_in(found), too_late["id"]]
    assert found["items"][1]["goes_idle_at"] == written(MIDNIGHT + DAY - TICK)
    until = written(NOW + 2 * DAY)
    await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json={"until": until, "reason": "?"})
    again = (await digest(client))["about_to_be_idle"]["items"]
    (aside,) = (item for item in again if item["opportunity"]["id"] == flagged["id"])
    assert (aside["goes_idle_at"], aside["flag_id"]) == (until, flag["id"])


async def test_follow_ups_and_next_steps_are_due_by_the_end_of_the_day(
    client: httpx.AsyncClient, sales: None
) -> None:
    tomorrow = MIDNIGHT + DAY
    cadence = timedelta(days=3)
    due = await open_deal(client, stage="offer", opened_at=written(tomorrow - cadence - TICK))
    await open_deal(client, stage="offer", opened_at=written(tomorrow - cadence))
    overdue = await open_deal(client, stage="offer", opened_at=ago(days=9))
    await move(
        client,
        (await open_deal(client, stage="offer", opened_at=ago(days=9)))["id"],
        "won",
    )
    found = await digest(client)
    assert deals_in(found["follow_ups_due"]) == [overdue["id"], due["id"]]
    listed = await client.get("/v1/follow-ups", params={"due": written(tomorrow - TICK)})
    assert found["follow_ups_due"] == {"count": 2, "items": listed.json()["items"]}

    planned = [await open_deal(client, stage="talks", opened_at=ago(days=9)) for _ in range(4)]
    late, now, ahead, won = planned
    await plan(client, now, tomorrow - TICK, "Send the quote")
    await plan(client, late, NOW - 2 * DAY, "Call back")
    await plan(client, ahead, tomorrow, "Meet")
    await plan(client, won, NOW - 2 * DAY, "Nothing")
    await move(client, won["id"], "won")
    found = await digest(client)
    assert deals_in(found["next_steps_due"]) == [late["id"], now["id"]]
    step = found["next_steps_due"]["items"][1]
    assert (step["pipeline"], step["stage"]) == ("sales", "talks")
    assert step["next_step"] == {
        "at": written(tomorrow - TICK),
        "planned_at": ago(days=8),
        "what": "Send the quote",
    }
    assert deals_in((await digest(client, on=TODAY + DAY))["next_steps_due"])[2:] == [ahead["id"]]


async def test_moves_are_those_that_somebody_made_since_yesterday_the_newest_first(
    client: httpx.AsyncClient, database: Database, sales: None
) -> None:
    price = {"amount": "99.50", "currency": "EUR"}
    deal = await open_deal(client, opened_at=ago(days=5), owner="mia", amount=price)
    await move(client, deal["id"], "offer", occurred_at=ago(days=2))
    await move(client, deal["id"], "talks", occurred_at=ago(hours=20))
    slip = await move(client, deal["id"], "parked", occurred_at=ago(hours=19))
    await client.post(f"/v1/transitions/{slip['transition']['id']}/void", json={"reason": "a slip"})
    lost = await move(client, deal["id"], "lost", loss_reason="price", occurred_at=ago(hours=18))
    # Handed off from where it is closed: a link, and no move. From where it is open: its end.
    for origin, hours in ((deal, 17), (await open_deal(client, opened_at=ago(days=4)), 16)):
        answer = await client.post(
            f"{DEALS}/{origin['id']}/hand-off",
            json={"pipeline": "renewals", "occurred_at": ago(hours=hours)},
        )
        assert answer.status_code == 201, answer.text
    await open_deal(client, opened_at=ago(hours=15))
    # Rearranged: nobody has moved it.
    await open_deal(client, stage="parked", opened_at=ago(days=3))
    answer = await client.post(
        "/v1/pipelines/sales/stages/parked/archive", json={"move_open_to": "lead"}
    )
    assert answer.status_code == 201, answer.text
    await imported(
        client, database, f"deal,stage,at\nD1,lead,{ago(hours=14)}\nD1,offer,{ago(hours=13)}\n"
    )

    found = (await digest(client))["moves"]
    assert [(item["kind"], item["occurred_at"]) for item in found["items"]] == [
        ("handed_off", ago(hours=16)),
        ("lost", ago(hours=18)),
        ("advanced", ago(hours=20)),
    ]
    assert found["count"] == 3
    assert found["items"][1] == {
        "id": lost["transition"]["id"],
        "opportunity": {
            "id": deal["id"],
            "external_id": None,
            "name": "A deal",
            "owner": "mia",
            "team": None,
            "priority": None,
        },
        "pipeline": "sales",
        "kind": "lost",
        "from_stage": "talks",
        "to_stage": "lost",
        "occurred_at": ago(hours=18),
        "amount": price,
        "loss_reason": "price",
        "actor": "tester",
    }
    earlier = (await digest(client, on=NOW.date() - 2 * DAY))["moves"]
    assert [item["occurred_at"] for item in earlier["items"]] == [ago(days=2)]


async def imported(client: httpx.AsyncClient, database: Database, content: str) -> None:
    """Import a row per move, to the end."""
    mapping = {"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}
    sent = await client.post(
        "/v1/pipelines/sales/imports",
        data={"mapping": json.dumps(mapping)},
        files={"file": ("history.csv", content, "text/csv")},
    )
    assert sent.status_code == 202, sent.text
    async with asyncio.timeout(30):
        while True:
            job = (await client.get(sent.headers["Location"])).json()
            if job["finished_at"] is not None:
                break
            await run_pending_imports(database)
    assert (job["state"], job["counts"]["deals_created"]) == ("completed", 1), job


async def test_past_their_expected_close_are_open_deals_of_pipelines_at_work(
    client: httpx.AsyncClient, sales: None
) -> None:
    def expected(days: int) -> str:
        return (TODAY + days * DAY).isoformat()

    price = {"amount": "1250.00", "currency": "EUR"}
    recent = await open_deal(client, expected_close_on=expected(-1), amount=price)
    old = await open_deal(client, expected_close_on=expected(-40))
    today = await open_deal(client, expected_close_on=expected(0))
    won = await open_deal(client, expected_close_on=expected(-3))
    await move(client, won["id"], "won")
    resting = await open_deal(client, "renewals", expected_close_on=expected(-9))
    await plan(client, resting, NOW - DAY, "Call")
    found = await digest(client)
    assert deals_in(found["past_expected_close"]) == [old["id"], resting["id"], recent["id"]]
    assert deals_in(found["next_steps_due"]) == [resting["id"]]
    await client.delete("/v1/pipelines/renewals", headers={"If-Match": "*"})
    found = await digest(client)
    assert deals_in(found["past_expected_close"]) == [old["id"], recent["id"]]
    assert found["next_steps_due"]["count"] == 0
    late = found["past_expected_close"]["items"][1]
    assert (late["amount"], late["expected_close_on"], late["days_overdue"]) == (
        *(price, expected(-1), 1),
    )
    ahead = await digest(client, on=TODAY + DAY)
    assert deals_in(ahead["past_expected_close"]) == [old["id"], recent["id"], today["id"]]
