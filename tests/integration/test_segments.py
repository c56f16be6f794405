"""Folding deals into segments changes no figure: whatever is written and folded meanwhile.

That random questions about random pasts are answered so is held in the tests that agree with the
domain (`tests.folded`); here are the promises of folding itself.
"""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from app.domain.access import WHOLE, Principal
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection
from app.domain.measures.sums import Count
from app.domain.pipeline import Pipeline
from app.jobs.fold_segments import fold_all
from app.storage.driver import fetch
from app.storage.engine import Connection, Database, Role, connect_arguments
from app.storage.queries import funnel
from app.storage.queries.question import Asked
from app.storage.segments import columns, folding
from app.storage.segments.columns import Coded
from app.storage.segments.rows import UNFOLDED
from app.storage.segments.stored import EDITION
from tests.conftest import OWNER_URL, at, make_workspace
from tests.deals import DEALS, listed, read
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.idle import scan
from tests.past_deals import insert, past_deal
from tests.segments import (
    DEAL_COUNT,
    OPENED,
    amend,
    amended,
    day,
    fold,
    held_ids,
    keep_sales,
    now,
    open_six,
    rows,
    said,
    said_by_rows,
    segment_count,
    unfolded,
)

LARGEST = Decimal("999999999999999.9999")
COUNTED_IN_SEGMENTS = ("funnel", "snapshot")
"""Metrics of which segments hold all that is asked, the amounts and owners of deals too."""


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    return await keep_sales(database, workspace)


@pytest.fixture
async def deals(client: httpx.AsyncClient, sales: Pipeline) -> list[str]:
    return await open_six(client)


async def test_the_planner_takes_the_deals_that_are_in_no_segment_for_few(owner_url: str) -> None:
    """Else it passes over their index once that has grown, and reads all deals each time."""
    connection = await asyncpg.connect(**connect_arguments(owner_url))

    async def planned(condition: str) -> dict[str, Any]:
        asked = f"EXPLAIN (FORMAT JSON) SELECT FROM opportunity AS o WHERE {condition}"
        plan: dict[str, Any] = json.loads(await connection.fetchval(asked))[0]["Plan"]
        return plan

    try:
        # What the planner expects of a table grows with its pages, whatever they hold.
        of_all, of_unfolded = await planned("TRUE"), await planned(UNFOLDED)
        await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        by_index = await planned(UNFOLDED)  # of an index that holds just those
    finally:
        await connection.close()
    assert of_all["Plan Rows"] > 20
    assert of_unfolded["Plan Rows"] <= of_all["Plan Rows"] // 20
    assert by_index.get("Index Name") == "opportunity_unfolded_ix"


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


async def test_what_only_the_log_tells_of_a_close_is_folded_with_the_rest(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    earlier = now()
    open_then = await said(client, earlier)
    before = now()
    await amended(client, deals[0])
    await move(client, deals[0], "won", occurred_at=before.isoformat())
    untold = "SELECT opportunity_id FROM opportunity WHERE closed_facts = '{}'"
    assert await rows(database, workspace, untold) == [UUID(deals[0])]
    at = now()
    with_row, then = await said(client, at), await said(client, earlier)
    assert then == open_then
    await fold(database, workspace)
    assert await unfolded(database, workspace) == set()
    assert await said(client, earlier) == open_then
    folded = await said(client, at)
    assert with_row == folded == await said_by_rows(client, database, workspace, at)


@pytest.fixture
async def then(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> tuple[datetime, dict[str, Any]]:
    """An instant and what was said of it, before much happened that was folded: deals were amended
    and moved on, one that had been reopened before was won again, and a lost one was reopened.
    """
    await amend(client, deals[1], owner="cleo", probability=0.25, source="fair")
    await amend(client, deals[5], amount=None)
    await move(client, deals[3], "lead")
    at = now()
    before = await said(client, at)
    for number in (2, 5, 0, 1):
        worth = {"amount": f"{number + 1}.5", "currency": "USD"}
        await amend(client, deals[number], amount=worth, source="web", probability=number / 8)
        for owner in ("ben", None, "ada"):
            await amend(client, deals[number], owner=owner, team=owner, priority="high")
    await move(client, deals[0], "talks")
    await move(client, deals[1], "lost", loss_reason="price")
    await amend(client, deals[1], owner="dan")
    await amend(client, deals[3], owner="dan", amount=None)
    await move(client, deals[3], "won")
    await move(client, deals[4], "offer")
    await fold(database, workspace)
    assert await unfolded(database, workspace) == set()
    return at, before


async def test_what_was_changed_since_is_taken_back_without_a_look_at_the_log_of_changes(
    client: httpx.AsyncClient,
    owner_url: str,
    workspace: UUID,
    then: tuple[datetime, dict[str, Any]],
) -> None:
    at, before = then
    assert await said(client, at) == before
    await _as_owner(owner_url, "DELETE FROM opportunity_change WHERE workspace_id = $1", workspace)
    without = await said(client, at)
    for metric in COUNTED_IN_SEGMENTS:
        for grouped in ({}, {"group_by": "owner"}):
            assert without[f"{metric} {grouped}"] == before[f"{metric} {grouped}"]


@pytest.mark.parametrize("older", [True, False], ids=["the version before", "the version after"])
async def test_a_segment_of_another_edition_tells_nothing_wrong(
    client: httpx.AsyncClient,
    database: Database,
    owner_url: str,
    workspace: UUID,
    then: tuple[datetime, dict[str, Any]],
    *,
    older: bool,
) -> None:
    """As one is that a worker of another version has written: its columns have other names."""
    at, before = then
    other = EDITION - 1 if older else EDITION + 1
    for change in (
        f"segment SET edition = {other} WHERE workspace_id = $1",
        "segment_column SET name = name || '?' WHERE workspace_id = $1 AND name NOT LIKE '%_id'",
    ):
        await _as_owner(owner_url, f"UPDATE {change}", workspace)
    assert await said(client, at) == before
    assert await fold(database, workspace) == (DEAL_COUNT if older else 0)
    if older:
        assert await rows(database, workspace, "SELECT edition FROM segment") == [EDITION]
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


async def _as_owner(owner_url: str, statement: str, workspace: UUID) -> None:
    connection = await asyncpg.connect(**connect_arguments(owner_url))
    try:
        assert await connection.execute(statement, workspace) not in ("DELETE 0", "UPDATE 0")
    finally:
        await connection.close()


async def test_a_segment_that_has_lost_more_than_half_of_its_deals_is_written_anew(
    client: httpx.AsyncClient, database: Database, workspace: UUID, deals: list[str]
) -> None:
    await fold(database, workspace)
    for deal in deals[:3]:
        await amended(client, deal)
    await fold(database, workspace)
    assert await segment_count(database, workspace) == 2  # half of them is not more than half
    await amended(client, deals[3])
    at = now()
    before = await said(client, at)
    await fold(database, workspace)
    held = await rows(database, workspace, "SELECT deals - length(gone) / 4 FROM segment")
    assert sum(held) == DEAL_COUNT
    assert await rows(database, workspace, "SELECT deals FROM segment ORDER BY 1") == [3, 3]
    assert await said(client, at) == before == await said_by_rows(client, database, workspace, at)


async def test_many_small_segments_are_joined_into_one_in_which_each_deal_counts_once(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    found = []
    for number in range(folding.TOGETHER):
        await open_deal(client, opened_at=day(number))
        await fold(database, workspace)
        found.append(await segment_count(database, workspace))
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
    assert await segment_count(database, workspace) == len(amounts)
    at = now()
    asked = Asked(workspace, WHOLE, Ranking(sales, sales), Selection(as_of=at), at)
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

    due = {(principal.workspace_id, "sales", False) for principal in (many, bereft)}
    assert await waiting(alone) == due
    assert not await fold_all(alone)  # to which three deals are not enough
    assert erased.bytes not in await held_ids(alone, bereft.workspace_id)
    assert await waiting(alone) == {(many.workspace_id, "sales", False)}


async def test_jobs_go_on_at_once_until_no_segment_is_of_an_earlier_edition(
    alone: Database, own_database: str
) -> None:
    principal, _ = await kept_deals(alone, 3)
    workspace = principal.workspace_id
    await fold(alone, workspace)
    earlier = f"UPDATE segment SET edition = {EDITION - 1} WHERE workspace_id = $1"
    name = urlsplit(own_database).path.removeprefix("/")
    await _as_owner(at(os.environ[OWNER_URL], name), earlier, workspace)
    assert await waiting(alone) == {(workspace, "sales", True)}
    assert await fold_all(alone)
    assert await waiting(alone) == set()
    assert not await fold_all(alone)


async def waiting(database: Database) -> set[folding.Waiting]:
    """Where three unfolded deals are enough."""
    async with database.read(None, role=Role.JOBS) as connection:
        return set(await folding.waiting(connection, 3))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        [None],
        ["", ""],
        ["ada", None, "ben", "ada", "", None],
        ["文", "ÿ", "\x01", "\\xff"],
    ],
)
async def test_texts_come_from_the_database_as_they_are(
    database: Database, workspace: UUID, texts: list[str | None]
) -> None:
    owner = columns.DEALS["owner"]
    relation = "unnest(CAST($1 AS text[])) AS d (by_owner)"
    async with database.read(workspace) as connection:
        (row,) = await fetch(connection, f"SELECT {owner.packed} AS said FROM {relation}", texts)
    column = owner.read(row.said)
    assert isinstance(column, Coded)
    assert [column.meanings[code] for code in column.codes.tolist()] == texts
