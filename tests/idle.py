"""What the tests of idle deals share: a pipeline with rules, a scan, a look at flags and events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from app.actions.open_opportunity import NewDeal, opening
from app.domain.access import Principal
from app.domain.journey import Facts
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline
from app.storage import bulk
from app.storage.engine import Connection, Database
from tests.factories import sales_pipeline
from tests.feed import events_so_far

WEEK = Period(days=7)
NOW = datetime.now(UTC)


def ago(**length: float) -> str:
    """That long before the tests began, as the API writes it."""
    return (NOW - timedelta(**length)).isoformat().replace("+00:00", "Z")


def watched_pipeline() -> Pipeline:
    """A week in `lead`, but by priority; a week of silence in `offer`; a day in `talks`."""
    return sales_pipeline(
        lead=IdleRule(after=WEEK, after_by_priority={"high": Period(days=2), "low": None}),
        offer=IdleRule(clock=IdleClock.INACTIVITY, after=WEEK),
        talks=IdleRule(after=Period(days=1)),
    )


async def scan(client: httpx.AsyncClient) -> int:
    """Scan now; how many flags that opened."""
    answer = await client.post("/v1/idle-scans")
    assert answer.status_code == 200, answer.text
    return answer.json()["flagged"]


async def flags(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """Flags that pass the filters."""
    answer = await client.get("/v1/idle-flags", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def only_flag(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    """The one flag that passes the filters."""
    (flag,) = await flags(client, **query)
    return flag


async def let_snooze_end(database: Database, principal: Principal, deal_id: str) -> None:
    """Put the end of the deal's snooze into the past, as if the time had gone by."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            "UPDATE opportunity SET snoozed_until = clock_timestamp(), "
            "goes_idle_at = clock_timestamp(), critical_at = "
            "CASE WHEN critical_at = goes_idle_at THEN clock_timestamp() ELSE critical_at END "
            "WHERE workspace_id = $1 AND opportunity_id = $2",
            principal.workspace_id,
            deal_id,
        )

    await database.write(principal.workspace_id, work)


async def told(
    database: Database, client: httpx.AsyncClient, *types: str
) -> list[tuple[str, dict[str, Any]]]:
    """The events of these types, each with its data."""
    feed = await events_so_far(database, client, types=types)
    return [(event["type"], event["data"]) for event in feed]


async def open_deals(
    database: Database, principal: Principal, pipeline: Pipeline, count: int, opened_at: datetime
) -> None:
    """So many deals opened at that instant, in one transaction."""
    new = NewDeal(
        pipeline=pipeline.key, name="A deal", facts=Facts(), opened_at=opened_at, attributes={}
    )

    async def work(connection: Connection) -> None:
        opened = [
            opening(principal.workspace_id, pipeline, new, datetime.now(UTC), actor="tester")[1]
            for _ in range(count)
        ]
        # Thousands one by one would hold back, for seconds, whoever reads a feed in this cluster.
        for alike in zip(*opened, strict=True):
            await bulk.execute(connection, alike)

    await database.write(principal.workspace_id, work)
