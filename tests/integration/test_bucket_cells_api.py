"""A cumulative flow opened over HTTP: its counts, bucket by bucket, and the visits behind them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from tests.factories import open_deal
from tests.past_deals import define, insert, past_deal, revisions

pytestmark = pytest.mark.asyncio

FLOW = "/v1/pipelines/{}/metrics/cumulative-flow"
QUERY = {"from": "2024-01-01", "to": "2024-03-01", "by": "month", "as_of": "2024-03-01T00:00:00Z"}
COUNTS = ("arrivals", "departures", "in_progress")


def day(number: int) -> datetime:
    return datetime(2024, 1, number, tzinfo=UTC)


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    """Three deals: one is lost and comes back in January, one waits, one is won in no time."""
    pipeline = revisions()[0]
    await define(database, workspace, pipeline, day(1))

    def deal(owner: str, *stays: tuple[str, int]) -> Any:
        return past_deal(pipeline, [(key, day(at)) for key, at in stays], owner=owner)

    deals = [
        deal("ada", ("lead", 2), ("lost", 5), ("offer", 9), ("won", 30)),
        deal("ada", ("lead", 3), ("offer", 20)),
        deal("ben", ("offer", 4), ("won", 4)),
    ]
    await insert(database, workspace, pipeline, deals)
    return pipeline


async def asked(
    client: httpx.AsyncClient, pipeline: Pipeline, *, of: str = "", **query: str
) -> Any:
    answer = await client.get(FLOW.format(pipeline.key) + of, params={**QUERY, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def opened(client: httpx.AsyncClient, pipeline: Pipeline, cell: str, **query: str) -> Any:
    return await asked(client, pipeline, of="/deals", cell=cell, **query)


async def test_a_deal_that_arrives_twice_in_a_bucket_is_two_items(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    january = (await asked(client, sales, owner="ada"))["total"]["buckets"][0]
    assert january["arrivals"] == 3
    answer = await opened(client, sales, "arrivals.0", owner="ada")
    visits = [(item["visit"]["stage"], item["visit"]["entered_at"]) for item in answer["items"]]
    assert visits == [
        ("lead", "2024-01-02T00:00:00Z"),
        ("lead", "2024-01-03T00:00:00Z"),
        ("offer", "2024-01-09T00:00:00Z"),
    ]
    first, _, again = answer["items"]
    assert first["opportunity_id"] == again["opportunity_id"]
    assert (answer["cell"], answer["definition"]["id"]) == ("arrivals.0", "cumulative-flow")
    assert (answer["policy"]["by"], answer["policy"]["filters"]) == ("month", {"owner": ["ada"]})


@pytest.mark.parametrize(
    ("cell", "counted"),
    [
        ("in_progress_at_start", []),
        ("departures.0", ["offer", "lead", "offer"]),
        ("in_progress.0", ["offer"]),
        ("entries.lead.0", ["lead", "lead"]),
        ("entries.offer.0", ["offer", "offer", "offer"]),
        ("in_progress.offer.1", ["offer"]),
        ("in_progress.lead.0", []),
        ("arrivals.1", []),
    ],
)
async def test_each_count_opens_to_visits_of_open_stages(
    client: httpx.AsyncClient, sales: Pipeline, cell: str, counted: list[str]
) -> None:
    answer = await opened(client, sales, cell)
    assert [item["visit"]["stage"] for item in answer["items"]] == counted


async def test_every_number_of_an_answer_is_as_long_as_its_list(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    told = (await asked(client, sales, by="week"))["total"]
    counts = {"in_progress_at_start": told["in_progress_at_start"]}
    for place, bucket in enumerate(told["buckets"]):
        counts |= {f"{name}.{place}": bucket[name] for name in COUNTS}
        for stage in bucket["stages"]:
            for name in ("entries", "in_progress"):
                counts[f"{name}.{stage['key']}.{place}"] = stage[name]
    assert sum(counts.values()) > 0
    for cell, count in counts.items():
        answer = await opened(client, sales, cell, by="week")
        assert len(answer["items"]) == count, cell


async def test_following_the_cursor_gives_each_arrival_once(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    whole = (await opened(client, sales, "arrivals.0"))["items"]
    found, cursor = [], {}
    while True:
        page = await opened(client, sales, "arrivals.0", limit="1", **cursor)
        found += page["items"]
        if page["page"]["next_cursor"] is None:
            break
        cursor = {"cursor": page["page"]["next_cursor"]}
    assert found == whole
    assert len(whole) == 4


async def test_the_buckets_of_later_pages_are_those_of_the_first(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    query = {"cell": "arrivals.0", "limit": "1", "from": "2024-01-01", "by": "quarter"}
    path = f"{FLOW.format(sales.key)}/deals"
    first = (await client.get(path, params=query)).json()
    await open_deal(client, pipeline=sales.key)
    cursor = first["page"]["next_cursor"]
    later = (await client.get(path, params={**query, "cursor": cursor})).json()
    assert later["policy"] == first["policy"]


@pytest.mark.parametrize(
    ("cell", "changed", "problem"),
    [
        ("arrivals", {}, "in_progress_at_start, arrivals.<bucket>"),
        ("arrivals.2", {}, "<bucket>: 0 to 1"),
        ("arrivals.00", {}, "<bucket>: 0 to 1"),
        ("arrivals.-1", {}, "<bucket>: 0 to 1"),
        ("entries.won.0", {}, "<open stage>: lead, offer"),
        ("arrivals.0", {"to": "2024-01-01"}, "<bucket>: there is none"),
    ],
)
async def test_a_count_that_there_is_not_is_refused_with_those_that_there_are(
    client: httpx.AsyncClient, sales: Pipeline, cell: str, changed: dict[str, str], problem: str
) -> None:
    query = {**QUERY, "cell": cell, **changed}
    answer = await client.get(f"{FLOW.format(sales.key)}/deals", params=query)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("?cell", "not_one_of")
    assert problem in error["detail"]


@pytest.mark.parametrize(
    ("query", "breach"),
    [
        ({"from": "2024-01-01"}, ("?cell", "required")),
        ({"cell": "arrivals.0"}, ("?from", "required")),
        ({**QUERY, "cell": "arrivals.0", "group_by": "owner"}, ("?group_by", "unknown_field")),
        ({"from": "1990-01-01", "cell": "arrivals.0", "by": "day"}, ("?by", "out_of_range")),
    ],
)
async def test_what_the_metric_refuses_its_lists_refuse(
    client: httpx.AsyncClient, sales: Pipeline, query: dict[str, str], breach: tuple[str, str]
) -> None:
    answer = await client.get(f"{FLOW.format(sales.key)}/deals", params=query)
    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [breach]


async def test_an_unchanged_list_is_a_304(client: httpx.AsyncClient, sales: Pipeline) -> None:
    query = {**QUERY, "cell": "arrivals.0"}
    path = f"{FLOW.format(sales.key)}/deals"
    first = await client.get(path, params=query)
    held = {"If-None-Match": first.headers["ETag"]}
    assert (await client.get(path, params=query, headers=held)).status_code == 304
