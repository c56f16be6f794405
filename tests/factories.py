"""What tests are made of: plain functions that make a pipeline, a deal, a move."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import httpx

from app.domain.business_calendar import BusinessCalendar, Holiday
from app.domain.pipeline import (
    FieldRequirement,
    Flow,
    IdleRule,
    LossReason,
    Pipeline,
    Stage,
    StageKind,
)
from app.domain.working_hours import Span
from app.storage import pipelines
from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id

OFFICE = BusinessCalendar(
    timezone="Europe/Berlin",
    hours=(*((Span(9 * 60, 12 * 60), Span(13 * 60, 17 * 60)),) * 5, (), ()),
    holidays=(Holiday(date(2026, 5, 1)), Holiday(date(2026, 5, 25))),
)
"""Monday to Friday, nine to five with an hour's break, but for two days in May."""

LOSS_REASONS = (LossReason("price", "Price"), LossReason("unknown", "Unknown"))


def stage(key: str, slot: int, kind: StageKind = StageKind.OPEN, **more: Any) -> Stage:
    """A stage named after its key; a lost one has loss reasons."""
    if kind is StageKind.LOST:
        more.setdefault("loss_reasons", LOSS_REASONS)
    return Stage(key=key, name=key.title(), kind=kind, slot=slot, **more)


def sales_pipeline(flow: Flow = Flow.FREE, **rules: IdleRule) -> Pipeline:
    """lead → offer → talks, then won or lost; `parked` is off the path.

    `rules` gives a stage its idle rule: `sales_pipeline(offer=IdleRule(...))`.
    """
    stages = (
        stage("lead", 1),
        stage("offer", 2),
        stage("talks", 3, entry_requirements=()),
        stage("parked", 4, off_path=True),
        stage("won", 5, StageKind.WON),
        stage("lost", 6, StageKind.LOST),
    )
    return Pipeline(
        pipeline_id=new_id(),
        key="sales",
        name="Sales",
        revision=1,
        flow=flow,
        stages=tuple(
            Stage(**{**_fields(s), "idle": rules[s.key]}) if s.key in rules else s for s in stages
        ),
    )


def guarded(pipeline: Pipeline, key: str, *paths: str) -> Pipeline:
    """The pipeline whose stage `key` asks for values at these paths."""
    requirements = tuple(FieldRequirement(path) for path in paths)
    stages = tuple(
        Stage(**{**_fields(s), "entry_requirements": requirements}) if s.key == key else s
        for s in pipeline.stages
    )
    fields = {
        name: getattr(pipeline, name)
        for name in ("pipeline_id", "key", "name", "revision", "flow", "moves")
    }
    return Pipeline(**fields, stages=stages)


def _fields(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in Stage.__dataclass_fields__}


async def keep_pipeline(database: Database, workspace: UUID, pipeline: Pipeline) -> Pipeline:
    """Save the pipeline's first revision."""

    async def work(connection: Connection) -> None:
        await pipelines.save(
            connection, workspace, pipeline, actor="tester", instant=datetime.now(UTC)
        )

    await database.write(workspace, work, lock=Lock.DEFINITIONS)
    return pipeline


async def open_deal(client: httpx.AsyncClient, pipeline: str = "sales", **more: Any) -> Any:
    """A new deal, as the API shows it."""
    answer = await client.post(
        "/v1/opportunities", json={"pipeline": pipeline, "name": "A deal", **more}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def move(client: httpx.AsyncClient, deal_id: str, to_stage: str, **more: Any) -> Any:
    """A move that must succeed; gives the transition and the deal."""
    answer = await client.post(
        f"/v1/opportunities/{deal_id}/transitions", json={"to_stage": to_stage, **more}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()
