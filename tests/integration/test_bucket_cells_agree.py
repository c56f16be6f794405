"""The counts of a cumulative flow open as lists: what the definition says, as long as the numbers.

On random pasts, in which deals come back: such a deal arrives, and departs, more than once.
"""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.measures.calendar import By
from app.domain.measures.cells import VisitCell, held
from app.domain.measures.selection import Selection
from app.storage.engine import Database
from app.storage.queries.cells import Listed
from tests import metric_cases
from tests.folded import NEVER
from tests.integration.test_cells_agree import defined, in_any_order, listed
from tests.integration.test_flow_agrees import cumulative_cases
from tests.metric_cases import Case, keep
from tests.opened import Opened, opened_by_bucket
from tests.past_deals import Past, at, past_deal, revisions

pytestmark = pytest.mark.asyncio

examples = settings(metric_cases.examples, max_examples=40)


@st.composite
def flows(draw: st.DrawFn) -> Opened:
    """Cumulative flows without a group, by buckets of any length."""
    case = draw(cumulative_cases())
    selection = replace(case.selection, group_by=None)
    return opened_by_bucket(replace(case, selection=selection), draw(st.sampled_from(By)))


@settings(max_examples=150)
@given(flow=flows())
async def test_every_count_of_a_cumulative_flow_is_the_length_of_its_list(flow: Opened) -> None:
    case = flow.case
    for name, count in flow.counts.items():
        cell = flow.names.cell(name)
        assert isinstance(cell, VisitCell)
        found = held(cell, case.ranking, case.deals, case.selection, case.now)
        assert len(found) == count, name
        assert all(thing.stay is not None and thing.stay.slot in cell.slots for thing in found)


@examples
@given(flow=flows())
async def test_every_count_opens_as_a_list_of_the_very_visits_counted(
    database: Database, workspace: UUID, flow: Opened
) -> None:
    await keep(database, workspace, flow.case)
    for name, count in flow.counts.items():
        cell = flow.names.cell(name)
        found = await listed(database, workspace, flow.case, cell)
        assert len(found) == count, name
        things = [(thing.opportunity_id, thing.stay) for thing in found]
        assert in_any_order(things) == in_any_order(defined(flow.case, cell)), name


@examples
@given(flow=flows(), data=st.data())
async def test_pages_of_any_size_give_each_arrival_once_and_in_order(
    database: Database, workspace: UUID, flow: Opened, data: st.DataObject
) -> None:
    await keep(database, workspace, flow.case)
    arrivals = {name: count for name, count in flow.counts.items() if name.startswith("arrivals.")}
    if not any(arrivals.values()):
        return
    cell = flow.names.cell(max(arrivals, key=lambda name: arrivals[name]))
    whole = await listed(database, workspace, flow.case, cell)
    assert [thing.place for thing in whole] == sorted({thing.place for thing in whole})
    limit = data.draw(st.integers(1, len(whole)))
    paged: list[Listed] = []
    while page := await listed(
        database, workspace, flow.case, cell, after=paged[-1].place if paged else None, limit=limit
    ):
        paged += page
    assert paged == whole


async def test_a_deal_that_comes_back_is_listed_as_often_as_it_arrived_and_departed(
    database: Database, workspace: UUID
) -> None:
    stages = revisions()
    stays = ["lead", "quote", "lost", "quote", "lead", "won"]
    deal = past_deal(stages[-1], [(key, at(hour)) for hour, key in enumerate(stays)])
    selection = Selection(as_of=at(9), start=at(0), end=at(8))
    past = Past(stages, [deal])
    case = Case(past, [NEVER], 2, selection, timedelta())
    await keep(database, workspace, case)
    flow = opened_by_bucket(case, By.QUARTER)
    found = {
        name: [
            thing.stay and (thing.stay.slot, thing.stay.entered_at)
            for thing in await listed(database, workspace, case, flow.names.cell(f"{name}.0"))
        ]
        for name in ("arrivals", "departures", "in_progress")
    }
    lead, quote = (case.ranking.latest.stage(key).slot for key in ("lead", "quote"))
    assert found == {
        "arrivals": [(lead, at(0)), (quote, at(3))],
        "departures": [(quote, at(1)), (lead, at(4))],
        "in_progress": [],
    }
