"""What a metric may be asked: its period, T, filters, group and policy, as query parameters.

Each model becomes the domain's `Selection`. A parameter that a metric does not know is refused, and
never ignored: an answer to another question looks just like the right one.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.domain.definition import timezones
from app.domain.errors import Breach, Invalid
from app.domain.funnel import Reentry, Skip
from app.domain.measures.calendar import By
from app.domain.measures.closings import DealPopulation
from app.domain.measures.selection import ATTRIBUTES, Attribution, Dimension, Selection, Value
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.pipeline import Pipeline
from app.http.schemas.common import Day, Instant, Query
from app.http.schemas.pipelines import Timezone

MOST_VALUES: Final = 50
LONGEST_DIMENSION: Final = 111
"""An attribute's name has at most 100 characters."""
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
MONTH = re.compile("(19|2[0-9])[0-9]{2}-(0[1-9]|1[0-2])")
_MINUTE: Final = timedelta(minutes=1)

_day: TypeAdapter[date] = TypeAdapter(Day)
_instant: TypeAdapter[datetime] = TypeAdapter(Instant)


def _edge(text: object) -> object:
    if isinstance(text, str) and _DAY.fullmatch(text):
        day = _day.validate_python(text)
        if not 1900 <= day.year < 3000:  # as instants: no time zone may lead out of the calendar
            raise ValueError("a day lies between the years 1900 and 2999")
        return day
    return _instant.validate_python(text)


def _dimension(text: object) -> object:
    if "\x00" in str(text) or len(str(text)) > LONGEST_DIMENSION:
        raise PydanticCustomError("not_one_of", "No dimension is called that")
    try:
        return Dimension.parse(str(text))
    except ValueError as unknown:
        raise PydanticCustomError(
            "not_one_of", "{detail}", {"detail": f"Group by {unknown}"}
        ) from unknown


def _month(text: object) -> object:
    if not (isinstance(text, str) and MONTH.fullmatch(text)):
        raise ValueError("a month is written like 2026-03")
    return text


# A pattern and not the two formats: of alternatives without a type, clients make no type at all.
EDGE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9:]{5}))?$"

Edge = Annotated[
    date | datetime,
    BeforeValidator(_edge),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": EDGE,
            "examples": ["2026-01-01", "2026-01-05T09:00:00Z"],
        }
    ),
]
"""An end of a period: a day, which begins at midnight in the time zone, or an instant."""

GroupBy = Annotated[
    Dimension,
    BeforeValidator(_dimension),
    WithJsonSchema({"type": "string", "maxLength": LONGEST_DIMENSION, "examples": ["owner"]}),
]
Wanted = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
"""A value that is filtered by; the empty one asks for what bears nothing."""

Month = Annotated[str, BeforeValidator(_month), Field(json_schema_extra={"pattern": MONTH.pattern})]


def _filter(what: str) -> Any:
    return Field(
        default_factory=list,
        max_length=MOST_VALUES,
        description=f"{what}; several times: any of them. Empty: deals without one.",
    )


class MetricQuery(Query):
    """What every metric takes. `attributes.<name>=<value>` filters by any attribute besides."""

    model_config = ConfigDict(extra="allow")  # the attributes; `_attributes` refuses all else

    as_of: Instant | None = Field(
        default=None,
        description="Only what had occurred before this instant counts. Left out: `known_at`, else"
        " the end of the present minute, so that all that has happened does.",
    )
    known_at: Instant | None = Field(
        default=None,
        description="Only what had been recorded before this instant, and not voided before it,"
        " counts: the answer of that time once more. Left out: all that is known.",
    )
    revision: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = Field(
        default=None,
        description="The definition to count by; left out: the one in force at `as_of`.",
    )
    timezone: Timezone | None = Field(
        default=None, description="Where days and months begin; left out: the pipeline's."
    )
    attribution: Attribution | None = Field(
        default=None,
        description="Filter and group by the deal's values at `as_of` (`current`), or by those"
        " frozen at the move (`at_move`).",
    )
    group_by: GroupBy | None = Field(
        default=None,
        description="owner, team, source, priority, tag, currency, opened_month, or"
        " attributes.<name>.",
    )
    owner: list[Wanted] = _filter("The deal's owner")
    team: list[Wanted] = _filter("The deal's team")
    source: list[Wanted] = _filter("The deal's source")
    priority: list[Wanted] = _filter("The deal's priority")
    tag: list[Wanted] = _filter("A tag of the deal")
    currency: list[Wanted] = _filter("The currency of the deal's amount")
    opened_month: list[Month] = Field(
        default_factory=list,
        max_length=MOST_VALUES,
        description="The month in which the deal was opened, like 2026-03.",
    )

    @property
    def ages(self) -> bool:
        """Whether the answer changes with the minute, though nothing happens."""
        return False

    @property
    def usual_attribution(self) -> Attribution:
        """What `attribution` is where it is left out."""
        return Attribution.CURRENT

    def seen_at(self, now: datetime) -> datetime:
        """The instant whose definition counts: nothing later has happened, or was known."""
        instants = (self.as_of, self.known_at)
        return min((at for at in instants if at is not None), default=present_minute(now))

    def selection(self, pipeline: Pipeline, now: datetime) -> Selection:
        """What is selected; `pipeline` is the definition that counts. Raises Invalid, all told."""
        if breaches := [*self._breaches(pipeline, now)]:
            places = ", ".join(breach.pointer for breach in breaches)
            raise Invalid(f"See errors: {places}.", breaches)
        timezone = self.timezone or pipeline.timezone
        start, end = self.period(timezone)
        return Selection(
            as_of=self.as_of or self.known_at or present_minute(now),
            known_at=self.known_at,
            start=start,
            end=end,
            timezone=timezone,
            filters=self._filters(),
            group_by=self.group_by,
            attribution=self.attribution or self.usual_attribution,
        )

    def period(self, _timezone: str) -> tuple[datetime | None, datetime | None]:
        """The instants at which the period begins and ends; this metric has none."""
        return None, None

    def _filters(self) -> dict[Dimension, frozenset[Value]]:
        own = {
            name: getattr(self, name)
            for name in ("owner", "team", "source", "priority", "tag", "currency", "opened_month")
        }
        return {
            Dimension(name): frozenset(value or None for value in values)
            for name, values in {**own, **self._attributes()}.items()
            if values
        }

    def _attributes(self) -> dict[str, list[str]]:
        extra = self.model_extra or {}
        return {
            name: value if isinstance(value, list) else [value]
            for name, value in extra.items()
            if name.startswith(ATTRIBUTES)
        }

    def _breaches(self, pipeline: Pipeline, now: datetime) -> Iterator[Breach]:
        for name in self.model_extra or {}:
            if name.startswith(ATTRIBUTES) and len(name) > len(ATTRIBUTES):
                continue
            detail = "This metric has no parameter of that name."
            yield Breach(f"?{name[:100]}", "unknown_field", detail)
        for name, values in self._attributes().items():
            if len(values) > MOST_VALUES or any(len(value) > 200 for value in values):
                detail = f"At most {MOST_VALUES} values of 200 characters."
                yield Breach(f"?{name[:100]}", "too_long", detail)
            if "\x00" in name or any("\x00" in value for value in values):
                detail = "Text should not contain U+0000."
                yield Breach(f"?{name[:100]}", "wrong_format", detail)
        timezone = self.timezone or pipeline.timezone
        if timezone not in timezones():
            detail = f"{timezone!r} is no IANA time zone, like Europe/Berlin."
            yield Breach("?timezone", "unknown_timezone", detail)
        else:
            start, end = self.period(timezone)
            if start is not None and end is not None and end < start:
                yield Breach("?to", "out_of_range", "The period ends before it begins.")
        if self.as_of is not None and self.as_of > present_minute(now):
            yield Breach("?as_of", "out_of_range", "What is to come cannot be counted yet.")
        if self.known_at is not None and self.known_at > now:
            yield Breach("?known_at", "out_of_range", "What is to come is not known yet.")
        if (self.attribution or self.usual_attribution) is Attribution.AT_MOVE:
            dimensions = {*self._filters(), *filter(None, (self.group_by,))}
            for dimension in sorted(dimensions, key=lambda d: d.name):
                if not dimension.is_frozen:
                    detail = f"A move does not freeze {dimension.name}; ask attribution=current."
                    yield Breach("?attribution", "not_frozen", detail)


class PeriodQuery(MetricQuery):
    """What a metric over a period takes."""

    from_: Edge | None = Field(
        default=None, alias="from", description="Begin of the period; left out: from the first on."
    )
    to: Edge | None = Field(
        default=None, description="End of the period, not in it; left out: there is none."
    )

    def period(self, timezone: str) -> tuple[datetime | None, datetime | None]:
        zone = ZoneInfo(timezone)
        return instant_of(self.from_, zone), instant_of(self.to, zone)


class FunnelQuery(PeriodQuery):
    """The funnel of the deals opened in the period."""

    basis: Literal["cohort"] = "cohort"
    skip: Skip = Field(
        default=Skip.IMPLIED,
        description="Whether `conversion_to_next` counts a stage passed over as reached.",
    )
    reentry: Reentry = Field(
        default=Reentry.FIRST,
        description="Whether `conversion_to_next` counts a deal once, or each of its visits.",
    )

    def _breaches(self, pipeline: Pipeline, now: datetime) -> Iterator[Breach]:
        yield from super()._breaches(pipeline, now)
        if self.skip is Skip.OBSERVED and self.reentry is Reentry.EVERY:
            detail = "reentry=every counts how visits ended: there is nothing to imply or observe."
            yield Breach("?skip", "not_one_of", detail)


class TimeInStageQuery(PeriodQuery):
    """How long visits lasted: those entered in the period, or those that ended there."""

    population: VisitPopulation = VisitPopulation.ENTERED
    reentry: VisitReentry = Field(
        default=VisitReentry.EVERY, description="Each visit, or the `sum` of a deal's in a stage."
    )

    @property
    def ages(self) -> bool:
        return True

    @property
    def usual_attribution(self) -> Attribution:
        return Attribution.AT_MOVE


class CycleTimeQuery(PeriodQuery):
    """How long deals took that were closed in the period, or opened there."""

    population: DealPopulation = DealPopulation.CLOSED


class ClosingsQuery(PeriodQuery):
    """Deals closed in the period."""


class FlowQuery(PeriodQuery):
    """What moved within the period."""

    basis: Literal["period"] = "period"

    @property
    def usual_attribution(self) -> Attribution:
        return Attribution.AT_MOVE


class MatrixQuery(FlowQuery):
    """The moves of the period, from stage to stage."""


class CumulativeFlowQuery(PeriodQuery):
    """Deals in process through the period."""

    from_: Edge = Field(alias="from", description="Begin of the period.")
    to: Edge | None = Field(
        default=None, description="End of the period, not in it; left out: `as_of`."
    )
    by: By = Field(default=By.MONTH, description="How long a bucket is.")
    attribution: Literal[Attribution.CURRENT] | None = None

    @property
    def ages(self) -> bool:
        return True

    def selection(self, pipeline: Pipeline, now: datetime) -> Selection:
        asked = super().selection(pipeline, now)
        if asked.end is not None or asked.start is None:
            return asked
        return replace(asked, end=max(asked.start, asked.as_of))


class SnapshotQuery(MetricQuery):
    """The open deals at `as_of`."""

    @property
    def ages(self) -> bool:
        return True


def present_minute(now: datetime) -> datetime:
    """The end of the minute under way: all that has happened lies before it."""
    return now.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE


def instant_of(edge: date | None, zone: ZoneInfo) -> datetime | None:
    """An end of a period as an instant; a day's is its midnight in the zone."""
    if edge is None or isinstance(edge, datetime):
        return edge
    return datetime.combine(edge, time(), tzinfo=zone).astimezone(UTC)
