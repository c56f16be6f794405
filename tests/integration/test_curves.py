"""Curves: the database's lengths are the definition's, and what a front end is given to plot."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.journey import Status
from app.domain.measures import curves, stage_time
from app.domain.measures.selection import Selection
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.pipeline import StageKind
from app.storage.engine import Database
from app.storage.queries.closings import lifetimes
from app.storage.queries.stage_time import stays
from tests.factories import keep_pipeline, sales_pipeline
from tests.metric_cases import Case, cases, examples, keep
from tests.past_deals import insert, past_deal

pytestmark = pytest.mark.asyncio

DAY = 86_400.0
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def ungrouped(case: Case) -> Selection:
    return replace(case.selection, group_by=None)


def told(ended: Mapping[Status, Iterable[int]], running: Iterable[int]) -> Any:
    return {status: sorted(lengths) for status, lengths in ended.items()}, sorted(running)


@examples
@given(case=cases())
async def test_deals_run_as_long_in_the_database_as_by_definition(
    database: Database, workspace: UUID, case: Case
) -> None:
    await keep(database, workspace, case)
    async with database.read(workspace) as connection:
        found = await lifetimes(connection, case.asked(workspace), grouped=True)
    expected = curves.cycles(case.deals, case.selection, case.now)
    assert {group: told(*lengths) for group, lengths in found.items()} == {
        group: told(*lengths) for group, lengths in expected.items()
    }


@examples
@given(case=cases(), reentry=st.sampled_from(VisitReentry))
async def test_stays_of_one_stage_are_those_of_the_definition(
    database: Database, workspace: UUID, case: Case, reentry: VisitReentry
) -> None:
    await keep(database, workspace, case)
    entered = VisitPopulation.ENTERED
    every = stage_time.stays(case.ranking, case.deals, ungrouped(case), entered, reentry, case.now)
    for slot in case.ranking.slots(StageKind.OPEN):
        async with database.read(workspace) as connection:
            found = await stays(
                *(connection, case.asked(workspace), entered, reentry),
                lambda these: (these.ended.tolist(), these.running.tolist()),
                grouped=False,
                slot=slot,
            )
        assert found == {key: lengths for key, lengths in every.items() if key[1] == slot}


@pytest.fixture
async def past(database: Database, workspace: UUID) -> None:
    """Ten deals: eight were won after 1 to 8 days, one lost after 4, one has been open for ages.

    The one that is open went on to offer after 2 days and 12 hours.
    """
    pipeline = await keep_pipeline(database, workspace, sales_pipeline())
    closed = [[("lead", day(0)), ("won", day(length))] for length in range(1, 9)]
    lost = [("lead", day(0)), ("lost", day(4))]
    running = [("lead", day(0)), ("offer", day(2.5))]
    deals = [past_deal(pipeline, stays) for stays in (*closed, lost, running)]
    await insert(database, workspace, pipeline, deals)


async def asked(client: httpx.AsyncClient, path: str, status: int = 200, **query: str) -> Any:
    answer = await client.get(f"/v1/pipelines/sales/metrics/{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_stage_curve_falls_by_those_who_leave(
    client: httpx.AsyncClient, past: None
) -> None:
    at = (BEGIN + timedelta(days=60)).isoformat()
    found = await asked(client, "time-in-stage/curve", stage="lead", as_of=at)
    assert (found["completed"], found["open"]) == (10, 0)
    drawn = [(point["seconds"] / DAY, point["survival"]) for point in found["points"]]
    lasting = {1: 0.9, 2: 0.8, 2.5: 0.7, 3: 0.6, 4: 0.4, 5: 0.3, 6: 0.2, 7: 0.1, 8: 0.0}
    assert drawn == [(length, pytest.approx(share)) for length, share in lasting.items()]
    assert found["quantiles"]["p50_seconds"] == 4 * DAY
    assert found["points"][0]["low"] < 0.9 < found["points"][0]["high"]
    assert found["points"][-1]["low"] is None
    whole = await asked(client, "time-in-stage", as_of=at)
    assert whole["total"]["stages"][0]["survival"] == found["quantiles"]


async def test_a_stage_that_few_have_left_has_points_and_no_quantile(
    client: httpx.AsyncClient, past: None
) -> None:
    found = await asked(client, "time-in-stage/curve", stage="offer")
    assert (found["completed"], found["open"], found["points"]) == (0, 1, [])
    assert found["quantiles"]["p50_seconds"] is None
    assert found["quantiles"]["reason"] == "too_few_cases"


async def test_losing_competes_with_winning(client: httpx.AsyncClient, past: None) -> None:
    at = (BEGIN + timedelta(days=60)).isoformat()
    found = await asked(client, "cycle-time/curve", as_of=at)
    counts = {name: found[name] for name in ("won", "lost", "handed_off", "open")}
    assert counts == {"won": 8, "lost": 1, "handed_off": 0, "open": 1}
    last = found["points"][-1]
    assert (last["seconds"], last["survival"]) == (8 * DAY, pytest.approx(0.1))
    # One minus Kaplan-Meier, the lost one censored, would have promised more than 80 %.
    assert (last["won"], last["lost"]) == (pytest.approx(0.8), pytest.approx(0.1))
    for point in found["points"]:
        shares = [point[name] for name in ("survival", "won", "lost", "handed_off")]
        assert sum(shares) == pytest.approx(1)
    # Half of all ten are won with the fifth that is.
    assert found["time_to_win"]["p50_seconds"] == 5 * DAY
    assert (found["time_to_win"]["p90_seconds"], found["time_to_win"]["reason"]) == (
        None,
        "not_reached",
    )


async def test_a_curve_of_nothing_has_no_points(client: httpx.AsyncClient, past: None) -> None:
    found = await asked(client, "cycle-time/curve", to="2020-01-01")
    assert (found["points"], found["won"], found["open"]) == ([], 0, 0)


@pytest.mark.parametrize(
    ("path", "query", "breach"),
    [
        ("time-in-stage/curve", {}, ("?stage", "required")),
        ("time-in-stage/curve", {"stage": "won"}, ("?stage", "unknown_stage")),
        ("time-in-stage/curve", {"stage": "nowhere"}, ("?stage", "unknown_stage")),
        (
            "time-in-stage/curve",
            {"stage": "lead", "population": "left"},
            ("?population", "unknown_field"),
        ),
        ("cycle-time/curve", {"group_by": "owner"}, ("?group_by", "unknown_field")),
    ],
)
async def test_a_curve_that_cannot_be_drawn_is_refused(
    client: httpx.AsyncClient, past: None, path: str, query: dict[str, str], breach: tuple[str, str]
) -> None:
    problem = await asked(client, path, 422, **query)
    assert breach in [(error["pointer"], error["code"]) for error in problem["errors"]]
