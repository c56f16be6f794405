"""Metrics of a sales organisation's real deals, against figures that others computed from them.

`reference.json` beside the file was made with pandas, DuckDB and pm4py, which agree; what it does
not tell is computed from the file by numpy, scipy and lifelines. Where the file is absent, these
tests are skipped.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.acceptance.real_past import DAY, END, ENGAGED, MICROSECONDS, STARTS, Asking, maven_cycles
from tests.acceptance.test_real_data_import import DATA, MAVEN, reference

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the reference data sets are not here"),
]


@pytest.fixture(scope="module")
def told() -> Any:
    return reference(MAVEN)


async def test_the_funnel_reaches_as_far_as_the_reference_says(maven: Asking, told: Any) -> None:
    conversion = told["conversion"]
    funnel = (await maven("funnel", as_of=END))["total"]
    prospecting, engaging, won = funnel["stages"]
    assert prospecting["reached"] == conversion["all"] == 8_800
    assert prospecting["open_furthest"] == conversion["open_prospecting"]
    assert engaging["reached"] == conversion["reached_engaging"] == 8_300
    assert engaging["open_furthest"] == conversion["open_engaging"]
    assert engaging["lost_furthest"] == conversion["lost"]
    assert won["reached"] == conversion["won"]
    assert won["amount_reached"] == [{"amount": "10005534.00", "currency": "USD"}]
    for share, name in (
        (prospecting["conversion_to_next"], "prospecting_to_engaging"),
        (engaging["conversion_to_won"], "engaging_to_won_of_all_engaged"),
        (won["conversion_from_start"], "win_rate_of_all"),
    ):
        assert share["rate"] == pytest.approx(conversion[name], abs=1e-6)


async def test_deals_are_won_as_often_and_as_soon_as_the_reference_says(
    maven: Asking, told: Any
) -> None:
    wins = (await maven("win-rate", as_of=END))["total"]
    expected = told["conversion"]["win_rate_of_closed"]
    assert wins["rate"]["rate"] == pytest.approx(expected, abs=1e-6)
    assert wins["by_amount"][0]["won"]["amount"] == f"{told['value']['won_sum']}.00"
    assert wins["by_amount"][0]["lost"]["amount"] == "0.00"
    found = (await maven("cycle-time", as_of=END))["total"]
    for outcome, name in (("won", "won"), ("lost", "lost"), ("all", "closed")):
        days = told["cycle_days_engage_to_close"][name]
        assert found[outcome]["count"] == days["n"]
        assert found[outcome]["p50_seconds"] == days["p50_cont"] * DAY
        assert found[outcome]["p90_seconds"] == days["p90_cont"] * DAY
        assert found[outcome]["max_seconds"] == days["max"] * DAY
        assert found[outcome]["mean_seconds"] == pytest.approx(days["mean"] * DAY, abs=0.1)


async def test_every_quarter_of_close_is_told_alike_by_period_trend_and_cumulative_flow(
    maven: Asking, told: Any
) -> None:
    quarters = list(told["by_quarter_of_close"].values())
    year = {"from_": STARTS[0], "to": STARTS[-1], "by": "quarter", "as_of": END}
    trends = {
        figure: (await maven("trend", figure=figure, **year))["total"]["points"]
        for figure in ("won", "lost", "win_rate", "won_amount")
    }
    flow = (await maven("cumulative-flow", **year))["total"]["buckets"]
    for number, quarter in enumerate(quarters):
        won, lost = quarter["Won"], quarter["Lost"]
        money = {"amount": f"{quarter['won_value']}.00", "currency": "USD"}
        found = (await maven("win-rate", from_=STARTS[number], to=STARTS[number + 1]))["total"]
        assert (found["won"], found["lost"]) == (won, lost)
        assert found["by_amount"][0]["won"] == money
        points = {figure: trend[number] for figure, trend in trends.items()}
        assert (points["won"]["value"], points["lost"]["value"]) == (won, lost)
        assert points["won_amount"]["amount"] == [money]
        wilson = binomtest(won, won + lost).proportion_ci(0.95, "wilson")
        assert (points["win_rate"]["count"], points["win_rate"]["of"]) == (won, won + lost)
        assert points["win_rate"]["value"] == pytest.approx(won / (won + lost))
        assert points["win_rate"]["low"] == pytest.approx(wilson.low)
        assert points["win_rate"]["high"] == pytest.approx(wilson.high)
        assert flow[number]["departures"] == won + lost
    assert len(flow) == len(trends["won"]) == len(quarters)


@pytest.mark.parametrize(
    ("dimension", "part"),
    [
        ("owner", "by_agent"),
        ("team", "by_region"),
        ("attributes.manager", "by_manager"),
        ("attributes.product", "by_product"),
        ("opened_month", "cohort_by_engage_month"),
    ],
)
async def test_groups_are_those_of_the_reference(
    maven: Asking, told: Any, dimension: str, part: str
) -> None:
    period = ENGAGED if dimension == "opened_month" else {}
    groups = (await maven("funnel", as_of=END, group_by=dimension, **period))["groups"]
    assert {group["value"] for group in groups} == set(told[part])
    for group in groups:
        counted, expected = _by_stage(group), told[part][group["value"]]
        outcomes = ("Won", "Lost", "Engaging", "Prospecting", "won_value")
        # The months of the reference tell no money.
        named = [name for name in outcomes if name != "won_value" or name in expected]
        assert {name: counted[name] for name in named} == {
            name: expected.get(name, 0) for name in named
        }
        assert group["deals"] == sum(counted[name] for name in outcomes[:4])
        assert group["deals"] == expected.get("deals", group["deals"])


async def test_each_region_wins_as_soon_as_the_reference_says(maven: Asking, told: Any) -> None:
    lengths = (await maven("cycle-time", as_of=END, group_by="team"))["groups"]
    assert {
        group["value"]: (group["won"]["p50_seconds"] / DAY, group["won"]["p90_seconds"] / DAY)
        for group in lengths
    } == {
        region: (expected["p50_days_won"], expected["p90_days_won"])
        for region, expected in told["by_region"].items()
    }


async def test_open_deals_are_as_old_and_as_idle_as_the_reference_says(
    maven: Asking, told: Any
) -> None:
    expected = told["idle_open_engaging_by_engage_date"]
    for days, counts in expected["by_days"].items():
        for period, count in ((f"P{days}D", "ge"), (f"P{int(days) + 1}D", "gt")):
            revision = await maven.idle_after(period, ["engaging"])
            snapshot = (await maven("snapshot", as_of=END, revision=revision))["total"]["stages"]
            assert [(stage["deals"], stage["idle"]) for stage in snapshot] == [
                (expected["prospecting_with_no_date_at_all"], 0),
                (expected["open"], counts[count]),
            ]
    _, engaging = (await maven("time-in-stage", as_of=END))["total"]["stages"]
    age = expected["age_days"]
    assert engaging["open"]["count"] == age["n"]
    for name, told_as in (("p50", "p50_cont"), ("p90", "p90_cont"), ("max", "max")):
        shown = engaging["open"][f"{name}_seconds"]
        assert shown == pytest.approx(age[told_as] * DAY, abs=1e-5)
    assert engaging["open"]["mean_seconds"] == pytest.approx(age["mean"] * DAY, abs=0.1)
    visits = await maven.behind("time-in-stage", "open.engaging", as_of=END)
    shortest = min(item["visit"]["seconds"] for item in visits)
    assert shortest == pytest.approx(age["min"] * DAY, abs=1e-5)


async def test_flow_and_matrix_move_every_deal_of_the_reference(maven: Asking, told: Any) -> None:
    stages = {s["key"]: s for s in (await maven("flow", as_of=END))["total"]["stages"]}
    conversion, days = told["conversion"], told["cycle_days_engage_to_close"]
    assert sum(stage["entries"] for stage in stages.values()) == (
        told["derivable_transitions"]["rows"]
        + told["derivable_transitions"]["opportunities_with_none"]
    )
    engaging = stages["engaging"]
    assert (engaging["won"], engaging["lost"]) == (conversion["won"], conversion["lost"])
    assert {key: stage["open_at_end"] for key, stage in stages.items()} == {
        name.lower(): count for name, count in told["stages"].items()
    }
    cells = (await maven("matrix", as_of=END))["total"]["cells"]
    assert [
        (cell["from_stage"], cell["to_stage"], cell["count"], cell["median_dwell_seconds"] / DAY)
        for cell in cells
    ] == [("engaging", name, conversion[name], days[name]["p50_cont"]) for name in ("won", "lost")]


async def test_cumulative_flow_balances_and_departs_after_the_mean_cycle(
    maven: Asking, told: Any
) -> None:
    cohorts = told["cohort_by_engage_month"]
    early = sum(sum(cohorts[month].values()) for month in ("2016-10", "2016-11", "2016-12"))
    whole = {"from_": "2016-10-01", "to": END, "as_of": END}
    for by, start, before in (("day", "2017-01-01", early), ("week", "2016-10-01", 0)):
        flow = (await maven("cumulative-flow", **{**whole, "by": by, "from_": start}))["total"]
        assert flow["in_progress_at_start"] == before  # nobody closed before March
        came_and_went: list[int] = []
        for bucket in flow["buckets"]:
            came_and_went.append(bucket["arrivals"] - bucket["departures"])
            assert bucket["in_progress"] == before + sum(came_and_went)
            assert bucket["in_progress"] == sum(s["in_progress"] for s in bucket["stages"])
        assert bucket["in_progress"] == told["stages"]["Engaging"] + told["stages"]["Prospecting"]
    by_month = (await maven("cumulative-flow", **whole))["total"]
    days = told["cycle_days_engage_to_close"]["closed"]
    law = by_month["little"]
    assert law["mean_time_in_process_seconds"] == pytest.approx(days["mean"] * DAY, abs=0.1)
    aged = told["idle_open_engaging_by_engage_date"]["age_days"]
    in_process = days["mean"] * days["n"] + aged["mean"] * aged["n"]
    assert law["time_in_process_seconds"] == pytest.approx(in_process * DAY, rel=1e-7)
    assert law["period_seconds"] == pytest.approx(456 * DAY)  # from October to the last day
    assert law["average_in_progress"] == pytest.approx(in_process / 456, rel=1e-7)
    assert law["ratio"] == pytest.approx(days["mean"] * days["n"] / in_process, rel=1e-7)
    *engaged, last = [bucket["arrivals"] for bucket in by_month["buckets"]]
    last -= told["stages"]["Prospecting"]  # imported as of the last day
    assert [*engaged, last] == [sum(cohort.values()) for cohort in cohorts.values()]


async def test_velocity_is_made_of_the_figures_of_the_reference(maven: Asking, told: Any) -> None:
    (dollars,) = (await maven("velocity", as_of=END))["total"]["currencies"]
    value = told["value"]["won"]
    assert dollars["open_deals"] == told["stages"]["Engaging"] + told["stages"]["Prospecting"]
    assert dollars["won_with_amount"] == value["n"]
    assert float(dollars["mean_won_amount"]["amount"]) == pytest.approx(value["mean"], abs=1e-4)
    days = told["cycle_days_engage_to_close"]["won"]["mean"]
    assert dollars["mean_won_cycle_seconds"] == pytest.approx(days * DAY, abs=0.1)
    rate = told["conversion"]["win_rate_of_closed"]
    assert dollars["win_rate"]["rate"] == pytest.approx(rate, abs=1e-6)
    a_day = dollars["open_deals"] * rate * value["mean"] / days
    assert float(dollars["velocity_per_day"]["amount"]) == pytest.approx(a_day, rel=1e-5)


async def test_bottlenecks_are_worth_what_the_figures_of_the_reference_make(
    maven: Asking, told: Any
) -> None:
    prospecting, engaging = (await maven("bottlenecks", as_of=END))["total"]["stages"]
    conversion, mean = told["conversion"], told["value"]["won"]["mean"]
    onward = conversion["won"] / conversion["reached_engaging"]
    for stage, reached, converted, place in (
        (prospecting, conversion["all"], onward, 2),
        (engaging, conversion["reached_engaging"], 1, 1),
    ):
        (dollars,) = stage["worth"]
        worth = 0.01 * reached * converted * mean
        assert float(dollars["worth"]["amount"]) == pytest.approx(worth, rel=1e-8)
        assert (dollars["reached"], dollars["place"]) == (reached, place)
    cycles = maven_cycles()
    p25, p50 = np.quantile([*cycles["Won"], *cycles["Lost"]], (0.25, 0.5)) / MICROSECONDS
    assert (engaging["p25_seconds"], engaging["p50_seconds"]) == (p25, p50)
    assert engaging["entries"] == conversion["reached_engaging"]
    assert engaging["days_saved"] == pytest.approx((p50 - p25) / DAY * engaging["entries"])
    assert (engaging["place"], prospecting["place"]) == (1, None)  # nobody has left prospecting


@pytest.mark.parametrize("period", [{}, {"from_": STARTS[1], "to": STARTS[2]}])
async def test_a_number_and_the_list_behind_it_agree(maven: Asking, period: dict[str, str]) -> None:
    east = {"team": "East", "as_of": END, **period}
    *_, engaging, won = (await maven("funnel", **east))["total"]["stages"]
    wins = (await maven("win-rate", **east))["total"]
    cycle = (await maven("cycle-time", **east))["total"]
    flows = {s["key"]: s for s in (await maven("flow", **east))["total"]["stages"]}
    (to_won, to_lost) = (await maven("matrix", **east))["total"]["cells"]
    reasons = (await maven("loss-reasons", **east))["total"]
    for metric, cell, count in (
        ("funnel", "reached.engaging", engaging["reached"]),
        ("funnel", "open_furthest.engaging", engaging["open_furthest"]),
        ("funnel", "reached.won", won["reached"]),
        ("win-rate", "won", wins["won"]),
        ("win-rate", "rate.of", wins["rate"]["of"]),
        ("cycle-time", "lost", cycle["lost"]["count"]),
        ("flow", "open_at_start.engaging", flows["engaging"]["open_at_start"]),
        ("flow", "open_at_end.engaging", flows["engaging"]["open_at_end"]),
        ("matrix", "count.engaging.won", to_won["count"]),
        ("matrix", "count.engaging.lost", to_lost["count"]),
        ("loss-reasons", "deals.engaging.unspecified", reasons["deals"]),
    ):
        items = await maven.behind(metric, cell, **east)
        assert len({item["opportunity_id"] for item in items}) == len(items) == count
        assert {item["team"] for item in items} <= {"East"}


def _by_stage(group: Mapping[str, Any]) -> Counter[str]:
    """A group of the funnel in the words of the reference."""
    prospecting, engaging, won = group["stages"]
    return Counter(
        {
            "Won": won["reached"],
            "Lost": engaging["lost_furthest"],
            "Engaging": engaging["open_furthest"],
            "Prospecting": prospecting["open_furthest"],
            "won_value": sum(int(float(money["amount"])) for money in won["amount_reached"]),
        }
    )
