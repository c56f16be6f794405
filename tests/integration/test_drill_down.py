"""Counts opened over HTTP: a count and its list are asked for by the same query."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.domain.definition import Definition, begin
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule, LossReason, Pipeline, StageKind
from app.storage.engine import Database
from tests.factories import move, open_deal, stage
from tests.past_deals import define, insert, past_deal

pytestmark = pytest.mark.asyncio

METRICS = {
    "funnel": "reached.lead",
    "time-in-stage": "completed.lead",
    "cycle-time": "all",
    "win-rate": "rate.of",
    "loss-reasons": "deals",
    "snapshot": "deals",
    "flow": "entries.lead",
    "matrix": "count.lead.offer",
}
"""A cell of each."""


def day(number: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    """lead → offer → won or lost; four deals: one won, one lost, two open in offer."""
    lost = stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Too dear"),))
    pipeline = begin(
        Definition(
            key="sales",
            name="Sales",
            flow=Flow.FREE,
            stages=(
                stage("lead", 0),
                stage("offer", 0, idle=IdleRule(after=Period.parse("P5D"))),
                stage("won", 0, StageKind.WON),
                lost,
            ),
        ),
        uuid4(),
        day(0),
    )
    await define(database, workspace, pipeline, day(0))

    def deal(*stays: tuple[str, float], **facts: Any) -> Any:
        entered = [(key, day(number)) for key, number in stays]
        return past_deal(pipeline, entered, currency="EUR", **facts)

    deals = [
        deal(("lead", 1), ("offer", 3), ("won", 5), owner="ada", amount=Decimal(100)),
        deal(("lead", 1), ("offer", 3), ("lost", 7), owner="ben", amount=Decimal(300)),
        deal(("lead", 2), ("offer", 4), owner="ada", amount=Decimal(50), tags=("hot",)),
        deal(("offer", 9), attributes={"region": "north"}),
    ]
    await insert(database, workspace, pipeline, deals)
    return pipeline


def path(metric: str) -> str:
    return f"/v1/pipelines/sales/metrics/{metric}"


async def asked(client: httpx.AsyncClient, where: str, **parameters: Any) -> Any:
    answer = await client.get(path(where), params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, where: str, **parameters: Any) -> Any:
    answer = await client.get(path(where), params=parameters)
    assert answer.status_code == 422, answer.text
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


async def test_a_count_is_opened_by_the_query_that_it_answers(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    query = {"from": "2024-01-01", "to": "2024-02-01", "owner": "ada"}
    lead, offer, won = (await asked(client, "funnel", **query))["total"]["stages"]
    for stage_, key in ((lead, "lead"), (offer, "offer"), (won, "won")):
        opened_ = await asked(client, "funnel/deals", **query, cell=f"reached.{key}")
        assert len(opened_["items"]) == stage_["reached"]
        assert opened_["page"] == {"next_cursor": None}
    assert opened_["definition"]["id"] == "funnel"
    assert (opened_["cell"], opened_["policy"]["filters"]) == ("reached.won", {"owner": ["ada"]})
    (item,) = opened_["items"]
    assert item | {"opportunity_id": None} == {
        "opportunity_id": None,
        "external_id": None,
        "name": "A deal",
        "status": "won",
        "stage": "won",
        "stage_entered_at": "2024-01-06T00:00:00Z",
        "amount": {"amount": "100.00", "currency": "EUR"},
        "owner": "ada",
        "team": None,
        "source": None,
        "priority": None,
        "opened_at": "2024-01-02T00:00:00Z",
        "closed_at": "2024-01-06T00:00:00Z",
        "visit": None,
    }


async def test_a_deal_is_shown_as_it_was_at_the_instant_asked_for(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    answer = await asked(
        client, "snapshot/deals", cell="deals.offer", as_of="2024-01-04T12:00:00Z", owner="ada"
    )
    assert answer["policy"]["as_of"] == "2024-01-04T12:00:00Z"
    (item,) = answer["items"]
    assert (item["status"], item["stage"], item["closed_at"]) == ("open", "offer", None)


async def test_visits_are_items_with_how_long_they_lasted(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    query = {"as_of": "2024-01-11T00:00:00Z"}
    answer = await asked(client, "time-in-stage/deals", **query, cell="open.offer")
    visits = sorted((item["visit"] for item in answer["items"]), key=lambda v: v["entered_at"])
    assert visits == [
        {
            "stage": "offer",
            "entered_at": entered,
            "left_at": None,
            "seconds": days * 86_400.0,
        }
        for entered, days in (("2024-01-05T00:00:00Z", 6), ("2024-01-10T00:00:00Z", 1))
    ]
    ended = await asked(client, "matrix/deals", **query, cell="count.lead.offer")
    assert [item["visit"]["seconds"] for item in ended["items"]] == [2 * 86_400.0] * 3


@pytest.mark.parametrize(
    ("metric", "cell", "count"),
    [
        ("funnel", "deals", 4),
        ("funnel", "implied.lead", 1),
        ("funnel", "lost_furthest.offer", 1),
        ("funnel", "conversion_decided.offer", 1),
        ("funnel", "conversion_decided.offer.of", 2),
        ("funnel", "ever_won", 1),
        ("time-in-stage", "completed.lead", 3),
        ("time-in-stage", "survival.offer", 4),
        ("cycle-time", "all", 2),
        ("win-rate", "rate.of", 2),
        ("loss-reasons", "deals.offer.price", 1),
        ("loss-reasons", "reasons.price", 1),
        ("loss-reasons", "reasons.unknown", 0),
        ("snapshot", "idle.offer", 1),
        ("snapshot", "unweighted", 1),
        ("snapshot", "age_buckets.offer.4", 1),
        ("flow", "exits.offer", 2),
        ("flow", "open_at_end.won", 1),
        ("matrix", "count.offer.:handed_off", 0),
    ],
)
async def test_each_metric_opens_its_own_counts(
    client: httpx.AsyncClient, sales: Pipeline, metric: str, cell: str, count: int
) -> None:
    answer = await asked(client, f"{metric}/deals", cell=cell, as_of="2024-01-11T00:00:00Z")
    assert len(answer["items"]) == count


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_following_the_cursor_gives_each_deal_once(
    client: httpx.AsyncClient, sales: Pipeline, limit: int
) -> None:
    found = [page async for page in pages_of(client, "funnel/deals", cell="deals", limit=limit)]
    whole = await asked(client, "funnel/deals", cell="deals")
    ids = [item["opportunity_id"] for page in found for item in page["items"]]
    assert ids == [item["opportunity_id"] for item in whole["items"]]
    assert len(ids) == 4
    assert len(found) == -(-4 // limit)


async def pages_of(client: httpx.AsyncClient, where: str, **query: Any) -> Any:
    answer = await client.get(path(where), params=query)
    while True:
        assert answer.status_code == 200, answer.text
        yield answer.json()
        if "next" not in answer.links:
            assert answer.json()["page"]["next_cursor"] is None
            return
        answer = await client.get(answer.links["next"]["url"])


async def test_all_pages_are_of_the_first_ones_instant_though_deals_come_in_between(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    query = {"cell": "deals.offer", "limit": 1}
    first = await asked(client, "snapshot/deals", **query)
    later = await asked(client, "snapshot/deals", **query, cursor=first["page"]["next_cursor"])
    assert later["policy"] == first["policy"]
    (one,), (other,) = first["items"], later["items"]
    assert one["opportunity_id"] < other["opportunity_id"]
    again = await asked(
        client, "snapshot/deals", cell="deals.offer", as_of=first["policy"]["as_of"]
    )
    assert again["items"] == [one, other]


@pytest.mark.parametrize(
    "other",
    [
        {"cell": "entered.offer"},
        {"owner": "ada"},
        {"as_of": "2024-02-01T00:00:00Z"},
        {"skip": "observed"},
        {"attributes.region": "north"},
    ],
)
async def test_the_cursor_of_another_list_is_refused(
    client: httpx.AsyncClient, sales: Pipeline, other: dict[str, str]
) -> None:
    query = {"cell": "reached.lead", "limit": 1}
    first = await asked(client, "funnel/deals", **query)
    cursor = first["page"]["next_cursor"]
    answer = await client.get(path("funnel/deals"), params={**query, **other, "cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    elsewhere = {"cell": "deals", "cursor": cursor}
    answer = await client.get(path("snapshot/deals"), params=elsewhere)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("metric", METRICS)
async def test_a_cell_that_there_is_not_is_refused_with_those_that_there_are(
    client: httpx.AsyncClient, sales: Pipeline, metric: str
) -> None:
    answer = await client.get(path(f"{metric}/deals"), params={"cell": "nonsense.lead"})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("?cell", "not_one_of")
    assert METRICS[metric].partition(".")[0] in error["detail"]
    assert await refused(client, f"{metric}/deals") == [("?cell", "required")]


@pytest.mark.parametrize("metric", METRICS)
async def test_a_list_is_not_grouped(
    client: httpx.AsyncClient, sales: Pipeline, metric: str
) -> None:
    query = {"cell": METRICS[metric], "group_by": "owner"}
    assert await refused(client, f"{metric}/deals", **query) == [("?group_by", "unknown_field")]


@pytest.mark.parametrize("metric", METRICS)
async def test_an_unchanged_list_is_a_304_until_something_happens(
    client: httpx.AsyncClient, sales: Pipeline, metric: str
) -> None:
    query = {"cell": METRICS[metric], "as_of": "2024-02-01T00:00:00Z"}
    first = await client.get(path(f"{metric}/deals"), params=query)
    held_ = {"If-None-Match": first.headers["ETag"]}
    again = await client.get(path(f"{metric}/deals"), params=query, headers=held_)
    assert (again.status_code, again.content) == (304, b"")
    await open_deal(client)
    changed = await client.get(path(f"{metric}/deals"), params=query, headers=held_)
    assert changed.status_code == 200
    assert changed.json() == first.json()


async def test_the_list_of_an_earlier_time_can_be_had_again(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    deal = await open_deal(client, owner="ada")
    before = await asked(client, "funnel/deals", cell="reached.lead", owner="ada")
    known_at = datetime.now(UTC).isoformat()
    await move(client, deal["id"], "lost", loss_reason="price")
    await open_deal(client, owner="ada")
    query = {"cell": "reached.lead", "owner": "ada", "known_at": known_at}
    again = await asked(client, "funnel/deals", **query)
    assert again["items"] == before["items"]
    assert (await asked(client, "funnel/deals", **query | {"cell": "lost_furthest.lead"}))[
        "items"
    ] == []


async def test_what_the_metric_refuses_its_lists_refuse(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    cases: Iterator[tuple[str, dict[str, str], tuple[str, str]]] = iter(
        [
            ("funnel", {"colour": "red"}, ("?colour", "unknown_field")),
            ("funnel", {"skip": "observed", "reentry": "every"}, ("?skip", "not_one_of")),
            ("time-in-stage", {"tag": "hot"}, ("?attribution", "not_frozen")),
            ("snapshot", {"from": "2024-01-01"}, ("?from", "unknown_field")),
            ("funnel", {"limit": "201"}, ("?limit", "out_of_range")),
            ("funnel", {"cell": "x" * 251}, ("?cell", "too_long")),
        ]
    )
    for metric, query, breach in cases:
        asked_for = {"cell": METRICS[metric], **query}
        assert await refused(client, f"{metric}/deals", **asked_for) == [breach]
