"""Metrics as callers see them: the policy first, then the figures of the whole, then the groups.

Integer counts stand beside every rate; a rate without a denominator is null; durations are numbers
of seconds; amounts are exact sums by currency.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field

from app.domain.durations import Quantiles, Summary
from app.domain.funnel import Reentry, Skip
from app.domain.intervals import Proportion, Silence
from app.domain.measures.closings import DealPopulation
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Selection, Value
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.measures.sums import Amounts
from app.domain.pipeline import Stage
from app.http.schemas.common import Instant, MoneySum, Rate, Response

_SECOND: Final = 1e6  # microseconds

SHARE: Final[dict[str, Any]] = {"count": 41, "of": 80, "rate": 0.5125, "low": 0.405, "high": 0.619}
EUROS: Final = [{"amount": "51250.00", "currency": "EUR"}]
DURATIONS: Final[dict[str, Any]] = {
    "count": 41,
    "mean_seconds": 310240.5,
    "p25_seconds": 129600.0,
    "p50_seconds": 259200.0,
    "p75_seconds": 432000.0,
    "p90_seconds": 777600.0,
    "p95_seconds": 864000.0,
    "max_seconds": 1209600.0,
}
ESTIMATE: Final[dict[str, Any]] = {
    "cases": 54,
    "p50_seconds": 345600.0,
    "p75_seconds": 604800.0,
    "p90_seconds": 1123200.0,
    "p95_seconds": None,
    "reason": "not_reached",
}
CONVERSION_BENCHMARK: Final[dict[str, Any]] = {"target": 0.6, "difference": -0.0875}
DWELL_BENCHMARK: Final[dict[str, Any]] = {
    "target_seconds": 1209600.0,
    "difference_seconds": -950400.0,
}
POLICY: Final[dict[str, Any]] = {
    "from": "2026-01-01T00:00:00Z",
    "to": "2026-04-01T00:00:00Z",
    "as_of": "2026-07-01T00:00:00Z",
    "known_at": None,
    "timezone": "UTC",
    "revision": 3,
    "attribution": "current",
    "filters": {"owner": ["mia"]},
    "group_by": None,
}


def example(shown: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [shown]})


class Share(Response):
    """So many of so many. `low` and `high` bound the rate's 95 % interval (Wilson)."""

    model_config = example(SHARE)

    count: int
    of: int
    rate: Rate | None = Field(description="count / of; null where `of` is 0.")
    low: Rate | None = Field(description="Null without a rate, and where no interval is meant.")
    high: Rate | None

    @classmethod
    def of_(cls, share: Proportion) -> Self:
        interval = share.interval
        return cls(
            count=share.count,
            of=share.of,
            rate=share.rate,
            low=interval and interval.low,
            high=interval and interval.high,
        )


class Durations(Response):
    """So many lengths of time, their mean and quantiles; nulls where there are none."""

    model_config = example(DURATIONS)

    count: int
    mean_seconds: float | None
    p25_seconds: float | None
    p50_seconds: float | None
    p75_seconds: float | None
    p90_seconds: float | None
    p95_seconds: float | None
    max_seconds: float | None

    @classmethod
    def of(cls, summary: Summary) -> Self:
        return cls(
            count=summary.count,
            mean_seconds=seconds(summary.mean),
            p25_seconds=seconds(summary.p25),
            p50_seconds=seconds(summary.p50),
            p75_seconds=seconds(summary.p75),
            p90_seconds=seconds(summary.p90),
            p95_seconds=seconds(summary.p95),
            max_seconds=seconds(summary.longest),
        )


class Estimate(Response):
    """Quantiles of lengths of which some have not ended yet, those counted as censored."""

    model_config = example(ESTIMATE)

    cases: int = Field(description="The lengths behind it, ended or not.")
    p50_seconds: float | None
    p75_seconds: float | None
    p90_seconds: float | None
    p95_seconds: float | None
    reason: Silence | None = Field(
        description="Why any of them is null: fewer than six have ended (`too_few_cases`), the"
        " curve does not come so far (`not_reached`), or all were chosen because they have ended"
        " (`ended_only`)."
    )

    @classmethod
    def of(cls, found: Quantiles) -> Self:
        return cls(
            cases=found.cases,
            p50_seconds=seconds(found.p50),
            p75_seconds=seconds(found.p75),
            p90_seconds=seconds(found.p90),
            p95_seconds=seconds(found.p95),
            reason=found.reason,
        )


class ConversionBenchmark(Response):
    """How the conversion to the next stage stands to the stage's `target_conversion`."""

    model_config = example(CONVERSION_BENCHMARK)

    target: Rate
    difference: float | None = Field(
        description="The rate minus the target: above 0 it is reached. Null without a rate."
    )

    @classmethod
    def of(cls, stage: Stage, rate: float | None) -> Self | None:
        if stage.target_conversion is None:
            return None
        target = float(stage.target_conversion)
        return cls(target=target, difference=None if rate is None else rate - target)


class DwellBenchmark(Response):
    """How the median of the completed visits stands to the stage's `target_dwell`."""

    model_config = example(DWELL_BENCHMARK)

    target_seconds: float
    difference_seconds: float | None = Field(
        description="p50 minus the target: below 0 it is reached. Null without completed visits."
    )

    @classmethod
    def of(cls, stage: Stage, median: float | None) -> Self | None:
        if stage.target_dwell is None:
            return None
        target, actual = stage.target_dwell.length.total_seconds(), seconds(median)
        return cls(
            target_seconds=target,
            difference_seconds=None if actual is None else actual - target,
        )


class MetricPolicy(Response):
    """By what rules the figures were made: what was asked, with every default filled in."""

    as_of: Instant = Field(description="Only what had occurred before this instant counts.")
    known_at: Instant | None = Field(
        description="Only what had been recorded before this instant counts. Null: all that is."
    )
    timezone: str
    revision: int = Field(description="The definition that gave the order of the stages.")
    attribution: Attribution
    filters: dict[str, list[str | None]] = Field(
        description="By dimension, the values of which one must be borne; null: none."
    )
    group_by: str | None


class PeriodPolicy(MetricPolicy):
    """The rules of a metric over a period `[from, to)`."""

    from_: Instant | None = Field(alias="from", description="Null: from the first on.")
    to: Instant | None = Field(description="Not in the period. Null: there is no end.")


class FunnelPolicy(PeriodPolicy):
    """The rules of a funnel: which deals, and what counts as having reached a stage."""

    model_config = example({**POLICY, "basis": "cohort", "skip": "implied", "reentry": "first"})

    basis: Literal["cohort"]
    skip: Skip
    reentry: Reentry


class TimeInStagePolicy(PeriodPolicy):
    """The rules of a measure of visits to stages."""

    model_config = example({**POLICY, "population": "entered", "reentry": "every"})

    population: VisitPopulation
    reentry: VisitReentry


class ClosingsPolicy(PeriodPolicy):
    """The rules of a metric of deals that closed, or have yet to."""

    model_config = example({**POLICY, "population": "closed"})

    population: DealPopulation


class SnapshotPolicy(MetricPolicy):
    """The rules of a metric of one instant."""

    model_config = example({k: v for k, v in POLICY.items() if k not in ("from", "to")})


def policy(selection: Selection, revision: int) -> dict[str, Any]:
    """The part of a policy that all metrics share, with the period."""
    return {
        "from": selection.start,
        "to": selection.end,
        "as_of": selection.as_of,
        "known_at": selection.known_at,
        "timezone": selection.timezone,
        "revision": revision,
        "attribution": selection.attribution,
        "filters": {
            dimension.name: in_order(values)
            for dimension, values in sorted(selection.filters.items(), key=lambda f: f[0].name)
        },
        "group_by": selection.group_by and selection.group_by.name,
    }


def naming(stage: Stage, ranking: Ranking) -> dict[str, Any]:
    """What an open stage is called, and where it stands."""
    return {
        "key": stage.key,
        "name": stage.name,
        "rank": ranking.place(stage),
        "off_path": stage.off_path,
    }


def in_order(values: Iterable[Value]) -> list[Value]:
    """Values by their text, none last."""
    return sorted(values, key=lambda value: (value is None, value or ""))


def sums(amounts: Amounts) -> list[MoneySum]:
    """Exact sums, one a currency."""
    return [MoneySum.of(amount, currency) for currency, amount in amounts.items()]


def seconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / _SECOND
