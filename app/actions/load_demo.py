"""A demo pipeline with a year of deals, for a workspace that has no pipeline: as if the service
had been in use since then.

The pipeline is made from a built-in template, in force since the first day. Every deal goes through
`domain.opportunity` move by move, so its row, its idle clock, its log and its events are those that
live moves would have left. Deals that have gone quiet are flagged by the next scan, as any others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from random import Random
from typing import Final
from uuid import UUID

from app.actions import announcements, audit_entries
from app.actions.amend_opportunity import kept_changes
from app.actions.specimen import Specimen, specimens
from app.domain import opportunity
from app.domain.definition import begin
from app.domain.history import Change
from app.domain.journey import Transition
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.domain.templates import templates
from app.storage import bulk, opportunities, pipelines, transitions
from app.storage.engine import JOB, Connection, Database, Lock
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.statement import Part, execute
from app.storage.transitions import LogEntry

KEY: Final = "demo"
TEMPLATE: Final = "software"
ACTOR: Final = "demo"
DEALS: Final = 400
SEED: Final = 20
SPAN: Final = timedelta(days=365)
BATCH: Final = 1000
"""Deals a transaction: one that takes long holds back the feed of every workspace."""


async def load_demo(
    database: Database, workspace: UUID, *, deals: int = DEALS, seed: int = SEED
) -> int:
    """Load so many deals of the last year, unless there is a pipeline; how many were loaded.

    The pipeline comes with the first batch, in one transaction: two loads at once make one demo.
    """

    async def begin_demo(connection: Connection) -> tuple[Iterator[Histories], int]:
        if await pipelines.any_there(connection, workspace):
            return iter(()), 0
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        pipeline = demo_pipeline(now - SPAN)
        random = Random(seed)  # noqa: S311 - tales, no secrets
        told = specimens(pipeline, deals, since=now - SPAN, until=now, random=random)
        await _save(connection, workspace, pipeline, now - SPAN)
        batches = in_batches(workspace, pipeline, told)
        return batches, await _add(next(batches), connection)

    batches, loaded = await database.write(
        workspace, begin_demo, lock=Lock.DEFINITIONS, timeouts=JOB
    )
    for batch in batches:
        loaded += await database.write(workspace, partial(_add, batch), timeouts=JOB)
    return loaded


def demo_pipeline(since: datetime) -> Pipeline:
    """The pipeline of the demo, in force since then."""
    template = next(t for t in templates("en") if t.key == TEMPLATE)
    return begin(template.definition(KEY), new_id(), since)


@dataclass(slots=True)
class Histories:
    """What deals leave in the database, as the parts of the statements that write it."""

    deals: list[Part] = field(default_factory=list)
    log: list[Part] = field(default_factory=list)
    changes: list[Part] = field(default_factory=list)
    events: list[tuple[datetime, Part]] = field(default_factory=list)
    """Each with the instant at which it was told."""


def in_batches(
    workspace: UUID, pipeline: Pipeline, tales: Iterable[Specimen]
) -> Iterator[Histories]:
    """The histories of these deals, `BATCH` of them at a time."""
    remaining = iter(tales)
    while batch := list(islice(remaining, BATCH)):
        written = Histories()
        for tale in batch:
            _Life(workspace, pipeline, written).live(tale)
        yield written


class _Life:
    """One deal while it lives through its tale; what it leaves is added to `written`."""

    def __init__(self, workspace: UUID, pipeline: Pipeline, written: Histories) -> None:
        self._workspace, self._pipeline, self._written = workspace, pipeline, written

    def live(self, tale: Specimen) -> None:
        opening, *moves = tale.log
        deal = self._opened(tale, opening)
        changes = iter(tale.changes)
        change = next(changes, None)
        for move in moves:
            while change is not None and change.occurred_at <= move.occurred_at:
                deal = self._changed(deal, change)
                change = next(changes, None)
            deal = self._moved(deal, move)
        self._written.deals.append(opportunities.insert(self._workspace, deal))

    def _opened(self, tale: Specimen, opening: Transition) -> Opportunity:
        deal = opportunity.opened(
            self._pipeline,
            opening,
            opening.occurred_at,
            opportunity_id=new_id(),
            name=tale.name,
            facts=tale.facts,
            tags=tale.tags,
            attributes=dict(tale.attributes),
            expected_close_on=tale.expected_close_on,
        )
        self._logged(deal, opening, from_name=None)
        told = announcements.created(self._workspace, deal, self._pipeline)
        self._written.events.append((opening.occurred_at, told))
        return deal

    def _moved(self, before: Opportunity, move: Transition) -> Opportunity:
        deal, _ = opportunity.moved(before, self._pipeline, move, move.occurred_at)
        entry = self._logged(deal, move, self._pipeline.by_slot[before.position.slot].name)
        told = announcements.transitioned(self._workspace, deal, entry, self._pipeline)
        self._written.events.append((move.occurred_at, told))
        return deal

    def _changed(self, before: Opportunity, change: Change) -> Opportunity:
        at = change.occurred_at
        facts = replace(before.facts, **{change.name: change.new})
        deal, _ = opportunity.amended(before, self._pipeline, at, facts=facts)
        changes = {change.name: (change.old, change.new)}
        actor = deal.facts.owner or ACTOR
        self._written.changes += kept_changes(self._workspace, deal, changes, at, actor)
        told = announcements.updated(self._workspace, deal, self._pipeline, changes, at)
        self._written.events.append((at, told))
        return deal

    def _logged(self, deal: Opportunity, move: Transition, from_name: str | None) -> LogEntry:
        entry = LogEntry(
            transition=move,
            transition_id=new_id(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=self._pipeline.pipeline_id,
            revision=self._pipeline.revision,
            from_name=from_name,
            to_name=self._pipeline.by_slot[move.to_slot].name,
            recorded_at=move.occurred_at,
            actor=move.facts.owner or ACTOR,
        )
        self._written.log.append(transitions.append(self._workspace, entry))
        return entry


async def _save(
    connection: Connection, workspace: UUID, pipeline: Pipeline, since: datetime
) -> None:
    await pipelines.save(connection, workspace, pipeline, actor=ACTOR, instant=since)
    made = Revision(pipeline, ACTOR, in_force_at=since, created_at=since)
    told = announcements.pipeline_updated(workspace, made, None)
    noted = audit_entries.pipeline_changed(workspace, ACTOR, None, pipeline)
    await execute(connection, [told, noted])


async def _add(written: Histories, connection: Connection) -> int:
    """Write the histories of a batch; how many deals they are of. Events go in by time."""
    told = [part for _, part in sorted(written.events, key=lambda event: event[0])]
    for parts in (written.deals, written.log, written.changes, told):
        await bulk.execute(connection, parts)
    return len(written.deals)
