"""Suggested idle thresholds as callers see them: what they might be, and on how much that rests."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, Self

from pydantic import Field

from app.domain.intervals import Proportion, Silence
from app.domain.measures import idle_suggestions
from app.domain.measures.idle_suggestions import LOAD_WEEKS, Halving, Load, Suggestion
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection
from app.domain.pipeline import IdleRule, Pipeline, Stage
from app.http.schemas.common import Duration, Query, Response
from app.http.schemas.idle_planning import (
    NAMING,
    POLICY,
    TERMS,
    IdlePlanningPolicy,
    IdleTerms,
    policy_of,
    selection_of,
)
from app.http.schemas.metric_queries import Edge
from app.http.schemas.metrics import SHARE, Share, example, naming, seconds

_HALVING: Final[dict[str, Any]] = {
    "after_seconds": 1555200.0,
    "at_entry": SHARE,
    "after": {"count": 4, "of": 19, "rate": 0.2105, "low": 0.085, "high": 0.433},
    "reason": None,
}
_LOAD: Final[dict[str, Any]] = {
    "weeks": LOAD_WEEKS,
    "flags": 31,
    "flags_per_week": 2.58,
    "idle_now": 5,
}
_SUGGESTED: Final[dict[str, Any]] = {
    "idle_after": "P9D",
    "idle_clock": "stage_age",
    "idle_time": "elapsed",
}
_SUGGESTION: Final[dict[str, Any]] = {
    **NAMING,
    "present": TERMS,
    "won": 41,
    "lost": 39,
    "p85_seconds": 751000.0,
    "p85_low_seconds": 604800.0,
    "p85_high_seconds": 1123200.0,
    "suggested": _SUGGESTED,
    "reason": None,
    "halving": _HALVING,
    "load": _LOAD,
}
_SUGGESTIONS_POLICY: Final[dict[str, Any]] = {
    **{name: said for name, said in POLICY.items() if name != "weeks"},
    "share": idle_suggestions.SHARE,
    "minimum_won": idle_suggestions.MIN_WON,
}


class IdleSuggestionsQuery(Query):
    """From which past thresholds are suggested."""

    from_: Edge | None = Field(
        default=None,
        alias="from",
        description="Stays that were begun since; left out: in the last 365 days.",
    )

    def selection(self, pipeline: Pipeline, now: datetime) -> Selection:
        """What is looked at. Raises Invalid for a period that has not begun yet."""
        edges = (self.from_, None)
        return selection_of(pipeline, now, edges, idle_suggestions.PERIOD, "?from")


class IdleSuggestionsPolicy(IdlePlanningPolicy):
    """The rules of suggestions."""

    model_config = example(_SUGGESTIONS_POLICY)

    share: float = Field(description="The share of won deals that would never have been flagged.")
    minimum_won: int = Field(description="Nothing is suggested from fewer won deals.")


class SuggestedIdleRule(Response):
    """What can be sent as it is: to the stage, or to a preview. Lengths count in all time."""

    model_config = example(_SUGGESTED)

    idle_after: Duration = Field(
        description="The 85th percentile, up to whole days, or hours where it is less than a day."
    )
    idle_clock: Literal["stage_age"]
    idle_time: Literal["elapsed"]

    @classmethod
    def of(cls, rule: IdleRule) -> "SuggestedIdleRule":
        assert rule.after is not None, "a suggested rule has a threshold"
        return cls.model_construct(
            idle_after=rule.after, idle_clock="stage_age", idle_time="elapsed"
        )


class ChanceHalving(Response):
    """When half the chance to win is gone: an empirical statement about deals closed by now."""

    model_config = example(_HALVING)

    after_seconds: float | None = Field(
        description="The shortest stay beyond which the share of won deals is at most half of"
        " `at_entry`, six deals at least having stayed longer."
    )
    at_entry: Share = Field(description="Won, of all deals that have stayed here and are closed.")
    after: Share | None = Field(description="Won, of those that stayed longer than that.")
    reason: Silence | None = Field(
        description="Why it is null: fewer than six were won (`too_few_cases`), or the share does"
        " not come down so far (`not_reached`)."
    )

    @classmethod
    def of(cls, found: Halving, at_entry: Proportion) -> Self:
        after = None
        if found.still is not None and found.still_won is not None:
            after = Share.of_(Proportion(found.still_won, found.still))
        return cls(
            after_seconds=seconds(found.after),
            at_entry=Share.of_(at_entry),
            after=after,
            reason=found.reason,
        )


class IdleLoad(Response):
    """What the suggested threshold would ask of people, holds aside."""

    model_config = example(_LOAD)

    weeks: int = Field(description="The weeks before now in which the flags would have opened.")
    flags: int
    flags_per_week: float
    idle_now: int = Field(description="Open deals that have passed the threshold now.")

    @classmethod
    def of(cls, load: Load) -> Self:
        return cls(
            weeks=LOAD_WEEKS,
            flags=load.flags,
            flags_per_week=load.flags / LOAD_WEEKS,
            idle_now=load.idle_now,
        )


class StageIdleSuggestion(Response):
    """What an open stage's threshold might be, and on how much that rests.

    A deal counts once, by its longest completed stay in the stage.
    """

    model_config = example(_SUGGESTION)

    key: str
    name: str
    rank: int | None
    off_path: bool
    present: IdleTerms
    won: int = Field(description="Deals won by now that have stayed here.")
    lost: int
    p85_seconds: float | None = Field(description="Of the stays of won deals.")
    p85_low_seconds: float | None = Field(
        description="The 95 % interval that assumes no shape, between two of these stays."
    )
    p85_high_seconds: float | None
    suggested: SuggestedIdleRule | None
    reason: Silence | None = Field(description="Why nothing is suggested: `too_few_cases`.")
    halving: ChanceHalving
    load: IdleLoad | None = Field(
        description="Of the suggested threshold; the stage's exceptions by priority stay."
    )

    @classmethod
    def of(cls, stage: Stage, found: Suggestion, ranking: Ranking) -> Self:
        interval, rule = found.interval, found.rule
        return cls(
            **naming(stage, ranking),
            present=IdleTerms.of(stage.idle),
            won=found.won,
            lost=found.lost,
            p85_seconds=seconds(found.p85),
            p85_low_seconds=None if interval is None else seconds(interval.low),
            p85_high_seconds=None if interval is None else seconds(interval.high),
            suggested=None if rule is None else SuggestedIdleRule.of(rule),
            reason=found.reason,
            halving=ChanceHalving.of(found.halving, Proportion(found.won, found.won + found.lost)),
            load=found.load and IdleLoad.of(found.load),
        )


class IdleSuggestions(Response):
    """What the idle thresholds of a pipeline might be, told by its past."""

    model_config = example({"policy": _SUGGESTIONS_POLICY, "stages": [_SUGGESTION]})

    policy: IdleSuggestionsPolicy
    stages: list[StageIdleSuggestion] = Field(description="The open stages in use, in order.")

    @classmethod
    def of(cls, ranking: Ranking, found: Mapping[int, Suggestion], selection: Selection) -> Self:
        return cls(
            policy=IdleSuggestionsPolicy(
                **policy_of(ranking.pipeline, selection),
                share=idle_suggestions.SHARE,
                minimum_won=idle_suggestions.MIN_WON,
            ),
            stages=[
                StageIdleSuggestion.of(ranking.stage(slot), suggestion, ranking)
                for slot, suggestion in found.items()
            ],
        )
