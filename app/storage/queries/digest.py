"""What does a morning ask for: who fell idle, who is about to, what is due, what has happened?

One statement a section: it counts all that belong there and reads the first of them whole. What
belongs to a section is said here; the lists that show all of it have modules of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Generic, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Column, ColumnElement, RowMapping, Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.idle_flag import IdleFlag
from app.domain.journey import Status, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.domain.wall_clock import reached
from app.storage import pipelines
from app.storage.idle_flags import flag_of
from app.storage.opportunities import deal_of
from app.storage.queries.opportunities import Seen
from app.storage.sight import seen
from app.storage.tables import idle_flag, opportunity, pipeline, transition
from app.storage.transitions import LogEntry, entry_of

T = TypeVar("T")

Flagged = tuple[IdleFlag, Opportunity, Pipeline]
Moved = tuple[LogEntry, Opportunity, Pipeline]

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Deals that pass all of these, as they are now; None passes everything."""

    pipeline_id: UUID | None = None
    owner: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Morning:
    """The day `on`, and the instants that bound what is told of it.

    `since` is when the day before it begins, `end` when the day itself ends; a deal is about to
    fall idle when it does so before `ahead`.
    """

    on: date
    since: datetime
    end: datetime
    ahead: datetime

    @classmethod
    def of(cls, on: date, zone: ZoneInfo, within: timedelta) -> Self:
        """The day by the zone's clock: one on which it is changed has 23 or 25 hours."""
        since, end = (
            reached(zone, datetime.combine(day, time())) for day in (on - _DAY, on + _DAY)
        )
        return cls(on=on, since=since, end=end, ahead=end + within)


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """How many there are, and the first of them."""

    count: int
    items: list[T]


@dataclass(frozen=True, slots=True)
class FlagCounts:
    """The flags that are not resolved: how many, by their state, and how many are critical."""

    count: int
    open: int
    acknowledged: int
    snoozed: int
    critical: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """One morning's digest. What belongs to a section is said by the method that reads it."""

    idle_flags: FlagCounts
    newly_idle: Section[Flagged]
    about_to_be_idle: Section[Seen]
    follow_ups_due: Section[Seen]
    next_steps_due: Section[Seen]
    moves: Section[Moved]
    past_expected_close: Section[Seen]


async def now(connection: AsyncConnection) -> datetime:
    """The database's clock, which decides what day it is."""
    instant: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return instant


async def digest(
    connection: AsyncConnection,
    workspace: UUID,
    sight: Sight,
    filters: Filters,
    morning: Morning,
    limit: int,
) -> Digest:
    """The digest of the deals that pass the filters, with the first `limit` of each section."""
    reader = _Reader(connection, workspace, sight, filters, morning, limit)
    return Digest(
        idle_flags=await reader.idle_flags(),
        newly_idle=await reader.newly_idle(),
        about_to_be_idle=await reader.about_to_be_idle(),
        follow_ups_due=await reader.follow_ups_due(),
        next_steps_due=await reader.next_steps_due(),
        moves=await reader.moves(),
        past_expected_close=await reader.past_expected_close(),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the sections of one digest, all from one snapshot."""

    connection: AsyncConnection
    workspace: UUID
    sight: Sight
    filters: Filters
    morning: Morning
    limit: int

    async def idle_flags(self) -> FlagCounts:
        """All flags that are not resolved, whatever the day."""
        f = idle_flag.c
        awake, seen = f.snoozed_until.is_(None), f.acknowledged_at.is_not(None)
        query = self._passing(
            idle_flag,
            func.count(),
            func.count().filter(awake, ~seen),
            func.count().filter(awake, seen),
            func.count().filter(~awake),
            func.count().filter(f.escalated_at.is_not(None)),
        ).where(f.resolved_at.is_(None))
        return FlagCounts(*(await self.connection.execute(query)).one())

    async def newly_idle(self) -> Section[Flagged]:
        """Unresolved flags of deals that fell idle on the day or the day before, oldest first.

        One that was opened late, since no service was there, is new when it was opened: else no
        morning would tell of it.
        """
        f = idle_flag.c
        new_at = func.greatest(f.idle_since, f.opened_at)
        rows = await self._first(
            idle_flag,
            (new_at, f.flag_id),
            f.resolved_at.is_(None),
            new_at >= self.morning.since,
            new_at < self.morning.end,
        )
        return Section(
            _count(rows), [(flag_of(_part(row, idle_flag)), *await self._seen(row)) for row in rows]
        )

    async def about_to_be_idle(self) -> Section[Seen]:
        """Deals without an open flag that fall idle before `ahead`, the soonest first.

        One that has just fallen idle and waits for the next scan is still among them: none is lost
        between this section and the flags.
        """
        o = opportunity.c
        return await self._deals(
            o.goes_idle_at, o.goes_idle_at < self.morning.ahead, o.flagged_at.is_(None)
        )

    async def follow_ups_due(self) -> Section[Seen]:
        """Deals whose follow-up is due by the end of the day, the longest due first."""
        due_at = opportunity.c.follow_up_due_at
        return await self._deals(due_at, due_at < self.morning.end)

    async def next_steps_due(self) -> Section[Seen]:
        """Open deals whose next step was planned for the day or before, the longest due first."""
        step_at = opportunity.c.next_step_at
        return await self._deals(step_at, step_at < self.morning.end, *_in_work())

    async def moves(self) -> Section[Moved]:
        """Moves of the day and the day before, the newest first.

        Left out is what moved no deal from a stage (openings, links of closed deals), what nobody
        moved (a changed definition rearranges), what was voided, and imported history.
        """
        t = transition.c
        rows = await self._first(
            transition,
            (t.occurred_at, t.transition_id),
            t.voided_at.is_(None),
            t.entered_at.is_not(None),
            t.import_id.is_(None),
            t.kind != TransitionKind.REARRANGED.value,
            t.occurred_at >= self.morning.since,
            t.occurred_at < self.morning.end,
            newest=True,
        )
        return Section(
            _count(rows),
            [(entry_of(_part(row, transition)), *await self._seen(row)) for row in rows],
        )

    async def past_expected_close(self) -> Section[Seen]:
        """Open deals that should have closed before the day, the longest overdue first."""
        expected_on = opportunity.c.expected_close_on
        return await self._deals(expected_on, expected_on < self.morning.on, *_in_work())

    async def _deals(self, by: Column[Any], *conditions: ColumnElement[bool]) -> Section[Seen]:
        rows = await self._first(opportunity, (by, opportunity.c.opportunity_id), *conditions)
        return Section(_count(rows), [await self._seen(row) for row in rows])

    async def _first(
        self,
        table: Table,
        order: tuple[ColumnElement[Any], Column[UUID]],
        *conditions: ColumnElement[bool],
        newest: bool = False,
    ) -> Sequence[RowMapping]:
        """The first rows of the table by `order`, each with its deal and `found`: of how many.

        They are found by their narrow keys; what makes a row wide is read of the first ones alone.
        """
        by, key = order
        keys = by.label("by"), key.label("key"), func.count().over().label("found")
        which = self._passing(table, *keys).where(*conditions)
        which = which.order_by(by.desc(), key.desc()) if newest else which.order_by(by, key)
        first = which.limit(self.limit).subquery("first")
        t, o = table.c, opportunity.c
        own = [] if table is opportunity else [t[c.name].label(_own(table, c.name)) for c in t]
        whole = (
            select(*o, pipelines.PRESENT_REVISION, first.c.found, *own)
            .select_from(first)
            .join(table, (t.workspace_id == self.workspace) & (key == first.c.key))
        )
        if table is not opportunity:
            whole = whole.join(opportunity, _of_one_deal(table))
        whole = whole.join(pipeline, pipelines.owning(opportunity))
        ends = (first.c.by, first.c.key)
        whole = whole.order_by(*(end.desc() if newest else end for end in ends))
        return (await self.connection.execute(whole)).mappings().all()

    def _passing(self, table: Table, *wanted: ColumnElement[Any]) -> Select[Any]:
        """What is wanted of the rows of the table whose deals pass the filters.

        It goes by pipelines: the log is indexed by instant within each.
        """
        query = select(*wanted).select_from(pipeline).join(table, pipelines.owning(table))
        query = query.where(pipeline.c.workspace_id == self.workspace)
        if self.filters.pipeline_id is not None:
            query = query.where(pipeline.c.pipeline_id == self.filters.pipeline_id)
        o = opportunity.c
        whose = ((o.owner, self.filters.owner), (o.team, self.filters.team))
        asked = [column == value for column, value in whose if value is not None]
        if not self.sight.is_whole:
            asked.append(seen(self.sight))
        if asked and table is not opportunity:
            query = query.join(opportunity, _of_one_deal(table))
        return query.where(*asked)

    async def _seen(self, row: RowMapping) -> Seen:
        return deal_of(row), await pipelines.read_present_of(self.connection, self.workspace, row)


def _in_work() -> tuple[ColumnElement[bool], ...]:
    """An open deal at work: in an archived pipeline even that one rests.

    No open deal keeps facts of a close; it is said for the index of open deals, which asks for it.
    """
    o = opportunity.c
    is_open = o.status == Status.OPEN.value, o.closed_facts.is_(None)
    return *is_open, pipeline.c.archived_at.is_(None)


def _of_one_deal(table: Table) -> ColumnElement[bool]:
    t, o = table.c, opportunity.c
    return (t.workspace_id == o.workspace_id) & (t.opportunity_id == o.opportunity_id)


def _count(rows: Sequence[RowMapping]) -> int:
    return int(rows[0]["found"]) if rows else 0


def _own(table: Table, column: str) -> str:
    return f"{table.name}_{column}"


def _part(row: RowMapping, table: Table) -> Mapping[str, Any]:
    """What of the row is the table's own."""
    return {column.name: row[_own(table, column.name)] for column in table.c}
