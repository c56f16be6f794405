"""A large workspace in the stage's cluster: two years of sales, loaded by COPY as the owner.

Three pipelines of one make share the deals evenly. The rows are made by the parts that live writes
use, and bear what those would have left: the log, facts changed on the way and after a close, the
flags of deals gone quiet. Events alone are missing but for one a pipeline, which is all that a
metric's ETag asks for. Rows lie as an import leaves them: deal by deal, in no order of time.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from random import Random
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.actions import announcements
from app.actions.amend_opportunity import kept_changes
from app.actions.fold_deals import fold_deals
from app.actions.load_demo import KEY, demo_pipeline
from app.actions.specimen import Specimen, specimens
from app.domain import idle_flag, journey, opportunity
from app.domain.idleness import idle_state
from app.domain.journey import Status
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import idle_flags, opportunities, pipelines, transitions
from app.storage.engine import Connection, Database, Lock, connect_arguments
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.statement import execute
from app.storage.tables import opportunity_change
from app.storage.transitions import LogEntry
from bench.retelling import retellings
from bench.stage import Stage

YEARS: Final = 2
KEYS: Final = (KEY, f"{KEY}-2", f"{KEY}-3")
BATCH: Final = 10_000
SEED: Final = 20
WRITERS: Final = 2
"""Processes that load at once; each has a seed of its own, so their number makes the world."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is of something."""

    deals: int
    transitions: int


@dataclass(frozen=True, slots=True)
class World:
    """What was loaded: in the workspace, in the pipeline that is asked about, over which span."""

    pipeline: Pipeline
    whole: Extent
    asked: Extent
    since: datetime
    until: datetime
    folding: float
    """Seconds that it took to fold the deals into segments."""


def load(on: Stage, workspace: UUID, deals: int) -> World:
    """Load so many deals of the last years into the workspace, the same ones each time."""
    until = datetime.now(UTC).replace(microsecond=0)
    since = until - timedelta(days=365 * YEARS)
    made = [replace(demo_pipeline(since), key=key) for key in KEYS]

    async def define(database: Database) -> None:
        async def work(connection: Connection) -> None:
            for pipeline in made:
                await pipelines.save(connection, workspace, pipeline, actor=KEY, instant=since)
                revision = Revision(pipeline, KEY, in_force_at=since, created_at=since)
                told = announcements.pipeline_updated(workspace, revision, None)
                await execute(connection, [told])

        await database.write(workspace, work, lock=Lock.DEFINITIONS)

    on.run(define)

    def share(number: int) -> None:
        random = Random(SEED + number)
        count = (deals + number) // WRITERS
        told = retellings(made[0], count, since=since, until=until, random=random)
        asyncio.run(_copy(on, workspace, ((random.choice(made), tale) for tale in told), until))

    _at_once(share)
    began = perf_counter()
    on.run(partial(_fold, workspace=workspace))
    folding = perf_counter() - began
    whole, asked = asyncio.run(_finish(on, workspace, made[0]))
    return World(made[0], whole, asked, since, until, folding)


async def _fold(database: Database, workspace: UUID) -> None:
    """As the service would do by itself in the minutes after an import."""
    for key in KEYS:
        await fold_deals(database, workspace, key)


def tales(pipeline: Pipeline, count: int, since: datetime, until: datetime) -> Iterator[Specimen]:
    """So many tales as the demo tells them, from the one seed."""
    return specimens(pipeline, count, since=since, until=until, random=Random(SEED))


def _at_once(share: Callable[[int], None]) -> None:
    """Do each writer's share in a process of its own: making rows takes as long as storing them.

    Raises RuntimeError where one failed.
    """
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=share, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if any(writer.exitcode for writer in writers):
        raise RuntimeError("A part of the world could not be loaded.")


@dataclass(slots=True)
class _Rows:
    """A batch of deals, as COPY takes them."""

    deals: list[tuple[Any, ...]] = field(default_factory=list)
    log: list[tuple[Any, ...]] = field(default_factory=list)
    changes: list[tuple[Any, ...]] = field(default_factory=list)
    flags: list[tuple[Any, ...]] = field(default_factory=list)


_TABLES = (
    ("deals", "opportunity", opportunities.COLUMNS),
    ("log", "transition", transitions.COLUMNS),
    ("changes", "opportunity_change", tuple(column.name for column in opportunity_change.c)),
    ("flags", "idle_flag", ("workspace_id", *idle_flags.COLUMNS)),
)


async def _copy(
    on: Stage, workspace: UUID, told: Iterator[tuple[Pipeline, Specimen]], until: datetime
) -> None:
    connection = await asyncpg.connect(**connect_arguments(on.owner_url))
    try:
        while batch := list(islice(told, BATCH)):
            rows = _Rows()
            for pipeline, tale in batch:
                _add(rows, workspace, pipeline, tale, until)
            for name, table, columns in _TABLES:
                await connection.copy_records_to_table(
                    table, columns=columns, records=getattr(rows, name)
                )
    finally:
        await connection.close()


async def _finish(on: Stage, workspace: UUID, pipeline: Pipeline) -> tuple[Extent, Extent]:
    """Leave the tables as autovacuum would, and the disk with nothing left to write.

    How much there is, in the workspace and in the pipeline.
    """
    connection = await asyncpg.connect(**connect_arguments(on.owner_url))
    try:
        await connection.execute("VACUUM ANALYZE")
        # Else a checkpoint goes on for minutes, and the first questions wait for the disk.
        superuser = await asyncpg.connect(**connect_arguments(on.superuser_url))
        await superuser.execute("CHECKPOINT")
        await superuser.close()
        await asyncio.to_thread(os.sync)
        found = await connection.fetchrow(
            """
            SELECT count(*), sum(seq), count(*) FILTER (WHERE asked),
                   sum(seq) FILTER (WHERE asked)
            FROM (SELECT seq, pipeline_id = $2 AS asked FROM opportunity WHERE workspace_id = $1)
            """,
            workspace,
            pipeline.pipeline_id,
        )
    finally:
        await connection.close()
    deals, moves, asked_deals, asked_moves = (int(each or 0) for each in found)
    return Extent(deals, moves), Extent(asked_deals, asked_moves)


def _add(rows: _Rows, workspace: UUID, pipeline: Pipeline, tale: Specimen, until: datetime) -> None:
    deal = _deal(pipeline, tale)
    due, critical_at = deal.idle.goes_idle_at, deal.idle.critical_at
    if due is not None and due <= until:
        flag = idle_flag.raised(deal, pipeline, None, new_id(), due)
        deal = opportunity.flagged(deal, flag.flag_id, due)
        if critical_at is not None and critical_at <= until:  # else the first scan makes it so
            flag = idle_flag.escalated(flag, critical_at)
            deal = opportunity.escalated(deal, critical_at)
        rows.flags.append((workspace, *(getattr(flag, name) for name in idle_flags.COLUMNS)))
    rows.deals.append(opportunities.insert(workspace, deal).args)
    rows.log += _log(workspace, pipeline, deal, tale)
    for change in tale.changes:
        changes = {change.name: (change.old, change.new)}
        actor = deal.facts.owner or KEY
        kept = kept_changes(workspace, deal, changes, change.occurred_at, actor)
        rows.changes += (part.args for part in kept)


def _deal(pipeline: Pipeline, tale: Specimen) -> Opportunity:
    """The deal as its last move left it, and then as it was amended."""
    position = journey.position(pipeline, tale.log)
    earlier = [change for change in tale.changes if change.occurred_at <= position.moved_at]
    facts = replace(tale.facts, **{change.name: change.new for change in earlier})
    idle = idle_state(
        pipeline.by_slot[position.slot],
        facts.priority,
        moved_at=position.moved_at,
        last_activity_at=None,
    )
    deal = Opportunity(
        opportunity_id=new_id(),
        pipeline_id=pipeline.pipeline_id,
        version=len(tale.log) + len(earlier),
        name=tale.name,
        facts=facts,
        position=position,
        idle=idle if position.status is Status.OPEN else replace(idle, goes_idle_at=None),
        created_at=position.opened_at,
        updated_at=position.moved_at,
        tags=tale.tags,
        attributes=tale.attributes,
        expected_close_on=tale.expected_close_on,
        facts_changed_at=max((change.occurred_at for change in earlier), default=None),
    )
    for change in tale.changes[len(earlier) :]:
        facts = replace(deal.facts, **{change.name: change.new})
        deal, _ = opportunity.amended(deal, pipeline, change.occurred_at, facts=facts)
    return deal


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
            actor=move.facts.owner or KEY,
        )
        yield transitions.append(workspace, entry).args
