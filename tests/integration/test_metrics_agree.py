"""The database counts what the domain defines: every metric, on random pasts, at any T.

Each example draws the past of a pipeline (its deals skip, go back, reopen, are voided, handed off
and changed), a T inside it, a period, filters and a group, and compares the whole answer.
"""

from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import funnel
from app.domain.journey import Status
from app.domain.measures import closings, snapshot, stage_time
from app.domain.measures.closings import DealPopulation
from app.domain.measures.selection import Selection
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.storage.engine import Database
from app.storage.queries import closings as closings_sql
from app.storage.queries import funnel as funnel_sql
from app.storage.queries import snapshot as snapshot_sql
from app.storage.queries import stage_time as stage_time_sql
from tests.metric_cases import Case, answered, cases, examples, repeated

pytestmark = pytest.mark.asyncio


@examples
@given(case=cases())
async def test_the_funnel_counts_the_same_deals(
    database: Database, workspace: UUID, case: Case
) -> None:
    found = await answered(database, workspace, case, funnel_sql.tallies)
    cohort = funnel.cohort(case.deals, case.selection)
    assert {group: funnel.measure(case.ranking, rows) for group, rows in found.items()} == {
        group: funnel.measure(case.ranking, funnel.tallies(rows)) for group, rows in cohort.items()
    }


@examples
@given(case=cases())
async def test_each_rank_is_the_next_one_and_those_who_got_no_further(
    database: Database, workspace: UUID, case: Case
) -> None:
    found = await answered(database, workspace, case, funnel_sql.tallies)
    for rows in found.values():
        ranks = funnel.measure(case.ranking, rows)
        assert sum(row.count.deals for row in rows) == ranks[0].reached.deals
        for here, following in pairwise(ranks):
            stopped = here.open_furthest + here.lost_furthest + here.handed_off_furthest
            assert here.reached == following.reached + stopped
            assert here.reached == here.entered + here.implied
        assert ranks[-1].reached == ranks[-1].entered
        for rank in ranks:
            for share in (rank.to_next, rank.from_start, rank.to_won, rank.decided):
                assert share is None or 0 <= share.count <= share.of


@examples
@given(case=cases())
async def test_observed_and_repeated_steps_are_the_same(
    database: Database, workspace: UUID, case: Case
) -> None:
    cohort = funnel.cohort(case.deals, case.selection)
    observed = await answered(database, workspace, case, funnel_sql.observed_steps)
    expected = {g: funnel.observed_steps(case.ranking, rows) for g, rows in cohort.items()}
    taken = {g: {rank: n for rank, n in steps.items() if n} for g, steps in observed.items()}
    assert taken == {group: dict(steps) for group, steps in expected.items()}
    visits = await repeated(database, workspace, case, funnel_sql.visit_steps)
    expected_visits = {g: funnel.visit_steps(case.ranking, rows) for g, rows in cohort.items()}
    assert visits == {group: steps for group, steps in expected_visits.items() if steps}


@examples
@given(
    case=cases(),
    population=st.sampled_from(VisitPopulation),
    reentry=st.sampled_from(VisitReentry),
)
async def test_time_in_stage_is_the_same(
    database: Database,
    workspace: UUID,
    case: Case,
    population: VisitPopulation,
    reentry: VisitReentry,
) -> None:
    found = await answered(
        database, workspace, case, stage_time_sql.stage_times, population, reentry
    )
    expected = stage_time.measure(
        case.ranking, case.deals, case.selection, population, reentry, case.now
    )
    assert found == expected


@examples
@given(case=cases(), population=st.sampled_from(DealPopulation))
async def test_cycle_time_is_the_same(
    database: Database,
    workspace: UUID,
    case: Case,
    population: DealPopulation,
) -> None:
    found = await answered(database, workspace, case, closings_sql.cycle_times, population)
    assert found == closings.cycle_times(case.deals, case.selection, population)


@examples
@given(case=cases())
async def test_win_rate_and_losses_are_the_same(
    database: Database, workspace: UUID, case: Case
) -> None:
    found = await answered(database, workspace, case, closings_sql.win_rates)
    assert found == closings.win_rates(case.deals, case.selection)
    lost = await repeated(database, workspace, case, closings_sql.losses)
    expected = closings.losses(case.deals, case.selection)
    assert {g: {(x.from_slot, x.reason): x.count for x in rows} for g, rows in lost.items()} == {
        g: {(x.from_slot, x.reason): x.count for x in rows} for g, rows in expected.items()
    }
    for group, rate in found.items():
        reasons = lost.get(group, [])
        assert sum(row.count.deals for row in reasons) == rate.lost.deals


@examples
@given(case=cases(period=False))
async def test_the_snapshot_is_the_same(database: Database, workspace: UUID, case: Case) -> None:
    found = await answered(database, workspace, case, snapshot_sql.standings)
    # The yardstick of the age buckets is made by all deals, whatever is filtered.
    assert found == snapshot.measure(case.ranking, case.deals, case.selection, case.now)
    if case.selection.group_by is None and not case.selection.filters:
        standing = sum(s.count.deals for by_slot in found.values() for s in by_slot.values())
        assert standing == sum(deal.status is Status.OPEN for deal in case.deals)


@examples
@given(case=cases())
async def test_a_group_is_the_same_question_with_that_filter(
    database: Database, workspace: UUID, case: Case
) -> None:
    dimension = case.selection.group_by
    if dimension is None:
        return
    for group, rows in funnel.cohort(case.deals, case.selection).items():
        filters = {**case.selection.filters, dimension: frozenset({group})}
        alone = Selection(
            **{
                name: getattr(case.selection, name)
                for name in ("as_of", "known_at", "start", "end", "timezone", "attribution")
            },
            filters=filters,
        )
        assert funnel.cohort(case.deals, alone) == {None: rows}
