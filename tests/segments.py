"""What the tests of segments share: six deals, folding them, and what is told of them since."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx
from sqlalchemy import text

from app.actions import fold_deals as folding_action
from app.actions.fold_deals import fold_deals
from app.domain.period import Period
from app.domain.pipeline import IdleRule, Pipeline
from app.storage.engine import Connection, Database
from app.storage.segments import folding
from app.storage.segments.folding import Batch
from tests.deals import DEALS
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.integration.test_metrics_api import METRICS

OPENED: Final = datetime.now(UTC) - timedelta(days=20)
DEAL_COUNT: Final = 6


def day(number: float) -> str:
    return (OPENED + timedelta(days=number)).isoformat()


async def keep_sales(database: Database, workspace: UUID) -> Pipeline:
    """lead → offer → talks, where a deal is idle after three days in offer."""
    rule = IdleRule(after=Period(days=3))
    return await keep_pipeline(database, workspace, sales_pipeline(offer=rule))


async def open_six(client: httpx.AsyncClient) -> list[str]:
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


async def drop_segments(connection: Connection) -> None:
    await connection.execute("DELETE FROM segment_column")
    await connection.execute("DELETE FROM segment")


async def said_by_rows(
    client: httpx.AsyncClient, database: Database, workspace: UUID, at: datetime
) -> dict[str, Any]:
    """What metrics say when there are no segments."""

    async def unfold(connection: Connection) -> None:
        await drop_segments(connection)
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


async def segment_count(database: Database, workspace: UUID) -> int:
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


async def amended(client: httpx.AsyncClient, deal_id: str) -> None:
    await amend(client, deal_id, owner="ben", amount={"amount": "7", "currency": "USD"})
