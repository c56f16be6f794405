"""Flow, matrix and cumulative flow: the database counts what the domain defines, on random pasts.

And what must balance does, for every stage, bucket and group.
"""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.durations import microseconds
from app.domain.measures import cumulative_flow, flow
from app.domain.measures.calendar import By
from app.domain.measures.selection import Attribution
from app.domain.pipeline import StageKind
from app.storage.engine import Database
from app.storage.queries import cumulative_flow as cumulative_flow_sql
from app.storage.queries import flow as flow_sql
from tests.metric_cases import Case, answered, cases, examples, repeated
from tests.past_deals import LAST, at

pytestmark = pytest.mark.asyncio


@st.composite
def cumulative_cases(draw: st.DrawFn) -> Case:
    """Cases whose period begins somewhere, filtered and grouped by what deals bear at T.

    Mostly long periods that nothing filters: departures from a stay that was not the deal's first
    are rare in short ones.
    """
    case = draw(cases())
    asked = replace(case.selection, attribution=Attribution.CURRENT)
    if draw(st.integers(0, 2)):
        asked = replace(asked, start=None, end=None, filters={}, as_of=at(LAST + 1))
    start = asked.start or min(at(draw(st.integers(-1, LAST // 2))), asked.end or at(LAST))
    return replace(case, selection=replace(asked, start=start))


more_examples = settings(examples, max_examples=150)


@examples
@given(case=cases())
async def test_the_flow_is_the_same(database: Database, workspace: UUID, case: Case) -> None:
    found = await answered(database, workspace, case, flow_sql.stage_flows)
    assert found == flow.measure(case.deals, case.selection)


@examples
@given(case=cases())
async def test_the_matrix_is_the_same(database: Database, workspace: UUID, case: Case) -> None:
    found = await answered(database, workspace, case, flow_sql.moves)
    assert found == flow.moves(case.deals, case.selection)


@examples
@given(case=cases())
async def test_what_is_there_at_the_end_was_there_or_came_in_and_did_not_go(
    database: Database, workspace: UUID, case: Case
) -> None:
    found = await answered(database, workspace, case, flow_sql.stage_flows)
    # Both by what the database counts and by the definition, which counts each of the three alone.
    for flows in (found, flow.measure(case.deals, case.selection)):
        for by_slot in flows.values():
            for stage in by_slot.values():
                assert stage.open_at_end == stage.open_at_start + stage.entries - stage.left
                assert set(stage.exits) <= set(flow.EXITS)
                assert 0 <= stage.forward.count <= stage.forward.of == sum(stage.exits.values())
    cells = await repeated(database, workspace, case, flow_sql.moves)
    rows = {group: Counter({slot: 0 for slot, _ in row}) for group, row in cells.items()}
    for group, row in cells.items():
        for (slot, _), cell in row.items():
            rows[group][slot] += cell.count
    exits = {
        group: {slot: stage.left for slot, stage in by_slot.items() if stage.left}
        for group, by_slot in found.items()
    }
    assert rows == {group: by_slot for group, by_slot in exits.items() if by_slot}


@examples
@given(case=cases(), cut=st.integers(-1, LAST + 2))
async def test_a_period_is_the_sum_of_its_parts(
    database: Database, workspace: UUID, case: Case, cut: int
) -> None:
    first = replace(case, selection=replace(case.selection, end=at(cut)))
    second = replace(case, selection=replace(case.selection, start=at(cut)))
    if first.selection.start is not None and first.selection.start > at(cut):
        return
    if second.selection.end is not None and second.selection.end < at(cut):
        return
    whole = await answered(database, workspace, case, flow_sql.stage_flows)
    earlier = await repeated(database, workspace, first, flow_sql.stage_flows)
    later = await repeated(database, workspace, second, flow_sql.stage_flows)
    none = flow.StageFlow()
    for group, by_slot in whole.items():
        for slot, stage in by_slot.items():
            before = earlier.get(group, {}).get(slot, none)
            after = later.get(group, {}).get(slot, none)
            assert stage.open_at_start == before.open_at_start
            assert before.open_at_end == after.open_at_start
            assert stage.open_at_end == after.open_at_end
            assert stage.entries == before.entries + after.entries
            assert stage.exits == Counter(before.exits) + Counter(after.exits)


@more_examples
@given(case=cumulative_cases(), by=st.sampled_from(By))
async def test_the_cumulative_flow_is_the_same(
    database: Database, workspace: UUID, case: Case, by: By
) -> None:
    query = cumulative_flow_sql.cumulative_flows
    found = await answered(database, workspace, case, query, by)
    assert found == cumulative_flow.measure(case.ranking, case.deals, case.selection, by)


@examples
@given(case=cumulative_cases(), by=st.sampled_from(By))
async def test_work_in_progress_grows_by_arrivals_and_shrinks_by_departures(
    database: Database, workspace: UUID, case: Case, by: By
) -> None:
    query = cumulative_flow_sql.cumulative_flows
    found = await answered(database, workspace, case, query, by)
    defined = cumulative_flow.measure(case.ranking, case.deals, case.selection, by)
    for flows in (found, defined):
        for figures in flows.values():
            in_progress = figures.in_progress_at_start
            for bucket in figures.buckets:
                in_progress += bucket.arrivals - bucket.departures
                assert bucket.in_progress == in_progress
                assert bucket.arrivals >= 0
            assert len(figures.buckets) == len(figures.boundaries) - 1


@examples
@given(case=cumulative_cases(), by=st.sampled_from(By))
async def test_the_average_in_progress_is_the_time_in_process_over_the_period(
    database: Database, workspace: UUID, case: Case, by: By
) -> None:
    query = cumulative_flow_sql.cumulative_flows
    found = await answered(database, workspace, case, query, by)
    open_slots = case.ranking.slots(StageKind.OPEN)
    stays = [
        (group, stay[0].entered_at, stay[-1].left_at)
        for deal in case.deals
        for group in case.selection.groups_of(deal.bearer)
        for stay in cumulative_flow.stays_of(deal, open_slots)
    ]
    hour = timedelta(hours=1)
    for group, figures in found.items():
        start, end = figures.boundaries[0], figures.boundaries[-1]
        own = [(arrived, left) for its, arrived, left in stays if its == group]
        # Nothing happens but on the hour, so who is there in the middle of it was there all hour.
        middles = [start + hour * (n + 0.5) for n in range(round((end - start) / hour))]
        there = sum(
            arrived < middle and (left is None or middle < left)
            for middle in middles
            for arrived, left in own
        )
        assert figures.time_in_process == there * microseconds(hour)
        if figures.average_in_progress is None:
            assert start == end
        else:
            # L·P = W·(those there at the start and the arrivals), the identity of Little's law.
            length = microseconds(end - start)
            assert figures.average_in_progress * length == pytest.approx(there * 3.6e9)
        departed = [
            microseconds(left - arrived)
            for arrived, left in own
            if left is not None and start <= left < end
        ]
        assert (figures.departures, figures.stays_ended) == (len(departed), sum(departed))
