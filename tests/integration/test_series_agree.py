"""Trend, samples, velocity and bottlenecks: the database counts what the domain defines.

On random pasts, at any T; and a bucket of a trend is the same question with that for its period.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, zip_longest
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
from app.domain.measures.figures import Figure, Metric
from app.domain.measures.readings import Reading, Seen
from app.domain.measures.selection import Dimension, Value
from app.domain.measures.subjects import Subject, subject
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
    said = {
        "stage": [stage for stage in (*STAGES, ":none") if is_asked(case, figure, stage)],
        "to_stage": [*STAGES, ":handed_off"],
        "outcome": [*Outcome],
        "reason": ["price", ":none"],
    }
    # A share of losses is asked of a reason at least.
    needed = figure.needs | ({"reason"} if figure is Figure.LOSSES_SHARE else set())
    return subject(
        figure,
        case.ranking,
        **{
            name: draw(st.sampled_from(said[name]))
            for name in sorted(figure.takes)
            if name in needed or draw(st.booleans())
        },
    )


def is_asked(case: Case, figure: Figure, stage: str) -> bool:
    """Whether the stage has such a figure."""
    needed = {"to_stage": "won", "reason": "price"}
    try:
        subject(
            *(figure, case.ranking),
            stage=stage,
            **{name: key for name, key in needed.items() if name in figure.takes},
        )
    except Invalid:
        return False
    return True


@st.composite
def of_each_metric(draw: st.DrawFn, case: Case) -> list[Subject]:
    """One figure of each metric."""
    return [
        draw(subjects(case, [figure for figure in Figure if figure.metric is metric]))
        for metric in Metric
    ]


def measured(case: Case, asked: Subject) -> Mapping[Value, Reading]:
    """What the definition says; of an instant, it says it of the deals as they were then."""
    if asked.figure.is_of_instant:
        selection = case.selection.at_end()
        case = replace(case, selection=selection, ahead=selection.as_of - case.now)
    return readings.measure(asked, Seen(case.ranking, case.deals, case.selection, case.now))


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
    await keep(database, workspace, case)
    for asked in data.draw(of_each_metric(case)):
        found = await repeated(database, workspace, case, series.readings, asked)
        expected = measured(case, asked)
        nothing = readings.nothing(asked, case.ranking)
        # A group in which there is nothing may be there or not.
        assert {group: found.get(group, nothing) for group in {*found, *expected}} == {
            group: approximately(expected.get(group, nothing)) for group in {*found, *expected}
        }, asked


@examples
@given(case=cases(), data=st.data())
async def test_a_bucket_of_a_trend_is_the_same_question_with_that_for_its_period(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    hours = data.draw(st.sets(st.integers(-1, LAST + 2), min_size=1, max_size=6))
    boundaries = tuple(at(hour) for hour in sorted(hours))
    whole = replace(case.selection, group_by=None)
    await keep(database, workspace, case)
    for asked in data.draw(of_each_metric(case)):
        ungrouped = replace(case, selection=whole)
        async with database.read(workspace) as connection:
            found = await series.trend(connection, ungrouped.asked(workspace), asked, boundaries)
        expected = []
        for start, end in pairwise(boundaries):
            bucket = replace(case, selection=replace(whole, start=start, end=end))
            reading = measured(bucket, asked).get(None)
            expected.append(approximately(reading or readings.nothing(asked, case.ranking)))
        assert list(found) == expected, asked


@examples
@given(case=cases(), data=st.data())
async def test_a_sample_holds_every_length_behind_its_figure(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    asked = data.draw(subjects(case, [figure for figure in Figure if figure.has_shift]))
    found = await answered(database, workspace, case, series.samples, asked)
    expected = {group: sorted(lengths) for group, lengths in lasted(case, asked).items()}
    assert {group: of.tolist() for group, (_, of) in found.items() if len(of)} == expected
    figures = await repeated(database, workspace, case, series.readings, asked)
    for group, (reading, lengths) in found.items():
        again = summary(lengths.tolist())
        value = getattr(again, asked.figure.field)
        assert reading == approximately(Reading(value, again.count))
        assert figures.get(group, readings.nothing(asked, case.ranking)) == approximately(reading)


def lasted(case: Case, asked: Subject) -> Mapping[Value, list[int]]:
    """The cycles, or the stays, that a figure is of: those that are over."""
    expected: dict[Value, list[int]] = defaultdict(list)
    if asked.figure.metric is Metric.CYCLE_TIME:
        outcomes = (None, Outcome.ALL)
        for group, deal in closings.closed_deals(case.deals, case.selection, DealPopulation.CLOSED):
            if asked.outcome in (*outcomes, Outcome(deal.status.value)):
                expected[group].append(deal.open_time)
        return expected
    for deal in case.deals:
        for visit, following in zip_longest(deal.visits, deal.visits[1:]):
            if visit.slot != asked.slot or visit.left_at is None:
                continue
            is_move = asked.figure.metric is Metric.MATRIX
            if is_move and (visit.slot, following and following.slot) != asked.move:
                continue
            if case.selection.covers(visit.left_at if is_move else visit.entered_at):
                for group in case.selection.groups_of(visit.bearer):
                    expected[group].append(microseconds(visit.left_at - visit.entered_at))
    return expected


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
