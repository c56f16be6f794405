"""Trend, samples, velocity and bottlenecks: the database counts what the domain defines.

On random pasts, at any T; and a bucket of a trend is the same question with that for its period.
"""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import funnel
from app.domain.durations import microseconds, summary
from app.domain.errors import Invalid
from app.domain.journey import Status
from app.domain.measures import bottlenecks, closings, readings, velocity
from app.domain.measures.closings import DealPopulation, Outcome
from app.domain.measures.readings import Figure, FigureUnit, Metric, Reading, Subject
from app.domain.measures.selection import Dimension, Value
from app.storage.engine import Database
from app.storage.queries import series, worth
from tests.metric_cases import Case, answered, cases, examples, keep, repeated
from tests.past_deals import LAST, at

pytestmark = pytest.mark.asyncio

STAGES = (
    *("lead", "offer", "quote", "review", "talks", "parked", "nurture"),
    *("won", "renewed", "lost"),
)


@st.composite
def subjects(draw: st.DrawFn, case: Case, figures: Any = Figure) -> Subject:
    """Any figure of anything that has it."""
    figure = draw(st.sampled_from(figures))
    having = [stage for stage in STAGES if is_asked(case, figure, stage)]
    return readings.subject(
        figure,
        case.ranking,
        stage=draw(st.sampled_from(having)) if figure.asks_stage else None,
        outcome=draw(st.sampled_from(Outcome)) if figure.asks_outcome else None,
    )


def is_asked(case: Case, figure: Figure, stage: str) -> bool:
    """Whether the stage has such a figure."""
    try:
        readings.subject(figure, case.ranking, stage=stage, outcome=None)
    except Invalid:
        return False
    return True


def approximately(reading: Reading) -> Reading:
    """A mean is a sum of doubles in another order; everything else must be equal."""
    if reading.value is None:
        return reading
    return replace(reading, value=pytest.approx(reading.value, rel=1e-12))


@examples
@given(case=cases(), data=st.data())
async def test_every_figure_is_that_of_its_metric(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    asked = data.draw(subjects(case))
    found = await answered(database, workspace, case, series.readings, asked)
    expected = readings.measure(asked, case.ranking, case.deals, case.selection)
    nothing = readings.nothing(asked, case.ranking)
    # A group in which there is nothing may be there or not.
    assert {group: found.get(group, nothing) for group in {*found, *expected}} == {
        group: approximately(expected.get(group, nothing)) for group in {*found, *expected}
    }


@examples
@given(case=cases(), data=st.data())
async def test_a_bucket_of_a_trend_is_the_same_question_with_that_for_its_period(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    asked = data.draw(subjects(case))
    hours = data.draw(st.sets(st.integers(-1, LAST + 2), min_size=1))
    boundaries = tuple(at(hour) for hour in sorted(hours))
    case = replace(case, selection=replace(case.selection, group_by=None))
    await keep(database, workspace, case)
    async with database.read(workspace) as connection:
        found = await series.trend(connection, case.asked(workspace), asked, boundaries)
    expected = []
    for start, end in pairwise(boundaries):
        period = replace(case.selection, start=start, end=end)
        reading = readings.measure(asked, case.ranking, case.deals, period).get(None)
        expected.append(approximately(reading or readings.nothing(asked, case.ranking)))
    assert list(found) == expected


@examples
@given(case=cases(), data=st.data())
async def test_a_sample_holds_every_length_behind_its_figure(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    asked = data.draw(subjects(case, [f for f in Figure if f.unit is FigureUnit.SECONDS]))
    found = await answered(database, workspace, case, series.lengths, asked)
    expected: dict[Value, list[int]] = defaultdict(list)
    for group, deal in closings.closed_deals(case.deals, case.selection, DealPopulation.CLOSED):
        if asked.outcome in (Outcome.ALL, Outcome(deal.status.value)):
            expected[group].append(deal.open_time)
    if asked.figure.metric is Metric.TIME_IN_STAGE:
        expected.clear()
        for visit in (visit for deal in case.deals for visit in deal.visits):
            assert asked.stage is not None
            if visit.slot != asked.stage.slot or visit.left_at is None:
                continue
            if case.selection.covers(visit.entered_at):
                lasted = visit.left_at - visit.entered_at
                for group in case.selection.groups_of(visit.bearer):
                    expected[group].append(microseconds(lasted))
    assert {group: lengths.tolist() for group, lengths in found.items() if len(lengths)} == {
        group: sorted(lengths) for group, lengths in expected.items()
    }
    figures = await repeated(database, workspace, case, series.readings, asked)
    for group, lengths in found.items():
        again = summary(lengths.tolist())
        name = asked.figure.value.rpartition("_")[2]
        assert figures[group] == approximately(Reading(getattr(again, name), again.count))


@examples
@given(case=cases())
async def test_velocity_is_the_same(database: Database, workspace: UUID, case: Case) -> None:
    found = await answered(database, workspace, case, worth.velocities)
    assert found == velocity.velocities(case.deals, case.selection)


@examples
@given(case=cases())
async def test_a_currency_s_velocity_is_that_of_the_question_filtered_to_it(
    database: Database, workspace: UUID, case: Case
) -> None:
    whole = replace(case.selection, group_by=None)
    rows = velocity.velocities(case.deals, whole).get(None, {})
    for currency, row in rows.items():
        wanted = whole.filters.get(Dimension("currency"), frozenset({currency})) & {currency}
        alone = replace(whole, filters={**whole.filters, Dimension("currency"): wanted})
        assert velocity.velocities(case.deals, alone) == {None: {currency: row}}
        by_count = closings.win_rates(case.deals, alone)
        wins = by_count[None].by_count if by_count else closings.WinRate().by_count
        assert row.win_rate == wins
        cycles = closings.cycle_times(case.deals, alone, DealPopulation.CLOSED)
        mean = cycles[None][Outcome.WON].mean if cycles else None
        assert row.mean_won_cycle == (None if mean is None else pytest.approx(mean, rel=1e-12))
        assert row.open_deals == sum(
            deal.status is Status.OPEN and bool([*alone.groups_of(deal.bearer)])
            for deal in case.deals
        )


@examples
@given(case=cases())
async def test_bottlenecks_are_the_same(database: Database, workspace: UUID, case: Case) -> None:
    found = await answered(database, workspace, case, worth.bottleneck_inputs)
    expected = bottlenecks.inputs(case.ranking, case.deals, case.selection, case.now)
    assert {group: bottlenecks.bottlenecks(case.ranking, of) for group, of in found.items()} == {
        group: bottlenecks.bottlenecks(case.ranking, of) for group, of in expected.items()
    }


@examples
@given(case=cases())
async def test_a_currency_s_bottlenecks_are_made_of_the_funnel_filtered_to_it(
    database: Database, workspace: UUID, case: Case
) -> None:
    whole = replace(case.selection, group_by=None)
    inputs = bottlenecks.inputs(case.ranking, case.deals, whole, case.now).get(None)
    if inputs is None:
        return
    stages = bottlenecks.bottlenecks(case.ranking, inputs)
    for nth, currency in enumerate(row.currency for row in stages[0].worth):
        wanted = whole.filters.get(Dimension("currency"), frozenset({currency})) & {currency}
        alone = replace(whole, filters={**whole.filters, Dimension("currency"): wanted})
        (opened,) = funnel.cohort(case.deals, alone).values()
        ranks = funnel.measure(case.ranking, funnel.tallies(opened))
        won = [deal.facts.amount for deal in opened if deal.status is Status.WON]
        amounts = [amount for amount in won if amount is not None]
        mean = sum(map(Fraction, amounts), Fraction()) / len(amounts) if amounts else None
        for stage, here, following in zip(stages, ranks, ranks[1:], strict=False):
            row = stage.worth[nth]
            assert (row.reached, row.onward) == (here.reached.deals, following.to_won)
            assert (row.worth is None) == (mean is None) == (row.place is None)
            if row.worth is not None and mean is not None:
                rate = Fraction(ranks[-1].reached.deals, following.reached.deals)
                exact = Fraction(1, 100) * here.reached.deals * rate * mean
                assert abs(Fraction(row.worth) - exact) <= Fraction(1, 20_000)
        worths = [stage.worth[nth] for stage in stages]
        for row in (row for row in worths if row.worth is not None):
            larger = sum(other.worth > row.worth for other in worths if other.worth is not None)
            assert row.place == 1 + larger
