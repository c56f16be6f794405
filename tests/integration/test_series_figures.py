"""Every figure by its name, in trend and compare, as it is reckoned by hand on a small past."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import WHOLE
from app.domain.definition import Definition, begin
from app.domain.measures.figures import Figure, Stages
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection
from app.domain.measures.subjects import subject
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule, LossReason, Pipeline, StageKind
from app.storage.engine import Database
from app.storage.queries import series, snapshot
from app.storage.queries.question import Asked
from tests.factories import stage
from tests.january import DAY, asked, day, deal, define_sales, insert_january
from tests.past_deals import define, insert, past_deal

WEEKS = {"from": "2024-01-01", "to": "2024-01-15", "by": "week"}
"""In Berlin: the first ends an hour before the eighth begins by UTC."""
HOUR = 3_600
LAST = "SELECT 'no more'"


@pytest.fixture
async def past(database: Database, workspace: UUID) -> Pipeline:
    pipeline = await define_sales(database, workspace)
    await insert_january(database, workspace, pipeline)
    return pipeline


def euros(amount: str) -> list[dict[str, str]]:
    return [{"amount": amount, "currency": "EUR"}]


def yen(amount: str) -> list[dict[str, str]]:
    return [{"amount": amount, "currency": "JPY"}]


LEAD, OFFER, WON = {"stage": "lead"}, {"stage": "offer"}, {"stage": "won"}
ON = {"stage": "offer", "to_stage": "won"}
END = {"as_of": "2024-01-31T00:00:00Z"}


@pytest.mark.parametrize(
    ("figure", "parameters", "expected"),
    [
        # Four were opened in the first week and two in the second, of which one skipped the offer.
        ("implied", LEAD, [(0, 0, None), (1, 1, None)]),
        ("implied", OFFER, [(0, 0, None), (1, 1, None)]),
        ("entered", OFFER, [(3, 3, None), (1, 1, None)]),
        ("open_furthest", LEAD, [(1, 1, None), (0, 0, None)]),
        ("lost_furthest", OFFER, [(1, 1, None), (0, 0, None)]),
        ("handed_off_furthest", OFFER, [(0, 0, None), (0, 0, None)]),
        ("ever_won", WON, [(2, 2, None), (1, 1, None)]),
        ("won_undone", WON, [(0, 0, None), (0, 0, None)]),
        # Of three that came to the offer, one was won there in the week and two went on after it.
        ("open_at_start", OFFER, [(0, 0, None), (2, 2, None)]),
        ("exits_won", OFFER, [(1, 1, None), (1, 1, None)]),
        ("exits_lost", OFFER, [(0, 0, None), (1, 1, None)]),
        ("exits_advanced", LEAD, [(3, 3, None), (0, 0, None)]),
        *(
            (f"exits_{kind}", LEAD, [(0, 0, None), (0, 0, None)])
            for kind in ("regressed", "sidestepped", "reopened", "handed_off", "rearranged")
        ),
        ("moves", ON, [(1, 1, None), (1, 1, None)]),
        ("moves_share", ON, [(1.0, 1, 1), (0.5, 1, 2)]),
        ("moves_dwell_p50", ON, [(2 * DAY, 1, None), (4 * DAY, 1, None)]),
        ("moves", {**LEAD, "to_stage": ":handed_off"}, [(0, 0, None), (0, 0, None)]),
        ("moves_share", {**LEAD, "to_stage": ":handed_off"}, [(0.0, 0, 3), (None, 0, 0)]),
        ("moves_dwell_p50", {**LEAD, "to_stage": "lost"}, [(None, 0, None), (None, 0, None)]),
        # Stays of two, four and two days and one that goes on; then one of ten.
        ("time_in_stage_count", LEAD, [(3, 3, None), (1, 1, None)]),
        ("time_in_stage_p25", LEAD, [(2 * DAY, 3, None), (10 * DAY, 1, None)]),
        ("time_in_stage_max", LEAD, [(4 * DAY, 3, None), (10 * DAY, 1, None)]),
        ("open_count", {**LEAD, **END}, [(1, 1, None), (0, 0, None)]),
        ("open_mean", {**LEAD, **END}, [(28 * DAY, 1, None), (None, 0, None)]),
        ("open_p95", {**LEAD, **END}, [(28 * DAY, 1, None), (None, 0, None)]),
        ("open_max", {**OFFER, **END}, [(None, 0, None), (21 * DAY, 1, None)]),
        ("survival_p50", LEAD, [(None, 4, None), (None, 1, None)]),
        ("time_to_win_p50", {}, [(None, 4, None), (None, 2, None)]),
        ("cycle_time_count", {}, [(1, 1, None), (2, 2, None)]),
        ("cycle_time_max", {}, [(4 * DAY, 1, None), (8 * DAY, 2, None)]),
        ("cycle_time_max", {"outcome": "lost"}, [(None, 0, None), (6 * DAY, 1, None)]),
        ("win_rate_by_amount", {"currency": "EUR"}, [(1.0, 1, None), (300 / 350, 2, None)]),
        ("losses", {}, [(0, 0, None), (1, 1, None)]),
        ("losses", {**OFFER, "reason": "price"}, [(0, 0, None), (1, 1, None)]),
        ("losses", LEAD, [(0, 0, None), (0, 0, None)]),
        ("losses", {"stage": ":none"}, [(0, 0, None), (0, 0, None)]),
        ("losses_share", {"reason": "price"}, [(None, 0, 0), (1.0, 1, 1)]),
        ("losses_share", {"reason": ":none"}, [(None, 0, 0), (0.0, 0, 1)]),
        ("losses_share", OFFER, [(None, 0, 0), (1.0, 1, 1)]),
        ("losses_share", LEAD, [(None, 0, 0), (0.0, 0, 1)]),
        ("losses_share", {**LEAD, "reason": "price"}, [(None, 0, 0), (None, 0, 0)]),
        # At the end of the first week two were in offer and one in lead, then one and two.
        ("standing", {}, [(3, 3, None), (3, 3, None)]),
        ("standing", OFFER, [(2, 2, None), (1, 1, None)]),
        ("standing", {"stage": "parked"}, [(0, 0, None), (0, 0, None)]),
        ("unweighted", {}, [(3, 3, None), (2, 2, None)]),
        ("idle", {}, [(0, 0, None), (0, 0, None)]),
        # Entered two and three days before, less the hour; then five days before.
        ("median_age", OFFER, [(2.5 * DAY - HOUR, 2, None), (5 * DAY - HOUR, 1, None)]),
        # The median of 2, 4 and 4 days is a day above the quartile, for each of three visits.
        ("days_saved", OFFER, [(3.0, 3, None), (None, 1, None)]),
    ],
)
async def test_a_trend_follows_the_figure_that_is_reckoned_by_hand(
    client: httpx.AsyncClient,
    past: Pipeline,
    figure: str,
    parameters: dict[str, str],
    expected: list[tuple[Any, int, int | None]],
) -> None:
    points = (await asked(client, "trend", figure=figure, **parameters, **WEEKS))["total"]["points"]
    assert [(point["value"], point["count"], point["of"]) for point in points] == expected
    assert [point["amount"] for point in points] == [None, None]


@pytest.mark.parametrize(
    ("figure", "parameters", "expected"),
    [
        ("opened_amount", {}, [(euros("520.00"), 4), (yen("1000"), 2)]),
        ("reached_amount", OFFER, [(euros("450.00"), 3), (yen("1000"), 2)]),
        ("entered_amount", OFFER, [(euros("450.00"), 3), ([], 1)]),
        ("implied_amount", OFFER, [([], 0), (yen("1000"), 1)]),
        ("open_furthest_amount", LEAD, [(euros("70.00"), 1), ([], 0)]),
        ("lost_furthest_amount", OFFER, [(euros("50.00"), 1), ([], 0)]),
        ("handed_off_furthest_amount", LEAD, [([], 0), ([], 0)]),
        ("ever_won_amount", WON, [(euros("400.00"), 2), (yen("1000"), 1)]),
        ("won_undone_amount", WON, [([], 0), ([], 0)]),
        ("losses_amount", {"reason": "price"}, [([], 0), (euros("50.00"), 1)]),
        ("standing_amount", {}, [(euros("420.00"), 3), (euros("70.00") + yen("1000"), 3)]),
        ("standing_amount", OFFER, [(euros("350.00"), 2), ([], 1)]),
        ("weighted_amount", {}, [([], 3), ([], 3)]),
        # Three open deals × 1 × 100 ÷ 4 days; then one × 1/2 × 300 ÷ 8, and of yen no win yet.
        ("velocity", {}, [(euros("75.00"), 3), (euros("18.75"), 1)]),
        ("mean_won_amount", {}, [(euros("100.00"), 1), (euros("300.00"), 1)]),
        # 1 % of four deals × 2/3 × 200, and of three × 1 × 200; of one × 1 × 1000 yen.
        ("conversion_worth", LEAD, [(euros("5.3333"), 4), (yen("10"), 1)]),
        ("conversion_worth", OFFER, [(euros("6.00"), 3), (yen("10"), 1)]),
        ("cohort_mean_won_amount", {}, [(euros("200.00"), 2), (yen("1000"), 1)]),
    ],
)
async def test_a_trend_of_money_follows_the_amounts_that_are_reckoned_by_hand(
    client: httpx.AsyncClient,
    past: Pipeline,
    figure: str,
    parameters: dict[str, str],
    expected: list[tuple[Any, int]],
) -> None:
    answer = await asked(client, "trend", figure=figure, **parameters, **WEEKS)
    points = answer["total"]["points"]
    assert [(point["amount"], point["count"]) for point in points] == expected
    assert {point["value"] for point in points} == {None}
    assert answer["total"]["unit"] == ("money_per_day" if figure == "velocity" else "money")


async def test_estimates_of_six_that_have_ended_are_told(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    sales = await define_sales(database, workspace)
    won = [deal(sales, ("lead", 0), ("offer", n), ("won", n)) for n in range(1, 7)]
    await insert(
        database, workspace, sales, [*won, deal(sales, ("lead", 0)), deal(sales, ("lead", 0))]
    )
    month = {"from": "2024-01-01", "to": "2024-02-01"}
    # Of eight, the fourth ends after four days and the sixth after six; the last two go on.
    for name, of_lead in (("survival", LEAD), ("time_to_win", {})):
        for share, expected in (("p50", 4 * DAY), ("p75", 6 * DAY), ("p90", None)):
            answer = await asked(client, "trend", figure=f"{name}_{share}", **of_lead, **month)
            (point,) = answer["total"]["points"]
            assert (point["value"], point["count"]) == (expected, 8), (name, share)
    later = {"from": "2024-02-01", "against_to": "2024-02-01"}
    compared = await asked(client, "compare", figure="survival_p50", **LEAD, **later)
    assert (compared["value"]["value"], compared["against"]["value"]) == (None, 4 * DAY)
    assert compared["difference"]["reason"] == "no_interval"
    assert (compared["difference"]["value"], compared["difference"]["method"]) == (
        None,
        "subtraction",
    )


async def test_idle_deals_and_their_weight_are_told_of_the_end_of_each_bucket(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    idle = IdleRule(after=Period.parse("P3D"))
    pipeline = begin(
        Definition(
            key="sales",
            name="Sales",
            flow=Flow.FREE,
            stages=(
                stage("lead", 0, probability=Decimal("0.25"), idle=idle),
                stage("won", 0, StageKind.WON),
                stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Too dear"),)),
            ),
        ),
        uuid4(),
        day(0),
    )
    await define(database, workspace, pipeline, day(0))
    euro = {"amount": Decimal(80), "currency": "EUR"}
    stays = [[("lead", 1)], [("lead", 5)], [("lead", 2), ("won", 10)]]
    deals = [past_deal(pipeline, [(key, day(at)) for key, at in each], **euro) for each in stays]
    await insert(database, workspace, pipeline, deals)
    idles = (await asked(client, "trend", figure="idle", **WEEKS))["total"]["points"]
    assert [point["value"] for point in idles] == [2, 2]  # the second of them was won, the third is
    weights = (await asked(client, "trend", figure="weighted_amount", **LEAD, **WEEKS))["total"]
    assert [point["amount"] for point in weights["points"]] == [euros("60.00"), euros("40.00")]


def parameters_of(figure: Figure) -> dict[str, str]:
    """What makes the question complete, of something that was there."""
    told = {"to_stage": "offer", "reason": "price", "outcome": "won"}
    needed = {name: told[name] for name in figure.takes if name in told}
    if "stage" in figure.takes:
        needed["stage"] = "won" if figure.stages is Stages.WON else "lead"
    return needed | ({"currency": "EUR"} if figure is Figure.WIN_RATE_BY_AMOUNT else {})


async def test_every_figure_can_be_followed_and_compared_by_its_name(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    for figure in Figure:
        parameters = {"figure": figure.value, "as_of": "2024-01-12T00:00:00Z"}
        parameters |= parameters_of(figure)
        trend = await asked(client, "trend", **parameters, **WEEKS)
        first, second = trend["total"]["points"]
        assert trend["policy"]["figure"] == figure
        edges = {"from": first["from"], "to": first["to"], "against_from": first["to"]}
        pair = await asked(client, "compare", **parameters, **edges, against_to=second["to"])
        for point, side in ((first, pair["value"]), (second, pair["against"])):
            assert {**point, "group": None} == side, figure
        by_figure = [
            (name, trend["policy"][name]) for name in ("stage", "to_stage", "outcome", "reason")
        ]
        assert by_figure == [(name, parameters.get(name)) for name, _ in by_figure]


async def test_a_figure_of_an_instant_is_never_of_one_after_as_of(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    months = {"from": "2024-01-01", "to": "2024-04-01", "as_of": "2024-01-06T00:00:00Z"}
    points = (await asked(client, "trend", figure="standing", **months))["total"]["points"]
    assert [point["value"] for point in points] == [4, 4, 4]  # the first is won at that very time
    assert points[0]["to"] == "2024-01-31T23:00:00Z"


async def test_a_bucket_of_the_snapshot_is_the_snapshot_of_its_end(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    for by in ("week", "day"):
        days = {"from": "2024-01-03", "to": "2024-01-13", "by": by}
        ages = await asked(client, "trend", figure="median_age", **LEAD, **days)
        sums = await asked(client, "trend", figure="standing_amount", **days)
        for age, amount in zip(ages["total"]["points"], sums["total"]["points"], strict=True):
            whole = (await asked(client, "snapshot", as_of=age["to"]))["total"]
            lead = next(each for each in whole["stages"] if each["key"] == "lead")
            assert (age["value"], age["count"]) == (lead["median_age_seconds"], lead["deals"])
            assert (amount["amount"], amount["count"]) == (whole["amount"], whole["deals"])


async def test_a_bucket_of_velocity_is_the_velocity_of_its_end(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    paces = await asked(client, "trend", figure="velocity", **WEEKS)
    for point in paces["total"]["points"]:
        edges = {"from": point["from"], "to": point["to"], "as_of": point["to"]}
        rows = (await asked(client, "velocity", **edges))["total"]["currencies"]
        known = [row for row in rows if row["velocity_per_day"] is not None]
        assert point["amount"] == [row["velocity_per_day"] for row in known]
        assert point["count"] == sum(row["open_deals"] for row in known)


async def test_what_was_not_known_yet_is_in_no_bucket(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    for known_at, expected in (("2024-03-01", [0, 0]), ("2024-03-02", [3, 3])):  # recorded between
        asking = {"figure": "standing", "known_at": f"{known_at}T00:00:00Z"}
        points = (await asked(client, "trend", **asking, **WEEKS))["total"]["points"]
        assert [point["value"] for point in points] == expected


async def test_snapshots_of_two_instants_are_compared(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    weeks = {"from": "2024-01-08", "to": "2024-01-15", "against_to": "2024-01-08"}
    standing = await asked(client, "compare", figure="standing", **OFFER, **weeks)
    assert (standing["value"]["value"], standing["against"]["value"]) == (1, 2)
    age = await asked(client, "compare", figure="median_age", **OFFER, **weeks)
    assert age["difference"] == {
        "value": 2.5 * DAY,
        "amount": None,
        "low": None,
        "high": None,
        "method": "subtraction",
        "reason": "no_interval",
    }
    pace = await asked(client, "compare", figure="velocity", **weeks)
    assert (pace["unit"], pace["difference"]["amount"]) == ("money_per_day", euros("-56.25"))


async def test_groups_are_compared_as_of_the_end_of_their_period(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    owners = {"group_by": "owner", "group": "ada", "against": ""}
    early = await asked(client, "compare", figure="standing", **owners, to="2024-01-08")
    assert (early["value"]["value"], early["against"]["value"]) == (1, 2)
    now = await asked(client, "compare", figure="standing", **owners)
    assert (now["value"]["value"], now["against"]["value"]) == (1, 0)


async def test_the_longest_is_only_subtracted_where_a_quantile_is_shifted(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    weeks = {"from": "2024-01-01", "to": "2024-01-08", "against_from": "2024-01-08"}
    longest = await asked(client, "compare", figure="time_in_stage_max", **LEAD, **weeks)
    difference = longest["difference"]
    assert (difference["value"], difference["method"]) == (-6 * DAY, "subtraction")
    median = await asked(client, "compare", figure="moves_dwell_p50", **ON, **weeks)
    assert median["difference"]["method"] == "hodges_lehmann"
    assert (median["value"]["value"], median["against"]["value"]) == (2 * DAY, 4 * DAY)
    assert median["difference"]["reason"] == "too_few_cases"


async def test_currencies_are_compared_by_their_win_rates_by_amount(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    currencies = {"group_by": "currency", "group": "EUR", "against": "JPY"}
    answer = await asked(client, "compare", figure="win_rate_by_amount", **currencies)
    assert (answer["value"]["value"], answer["against"]["value"]) == (400 / 450, 1.0)
    assert answer["value"]["count"] == 3
    assert answer["difference"]["value"] == pytest.approx(400 / 450 - 1)
    assert answer["difference"]["reason"] == "no_interval"


async def test_a_trend_of_a_year_of_instants_looks_once_at_each(
    one_place: Database, workspace: UUID, past: Pipeline
) -> None:
    ranking, now = Ranking(past, past), day(400)
    standing = subject(Figure.STANDING, ranking)
    months = tuple(day(0) + timedelta(days=30 * number) for number in range(13))
    question = Asked(workspace, WHOLE, ranking, Selection(as_of=now), now)

    async def sent(ask: Callable[[AsyncConnection, Asked], Awaitable[object]]) -> int:
        """How many statements that are text, as all of these are."""
        told: list[str] = []
        async with one_place.read(workspace) as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None

            def tell(query: "asyncpg.connection.LoggedQuery") -> None:
                told.append(query.query)

            driver.add_query_logger(tell)
            await ask(connection, replace(question, known={}))
            await driver.fetch(LAST)  # while it is waited for, the driver tells of those before
            driver.remove_query_logger(tell)
        return len(told) - told.count(LAST)

    reading = partial(series.readings, subject=standing, grouped=False)
    await sent(reading)  # what it also does on a new connection: look types up
    once = await sent(reading)
    trend = await sent(partial(series.trend, subject=standing, buckets=months))
    assert once < await sent(partial(snapshot.standings, grouped=False))
    assert trend == 12 * once  # and what the age buckets cost is not paid
