"""An erased deal leaves metrics at once, and every segment that held it with the next folding."""

import asyncio
from uuid import UUID

import httpx
import pytest

from app.actions.fold_deals import fold_deals
from app.domain.errors import DatabaseUnavailable
from app.domain.pipeline import Pipeline
from app.jobs import scheduler
from app.storage.engine import Connection, Database
from app.storage.segments import folding
from tests.segments import (
    DEAL_COUNT,
    amended,
    drop_segments,
    erase,
    fold,
    held_ids,
    keep_sales,
    now,
    open_six,
    read_batch,
    rows,
    said,
    said_by_rows,
    segment_count,
    store,
)


@pytest.fixture(autouse=True)
def _folded_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service, which tidies up after erasures by itself, folds nothing meanwhile."""

    async def fold_nothing(database: Database) -> bool:
        return False

    monkeypatch.setattr(scheduler, "fold_all", fold_nothing)


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    return await keep_sales(database, workspace)


@pytest.fixture
async def deals(client: httpx.AsyncClient, sales: Pipeline) -> list[str]:
    return await open_six(client)


async def test_an_erased_deal_leaves_metrics_at_once_and_its_segment_with_the_next_folding(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    await erase(client, deals[3])
    assert await rows(database, workspace, "SELECT holds_erased FROM segment") == [True]
    at = now()
    at_once = await said(client, at)
    assert at_once["funnel {}"]["total"]["stages"][0]["reached"] == DEAL_COUNT - 1
    await fold(database, workspace)
    assert await rows(database, workspace, "SELECT holds_erased FROM segment") == [False]
    held = await held_ids(database, workspace)
    assert [UUID(deal).bytes in held for deal in deals] == [True] * 3 + [False] + [True] * 2
    assert await said(client, at) == at_once
    assert at_once == await said_by_rows(client, database, workspace, at)


async def test_an_erased_deal_is_forgotten_before_segments_are_joined_that_are_worn_again_and_again(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    deals: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folding, "MOST", 3)
    await fold(database, workspace)
    assert await segment_count(database, workspace) == 2
    for deal in deals[:2]:
        await amended(client, deal)
    await erase(client, deals[3])
    monkeypatch.setattr(folding, "MOST", 2)  # no room for what is left in both
    assert await fold_deals(database, workspace, "sales", enough=1, batches=1) == 2
    assert UUID(deals[3]).bytes not in await held_ids(database, workspace)


async def test_a_deal_that_is_erased_while_it_is_folded_is_forgotten_by_the_next_folding(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
) -> None:
    batch = await read_batch(database, workspace, sales)
    await erase(client, deals[3])
    assert await store(database, workspace, sales, batch) == DEAL_COUNT - 1
    assert await rows(database, workspace, "SELECT holds_erased FROM segment") == [True]
    at = now()
    before = await said(client, at)
    await fold(database, workspace)
    assert UUID(deals[3]).bytes not in await held_ids(database, workspace)
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


async def test_a_deal_that_is_just_being_erased_is_waited_for_and_forgotten(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
) -> None:
    batch = await read_batch(database, workspace, sales)
    await amended(client, deals[0])  # so its row is not the one to be taken
    erased, enough = asyncio.Event(), asyncio.Event()

    async def forget(connection: Connection) -> None:
        await connection.execute("SELECT erase_opportunity($1)", UUID(deals[0]))
        erased.set()
        await enough.wait()

    async def is_waiting() -> bool:
        blocked = "datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        found = f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {blocked})"
        return bool((await rows(database, workspace, found))[0])

    erasing = asyncio.create_task(database.write(workspace, forget))
    await erased.wait()
    try:
        for _ in range(5):  # for so long the server lets an erasing stand idle
            storing = asyncio.create_task(store(database, workspace, sales, batch))
            while not (storing.done() or await is_waiting()):
                pass
            if not storing.done():
                break
            with pytest.raises(DatabaseUnavailable):  # it had waited while nobody looked
                await storing
            await database.write(workspace, drop_segments)
    finally:
        enough.set()
        await erasing
    assert await storing == DEAL_COUNT - 1
    assert await rows(database, workspace, "SELECT holds_erased FROM segment") == [True]


async def test_a_segment_of_which_all_deals_are_erased_is_no_more(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    for deal in deals:
        await erase(client, deal)
    at = now()
    assert (await said(client, at))["funnel {}"]["total"]["stages"][0]["reached"] == 0
    await fold(database, workspace)
    assert await segment_count(database, workspace) == 0
    assert await rows(database, workspace, "SELECT name FROM segment_column") == []


async def test_a_segment_that_held_an_erased_deal_at_an_earlier_version_forgets_it_too(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    await amended(client, deals[0])
    await fold(database, workspace)
    assert (await held_ids(database, workspace)).count(UUID(deals[0]).bytes) == 2
    await erase(client, deals[0])
    await fold(database, workspace)
    assert UUID(deals[0]).bytes not in await held_ids(database, workspace)


async def test_a_segment_in_which_an_erased_deal_had_found_no_place_forgets_it_too(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    sales: Pipeline,
    deals: list[str],
) -> None:
    batch = await read_batch(database, workspace, sales)
    await amended(client, deals[0])
    await store(database, workspace, sales, batch)
    assert UUID(deals[0]).bytes in await held_ids(database, workspace)
    await erase(client, deals[0])
    await fold(database, workspace)
    assert UUID(deals[0]).bytes not in await held_ids(database, workspace)
