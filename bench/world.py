"""A large pipeline in the stage's cluster: the demo's tales, loaded by COPY as the owner.

The rows are made by the parts that live writes use, but for their events: of those there is one,
which is all that a metric's ETag asks for.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.actions import announcements
from app.actions.load_demo import KEY, demo_pipeline
from app.actions.specimen import Specimen, specimens
from app.domain import journey
from app.domain.idleness import idle_state
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import opportunities, pipelines, transitions
from app.storage.engine import Connection, Database, Lock, connect_arguments
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.statement import execute
from app.storage.transitions import LogEntry
from bench.stage import Stage

YEARS: Final = 3
MOST_TALES: Final = 50_000
"""More deals than these live through the same tales again, under ids of their own."""
BATCH: Final = 10_000
SEED: Final = 20


@dataclass(frozen=True, slots=True)
class World:
    """What was loaded: the pipeline, how many deals and transitions, over which span."""

    pipeline: Pipeline
    deals: int
    transitions: int
    since: datetime
    until: datetime


def load(on: Stage, workspace: UUID, deals: int) -> World:
    """Load so many deals of the last years into the workspace."""
    until = datetime.now(UTC).replace(microsecond=0)
    since = until - timedelta(days=365 * YEARS)
    pipeline = demo_pipeline(since)

    async def define(database: Database) -> None:
        async def work(connection: Connection) -> None:
            await pipelines.save(connection, workspace, pipeline, actor=KEY, instant=since)
            made = Revision(pipeline, KEY, in_force_at=since, created_at=since)
            await execute(connection, [announcements.pipeline_updated(workspace, made, None)])

        await database.write(workspace, work, lock=Lock.DEFINITIONS)

    on.run(define)
    told = tales(pipeline, deals, since, until)
    moves = asyncio.run(_copy(on, workspace, pipeline, told))
    return World(pipeline, deals, moves, since, until)


def tales(pipeline: Pipeline, count: int, since: datetime, until: datetime) -> Iterator[Specimen]:
    """So many tales, from the one seed."""
    some = min(count, MOST_TALES)
    told = specimens(pipeline, some, since=since, until=until, random=Random(SEED))
    return islice(told if count == some else cycle(told), count)


async def _copy(on: Stage, workspace: UUID, pipeline: Pipeline, told: Iterator[Specimen]) -> int:
    moves = 0
    connection = await asyncpg.connect(**connect_arguments(on.owner_url))
    try:
        while batch := list(islice(told, BATCH)):
            deals: list[tuple[Any, ...]] = []
            log: list[tuple[Any, ...]] = []
            for tale in batch:
                deal = _deal(pipeline, tale)
                deals.append(opportunities.insert(workspace, deal).args)
                log += _log(workspace, pipeline, deal, tale)
            await connection.copy_records_to_table(
                "opportunity", columns=opportunities.COLUMNS, records=deals
            )
            await connection.copy_records_to_table(
                "transition", columns=transitions.COLUMNS, records=log
            )
            moves += len(log)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return moves


def _deal(pipeline: Pipeline, tale: Specimen) -> Opportunity:
    position = journey.position(pipeline, tale.log)
    last = tale.log[-1].facts
    return Opportunity(
        opportunity_id=new_id(),
        pipeline_id=pipeline.pipeline_id,
        version=len(tale.log),
        name=tale.name,
        facts=journey.Facts(
            amount=last.amount,
            currency=last.currency,
            owner=last.owner,
            team=last.team,
            source=last.source,
            priority=last.priority,
        ),
        position=position,
        idle=idle_state(
            pipeline.by_slot[position.slot],
            last.priority,
            moved_at=position.moved_at,
            last_activity_at=None,
        ),
        created_at=position.opened_at,
        updated_at=position.moved_at,
        tags=tale.tags,
        attributes=tale.attributes,
        expected_close_on=tale.expected_close_on,
    )


def _log(
    workspace: UUID, pipeline: Pipeline, deal: Opportunity, tale: Specimen
) -> Iterator[tuple[Any, ...]]:
    for move in tale.log:
        origin = None if move.from_slot is None else pipeline.by_slot[move.from_slot].name
        entry = LogEntry(
            transition=move,
            transition_id=new_id(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=pipeline.pipeline_id,
            revision=pipeline.revision,
            from_name=origin,
            to_name=pipeline.by_slot[move.to_slot].name,
            recorded_at=move.occurred_at,
            actor=KEY,
        )
        yield transitions.append(workspace, entry).args
