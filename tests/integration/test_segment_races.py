"""Folding while others write, fold too, or have died of it: every deal still counts once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.actions.fold_deals import fold_deals
from app.domain.pipeline import Pipeline
from app.storage.engine import Database, Lock, connect_arguments
from app.storage.segments import folding
from app.storage.segments.folding import Batch, Filled
from app.storage.statement import LostRace
from tests.segments import (
    DEAL_COUNT,
    amended,
    fold,
    keep_sales,
    now,
    open_six,
    read_batch,
    rows,
    said,
    said_by_rows,
    segment_count,
    store,
    unfolded,
)

UNFINISHED = "SELECT segment_id FROM segment WHERE filled < deals"


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    return await keep_sales(database, workspace)


@pytest.fixture
async def deals(client: httpx.AsyncClient, sales: Pipeline) -> list[str]:
    return await open_six(client)


async def test_a_deal_that_is_written_while_it_is_folded_is_left_unfolded(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
) -> None:
    batch = await read_batch(database, workspace, sales)
    await amended(client, deals[2])
    assert await store(database, workspace, sales, batch) == DEAL_COUNT - 1
    assert await unfolded(database, workspace) == {deals[2]}
    at = now()
    assert await said(client, at) == await said_by_rows(client, database, workspace, at)


async def test_of_two_that_fold_the_same_deals_the_second_takes_none(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
) -> None:
    at = now()
    before = await said(client, at)
    batches = [await read_batch(database, workspace, sales) for _ in range(2)]
    taken = [await store(database, workspace, sales, batch) for batch in batches]
    assert taken == [DEAL_COUNT, 0]
    assert await segment_count(database, workspace) == 1
    assert await said(client, at) == before


async def test_of_two_that_join_the_same_segments_the_second_takes_none(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
) -> None:
    await fold(database, workspace)
    for deal in deals[:4]:
        await amended(client, deal)
    at = now()
    before = await said(client, at)
    batches = [await read_batch(database, workspace, sales) for _ in range(2)]
    taken = [await store(database, workspace, sales, batch) for batch in batches]
    assert taken == [DEAL_COUNT, 0]  # what was left in the segment, with those that were amended
    assert await unfolded(database, workspace) == set()
    assert await said(client, at) == before


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(owner_url))
    yield connection
    await connection.close()


@pytest.fixture
def _slices_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "SLICE", 2)


@dataclass(frozen=True, slots=True)
class Begun:
    """A segment that is filled slice by slice, as the test has it, or no further."""

    database: Database
    workspace: UUID
    batch: Batch
    segment: UUID

    async def take(self, start: int) -> int:
        place = {"workspace": self.workspace, "segment": self.segment}
        work = partial(folding.take, **place, batch=self.batch, start=start)
        return await self.database.write(self.workspace, work, lock=Lock.NONE)

    async def age(self, owner: asyncpg.Connection) -> None:
        """As if whoever began it had been at it for too long to be alive."""
        older = "UPDATE segment SET created_at = created_at - interval '2 minutes'"
        await owner.execute(f"{older} WHERE segment_id = $1", self.segment)


async def begin(database: Database, workspace: UUID, sales: Pipeline) -> Begun:
    """What is to be folded next has its segment, in which no place is taken."""
    batch = await read_batch(database, workspace, sales)
    work = partial(folding.add, workspace=workspace, pipeline_id=sales.pipeline_id, batch=batch)
    segment = await database.write(workspace, work, lock=Lock.NONE)
    assert segment is not None
    return Begun(database, workspace, batch, segment)


async def counted(database: Database, workspace: UUID) -> int:
    """For how many deals do the segments answer, none of which is unfinished?"""
    assert await rows(database, workspace, UNFINISHED) == []
    held = "SELECT deals - length(gone) / 4 FROM segment"
    return sum(await rows(database, workspace, held))


@pytest.mark.usefixtures("_slices_of_two")
@pytest.mark.parametrize("slices", [0, 1, 2])
async def test_what_a_folder_left_that_died_is_waited_for_a_while_and_then_folded_by_others(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
    owner: asyncpg.Connection,
    slices: int,
) -> None:
    at = now()
    before = await said(client, at)
    begun = await begin(database, workspace, sales)
    for number in range(slices):
        assert await begun.take(2 * number) == 2
    assert len(await unfolded(database, workspace)) == DEAL_COUNT - 2 * slices
    assert await said(client, at) == before
    async with database.read(workspace) as connection:
        assert await folding.read_batch(connection, workspace, sales, 1) is None
    assert await fold(database, workspace) == 0
    await begun.age(owner)
    assert await fold(database, workspace) == DEAL_COUNT
    assert await unfolded(database, workspace) == set()
    assert await counted(database, workspace) == DEAL_COUNT
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


async def test_a_folder_that_died_while_it_replaced_a_segment_leaves_each_deal_in_one_of_the_two(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fold(database, workspace)
    for deal in deals[:4]:
        await amended(client, deal)
    at = now()
    before = await said(client, at)
    monkeypatch.setattr(folding, "SLICE", 1)
    begun = await begin(database, workspace, sales)
    ids = begun.batch.before.numbers("opportunity_id")
    places = [str(UUID(bytes=each.tobytes())) for each in ids]
    assert sorted(places) == sorted(deals)
    first = places.index(next(place for place in places if place not in deals[:4]))
    for start in range(first + 1):  # the last of these was in the segment that is replaced
        assert await begun.take(start) == 1
    assert await unfolded(database, workspace) == set(deals[:4]) - set(places[:first])
    assert await said(client, at) == before
    await begun.age(owner)
    assert await fold(database, workspace) == DEAL_COUNT
    assert await segment_count(database, workspace) == 1
    assert await counted(database, workspace) == DEAL_COUNT
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


@pytest.mark.usefixtures("_slices_of_two")
async def test_a_slow_folder_whose_segment_was_replaced_takes_no_more_deals(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = now()
    before = await said(client, at)
    slow = await begin(database, workspace, sales)
    await slow.take(0)
    await slow.age(owner)
    monkeypatch.setattr(folding, "MOST", 2)  # so there is no room for more than it had taken
    assert await fold_deals(database, workspace, "sales", enough=1, batches=1) == 2
    left = await unfolded(database, workspace)
    assert len(left) == DEAL_COUNT - 2
    with pytest.raises(LostRace):
        await slow.take(2)
    assert await unfolded(database, workspace) == left
    assert await said(client, at) == before
    assert await fold(database, workspace) == len(left)
    assert await counted(database, workspace) == DEAL_COUNT
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


@pytest.mark.usefixtures("_slices_of_two")
async def test_a_segment_that_was_filled_further_since_it_was_read_is_not_dropped(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
    owner: asyncpg.Connection,
) -> None:
    at = now()
    before = await said(client, at)
    slow = await begin(database, workspace, sales)
    await slow.take(0)
    await slow.age(owner)
    others = await read_batch(database, workspace, sales)
    assert others.worn == [Filled(slow.segment, 2)]
    await slow.take(2)
    assert await store(database, workspace, sales, others) == DEAL_COUNT - 2  # but what it took
    assert await rows(database, workspace, UNFINISHED) == [slow.segment]
    assert await said(client, at) == before
    assert await slow.take(4) == 0
    assert await unfolded(database, workspace) == set()
    assert await counted(database, workspace) == DEAL_COUNT
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)
