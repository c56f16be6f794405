"""Folding deals into segments changes no figure: whatever is written, folded or erased meanwhile.

That random questions about random pasts are answered so is held in the tests that agree with the
domain (`tests.folded`); here are the promises of folding itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.actions import fold_deals as folding_action
from app.actions.fold_deals import fold_deals
from app.domain.access import Principal
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection
from app.domain.measures.sums import Count
from app.domain.period import Period
from app.domain.pipeline import IdleRule, Pipeline
from app.jobs.fold_segments import fold_all
from app.storage.engine import Connection, Database, Role
from app.storage.queries import funnel
from app.storage.queries.question import Asked
from app.storage.segments import folding
from app.storage.segments.folding import Batch
from tests.conftest import make_workspace
from tests.deals import DEALS, listed, read
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import scan
from tests.integration.test_metrics_api import METRICS
from tests.past_deals import insert, past_deal

OPENED = datetime.now(UTC) - timedelta(days=20)
DEAL_COUNT = 6
LARGEST = Decimal("999999999999999.9999")


def day(number: float) -> str:
    return (OPENED + timedelta(days=number)).isoformat()


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    """lead → offer → talks, where a deal is idle after three days in offer."""
    rule = IdleRule(after=Period(days=3))
    return await keep_pipeline(database, workspace, sales_pipeline(offer=rule))


@pytest.fixture
async def deals(client: httpx.AsyncClient, sales: Pipeline) -> list[str]:
    """Six deals: two in offer, one in talks, one won, one lost, one in lead."""
    ids = []
    ways: Sequence[Sequence[str]] = (
        ("offer",),
        ("offer",),
        ("offer", "talks"),
        ("offer", "won"),
        ("talks", "lost"),
        (),
    )
    for number, way in enumerate(ways):
        worth = {"amount": f"{100 + number}.25", "currency": "EUR"}
        deal = await open_deal(client, owner="ada", amount=worth, opened_at=day(number))
        for later, stage in enumerate(way, start=1):
            reason = {"loss_reason": "price"} if stage == "lost" else {}
            instant = day(number + later)
            await move(client, deal["id"], stage, occurred_at=instant, **reason)
        ids.append(deal["id"])
    return ids


async def fold(database: Database, workspace: UUID) -> int:
    return await fold_deals(database, workspace, "sales", enough=1)


def now() -> datetime:
    """All that has been written counts, and most rows answer for it."""
    return datetime.now(UTC)


async def said(client: httpx.AsyncClient, at: datetime) -> dict[str, Any]:
    """All metrics at that instant, in whole and by owner."""
    found = {}
    for metric, needed in METRICS.items():
        for grouped in ({}, {"group_by": "owner"}):
            query = {**needed, **grouped, "as_of": at.isoformat()}
            answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=query)
            assert answer.status_code == 200, answer.text
            found[f"{metric} {grouped}"] = answer.json()
    return found


async def said_by_rows(
    client: httpx.AsyncClient, database: Database, workspace: UUID, at: datetime
) -> dict[str, Any]:
    """What metrics say when there are no segments."""

    async def unfold(connection: Connection) -> None:
        await connection.execute("DELETE FROM segment_column")
        await connection.execute("DELETE FROM segment")
        await connection.execute("UPDATE opportunity SET segment_id = NULL, segment_version = NULL")

    await database.write(workspace, unfold)
    return await said(client, at)


async def rows(database: Database, workspace: UUID, sql: str) -> list[Any]:
    async with database.read(workspace) as connection:
        return [row[0] for row in await connection.execute(text(sql))]


async def unfolded(database: Database, workspace: UUID) -> set[str]:
    condition = "segment_version IS DISTINCT FROM version"
    found = await rows(
        database, workspace, f"SELECT opportunity_id FROM opportunity WHERE {condition}"
    )
    return {str(each) for each in found}


async def segments(database: Database, workspace: UUID) -> int:
    return len(await rows(database, workspace, "SELECT segment_id FROM segment"))


async def held_ids(database: Database, workspace: UUID) -> bytes:
    """The ids of all deals of which a segment tells."""
    named = "SELECT data FROM segment_column WHERE name = 'deal.opportunity_id'"
    return b"".join(await rows(database, workspace, named))


async def read_batch(database: Database, workspace: UUID, pipeline: Pipeline) -> Batch:
    async with database.read(workspace) as connection:
        batch = await folding.read_batch(connection, workspace, pipeline, 1)
    assert batch is not None
    return batch


async def store(database: Database, workspace: UUID, pipeline: Pipeline, batch: Batch) -> int:
    return await folding_action.store(database, workspace, pipeline.pipeline_id, batch)


async def amend(client: httpx.AsyncClient, deal_id: str, **facts: Any) -> None:
    answer = await client.patch(f"{DEALS}/{deal_id}", json=facts, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text


async def erase(client: httpx.AsyncClient, deal_id: str) -> None:
    answer = await client.delete(f"{DEALS}/{deal_id}", headers={"If-Match": "*"})
    assert answer.status_code == 204, answer.text


async def test_folding_changes_no_figure_and_no_version(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    at = now()
    before, shown = await said(client, at), [await read(client, deal) for deal in deals]
    assert await fold(database, workspace) == DEAL_COUNT
    assert await unfolded(database, workspace) == set()
    assert await said(client, at) == before
    assert [await read(client, deal) for deal in deals] == shown
    assert await fold(database, workspace) == 0


async def moved(client: httpx.AsyncClient, deal_id: str) -> None:
    await move(client, deal_id, "talks")


async def lost(client: httpx.AsyncClient, deal_id: str) -> None:
    await move(client, deal_id, "lost", loss_reason="price")


async def amended(client: httpx.AsyncClient, deal_id: str) -> None:
    await amend(client, deal_id, owner="ben", amount={"amount": "7", "currency": "USD"})


async def voided(client: httpx.AsyncClient, deal_id: str) -> None:
    log = await client.get(f"{DEALS}/{deal_id}/transitions")
    last = max(log.json()["items"], key=lambda transition: transition["seq"])
    answer = await client.post(f"/v1/transitions/{last['id']}/void", json={"reason": "a slip"})
    assert answer.status_code == 200, answer.text


async def flagged(client: httpx.AsyncClient, deal_id: str) -> None:
    await amend(client, deal_id, priority="high")
    assert await scan(client) == 2  # the other deal in offer too


@pytest.mark.parametrize("write", [moved, lost, amended, voided, flagged])
async def test_a_deal_that_is_written_is_answered_for_by_its_row_again_and_counted_once(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    deals: list[str],
    write: Callable[[httpx.AsyncClient, str], Awaitable[None]],
) -> None:
    await fold(database, workspace)
    await write(client, deals[0])
    expected = {deals[0], deals[1]} if write is flagged else {deals[0]}
    assert await unfolded(database, workspace) == expected
    at = now()
    with_segments = await said(client, at)
    assert with_segments["funnel {}"]["total"]["stages"][0]["reached"] == DEAL_COUNT
    assert await fold(database, workspace) == len(expected)
    folded_again = await said(client, at)
    assert with_segments == folded_again == await said_by_rows(client, database, workspace, at)


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
    assert await segments(database, workspace) == 1
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
    assert taken == [2, 0]  # those that nobody has amended
    assert await unfolded(database, workspace) == set(deals[:4])
    assert await said(client, at) == before


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
    storing = asyncio.create_task(store(database, workspace, sales, batch))
    try:
        async with asyncio.timeout(1.5):  # a lock is waited for no longer than two seconds
            while not await is_waiting():
                pass
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
    assert await segments(database, workspace) == 0
    assert await rows(database, workspace, "SELECT name FROM segment_column") == []


async def test_a_segment_that_has_lost_more_than_half_of_its_deals_is_written_anew(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    for deal in deals[:3]:
        await amended(client, deal)
    await fold(database, workspace)
    assert await segments(database, workspace) == 2  # half of them is not more than half
    await amended(client, deals[3])
    at = now()
    before = await said(client, at)
    await fold(database, workspace)
    held = await rows(database, workspace, "SELECT deals - length(gone) / 4 FROM segment")
    assert sum(held) == DEAL_COUNT
    assert await rows(database, workspace, "SELECT deals FROM segment ORDER BY 1") == [1, 2, 3]
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


async def test_many_small_segments_are_joined_into_one_in_which_each_deal_counts_once(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    found = []
    for number in range(folding.TOGETHER):
        await open_deal(client, opened_at=day(number))
        await fold(database, workspace)
        found.append(await segments(database, workspace))
    assert found == [*range(1, folding.TOGETHER), 1]
    assert len(await held_ids(database, workspace)) == 16 * folding.TOGETHER
    at = now()
    joined = await said(client, at)
    assert joined["funnel {}"]["total"]["stages"][0]["reached"] == folding.TOGETHER
    assert joined == await said_by_rows(client, database, workspace, at)


async def test_the_largest_amounts_are_added_up_exactly_over_segments(
    database: Database, workspace: UUID, sales: Pipeline
) -> None:
    amounts = [LARGEST, Decimal("0.0001"), LARGEST, Decimal(0), None, LARGEST]
    for amount in amounts:
        deal = past_deal(sales, [("lead", OPENED)], amount=amount, currency="EUR")
        await insert(database, workspace, sales, [deal])
        await fold(database, workspace)
    assert await segments(database, workspace) == len(amounts)
    at = now()
    asked = Asked(workspace, Ranking(sales, sales), Selection(as_of=at), at)
    async with database.read(workspace) as connection:
        (tallies,) = (await funnel.tallies(connection, asked, grouped=False)).values()
    (tally,) = tallies
    assert tally.count == Count(len(amounts), {"EUR": Decimal("2999999999999999.9998")})


async def test_no_other_workspace_sees_what_is_folded(
    database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    other, _ = await make_workspace(database)
    for table in ("segment", "segment_column"):
        count = f"SELECT count(*) FROM {table} WHERE workspace_id = '{workspace}'"
        assert (await rows(database, workspace, count))[0] > 0
        assert await rows(database, other.workspace_id, count) == [0]
        async with database.read(None) as outside:
            assert (await outside.execute(text(count))).scalar_one() == 0


async def test_what_is_folded_is_still_found_and_listed(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    before = await listed(client, pipeline="sales")
    await fold(database, workspace)
    assert await listed(client, pipeline="sales") == before


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[Database]:
    """A database in which nothing waits but what this test has made."""
    opened = await Database.open(own_database)
    yield opened
    await opened.close()


async def kept_deals(database: Database, count: int) -> tuple[Principal, list[UUID]]:
    """A workspace whose pipeline has so many deals."""
    principal, _ = await make_workspace(database)
    pipeline = await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    deals = [past_deal(pipeline, [("lead", OPENED)]) for _ in range(count)]
    await insert(database, principal.workspace_id, pipeline, deals)
    return principal, [deal.opportunity_id for deal in deals]


async def test_jobs_fold_where_enough_deals_are_unfolded_or_one_was_erased_and_nowhere_else(
    alone: Database,
) -> None:
    many, _ = await kept_deals(alone, 3)
    await kept_deals(alone, 2)
    folded, _ = await kept_deals(alone, 3)
    bereft, (erased, *_) = await kept_deals(alone, 3)
    for principal in (folded, bereft):
        await fold(alone, principal.workspace_id)

    async def forget(connection: Connection) -> None:
        await connection.execute("SELECT erase_opportunity($1)", erased)

    await alone.write(bereft.workspace_id, forget)

    async def waiting() -> set[tuple[UUID, str]]:
        async with alone.read(None, role=Role.JOBS) as connection:
            return set(await folding.waiting(connection, 3))

    assert await waiting() == {(many.workspace_id, "sales"), (bereft.workspace_id, "sales")}
    await fold_all(alone)  # to which three deals are not enough
    assert erased.bytes not in await held_ids(alone, bereft.workspace_id)
    assert await waiting() == {(many.workspace_id, "sales")}
