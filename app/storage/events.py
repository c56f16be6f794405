"""The transactional outbox: what other systems are told, written by the change that it tells of.

**Order.** Readers take the rows of transactions that can no longer change (those below
`pg_snapshot_xmin(pg_current_snapshot())`, or of an older epoch) and go on by `(epoch, xid, n)`.
Never by an id alone: ids are drawn before the commit, so a reader that has seen 7 may be passed by
a 6 that commits later. What is below the oldest running transaction is complete, and a transaction
that begins later has a higher id than all of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Select, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Sight
from app.domain.errors import InvalidCursor
from app.storage.engine import Connection
from app.storage.ids import new_id
from app.storage.sight import seen
from app.storage.statement import Part
from app.storage.tables import event, opportunity, pipeline

APPEND: Final = """
INSERT INTO event (workspace_id, epoch, event_id, type, pipeline_id, opportunity_id, occurred_at,
                   historical, data)
VALUES ($1, (SELECT max(epoch) FROM epoch), $2, $3, $4, $5, $6, $7, $8)
"""

# Many events of one transaction at once, in the order given.
APPEND_ALL: Final = """
INSERT INTO event (workspace_id, epoch, event_id, type, pipeline_id, opportunity_id, occurred_at,
                   historical, data)
SELECT $1, (SELECT max(epoch) FROM epoch), told.*
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::boolean[],
            $8::jsonb[]) AS told
"""

Position = tuple[int, int, int]
"""Where a reader is in the feed: epoch, transaction id, number."""

START: Final[Position] = (0, 0, 0)

MOVES_BY_NAME: Final[Mapping[str, str]] = MappingProxyType(
    {"opportunity.won": "won", "opportunity.lost": "lost", "opportunity.reopened": "reopened"}
)
"""Names by which a reader asks for moves of one kind; the rows are `opportunity.transitioned`."""

STAGE_ENTERED: Final = "stage.entered"
"""The name for whatever brings a deal into a stage: its opening, and every move but a hand-off."""

OF_DEFINITIONS: Final = ("pipeline.updated",)
"""Types that tell of no deal, and of nothing that is to be counted."""

SCHEMA_VERSION: Final = 1
"""Of what every type says; docs/events.md tells what makes the next one. The first type that comes
to a second version brings the column that tells its rows apart."""


@dataclass(frozen=True, slots=True)
class Event:
    event_id: UUID
    position: Position
    type: str
    pipeline: str | None
    opportunity_id: UUID | None
    occurred_at: datetime
    recorded_at: datetime
    historical: bool
    data: dict[str, Any]
    # Of its deal as it is now; nothing where that is erased
    owner: str | None = None
    team: str | None = None


def is_seen(event: Event, sight: Sight) -> bool:
    """Whether the event is told to a caller: what `after` asks the database, of one at hand.

    Who sees only some deals is told of those, and of how the pipelines are defined.
    """
    if sight.is_whole or event.type in OF_DEFINITIONS:
        return True
    return event.opportunity_id is not None and sight.holds(event.owner, event.team)


def written(position: Position) -> str:
    """A position as followers keep it."""
    return "-".join(map(str, position))


def told(event: Event) -> bytes:
    """The event as feed, stream and webhooks tell of it: one line of JSON."""
    return to_json(
        {
            "id": event.event_id,
            "position": written(event.position),
            "type": event.type,
            "schema_version": SCHEMA_VERSION,
            "pipeline": event.pipeline,
            "opportunity_id": event.opportunity_id,
            "occurred_at": event.occurred_at,
            "recorded_at": event.recorded_at,
            "historical": event.historical,
            "data": event.data,
        }
    )


def is_named(event: Event, types: Collection[str]) -> bool:
    """Whether the event is of these types, or one of the moves that names among them stand for.

    What `after` asks the database, asked of an event at hand.
    """
    if event.type in types:
        return True
    if event.type == "opportunity.created":
        return STAGE_ENTERED in types
    if event.type != "opportunity.transitioned" or "kind" not in event.data:
        return False
    kind = event.data["kind"]
    entered = STAGE_ENTERED in types and kind != "handed_off"
    return entered or any(MOVES_BY_NAME.get(name) == kind for name in types)


def append(
    workspace: UUID,
    type_: str,
    data: Mapping[str, Any],
    *,
    occurred_at: datetime,
    pipeline_id: UUID | None = None,
    opportunity_id: UUID | None = None,
    historical: bool = False,
) -> Part:
    """The part that tells of one change; `data` may hold instants (in UTC) and ids as they are."""
    return Part(
        APPEND,
        (
            workspace,
            new_id(),
            type_,
            pipeline_id,
            opportunity_id,
            occurred_at,
            historical,
            to_json(data).decode(),  # four times as fast as the standard library's
        ),
    )


def behind(position: Position) -> Position:
    """The horizon of who reads up to a position and with it."""
    epoch, xid, number = position
    return epoch, xid, number + 1


async def append_all(connection: Connection, workspace: UUID, parts: Sequence[Part]) -> None:
    """Tell of many changes in one statement; the parts are `append`'s."""
    if parts:
        columns = zip(*(part.args[1:] for part in parts), strict=True)
        await connection.execute(APPEND_ALL, workspace, *(list(column) for column in columns))


HORIZON: Final = text(
    """
    SELECT max(epoch) AS epoch,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin
    FROM epoch
    """
)


NEXT: Final = text(
    """
    SELECT max(epoch) AS epoch,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax
    FROM epoch
    """
)

AHEAD: Final = 100_000
"""Transactions by which a position may lie ahead of who is asked for it: a replica lags, and a
crash takes back the ids that were given in its last moments to what has left nothing behind.
"""

SNAPSHOT: Final = text("SELECT max(epoch) || '.' || pg_current_snapshot() FROM epoch")


async def after(
    connection: AsyncConnection,
    workspace: UUID,
    position: Position,
    horizon: Position,
    *,
    limit: int,
    sight: Sight,
    types: Sequence[str] = (),
    pipeline_id: UUID | None = None,
    historical: bool = True,
) -> list[Event]:
    """The next events behind `position` and before the `horizon` of this very snapshot, in order.

    Both bounds are one range of the primary key, so that a page costs what it holds. `types` may
    hold the names above.
    """
    of_pipeline = (pipeline.c.workspace_id == event.c.workspace_id) & (
        pipeline.c.pipeline_id == event.c.pipeline_id
    )
    place = tuple_(event.c.epoch, event.c.xid, event.c.n)
    of_deal = (opportunity.c.workspace_id == event.c.workspace_id) & (
        opportunity.c.opportunity_id == event.c.opportunity_id
    )
    query: Select[Any] = (
        select(
            event,
            pipeline.c.key.label("pipeline"),
            opportunity.c.owner.label("owner"),
            opportunity.c.team.label("team"),
        )
        .join(pipeline, of_pipeline, isouter=True)
        .join(opportunity, of_deal, isouter=True)
        .where(event.c.workspace_id == workspace, place > position, place < horizon)
        .order_by(event.c.epoch, event.c.xid, event.c.n)
        .limit(limit)
    )
    if types:
        query = query.where(_named(types))
    if pipeline_id is not None:
        query = query.where(event.c.pipeline_id == pipeline_id)
    if not historical:
        query = query.where(~event.c.historical)
    if not sight.is_whole:
        query = query.where(event.c.type.in_(OF_DEFINITIONS) | seen(sight))
    rows = await connection.execute(query)
    return [
        Event(
            row.event_id,
            (row.epoch, int(row.xid), row.n),
            row.type,
            row.pipeline,
            row.opportunity_id,
            row.occurred_at,
            row.recorded_at,
            row.historical,
            row.data,
            row.owner,
            row.team,
        )
        for row in rows
    ]


async def horizon(connection: AsyncConnection) -> Position:
    """The position behind everything that is settled in this snapshot, and before all else.

    Older epochs are settled as a whole; of the present one, whatever lies below the oldest
    transaction that still runs. A reader that found nothing more goes on from here.
    """
    row = (await connection.execute(HORIZON)).one()
    return row.epoch, row.xmin, 0


async def begin(
    connection: AsyncConnection, position: Position | None, horizon: Position
) -> Position:
    """Where a reader begins: at the position that it was given before, else at the horizon.

    What was given may lie behind this horizon: that of another reader was a later one, and an
    event that is not settled has its position already. It never lies behind the next transaction;
    who waited there would hear of nothing for good. Raises InvalidCursor.
    """
    if position is None or position <= horizon:
        return horizon if position is None else position
    row = (await connection.execute(NEXT)).one()
    if position > (row.epoch, row.xmax + AHEAD, 0):
        raise InvalidCursor("The position lies in the future: this feed has never given it.")
    return position


async def nth(
    connection: AsyncConnection, workspace: UUID, position: Position, horizon: Position, count: int
) -> Position | None:
    """Where the event stands that is so many behind `position`; None where there are fewer.

    For who passes over most of what happened: `after` bounds what it finds, not what it looks at.
    """
    place = tuple_(event.c.epoch, event.c.xid, event.c.n)
    found = await connection.execute(
        select(event.c.epoch, event.c.xid, event.c.n)
        .where(event.c.workspace_id == workspace, place > position, place < horizon)
        .order_by(event.c.epoch, event.c.xid, event.c.n)
        .offset(count - 1)
        .limit(1)
    )
    row = found.first()
    return None if row is None else (row.epoch, int(row.xid), row.n)


async def unsettled(connection: AsyncConnection, workspace: UUID, horizon: Position) -> bool:
    """Whether something is committed that lies behind the horizon: it will be told in a moment."""
    place = tuple_(event.c.epoch, event.c.xid, event.c.n)
    behind = select(event.c.n).where(event.c.workspace_id == workspace, place >= horizon).limit(1)
    return (await connection.execute(behind)).first() is not None


async def snapshot(connection: AsyncConnection) -> str:
    """A text that is the same as long as no transaction anywhere has written and ended."""
    return str((await connection.execute(SNAPSHOT)).scalar_one())


def _named(types: Sequence[str]) -> ColumnElement[bool]:
    """Events of these types, the names that stand for some of the moves among them."""
    moved, kind = event.c.type == "opportunity.transitioned", event.c.data["kind"].astext
    kinds = [MOVES_BY_NAME[name] for name in types if name in MOVES_BY_NAME]
    entered = (moved & (kind != "handed_off")) | (event.c.type == "opportunity.created")
    return or_(
        event.c.type.in_(types),
        *([moved & kind.in_(kinds)] if kinds else []),
        *([entered] if STAGE_ENTERED in types else []),
    )


LAST_CHANGE: Final = """
SELECT e.epoch || '.' || e.xid || '.' || e.n || CASE
    WHEN e.xid < pg_snapshot_xmin(pg_current_snapshot()) THEN ''
    ELSE '.' || pg_current_snapshot() END
FROM event AS e WHERE e.workspace_id = p.workspace_id AND e.pipeline_id = p.pipeline_id
ORDER BY e.epoch DESC, e.xid DESC, e.n DESC LIMIT 1
"""
"""Of the pipeline `p`: a text that differs whenever its data visible here differ, by one index
look-up.

Every change leaves an event. The last one alone would not do while transactions are running: one
with a lower id may commit later and leave the last event as it was. So as long as the last event is
not settled, the snapshot itself is part of the text.
"""
