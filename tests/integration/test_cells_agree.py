"""The lists of the database are what the definition says, and as long as the numbers they open.

On random pasts, for every count of every metric.
"""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.measures.cells import Cell, CohortCell, Look, Stay, held
from app.storage.engine import Database
from app.storage.queries import cells
from app.storage.queries.cells import Listed, Place
from tests import metric_cases
from tests.metric_cases import Case, keep
from tests.opened import opened, ungrouped

pytestmark = pytest.mark.asyncio

ALL = 1_000
examples = settings(metric_cases.examples, max_examples=20)  # of some two hundred counts each


async def listed(
    database: Database,
    workspace: UUID,
    case: Case,
    cell: Cell,
    *,
    after: Place | None = None,
    limit: int = ALL,
) -> list[Listed]:
    async with database.read(workspace) as connection:
        return await cells.listed(connection, case.asked(workspace), cell, after=after, limit=limit)


def defined(case: Case, cell: Cell) -> list[tuple[UUID, Stay | None]]:
    """What the cell holds by the definition, by the deals' ids."""
    ids = [*case.sighted]
    found = held(cell, case.ranking, case.deals, case.selection, case.now)
    return [(ids[thing.number], thing.stay) for thing in found]


def in_any_order(found: list[tuple[UUID, Stay | None]]) -> list[str]:
    return sorted(map(repr, found))


@examples
@given(case=ungrouped(), data=st.data())
async def test_every_count_opens_as_a_list_of_that_length_of_the_very_things_counted(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    await keep(database, workspace, case)
    for metric in data.draw(opened(case)):
        # Under several names some cells are the same one.
        counts = {metric.names.cell(name): (name, count) for name, count in metric.counts.items()}
        for cell, (name, count) in counts.items():
            found = await listed(database, workspace, metric.case, cell)
            assert len(found) == count, name
            things = [(thing.opportunity_id, thing.stay) for thing in found]
            assert in_any_order(things) == in_any_order(defined(metric.case, cell)), name


@examples
@given(case=ungrouped(), data=st.data())
async def test_pages_of_any_size_give_each_thing_once_and_in_order(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    await keep(database, workspace, case)
    for metric in data.draw(opened(case)):
        if not any(metric.counts.values()):
            continue
        longest = max(metric.counts, key=lambda name: metric.counts[name])
        cell, asked_by = metric.names.cell(longest), metric.case
        whole = await listed(database, workspace, asked_by, cell)
        assert [thing.place for thing in whole] == sorted({thing.place for thing in whole})
        limit = data.draw(st.integers(1, len(whole)))
        paged: list[Listed] = []
        while page := await listed(
            database,
            workspace,
            asked_by,
            cell,
            after=paged[-1].place if paged else None,
            limit=limit,
        ):
            paged += page
        assert paged == whole


@metric_cases.examples
@given(case=ungrouped())
async def test_each_deal_is_shown_as_it_was(
    database: Database, workspace: UUID, case: Case
) -> None:
    await keep(database, workspace, case)
    deals = CohortCell((Look(),))
    for thing in await listed(database, workspace, case, deals):
        deal = case.sighted[thing.opportunity_id]
        shown = (thing.status, thing.slot, thing.opened_at, thing.entered_at, thing.closed_at)
        assert shown == (deal.status, deal.slot, deal.opened_at, deal.entered_at, deal.closed_at)
        assert thing.facts == replace(deal.facts, probability=None)
