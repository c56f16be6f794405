"""Estimates and their intervals on real data, against lifelines, scipy and numpy.

Where the files are absent, these tests are skipped.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from math import floor, hypot, sqrt
from typing import Any

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import qth_survival_time
from scipy.stats import binomtest

from tests.acceptance.real_past import (
    DAY,
    END,
    ENGAGED,
    LAST,
    MICROSECONDS,
    STARTS,
    Asking,
    maven_cycles,
    maven_deals,
    stays,
)
from tests.acceptance.test_real_data_import import DATA, MAVEN, reference

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the reference data sets are not here"),
]


@pytest.fixture(scope="module")
def told() -> Any:
    return reference(MAVEN)


async def test_the_stay_in_a_stage_lasts_as_long_as_lifelines_says(
    maven: Asking,
) -> None:
    cycles = maven_cycles()
    ended, running = [*cycles["Won"], *cycles["Lost"]], cycles["Engaging"]
    fitted = KaplanMeierFitter().fit(
        np.array([*ended, *running]), [1] * len(ended) + [0] * len(running)
    )
    curve = await maven("time-in-stage/curve", stage="engaging", as_of=END)
    assert (curve["completed"], curve["open"]) == (len(ended), len(running))
    assert 100 < len(curve["points"]) <= len(set(ended))
    _as_fitted(curve, fitted)
    _, engaging = (await maven("time-in-stage", as_of=END))["total"]["stages"]
    assert engaging["survival"] == curve["quantiles"]


async def test_a_stay_that_lasts_any_length_is_told_as_lifelines_tells_it(sepsis: Asking) -> None:
    last = datetime.fromisoformat(LAST)
    admitted = [stay for stay in stays(last) if stay.stage == "Admission NC"]
    lengths = [
        ((stay.ended or last) - stay.events[0]) // timedelta(microseconds=1) for stay in admitted
    ]
    curve = await sepsis("time-in-stage/curve", stage="admission-nc", as_of=LAST)
    running = sum(stay.ended is None for stay in admitted)
    assert (curve["completed"], curve["open"]) == (len(admitted) - running, running)
    fitted = KaplanMeierFitter().fit(lengths, [stay.ended is not None for stay in admitted])
    _as_fitted(curve, fitted)


async def test_winning_competes_with_losing_in_the_cycle_curve(maven: Asking, told: Any) -> None:
    cycles = maven_cycles()
    curve = await maven("cycle-time/curve", as_of=END, **ENGAGED)
    conversion = told["conversion"]
    assert [curve[name] for name in ("won", "lost", "handed_off", "open")] == [
        *(conversion["won"], conversion["lost"], 0, conversion["open_engaging"])
    ]
    assert (
        curve["points"][0]["seconds"] == told["cycle_days_engage_to_close"]["closed"]["min"] * DAY
    )
    expected = _incidence(cycles)
    assert 100 < len(curve["points"]) <= len(expected)
    for point in curve["points"]:
        shown = (point["survival"], point["won"], point["lost"], point["handed_off"])
        survival, won, lost = expected[round(point["seconds"] * MICROSECONDS)]
        assert shown == pytest.approx((survival, won, lost, 0))
    for share in (50, 75, 90, 95):
        first = (length for length, (_, won, _) in expected.items() if won >= share / 100)
        length = next(first, None)
        shown = curve["time_to_win"][f"p{share}_seconds"]
        assert shown == (None if length is None else length / MICROSECONDS)
    assert curve["time_to_win"]["p50_seconds"] is not None


async def test_two_quarters_are_compared_by_newcombe(maven: Asking, told: Any) -> None:
    first, second = list(told["by_quarter_of_close"].values())[:2]
    found = await maven(
        "compare",
        figure="win_rate",
        from_=STARTS[0],
        to=STARTS[1],
        against_from=STARTS[1],
        against_to=STARTS[2],
    )
    (p, low, high), (q, other_low, other_high) = _wilson(first), _wilson(second)
    difference = found["difference"]
    assert (found["value"]["value"], found["against"]["value"]) == pytest.approx((p, q))
    assert (difference["method"], difference["reason"]) == ("newcombe", None)
    assert difference["value"] == pytest.approx(p - q)
    assert difference["low"] == pytest.approx(p - q - hypot(p - low, other_high - q))
    assert difference["high"] == pytest.approx(p - q + hypot(high - p, q - other_low))


async def test_two_regions_are_compared_by_hodges_and_lehmann(maven: Asking) -> None:
    found = await maven(
        "compare",
        figure="cycle_time_p50",
        outcome="won",
        group_by="team",
        group="West",
        against="East",
        as_of=END,
    )
    west, east = (_won_days(region) for region in ("West", "East"))
    apart = np.sort((west[:, None] - east[None, :]).ravel())
    spread = 1.959964 * sqrt(len(west) * len(east) * (len(west) + len(east) + 1) / 12)
    outer = floor(len(apart) / 2 - spread)
    difference = found["difference"]
    assert (found["value"]["count"], found["against"]["count"]) == (len(west), len(east))
    assert (difference["method"], difference["reason"]) == ("hodges_lehmann", None)
    assert difference["value"] == np.median(apart) * DAY
    assert difference["low"] == apart[outer - 1] * DAY
    assert difference["high"] == apart[-outer] * DAY


def _as_fitted(curve: Any, fitted: KaplanMeierFitter) -> None:
    bounds = fitted.confidence_interval_
    for point in curve["points"]:
        length = round(point["seconds"] * MICROSECONDS)
        expected = (fitted.predict(length), *bounds.loc[length])
        assert (point["survival"], point["low"], point["high"]) == pytest.approx(expected)
        assert (
            point["at_risk"]
            == fitted.event_table.at_risk[length] - fitted.event_table.removed[length]
        )
    for share in (50, 75, 90, 95):
        quantile = qth_survival_time(1 - share / 100, fitted.survival_function_)
        shown = curve["quantiles"][f"p{share}_seconds"]
        assert shown == (None if quantile == np.inf else quantile / MICROSECONDS)


def _incidence(cycles: Mapping[str, list[int]]) -> dict[int, tuple[float, float, float]]:
    """By length: the share still open, won and lost by then (Aalen and Johansen, by the book)."""
    won, lost = Counter(cycles["Won"]), Counter(cycles["Lost"])
    everyone = np.sort([length for lengths in cycles.values() for length in lengths])
    survival, by_won, by_lost = 1.0, 0.0, 0.0
    found = {}
    for length in sorted({*won, *lost}):
        at_risk = len(everyone) - int(np.searchsorted(everyone, length))
        by_won += survival * won[length] / at_risk
        by_lost += survival * lost[length] / at_risk
        survival *= 1 - (won[length] + lost[length]) / at_risk
        found[length] = survival, by_won, by_lost
    return found


def _wilson(quarter: Mapping[str, int]) -> tuple[float, float, float]:
    closed = quarter["Won"] + quarter["Lost"]
    bounds = binomtest(quarter["Won"], closed).proportion_ci(0.95, "wilson")
    return quarter["Won"] / closed, float(bounds.low), float(bounds.high)


def _won_days(region: str) -> Any:
    return np.array(
        [
            (date.fromisoformat(row["close_date"]) - date.fromisoformat(row["engage_date"])).days
            for row in maven_deals()
            if row["region"] == region and row["deal_stage"] == "Won"
        ]
    )
