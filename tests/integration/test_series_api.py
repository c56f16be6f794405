"""Trend and compare over HTTP: figures on a small past, and what is refused."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from app.domain.intervals import Proportion, newcombe
from app.domain.measures.calendar import MOST_INSTANTS
from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from tests.january import DAY, asked, deal, define_sales, insert_january, refused
from tests.past_deals import insert

LEAD, WON = {"stage": "lead"}, {"stage": "won"}
WEEKS = {"from": "2024-01-01", "to": "2024-01-15", "by": "week"}


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    return await define_sales(database, workspace)


@pytest.fixture
async def past(database: Database, workspace: UUID, sales: Pipeline) -> Pipeline:
    await insert_january(database, workspace, sales)
    return sales


async def test_a_trend_follows_one_figure_from_bucket_to_bucket(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    answer = await asked(client, "trend", figure="opened", **WEEKS)
    assert answer["total"]["unit"] == "count"
    first, second = answer["total"]["points"]
    assert (first["from"], first["to"]) == ("2023-12-31T23:00:00Z", "2024-01-07T23:00:00Z")
    assert (first["value"], second["value"], second["to"]) == (4, 2, "2024-01-14T23:00:00Z")
    assert (first["count"], first["of"], first["low"], first["amount"]) == (4, None, None, None)
    policy = answer["policy"]
    assert (policy["figure"], policy["stage"], policy["outcome"]) == ("opened", None, None)
    assert (policy["by"], policy["to"]) == ("week", "2024-01-14T23:00:00Z")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"figure": "win_rate"}, [(1.0, 1, 1), (0.5, 1, 2)]),
        ({"figure": "won"}, [(1, 1, None), (1, 1, None)]),
        ({"figure": "open_at_end", "stage": "offer"}, [(2, 2, None), (1, 1, None)]),
        ({"figure": "exit_forward_rate", "stage": "offer"}, [(1.0, 1, 1), (0.5, 1, 2)]),
        ({"figure": "entries", "stage": "won"}, [(1, 1, None), (1, 1, None)]),
        ({"figure": "reached", "stage": "won"}, [(2, 2, None), (1, 1, None)]),
        ({"figure": "conversion_to_next", "stage": "lead"}, [(0.75, 3, 4), (1.0, 2, 2)]),
        (
            {"figure": "time_in_stage_p50", "stage": "lead"},
            [(2 * DAY, 3, None), (10 * DAY, 1, None)],
        ),
        ({"figure": "time_in_stage_mean", "stage": "parked"}, [(None, 0, None)] * 2),
        ({"figure": "cycle_time_mean"}, [(4 * DAY, 1, None), (7 * DAY, 2, None)]),
        ({"figure": "cycle_time_p95", "outcome": "lost"}, [(None, 0, None), (6 * DAY, 1, None)]),
    ],
)
async def test_a_trend_can_be_that_of_any_figure(
    client: httpx.AsyncClient, past: Pipeline, parameters: dict[str, str], expected: Any
) -> None:
    points = (await asked(client, "trend", **parameters, **WEEKS))["total"]["points"]
    assert [(point["value"], point["count"], point["of"]) for point in points] == expected


async def test_a_figure_of_visits_bears_what_was_frozen_and_one_of_deals_what_they_bear(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    of_deals = await asked(client, "trend", figure="reached", stage="lead", **WEEKS)
    of_visits = await asked(client, "trend", figure="entries", stage="lead", **WEEKS)
    assert of_deals["policy"]["attribution"] == "current"
    assert of_visits["policy"]["attribution"] == "at_move"


async def test_a_trend_of_money_keeps_its_currencies_apart(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    answer = await asked(
        client, "trend", figure="won_amount", **{"from": "2024-01-01"}, to="2024-04-01"
    )
    january, february, march = answer["total"]["points"]
    assert january["amount"] == [
        {"amount": "400.00", "currency": "EUR"},
        {"amount": "1000", "currency": "JPY"},
    ]
    assert (january["value"], january["count"]) == (None, 3)
    assert (february["amount"], march["count"]) == ([], 0)


async def test_a_bucket_of_a_trend_is_the_answer_to_its_own_period(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    trend = await asked(client, "trend", figure="conversion_to_won", stage="offer", **WEEKS)
    for point in trend["total"]["points"]:
        period = {"from": point["from"], "to": point["to"]}
        funnel = await asked(client, "funnel", **period)
        share = funnel["total"]["stages"][1]["conversion_to_won"]
        assert share["rate"] == point["value"]
        assert [share[name] for name in ("count", "of", "low", "high")] == [
            point[name] for name in ("count", "of", "low", "high")
        ]


async def test_a_trend_by_day_has_short_days_where_clocks_are_put_forward(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    answer = await asked(
        client, "trend", figure="won", by="day", **{"from": "2024-03-30"}, to="2024-04-02"
    )
    assert [point["from"] for point in answer["total"]["points"]] == [
        "2024-03-29T23:00:00Z",
        "2024-03-30T23:00:00Z",
        "2024-03-31T22:00:00Z",
    ]


async def test_a_trend_without_an_end_goes_as_far_as_t(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    parameters = {"figure": "won", "from": "2024-01-05", "as_of": "2024-01-06T12:00:00Z"}
    (point,) = (await asked(client, "trend", **parameters))["total"]["points"]
    assert (point["to"], point["value"]) == ("2024-01-06T12:00:00Z", 1)
    empty = await asked(client, "trend", figure="won", **{"from": "2024-01-05"}, to="2024-01-05")
    assert empty["total"]["points"] == []


async def test_money_of_two_periods_differs_exactly_and_without_an_interval(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    weeks = {"from": "2024-01-01", "to": "2024-01-08", "against_from": "2024-01-08"}
    answer = await asked(client, "compare", figure="won_amount", **weeks)
    assert (answer["unit"], answer["value"]["count"], answer["against"]["count"]) == ("money", 1, 2)
    assert (answer["against"]["from"], answer["against"]["to"]) == ("2024-01-07T23:00:00Z", None)
    assert answer["difference"] == {
        "value": None,
        "amount": [
            {"amount": "-200.00", "currency": "EUR"},
            {"amount": "-1000", "currency": "JPY"},
        ],
        "low": None,
        "high": None,
        "method": "subtraction",
        "reason": "no_interval",
    }


async def test_shares_of_two_periods_differ_with_newcombe_s_interval(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    weeks = {"from": "2024-01-08", "to": "2024-01-15", "against_to": "2024-01-08"}
    answer = await asked(client, "compare", figure="win_rate", **weeks)
    assert (answer["value"]["value"], answer["against"]["value"]) == (0.5, 1.0)
    expected = newcombe(Proportion(1, 2), Proportion(1, 1))
    assert expected is not None
    difference = answer["difference"]
    assert (difference["value"], difference["method"]) == (-0.5, "newcombe")
    assert (difference["low"], difference["high"]) == (expected.low, expected.high)
    assert difference["reason"] is None
    none = await asked(
        client, "compare", figure="win_rate", **{**weeks, "against_to": "2024-01-02"}
    )
    assert (none["difference"]["value"], none["difference"]["reason"]) == (None, "too_few_cases")


async def test_durations_of_two_groups_differ_by_hodges_and_lehmann_s_shift(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    deals = [
        deal(sales, ("lead", 0), ("offer", number), owner="ada", tags=("hot",))
        for number in range(1, 7)
    ]
    deals += [deal(sales, ("lead", 0), ("offer", 10 + number)) for number in range(1, 7)]
    deals += [deal(sales, ("lead", 0), ("offer", 1), owner="ben")]
    await insert(database, workspace, sales, deals)
    asking = {"figure": "time_in_stage_p50", "stage": "lead"}
    answer = await asked(client, "compare", **asking, group_by="owner", group="ada", against="")
    assert (answer["value"]["group"], answer["against"]["group"]) == ("ada", None)
    assert (answer["value"]["value"], answer["against"]["value"]) == (3.5 * DAY, 13.5 * DAY)
    difference = answer["difference"]
    assert (difference["method"], difference["value"]) == ("hodges_lehmann", -10 * DAY)
    assert difference["low"] < -10 * DAY < difference["high"]
    few = await asked(client, "compare", **asking, group_by="owner", group="ada", against="ben")
    assert (few["difference"]["value"], few["difference"]["reason"]) == (None, "too_few_cases")
    tags = {"group_by": "tag", "group": "hot", "against": "", "attribution": "current"}
    shared = await asked(client, "compare", **asking, **tags)
    assert shared["value"]["count"] == 6
    assert (shared["difference"]["low"], shared["difference"]["reason"]) == (None, "shared_cases")


async def test_a_compared_group_is_the_question_filtered_to_it(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    parameters = {"figure": "reached", "stage": "offer", "group_by": "currency"}
    answer = await asked(client, "compare", **parameters, group="EUR", against="USD")
    assert (answer["value"]["value"], answer["against"]["value"]) == (3, 0)
    assert (answer["difference"]["value"], answer["difference"]["reason"]) == (3, "no_interval")
    assert answer["policy"]["filters"] == {}
    assert answer["policy"]["group_by"] == "currency"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"figure": "luck"}, [("?figure", "not_one_of")]),
        ({"figure": "reached"}, [("?stage", "required")]),
        ({"figure": "reached", "stage": "none"}, [("?stage", "unknown_stage")]),
        ({"figure": "reached", "stage": "parked"}, [("?stage", "not_one_of")]),
        ({"figure": "conversion_to_next", "stage": "won"}, [("?stage", "not_one_of")]),
        ({"figure": "time_in_stage_p50", "stage": "lost"}, [("?stage", "not_one_of")]),
        ({"figure": "won", "stage": "won"}, [("?stage", "unknown_field")]),
        ({"figure": "won", "outcome": "won"}, [("?outcome", "unknown_field")]),
        ({"figure": "won", "by": "hour"}, [("?by", "not_one_of")]),
        ({"figure": "won", "by": "day", "to": "2025-06-01"}, [("?by", "out_of_range")]),
        ({"figure": "won", "to": "2023-01-01"}, [("?to", "out_of_range")]),
        ({"figure": "won", "from": "2030-01-01"}, [("?from", "out_of_range")]),
        ({"figure": "won", "group_by": "owner"}, [("?group_by", "unknown_field")]),
        ({"figure": "won", "timezone": "Mars/Base"}, [("?timezone", "unknown_timezone")]),
    ],
)
async def test_what_no_trend_can_be_is_refused_where_it_stands(
    client: httpx.AsyncClient, past: Pipeline, parameters: dict[str, str], expected: Any
) -> None:
    assert await refused(client, "trend", **{"from": "2024-01-01", **parameters}) == expected


async def test_a_trend_needs_a_figure_and_a_beginning(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    assert set(await refused(client, "trend")) == {("?figure", "required"), ("?from", "required")}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [("?against_from", "required")]),
        ({"group": "ada"}, [("?group", "unknown_field"), ("?against_from", "required")]),
        ({"to": "2024-01-09", "against_from": "2024-01-08"}, [("?against_from", "out_of_range")]),
        ({"against_to": "2024-01-08"}, [("?against_from", "out_of_range")]),
        (
            {"to": "2024-01-01", "against_from": "2024-01-09", "against_to": "2024-01-08"},
            [("?against_to", "out_of_range")],
        ),
        ({"group_by": "owner"}, [("?group", "required"), ("?against", "required")]),
        ({"group_by": "owner", "group": "", "against": ""}, [("?against", "duplicate")]),
        (
            {"group_by": "owner", "group": "a", "against": "b", "owner": "c"},
            [("?owner", "unknown_field")],
        ),
        (
            {"group_by": "owner", "group": "a", "against": "b", "against_to": "2024-01-01"},
            [("?against_to", "unknown_field")],
        ),
        (
            {"group_by": "opened_month", "group": "2024-01", "against": "soon"},
            [("?against", "wrong_format")],
        ),
    ],
)
async def test_what_cannot_be_compared_is_refused_where_it_stands(
    client: httpx.AsyncClient, past: Pipeline, parameters: dict[str, str], expected: Any
) -> None:
    assert await refused(client, "compare", figure="won", **parameters) == expected


@pytest.mark.parametrize(
    ("figure", "parameters", "expected"),
    [
        ("moves", {}, [("?stage", "required"), ("?to_stage", "required")]),
        ("moves", LEAD, [("?to_stage", "required")]),
        ("moves", {**LEAD, "to_stage": "nowhere"}, [("?to_stage", "unknown_stage")]),
        ("moves", {**LEAD, "to_stage": ":none"}, [("?to_stage", "unknown_stage")]),
        ("moves", {**LEAD, "to_stage": "A B"}, [("?to_stage", "wrong_format")]),
        ("moves", {**LEAD, "to_stage": "won", "reason": "price"}, [("?reason", "unknown_field")]),
        ("exits", {**LEAD, "to_stage": "won"}, [("?to_stage", "unknown_field")]),
        ("losses_share", {}, [("?reason", "required")]),
        ("losses", {"reason": "too dear"}, [("?reason", "wrong_format")]),
        ("losses", {"stage": "nowhere"}, [("?stage", "unknown_stage")]),
        ("losses", {"stage": ":handed_off"}, [("?stage", "unknown_stage")]),
        ("ever_won", LEAD, [("?stage", "not_one_of")]),
        ("standing", WON, [("?stage", "not_one_of")]),
        ("median_age", {}, [("?stage", "required")]),
        ("days_saved", WON, [("?stage", "not_one_of")]),
        ("velocity", LEAD, [("?stage", "unknown_field")]),
        ("win_rate_by_amount", {}, [("?currency", "required")]),
        ("win_rate_by_amount", {"currency": ""}, [("?currency", "required")]),
        ("win_rate_by_amount", {"currency": ["EUR", "JPY"]}, [("?currency", "required")]),
    ],
)
async def test_what_no_figure_can_be_asked_is_refused_where_it_stands(
    client: httpx.AsyncClient,
    past: Pipeline,
    figure: str,
    parameters: dict[str, Any],
    expected: Any,
) -> None:
    assert await refused(client, "trend", figure=figure, **parameters, **WEEKS) == expected


async def test_a_group_without_a_currency_has_no_win_rate_by_amount(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    currencies = {"group_by": "currency", "group": "EUR", "against": ""}
    found = await refused(client, "compare", figure="win_rate_by_amount", **currencies)
    assert found == [("?currency", "required")]


async def test_only_so_many_instants_are_looked_at(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    days = {"figure": "standing", "by": "day", "from": "2024-01-01"}
    most = await asked(client, "trend", **days, to="2024-03-01")
    assert len(most["total"]["points"]) == MOST_INSTANTS == 60
    path = "/v1/pipelines/sales/metrics/trend"
    answer = await client.get(path, params={**days, "to": "2024-03-02"})
    (breach,) = answer.json()["errors"]
    assert (answer.status_code, breach["pointer"], breach["code"]) == (422, "?by", "out_of_range")
    assert "60" in breach["detail"]
    others = await asked(client, "trend", **{**days, "figure": "opened"}, to="2024-03-02")
    assert len(others["total"]["points"]) == MOST_INSTANTS + 1


async def test_an_unchanged_trend_is_not_sent_again(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    path = "/v1/pipelines/sales/metrics/trend"
    parameters = {"figure": "opened", **WEEKS}
    first = await client.get(path, params=parameters)
    again = await client.get(
        path, params=parameters, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
