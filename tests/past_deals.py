"""Pasts of deals: what a past is, deals made by hand, and how they are inserted through storage.

Drawn by chance they are in `tests.random_pasts`; inserted and folded in `tests.folded`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from app.domain import journey
from app.domain.business_calendar import BusinessCalendar, Holiday
from app.domain.definition import Definition, begin, revise
from app.domain.idleness import IdleState, Reset
from app.domain.journey import Facts, Position, Transition, TransitionKind
from app.domain.measures.hindsight import DealHistory, FactChange, Logged, seen
from app.domain.measures.selection import Selection
from app.domain.opportunity import UNTOLD, Opportunity, facts_told
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleClock, IdleRule, LossReason, Pipeline, Stage, StageKind
from app.domain.transition import frozen
from app.domain.working_hours import Span
from app.storage import activities, opportunities, pipelines, transitions
from app.storage.activities import Activity
from app.storage.engine import Connection, Database, Lock
from app.storage.statement import Part
from app.storage.transitions import LogEntry
from tests.factories import stage

BEGIN = datetime(2024, 2, 29, 6, tzinfo=UTC)
"""A month ends between the first hours of the grid, in each zone elsewhere."""
STEP = timedelta(hours=3)
LAST = 12
SHIFTS = BusinessCalendar(
    timezone="Europe/Berlin",
    hours=((Span(0, 11 * 60), Span(17 * 60, 24 * 60)),) * 7,
    holidays=(Holiday(date(2024, 3, 1)),),
)
"""Pauses in the middle of the day, and on the second day of the grid nobody works."""


def at(hour: int) -> datetime:
    """An instant of the grid."""
    return BEGIN + hour * STEP


def revisions() -> tuple[Pipeline, Pipeline, Pipeline]:
    """One pipeline, twice revised: `offer` split into quote and review, then `talks` archived.

    A second won stage and a second off-path stage are new in the second revision, and so is a
    calendar, in which `lead` counts.
    """
    quiet = IdleRule(
        clock=IdleClock.INACTIVITY, after=Period.parse("PT6H"), qualifying=("call",), elapsed=True
    )
    urgent = IdleRule(
        after=Period.parse("PT9H"),
        after_by_priority=MappingProxyType({"high": Period.parse("PT3H"), "low": None}),
    )
    drawn = Definition(
        key=f"p{uuid4().hex[:12]}",
        name="Sales",
        flow=Flow.FREE,
        stages=(
            stage("lead", 0, idle=urgent, probability=Decimal("0.25")),
            stage("offer", 0),
            stage("talks", 0, idle=quiet),
            stage("parked", 0, off_path=True),
            stage("won", 0, StageKind.WON),
            stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Price"),)),
        ),
    )
    first = begin(drawn, uuid4(), at(-2))
    stages = [*drawn.stages]
    stages[1:2] = [stage("quote", 0, idle=quiet), stage("review", 0)]
    stages += [stage("renewed", 0, StageKind.WON), stage("nurture", 0, off_path=True)]
    split = replace(drawn, stages=tuple(stages), calendar=SHIFTS)
    second = revise(first, split, at(4), {"offer": ("quote", "review")})
    fewer = tuple(s for s in stages if s.key != "talks")
    return first, second, revise(second, replace(split, stages=fewer), at(8))


@dataclass(frozen=True, slots=True)
class PastDeal:
    """A deal's past, and the rows in which the database holds it."""

    opportunity_id: UUID
    history: DealHistory
    changes: Sequence[tuple[FactChange, Any]] = ()
    """Each change with the value that it brought."""

    @property
    def written_at(self) -> datetime:
        """When something of the deal was written last."""
        log, changes = self.history.log, self.history.changes
        voided = [entry.voided_at for entry in log if entry.voided_at is not None]
        return max(
            [*(entry.recorded_at for entry in log), *voided, *(c.recorded_at for c in changes)]
        )


@dataclass(frozen=True, slots=True)
class Past:
    """A pipeline's revisions, always the same but for their ids, and its deals."""

    revisions: tuple[Pipeline, Pipeline, Pipeline] = field(repr=False)
    deals: Sequence[PastDeal]

    @property
    def latest(self) -> Pipeline:
        return self.revisions[-1]


def opening(stage: Stage, instant: datetime, facts: Facts) -> Transition:
    """The transition that opens a deal in the stage."""
    return Transition(
        seq=1,
        kind=TransitionKind.OPENED,
        from_slot=None,
        entered_at=None,
        to_slot=stage.slot,
        occurred_at=instant,
        facts=frozen(facts, stage),
        loss_reason="price" if stage.kind is StageKind.LOST else None,
    )


def moving(
    pipeline: Pipeline,
    here: Position,
    to_slot: int,
    instant: datetime,
    facts: Facts,
    seq: int,
    reason: str,
) -> Transition:
    """The transition that brings a deal from where it stands to another stage."""
    origin, target = pipeline.by_slot[here.slot], pipeline.by_slot[to_slot]
    return Transition(
        seq=seq,
        kind=journey.kind_of_move(pipeline, origin, target),
        from_slot=origin.slot,
        entered_at=here.stage_entered_at,
        to_slot=target.slot,
        occurred_at=instant,
        facts=frozen(facts, target),
        loss_reason=reason if target.kind is StageKind.LOST else None,
    )


def past_deal(
    pipeline: Pipeline,
    stays: Sequence[tuple[str, datetime]],
    *,
    reason: str = "price",
    tags: tuple[str, ...] = (),
    attributes: Mapping[str, Any] | None = None,
    **facts: Any,
) -> PastDeal:
    """A deal that entered these stages at these instants, its facts never changed."""
    (first, opened_at), *moves = stays
    borne = Facts(**facts)
    log = [opening(pipeline.stage(first), opened_at, borne)]
    here = journey.opening(pipeline, log[0])
    for seq, (key, instant) in enumerate(moves, start=2):
        log.append(moving(pipeline, here, pipeline.stage(key).slot, instant, borne, seq, reason))
        here = journey.after(pipeline, here, log[-1])
    known = [Logged(move, at(LAST)) for move in log]
    history = DealHistory(log=known, facts=borne, tags=tags, attributes=attributes or {})
    return PastDeal(uuid4(), history)


async def define(
    database: Database, workspace: UUID, pipeline: Pipeline, instant: datetime
) -> None:
    """Save a revision, in force from the instant."""

    async def work(connection: Connection) -> None:
        await pipelines.save(connection, workspace, pipeline, actor="test", instant=instant)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


async def insert(
    database: Database, workspace: UUID, pipeline: Pipeline, deals: Sequence[PastDeal]
) -> None:
    """Insert deals with all that is known of them."""
    await write(
        database, workspace, [p for deal in deals for p in insert_parts(workspace, pipeline, deal)]
    )


async def write(database: Database, workspace: UUID, parts: Sequence[Part]) -> None:
    """Do all that the parts say, like with like: a deal's row, its log, its changes."""
    by_sql: dict[str, list[tuple[Any, ...]]] = {}
    for part in parts:
        by_sql.setdefault(part.sql, []).append(part.args)

    async def work(connection: Connection) -> None:
        for sql, several in by_sql.items():
            await connection.executemany(sql, several)

    await database.write(workspace, work)


def row(pipeline: Pipeline, deal: PastDeal) -> Opportunity:
    """The deal's row, at its first version."""
    history = deal.history
    here = journey.position(pipeline, history.standing())
    changed = [change.occurred_at for change in history.changes]
    return Opportunity(
        opportunity_id=deal.opportunity_id,
        pipeline_id=pipeline.pipeline_id,
        version=1,
        name="A deal",
        facts=history.facts,
        position=here,
        idle=IdleState(here.moved_at, Reset.MOVE, None),
        created_at=here.opened_at,
        updated_at=deal.written_at,
        facts_changed_at=max(changed, default=None),
        closed_facts=_closed_facts(pipeline, deal, here),
        tags=history.tags,
        attributes=history.attributes,
    )


def insert_parts(workspace: UUID, pipeline: Pipeline, deal: PastDeal) -> list[Part]:
    """What inserts the deal: its row, its opening, then all else."""
    history = deal.history
    parts = [opportunities.insert(workspace, row(pipeline, deal))]
    for logged in history.log:
        entry = LogEntry(
            transition=logged.move,
            transition_id=uuid4(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=pipeline.pipeline_id,
            revision=1,
            from_name=None,
            to_name="",
            recorded_at=logged.recorded_at,
            actor="test",
        )
        parts.append(transitions.append(workspace, entry))
    parts += [
        Part(
            transitions.VOID,
            (
                workspace,
                deal.opportunity_id,
                logged.move.seq,
                *(logged.voided_at, "test", "a mistake"),
            ),
        )
        for logged in history.log
        if logged.voided_at is not None
    ]
    parts += [
        Part(
            opportunities.CHANGE,
            (
                workspace,
                deal.opportunity_id,
                UUID(int=number),
                change.field,
                pipeline.pipeline_id,
                _json(change.old),
                _json(new),
                change.occurred_at,
                change.recorded_at,
                "test",
            ),
        )
        for number, (change, new) in enumerate(deal.changes)
    ]
    parts += [
        activities.append(
            workspace,
            Activity(
                activity_id=uuid4(),
                opportunity_id=deal.opportunity_id,
                pipeline_id=pipeline.pipeline_id,
                kind=deed.kind,
                content=None,
                occurred_at=deed.occurred_at,
                recorded_at=deed.recorded_at,
                actor="test",
            ),
        )
        for deed in history.activities
    ]
    return parts


def _closed_facts(pipeline: Pipeline, deal: PastDeal, here: Position) -> Any:
    """What the row keeps of its close: of every other deal nothing, so that the log must tell."""
    if here.closed_at is None:
        return None
    history = deal.history
    then = seen(pipeline, history, Selection(as_of=max(at(2 * LAST), here.closed_at + STEP)))
    assert then is not None, "it has been opened"
    kept = facts_told(then.facts, then.bearer.tags, then.bearer.attributes)
    if kept == facts_told(history.facts, history.tags, history.attributes):
        return None
    return kept if deal.opportunity_id.int % 2 else UNTOLD


def _json(value: Any) -> str:
    return json.dumps(str(value) if isinstance(value, Decimal) else value)
