"""The idle clock: when a deal has been quiet for longer than its stage allows.

    crossing     = clock start + threshold
    goes_idle_at = max(crossing, the rule's coming into force, snooze end,
                       min(planned next step, crossing + max_pause))
    critical_at  = max(clock start + critical threshold, goes_idle_at)

(domain.md, "The idle clock".) Lengths count in the working time of the rule's calendar; without
one a day is 24 hours. Holds delay, they do not stop the clock, and a reset of the clock ends them:
what was planned before the new start holds nothing back any more.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Stage


class Reset(StrEnum):
    """What last reset a deal's clock."""

    MOVE = "move"
    ACTIVITY = "activity"


class Resolution(StrEnum):
    """Why a flag was resolved."""

    MOVED = "moved"
    CLOSED = "closed"
    ACTIVITY = "activity"
    NOT_DUE = "not_due"


class Hold(StrEnum):
    """What keeps a deal from being idle though its threshold has passed: see `Holds`."""

    RULE = "rule"
    SNOOZE = "snooze"
    NEXT_STEP = "next_step"


@dataclass(frozen=True, slots=True)
class NextStep:
    """What is to be done next about a deal, and when; `planned_at` is when that was agreed."""

    at: datetime
    planned_at: datetime
    what: str | None = None


@dataclass(frozen=True, slots=True)
class Holds:
    """What keeps a deal from being idle though its threshold has passed.

    `rule_since` is the instant at which the rule began to apply to this very deal (its priority
    changed, or its stage was rearranged under it); the stage's own rule says since when it exists.
    """

    rule_since: datetime | None = None
    snoozed_until: datetime | None = None
    next_step: NextStep | None = None


NO_HOLDS = Holds()


@dataclass(frozen=True, slots=True)
class IdleState:
    """The clocks of one deal: why, since when, until when.

    `goes_idle_at` None: never, or later than calendars reach; then it is never critical either.
    `follow_up_due_at`: when its next follow-up is due by the stage's cadence, counted from the
    last one, or from the move that brought it into the stage; None: the stage has no cadence.
    """

    clock_started_at: datetime
    reset_by: Reset
    goes_idle_at: datetime | None
    critical_at: datetime | None = None
    follow_up_due_at: datetime | None = None


def idle_state(
    stage: Stage,
    priority: str | None,
    *,
    moved_at: datetime,
    last_activity_at: datetime | None,
    holds: Holds = NO_HOLDS,
) -> IdleState:
    """The clocks of an open deal in `stage`; a closed stage's deal never goes idle."""
    started, reset_by = moved_at, Reset.MOVE
    seen_to_at = moved_at
    if last_activity_at is not None and last_activity_at > moved_at:
        seen_to_at = last_activity_at
        if stage.idle.clock is IdleClock.INACTIVITY:
            started, reset_by = last_activity_at, Reset.ACTIVITY
    goes_idle = goes_idle_at(stage, priority, started, holds)
    cadence = stage.follow_up_every if stage.is_open else None
    return IdleState(
        clock_started_at=started,
        reset_by=reset_by,
        goes_idle_at=goes_idle,
        critical_at=critical_at(stage.idle, priority, started, goes_idle),
        follow_up_due_at=None if cadence is None else _later(stage.idle, seen_to_at, cadence),
    )


def goes_idle_at(
    stage: Stage, priority: str | None, clock_started_at: datetime, holds: Holds
) -> datetime | None:
    """The instant at which the deal's age has reached the threshold and no hold is left."""
    return _due(stage, priority, clock_started_at, holds)[0]


def held_by(
    stage: Stage, priority: str | None, clock_started_at: datetime, holds: Holds
) -> Hold | None:
    """What decides when the deal goes idle; None: the threshold itself, or it never does."""
    return _due(stage, priority, clock_started_at, holds)[1]


def crossing(rule: IdleRule, priority: str | None, clock_started_at: datetime) -> datetime | None:
    """Clock start + threshold: idle by the rule alone, whatever holds the flag back."""
    threshold = rule.threshold(priority)
    return None if threshold is None else _later(rule, clock_started_at, threshold)


def latest_start(rule: IdleRule, priority: str | None, at: datetime) -> datetime | None:
    """The latest clock start that has crossed by then: `crossing(…, start) <= at` for this start
    and for every earlier one, and for no later one. None: nobody is idle by this rule.

    So the deals that are idle at an instant are told by comparing their clocks' starts with one.
    """
    threshold = rule.threshold(priority)
    if threshold is None:
        return None
    if rule.calendar is None:
        return at - threshold.length
    return rule.calendar.latest_start(at, threshold)


def critical_at(
    rule: IdleRule, priority: str | None, clock_started_at: datetime, goes_idle: datetime | None
) -> datetime | None:
    """When the flag of a deal that goes idle at `goes_idle` becomes critical."""
    length = rule.critical(priority)
    if goes_idle is None or length is None:
        return None
    critical = _later(rule, clock_started_at, length)
    return None if critical is None else max(critical, goes_idle)


def _due(
    stage: Stage, priority: str | None, clock_started_at: datetime, holds: Holds
) -> tuple[datetime | None, Hold | None]:
    rule = stage.idle
    due = crossing(rule, priority, clock_started_at) if stage.is_open else None
    if due is None:
        return None, None
    latest: tuple[datetime, Hold | None] = due, None
    for until, hold in (
        (rule.since, Hold.RULE),
        (holds.rule_since, Hold.RULE),
        (holds.snoozed_until, Hold.SNOOZE),
        (_paused_until(rule, due, clock_started_at, holds.next_step), Hold.NEXT_STEP),
    ):
        if until is not None and until > latest[0]:
            latest = until, hold
    return latest


def _paused_until(
    rule: IdleRule, due: datetime, clock_started_at: datetime, step: NextStep | None
) -> datetime | None:
    if step is None or rule.max_pause is None or step.planned_at < clock_started_at:
        return None
    longest = _later(rule, due, rule.max_pause)
    return step.at if longest is None else min(step.at, longest)


def _later(rule: IdleRule, start: datetime, period: Period) -> datetime | None:
    if rule.calendar is None:
        return start + period.length
    return rule.calendar.crossing(start, period)
