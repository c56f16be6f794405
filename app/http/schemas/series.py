"""One figure through time, or held against itself, as callers see it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Self

from pydantic import Field

from app.domain.measures import comparison, readings
from app.domain.measures.calendar import By
from app.domain.measures.closings import Outcome
from app.domain.measures.comparison import DifferenceDoubt, DifferenceMethod
from app.domain.measures.figures import Figure, FigureUnit
from app.http.schemas.common import Instant, MoneySum, Response
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.metrics import POLICY, PeriodPolicy, example, seconds, sums

_READING: Final[dict[str, Any]] = {
    "value": 0.5125,
    "amount": None,
    "count": 41,
    "of": 80,
    "low": 0.405,
    "high": 0.619,
}
_POINT: Final[dict[str, Any]] = {
    "from": "2026-01-01T00:00:00Z",
    "to": "2026-02-01T00:00:00Z",
    **_READING,
}
_SIDE: Final[dict[str, Any]] = {**_POINT, "group": None}
_OF_FIGURE: Final[dict[str, Any]] = {
    **POLICY,
    "figure": "conversion_to_next",
    "stage": "quote",
    "to_stage": None,
    "outcome": None,
    "reason": None,
}
_DIFFERENCE: Final[dict[str, Any]] = {
    "value": 0.1125,
    "amount": None,
    "low": -0.04,
    "high": 0.26,
    "method": "newcombe",
    "reason": None,
}


class FigurePolicy(PeriodPolicy):
    """The rules of one figure: those of its metric, with its usual population and the like."""

    figure: Figure
    stage: str | None = Field(
        description="Null: the figure is none of a stage, or of all of them. `:none`: of deals"
        " opened as lost."
    )
    to_stage: str | None = Field(
        description="Of moves: where they lead, `:handed_off` or a stage. Null: it is no move's."
    )
    outcome: Outcome | None = Field(description="Null: the figure is none of an outcome.")
    reason: str | None = Field(
        description="Of losses: for which reason, `:none` being for none. Null: it is no loss's,"
        " or that of all reasons."
    )


class TrendPolicy(FigurePolicy):
    """The rules of a trend; `to` is where the last bucket ends."""

    model_config = example({**_OF_FIGURE, "by": "month"})

    by: By


class ComparePolicy(FigurePolicy):
    """The rules of a comparison; the period is that of `value`."""

    model_config = example(_OF_FIGURE)


class Reading(Response):
    """What a figure says, and how many cases stand behind it."""

    model_config = example(_READING)

    value: float | None = Field(
        description="In the answer's `unit`; null where the figure is, and where it is money."
    )
    amount: list[MoneySum] | None = Field(
        description="Money: an amount for each currency that has any. Null where the unit is"
        " another."
    )
    count: int = Field(description="The cases behind it; of a share, its numerator.")
    of: int | None = Field(description="The denominator of a share of cases, else null.")
    low: float | None = Field(
        description="Of the 95 % interval (Wilson) of a share; null where there is none."
    )
    high: float | None

    @classmethod
    def of_(cls, found: readings.Reading, unit: FigureUnit, **more: Any) -> Self:
        share = found.share
        interval = share and share.interval
        return cls(
            value=_in_unit(found.value, unit),
            amount=None if found.amounts is None else sums(found.amounts),
            count=found.count,
            of=share and share.of,
            low=interval and interval.low,
            high=interval and interval.high,
            **more,
        )


class TrendPoint(Reading):
    """The figure of one bucket `[from, to)`: of the same question with that for its period.

    A figure of an instant is that of `to`, or of the policy's `as_of` where that is earlier.
    """

    model_config = example(_POINT)

    from_: Instant = Field(alias="from")
    to: Instant


class TrendFigures(Response):
    """One figure, bucket by bucket."""

    model_config = example({"unit": "share", "points": [_POINT]})

    unit: FigureUnit
    points: list[TrendPoint]

    @classmethod
    def of(
        cls, unit: FigureUnit, boundaries: Sequence[datetime], found: Sequence[readings.Reading]
    ) -> Self:
        cut = zip(boundaries, boundaries[1:], found, strict=False)
        points = [
            TrendPoint.of_(reading, unit, **{"from": start, "to": end})
            for start, end, reading in cut
        ]
        return cls(unit=unit, points=points)


class Trend(Response):
    """How one figure developed."""

    model_config = example(
        {
            "definition": defined("trend"),
            "policy": {**_OF_FIGURE, "by": "month"},
            "total": {"unit": "share", "points": [_POINT]},
        }
    )

    definition: DefinitionRef
    policy: TrendPolicy
    total: TrendFigures


class ComparedReading(Reading):
    """One side of a comparison: its period, and its group where two groups are compared.

    A figure of an instant is that of `to`, or of the policy's `as_of` where that is earlier.
    """

    model_config = example(_SIDE)

    from_: Instant | None = Field(alias="from", description="Null: from the first on.")
    to: Instant | None = Field(description="Not in the period. Null: there is no end.")
    group: str | None = Field(description="Null: what bears no value, or no groups are compared.")


class FigureDifference(Response):
    """The figure less the one it is compared with, and how sure that is.

    Of shares it is the rates' difference, with Newcombe's 95 % interval. Of lengths of time that
    are over it is Hodges and Lehmann's shift, the median of all differences between a length of the
    one and one of the other, with Moses's: by how much the whole lies higher, whichever quantile
    was asked for. Everything else is subtracted and has no interval: the longest too, ages and
    estimates in which some are under way.
    """

    model_config = example(_DIFFERENCE)

    value: float | None = Field(description="In the answer's `unit`; null where it is money.")
    amount: list[MoneySum] | None = Field(
        description="Money: the difference in each currency; of means, worths and velocities in"
        " those that both sides have. Null where the unit is another."
    )
    low: float | None = Field(description="Of the 95 % interval; null for a `reason`.")
    high: float | None
    method: DifferenceMethod
    reason: DifferenceDoubt | None = Field(
        description="Why there is no interval: `too_few_cases` (then there is no value either, of"
        " lengths with fewer than 6 on a side), `no_interval` (none is meant for such a figure),"
        " `shared_cases` (a deal may bear both tags, and an interval assumes that none does)."
    )

    @classmethod
    def of(cls, found: comparison.Difference, unit: FigureUnit) -> Self:
        interval = found.interval
        return cls(
            value=_in_unit(found.value, unit),
            amount=None if found.amounts is None else sums(found.amounts),
            low=interval and _in_unit(interval.low, unit),
            high=interval and _in_unit(interval.high, unit),
            method=found.method,
            reason=found.doubt,
        )


class Comparison(Response):
    """One figure in two periods, or of two groups in one."""

    model_config = example(
        {
            "definition": defined("compare"),
            "policy": _OF_FIGURE,
            "unit": "share",
            "value": _SIDE,
            "against": {**_SIDE, "value": 0.4, "count": 30, "of": 75, "low": 0.297, "high": 0.513},
            "difference": _DIFFERENCE,
        }
    )

    definition: DefinitionRef
    policy: ComparePolicy
    unit: FigureUnit
    value: ComparedReading
    against: ComparedReading
    difference: FigureDifference


def _in_unit(value: float | None, unit: FigureUnit) -> float | None:
    return seconds(value) if unit is FigureUnit.SECONDS else value
