"""The digest of a day as callers ask for it and see it: sections with their counts.

Flags, deals about to fall idle and follow-ups look here as they do in the lists of their own.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field

from app.domain import opportunity as domain
from app.domain.definition import timezones
from app.domain.errors import Breach, Invalid
from app.domain.pipeline import Pipeline
from app.http.schemas.clocks import IDLE_EXAMPLE, PlannedStep
from app.http.schemas.common import Day, Duration, Id, Instant, Key, Limit, Money, Query, Response
from app.http.schemas.follow_ups import FollowUp
from app.http.schemas.idle import FLAGGED_EXAMPLE, FlaggedOpportunity, IdleFlag, UpcomingIdle
from app.http.schemas.opportunities import Label, money_of
from app.http.schemas.pipelines import Timezone
from app.http.schemas.transitions import Kind
from app.storage.queries import digest
from app.storage.transitions import LogEntry

Item = TypeVar("Item")

FARTHEST: Final = timedelta(days=366)
"""How far from today the day may lie; a year that was mistyped lies further."""

_STEP: Final[dict[str, Any]] = {
    "opportunity": FLAGGED_EXAMPLE,
    "pipeline": "sales",
    "stage": "quote",
    "next_step": IDLE_EXAMPLE["next_step"],
}
_MOVE: Final[dict[str, Any]] = {
    "id": "019a8f0e-5b2a-7c11-8f00-6a7b8c9d0e1f",
    "opportunity": FLAGGED_EXAMPLE,
    "pipeline": "sales",
    "kind": "advanced",
    "from_stage": "quote",
    "to_stage": "negotiation",
    "occurred_at": "2026-11-16T10:15:00Z",
    "amount": {"amount": "1250.00", "currency": "EUR"},
    "loss_reason": None,
    "actor": "crm-sync",
}
_LATE: Final[dict[str, Any]] = {
    "opportunity": FLAGGED_EXAMPLE,
    "pipeline": "sales",
    "stage": "quote",
    "amount": {"amount": "1250.00", "currency": "EUR"},
    "expected_close_on": "2026-11-10",
    "days_overdue": 7,
}
_COUNTS: Final[dict[str, Any]] = {
    "count": 5,
    "open": 3,
    "acknowledged": 1,
    "snoozed": 1,
    "critical": 2,
}


def _section(item: dict[str, Any]) -> dict[str, Any]:
    return {"count": 1, "items": [item]}


def _example(item: type[Response]) -> dict[str, Any]:
    """What a list shows, as its own schema does."""
    extra: Any = item.model_config["json_schema_extra"]
    example: dict[str, Any] = extra["examples"][0]
    return example


_EXAMPLE: Final[dict[str, Any]] = {
    "on": "2026-11-17",
    "timezone": "Europe/Berlin",
    "since": "2026-11-15T23:00:00Z",
    "until": "2026-11-17T23:00:00Z",
    "ahead_until": "2026-11-20T23:00:00Z",
    "idle_flags": _COUNTS,
    "newly_idle": _section(_example(IdleFlag)),
    "about_to_be_idle": _section(
        {
            **_example(UpcomingIdle),
            "clock_started_at": "2026-11-12T14:30:00Z",
            "goes_idle_at": "2026-11-19T14:30:00Z",
        }
    ),
    "follow_ups_due": _section(_example(FollowUp)),
    "next_steps_due": _section(_STEP),
    "moves": _section(_MOVE),
    "past_expected_close": _section(_LATE),
}


class DigestQuery(Query):
    """Whose digest, of which day. Filters add up; `owner` and `team` are as the deals stand now."""

    owner: Label | None = None
    team: Label | None = None
    pipeline: Key | None = None
    on: Day | None = Field(
        default=None,
        description="The day, at most 366 days from today; left out: today in `timezone`.",
    )
    timezone: Timezone | None = Field(
        default=None,
        description="Where the day begins and ends; left out: the pipeline's, without one UTC.",
    )
    within: Duration = Field(
        default="P3D",
        validate_default=True,
        description="How far beyond the end of the day a deal counts as about to fall idle; a day"
        " of it has 24 hours.",
    )
    limit: Limit = Field(default=20, description="How many items each section shows at most.")

    def morning(self, pipeline: Pipeline | None, now: datetime) -> tuple[str, digest.Morning]:
        """The time zone, and the day by its clock. Raises Invalid."""
        timezone = self.timezone or ("UTC" if pipeline is None else pipeline.timezone)
        if timezone not in timezones():
            detail = f"{timezone!r} is no IANA time zone, like Europe/Berlin."
            raise Invalid(detail, [Breach("?timezone", "unknown_timezone", detail)])
        zone = ZoneInfo(timezone)
        today = now.astimezone(zone).date()
        on = self.on or today
        if abs(on - today) > FARTHEST:
            detail = f"The day lies at most {FARTHEST.days} days from today, {today}."
            raise Invalid(detail, [Breach("?on", "out_of_range", detail)])
        return timezone, digest.Morning.of(on, zone, self.within.length)


class IdleFlagCounts(Response):
    """The idle flags that are not resolved: each has one state, and is critical or not."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COUNTS]})

    count: int
    open: int
    acknowledged: int
    snoozed: int
    critical: int


class NextStepDue(Response):
    """A deal whose planned next step is due."""

    model_config = ConfigDict(json_schema_extra={"examples": [_STEP]})

    opportunity: FlaggedOpportunity
    pipeline: str
    stage: str
    next_step: PlannedStep

    @classmethod
    def of(cls, deal: domain.Opportunity, pipeline: Pipeline) -> "NextStepDue":
        step = PlannedStep.of(deal.holds.next_step)
        assert step is not None, "what is due was planned"
        return cls.model_construct(
            opportunity=FlaggedOpportunity.of(deal),
            pipeline=pipeline.key,
            stage=pipeline.by_slot[deal.position.slot].key,
            next_step=step,
        )


class DigestMove(Response):
    """A move in short, with the deal's amount at that moment; the log has the whole of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MOVE]})

    id: Id
    opportunity: FlaggedOpportunity
    pipeline: str
    kind: Kind
    from_stage: str
    to_stage: str
    occurred_at: Instant
    amount: Money | None
    loss_reason: str | None
    actor: str

    @classmethod
    def of(cls, entry: LogEntry, deal: domain.Opportunity, pipeline: Pipeline) -> "DigestMove":
        moved = entry.transition
        assert moved.from_slot is not None, "what moved came from a stage"
        return cls.model_construct(
            id=entry.transition_id,
            opportunity=FlaggedOpportunity.of(deal),
            pipeline=pipeline.key,
            kind=moved.kind.value,
            from_stage=pipeline.by_slot[moved.from_slot].key,
            to_stage=pipeline.by_slot[moved.to_slot].key,
            occurred_at=moved.occurred_at,
            amount=money_of(moved.facts.amount, moved.facts.currency),
            loss_reason=moved.loss_reason,
            actor=entry.actor,
        )


class LateClose(Response):
    """An open deal that was expected to have closed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LATE]})

    opportunity: FlaggedOpportunity
    pipeline: str
    stage: str
    amount: Money | None
    expected_close_on: Day
    days_overdue: int

    @classmethod
    def of(cls, deal: domain.Opportunity, pipeline: Pipeline, on: date) -> "LateClose":
        assert deal.expected_close_on is not None, "what is overdue has its day"
        return cls.model_construct(
            opportunity=FlaggedOpportunity.of(deal),
            pipeline=pipeline.key,
            stage=pipeline.by_slot[deal.position.slot].key,
            amount=money_of(deal.facts.amount, deal.facts.currency),
            expected_close_on=deal.expected_close_on,
            days_overdue=(on - deal.expected_close_on).days,
        )


class Section(Response, Generic[Item]):
    """How many there are, and the first of them; each section has a name of its own."""

    count: int
    items: list[Item]


class NewlyIdle(Section[IdleFlag]):
    """Flags of deals that fell idle since yesterday and are not resolved, the oldest first.

    One that was opened later than that, since the service was away, counts from its opening.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["newly_idle"]]})


class AboutToBeIdle(Section[UpcomingIdle]):
    """Deals without an open flag that fall idle soon, the soonest first.

    A snoozed one is among them where its snooze ends by then, and so is one that has just fallen
    idle and waits for the next scan.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["about_to_be_idle"]]})


class FollowUpsDue(Section[FollowUp]):
    """Deals that are to be followed up by the end of the day, the longest due first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["follow_ups_due"]]})


class NextStepsDue(Section[NextStepDue]):
    """Open deals whose next step was planned for the day or before, the longest due first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["next_steps_due"]]})


class DigestMoves(Section[DigestMove]):
    """Moves since yesterday, the newest first.

    Without openings, voided moves, imported history, and what a changed definition rearranged.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["moves"]]})


class PastExpectedClose(Section[LateClose]):
    """Open deals that were expected to close before the day, the longest overdue first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["past_expected_close"]]})


class Digest(Response):
    """What some deals ask for on a day. A `count` tells of all, `items` has the first of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    on: Day
    timezone: str
    since: Instant = Field(description="When the day before begins: moves and flags from there on.")
    until: Instant = Field(description="When the day ends: what is due before it is due.")
    ahead_until: Instant = Field(description="Who falls idle before it is about to.")
    idle_flags: IdleFlagCounts
    newly_idle: NewlyIdle
    about_to_be_idle: AboutToBeIdle
    follow_ups_due: FollowUpsDue
    next_steps_due: NextStepsDue
    moves: DigestMoves
    past_expected_close: PastExpectedClose

    @classmethod
    def of(cls, found: digest.Digest, morning: digest.Morning, timezone: str) -> "Digest":
        return cls.model_construct(
            on=morning.on,
            timezone=timezone,
            since=morning.since,
            until=morning.end,
            ahead_until=morning.ahead,
            idle_flags=IdleFlagCounts.model_construct(**asdict(found.idle_flags)),
            newly_idle=NewlyIdle.model_construct(**_shown(found.newly_idle, IdleFlag.of)),
            about_to_be_idle=AboutToBeIdle.model_construct(
                **_shown(found.about_to_be_idle, UpcomingIdle.of)
            ),
            follow_ups_due=FollowUpsDue.model_construct(
                **_shown(found.follow_ups_due, FollowUp.of)
            ),
            next_steps_due=NextStepsDue.model_construct(
                **_shown(found.next_steps_due, NextStepDue.of)
            ),
            moves=DigestMoves.model_construct(**_shown(found.moves, DigestMove.of)),
            past_expected_close=PastExpectedClose.model_construct(
                **_shown(found.past_expected_close, partial(LateClose.of, on=morning.on))
            ),
        )


def _shown(found: digest.Section[Any], show: Callable[..., Response]) -> dict[str, Any]:
    return {"count": found.count, "items": [show(*each) for each in found.items]}
