"""Cumulative flow and Little's law, as callers see them."""

from collections.abc import Iterable
from typing import Any, Final, Literal, Self

from pydantic import Field

from app.domain.measures import cumulative_flow
from app.domain.measures.calendar import By
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution
from app.domain.pipeline import Stage
from app.http.schemas.common import Instant, Response
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.metrics import POLICY, PeriodPolicy, example, seconds

_POLICY: Final[dict[str, Any]] = {**POLICY, "by": "month"}
_STAGE: Final[dict[str, Any]] = {"key": "quote", "name": "Quote", "entries": 40, "in_progress": 25}
_BUCKET: Final[dict[str, Any]] = {
    "from": "2026-01-01T00:00:00Z",
    "to": "2026-02-01T00:00:00Z",
    "arrivals": 62,
    "departures": 56,
    "in_progress": 48,
    "stages": [_STAGE],
}
_LITTLE: Final[dict[str, Any]] = {
    "average_in_progress": 45.0,
    "arrival_rate_per_day": 2.0,
    "departure_rate_per_day": 1.8,
    "mean_time_in_process_seconds": 1728000.0,
    "expected_in_progress": 36.0,
    "ratio": 0.8,
    "time_in_process_seconds": 349920000.0,
    "period_seconds": 7776000.0,
}
_FIGURES: Final[dict[str, Any]] = {
    "in_progress_at_start": 42,
    "buckets": [_BUCKET],
    "little": _LITTLE,
}


class CumulativeFlowPolicy(PeriodPolicy):
    """The rules of a cumulative flow, which begins somewhere."""

    model_config = example(_POLICY)

    from_: Instant = Field(alias="from")
    to: Instant = Field(description="Not in the period; what lies after `as_of` is not counted.")
    attribution: Literal[Attribution.CURRENT]
    by: By


class CumulativeFlowStage(Response):
    """One open stage in one bucket."""

    model_config = example(_STAGE)

    key: str
    name: str
    entries: int = Field(description="Visits entered in the bucket.")
    in_progress: int = Field(description="Deals that stand in it at the bucket's end.")

    @classmethod
    def of(cls, stage: Stage, bucket: cumulative_flow.Bucket) -> Self:
        return cls(
            key=stage.key,
            name=stage.name,
            entries=bucket.entries.get(stage.slot, 0),
            in_progress=bucket.standing.get(stage.slot, 0),
        )


class CumulativeFlowBucket(Response):
    """in_progress = in_progress of the bucket before + arrivals - departures."""

    model_config = example(_BUCKET)

    from_: Instant = Field(alias="from")
    to: Instant = Field(description="Not in the bucket.")
    arrivals: int = Field(description="Deals opened, handed in or reopened, into an open stage.")
    departures: int = Field(description="Deals won, lost or handed off, out of an open stage.")
    in_progress: int = Field(description="Deals in open stages at the bucket's end.")
    stages: list[CumulativeFlowStage]


class LittlesLaw(Response):
    """L = λ·W, held against the period: how much is in process, and how much those who left say.

    All are null for an empty period.
    """

    model_config = example(_LITTLE)

    average_in_progress: float | None = Field(
        description="L: time_in_process_seconds / period_seconds, exact."
    )
    arrival_rate_per_day: float | None = Field(description="Arrivals per 24 hours.")
    departure_rate_per_day: float | None = Field(description="λ: departures per 24 hours.")
    mean_time_in_process_seconds: float | None = Field(
        description="W: the mean stay, from arrival to departure, of those who departed in the"
        " period. Null where none did."
    )
    expected_in_progress: float | None = Field(description="λ·W; null without a W.")
    ratio: float | None = Field(
        description="expected_in_progress / average_in_progress: below 1 where work piles up or"
        " grows old, above 1 where a backlog is worked off. Null where either is null or L is 0."
    )
    time_in_process_seconds: float = Field(
        description="What all deals together spent in open stages within the period."
    )
    period_seconds: float

    @classmethod
    def of(cls, found: cumulative_flow.CumulativeFlow) -> Self:
        return cls(
            average_in_progress=found.average_in_progress,
            arrival_rate_per_day=found.arrivals_per_day,
            departure_rate_per_day=found.departures_per_day,
            mean_time_in_process_seconds=seconds(found.mean_stay),
            expected_in_progress=found.expected_in_progress,
            ratio=found.ratio,
            time_in_process_seconds=found.time_in_process / 1e6,
            period_seconds=found.length / 1e6,
        )


class CumulativeFlowFigures(Response):
    """Arrivals, departures and work in progress, bucket by bucket."""

    model_config = example(_FIGURES)

    in_progress_at_start: int = Field(description="Deals in open stages when the period began.")
    buckets: list[CumulativeFlowBucket]
    little: LittlesLaw

    @classmethod
    def of(cls, found: cumulative_flow.CumulativeFlow, ranking: Ranking, **more: Any) -> Self:
        slots = {slot for bucket in found.buckets for slot in (*bucket.entries, *bucket.standing)}
        stages = ranking.listed(slots)
        ends = zip(found.boundaries, found.boundaries[1:], found.buckets, strict=False)
        return cls(
            in_progress_at_start=found.in_progress_at_start,
            buckets=[
                CumulativeFlowBucket(
                    **{"from": since},
                    to=until,
                    arrivals=bucket.arrivals,
                    departures=bucket.departures,
                    in_progress=bucket.in_progress,
                    stages=[CumulativeFlowStage.of(stage, bucket) for stage in stages],
                )
                for since, until, bucket in ends
            ],
            little=LittlesLaw.of(found),
            **more,
        )


class CumulativeFlowGroup(CumulativeFlowFigures):
    """The flow of the deals that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_FIGURES})

    value: str | None


class CumulativeFlow(Response):
    """How work in progress came about: who arrived, who departed, who is in process."""

    model_config = example(
        {
            "definition": defined("cumulative-flow"),
            "policy": _POLICY,
            "total": _FIGURES,
            "groups": None,
        }
    )

    definition: DefinitionRef
    policy: CumulativeFlowPolicy
    total: CumulativeFlowFigures
    groups: Iterable[CumulativeFlowGroup] | None = Field(description="Null without `group_by`.")
