"""Metrics over HTTP: their policy, figures on a small past, what is refused, what is a 304."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.domain.definition import Definition, begin
from app.domain.journey import TransitionKind
from app.domain.measures.hindsight import FactChange, Logged
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule, LossReason, Pipeline, StageKind
from app.storage.engine import Database
from tests.deals import unchanged
from tests.factories import move, open_deal, stage
from tests.past_deals import define, insert, past_deal

METRICS: dict[str, dict[str, str]] = {
    "funnel": {},
    "flow": {},
    "matrix": {},
    "time-in-stage": {},
    "cycle-time": {},
    "win-rate": {},
    "loss-reasons": {},
    "snapshot": {},
    "velocity": {},
    "bottlenecks": {},
    "cumulative-flow": {"from": "2024-01-01"},
}
"""All that take `group_by`, and what one of them cannot do without."""
AGEING = ("time-in-stage", "snapshot", "cumulative-flow")
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    """lead → offer → won or lost, whose days begin in Berlin."""
    lost = stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Too dear"),))
    pipeline = begin(
        Definition(
            key="sales",
            name="Sales",
            flow=Flow.FREE,
            stages=(
                stage("lead", 0, probability=Decimal("0.1")),
                stage("offer", 0, idle=IdleRule(after=Period.parse("P5D"))),
                stage("won", 0, StageKind.WON),
                lost,
            ),
            timezone="Europe/Berlin",
        ),
        uuid4(),
        day(0),
    )
    await define(database, workspace, pipeline, day(0))
    return pipeline


@pytest.fixture
async def past(database: Database, workspace: UUID, sales: Pipeline) -> Pipeline:
    """Four deals of January 2024: one won in 4 days, one lost in 6, two open in offer."""

    def deal(*stays: tuple[str, float], **facts: Any) -> Any:
        entered = [(key, day(number)) for key, number in stays]
        return past_deal(sales, entered, currency="EUR", **facts)

    deals = [
        deal(("lead", 1), ("offer", 3), ("won", 5), owner="ada", amount=Decimal(100)),
        deal(("lead", 1), ("offer", 3), ("lost", 7), owner="ben", amount=Decimal(300)),
        deal(("lead", 2), ("offer", 4), owner="ada", amount=Decimal(50), tags=("hot",)),
        deal(("offer", 9), attributes={"region": "north"}),
    ]
    await insert(database, workspace, sales, deals)
    return sales


async def asked(client: httpx.AsyncClient, metric: str, **parameters: Any) -> Any:
    parameters = {name.rstrip("_"): value for name, value in parameters.items()}
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, metric: str, **parameters: Any) -> Any:
    parameters = {name.rstrip("_"): value for name, value in parameters.items()}
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=parameters)
    assert answer.status_code == 422, answer.text
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


async def test_every_answer_says_by_which_policy_it_was_made(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    january = {"from": "2024-01-01", "to": "2024-02-01"}
    answer = await asked(client, "funnel", **january, owner="ada", as_of="2024-03-01T00:00:00Z")
    assert answer["policy"] == {
        "from": "2023-12-31T23:00:00Z",  # midnight in Berlin
        "to": "2024-01-31T23:00:00Z",
        "as_of": "2024-03-01T00:00:00Z",
        "known_at": None,
        "timezone": "Europe/Berlin",
        "revision": 1,
        "attribution": "current",
        "filters": {"owner": ["ada"]},
        "group_by": None,
        "basis": "cohort",
        "skip": "implied",
        "reentry": "first",
    }


async def test_the_funnel_counts_the_cohort_rank_by_rank(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    lead, offer, won = (await asked(client, "funnel"))["total"]["stages"]
    assert (lead["key"], lead["rank"], won["key"], won["rank"]) == ("lead", 1, "won", 3)
    assert (lead["reached"], lead["entered"], lead["implied"]) == (4, 3, 1)
    assert (offer["reached"], offer["open_furthest"], offer["lost_furthest"]) == (4, 2, 1)
    assert (won["reached"], won["ever_won"], won["won_undone"]) == (1, 1, 0)
    assert offer["conversion_to_next"]["rate"] == 0.25
    assert offer["conversion_decided"]["count"] == 1
    assert offer["conversion_decided"]["of"] == 2
    assert offer["amount_reached"] == [{"amount": "450.00", "currency": "EUR"}]
    assert won["conversion_to_next"] is None


async def test_a_group_shows_what_the_filter_would(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    groups = (await asked(client, "funnel", group_by="owner"))["groups"]
    assert [group["value"] for group in groups] == ["ada", "ben", None]
    for group in groups:
        alone = await asked(client, "funnel", owner=group["value"] or "")
        assert {name: group[name] for name in alone["total"]} == alone["total"]
    by_region = await asked(client, "snapshot", group_by="attributes.region")
    assert [(g["value"], g["deals"]) for g in by_region["groups"]] == [("north", 1), (None, 1)]
    north = await asked(client, "snapshot", **{"attributes.region": "north"})
    assert north["total"]["deals"] == 1
    assert north["policy"]["filters"] == {"attributes.region": ["north"]}


async def test_a_repeated_filter_takes_any_of_its_values(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    both = await asked(client, "win-rate", owner=["ada", "ben"])
    assert (both["total"]["won"], both["total"]["lost"]) == (1, 1)


async def test_time_in_stage_keeps_ended_and_open_visits_apart(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    answer = await asked(client, "time-in-stage", as_of="2024-01-11T00:00:00Z")
    lead, offer = answer["total"]["stages"]
    assert lead["completed"]["count"] == 3
    assert lead["completed"]["p50_seconds"] == 2 * 86_400
    assert lead["open"] == dict.fromkeys(lead["open"], None) | {"count": 0}
    assert offer["completed"]["mean_seconds"] == 3 * 86_400
    assert (offer["open"]["count"], offer["open"]["max_seconds"]) == (2, 6 * 86_400)
    assert answer["policy"]["attribution"] == "at_move"


async def test_cycle_time_and_win_rate_are_of_deals_closed_in_the_period(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    cycle = (await asked(client, "cycle-time"))["total"]
    assert (cycle["won"]["p50_seconds"], cycle["lost"]["p50_seconds"]) == (4 * 86_400, 6 * 86_400)
    assert cycle["all"]["mean_seconds"] == 5 * 86_400
    early = await asked(client, "cycle-time", to="2024-01-07")
    assert (early["total"]["won"]["count"], early["total"]["lost"]["count"]) == (1, 0)
    wins = (await asked(client, "win-rate"))["total"]
    assert wins["rate"]["rate"] == 0.5
    assert wins["by_amount"] == [
        {
            "won": {"amount": "100.00", "currency": "EUR"},
            "lost": {"amount": "300.00", "currency": "EUR"},
            "rate": 0.25,
        }
    ]


async def test_losses_are_told_by_reason_and_by_the_stage_before(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    losses = (await asked(client, "loss-reasons"))["total"]
    assert losses["deals"] == 1
    assert [(r["reason"], r["name"], r["deals"]) for r in losses["reasons"]] == [
        ("price", "Too dear", 1)
    ]
    assert [(s["key"], s["share"]["count"]) for s in losses["stages"]] == [("offer", 1)]


async def test_the_snapshot_shows_open_deals_where_they_stand(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    snapshot = (await asked(client, "snapshot", as_of="2024-01-11T00:00:00Z"))["total"]
    lead, offer = snapshot["stages"]
    assert (lead["deals"], lead["median_age_seconds"]) == (0, None)
    assert (offer["deals"], offer["idle"], offer["unweighted"]) == (2, 1, 1)
    assert offer["median_age_seconds"] == 3.5 * 86_400
    assert [bucket["deals"] for bucket in offer["age_buckets"]] == [1, 0, 0, 0, 1]
    before = (await asked(client, "snapshot", as_of="2024-01-03T12:00:00Z"))["total"]
    assert [stage["deals"] for stage in before["stages"]] == [3, 0]


async def test_no_deal_ages_ahead_of_the_clock(client: httpx.AsyncClient, sales: Pipeline) -> None:
    threshold, short = timedelta(days=5), timedelta(seconds=50)
    begun = datetime.now(UTC)
    await open_deal(client, stage="offer", opened_at=(begun - threshold + short).isoformat())
    next_minute = begun.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for parameters in ({}, {"as_of": next_minute.isoformat()}):
        answer = await asked(client, "snapshot", **parameters)
        offer = answer["total"]["stages"][1]
        assert datetime.now(UTC) - begun < short, "too slow to tell"
        assert (offer["deals"], offer["idle"]) == (1, 0)
        age = timedelta(seconds=offer["median_age_seconds"])
        assert threshold - short <= age <= threshold - short + (datetime.now(UTC) - begun)


async def test_a_rearranged_deal_seen_in_the_past_keeps_its_idle_clock(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    deal = past_deal(sales, [("lead", day(1)), ("offer", day(3)), ("lost", day(20))])
    opened, rearranged, lost = deal.history.standing()
    moves = (opened, replace(rearranged, kind=TransitionKind.REARRANGED), lost)
    log = [Logged(move, day(30)) for move in moves]
    kept = replace(deal, history=replace(deal.history, log=log))
    await insert(database, workspace, sales, [kept])
    # Five days after it was opened, though it has stood in offer for four only.
    offer = (await asked(client, "snapshot", as_of="2024-01-08T00:00:00Z"))["total"]["stages"][1]
    assert (offer["deals"], offer["idle"], offer["median_age_seconds"]) == (1, 1, 4 * 86_400)


async def test_a_tag_stated_with_the_close_belongs_to_the_closed_deal_and_a_later_one_does_not(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    deal = past_deal(sales, [("lead", day(1)), ("won", day(5))], tags=("vip", "late"))
    changes = [
        (FactChange("tags", (), day(5), day(5)), ("vip",)),
        (FactChange("tags", ("vip",), day(6), day(6)), ("vip", "late")),
    ]
    history = replace(deal.history, changes=[change for change, _ in changes])
    kept = replace(deal, history=history, changes=changes)
    await insert(database, workspace, sales, [kept])
    groups = (await asked(client, "win-rate", group_by="tag"))["groups"]
    assert [group["value"] for group in groups] == ["vip"]


async def test_of_nothing_the_counts_are_zero_and_the_rates_null(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    funnel = (await asked(client, "funnel"))["total"]
    assert [stage["reached"] for stage in funnel["stages"]] == [0, 0, 0]
    assert funnel["stages"][0]["conversion_to_next"]["rate"] is None
    assert (await asked(client, "win-rate"))["total"]["rate"]["rate"] is None
    assert (await asked(client, "cycle-time"))["total"]["all"]["p50_seconds"] is None
    assert (await asked(client, "loss-reasons"))["total"]["stages"] == []
    assert (await asked(client, "snapshot", group_by="owner"))["groups"] == []
    assert (await asked(client, "time-in-stage"))["total"]["stages"][0]["completed"]["count"] == 0


async def test_a_first_day_that_begins_in_another_year_of_utc_can_be_asked_for(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    answer = await client.get(
        "/v1/pipelines/sales/metrics/funnel",
        params={"from": "1900-01-01", "timezone": "Asia/Tokyo"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["policy"]["from"] == "1899-12-31T15:00:00Z"


async def test_a_move_shows_in_the_very_next_answer(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    deal = await open_deal(client)
    assert (await asked(client, "funnel"))["total"]["deals"] == 1
    await move(client, deal["id"], "won")
    assert (await asked(client, "funnel"))["total"]["stages"][-1]["reached"] == 1


async def test_the_answer_of_an_earlier_time_can_be_had_again_to_the_digit(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    deal = await open_deal(client, amount={"amount": "10.00", "currency": "EUR"}, owner="ada")
    await move(client, deal["id"], "offer")
    before = {
        name: await asked(client, name, group_by="owner", **needed)
        for name, needed in METRICS.items()
    }
    known_at = datetime.now(UTC).isoformat()
    known = {
        name: await asked(client, name, group_by="owner", known_at=known_at, **needed)
        for name, needed in METRICS.items()
    }
    patch = {"owner": "ben", "amount": {"amount": "99.00", "currency": "EUR"}}
    path = f"/v1/opportunities/{deal['id']}"
    changed = await client.patch(path, json=patch, headers={"If-Match": "*"})
    assert changed.status_code == 200
    last = await move(client, deal["id"], "won")
    voided = await client.post(
        f"/v1/transitions/{last['transition']['id']}/void", json={"reason": "by mistake"}
    )
    assert voided.is_success
    await move(client, deal["id"], "lost", loss_reason="price")
    await open_deal(client)
    for name, needed in METRICS.items():
        again = await asked(client, name, group_by="owner", known_at=known_at, **needed)
        assert again == known[name]
        assert again["policy"]["as_of"] == again["policy"]["known_at"]
        if name not in AGEING:
            assert all(again[part] == before[name][part] for part in ("total", "groups"))
            now = await asked(client, name, group_by="owner", **needed)
            assert now["total"] != before[name]["total"]
    standing = await asked(client, "snapshot", known_at=known_at)
    counts = [(s["key"], s["deals"], s["amount"]) for s in standing["total"]["stages"]]
    assert counts == [
        (s["key"], s["deals"], s["amount"]) for s in before["snapshot"]["total"]["stages"]
    ]


@pytest.mark.parametrize("metric", METRICS)
async def test_an_unchanged_answer_is_a_304_until_something_happens(
    client: httpx.AsyncClient, past: Pipeline, metric: str
) -> None:
    path = f"/v1/pipelines/sales/metrics/{metric}"
    query = {"as_of": "2024-02-01T00:00:00Z", **METRICS[metric]}
    again = await unchanged(client, path, query)
    assert again.content == b""
    held = {"If-None-Match": again.headers["ETag"]}
    other = await client.get(path, params={**query, "owner": "ada"}, headers=held)
    assert other.status_code == 200
    await open_deal(client)
    changed = await client.get(path, params=query, headers=held)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != again.headers["ETag"]


async def test_only_an_answer_whose_instant_is_fixed_is_strongly_tagged(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    path = "/v1/pipelines/sales/metrics/funnel"
    moving = await unchanged(client, path)
    assert moving.headers["ETag"].startswith('W/"')
    fixed = await client.get(path, params={"as_of": "2024-02-01T00:00:00Z"})
    assert fixed.headers["ETag"].startswith('"')


@pytest.mark.parametrize(
    ("metric", "parameters", "breaches"),
    [
        ("funnel", {"colour": "red"}, [("?colour", "unknown_field")]),
        ("funnel", {"basis": "period"}, [("?basis", "not_one_of")]),
        ("funnel", {"group_by": "colour"}, [("?group_by", "not_one_of")]),
        ("funnel", {"group_by": "attributes."}, [("?group_by", "not_one_of")]),
        ("funnel", {"from_": "2024-02-01", "to": "2024-01-01"}, [("?to", "out_of_range")]),
        ("funnel", {"from_": "yesterday"}, [("?from", "wrong_format")]),
        ("funnel", {"from_": "0001-01-01"}, [("?from", "wrong_format")]),
        ("funnel", {"owner": "a\x00"}, [("?owner", "wrong_format")]),
        ("funnel", {"attributes.a\x00": "b"}, [("?attributes.a\x00", "wrong_format")]),
        ("funnel", {"group_by": "attributes.a\x00"}, [("?group_by", "not_one_of")]),
        ("funnel", {"timezone": "../../etc/passwd"}, [("?timezone", "unknown_timezone")]),
        ("funnel", {"timezone": "Mars/Olympus"}, [("?timezone", "unknown_timezone")]),
        ("funnel", {"as_of": "2999-01-01T00:00:00Z"}, [("?as_of", "out_of_range")]),
        ("funnel", {"known_at": "2999-01-01T00:00:00Z"}, [("?known_at", "out_of_range")]),
        ("funnel", {"revision": "7"}, [("?revision", "out_of_range")]),
        ("funnel", {"opened_month": "2024-13"}, [("?opened_month", "wrong_format")]),
        ("funnel", {"skip": "observed", "reentry": "every"}, [("?skip", "not_one_of")]),
        ("funnel", {"attribution": "at_move", "tag": "hot"}, [("?attribution", "not_frozen")]),
        ("time-in-stage", {"group_by": "tag"}, [("?attribution", "not_frozen")]),
        ("snapshot", {"from": "2024-01-01"}, [("?from", "unknown_field")]),
        ("win-rate", {"population": "opened"}, [("?population", "unknown_field")]),
        (
            "cycle-time",
            {"colour": "red", "as_of": "2999-01-01T00:00:00Z"},
            [("?colour", "unknown_field"), ("?as_of", "out_of_range")],
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
    assert await refused(client, metric, **parameters) == breaches


@pytest.mark.parametrize("metric", METRICS)
async def test_an_unknown_pipeline_is_not_found(client: httpx.AsyncClient, metric: str) -> None:
    answer = await client.get(f"/v1/pipelines/nowhere/metrics/{metric}", params=METRICS[metric])
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
