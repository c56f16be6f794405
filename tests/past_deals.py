"""Random pasts: deals whose logs skip, go back, reopen, leave the path, are handed off and voided.

`pasts` is a hypothesis strategy of whole pasts of one pipeline; `keep` inserts one through storage
into a pipeline of its own. Moves and changes of facts happen on a coarse grid of hours, so that
many bear the same instant; a move may be recorded later than it occurred, as a backdated one is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st

from app.domain import journey
from app.domain.definition import Definition, begin, revise
from app.domain.idleness import IdleState, Reset
from app.domain.journey import Facts, Transition, TransitionKind
from app.domain.measures.hindsight import DealHistory, FactChange
from app.domain.opportunity import Opportunity
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleClock, IdleRule, LossReason, Pipeline, StageKind
from app.domain.transition import frozen
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

OWNERS = ("ada", "ben", None)
REGIONS: tuple[Any, ...] = ("north", "south", "", None, True, 7)
TAGS: tuple[tuple[str, ...], ...] = ((), ("hot",), ("hot", "new"), ("new", "new"))


def at(hour: int) -> datetime:
    """An instant of the grid."""
    return BEGIN + hour * STEP


def revisions() -> tuple[Pipeline, Pipeline, Pipeline]:
    """One pipeline, twice revised: `offer` split into quote and review, then `talks` archived.

    A second won stage and a second off-path stage are new in the second revision.
    """
    quiet = IdleRule(clock=IdleClock.INACTIVITY, after=Period.parse("PT6H"), qualifying=("call",))
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
    split = replace(drawn, stages=tuple(stages))
    second = revise(first, split, at(4), {"offer": ("quote", "review")})
    fewer = tuple(s for s in stages if s.key != "talks")
    return first, second, revise(second, replace(split, stages=fewer), at(8))


@dataclass(frozen=True, slots=True)
class PastDeal:
    """A deal's past, and the rows in which the database holds it."""

    opportunity_id: UUID
    history: DealHistory
    voided: Sequence[Transition]
    change_values: Sequence[tuple[FactChange, Any]]


@dataclass(frozen=True, slots=True)
class Past:
    """A pipeline's revisions, always the same but for their ids, and its deals."""

    revisions: tuple[Pipeline, Pipeline, Pipeline] = field(repr=False)
    deals: Sequence[PastDeal]

    @property
    def latest(self) -> Pipeline:
        return self.revisions[-1]


@st.composite
def pasts(draw: st.DrawFn, most: int = 6) -> Past:
    """A pipeline's whole past: its three revisions and up to `most` deals."""
    defined = revisions()
    count = draw(st.integers(0, most))
    return Past(defined, [draw(_past_deals(defined[-1])) for _ in range(count)])


@st.composite
def _past_deals(draw: st.DrawFn, pipeline: Pipeline) -> PastDeal:
    facts = draw(_facts)
    tags: tuple[str, ...] = draw(st.sampled_from(TAGS))
    attributes = {"region": draw(st.sampled_from(REGIONS))}
    slots = [s.slot for s in pipeline.stages]
    recorded = draw(st.integers(0, LAST // 2))
    seq = 1
    target = pipeline.by_slot[draw(st.sampled_from(slots))]
    log = [
        Transition(
            seq=seq,
            kind=TransitionKind.OPENED,
            from_slot=None,
            entered_at=None,
            to_slot=target.slot,
            occurred_at=at(recorded),
            facts=frozen(facts, target),
            loss_reason="price" if target.kind is StageKind.LOST else None,
        )
    ]
    occurred = recorded
    here = journey.opening(pipeline, log[0])
    voided: list[Transition] = []
    changes: list[tuple[FactChange, Any]] = []
    calls: list[tuple[str, datetime]] = []
    for event in draw(st.lists(st.sampled_from("mmmmmmrhvaccct"), max_size=9)):
        recorded = min(LAST, recorded + draw(st.sampled_from((0, 0, 1, 2))))
        if event == "c":
            name, new = draw(_changes)
            old = {"tags": tags, "attributes": attributes}.get(name, getattr(facts, name, None))
            if old == new or (name == "currency" and facts.amount is not None and new is None):
                continue
            if name == "amount" and facts.currency is None:
                continue
            match name:
                case "tags":
                    tags = new
                case "attributes":
                    attributes = new
                case _:
                    facts = replace(facts, **{name: new})
            changes.append((FactChange(name, old, at(recorded)), new))
            continue
        if event == "t":
            calls.append((draw(st.sampled_from(("call", "note"))), at(recorded)))
            continue
        if here.status is journey.Status.HANDED_OFF:
            continue
        occurred = draw(st.integers(occurred, recorded))
        seq += 1
        if event == "h":
            to_slot, kind = here.slot, TransitionKind.HANDED_OFF
            is_link = here.status is not journey.Status.OPEN
        else:
            to_slot = draw(st.sampled_from([slot for slot in slots if slot != here.slot]))
            origin, target = pipeline.by_slot[here.slot], pipeline.by_slot[to_slot]
            kind = journey.kind_of_move(pipeline, origin, target)
            if event == "r" and origin.is_open and target.is_open:
                kind = TransitionKind.REARRANGED
            is_link = False
        stage_entered = pipeline.by_slot[to_slot]
        lost = kind is TransitionKind.LOST
        move = Transition(
            seq=seq,
            kind=kind,
            from_slot=here.slot,
            entered_at=None if is_link else here.stage_entered_at,
            to_slot=to_slot,
            occurred_at=at(occurred),
            facts=frozen(facts, stage_entered),
            loss_reason=draw(st.sampled_from(("price", "unknown"))) if lost else None,
        )
        if event == "v":
            voided.append(move)
            continue
        log.append(move)
        here = journey.after(pipeline, here, move)
    history = DealHistory(
        transitions=log,
        facts=facts,
        tags=tags,
        attributes=attributes,
        changes=[change for change, _ in changes],
        activities=calls,
    )
    return PastDeal(uuid4(), history, voided, changes)


_amounts = st.sampled_from((None, Decimal("0.0000"), Decimal("10.5000"), Decimal("99.9900")))
_facts = st.builds(
    lambda amount, currency, **rest: Facts(
        amount=amount, currency=currency if amount is None else currency or "EUR", **rest
    ),
    amount=_amounts,
    currency=st.sampled_from(("EUR", "JPY", None)),
    probability=st.sampled_from((None, Decimal("0.5000"))),
    owner=st.sampled_from(OWNERS),
    team=st.sampled_from(("x", None)),
    source=st.sampled_from(("web", "fair", None)),
    priority=st.sampled_from(("high", "low", None)),
)
_changes = st.one_of(
    st.tuples(st.just("amount"), _amounts),
    st.tuples(st.just("currency"), st.sampled_from(("EUR", "JPY", None))),
    st.tuples(st.just("probability"), st.sampled_from((None, Decimal("0.5000")))),
    st.tuples(st.just("owner"), st.sampled_from(OWNERS)),
    st.tuples(st.just("priority"), st.sampled_from(("high", "low", None))),
    st.tuples(st.just("tags"), st.sampled_from(TAGS)),
    st.tuples(st.just("attributes"), st.sampled_from(REGIONS).map(lambda r: {"region": r})),
)


async def keep(database: Database, workspace: UUID, past: Past) -> None:
    """Insert the pipeline and all its deals."""
    latest = past.latest
    parts: list[Part] = []
    for deal in past.deals:
        parts += _rows(workspace, latest, deal)

    async def work(connection: Connection) -> None:
        for revision in past.revisions:
            await pipelines.save(
                connection, workspace, revision, actor="test", instant=at(4 * revision.revision - 6)
            )
        by_sql: dict[str, list[tuple[Any, ...]]] = {}
        for part in parts:
            by_sql.setdefault(part.sql, []).append(part.args)
        for sql, rows in by_sql.items():
            await connection.executemany(sql, rows)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


def _rows(workspace: UUID, pipeline: Pipeline, deal: PastDeal) -> list[Part]:
    history = deal.history
    here = journey.position(pipeline, history.transitions)
    row = Opportunity(
        opportunity_id=deal.opportunity_id,
        pipeline_id=pipeline.pipeline_id,
        version=1,
        name="A deal",
        facts=history.facts,
        position=here,
        idle=IdleState(here.moved_at, Reset.MOVE, None),
        created_at=here.opened_at,
        updated_at=here.opened_at,
        tags=history.tags,
        attributes=history.attributes,
    )
    parts = [opportunities.insert(workspace, row)]
    entries = [(move, None) for move in history.transitions]
    entries += [(move, at(LAST)) for move in deal.voided]
    for move, voided_at in entries:
        entry = LogEntry(
            transition=move,
            transition_id=uuid4(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=pipeline.pipeline_id,
            revision=1,
            from_name=None,
            to_name="",
            recorded_at=at(LAST),
            actor="test",
        )
        parts.append(transitions.append(workspace, entry))
        if voided_at is not None:
            parts.append(
                Part(
                    transitions.VOID,
                    (workspace, deal.opportunity_id, move.seq, voided_at, "test", "a mistake"),
                )
            )
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
                change.occurred_at,
                "test",
            ),
        )
        for number, (change, new) in enumerate(deal.change_values)
    ]
    parts += [
        activities.append(
            workspace,
            Activity(
                activity_id=uuid4(),
                opportunity_id=deal.opportunity_id,
                pipeline_id=pipeline.pipeline_id,
                kind=kind,
                content=None,
                occurred_at=occurred_at,
                recorded_at=occurred_at,
                actor="test",
            ),
        )
        for kind, occurred_at in history.activities
    ]
    return parts


def _json(value: Any) -> str:
    plain: Mapping[str, Any] | Sequence[Any] | Any = value
    return json.dumps(str(plain) if isinstance(plain, Decimal) else plain)
