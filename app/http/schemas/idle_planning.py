"""Planning of idle thresholds as callers see it: what others would have done, what they might be.

Counts stand beside every rate. What rests on fewer than six cases is null, and `reason` says so.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NoReturn, Self
from zoneinfo import ZoneInfo

from pydantic import MISSING, Field, WithJsonSchema

from app.domain.errors import Breach, Invalid
from app.domain.intervals import Proportion, Silence
from app.domain.journey import Status
from app.domain.measures import idle_preview
from app.domain.measures.idle_preview import Figures, Replayed, Told, thin
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Selection
from app.domain.pipeline import MAX_STAGES, IdleRule, Pipeline, Stage
from app.http.schemas.common import Duration, Instant, Key, Rate, Request, Response, Update
from app.http.schemas.metric_queries import EDGE, Edge, instant_of, present_minute
from app.http.schemas.metrics import SHARE, example, naming, seconds
from app.http.schemas.stages import Clock, IdleTime, Priority, StageUpdate

_TRIAL: Final[dict[str, Any]] = {"idle_after": "P5D", "idle_after_by_priority": {"high": "P3D"}}
TERMS: Final[dict[str, Any]] = {
    "idle_after": "P7D",
    "idle_after_by_priority": {},
    "idle_clock": "stage_age",
    "idle_time": "working",
    "qualifying_activities": None,
}
_RATE: Final[dict[str, Any]] = {**SHARE, "reason": None}
_FLAGGED: Final[dict[str, Any]] = {"deals": 96, "open": 12, "won": 39, "lost": 41, "handed_off": 4}
_REPLAY: Final[dict[str, Any]] = {
    "visits": 240,
    "deals": 228,
    "lost_deals": 80,
    "flags": 104,
    "flags_per_week": 4.04,
    "flagged": _FLAGGED,
    "precision": _RATE,
    "recall": _RATE,
    "median_lead_seconds": 1036800.0,
    "lead_reason": None,
}
NAMING: Final[dict[str, Any]] = {"key": "quote", "name": "Quote", "rank": 3, "off_path": False}
_STAGE_PREVIEW: Final[dict[str, Any]] = {
    **NAMING,
    "present_rule": TERMS,
    "preview_rule": {**TERMS, "idle_after": "P5D", "idle_after_by_priority": {"high": "P3D"}},
    "present": _REPLAY,
    "preview": _REPLAY,
}
POLICY: Final[dict[str, Any]] = {
    "from": "2026-01-01T00:00:00Z",
    "to": "2026-06-30T00:00:00Z",
    "as_of": "2026-07-01T00:00:00Z",
    "timezone": "UTC",
    "revision": 3,
    "weeks": 25.714285714285715,
    "holds": "not_replayed",
}


_Edge = Annotated[
    Edge,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 64,
            "pattern": EDGE,
            "examples": ["2026-01-01"],
        }
    ),
]
"""In a body, where all text is capped."""


class IdleRuleTrial(Update):
    """An idle rule to be tried: what is left out stays as the stage has it now."""

    model_config = example(_TRIAL)

    idle_after: Duration | MISSING | None = MISSING
    idle_after_by_priority: (
        Annotated[dict[Priority, Duration | None], Field(max_length=20)] | MISSING
    ) = Field(default=MISSING, description="Replaced as a whole: null means never, for a priority.")
    idle_clock: Clock | MISSING = MISSING
    idle_time: IdleTime | MISSING = MISSING
    qualifying_activities: Annotated[list[Key], Field(max_length=50)] | MISSING | None = MISSING

    def apply(self, stage: Stage) -> Stage:
        """The stage as a PATCH by the same terms would have it."""
        return StageUpdate.model_construct(self.model_fields_set, **self.given()).apply(stage)


class IdlePreviewRequest(Request):
    """Which stages get which rule, and over which past; stages left out keep their present one."""

    model_config = example({"stages": {"quote": _TRIAL}, "from": "2026-01-01", "to": "2026-07-01"})

    stages: Annotated[dict[Key, IdleRuleTrial], Field(max_length=MAX_STAGES)] = Field(
        description="By the stage's key."
    )
    from_: _Edge | None = Field(
        default=None,
        alias="from",
        description="Begin of the period; left out: 180 days before `to`.",
    )
    to: _Edge | None = Field(
        default=None, description="End of the period, not in it; left out: it goes on until now."
    )

    def selection(self, pipeline: Pipeline, now: datetime) -> Selection:
        """What is replayed. Raises Invalid for a period that holds nothing of the past."""
        edges = (self.from_, self.to)
        return selection_of(pipeline, now, edges, idle_preview.PERIOD, "/from")


class IdleTerms(Response):
    """What a stage's idle rule asks, as a definition writes it."""

    model_config = example(TERMS)

    idle_after: Duration | None
    idle_after_by_priority: dict[str, Duration | None]
    idle_clock: Clock
    idle_time: IdleTime
    qualifying_activities: list[str] | None = Field(description="Null: those of the pipeline.")

    @classmethod
    def of(cls, rule: IdleRule) -> "IdleTerms":
        return cls.model_construct(
            idle_after=rule.after,
            idle_after_by_priority=dict(rule.after_by_priority),
            idle_clock=rule.clock.value,
            idle_time="elapsed" if rule.elapsed else "working",
            qualifying_activities=None if rule.inherits else list(rule.qualifying),
        )


class IdlePlanningPolicy(Response):
    """By what rules the past was looked at, with every default filled in."""

    as_of: Instant = Field(description="Outcomes are those of deals at this instant.")
    from_: Instant = Field(alias="from")
    to: Instant = Field(description="Not in the period.")
    timezone: str = Field(description="Where the days of the period begin.")
    revision: int = Field(description="The definition that holds the present rules.")
    holds: Literal["not_replayed"] = Field(
        description="Snoozes, planned next steps, and since when a rule has been in force delay"
        " flags; nothing of it is replayed."
    )


class IdlePreviewPolicy(IdlePlanningPolicy):
    """The rules of a preview."""

    model_config = example(POLICY)

    weeks: float = Field(description="How much of the period has passed.")


class IdleRate(Response):
    """So many of so many. The rate and its 95 % interval (Wilson) are null for fewer than six."""

    model_config = example(_RATE)

    count: int
    of: int
    rate: Rate | None
    low: Rate | None
    high: Rate | None
    reason: Silence | None = Field(description="Why the rate is null: `too_few_cases`.")

    @classmethod
    def of_(cls, share: Proportion) -> Self:
        reason = thin(share.of)
        shown = share if reason is None else None
        interval = shown and shown.interval
        return cls(
            count=share.count,
            of=share.of,
            rate=shown and shown.rate,
            low=interval and interval.low,
            high=interval and interval.high,
            reason=reason,
        )


class FlaggedDeals(Response):
    """The deals that would have been flagged, by what has become of them."""

    model_config = example(_FLAGGED)

    deals: int
    open: int
    won: int
    lost: int
    handed_off: int

    @classmethod
    def of(cls, flagged: Mapping[Status, int]) -> Self:
        by_status = {status.value: flagged.get(status, 0) for status in Status}
        return cls(deals=sum(flagged.values()), **by_status)


class IdleReplay(Response):
    """What a rule would have done to the visits of the period."""

    model_config = example(_REPLAY)

    visits: int = Field(
        description="Visits of open stages that were entered in the period; a visit begun by a"
        " rearranged definition counts where the clock does that it goes on with."
    )
    deals: int = Field(description="That made them.")
    lost_deals: int = Field(description="Of those, the ones that are lost by now.")
    flags: int = Field(
        description="One for each clock start of which the threshold was reached before the clock"
        " was reset, or the stage was left; of visits under way, by now."
    )
    flags_per_week: float = Field(description="flags / weeks of the period that have passed.")
    flagged: FlaggedDeals
    precision: IdleRate = Field(
        description="Of the flagged deals that are won or lost by now, those lost. Open deals and"
        " those handed off are in neither number."
    )
    recall: IdleRate = Field(description="Of the lost deals, those that had been flagged before.")
    median_lead_seconds: float | None = Field(
        description="From the first flag to the loss, of the lost deals that had been flagged."
    )
    lead_reason: Silence | None = Field(description="Why there is no median: `too_few_cases`.")

    @classmethod
    def of(cls, figures: Figures, weeks: float) -> Self:
        return cls(
            visits=figures.visits,
            deals=figures.deals,
            lost_deals=figures.lost,
            flags=figures.flags,
            flags_per_week=figures.flags / weeks,
            flagged=FlaggedDeals.of(figures.flagged),
            precision=IdleRate.of_(figures.precision),
            recall=IdleRate.of_(figures.recall),
            median_lead_seconds=seconds(figures.lead),
            lead_reason=thin(figures.recall.count),
        )


class IdleComparison(Response):
    """The same past under the present rules, and under those to be tried."""

    model_config = example({"present": _REPLAY, "preview": _REPLAY})

    present: IdleReplay
    preview: IdleReplay


class StageIdlePreview(IdleComparison):
    """One open stage under its present rule, and under the one to be tried."""

    model_config = example(_STAGE_PREVIEW)

    key: str
    name: str
    rank: int | None
    off_path: bool
    present_rule: IdleTerms
    preview_rule: IdleTerms


class IdlePreview(Response):
    """What other idle thresholds would have done."""

    model_config = example(
        {
            "policy": POLICY,
            "total": {"present": _REPLAY, "preview": _REPLAY},
            "stages": [_STAGE_PREVIEW],
        }
    )

    policy: IdlePreviewPolicy
    total: IdleComparison = Field(description="Of all open stages; each deal counts once.")
    stages: list[StageIdlePreview]

    @classmethod
    def of(
        cls,
        ranking: Ranking,
        tried: Pipeline,
        found: Mapping[Replayed, Told],
        selection: Selection,
        now: datetime,
    ) -> Self:
        weeks = idle_preview.weeks(selection, min(selection.as_of, now))

        def told(slot: int | None) -> dict[str, IdleReplay]:
            nothing = idle_preview.NOTHING
            return {
                which.value: IdleReplay.of(told.get(slot, nothing), weeks)
                for which, told in found.items()
            }

        return cls(
            policy=IdlePreviewPolicy(**policy_of(ranking.pipeline, selection), weeks=weeks),
            total=IdleComparison(**told(None)),
            stages=[
                StageIdlePreview(
                    **naming(stage, ranking),
                    present_rule=IdleTerms.of(stage.idle),
                    preview_rule=IdleTerms.of(tried.by_slot[stage.slot].idle),
                    **told(stage.slot),
                )
                for stage in ranking.listed(
                    {slot for each in found.values() for slot in each if slot}
                )
            ],
        )


def selection_of(
    pipeline: Pipeline,
    now: datetime,
    edges: tuple[date | None, date | None],
    usual: timedelta,
    pointer: str,
) -> Selection:
    """The period between these edges, the `usual` length where it has no beginning, seen now.

    Raises Invalid for one that holds nothing of the past; `pointer` is where it begins.
    """
    as_of, zone = present_minute(now), ZoneInfo(pipeline.timezone)
    start, end = (instant_of(edge, zone) for edge in edges)
    end = as_of if end is None else end
    start = end - usual if start is None else start
    if now <= start:
        _refuse(pointer, "What is to come cannot be replayed yet.")
    if end <= start:
        _refuse("/to", "The period ends before it has begun.")
    return Selection(
        as_of=as_of,
        start=start,
        end=end,
        timezone=pipeline.timezone,
        attribution=Attribution.AT_MOVE,
    )


def policy_of(pipeline: Pipeline, selection: Selection) -> dict[str, Any]:
    """What both policies say."""
    return {
        "from": selection.start,
        "to": selection.end,
        "as_of": selection.as_of,
        "timezone": selection.timezone,
        "revision": pipeline.revision,
        "holds": "not_replayed",
    }


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise Invalid(detail, [Breach(pointer, "out_of_range", detail)])
