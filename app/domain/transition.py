"""Whether a deal may move, and what the log then says: `decide` is the rule for every live caller.

Pure: the instant `now` is handed in (the database's clock, read together with the deal). Imported
history is not judged here; its rows only get their kind from `journey.kind_of_move`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain import guards, journey
from app.domain.errors import (
    AlreadyClosed,
    AlreadyThere,
    Breach,
    HandedOff,
    Invalid,
    LossReasonRequired,
    MoveNotAllowed,
    PipelineArchived,
    RequirementsMissing,
    SluiceError,
    StageArchived,
    TimeOutOfRange,
)
from app.domain.journey import Facts, Position, Status, Transition, TransitionKind
from app.domain.pipeline import Flow, Pipeline, Stage, StageKind

TICK = timedelta(microseconds=1)
AHEAD = timedelta(seconds=60)
"""How far a caller's clock may run ahead: up to here `occurred_at` is taken as now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a caller asks for. `override_reason` asks to pass the guards, for a reason."""

    to_stage: str
    loss_reason: str | None = None
    occurred_at: datetime | None = None
    override_reason: str | None = None


def decide(
    pipeline: Pipeline,
    position: Position,
    deal: Mapping[str, Any],
    facts: Facts,
    move: Move,
    now: datetime,
) -> Transition:
    """The transition that the move makes, or an error that says all that is in its way.

    `deal` is the deal as the API shows it (the guards point into it), `facts` what of it is
    frozen, `now` the database's clock. Raises UnknownStage, AlreadyThere, AlreadyClosed,
    HandedOff, PipelineArchived, StageArchived, MoveNotAllowed, Invalid, LossReasonRequired,
    RequirementsMissing, TimeOutOfRange.
    """
    target = pipeline.stage(move.to_stage)
    origin = pipeline.by_slot[position.slot]
    check_route(pipeline, position, origin, target)
    check_loss_reason(target, move.loss_reason)
    if not move.override_reason:
        check_requirements(target, deal)
    return Transition(
        seq=position.seq + 1,
        kind=journey.kind_of_move(pipeline, origin, target),
        from_slot=origin.slot,
        entered_at=position.stage_entered_at,
        to_slot=target.slot,
        occurred_at=instant_of(move.occurred_at, position.stage_entered_at, now),
        facts=frozen(facts, target),
        loss_reason=move.loss_reason,
    )


def decide_opening(
    pipeline: Pipeline,
    stage: str | None,
    occurred_at: datetime | None,
    deal: Mapping[str, Any],
    facts: Facts,
    now: datetime,
) -> Transition:
    """The opening of a deal: in the first open stage, or under free and forward in the one named.

    What the stage requires is required of an opening too, and there is no override: a deal that is
    not ready for a stage opens in an earlier one. Raises UnknownStage, PipelineArchived,
    StageArchived, MoveNotAllowed, RequirementsMissing, TimeOutOfRange.
    """
    if pipeline.archived_at is not None:
        raise PipelineArchived(f"Pipeline {pipeline.key!r} takes no more opportunities.")
    first = pipeline.path[0]
    target = first if stage is None else pipeline.stage(stage)
    if target.archived_at is not None:
        raise StageArchived(f"Stage {target.key!r} is archived.")
    if not target.is_open:
        raise MoveNotAllowed("An opportunity opens in an open stage; import brings closed ones.")
    if target is not first and pipeline.flow not in (Flow.FREE, Flow.FORWARD):
        raise MoveNotAllowed(
            f"Under the flow {pipeline.flow.value!r} an opportunity opens in {first.key!r}."
        )
    check_requirements(target, deal)
    return Transition(
        seq=1,
        kind=TransitionKind.OPENED,
        from_slot=None,
        entered_at=None,
        to_slot=target.slot,
        occurred_at=instant_of(occurred_at, None, now),
        facts=frozen(facts, target),
    )


def rearranged(position: Position, facts: Facts, target: Stage, instant: datetime) -> Transition:
    """The move that a changed definition makes of an open deal, in force from `instant`.

    A deal that entered its stage in this very microsecond leaves it in the next: time never stands
    still within a deal.
    """
    return Transition(
        seq=position.seq + 1,
        kind=TransitionKind.REARRANGED,
        from_slot=position.slot,
        entered_at=position.stage_entered_at,
        to_slot=target.slot,
        occurred_at=max(instant, position.stage_entered_at + TICK),
        facts=frozen(facts, target),
    )


def decide_hand_off(
    pipeline: Pipeline,
    position: Position,
    facts: Facts,
    occurred_at: datetime | None,
    now: datetime,
) -> Transition:
    """The end of a deal here that goes on in another pipeline; from a closed stage, the link alone.

    Raises HandedOff, TimeOutOfRange.
    """
    if position.status is Status.HANDED_OFF:
        raise HandedOff("The opportunity went on in another pipeline already.")
    here = pipeline.by_slot[position.slot]
    is_open = position.status is Status.OPEN
    return Transition(
        seq=position.seq + 1,
        kind=TransitionKind.HANDED_OFF,
        from_slot=here.slot,
        entered_at=position.stage_entered_at if is_open else None,
        to_slot=here.slot,
        occurred_at=instant_of(occurred_at, position.stage_entered_at, now),
        facts=frozen(facts, here),
    )


def check_route(pipeline: Pipeline, position: Position, origin: Stage, target: Stage) -> None:
    """Raises unless the pipeline lets a deal go from `origin` to `target` at all."""
    if position.status is Status.HANDED_OFF:
        raise HandedOff("The opportunity went on in another pipeline; move it there.")
    if pipeline.archived_at is not None:
        raise PipelineArchived(f"Pipeline {pipeline.key!r} is archived: its deals rest.")
    if target is origin:
        if not target.is_open:
            raise AlreadyClosed(f"The opportunity is {position.status.value} already.")
        raise AlreadyThere(f"The opportunity is in {target.key!r} already.")
    if target.archived_at is not None:
        raise StageArchived(f"Stage {target.key!r} is archived: nothing enters it any more.")
    if not origin.is_open and origin.kind is target.kind:
        raise AlreadyClosed(
            f"The opportunity is {position.status.value} already, in {origin.key!r};"
            " a close date is never rewritten."
        )
    if problem := _flow_forbids(pipeline, origin, target):
        raise MoveNotAllowed(problem)


def check_loss_reason(target: Stage, loss_reason: str | None) -> None:
    """Raises LossReasonRequired unless a lost stage gets one of its reasons.

    Raises Invalid where another stage is given one.
    """
    if target.kind is not StageKind.LOST:
        if loss_reason is not None:
            raise Invalid(
                f"{target.key!r} is no lost stage: leave the loss reason out.",
                [Breach("/loss_reason", "not_lost", "Only a lost stage takes a loss reason.")],
            )
        return
    if loss_reason is None or not target.accepts_loss_reason(loss_reason):
        known = ", ".join(reason.key for reason in target.loss_reasons)
        raise LossReasonRequired(
            f"Say why it was lost: one of {known}.",
            [Breach("/loss_reason", "loss_reason_required", f"One of: {known}.")],
        )


def check_requirements(target: Stage, deal: Mapping[str, Any]) -> None:
    """Raises RequirementsMissing with all that the deal lacks to enter `target`."""
    if breaches := guards.missing(target, deal):
        raise RequirementsMissing(f"{target.name} cannot be entered yet.", breaches)


def override_of(pipeline: Pipeline, deal: Mapping[str, Any], move: Move) -> str | None:
    """The reason to record: the given one, where it passed a requirement over, and else none."""
    if move.override_reason and guards.missing(pipeline.stage(move.to_stage), deal):
        return move.override_reason
    return None


def check_here(continued_as: UUID | None) -> None:
    """Raises HandedOff where a deal went on in another pipeline, be it from a closed stage."""
    if continued_as is not None:
        raise HandedOff(f"It went on as opportunity {continued_as}; move that one.")


def possible_moves(
    pipeline: Pipeline, position: Position, continued_as: UUID | None = None
) -> Iterator[tuple[Stage, SluiceError | None]]:
    """Every stage in use but the deal's own, with what the process says against going there."""
    origin = pipeline.by_slot[position.slot]
    for stage in pipeline.stages:
        if stage.archived_at is not None or stage is origin:
            continue
        try:
            check_here(continued_as)
            check_route(pipeline, position, origin, stage)
        except SluiceError as refused:
            yield stage, refused
        else:
            yield stage, None


def instant_of(asked: datetime | None, not_before: datetime | None, now: datetime) -> datetime:
    """When a live move happens. A bare move: now, and always after the move before it.

    A stated instant may lie in the past, but not before the deal's last transition; up to `AHEAD`
    of now it is taken as now. Raises TimeOutOfRange.
    """
    live = now if not_before is None else max(now, not_before + TICK)
    if asked is None:
        return live
    if asked > now + AHEAD:
        raise _out_of_range(f"{asked.isoformat()} lies in the future.")
    if not_before is not None and asked < not_before:
        raise _out_of_range(
            f"The deal's last transition was at {not_before.isoformat()};"
            " older history comes through import."
        )
    return live if asked > now else asked


def frozen(facts: Facts, stage: Stage) -> Facts:
    """The facts as a transition into `stage` freezes them: the probability is the effective one."""
    return Facts(
        amount=facts.amount,
        currency=facts.currency,
        probability=effective_probability(facts.probability, stage),
        owner=facts.owner,
        team=facts.team,
        source=facts.source,
        priority=facts.priority,
    )


def effective_probability(own: Decimal | None, stage: Stage) -> Decimal | None:
    """A closed deal's is settled; an open one's is its own, or what its stage declares."""
    if stage.kind is StageKind.WON:
        return Decimal(1)
    if stage.kind is StageKind.LOST:
        return Decimal(0)
    return stage.probability if own is None else own


def _flow_forbids(pipeline: Pipeline, origin: Stage, target: Stage) -> str | None:
    """What the flow has against the move, or None (domain.md, "Pipelines and stages")."""
    if pipeline.flow is Flow.GRAPH:
        if (origin.key, target.key) in pipeline.moves:
            return None
        targets = sorted(to for start, to in pipeline.moves if start == origin.key)
        listed = ", ".join(targets) or "nowhere"
        return f"The graph leads from {origin.key!r} to {listed}, not to {target.key!r}."
    if not origin.is_open or target.kind is StageKind.LOST:
        return None  # reopening and losing are free whatever the flow
    if origin.off_path or target.off_path or pipeline.flow is Flow.FREE:
        return None
    here, there = pipeline.rank_by_slot[origin.slot], pipeline.rank_by_slot[target.slot]
    if there < here:
        return f"The flow {pipeline.flow.value!r} allows no move back to {target.key!r}."
    if pipeline.flow is Flow.SEQUENTIAL and there != here + 1:
        onward = pipeline.path[here]
        return f"The flow 'sequential' leads from {origin.key!r} to {onward.key!r} next."
    return None


def _out_of_range(detail: str) -> TimeOutOfRange:
    return TimeOutOfRange(detail, [Breach("/occurred_at", "time_out_of_range", detail)])
