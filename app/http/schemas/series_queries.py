"""What velocity, bottlenecks, trend and compare may be asked besides what every metric takes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field

from app.domain.errors import Breach, Invalid
from app.domain.measures.calendar import MOST_BUCKETS, MOST_INSTANTS, By
from app.domain.measures.closings import Outcome
from app.domain.measures.figures import Figure
from app.domain.measures.selection import Attribution, Dimension, Selection, Value
from app.domain.pipeline import Pipeline
from app.http.schemas.metric_queries import MONTH, Edge, PeriodQuery, Wanted, instant_of

PartKey = Annotated[str, Field(pattern=r"^(:none|:handed_off|[a-z0-9][a-z0-9_-]{0,62})$")]
"""The key of a stage or of a reason, or what a drill-down calls having none."""


class VelocityQuery(PeriodQuery):
    """How much a day: the deals open at `as_of`, and those closed in the period."""


class BottlenecksQuery(PeriodQuery):
    """What more conversion or speed would be worth: deals opened and visits entered there."""


class FigureQuery(PeriodQuery):
    """One figure of one metric, and of what it is asked for."""

    figure: Figure = Field(
        description="Which figure; it is that of its metric's usual policies. Those of the snapshot"
        " (`standing`, `standing_amount`, `weighted_amount`, `unweighted`, `median_age`, `idle`)"
        " and `velocity` tell of one instant: the period's end, or `as_of` where that is earlier."
        " `win_rate_by_amount` needs one currency."
    )
    stage: PartKey | None = Field(
        default=None,
        description="The key of a stage, where the figure is one of a stage. Of losses it is the"
        " stage lost from, or `:none`: opened as lost. Left out, of the snapshot's figures and of"
        " losses: all stages together.",
    )
    to_stage: PartKey | None = Field(
        default=None,
        description="Of `moves`: the key of the stage that they lead to, or `:handed_off`.",
    )
    outcome: Outcome | None = Field(
        default=None, description="Where the figure is one of an outcome; left out: `all`."
    )
    reason: PartKey | None = Field(
        default=None,
        description="Of losses: the key of a loss reason, or `:none`; left out: all of them."
        " `losses_share` is that of the reason among the losses from `stage`, or of the `stage`"
        " among all.",
    )

    @property
    def usual_attribution(self) -> Attribution:
        return self.figure.attribution

    @property
    def ages(self) -> bool:
        return self.figure.ages

    @property
    def subject(self) -> dict[str, Any]:
        """What the policy says of the figure."""
        takes_outcome = "outcome" in self.figure.takes
        return {
            "figure": self.figure,
            "stage": self.stage,
            "to_stage": self.to_stage,
            "outcome": (self.outcome or Outcome.ALL) if takes_outcome else None,
            "reason": self.reason,
        }

    @property
    def has_one_currency(self) -> bool:
        """Whether all amounts are of one currency."""
        return len(self.currency) == 1 and self.currency != [""]

    def _breaches(self, pipeline: Pipeline, now: datetime) -> Iterator[Breach]:
        yield from super()._breaches(pipeline, now)
        if self.figure is Figure.WIN_RATE_BY_AMOUNT and not self.has_one_currency:
            detail = "Amounts of two currencies have no rate: filter by exactly one currency."
            yield Breach("?currency", "required", detail)


class TrendQuery(FigureQuery):
    """One figure, bucket by bucket."""

    group_by: ClassVar[None] = None  # type: ignore[misc] # no parameter of a trend: it is refused

    from_: Edge = Field(alias="from", description="Begin of the first bucket.")
    to: Edge | None = Field(default=None, description="End of the last bucket; left out: `as_of`.")
    by: By = Field(
        default=By.MONTH,
        description="How long a bucket is: they begin at midnight in `timezone`, weeks on Monday."
        f" At most {MOST_BUCKETS}; of a figure that tells of an instant, {MOST_INSTANTS}.",
    )

    @property
    def ages(self) -> bool:
        """Without an end of its own, the last bucket ends at the present minute."""
        return self.to is None or super().ages

    def selection(self, pipeline: Pipeline, now: datetime) -> Selection:
        found = super().selection(pipeline, now)
        if found.start is not None and found.end is None and found.start > found.as_of:
            detail = "The first bucket begins after `as_of`, where the last one ends."
            raise Invalid(detail, [Breach("?from", "out_of_range", detail)])
        return replace(found, end=found.end or found.as_of)


class CompareQuery(FigureQuery):
    """One figure in two periods, or in one period of two groups.

    A figure of an instant is compared as of the end of each period.
    """

    against_from: Edge | None = Field(
        default=None, description="Begin of the period to compare with."
    )
    against_to: Edge | None = Field(
        default=None, description="End of the period to compare with, not in it."
    )
    group: Wanted | None = Field(
        default=None, description="With `group_by`: the group; empty: what bears no value."
    )
    against: Wanted | None = Field(
        default=None, description="With `group_by`: the group to compare with, likewise."
    )

    @property
    def has_one_currency(self) -> bool:
        by_currency = self.group_by is not None and self.group_by.name == "currency"
        return all(self.groups) if by_currency else super().has_one_currency

    @property
    def groups(self) -> tuple[Value, Value]:
        """The two groups that are compared."""
        return self.group or None, self.against or None

    def against_period(self, timezone: str) -> tuple[datetime | None, datetime | None]:
        """The instants at which the period to compare with begins and ends."""
        zone = ZoneInfo(timezone)
        return instant_of(self.against_from, zone), instant_of(self.against_to, zone)

    def selection(self, pipeline: Pipeline, now: datetime) -> Selection:
        found = super().selection(pipeline, now)
        if self.group_by is None:
            _check_periods((found.start, found.end), self.against_period(found.timezone))
        return found

    def _breaches(self, pipeline: Pipeline, now: datetime) -> Iterator[Breach]:
        yield from super()._breaches(pipeline, now)
        yield from self._mixed() if self.group_by is None else self._groups(self.group_by)

    def _mixed(self) -> Iterator[Breach]:
        for name in ("group", "against"):
            if getattr(self, name) is not None:
                detail = "It needs `group_by`: the dimension whose groups are compared."
                yield Breach(f"?{name}", "unknown_field", detail)
        if self.against_from is None and self.against_to is None:
            detail = "With what is it compared? Another period, or a group under `group_by`."
            yield Breach("?against_from", "required", detail)

    def _groups(self, dimension: Dimension) -> Iterator[Breach]:
        for name in ("against_from", "against_to"):
            if getattr(self, name) is not None:
                detail = "Two groups are compared in one period: `from` and `to`."
                yield Breach(f"?{name}", "unknown_field", detail)
        for name in ("group", "against"):
            value = getattr(self, name)
            if value is None:
                yield Breach(f"?{name}", "required", "Which groups are compared?")
            elif dimension.name == "opened_month" and not MONTH.fullmatch(value):
                yield Breach(f"?{name}", "wrong_format", "A month is written like 2026-03.")
        if self.group is not None and self.group == self.against:
            yield Breach("?against", "duplicate", "A group is not compared with itself.")
        if dimension in self._filters():
            detail = f"What is compared is {dimension.name} by {dimension.name}: no filter by it."
            yield Breach(f"?{dimension.name[:100]}", "unknown_field", detail)


Ends = tuple[datetime | None, datetime | None]


def _check_periods(period: Ends, against: Ends) -> None:
    """Raises Invalid: an interval holds only for two samples without a common case."""
    (start, end), (against_start, against_end) = period, against
    if against_start is not None and against_end is not None and against_end < against_start:
        detail = "The period ends before it begins."
        raise Invalid(detail, [Breach("?against_to", "out_of_range", detail)])
    first = (end is not None and against_start is not None) and end <= against_start
    second = (against_end is not None and start is not None) and against_end <= start
    if not (first or second):
        detail = "The two periods overlap: what lies in both would be compared with itself."
        raise Invalid(detail, [Breach("?against_from", "out_of_range", detail)])
