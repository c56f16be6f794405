"""What the tests of the digest share: two pipelines, the day, and how a digest is read."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import httpx

from app.domain.period import Period
from app.domain.pipeline import IdleRule, LossReason
from app.storage.engine import Connection, Database
from tests.deals import DEALS
from tests.factories import keep_pipeline, sales_pipeline
from tests.idle import NOW, WEEK, ago

TODAY = NOW.date()
"""In UTC; asked for by name, so that a test that runs past midnight asks for the same day."""
MIDNIGHT = datetime.combine(TODAY, time(), UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
SECTIONS = (
    *("newly_idle", "about_to_be_idle", "follow_ups_due", "next_steps_due", "moves"),
    "past_expected_close",
)


def written(instant: datetime) -> str:
    """As the API writes it."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def keep_pipelines(database: Database, workspace: UUID) -> None:
    """Two pipelines: in `lead` a week until idle, and follow-ups every three days in `offer`."""
    pipeline = sales_pipeline(lead=IdleRule(after=WEEK, critical_after=Period(days=20)))
    more = {
        "offer": {"follow_up_every": Period(days=3)},
        "lost": {"loss_reasons": (LossReason("price", "Price"),)},
    }
    stages = tuple(replace(stage, **more.get(stage.key, {})) for stage in pipeline.stages)
    for key, timezone in (("sales", "UTC"), ("renewals", "Europe/Berlin")):
        kept = replace(
            pipeline,
            pipeline_id=sales_pipeline().pipeline_id,
            key=key,
            timezone=timezone,
            stages=stages,
        )
        await keep_pipeline(database, workspace, kept)


async def digest(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/v1/digest", params={"on": TODAY, **query})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def as_if_seen_at_once(database: Database, workspace: UUID) -> None:
    """As if every deal had been flagged at the instant at which it fell idle."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            "UPDATE idle_flag SET opened_at = idle_since WHERE workspace_id = $1", workspace
        )

    await database.write(workspace, work)


def deals_in(section: dict[str, Any]) -> list[str]:
    return [item["opportunity"]["id"] for item in section["items"]]


async def plan(client: httpx.AsyncClient, deal: dict[str, Any], at: datetime, what: str) -> None:
    done = {"kind": "note", "occurred_at": ago(days=8), "next_step": what}
    answer = await client.post(
        f"{DEALS}/{deal['id']}/activities", json={**done, "next_step_at": written(at)}
    )
    assert answer.status_code == 201, answer.text
