"""An idle flag: one episode in which a deal sat past its stage's threshold, and who saw to it.

An episode is (deal, clock start), and has one flag however often it is opened: put aside by a
snooze it comes back as itself, and an episode that resumes has it open again. When a deal is due
is `domain.idleness`' business; what becomes of the deal's row is `domain.opportunity`'s.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.domain.errors import Breach, FlagResolved, TimeOutOfRange
from app.domain.idleness import Resolution
from app.domain.opportunity import Opportunity
from app.domain.pipeline import IdleClock, Pipeline

LONGEST_SNOOZE = timedelta(days=366)


class Severity(StrEnum):
    """How bad it is: a flag opens as a warning, and is critical after twice the time or so."""

    WARNING = "warning"
    CRITICAL = "critical"


class FlagState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleFlag:
    """A row of `idle_flag`, in the domain's words.

    `slot` and `clock` are those by which it was opened, `idle_since` the `goes_idle_at` that it
    was opened for; a later `opened_at` says that the service saw it late. `escalated_at` is since
    when it is critical, and stays when the flag comes back. `snoozed_until` stands
    as long as the snooze does, whatever the hour: what ends it is the scan that brings it back.
    """

    flag_id: UUID
    opportunity_id: UUID
    pipeline_id: UUID
    slot: int
    clock: IdleClock
    clock_started_at: datetime
    idle_since: datetime
    opened_at: datetime
    escalated_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    snoozed_at: datetime | None = None
    snoozed_by: str | None = None
    snoozed_until: datetime | None = None
    snooze_reason: str | None = None
    resolved_at: datetime | None = None
    resolved_by: Resolution | None = None

    @property
    def severity(self) -> Severity:
        return Severity.WARNING if self.escalated_at is None else Severity.CRITICAL

    @property
    def state(self) -> FlagState:
        if self.resolved_at is not None:
            return FlagState.RESOLVED
        if self.snoozed_until is not None:
            return FlagState.SNOOZED
        return FlagState.OPEN if self.acknowledged_at is None else FlagState.ACKNOWLEDGED


def raised(
    deal: Opportunity, pipeline: Pipeline, known: IdleFlag | None, new_id: UUID, now: datetime
) -> IdleFlag:
    """The open flag of a deal that is due; `known` is its episode's flag, where it has one.

    A snoozed flag has been idle all along, and a critical one comes back so; one that was resolved
    is idle since it is due again. What was acknowledged before asks for attention anew.
    """
    due, critical_at = deal.idle.goes_idle_at, deal.idle.critical_at
    assert due is not None, "a deal that never goes idle is not due"
    still = known is not None and known.resolved_at is None
    # Elsewhere, by another rule, it may not be critical yet.
    is_critical = (
        known is not None
        and known.slot == deal.position.slot
        and critical_at is not None
        and critical_at <= now
    )
    return IdleFlag(
        flag_id=new_id if known is None else known.flag_id,
        opportunity_id=deal.opportunity_id,
        pipeline_id=deal.pipeline_id,
        slot=deal.position.slot,
        clock=pipeline.by_slot[deal.position.slot].idle.clock,
        clock_started_at=deal.idle.clock_started_at,
        idle_since=known.idle_since if known is not None and still else due,
        opened_at=now if known is None else known.opened_at,
        escalated_at=known.escalated_at if known is not None and is_critical else None,
    )


def escalated(flag: IdleFlag, now: datetime) -> IdleFlag:
    """The flag as critical. What was acknowledged as a warning asks for attention anew."""
    return replace(flag, escalated_at=now, acknowledged_at=None, acknowledged_by=None)


def acknowledged(flag: IdleFlag, by: str, now: datetime) -> IdleFlag:
    """The flag as seen to by a person; whoever was first stays. Raises FlagResolved."""
    _refuse_resolved(flag)
    if flag.acknowledged_at is not None:
        return flag
    return replace(flag, acknowledged_at=now, acknowledged_by=by)


def snoozed(flag: IdleFlag, by: str, until: datetime, reason: str, now: datetime) -> IdleFlag:
    """The flag put aside until an instant ahead, at most a year; a new end replaces an old one.

    Raises FlagResolved, TimeOutOfRange.
    """
    _refuse_resolved(flag)
    if not now < until <= now + LONGEST_SNOOZE:
        detail = "A snooze ends in the future, at most 366 days ahead."
        raise TimeOutOfRange(detail, [Breach("/until", "time_out_of_range", detail)])
    return replace(flag, snoozed_at=now, snoozed_by=by, snoozed_until=until, snooze_reason=reason)


def _refuse_resolved(flag: IdleFlag) -> None:
    if flag.resolved_by is not None:
        raise FlagResolved(f"The flag is resolved: {flag.resolved_by.value}.")
