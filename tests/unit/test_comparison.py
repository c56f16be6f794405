"""Worth, places, one figure at a time, and how far two readings lie apart: by hand."""

from decimal import Decimal
from fractions import Fraction

import pytest

from app.domain.intervals import Proportion, hodges_lehmann, newcombe
from app.domain.measures.bottlenecks import places
from app.domain.measures.comparison import (
    DifferenceDoubt,
    DifferenceMethod,
    of_lengths,
    of_shares,
    subtracted,
)
from app.domain.measures.figures import Figure, FigureUnit, Metric, Stages
from app.domain.measures.readings import Reading
from app.domain.measures.velocity import DAY, Velocity, rounded

HALF, THIRD = Proportion(1, 2), Proportion(1, 3)


def rate(share: Proportion) -> Reading:
    return Reading(share.rate, share.count, share)


def test_velocity_is_rounded_once_from_exact_inputs() -> None:
    # 7 × 2/3 × (0.01 ÷ 1) ÷ (3 ÷ 2 days) = 0.0311…; its rounded mean cycle would give the same,
    # its rounded win rate of 0.67 would not.
    found = Velocity(open_deals=7, won=2, lost=1, priced=1, amount=Decimal("0.01"), cycle=3 * DAY)
    assert found.per_day == Decimal("0.0311")
    assert found.mean_won_cycle == 1.5 * DAY


@pytest.mark.parametrize(
    "missing",
    [
        Velocity(open_deals=3),
        Velocity(open_deals=3, lost=2),
        Velocity(open_deals=3, won=1, cycle=DAY),  # none of the won bears an amount
        Velocity(open_deals=3, won=1, priced=1, amount=Decimal(5)),  # won the instant it was opened
    ],
)
def test_velocity_is_null_where_an_input_is_missing_or_takes_no_time(missing: Velocity) -> None:
    assert missing.per_day is None


def test_money_is_rounded_to_four_places_a_tie_to_the_even_one() -> None:
    assert rounded(Fraction(1, 20_000)) == Decimal("0.0000")
    assert rounded(Fraction(3, 20_000)) == Decimal("0.0002")
    assert rounded(Fraction(2, 3)) == Decimal("0.6667")


def test_equal_figures_share_their_place_and_missing_ones_have_none() -> None:
    assert places([3.0, None, 7.0, 3.0, 0.0]) == [2, None, 1, 2, 4]
    assert places([None, None]) == [None, None]


def test_two_independent_shares_differ_with_newcombe_s_interval() -> None:
    found = of_shares(rate(HALF), rate(THIRD), apart=True)
    assert (found.value, found.method) == (pytest.approx(1 / 6), DifferenceMethod.NEWCOMBE)
    assert (found.interval, found.doubt) == (newcombe(HALF, THIRD), None)


def test_shares_that_share_cases_or_have_no_interval_only_differ() -> None:
    shared = of_shares(rate(HALF), rate(THIRD), apart=False)
    assert (shared.value, shared.interval) == (pytest.approx(1 / 6), None)
    assert shared.doubt is DifferenceDoubt.SHARED_CASES
    visits = Proportion(1, 3, independent=False)
    found = of_shares(rate(HALF), rate(visits), apart=True)
    assert (found.interval, found.doubt) == (None, DifferenceDoubt.NO_INTERVAL)
    none = of_shares(rate(HALF), rate(Proportion(0, 0)), apart=True)
    assert (none.value, none.doubt) == (None, DifferenceDoubt.TOO_FEW_CASES)


def test_money_is_subtracted_currency_by_currency() -> None:
    here = Reading(None, 2, amounts={"EUR": Decimal("10.50")})
    there = Reading(None, 1, amounts={"EUR": Decimal("12.00"), "JPY": Decimal(7)})
    found = subtracted(here, there)
    assert found.amounts == {"EUR": Decimal("-1.50"), "JPY": Decimal(-7)}
    assert (found.value, found.doubt) == (None, DifferenceDoubt.NO_INTERVAL)
    assert subtracted(Reading(3, 3), Reading(5, 5)).value == -2


def test_money_that_is_no_sum_differs_only_in_the_currencies_that_both_have() -> None:
    here = Reading(None, 2, amounts={"EUR": Decimal(30), "USD": Decimal(1)})
    there = Reading(None, 1, amounts={"EUR": Decimal(20), "JPY": Decimal(7)})
    assert subtracted(here, there, adds_up=False).amounts == {"EUR": Decimal(10)}


def test_a_difference_to_what_is_null_is_null() -> None:
    found = subtracted(Reading(None, 0), Reading(5.0, 3))
    assert (found.value, found.amounts, found.doubt) == (None, None, DifferenceDoubt.NO_INTERVAL)


def test_few_lengths_have_no_shift_and_shared_ones_no_interval() -> None:
    here, there = range(6), range(10, 16)
    assert (
        of_lengths(hodges_lehmann(range(5), there), apart=True).doubt
        is DifferenceDoubt.TOO_FEW_CASES
    )
    assert of_lengths(hodges_lehmann(range(5), there), apart=True).value is None
    found = of_lengths(hodges_lehmann(here, there), apart=True)
    assert (found.value, found.doubt) == (-10, None)
    assert found.interval is not None
    shared = of_lengths(hodges_lehmann(here, there), apart=False)
    assert (shared.value, shared.interval, shared.doubt) == (
        -10,
        None,
        DifferenceDoubt.SHARED_CASES,
    )


def test_figures_stand_metric_by_metric_and_each_metric_has_some() -> None:
    assert [*dict.fromkeys(figure.metric for figure in Figure)] == [*Metric]


def test_the_unit_of_a_figure_is_the_one_that_its_name_says() -> None:
    endings = {
        FigureUnit.MONEY: ("_amount", "_worth"),
        FigureUnit.SHARE: ("_rate", "_share", "_by_amount"),
        FigureUnit.SECONDS: ("_mean", "_p25", "_p50", "_p75", "_p90", "_p95", "_max", "_age"),
    }
    for figure in Figure:
        said = [unit for unit, names in endings.items() if figure.value.endswith(names)]
        if figure.value.startswith("conversion_") and not said:
            said = [FigureUnit.SHARE]
        if figure is Figure.WIN_RATE_BY_AMOUNT:  # a share of money
            said = [FigureUnit.SHARE]
        others = {FigureUnit.COUNT, FigureUnit.DAYS, FigureUnit.MONEY_PER_DAY}
        assert [figure.unit] == said or (not said and figure.unit in others), figure


def test_a_figure_is_asked_of_what_its_metric_tells_apart() -> None:
    assert Figure.OPENED.takes == Figure.WIN_RATE.takes == frozenset()
    assert Figure.REACHED.takes == Figure.REACHED.needs == {"stage"}
    assert Figure.MOVES.needs == {"stage", "to_stage"}
    assert (Figure.CYCLE_TIME_P50.takes, Figure.CYCLE_TIME_P50.needs) == ({"outcome"}, frozenset())
    assert (Figure.LOSSES.takes, Figure.LOSSES.needs) == ({"stage", "reason"}, frozenset())
    assert (Figure.STANDING.takes, Figure.STANDING.needs) == ({"stage"}, frozenset())
    assert Figure.MEDIAN_AGE.needs == {"stage"}
    stageless = {figure.metric for figure in Figure if figure.stages is Stages.NONE}
    assert stageless == {
        *(Metric.FUNNEL, Metric.CYCLE_TIME, Metric.CYCLE_CURVE, Metric.WIN_RATE),
        *(Metric.VELOCITY, Metric.BOTTLENECKS),
    }


def test_only_lengths_that_are_over_have_a_shift_and_the_longest_has_none() -> None:
    shifted = {figure.value for figure in Figure if figure.has_shift}
    parts = ("mean", "p25", "p50", "p75", "p90", "p95")
    assert shifted == {
        "moves_dwell_p50",
        *(f"{name}_{part}" for name in ("time_in_stage", "cycle_time") for part in parts),
    }


def test_what_is_under_way_ages_and_who_is_open_is_so_at_an_instant() -> None:
    ageing = {figure.value for figure in Figure if figure.ages}
    snapshot = {figure.value for figure in Figure if figure.metric is Metric.SNAPSHOT}
    assert {name.rpartition("_")[0] for name in ageing - snapshot} == {
        *("open", "survival", "time_to_win"),
    }
    assert snapshot <= ageing
    assert {figure.value for figure in Figure if figure.is_of_instant} == {*snapshot, "velocity"}
