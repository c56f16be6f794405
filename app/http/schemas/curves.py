"""Curves as front ends plot them: how long deals stay in a stage, how long until they are won."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Self

from pydantic import Field

from app.domain.durations import CompetingPoint, Point
from app.domain.journey import Status
from app.domain.measures.curves import CycleCurve as Cycles
from app.domain.measures.curves import StageCurve as Stays
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution
from app.domain.measures.stage_time import VisitReentry
from app.domain.pipeline import Stage
from app.http.schemas.common import Key, Rate, Response
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.metric_queries import PeriodQuery
from app.http.schemas.metrics import (
    ESTIMATE,
    POLICY,
    Estimate,
    PeriodPolicy,
    example,
    naming,
    seconds,
)

_POINT: Final[dict[str, Any]] = {
    "seconds": 345600.0,
    "at_risk": 27,
    "survival": 0.5,
    "low": 0.361,
    "high": 0.624,
}
_COMPETING: Final[dict[str, Any]] = {
    "seconds": 2592000.0,
    "at_risk": 40,
    "survival": 0.4,
    "won": 0.35,
    "lost": 0.24,
    "handed_off": 0.01,
}
_STAGE: Final[dict[str, Any]] = {"key": "quote", "name": "Quote", "rank": 2, "off_path": False}
_STAGE_POLICY: Final[dict[str, Any]] = {**POLICY, "stage": "quote", "reentry": "every"}


class _CurveQuery(PeriodQuery):
    group_by: ClassVar[None] = None  # type: ignore[misc] # no parameter of a curve: it is refused

    @property
    def ages(self) -> bool:
        return True


class StageCurveQuery(_CurveQuery):
    """The visits of one stage that were entered in the period."""

    stage: Key = Field(description="The key of an open stage.")
    reentry: VisitReentry = Field(
        default=VisitReentry.EVERY, description="Each visit, or the `sum` of a deal's in the stage."
    )

    @property
    def usual_attribution(self) -> Attribution:
        return Attribution.AT_MOVE


class CycleCurveQuery(_CurveQuery):
    """The deals opened in the period."""


class SurvivalPoint(Response):
    """From `seconds` on, to the next point: the share still there."""

    model_config = example(_POINT)

    seconds: float
    at_risk: int = Field(description="Cases that lasted longer, or are still under way there.")
    survival: Rate
    low: Rate | None = Field(description="The 95 % interval; null where survival is 0 or 1.")
    high: Rate | None

    @classmethod
    def of(cls, point: Point) -> Self:
        return cls(
            seconds=seconds(point.length) or 0.0,
            at_risk=point.at_risk,
            survival=point.survival,
            low=point.interval and point.interval.low,
            high=point.interval and point.interval.high,
        )


class StageCurvePolicy(PeriodPolicy):
    """The rules of a curve over the visits to one stage."""

    model_config = example(_STAGE_POLICY)

    stage: str
    reentry: VisitReentry


class TimeInStageCurve(Response):
    """How many stay how long in a stage (Kaplan-Meier). It begins at 1; each point is a step."""

    model_config = example(
        {
            "definition": {"id": "time-in-stage-curve", "version": 1},
            "policy": _STAGE_POLICY,
            **_STAGE,
            "completed": 49,
            "open": 5,
            "quantiles": ESTIMATE,
            "points": [_POINT],
        }
    )

    definition: DefinitionRef
    policy: StageCurvePolicy
    key: str
    name: str
    rank: int | None = Field(description="Its place in the order; null where it has none.")
    off_path: bool
    completed: int
    open: int
    quantiles: Estimate
    points: list[SurvivalPoint] = Field(max_length=200)

    @classmethod
    def of(cls, curve: Stays, stage: Stage, ranking: Ranking, **more: Any) -> Self:
        return cls(
            definition=DefinitionRef.of("time-in-stage-curve"),
            **naming(stage, ranking),
            completed=curve.ended,
            open=curve.running,
            quantiles=Estimate.of(curve.quantiles),
            points=[SurvivalPoint.of(point) for point in curve.points],
            **more,
        )


class CyclePoint(Response):
    """From `seconds` on, to the next point: the share still open, and how the others ended."""

    model_config = example(_COMPETING)

    seconds: float
    at_risk: int = Field(description="Deals that lasted longer, or are still open there.")
    survival: Rate
    won: Rate
    lost: Rate
    handed_off: Rate

    @classmethod
    def of(cls, point: CompetingPoint[Status]) -> Self:
        return cls(
            seconds=seconds(point.length) or 0.0,
            at_risk=point.at_risk,
            survival=point.survival,
            **{status.value: share for status, share in point.incidence.items()},
        )


class CycleCurvePolicy(PeriodPolicy):
    """The rules of a curve over whole deals."""

    model_config = example(POLICY)


class CycleTimeCurve(Response):
    """How many deals are won, lost or handed off how soon (Aalen-Johansen), losing competing."""

    model_config = example(
        {
            "definition": {"id": "cycle-time-curve", "version": 1},
            "policy": POLICY,
            "won": 35,
            "lost": 24,
            "handed_off": 1,
            "open": 40,
            "time_to_win": ESTIMATE,
            "points": [_COMPETING],
        }
    )

    definition: DefinitionRef
    policy: CycleCurvePolicy
    won: int
    lost: int
    handed_off: int
    open: int
    time_to_win: Estimate = Field(
        description="When that share of all deals has been won: null beyond the share that is."
    )
    points: list[CyclePoint] = Field(max_length=200)

    @classmethod
    def of(cls, curve: Cycles, **more: Any) -> Self:
        return cls(
            definition=DefinitionRef.of("cycle-time-curve"),
            **{status.value: count for status, count in curve.ended.items()},
            open=curve.running,
            time_to_win=Estimate.of(curve.time_to_win),
            points=_points(curve.points),
            **more,
        )


def _points(points: Sequence[CompetingPoint[Status]]) -> list[CyclePoint]:
    return [CyclePoint.of(point) for point in points]
