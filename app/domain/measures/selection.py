"""Which deals a figure is about: seen when, from which period, through which filters, in groups.

`Selection` is the part of a metric's policy that all metrics share; every answer echoes it. The
plain-Python meaning of filters and groups stands here, their SQL in `storage.queries.question`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from zoneinfo import ZoneInfo

OWN_DIMENSIONS = ("owner", "team", "source", "priority", "tag", "currency", "opened_month")
ATTRIBUTES = "attributes."

Value = str | None
"""What a deal bears in a dimension, as text; None: nothing."""


class Attribution(StrEnum):
    """Whose values filter and group: those of the deal at T, or those frozen at the move."""

    CURRENT = "current"
    AT_MOVE = "at_move"


@dataclass(frozen=True, slots=True)
class Dimension:
    """Something to filter and group by: one of `OWN_DIMENSIONS`, or `attributes.<name>`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> "Dimension":
        """Raises ValueError for a name that is no dimension."""
        if text in OWN_DIMENSIONS or (text.startswith(ATTRIBUTES) and len(text) > len(ATTRIBUTES)):
            return cls(text)
        raise ValueError(f"one of {', '.join(OWN_DIMENSIONS)}, or {ATTRIBUTES}<name>")

    @property
    def attribute(self) -> str | None:
        """The attribute's name, where it is one."""
        return self.name.removeprefix(ATTRIBUTES) if self.name.startswith(ATTRIBUTES) else None

    @property
    def is_frozen(self) -> bool:
        """Whether a move freezes it, so that it can be asked for as it was at the move."""
        return self.name != "tag" and self.attribute is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """T, the period `[start, end)` (None: open), filters (all must pass; of one, any value).

    `known_at`: only what had been recorded before counts (None: all that has been).
    """

    as_of: datetime
    known_at: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    timezone: str = "UTC"
    filters: Mapping[Dimension, frozenset[Value]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    group_by: Dimension | None = None
    attribution: Attribution = Attribution.CURRENT

    def covers(self, instant: datetime) -> bool:
        """Whether the period holds the instant."""
        return (self.start is None or self.start <= instant) and (
            self.end is None or instant < self.end
        )

    def at_end(self) -> "Selection":
        """The same as of the period's end, where that lies before T."""
        return self if self.end is None else replace(self, as_of=min(self.as_of, self.end))

    def groups_of(self, values: "Bearer") -> Iterator[Value]:
        """The groups in which something that bears these values counts; none if it is filtered out.

        Where nothing is grouped, all that passes is in the one group None. A dimension that is
        filtered shows no other groups than the filter's.
        """
        for dimension, wanted in self.filters.items():
            if not values.of(dimension, self.timezone) & wanted:
                return
        if self.group_by is None:
            yield None
            return
        borne = values.of(self.group_by, self.timezone)
        yield from borne & self.filters.get(self.group_by, borne)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """What a deal, or a visit of it, bears in each dimension."""

    owner: Value = None
    team: Value = None
    source: Value = None
    priority: Value = None
    currency: Value = None
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    opened_at: datetime

    def of(self, dimension: Dimension, timezone: str) -> frozenset[Value]:
        """Its values: one but for tags, of which a deal may bear several."""
        if dimension.name == "tag":
            return frozenset(self.tags) or frozenset({None})
        if dimension.name == "opened_month":
            return frozenset({month_of(self.opened_at, timezone)})
        if dimension.attribute is not None:
            return frozenset({as_text(self.attributes.get(dimension.attribute))})
        value: Value = getattr(self, dimension.name)
        return frozenset({value})


def as_text(value: object) -> Value:
    """An attribute's value as it is grouped by: null and the empty string are nothing."""
    if value is None or value == "":
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def month_of(instant: datetime, timezone: str) -> str:
    """`YYYY-MM`, by the calendar of the time zone."""
    return f"{instant.astimezone(ZoneInfo(timezone)):%Y-%m}"


def months(first: datetime, last: datetime, timezone: str) -> list[tuple[str, datetime]]:
    """The months that hold `first` to `last`, each with the instant at which it begins."""
    zone = ZoneInfo(timezone)
    here, end = first.astimezone(zone), last.astimezone(zone)
    return [
        (
            f"{number // 12:04}-{number % 12 + 1:02}",
            month_start(number // 12, number % 12 + 1, zone),
        )
        for number in range(here.year * 12 + here.month - 1, end.year * 12 + end.month)
    ]


def month_start(year: int, month: int, zone: ZoneInfo) -> datetime:
    """The first instant of the month in the zone."""
    return datetime(year, month, 1, tzinfo=zone)
