"""The idle clock: when a deal has been quiet for longer than its stage allows.

    crossing     = clock start + threshold
    goes_idle_at = max(crossing, the rule's coming into force, snooze end)

(domain.md, "The idle clock".) Holds delay, they do not stop the clock, and a reset of the clock
ends them by itself: what lies before the new start can no longer be the maximum. Here a day is
24 hours.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Holds:
    """What keeps a deal from being idle though its threshold has passed.

    `rule_since` is the instant at which the rule began to apply to this very deal (its priority
    changed, or its stage was rearranged under it); the stage's own rule says since when it exists.
    """

    rule_since: datetime | None = None
    snoozed_until: datetime | None = None


NO_HOLDS = Holds()


@dataclass(frozen=True, slots=True)
class IdleState:
    """The clock of one deal: why, since when, until when. `goes_idle_at` None: never."""

    clock_started_at: datetime
    reset_by: Reset
    goes_idle_at: datetime | None


def idle_state(
    stage: Stage,
    priority: str | None,
    *,
    moved_at: datetime,
    last_activity_at: datetime | None,
    holds: Holds = NO_HOLDS,
) -> IdleState:
    """The clock of an open deal in `stage`; a closed stage's deal never goes idle."""
    started, reset_by = moved_at, Reset.MOVE
    if (
        stage.idle.clock is IdleClock.INACTIVITY
        and last_activity_at is not None
        and last_activity_at > moved_at
    ):
        started, reset_by = last_activity_at, Reset.ACTIVITY
    return IdleState(started, reset_by, goes_idle_at(stage, priority, started, holds))


def goes_idle_at(
    stage: Stage, priority: str | None, clock_started_at: datetime, holds: Holds
) -> datetime | None:
    """The instant at which the deal's age has reached the threshold and no hold is left."""
    due = crossing(stage.idle, priority, clock_started_at) if stage.is_open else None
    if due is None:
        return None
    return max(
        instant
        for instant in (due, stage.idle.since, holds.rule_since, holds.snoozed_until)
        if instant is not None
    )


def crossing(rule: IdleRule, priority: str | None, clock_started_at: datetime) -> datetime | None:
    """Clock start + threshold: idle by the rule alone, whatever holds the flag back."""
    threshold = rule.threshold(priority)
    return None if threshold is None else clock_started_at + threshold.length
