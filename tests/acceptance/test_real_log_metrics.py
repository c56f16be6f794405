"""Metrics of a hospital's process log, against figures that others computed from it.

The log asks for all that is hard: several outcomes, returns after them, moves back, events that
repeat a stage. `reference.json` beside it was made with pandas, DuckDB and pm4py, which agree; it
counts a repeated stage as a visit of its own, where here the stay goes on. Where the file is
absent, these tests are skipped.
"""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.real_past import LAST, Asking, stays
from tests.acceptance.test_real_data_import import DATA, PATH, RELEASES, SEPSIS, reference, slug

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the reference data sets are not here"),
]

OPEN = tuple(slug(name) for name in (*PATH, "Return ER"))
REGISTRATION = PATH[:3]
"""No case repeats these, so that the lengths of the reference are those of visits."""


@pytest.fixture(scope="module")
def told() -> Any:
    return reference(SEPSIS)["stage_events_only"]


@pytest.fixture(scope="module")
def moves(told: Any) -> dict[tuple[str, str], int]:
    """How many moves there were from stage to stage."""
    follows = told["directly_follows"]
    return {(slug(one), slug(two)): count for one, two, count in follows if one != two}


async def test_cases_come_as_far_as_the_reference_says(sepsis: Asking, told: Any) -> None:
    *path, won = (await sepsis("funnel"))["total"]["stages"]
    assert [stage["entered"] for stage in path] == [
        told["stages"][name]["cases_reached"] for name in PATH
    ]
    outcome = told["outcome"]
    assert won["reached"] == outcome["rule_last_event"]["won"]
    assert won["ever_won"] == outcome["rule_any_terminal_event"]["won"]
    assert won["won_undone"] == told["after_first_terminal"]["into_non_terminal_cases"]
    left_open = sum(stage["open_furthest"] for stage in path)
    assert left_open == outcome["rule_last_event"]["open"]


async def test_steps_that_were_observed_are_those_of_the_reference(
    sepsis: Asking, told: Any
) -> None:
    path = (await sepsis("funnel", skip="observed"))["total"]["stages"]
    entered: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for stay in stays(datetime.fromisoformat(LAST)):
        entered[stay.case, stay.stage].append(stay.events[0])
    steps = told["funnel_in_declared_order"][1 : len(PATH)]
    for shown, step, (here, following) in zip(path, steps, pairwise(PATH), strict=False):
        # The reference asks only for the first time that a case came to the following stage.
        again = sum(
            entered[case, following][0] < instants[0] < entered[case, following][-1]
            for (case, stage), instants in [*entered.items()]
            if stage == here and (case, following) in entered
        )
        assert shown["conversion_to_next"]["count"] == step["entered_previous_then_this"] + again


async def test_the_matrix_holds_every_pair_of_the_reference(
    sepsis: Asking, told: Any, moves: dict[tuple[str, str], int]
) -> None:
    cells = (await sepsis("matrix"))["total"]["cells"]
    found = {(cell["from_stage"], cell["to_stage"]): cell["count"] for cell in cells}
    assert found == moves
    medians = {cell["from_stage"]: cell["median_dwell_seconds"] for cell in cells}
    for name in RELEASES:  # who comes back from one goes to one stage only
        assert medians[slug(name)] == told["visit_dwell_seconds"][name]["p50_cont"]


async def test_flow_tells_where_cases_begin_end_move_back_and_return(
    sepsis: Asking, told: Any, moves: dict[tuple[str, str], int]
) -> None:
    flow = {stage["key"]: stage for stage in (await sepsis("flow"))["total"]["stages"]}
    arrived, left, repeated = Counter[str](), Counter[str](), Counter[str]()
    for (start, end), count in moves.items():
        arrived[end] += count
        left[start] += count
    for one, two, count in told["directly_follows"]:
        repeated[slug(one)] += count if one == two else 0
    for name, stage in told["stages"].items():
        shown = flow[slug(name)]
        assert shown["entries"] == stage["entries"] - repeated[slug(name)]
        assert shown["exits"] == left[slug(name)]
        assert shown["entries"] - arrived[slug(name)] == told["start_stages"].get(name, 0)
        assert shown["open_at_end"] == told["end_stages"].get(name, 0)
    last = told["outcome"]["by_last_terminal_stage"]
    assert {name: flow[slug(name)]["entries"] for name in RELEASES} == last
    returned = told["after_first_terminal"]["into_non_terminal_events"]
    assert sum(stage["reopened"] for stage in flow.values()) == returned
    back: Counter[str] = Counter()
    for pair, count in told["moves"]["backward_pairs"].items():
        back[slug(pair.partition(" -> ")[0])] += count
    assert {key: flow[key]["regressed"] for key in OPEN} == {key: back[key] for key in OPEN}


async def test_stays_last_as_long_as_the_reference_says(sepsis: Asking, told: Any) -> None:
    stages = (await sepsis("time-in-stage"))["total"]["stages"]
    completed = {stage["key"]: stage["completed"] for stage in stages}
    for name in REGISTRATION:
        expected, shown = told["visit_dwell_seconds"][name], completed[slug(name)]
        assert (shown["count"], shown["max_seconds"]) == (expected["n"], expected["max"])
        for quantile in ("p50", "p90"):
            assert shown[f"{quantile}_seconds"] == pytest.approx(expected[f"{quantile}_cont"])
        assert shown["mean_seconds"] == pytest.approx(expected["mean"], abs=1e-6)
    # Of visits with the events that repeat their stage in them the reference says nothing.
    for key, n, p50, p90 in (
        ("admission-nc", 811, 429_249, 1_207_822),
        ("admission-ic", 108, 142_063.5, 565_019),
    ):
        shown = completed[key]
        assert (shown["count"], shown["p50_seconds"]) == (n, p50)
        assert shown["p90_seconds"] == pytest.approx(p90, abs=0.5)


@pytest.mark.parametrize("day", ["2014-06-30", "2014-12-31"])
async def test_an_earlier_instant_shows_the_cases_as_they_stood(sepsis: Asking, day: str) -> None:
    ((instant, then),) = [
        (instant, found)
        for instant, found in reference(SEPSIS)["stage_events_as_of_snapshots"].items()
        if instant.startswith(day)
    ]
    as_of = instant.replace("+00:00", ".000001Z")
    funnel = (await sepsis("funnel", as_of=as_of))["total"]
    assert (funnel["deals"], funnel["stages"][-1]["reached"]) == (then["cases_seen"], then["won"])
    flow = (await sepsis("flow", as_of=as_of))["total"]["stages"]
    assert {stage["key"]: stage["open_at_end"] for stage in flow if stage["open_at_end"]} == {
        slug(name): count for name, count in then["by_current_stage"].items()
    }
    until = datetime.fromisoformat(instant)
    running = [
        stay for stay in stays(until + timedelta(microseconds=1)) if slug(stay.stage) in OPEN
    ]
    for days, idle in then["open_idle"].items():
        revision = await sepsis.idle_after(f"P{days}D", OPEN)
        snapshot = (await sepsis("snapshot", as_of=as_of, revision=revision))["total"]
        # To the reference a case is fresh that has just repeated its stage.
        bound = until - timedelta(days=int(days))
        repeated = sum(
            stay.ended is None and stay.events[0] <= bound < stay.events[-1] for stay in running
        )
        assert (snapshot["deals"], snapshot["idle"]) == (then["open"], idle["ge"] + repeated)
        listed = await sepsis.behind("snapshot", "idle", as_of=as_of, revision=revision)
        assert len({item["opportunity_id"] for item in listed}) == snapshot["idle"]


async def test_a_first_release_comes_as_soon_as_the_reference_says(
    released: Asking, told: Any
) -> None:
    cycle = (await released("cycle-time"))["total"]
    expected = told["cycle_first_event_to_first_terminal_seconds"]["won"]
    assert (cycle["won"]["count"], cycle["lost"]["count"]) == (expected["n"], 0)
    assert cycle["won"]["max_seconds"] == expected["max"]
    assert cycle["won"]["mean_seconds"] == pytest.approx(expected["mean"], abs=1e-5)
    for quantile in ("p50", "p90"):
        shown = cycle["won"][f"{quantile}_seconds"]
        assert shown == pytest.approx(expected[f"{quantile}_cont"])
    wins = (await released("win-rate"))["total"]
    assert wins["rate"]["rate"] == told["outcome"]["win_rate_of_closed_last_terminal"]
    *_, won = (await released("funnel"))["total"]["stages"]
    rate = told["outcome"]["win_rate_of_all_last_terminal"]
    assert won["conversion_from_start"]["rate"] == pytest.approx(rate, abs=1e-6)


async def test_months_of_arrival_end_as_the_reference_says(released: Asking, told: Any) -> None:
    months = (await released("funnel", group_by="opened_month"))["groups"]
    assert {
        month["value"]: {
            "won": month["stages"][-1]["reached"],
            "open": sum(stage["open_furthest"] for stage in month["stages"][:-1]),
        }
        for month in months
    } == told["cohort_by_first_event_month_utc"]


async def test_cases_never_released_stand_idle_where_the_reference_says(
    released: Asking, told: Any
) -> None:
    expected = told["idle_open_cases_by_any_terminal_rule"]
    for days, idle in expected["by_days"].items():
        revision = await released.idle_after(f"P{days}D", OPEN)
        snapshot = (await released("snapshot", as_of=LAST, revision=revision))["total"]
        assert (snapshot["deals"], snapshot["idle"]) == (expected["open"], idle["ge"])
        assert {stage["key"]: stage["deals"] for stage in snapshot["stages"] if stage["deals"]} == {
            slug(name): count for name, count in expected["open_by_current_stage"].items()
        }


async def test_a_number_and_the_list_behind_it_agree(
    sepsis: Asking, told: Any, moves: dict[tuple[str, str], int]
) -> None:
    returned = told["after_first_terminal"]
    for metric, cell, count in (
        ("matrix", "count.admission-ic.admission-nc", moves["admission-ic", "admission-nc"]),
        ("flow", "reopened.release-a", moves["release-a", "return-er"]),
        ("flow", "open_at_end.return-er", told["end_stages"]["Return ER"]),
        ("funnel", "won_undone", returned["into_non_terminal_cases"]),
        ("funnel", "entered.admission-ic", told["stages"]["Admission IC"]["cases_reached"]),
        ("time-in-stage", "completed.er-triage", told["visit_dwell_seconds"]["ER Triage"]["n"]),
    ):
        assert len(await sepsis.behind(metric, cell)) == count
