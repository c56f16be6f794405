"""A metric's question while its SQL is put together: text, and the values that the text binds.

Here is what every metric says in the same words: the period, the filters, the group. They speak of
a relation `d` that has the columns of `population.deals` (visits have them too): `by_owner`,
`by_team`, `by_source`, `by_priority`, `by_currency`, `tags`, `attributes`, `opened_at`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.errors import Breach, Invalid
from app.domain.journey import Status
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import (
    Attribution,
    Dimension,
    Selection,
    Value,
    month_start,
    months,
)
from app.domain.pipeline import StageKind
from app.storage.driver import Record, fetch

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""No instant of the service lies before it."""

MOST_ROWS: Final = 200_000
"""A thousand groups make fewer; a million would be fetched before they could be counted."""

MOST_STATEMENTS: Final = 64
"""Asked again they are the same, whatever they bind; some 10 kB each."""

_PARAMETER = re.compile(r"(?<!:):(\w+)")


def microseconds(interval: str) -> str:
    """The length of an SQL interval in whole microseconds, as a double that holds them exactly."""
    return f"round(date_part('epoch', {interval}) * 1e6)"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which deals, as far as they are seen, by which definition, selection and time of the clock.

    `buckets` are the boundaries that cut the period, both of its ends among them; then the groups
    are the buckets, named by their number from 1, and `selection.group_by` has no part.

    It is asked in one snapshot, of which `known` keeps what was read already.
    """

    workspace: UUID
    sight: Sight
    ranking: Ranking
    selection: Selection
    now: datetime
    buckets: tuple[datetime, ...] = ()
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def aged_until(self) -> datetime:
        """To which instant what is under way has aged: nothing ages ahead of the clock."""
        return min(self.selection.as_of, self.now)


class Question:
    """SQL in the making. `grouped` False asks for the whole of what the selection would group."""

    def __init__(self, asked: Asked, *, grouped: bool) -> None:
        self.workspace = asked.workspace
        self.sight = asked.sight
        self.aged_until = asked.aged_until
        self.known = asked.known
        self.ranking = asked.ranking
        self.selection = asked.selection
        self.buckets = asked.buckets if grouped else ()
        self.group_by = asked.selection.group_by if grouped and not self.buckets else None
        slots = asked.ranking.slots
        self._values: dict[str, Any] = {
            "workspace": asked.workspace,
            "pipeline": asked.ranking.pipeline.pipeline_id,
            "subject": asked.sight.subject,
            "of_team": asked.sight.of_team,
            "as_of": asked.selection.as_of,
            "known_at": asked.selection.known_at,
            "aged_until": asked.aged_until,
            "start": asked.selection.start,
            "end": asked.selection.end,
            "open_slots": list(slots(StageKind.OPEN)),
            "won_slots": list(slots(StageKind.WON)),
            "lost_slots": list(slots(StageKind.LOST)),
        }

    @property
    def dimensions(self) -> frozenset[Dimension]:
        """All that is filtered or grouped by."""
        grouped = () if self.group_by is None else (self.group_by,)
        return frozenset((*self.selection.filters, *grouped))

    @property
    def asks_facts(self) -> bool:
        """Whether a filter or the group looks at what a deal is, and not only when it opened."""
        return any(dimension.name != "opened_month" for dimension in self.dimensions)

    @property
    def asks_moved_facts(self) -> bool:
        """Whether they look at what was frozen at the deal's last move."""
        return self.asks_facts and self.selection.attribution is Attribution.AT_MOVE

    @property
    def of_pipeline(self) -> str:
        """Which deals, by their rows `o`: those of the pipeline that are seen."""
        return "o.workspace_id = :workspace AND o.pipeline_id = :pipeline" + self.seen("o")

    def seen(self, o: str) -> str:
        """` AND …` on the rows `o` of deals, where not all of them are seen."""
        if self.sight.is_whole:
            return ""
        of_team = "" if self.sight.of_team is None else f" OR {o}.team = :of_team"
        return f" AND ({o}.owner = :subject{of_team})"

    def bind(self, value: object) -> str:
        """The placeholder that stands for `value`."""
        name = f"v{len(self._values)}"
        self._values[name] = value
        return f":{name}"

    def period(self, column: str) -> str:
        """` AND column in [start, end)`, or nothing where the period is all of time."""
        since = f" AND {column} >= :start" if self.selection.start is not None else ""
        until = f" AND {column} < :end" if self.selection.end is not None else ""
        return since + until

    def standing(self, t: str = "t") -> str:
        """The transitions of the log `t` that stand, as it was known."""
        if self.selection.known_at is None:
            return f"{t}.voided_at IS NULL"
        return (
            f"{t}.recorded_at < :known_at AND ({t}.voided_at IS NULL OR {t}.voided_at >= :known_at)"
        )

    def filters(self) -> str:
        """` AND …` for each filtered dimension."""
        return "".join(
            f" AND ({' OR '.join(self._passing(dimension, wanted))})"
            for dimension, wanted in self.selection.filters.items()
        )

    def group(self, counted: str | None = None) -> tuple[str, str]:
        """What `d` is joined with to be grouped, and the group's expression.

        `counted` is the column of the one instant that the period must hold, and so the bucket.
        """
        if self.buckets:
            assert counted is not None, "what is counted at no instant lies in no bucket"
            boundaries = self.bind(list(self.buckets))
            return "", f"CAST(width_bucket({counted}, CAST({boundaries} AS timestamptz[])) AS text)"
        if self.group_by is None:
            return "", "CAST(NULL AS text)"
        if self.group_by.name == "tag":
            return f"CROSS JOIN LATERAL ({self._tags()}) AS borne", "borne.tag"
        return "", self._value(self.group_by)

    async def rows(self, connection: AsyncConnection, sql: str) -> Sequence[Record]:
        """What the database answers. Raises Invalid where that is more than figures need."""
        if self.group_by is not None:
            sql += f" LIMIT {MOST_ROWS + 1}"
        statement, names = _numbered(sql)
        found = await fetch(connection, statement, *(self._values[name] for name in names))
        if len(found) > MOST_ROWS:
            problem = "That makes more groups than an answer can show; filter first."
            raise Invalid(problem, [Breach("?group_by", "out_of_range", problem)])
        return found

    def _value(self, dimension: Dimension) -> str:
        """What `d` bears in a single-valued dimension."""
        if dimension.name == "opened_month":
            # By the boundaries of the months themselves: the database may know other time zones.
            named = months(EARLIEST, self.selection.as_of, self.selection.timezone)
            labels = self.bind([label for label, _ in named])
            starts = self.bind([start for _, start in named])
            place = f"width_bucket(d.opened_at, CAST({starts} AS timestamptz[]))"
            return f"(CAST({labels} AS text[]))[{place}]"
        if dimension.attribute is not None:
            name = self.bind(dimension.attribute)
            return f"nullif(d.attributes ->> CAST({name} AS text), '')"
        return f"d.by_{dimension.name}"

    def _passing(self, dimension: Dimension, wanted: frozenset[Value]) -> list[str]:
        """The conditions of which a deal must meet one to pass the filter."""
        named = sorted(value for value in wanted if value is not None)
        if dimension.name == "opened_month":
            return [self._in_month(month) for month in named]
        is_tag = dimension.name == "tag"
        value = "" if is_tag else self._value(dimension)
        conditions = []
        if named:
            texts = f"CAST({self.bind(named)} AS text[])"
            conditions.append(f"d.tags && {texts}" if is_tag else f"{value} = ANY({texts})")
        if None in wanted:
            conditions.append("cardinality(d.tags) = 0" if is_tag else f"{value} IS NULL")
        return conditions

    def _in_month(self, month: str) -> str:
        year, number = (int(part) for part in month.split("-"))
        zone = ZoneInfo(self.selection.timezone)
        start = month_start(year, number, zone)
        end = month_start(year + number // 12, number % 12 + 1, zone)
        return f"d.opened_at >= {self.bind(start)} AND d.opened_at < {self.bind(end)}"

    def _tags(self) -> str:
        """The tags of `d` that are groups: a filter shows no others than its own."""
        wanted = self.selection.filters.get(Dimension("tag"))
        tags = "SELECT DISTINCT tag FROM unnest(d.tags) AS tag"
        none = "SELECT NULL WHERE cardinality(d.tags) = 0"
        if wanted is not None:
            named = self.bind(sorted(value for value in wanted if value is not None))
            tags += f" WHERE tag = ANY(CAST({named} AS text[]))"
            none += "" if None in wanted else " AND FALSE"
        return f"{tags} UNION ALL {none}"


@lru_cache(MOST_STATEMENTS)
def _numbered(sql: str) -> tuple[str, Sequence[str]]:
    """As the driver takes it, and what it binds in this order: found once, as the same is asked."""
    places: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"${places.setdefault(found[1], len(places) + 1)}"

    return _PARAMETER.sub(numbered, sql), [*places]


def status_of(row: Record) -> Status:
    return Status(row.status)
