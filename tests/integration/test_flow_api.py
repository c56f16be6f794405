"""Flow, matrix and cumulative flow over HTTP: figures on a small past, and what is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.domain.definition import Definition, begin
from app.domain.pipeline import Flow, LossReason, Pipeline, StageKind
from app.storage.engine import Database
from tests.factories import open_deal, stage
from tests.past_deals import PastDeal, define, insert, past_deal

METRICS = ("flow", "matrix", "cumulative-flow")
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = {"from": "2024-01-05", "to": "2024-01-12", "as_of": "2024-02-01T00:00:00Z"}
DAY = 86_400


def day(number: float) -> datetime:
    """Of January 2024, like 1.5 for noon of the first."""
    return BEGIN + timedelta(days=number - 1)


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    """lead → offer → talks → won, or lost; parked stands aside."""
    pipeline = begin(
        Definition(
            key="sales",
            name="Sales",
            flow=Flow.FREE,
            stages=(
                stage("lead", 0),
                stage("offer", 0),
                stage("talks", 0),
                stage("parked", 0, off_path=True),
                stage("won", 0, StageKind.WON),
                stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Price"),)),
            ),
        ),
        uuid4(),
        day(1),
    )
    await define(database, workspace, pipeline, day(1))
    return pipeline


@pytest.fixture
async def past(database: Database, workspace: UUID, sales: Pipeline) -> Pipeline:
    """Five deals. Of the week from the 5th to the 12th:

    | deal | lead  | offer      | talks | parked | won | lost | in process within the week |
    |------|-------|------------|-------|--------|-----|------|----------------------------|
    | A    | 1–4   | 4–6        | 6–9   |        | 9–  |      | 4 days, departs after 8    |
    | B    | 2–6   |            | 6–    |        |     |      | 7 days                     |
    | C    | 5–8   | 8–10, 11–  |       | 10–11  |     |      | 7 days                     |
    | D    |       | 10–15      |       |        |     | 1–10 | 2 days                     |
    | E    | 3–5   |            |       |        |     | 5–   | none, departs after 2      |
    """

    def deal(owner: str, *stays: tuple[str, float]) -> PastDeal:
        return past_deal(sales, [(key, day(number)) for key, number in stays], owner=owner)

    deals = [
        deal("ada", ("lead", 1), ("offer", 4), ("talks", 6), ("won", 9)),
        deal("ada", ("lead", 2), ("talks", 6)),
        deal("ben", ("lead", 5), ("offer", 8), ("parked", 10), ("offer", 11)),
        deal("ben", ("lost", 1), ("offer", 10), ("won", 15)),
        deal("ben", ("lead", 3), ("lost", 5)),
    ]
    await insert(database, workspace, sales, deals)
    return sales


async def asked(client: httpx.AsyncClient, metric: str, **parameters: Any) -> Any:
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stages_of(figures: Any) -> dict[str, Any]:
    return {stage["key"]: stage for stage in figures["stages"]}


async def test_the_flow_tells_what_came_and_what_went_of_every_stage(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    answer = await asked(client, "flow", **WEEK)
    stages = stages_of(answer["total"])
    shown = ("open_at_start", "entries", "exits", "open_at_end")
    assert {key: tuple(stage[name] for name in shown) for key, stage in stages.items()} == {
        "lead": (2, 1, 3, 0),  # B and E there (E leaves at the very start), C comes, all three go
        "offer": (1, 3, 2, 2),  # A there; C comes twice, D once; A goes, C once
        "talks": (0, 2, 1, 1),
        "parked": (0, 1, 1, 0),
        "won": (0, 1, 0, 1),
        "lost": (1, 1, 1, 1),
    }
    lead, offer, lost = stages["lead"], stages["offer"], stages["lost"]
    assert (lead["advanced"], lead["lost"]) == (2, 1)  # B skipped offer
    assert (offer["advanced"], offer["sidestepped"]) == (1, 1)
    assert (lost["kind"], lost["rank"], lost["reopened"]) == ("lost", None, 1)
    assert lead["exit_forward_rate"] == {
        "count": 2,
        "of": 3,
        "rate": pytest.approx(2 / 3),
        "low": None,
        "high": None,
    }
    assert stages["won"]["exit_forward_rate"]["rate"] is None
    assert answer["groups"] is None
    assert (answer["policy"]["basis"], answer["policy"]["attribution"]) == ("period", "at_move")


async def test_without_a_period_everything_came_and_nothing_was_there_before(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    stages = stages_of((await asked(client, "flow"))["total"])
    assert [stage["open_at_start"] for stage in stages.values()] == [0] * 6
    assert [stages[key]["entries"] for key in ("lead", "offer", "won")] == [4, 4, 2]
    assert [stages[key]["open_at_end"] for key in ("lead", "offer", "won")] == [0, 1, 2]


async def test_the_matrix_shows_every_way_that_was_taken(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    cells = (await asked(client, "matrix", **WEEK))["total"]["cells"]
    assert [
        (
            cell["from_stage"],
            cell["to_stage"],
            cell["count"],
            cell["share"]["of"],
            cell["median_dwell_seconds"],
        )
        for cell in cells
    ] == [
        ("lead", "offer", 1, 3, 3 * DAY),
        ("lead", "talks", 1, 3, 4 * DAY),
        ("lead", "lost", 1, 3, 2 * DAY),
        ("offer", "talks", 1, 2, 2 * DAY),
        ("offer", "parked", 1, 2, 2 * DAY),
        ("talks", "won", 1, 1, 3 * DAY),
        ("parked", "offer", 1, 1, DAY),
        ("lost", "offer", 1, 1, 9 * DAY),
    ]


async def test_a_hand_off_leads_to_no_stage(
    client: httpx.AsyncClient, sales: Pipeline, database: Database, workspace: UUID
) -> None:
    care = replace(sales, pipeline_id=uuid4(), key="care", name="Care")
    await define(database, workspace, care, day(1))
    deal = await open_deal(client)
    path = f"/v1/opportunities/{deal['id']}/hand-off"
    handed = await client.post(path, json={"pipeline": "care"})
    assert handed.status_code == 201, handed.text
    (cell,) = (await asked(client, "matrix"))["total"]["cells"]
    assert (cell["from_stage"], cell["to_stage"], cell["count"]) == ("lead", None, 1)
    assert stages_of((await asked(client, "flow"))["total"])["lead"]["handed_off"] == 1
    today = datetime.now(UTC) - timedelta(days=1)
    total = (await asked(client, "cumulative-flow", **{"from": today.isoformat()}))["total"]
    assert sum(bucket["departures"] for bucket in total["buckets"]) == 1


async def test_the_cumulative_flow_counts_who_is_in_process_day_by_day(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    answer = await asked(client, "cumulative-flow", **WEEK, by="day")
    assert answer["total"]["in_progress_at_start"] == 3  # A, B, and E who leaves at once
    buckets = answer["total"]["buckets"]
    assert [bucket["from"] for bucket in buckets][:2] == [
        "2024-01-05T00:00:00Z",
        "2024-01-06T00:00:00Z",
    ]
    assert [bucket["arrivals"] for bucket in buckets] == [1, 0, 0, 0, 0, 1, 0]  # C, D reopened
    assert [bucket["departures"] for bucket in buckets] == [1, 0, 0, 0, 1, 0, 0]  # E, A
    assert [bucket["in_progress"] for bucket in buckets] == [3, 3, 3, 3, 2, 3, 3]
    tenth = stages_of(buckets[5])
    assert {key: (s["entries"], s["in_progress"]) for key, s in tenth.items()} == {
        "lead": (0, 0),
        "offer": (1, 1),
        "talks": (0, 1),
        "parked": (1, 1),
    }
    assert answer["policy"]["by"] == "day"
    assert answer["policy"]["attribution"] == "current"


async def test_littles_law_is_held_against_those_who_left(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    little = (await asked(client, "cumulative-flow", **WEEK))["total"]["little"]
    assert little == {
        "period_seconds": 7 * DAY,
        "time_in_process_seconds": 20 * DAY,  # A 4 days, B 7, C 7, D 2
        "average_in_progress": pytest.approx(20 / 7),
        "arrival_rate_per_day": pytest.approx(2 / 7),
        "departure_rate_per_day": pytest.approx(2 / 7),
        "mean_time_in_process_seconds": 5 * DAY,  # A was there for 8 days, E for 2
        "expected_in_progress": pytest.approx(10 / 7),
        "ratio": 0.5,
    }


async def test_one_who_returns_begins_another_stay(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    longer = {"from": "2024-01-05", "to": "2024-01-16"}
    little = (await asked(client, "cumulative-flow", **longer))["total"]["little"]
    assert little["departure_rate_per_day"] == pytest.approx(3 / 11)
    # A was there for 8 days, E for 2, and D for the 5 since it was reopened.
    assert little["mean_time_in_process_seconds"] == 5 * DAY


async def test_a_group_shows_what_the_filter_would(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    for metric in METRICS:
        groups = (await asked(client, metric, **WEEK, group_by="owner"))["groups"]
        assert [group["value"] for group in groups] == ["ada", "ben"]
        for group in groups:
            alone = await asked(client, metric, **WEEK, owner=group["value"])
            assert {name: group[name] for name in alone["total"]} == alone["total"]


async def test_a_visit_bears_what_was_frozen_when_it_ended_unless_asked_otherwise(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    deal = await open_deal(client, owner="ada")
    path = f"/v1/opportunities/{deal['id']}"
    await client.post(f"{path}/transitions", json={"to_stage": "offer"})
    changed = await client.patch(path, json={"owner": "ben"}, headers={"If-Match": "*"})
    assert changed.status_code == 200
    at_move = (await asked(client, "flow", group_by="owner"))["groups"]
    entries = {g["value"]: [s["entries"] for s in g["stages"]][:2] for g in at_move}
    assert entries == {"ada": [1, 0], "ben": [0, 1]}
    current = (await asked(client, "flow", group_by="owner", attribution="current"))["groups"]
    entries = {g["value"]: [s["entries"] for s in g["stages"]][:2] for g in current}
    assert entries == {"ben": [1, 1]}


async def test_a_bucket_is_as_long_as_the_day_of_its_time_zone(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    # Half an hour into the day in Berlin after the clocks were put forward, and after put back.
    spring, autumn = (
        datetime(2024, 3, 31, 22, 30, tzinfo=UTC),
        datetime(2024, 10, 27, 23, 30, tzinfo=UTC),
    )
    deals = [past_deal(sales, [("lead", instant)]) for instant in (spring, autumn)]
    await insert(database, workspace, sales, deals)
    for first, end, hours in (("2024-03-31", "2024-04-02", 23), ("2024-10-27", "2024-10-29", 25)):
        days = {"from": first, "to": end, "by": "day", "timezone": "Europe/Berlin"}
        changed, after = (await asked(client, "cumulative-flow", **days))["total"]["buckets"]
        begun, ended = (datetime.fromisoformat(changed[name]) for name in ("from", "to"))
        assert ended - begun == timedelta(hours=hours)
        assert (changed["arrivals"], after["arrivals"]) == (0, 1)


async def test_what_lies_after_t_is_not_counted(client: httpx.AsyncClient, past: Pipeline) -> None:
    early = {**WEEK, "as_of": "2024-01-06T12:00:00Z"}
    total = (await asked(client, "cumulative-flow", **early, by="day"))["total"]
    assert [bucket["to"] for bucket in total["buckets"]] == [
        "2024-01-06T00:00:00Z",
        "2024-01-06T12:00:00Z",
    ]
    assert total["little"]["period_seconds"] == 1.5 * DAY
    stages = stages_of((await asked(client, "flow", **early))["total"])
    assert [stages[key]["open_at_end"] for key in ("lead", "offer", "talks")] == [1, 0, 2]
    later = {"from": "2024-01-08", "as_of": "2024-01-07T00:00:00Z"}
    none = await asked(client, "cumulative-flow", **later)
    assert (none["total"]["buckets"], none["total"]["in_progress_at_start"]) == ([], 3)
    assert none["total"]["little"]["average_in_progress"] is None
    assert none["policy"]["to"] == none["policy"]["from"]
    groups = (await asked(client, "cumulative-flow", **later, group_by="owner"))["groups"]
    assert {each["value"]: each["in_progress_at_start"] for each in groups} == {"ada": 2, "ben": 1}


async def test_groups_and_buckets_are_as_many_as_an_answer_shows(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    owners = [f"owner-{number:02}" for number in range(55)]
    deals = [past_deal(sales, [("lead", day(2))], owner=owner) for owner in owners]
    await insert(database, workspace, sales, deals)
    period = {"from": "2024-01-01", "to": "2024-12-30", "as_of": "2025-02-01T00:00:00Z"}
    grouped = {**period, "by": "day", "group_by": "owner"}  # 364 buckets: 20,020 for all of them
    path = "/v1/pipelines/sales/metrics/cumulative-flow"
    answer = await client.get(path, params=grouped)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("?group_by", "out_of_range")
    assert "55 groups, more than 54" in error["detail"]
    assert "fewer buckets than 364" in error["detail"]
    fewer = {**grouped, "to": "2024-12-29"}  # 19,965
    groups = (await asked(client, "cumulative-flow", **fewer))["groups"]
    assert [each["value"] for each in groups] == owners
    assert {len(each["buckets"]) for each in groups} == {363}


async def test_of_nothing_the_counts_are_zero_and_the_rates_null(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    for metric in METRICS:
        assert (await asked(client, metric, **WEEK, group_by="owner"))["groups"] == []
    stages = (await asked(client, "flow", **WEEK))["total"]["stages"]
    assert [stage["key"] for stage in stages] == [s.key for s in sales.stages]
    counts = ("open_at_start", "entries", "exits", "advanced", "rearranged", "open_at_end")
    for stage_flow in stages:
        assert [stage_flow[name] for name in counts] == [0] * len(counts)
        rate = stage_flow["exit_forward_rate"]
        assert (rate["count"], rate["of"], rate["rate"]) == (0, 0, None)
    assert (await asked(client, "matrix", **WEEK))["total"] == {"cells": []}
    total = (await asked(client, "cumulative-flow", **WEEK, by="week"))["total"]
    assert [bucket["in_progress"] for bucket in total["buckets"]] == [0, 0]  # 5–8, 8–12 January
    assert total["little"] == {
        "average_in_progress": 0,
        "arrival_rate_per_day": 0,
        "departure_rate_per_day": 0,
        "mean_time_in_process_seconds": None,
        "expected_in_progress": None,
        "ratio": None,
        "time_in_process_seconds": 0,
        "period_seconds": 7 * DAY,
    }


@pytest.mark.parametrize(
    ("metric", "parameters", "breaches"),
    [
        ("flow", {"basis": "cohort"}, [("?basis", "not_one_of")]),
        ("flow", {"by": "day"}, [("?by", "unknown_field")]),
        ("flow", {"from": "2024-02-01", "to": "2024-01-01"}, [("?to", "out_of_range")]),
        ("flow", {"tag": "hot"}, [("?attribution", "not_frozen")]),
        ("matrix", {"skip": "implied"}, [("?skip", "unknown_field")]),
        ("matrix", {"timezone": "Mars/Olympus"}, [("?timezone", "unknown_timezone")]),
        ("cumulative-flow", {}, [("?from", "required")]),
        ("cumulative-flow", {"from": "2024-01-01", "by": "hour"}, [("?by", "not_one_of")]),
        (
            "cumulative-flow",
            {"from": "2000-01-01", "to": "2010-01-01", "by": "day"},
            [("?by", "out_of_range")],
        ),
        (
            "cumulative-flow",
            {"from": "2024-01-01", "attribution": "at_move"},
            [("?attribution", "not_one_of")],
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused_and_never_ignored(
    client: httpx.AsyncClient,
    sales: Pipeline,
    metric: str,
    parameters: dict[str, str],
    breaches: list[tuple[str, str]],
) -> None:
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=parameters)
    assert answer.status_code == 422, answer.text
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == breaches


@pytest.mark.parametrize("metric", METRICS)
async def test_an_unchanged_answer_is_a_304_until_something_happens(
    client: httpx.AsyncClient, past: Pipeline, metric: str
) -> None:
    path = f"/v1/pipelines/sales/metrics/{metric}"
    first = await client.get(path, params=WEEK)
    held = {"If-None-Match": first.headers["ETag"]}
    assert (await client.get(path, params=WEEK, headers=held)).status_code == 304
    await open_deal(client)
    assert (await client.get(path, params=WEEK, headers=held)).status_code == 200
