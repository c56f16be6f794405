"""Activities over HTTP: recorded, listed, and what they do to the idle clock."""

import asyncio
from datetime import datetime, timedelta

import httpx
import pytest

from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from app.storage.engine import Database
from tests.asking import decided
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.idle import NOW, ago

WEEK = timedelta(days=7)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    """In `lead` a deal is idle a week after anything was done, in `offer` after a week there."""
    await keep_pipeline(
        database,
        principal.workspace_id,
        sales_pipeline(
            lead=IdleRule(clock=IdleClock.INACTIVITY, after=Period(days=7)),
            offer=IdleRule(clock=IdleClock.STAGE_AGE, after=Period(days=7)),
        ),
    )


async def record(client: httpx.AsyncClient, deal_id: str, **activity: object) -> httpx.Response:
    return await client.post(f"/v1/opportunities/{deal_id}/activities", json=activity)


async def idle_of(client: httpx.AsyncClient, deal_id: str) -> dict[str, str | None]:
    return (await client.get(f"/v1/opportunities/{deal_id}")).json()["idle"]


async def test_an_activity_is_answered_as_it_is_found_later(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    made = await record(
        client, deal["id"], kind="call", content="预算已确认", occurred_at=ago(days=2)
    )
    assert made.status_code == 201
    body = made.json()
    assert body["kind"] == "call"
    assert body["content"] == "预算已确认"
    assert body["occurred_at"] == ago(days=2)
    assert body["actor"] == "tester"
    assert body["historical"] is False
    found = await client.get(made.headers["Location"])
    assert found.json() == body
    assert found.headers["ETag"] == made.headers["ETag"]
    held = {"If-None-Match": made.headers["ETag"]}
    assert (await client.get(made.headers["Location"], headers=held)).status_code == 304


async def test_activities_are_listed_from_the_latest_on_page_by_page(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    for days in (3, 1, 2, 5, 4):
        await record(client, deal["id"], kind="note", occurred_at=ago(days=days))
    seen: list[str] = []
    url: str | None = f"/v1/opportunities/{deal['id']}/activities?limit=2"
    while url is not None:
        page = await client.get(url)
        seen += [item["occurred_at"] for item in page.json()["items"]]
        url = page.links.get("next", {}).get("url")
    assert seen == [ago(days=days) for days in (1, 2, 3, 4, 5)]


async def test_a_qualifying_activity_resets_an_inactivity_clock(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=5))
    assert instant(deal["idle"]["goes_idle_at"]) == NOW - timedelta(days=5) + WEEK
    await record(client, deal["id"], kind="meeting", occurred_at=ago(days=1))
    idle = await idle_of(client, deal["id"])
    assert idle["last_reset_by"] == "activity"
    assert instant(idle["clock_started_at"]) == NOW - timedelta(days=1)
    assert instant(idle["goes_idle_at"]) == NOW - timedelta(days=1) + WEEK


@pytest.mark.parametrize(
    ("kind", "days"), [("note", 1), ("call", 6)], ids=["of another kind", "before the move"]
)
async def test_any_other_activity_leaves_the_clock_as_it_is(
    client: httpx.AsyncClient, sales: None, kind: str, days: int
) -> None:
    deal = await open_deal(client, opened_at=ago(days=5))
    made = await record(client, deal["id"], kind=kind, occurred_at=ago(days=days))
    assert made.status_code == 201
    assert await idle_of(client, deal["id"]) == deal["idle"]


async def test_a_stage_age_clock_takes_no_notice_of_activities(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, stage="offer", opened_at=ago(days=5))
    await record(client, deal["id"], kind="call", occurred_at=ago(days=1))
    assert await idle_of(client, deal["id"]) == deal["idle"]


async def test_a_note_makes_no_new_version_of_the_deal(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=5))
    await record(client, deal["id"], kind="note")
    assert (await client.get(f"/v1/opportunities/{deal['id']}")).json() == deal


async def test_a_move_after_the_activity_starts_the_clock_anew(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=5))
    await record(client, deal["id"], kind="call", occurred_at=ago(days=3))
    moved = await move(client, deal["id"], "talks", occurred_at=ago(days=2))
    back = await move(client, deal["id"], "lead", occurred_at=ago(days=1))
    assert moved["opportunity"]["idle"]["goes_idle_at"] is None
    assert instant(back["opportunity"]["idle"]["goes_idle_at"]) == NOW - timedelta(days=1) + WEEK
    assert back["opportunity"]["idle"]["last_reset_by"] == "move"


async def test_voiding_the_move_brings_back_the_clock_that_the_activity_had_set(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=5))
    await record(client, deal["id"], kind="call", occurred_at=ago(days=3))
    before = await idle_of(client, deal["id"])
    moved = await move(client, deal["id"], "offer", occurred_at=ago(days=2))
    voided = await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "a slip"}
    )
    assert voided.status_code < 300, voided.text
    assert await idle_of(client, deal["id"]) == before


async def test_an_activity_is_told_as_an_event_that_says_whether_it_counted(
    client: httpx.AsyncClient, sales: None, database: Database
) -> None:
    deal = await open_deal(client, opened_at=ago(days=5))
    await record(client, deal["id"], kind="note")
    await record(client, deal["id"], kind="call")
    told = await events_so_far(database, client, types="activity.recorded")
    assert [event["data"]["resets_clock"] for event in told] == [False, True]
    assert {event["opportunity_id"] for event in told} == {deal["id"]}


async def test_the_same_request_again_records_nothing_more(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    url = f"/v1/opportunities/{deal['id']}/activities"
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(decided(client.post, url, json={"kind": "call"}, headers=key) for _ in range(6))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len((await client.get(url)).json()["items"]) == 1


async def test_concurrent_activities_leave_the_clock_at_the_latest_of_them(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=30))
    answers = await asyncio.gather(
        *(
            decided(record, client, deal["id"], kind="call", occurred_at=ago(days=n))
            for n in range(1, 13)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert (await idle_of(client, deal["id"]))["clock_started_at"] == ago(days=1)


async def test_a_deal_deleted_meanwhile_is_not_found_and_no_failure(
    client: httpx.AsyncClient, sales: None
) -> None:
    for _ in range(5):
        deal = await open_deal(client)
        one = f"/v1/opportunities/{deal['id']}"
        answers = await asyncio.gather(
            decided(record, client, deal["id"], kind="note"),
            decided(client.delete, one, headers={"If-Match": "*"}),
            decided(record, client, deal["id"], kind="note"),
        )
        assert answers[1].status_code == 204
        assert {answers[0].status_code, answers[2].status_code} <= {201, 404}
        assert (await record(client, deal["id"], kind="note")).status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/kind"),
        ({"kind": "A call"}, "/kind"),
        ({"kind": "call", "content": "a\u0000b"}, "/content"),
        ({"kind": "call", "occurred_at": 0}, "/occurred_at"),
        ({"kind": "call", "occurred_at": "2999-01-01T00:00:00Z"}, "/occurred_at"),
        ({"kind": "call", "outcome": ""}, "/outcome"),
        ({"kind": "call", "mood": "good"}, "/mood"),
    ],
)
async def test_what_is_wrong_with_an_activity_is_said_and_where(
    client: httpx.AsyncClient, sales: None, body: dict[str, object], pointer: str
) -> None:
    deal = await open_deal(client)
    refused = await record(client, deal["id"], **body)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
