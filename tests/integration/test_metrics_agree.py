"""The database counts what the domain defines: every metric, on random pasts, at any T.

Each example draws the past of a pipeline (its deals skip, go back, reopen, are voided, handed off
and changed), a T inside it, a period, filters and a group, and compares the whole answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain import funnel
from app.domain.journey import Status
from app.domain.measures import closings, snapshot, stage_time
from app.domain.measures.closings import DealPopulation
from app.domain.measures.hindsight import Sighting, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Dimension, Selection
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.storage.engine import Database
from app.storage.queries import closings as closings_sql
from app.storage.queries import funnel as funnel_sql
from app.storage.queries import snapshot as snapshot_sql
from app.storage.queries import stage_time as stage_time_sql
from app.storage.queries.question import Asked
from tests.past_deals import LAST, Past, at, keep, pasts

pytestmark = pytest.mark.asyncio

FROZEN = (
    ("owner", ("ada", "ben", None)),
    ("team", ("x", None)),
    ("source", ("web", None)),
    ("priority", ("high", "low", None)),
    ("currency", ("EUR", "JPY", None)),
    ("opened_month", ("2024-02", "2024-03")),
)
CURRENT = (
    *FROZEN,
    ("tag", ("hot", "new", None)),
    ("attributes.region", ("north", "true", "7", None)),
)

examples = settings(
    max_examples=60,
    deadline=None,
    # A workspace holds the pipelines of all examples: each has its own, none sees another's.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def selections(draw: st.DrawFn, *, period: bool = True) -> Selection:
    """T at, between or after the grid's instants; any period, filters, group and attribution."""
    attribution = draw(st.sampled_from(Attribution))
    asked = CURRENT if attribution is Attribution.CURRENT else FROZEN
    filters = {
        Dimension(name): frozenset(draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)))
        for name, values in draw(st.lists(st.sampled_from(asked), max_size=2, unique=True))
    }
    group = draw(st.none() | st.sampled_from([name for name, _ in asked]))
    start, end = sorted((draw(st.integers(-1, LAST)), draw(st.integers(0, LAST + 2))))
    known = draw(st.none() | st.integers(1, LAST + 1))
    return Selection(
        as_of=at(draw(st.integers(1, LAST + 3)))
        + draw(st.sampled_from((0, 1))) * timedelta(hours=1),
        known_at=None if known is None else at(known),
        start=at(start) if period and draw(st.booleans()) else None,
        end=at(end) if period and draw(st.booleans()) else None,
        timezone=draw(st.sampled_from(("UTC", "Pacific/Auckland", "America/New_York"))),
        filters=filters,
        group_by=None if group is None else Dimension(group),
        attribution=attribution,
    )


@dataclass(frozen=True)
class Case:
    """A past and what is asked of it; `revision` is the one whose order of stages counts.

    `ahead` is how far T lies ahead of the clock.
    """

    past: Past
    revision: int
    selection: Selection
    ahead: timedelta

    @property
    def now(self) -> datetime:
        return self.selection.as_of - self.ahead

    def asked(self, workspace: UUID) -> Asked:
        return Asked(workspace, self.ranking, self.selection)

    @cached_property
    def ranking(self) -> Ranking:
        return Ranking(self.past.revisions[self.revision], self.past.latest)

    @cached_property
    def deals(self) -> list[Sighting]:
        """The deals as they were at T, by the definition."""
        found = (seen(self.past.latest, d.history, self.selection) for d in self.past.deals)
        return [deal for deal in found if deal is not None]


def cases(*, period: bool = True) -> st.SearchStrategy[Case]:
    ahead = st.sampled_from([timedelta(hours=hours) for hours in (-1, 0, 1, 30)])
    return st.builds(Case, pasts(), st.integers(0, 2), selections(period=period), ahead)


async def answered(
    database: Database, workspace: UUID, case: Case, query: Any, *arguments: Any
) -> Any:
    """What the database answers to the case, its past being kept first."""
    await keep(database, workspace, case.past)
    return await repeated(database, workspace, case, query, *arguments)


async def repeated(
    database: Database, workspace: UUID, case: Case, query: Any, *arguments: Any
) -> Any:
    """What it answers about a past that is kept already."""
    async with database.read(workspace) as connection:
        return await query(connection, case.asked(workspace), *arguments, grouped=True)


def approximately(found: Any) -> Any:
    """Means are sums of doubles in another order; everything else must be equal."""
    if isinstance(found, Mapping):
        return {key: approximately(value) for key, value in found.items()}
    if hasattr(found, "mean"):
        shown = {name: getattr(found, name) for name in found.__dataclass_fields__}
        return shown | {"mean": None if found.mean is None else pytest.approx(found.mean)}
    if hasattr(found, "__dataclass_fields__"):
        return {name: approximately(getattr(found, name)) for name in found.__dataclass_fields__}
    return found


def plain(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: plain(value) for key, value in found.items()}
    if hasattr(found, "__dataclass_fields__"):
        return {name: plain(getattr(found, name)) for name in found.__dataclass_fields__}
    return found


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
    expected = stage_time.measure(case.ranking, case.deals, case.selection, population, reentry)
    assert plain(found) == approximately(expected)


@examples
@given(case=cases(), population=st.sampled_from(DealPopulation))
async def test_cycle_time_is_the_same(
    database: Database,
    workspace: UUID,
    case: Case,
    population: DealPopulation,
) -> None:
    found = await answered(database, workspace, case, closings_sql.cycle_times, population)
    assert plain(found) == approximately(
        closings.cycle_times(case.deals, case.selection, population)
    )


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
    found = await answered(database, workspace, case, partial(snapshot_sql.standings, now=case.now))
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
