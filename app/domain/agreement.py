"""Whether a deal and its log agree: what the row must say, where it does not, what no log can be.

`journey` defines the projection; here it is held against what is stored. Nothing is mended here,
and a log that is no chain cannot be: there is no telling what happened instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain import journey, opportunity
from app.domain.journey import Position, Transition, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """All that a deal's log has to tell of it: the standing transitions, in order.

    `seqs` numbers every row, voided ones included; `continued_as` is the deal to which the last
    standing row handed this one off.
    """

    standing: tuple[Transition, ...]
    seqs: tuple[int, ...]
    continued_as: UUID | None


def faults(pipeline: Pipeline, log: Log) -> Iterator[str]:
    """What makes the log no chain: each row must go on from where the one before it ended."""
    if log.seqs != tuple(range(1, len(log.seqs) + 1)):
        yield "its numbers have gaps"
    if not log.standing:
        yield "it has no standing transition"
        return
    if strange := {row.to_slot for row in log.standing} - pipeline.by_slot.keys():
        yield f"it names slots that no stage ever had: {sorted(strange)}"
        return
    first, *rest = log.standing
    if first.kind is not TransitionKind.OPENED:  # its seq is above 1 where an import rewrote it
        yield "it does not begin with an opening"
    here = journey.opening(pipeline, first)
    for transition in rest:
        row = f"row {transition.seq}"
        is_link = transition.kind is TransitionKind.HANDED_OFF and here.closed_at is not None
        if transition.from_slot != here.slot:
            yield f"{row} leaves a stage in which the deal did not stand"
        if transition.entered_at != (None if is_link else here.stage_entered_at):
            yield f"{row} tells another time of entering the stage that it leaves"
        if transition.occurred_at < here.stage_entered_at:
            yield f"{row} lies before the row before it"
        here = journey.after(pipeline, here, transition)


def remade(
    deal: Opportunity,
    pipeline: Pipeline,
    log: Log,
    done: Mapping[str, datetime],
    now: datetime,
) -> Opportunity:
    """The deal's next version, as its log and the rules of its stage make it.

    `done`: when the last activity of each kind occurred. The seq counts voided rows too: numbers
    are never used again.
    """
    position = replace(journey.position(pipeline, log.standing), seq=log.seqs[-1])
    kinds = pipeline.by_slot[position.slot].idle.qualifying
    last = max((at for kind, at in done.items() if kind in kinds), default=None)
    told = replace(deal, position=position, continued_as=log.continued_as, last_activity_at=last)
    return opportunity.clocked(told, pipeline, now)


def differences(deal: Opportunity, told: Opportunity) -> Mapping[str, tuple[Any, Any]]:
    """Field → (stored, told), for the fields of the projection and the clock that differ."""
    pairs = {
        field.name: (getattr(deal.position, field.name), getattr(told.position, field.name))
        for field in fields(Position)
    }
    pairs["continued_as"] = (deal.continued_as, told.continued_as)
    pairs["clock_started_at"] = (deal.idle.clock_started_at, told.idle.clock_started_at)
    pairs["clock_reset_by"] = (deal.idle.reset_by, told.idle.reset_by)
    for name in ("goes_idle_at", "critical_at", "follow_up_due_at"):
        pairs[name] = (getattr(deal.idle, name), getattr(told.idle, name))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
