"""What a digest may be asked: whose deals, of which day by which clock, and how much of it."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest

from app.domain.access import Principal, Scope
from app.storage.engine import Database
from tests.conftest import make_workspace
from tests.deals import DEALS
from tests.digest import (
    DAY,
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
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import NOW, ago, flags, scan

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipelines(database, principal.workspace_id)


async def test_every_section_counts_all_and_shows_the_first(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: None
) -> None:
    for number in range(3):
        yesterday = (TODAY - (3 - number) * DAY).isoformat()
        await open_deal(client, opened_at=ago(days=7, hours=1), expected_close_on=yesterday)
    await scan(client)
    await as_if_seen_at_once(database, workspace)
    for _ in range(3):
        deal = await open_deal(client, opened_at=ago(days=6))
        await plan(client, deal, NOW - DAY, "Call")
        moved = await open_deal(client, opened_at=ago(days=9))
        await move(client, moved["id"], "offer", occurred_at=ago(days=8))
        await move(client, moved["id"], "talks", occurred_at=ago(hours=1))
        await open_deal(client, stage="offer", opened_at=ago(days=9))
    whole, cut = await digest(client), await digest(client, limit=2)
    for name in SECTIONS:
        assert (whole[name]["count"], len(whole[name]["items"])) == (3, 3), name
        assert cut[name] == {"count": 3, "items": whole[name]["items"][:2]}, name


async def test_filters_add_up_and_go_by_whose_the_deal_is_now(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: None
) -> None:
    overdue = (TODAY - DAY).isoformat()
    deals = {}
    for pipeline in ("sales", "renewals"):
        for owner, team in (("mia", "north"), ("tom", "north"), ("tom", "south")):
            facts = {"owner": owner, "team": team, "expected_close_on": overdue}
            idle = await open_deal(client, pipeline, opened_at=ago(days=7, hours=1), **facts)
            busy = await open_deal(client, pipeline, opened_at=ago(days=6), owner="eve")
            await plan(client, busy, NOW - DAY, "Call")
            await move(client, busy["id"], "offer", occurred_at=ago(days=5))
            await move(client, busy["id"], "lead", occurred_at=ago(days=5))
            await move(client, busy["id"], "offer", occurred_at=ago(hours=1))
            changed = await client.patch(
                f"{DEALS}/{busy['id']}", json=facts, headers={"If-Match": "*"}
            )
            assert changed.status_code == 200, changed.text
            soon = await open_deal(client, pipeline, opened_at=ago(days=6), **facts)
            deals[pipeline, owner, team] = {
                "newly_idle": {idle["id"]},
                "about_to_be_idle": {soon["id"]},
                "next_steps_due": {busy["id"]},
                "moves": {busy["id"]},
                "past_expected_close": {idle["id"], busy["id"], soon["id"]},
            }
    await scan(client)
    await as_if_seen_at_once(database, workspace)
    for query in (
        *({}, {"owner": "tom"}, {"team": "north"}, {"pipeline": "sales"}, {"owner": "eve"}),
        *({"owner": "tom", "team": "north"}, {"owner": "mia", "pipeline": "renewals"}),
        {"owner": "tom", "team": "south", "pipeline": "sales"},
    ):
        wanted = [
            found
            for (pipeline, owner, team), found in deals.items()
            if {"pipeline": pipeline, "owner": owner, "team": team}.items() >= query.items()
        ]
        found = await digest(client, timezone="UTC", **query)
        for name in ("newly_idle", "about_to_be_idle", "next_steps_due", "moves"):
            assert set(deals_in(found[name])) == {deal for each in wanted for deal in each[name]}
            assert found[name]["count"] == len(wanted)
        assert found["past_expected_close"]["count"] == 3 * len(wanted)
        assert found["idle_flags"]["count"] == len(await flags(client, **query)) == len(wanted)


def changes_of_clock() -> list[tuple[date, int]]:
    """The last two days on which the clocks of Berlin were changed, and the hours that they had."""
    found = []
    day = TODAY - 2 * DAY
    while len(found) < 2:
        begins, ends = (datetime.combine(d, time(), BERLIN).timestamp() for d in (day, day + DAY))
        if ends - begins != 86_400:
            found.append((day, round(ends - begins) // 3600))
        day -= DAY
    return found


async def test_a_day_on_which_the_clocks_change_has_23_or_25_hours(
    client: httpx.AsyncClient, sales: None
) -> None:
    changes = changes_of_clock()
    assert {hours for _, hours in changes} == {23, 25}
    for day, hours in changes:
        begins = datetime.combine(day, time(), BERLIN).astimezone(UTC)
        since, end = begins - DAY, begins + timedelta(hours=hours)
        deal = await open_deal(client, "renewals", opened_at=written(since - DAY))
        for place, at in zip(
            ("offer", "talks", "offer", "talks", "lead"),
            (since - TICK, since, begins, end - TICK, end),
            strict=True,
        ):
            await move(client, deal["id"], place, occurred_at=written(at))
        found = await digest(client, on=day, pipeline="renewals")
        assert found["timezone"] == "Europe/Berlin"
        assert (found["since"], found["until"]) == (written(since), written(end))
        assert found["ahead_until"] == written(end + 3 * DAY)
        within = [item["occurred_at"] for item in found["moves"]["items"]]
        assert within == [written(end - TICK), written(begins), written(since)]
        following = await digest(client, on=day + DAY, timezone="Europe/Berlin")
        within = [item["occurred_at"] for item in following["moves"]["items"]]
        assert within == [written(end), written(end - TICK), written(begins)]
        elsewhere = await digest(client, on=day, pipeline="renewals", timezone="UTC")
        assert elsewhere["since"] == f"{day - DAY}T00:00:00Z"


async def test_left_out_the_day_is_today_in_the_time_zone(client: httpx.AsyncClient) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart: never the same day
        before = datetime.now(ZoneInfo(zone)).date()
        answer = await client.get("/v1/digest", params={"timezone": zone})
        assert answer.json()["on"] in {
            before.isoformat(),
            datetime.now(ZoneInfo(zone)).date().isoformat(),
        }
        assert answer.json()["timezone"] == zone


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ({"on": "2026-13-01"}, "?on", "wrong_format"),
        ({"on": "tomorrow"}, "?on", "wrong_format"),
        ({"on": "1900-01-01"}, "?on", "out_of_range"),
        ({"on": "2999-12-31"}, "?on", "out_of_range"),
        ({"on": TODAY - 370 * DAY}, "?on", "out_of_range"),
        ({"on": TODAY + 370 * DAY}, "?on", "out_of_range"),
        ({"timezone": "Europe/Atlantis"}, "?timezone", "unknown_timezone"),
        ({"timezone": "localtime"}, "?timezone", "unknown_timezone"),
        ({"within": "P1M"}, "?within", "wrong_format"),
        ({"within": "3"}, "?within", "wrong_format"),
        ({"limit": "0"}, "?limit", "out_of_range"),
        ({"limit": "201"}, "?limit", "out_of_range"),
        ({"owner": ""}, "?owner", "too_short"),
        ({"cursor": "next"}, "?cursor", "unknown_field"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any], pointer: str, code: str
) -> None:
    answer = await client.get("/v1/digest", params=query)
    assert answer.status_code == 422, answer.text
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]


async def test_the_longest_look_ahead_and_the_farthest_days_are_answered(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    for days in (-365, 365):
        found = await digest(client, on=TODAY + days * DAY, within="P36525D")
        assert deals_in(found["about_to_be_idle"]) == [deal["id"]]


async def test_a_pipeline_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/digest", params={"pipeline": "nowhere"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_digest_tells_nothing_of_another_workspace(
    client: httpx.AsyncClient, service: Any, database: Database, sales: None
) -> None:
    facts = {"owner": "mia", "expected_close_on": (TODAY - DAY).isoformat()}
    deal = await open_deal(client, opened_at=ago(days=9), **facts)
    await plan(client, deal, NOW - DAY, "Call")
    await scan(client)
    moved = await open_deal(client, opened_at=ago(days=9), owner="mia")
    await move(client, moved["id"], "offer", occurred_at=ago(days=4))
    await move(client, moved["id"], "talks", occurred_at=ago(hours=1))
    other, key = await make_workspace(database, Scope.OPPORTUNITIES_READ)
    await keep_pipeline(database, other.workspace_id, sales_pipeline())
    for query in ({}, {"owner": "mia"}, {"pipeline": "sales"}):
        found = await digest(service(key), **query)
        assert [found[name]["count"] for name in SECTIONS] == [0] * len(SECTIONS)
        assert found["idle_flags"]["count"] == 0
    assert (await digest(client, owner="mia"))["moves"]["count"] == 1


async def test_a_digest_needs_the_scope_to_read_deals(service: Any, database: Database) -> None:
    for scope, status in ((Scope.IDLE_FLAGS_READ, 403), (Scope.OPPORTUNITIES_READ, 200)):
        _, key = await make_workspace(database, scope)
        assert (await service(key).get("/v1/digest")).status_code == status
