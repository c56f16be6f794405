"""The projection's definition: what a deal's row says in short is this reading of its transitions.

`Transition` is one row of the log. `position(...)` folds standing transitions into the `Position`
that the deal's row stores; the statement that appends a move keeps the same thing incrementally,
`sluice doctor --rebuild` makes it anew, and a test holds the two together. `visits(...)` reads
the same rows as stays. Voided transitions do not exist here: callers leave them out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from app.domain.pipeline import Pipeline, Stage, StageKind


class TransitionKind(StrEnum):
    OPENED = "opened"
    ADVANCED = "advanced"
    SKIPPED = "skipped"
    REGRESSED = "regressed"
    SIDESTEPPED = "sidestepped"
    WON = "won"
    LOST = "lost"
    REOPENED = "reopened"
    HANDED_OFF = "handed_off"
    REARRANGED = "rearranged"


class Status(StrEnum):
    OPEN = "open"
    WON = "won"
    LOST = "lost"
    HANDED_OFF = "handed_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a deal is at an instant, as far as a transition freezes it."""

    amount: Decimal | None = None
    currency: str | None = None
    probability: Decimal | None = None
    owner: str | None = None
    team: str | None = None
    source: str | None = None
    priority: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One row of the log: a move, and the visit that it ended.

    `from_slot` and `entered_at` are None for the opening alone. A hand-off keeps
    `to_slot == from_slot`: the deal went nowhere in this pipeline, its visit ended.
    """

    seq: int
    kind: TransitionKind
    from_slot: int | None
    entered_at: datetime | None
    to_slot: int
    occurred_at: datetime
    facts: Facts = Facts()
    loss_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A maximal stay in one stage, `[entered_at, left_at)`; still under way where left_at is None.

    `ended_by` is the kind of the move that ended it.
    """

    slot: int
    entered_at: datetime
    left_at: datetime | None
    ended_by: TransitionKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What the log says of a deal in short: the columns that its row projects.

    `reach_mask` has the bit of every stage visited; `dwell` is completed time per slot.
    `clock_started_at` is when the deal last entered a stage by a move of its own: a rearranged
    definition does not restart an idle clock.
    """

    status: Status
    slot: int
    seq: int
    stage_entered_at: datetime
    opened_at: datetime
    closed_at: datetime | None
    reach_mask: int
    dwell: Mapping[int, timedelta]
    moved_at: datetime


def is_link(transition: Transition) -> bool:
    """Whether it is a hand-off from a closed stage, which moves nothing: won stays won."""
    return transition.kind is TransitionKind.HANDED_OFF and transition.entered_at is None


def status_in(stage: Stage) -> Status:
    """The status of a deal that stands in the stage."""
    return Status(stage.kind.value)


def opening(pipeline: Pipeline, transition: Transition) -> Position:
    """Where a deal stands after the transition that opened it."""
    stage = pipeline.by_slot[transition.to_slot]
    return Position(
        status=status_in(stage),
        slot=stage.slot,
        seq=transition.seq,
        stage_entered_at=transition.occurred_at,
        opened_at=transition.occurred_at,
        closed_at=None if stage.is_open else transition.occurred_at,
        reach_mask=stage.bit,
        dwell={},
        moved_at=transition.occurred_at,
    )


def after(pipeline: Pipeline, position: Position, transition: Transition) -> Position:
    """Where a deal stands after one more transition: the step of the projection."""
    handed_off = transition.kind is TransitionKind.HANDED_OFF
    if handed_off and position.status is not Status.OPEN:
        return replace(position, seq=transition.seq)  # a link alone: won stays won
    stage = pipeline.by_slot[transition.to_slot]
    stay = transition.occurred_at - position.stage_entered_at
    rearranged = transition.kind is TransitionKind.REARRANGED
    return Position(
        status=Status.HANDED_OFF if handed_off else status_in(stage),
        slot=stage.slot,
        seq=transition.seq,
        stage_entered_at=transition.occurred_at,
        opened_at=position.opened_at,
        closed_at=None if stage.is_open and not handed_off else transition.occurred_at,
        reach_mask=position.reach_mask | stage.bit,
        dwell={
            **position.dwell,
            position.slot: position.dwell.get(position.slot, timedelta()) + stay,
        },
        moved_at=position.moved_at if rearranged else transition.occurred_at,
    )


def position(pipeline: Pipeline, transitions: Sequence[Transition]) -> Position:
    """Fold standing transitions, in the order of their seq, into where the deal stands."""
    here = opening(pipeline, transitions[0])
    for transition in transitions[1:]:
        here = after(pipeline, here, transition)
    return here


def visits(transitions: Iterable[Transition]) -> Iterator[Visit]:
    """The stays that standing transitions tell of, in order; the last one is still under way.

    A deal that was handed off while open is nowhere any more; one handed off from a closed
    stage goes on standing there.
    """
    last: Transition | None = None
    gone = False
    for transition in transitions:
        if is_link(transition):
            continue
        if transition.from_slot is not None and transition.entered_at is not None:
            yield Visit(
                slot=transition.from_slot,
                entered_at=transition.entered_at,
                left_at=transition.occurred_at,
                ended_by=transition.kind,
            )
        last, gone = transition, transition.kind is TransitionKind.HANDED_OFF
    if last is not None and not gone:
        yield Visit(slot=last.to_slot, entered_at=last.occurred_at, left_at=None, ended_by=None)


def kind_of_move(pipeline: Pipeline, origin: Stage, target: Stage) -> TransitionKind:
    """What a move between two different stages is called; derived, never sent by a client."""
    if target.kind is StageKind.WON:
        return TransitionKind.WON
    if target.kind is StageKind.LOST:
        return TransitionKind.LOST
    if not origin.is_open:
        return TransitionKind.REOPENED
    if origin.off_path or target.off_path:
        return TransitionKind.SIDESTEPPED
    here, there = pipeline.rank_by_slot[origin.slot], pipeline.rank_by_slot[target.slot]
    if there < here:
        return TransitionKind.REGRESSED
    return TransitionKind.SKIPPED if there - here > 1 else TransitionKind.ADVANCED
