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
from app.domain.journey import Facts, Position, Transition, TransitionKind
from app.domain.measures.hindsight import DealHistory, Deed, FactChange, Logged, seen
from app.domain.measures.selection import Selection
from app.domain.opportunity import UNTOLD, Opportunity, facts_told
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleClock, IdleRule, LossReason, Pipeline, Stage, StageKind
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


@st.composite
def pasts(draw: st.DrawFn, most: int = 6) -> Past:
    """A pipeline's whole past: its three revisions and up to `most` deals."""
    defined = revisions()
    count = draw(st.integers(0, most))
    return Past(defined, [draw(_past_deals(defined[-1])) for _ in range(count)])


@st.composite
def _past_deals(draw: st.DrawFn, pipeline: Pipeline) -> PastDeal:
    tale = _Tale(draw, pipeline)
    for event in draw(st.lists(st.sampled_from("mmmmmrrhhvuwcccct"), max_size=9)):
        tale.recorded = min(LAST, tale.recorded + draw(st.sampled_from((0, 0, 1, 2))))
        if event == "c":
            tale.change(*draw(_changes))
        elif event == "t":
            called = at(tale.recorded)
            tale.calls.append(Deed(draw(st.sampled_from(("call", "note"))), called, called))
        elif event == "u":
            tale.undo()
        elif event == "w":
            tale.rewrite()
        elif tale.here.status is not journey.Status.HANDED_OFF:
            tale.move(event)
    return tale.told()


class _Tale:
    """One deal while its past is made up; hours of the grid, `recorded` never before `occurred`."""

    def __init__(self, draw: st.DrawFn, pipeline: Pipeline) -> None:
        self.draw, self.pipeline = draw, pipeline
        self.slots = [stage.slot for stage in pipeline.stages]
        self.facts: Facts = draw(_facts)
        self.others: dict[str, Any] = {
            "tags": draw(st.sampled_from(TAGS)),
            "attributes": {"region": draw(st.sampled_from(REGIONS))},
        }
        self.occurred = self.recorded = draw(st.integers(0, LAST // 2))
        self.seq = 1
        self.log: list[Logged] = []
        self.open()
        self.changes: list[tuple[FactChange, Any]] = []
        self.calls: list[Deed] = []

    def open(self) -> None:
        target = self.pipeline.by_slot[self.draw(st.sampled_from(self.slots))]
        move = replace(opening(target, at(self.occurred), self.facts), seq=self.seq)
        self.log.append(Logged(move, at(self.recorded)))
        self.here = journey.opening(self.pipeline, move)

    def undo(self) -> None:
        """The last standing move is voided, unless it is the opening."""
        standing = [n for n, entry in enumerate(self.log) if entry.voided_at is None]
        if len(standing) > 1:
            self.void(standing[-1])
            self.here = journey.position(self.pipeline, self.standing())
            self.occurred = (self.here.stage_entered_at - BEGIN) // STEP

    def rewrite(self) -> None:
        """All of it is voided and the deal opened anew, as an import may do."""
        for number, entry in enumerate(self.log):
            if entry.voided_at is None:
                self.void(number)
        self.occurred = self.draw(st.integers(0, self.recorded))
        self.seq += 1
        self.open()

    def void(self, number: int) -> None:
        self.log[number] = replace(self.log[number], voided_at=at(self.recorded))

    def standing(self) -> list[Transition]:
        return [entry.move for entry in self.log if entry.voided_at is None]

    def change(self, name: str, new: Any) -> None:
        """A fact becomes another, unless that would leave an amount without its currency."""
        old = self.others[name] if name in self.others else getattr(self.facts, name)
        if name in self.others:
            self.others[name] = new
        else:
            facts = replace(self.facts, **{name: new})
            if facts.amount is not None and facts.currency is None:
                return
            self.facts = facts
        if old != new:
            now = at(self.recorded)
            self.changes.append((FactChange(name, old, now, now), new))

    def move(self, event: str) -> None:
        """`h` hands off, `r` rearranges where that can be, `v` is voided at last; others move."""
        self.occurred = self.draw(st.integers(self.occurred, self.recorded))
        self.seq += 1
        move = self._handed_off() if event == "h" else self._moved(rearranged=event == "r")
        self.log.append(Logged(move, at(self.recorded)))
        self.here = journey.after(self.pipeline, self.here, move)
        if event == "v":
            self.recorded = min(LAST, self.recorded + self.draw(st.integers(0, 2)))
            self.undo()

    def _moved(self, *, rearranged: bool) -> Transition:
        to_slot = self.draw(st.sampled_from([s for s in self.slots if s != self.here.slot]))
        reason = self.draw(st.sampled_from(("price", "unknown")))
        move = moving(
            self.pipeline, self.here, to_slot, at(self.occurred), self.facts, self.seq, reason
        )
        both_open = self.pipeline.by_slot[to_slot].is_open and self.here.closed_at is None
        return replace(move, kind=TransitionKind.REARRANGED) if rearranged and both_open else move

    def _handed_off(self) -> Transition:
        is_open = self.here.status is journey.Status.OPEN
        return Transition(
            seq=self.seq,
            kind=TransitionKind.HANDED_OFF,
            from_slot=self.here.slot,
            entered_at=self.here.stage_entered_at if is_open else None,
            to_slot=self.here.slot,
            occurred_at=at(self.occurred),
            facts=frozen(self.facts, self.pipeline.by_slot[self.here.slot]),
        )

    def told(self) -> PastDeal:
        history = DealHistory(
            log=self.log,
            facts=self.facts,
            **self.others,
            changes=[change for change, _ in self.changes],
            activities=self.calls,
        )
        return PastDeal(uuid4(), history, self.changes)


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
    for revision in past.revisions:
        await define(database, workspace, revision, at(4 * revision.revision - 6))
    await insert(database, workspace, past.latest, past.deals)


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
    by_sql: dict[str, list[tuple[Any, ...]]] = {}
    for part in (part for deal in deals for part in _rows(workspace, pipeline, deal)):
        by_sql.setdefault(part.sql, []).append(part.args)

    async def work(connection: Connection) -> None:
        for sql, rows in by_sql.items():
            await connection.executemany(sql, rows)

    await database.write(workspace, work)


def _rows(workspace: UUID, pipeline: Pipeline, deal: PastDeal) -> list[Part]:
    history = deal.history
    here = journey.position(pipeline, history.standing())
    changed = [change.occurred_at for change in history.changes]
    row = Opportunity(
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
    parts = [opportunities.insert(workspace, row)]
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
        if logged.voided_at is not None:
            because = (logged.voided_at, "test", "a mistake")
            parts.append(
                Part(
                    transitions.VOID,
                    (workspace, deal.opportunity_id, logged.move.seq, *because),
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
    then = seen(pipeline, history, Selection(as_of=at(2 * LAST)))
    assert then is not None, "it has been opened"
    kept = facts_told(then.facts, then.bearer.tags, then.bearer.attributes)
    if kept == facts_told(history.facts, history.tags, history.attributes):
        return None
    return kept if deal.opportunity_id.int % 2 else UNTOLD


def _json(value: Any) -> str:
    return json.dumps(str(value) if isinstance(value, Decimal) else value)
