"""One deal as it stands now: its facts, where the log has brought it, and its idle clock.

Each function gives the deal after one thing has happened to it, as its next version: what the
deal's row will say, before anything is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from app.domain import journey
from app.domain.idleness import (
    NO_HOLDS,
    Holds,
    IdleState,
    NextStep,
    Resolution,
    goes_idle_at,
    idle_state,
)
from app.domain.journey import Facts, Position, Status, Transition
from app.domain.pipeline import Pipeline, Stage

UNTOLD: Final[Mapping[str, Any]] = MappingProxyType({})
_KEPT: Final = ("amount", "currency", "owner", "team", "source", "priority")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opportunity:
    """A row of `opportunity`, in the domain's words. Every write of it makes the next `version`.

    `facts_changed_at` is when the last change of any of its facts occurred, None where none has.
    `closed_facts` are those that its close froze, kept where they have changed since (None: they
    have not), in JSON's types; UNTOLD where only the log can tell them.
    `flag_id` is the unresolved idle flag of the present episode, open or snoozed; `flagged_at` is
    set while it stands open, `escalated_at` once it is critical. `last_activity_at` is the last
    activity of a kind that counted where the deal then stood: whoever puts it elsewhere in its past
    has to say which one counts there (`storage.activities.last_of`).
    """

    opportunity_id: UUID
    pipeline_id: UUID
    version: int
    name: str
    facts: Facts
    position: Position
    idle: IdleState
    created_at: datetime
    updated_at: datetime
    external_id: str | None = None
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any]
    expected_close_on: date | None = None
    facts_changed_at: datetime | None = None
    closed_facts: Mapping[str, Any] | None = None
    last_activity_at: datetime | None = None
    holds: Holds = NO_HOLDS
    flag_id: UUID | None = None
    flagged_at: datetime | None = None
    escalated_at: datetime | None = None
    continues: UUID | None = None
    continued_as: UUID | None = None


def opened(
    pipeline: Pipeline,
    transition: Transition,
    now: datetime,
    *,
    opportunity_id: UUID,
    name: str,
    facts: Facts,
    external_id: str | None = None,
    tags: tuple[str, ...] = (),
    attributes: Mapping[str, Any] | None = None,
    expected_close_on: date | None = None,
    continues: UUID | None = None,
) -> Opportunity:
    """A new deal, as its opening leaves it."""
    position = journey.opening(pipeline, transition)
    return Opportunity(
        opportunity_id=opportunity_id,
        pipeline_id=pipeline.pipeline_id,
        version=1,
        name=name,
        facts=facts,
        position=position,
        idle=idle_state(
            pipeline.by_slot[position.slot],
            facts.priority,
            moved_at=position.moved_at,
            last_activity_at=None,
        ),
        created_at=now,
        updated_at=now,
        external_id=external_id,
        tags=tags,
        attributes={} if attributes is None else attributes,
        expected_close_on=expected_close_on,
        continues=continues,
    )


def moved(
    deal: Opportunity, pipeline: Pipeline, transition: Transition, now: datetime
) -> tuple[Opportunity, Resolution | None]:
    """The deal after a move, and why the flag that it bore is resolved."""
    position = journey.after(pipeline, deal.position, transition)
    after = unflagged(replace(deal, position=position))
    if not journey.is_link(transition):
        after = recalled(after, transition)
    cause = Resolution.MOVED if position.status is Status.OPEN else Resolution.CLOSED
    return clocked(after, pipeline, now), None if deal.flag_id is None else cause


def amended(
    deal: Opportunity, pipeline: Pipeline, now: datetime, **changes: Any
) -> tuple[Opportunity, Resolution | None]:
    """The deal with other facts, and why its flag is resolved if they leave it no longer due.

    A priority that brings another threshold is a new rule for this deal: it comes into force now.
    """
    after = replace(deal, **changes)
    told = facts_told(deal.facts, deal.tags, deal.attributes)
    probability = deal.facts.probability
    if (told, probability) != (
        facts_told(after.facts, after.tags, after.attributes),
        after.facts.probability,
    ):
        after = replace(after, facts_changed_at=now)
        if deal.position.status is not Status.OPEN and deal.closed_facts is None:
            after = replace(after, closed_facts=told)
    rule = pipeline.by_slot[deal.position.slot].idle
    if rule.threshold(after.facts.priority) != rule.threshold(deal.facts.priority):
        after = replace(after, holds=replace(deal.holds, rule_since=now))
    return settled(clocked(after, pipeline, now), pipeline, now)


def reruled(
    deal: Opportunity, pipeline: Pipeline, last_activity_at: datetime | None, now: datetime
) -> tuple[Opportunity, Resolution | None]:
    """The deal under another definition of its stage, and why its flag is resolved if it is.

    `last_activity_at` is the last activity of a kind that counts there now. Another start of the
    clock is another episode, also where the deal is due at once.
    """
    return _under_rule(replace(deal, last_activity_at=last_activity_at), pipeline, now)


def rearranged(
    deal: Opportunity,
    old: Pipeline,
    new: Pipeline,
    transition: Transition,
    last_activity_at: datetime | None,
    now: datetime,
) -> tuple[Opportunity, Resolution | None]:
    """The deal after a changed definition has put it into another stage: see `reruled`.

    It has not moved by itself, so its clock goes on. Where the stage asks something else of it,
    that is a new rule for this deal: it comes into force now.
    """
    was, rule = old.by_slot[deal.position.slot].idle, new.by_slot[transition.to_slot].idle
    alike = was.treats_alike(rule, deal.facts.priority)
    after = replace(  # once: there may be thousands of them
        deal,
        position=journey.after(new, deal.position, transition),
        holds=deal.holds if alike else replace(deal.holds, rule_since=now),
        last_activity_at=last_activity_at,
    )
    return _under_rule(after, new, now)


def facts_told(facts: Facts, tags: tuple[str, ...], attributes: Mapping[str, Any]) -> Any:
    """The facts as `closed_facts` keeps them."""
    told = {name: getattr(facts, name) for name in _KEPT}
    amount = None if facts.amount is None else str(facts.amount)
    return {**told, "amount": amount, "tags": list(tags), "attributes": dict(attributes)}


def recalled(deal: Opportunity, closing: Transition) -> Opportunity:
    """The deal after its log was remade, with what is to be kept of the facts at its close.

    `closing` is the move that brought it where it stands.
    """
    position, changed_at = deal.position, deal.facts_changed_at
    if position.closed_at is None:
        return deal if deal.closed_facts is None else replace(deal, closed_facts=None)
    differs = any(getattr(deal.facts, name) != getattr(closing.facts, name) for name in _KEPT)
    later = changed_at is not None and changed_at > position.closed_at
    return replace(deal, closed_facts=UNTOLD if differs or later else None)


def clocked(deal: Opportunity, pipeline: Pipeline, now: datetime) -> Opportunity:
    """The next version of the deal, its idle clock worked out from what it is.

    Only an open deal falls idle or is to be followed up, and in an archived pipeline even that
    one rests.
    """
    return replace(deal, idle=_clock(deal, pipeline), version=deal.version + 1, updated_at=now)


def settled(
    deal: Opportunity, pipeline: Pipeline, now: datetime
) -> tuple[Opportunity, Resolution | None]:
    """The deal without its flag, and why, where the rule no longer asks for one.

    A snooze holds a flag back without ending it: a snoozed flag is judged as if it were open.
    """
    if deal.flag_id is None or _is_due(deal, pipeline, now):
        return deal, None
    return released(deal, pipeline), Resolution.NOT_DUE


def followed_up(
    deal: Opportunity,
    pipeline: Pipeline,
    kind: str,
    occurred_at: datetime,
    now: datetime,
    next_step: NextStep | None = None,
) -> tuple[Opportunity, Resolution | None]:
    """The deal after an activity of this kind, and why the flag that it bore is resolved.

    `next_step` is what was agreed there, and takes the place of what was planned before; a later
    follow-up that agrees on nothing leaves nothing planned. The very same deal comes back where
    the activity counts for nothing: it agrees on nothing, and the stage does not ask for its kind,
    or knows a later one. A reset of the clock ends the episode and every hold, even where the deal
    is idle again at once because the activity lies far back.
    """
    if deal.position.status is not Status.OPEN:
        return deal, None
    known = deal.last_activity_at
    planned = agreed(deal, pipeline, kind, occurred_at, next_step)
    qualifies = kind in pipeline.by_slot[deal.position.slot].idle.qualifying
    if qualifies and (known is None or occurred_at > known):
        known = occurred_at
    if (known, planned) == (deal.last_activity_at, deal.holds.next_step):
        return deal, None
    holds = replace(deal.holds, next_step=planned)
    after = clocked(replace(deal, last_activity_at=known, holds=holds), pipeline, now)
    if after.idle.clock_started_at == deal.idle.clock_started_at:
        return settled(after, pipeline, now)
    free = unflagged(replace(deal, last_activity_at=known, holds=holds))
    return clocked(free, pipeline, now), None if deal.flag_id is None else Resolution.ACTIVITY


def agreed(
    deal: Opportunity,
    pipeline: Pipeline,
    kind: str,
    occurred_at: datetime,
    next_step: NextStep | None,
) -> NextStep | None:
    """What is planned after an activity: see `followed_up`."""
    planned = deal.holds.next_step
    settled_at = (deal.last_activity_at, None if planned is None else planned.planned_at)
    if any(at is not None and occurred_at < at for at in settled_at):
        return planned  # it was settled since
    qualifies = kind in pipeline.by_slot[deal.position.slot].idle.qualifying
    return next_step or (None if qualifies else planned)


def unflagged(deal: Opportunity) -> Opportunity:
    """The deal at the end of an episode: without its flag, and without the snooze of that flag."""
    if deal.flag_id is None and deal.holds.snoozed_until is None:
        return deal
    return replace(
        deal,
        holds=replace(deal.holds, snoozed_until=None),
        flag_id=None,
        flagged_at=None,
        escalated_at=None,
    )


def released(deal: Opportunity, pipeline: Pipeline) -> Opportunity:
    """The same version of the deal, its episode at an end: a snooze delays it no more."""
    free = unflagged(deal)
    return replace(free, idle=_clock(free, pipeline))


def snoozed(deal: Opportunity, pipeline: Pipeline, until: datetime, now: datetime) -> Opportunity:
    """The deal with its flag put aside: the flag stays its own and comes back at `until`."""
    aside = replace(deal, holds=replace(deal.holds, snoozed_until=until), flagged_at=None)
    return clocked(aside, pipeline, now)


def flagged(
    deal: Opportunity, flag_id: UUID, now: datetime, *, escalated_at: datetime | None = None
) -> Opportunity:
    """The deal with this flag standing open."""
    return replace(
        deal,
        flag_id=flag_id,
        flagged_at=now,
        escalated_at=escalated_at,
        version=deal.version + 1,
        updated_at=now,
    )


def escalated(deal: Opportunity, now: datetime) -> Opportunity:
    """The deal with its flag critical."""
    return replace(deal, escalated_at=now, version=deal.version + 1, updated_at=now)


def clock_in(
    pipeline: Pipeline,
    stage: Stage,
    priority: str | None,
    *,
    moved_at: datetime,
    last_activity_at: datetime | None,
    holds: Holds,
) -> IdleState:
    """The clock of an open deal in this stage: `idle_state`, at rest in an archived pipeline."""
    idle = idle_state(
        stage, priority, moved_at=moved_at, last_activity_at=last_activity_at, holds=holds
    )
    return idle if pipeline.archived_at is None else _at_rest(idle)


def _under_rule(
    deal: Opportunity, pipeline: Pipeline, now: datetime
) -> tuple[Opportunity, Resolution | None]:
    after = clocked(deal, pipeline, now)
    if deal.flag_id is not None and after.idle.clock_started_at != deal.idle.clock_started_at:
        return released(after, pipeline), Resolution.NOT_DUE
    return settled(after, pipeline, now)


def _clock(deal: Opportunity, pipeline: Pipeline) -> IdleState:
    idle = clock_in(
        pipeline,
        pipeline.by_slot[deal.position.slot],
        deal.facts.priority,
        moved_at=deal.position.moved_at,
        last_activity_at=deal.last_activity_at,
        holds=deal.holds,
    )
    return idle if deal.position.status is Status.OPEN else _at_rest(idle)


def _at_rest(idle: IdleState) -> IdleState:
    return replace(idle, goes_idle_at=None, critical_at=None, follow_up_due_at=None)


def _is_due(deal: Opportunity, pipeline: Pipeline, now: datetime) -> bool:
    unsnoozed = replace(deal.holds, snoozed_until=None)
    stage, start = pipeline.by_slot[deal.position.slot], deal.idle.clock_started_at
    due = goes_idle_at(stage, deal.facts.priority, start, unsnoozed)
    return due is not None and due <= now and pipeline.archived_at is None
