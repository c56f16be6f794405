"""What happened to one deal, the latest first: where it stood, what was done, when it was idle."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import journey
from app.domain.idle_flag import IdleFlag
from app.domain.journey import Visit
from app.storage import activities
from app.storage.activities import Activity
from app.storage.idle_flags import flag_of
from app.storage.tables import idle_flag, transition
from app.storage.transitions import entry_of


@dataclass(frozen=True, slots=True)
class Stay:
    """A visit, and the transition that began it."""

    transition_id: UUID
    visit: Visit


Entry: TypeAlias = Stay | Activity | IdleFlag
Place: TypeAlias = tuple[datetime, UUID]
"""Where an entry stands: its instant, and its id."""


def place(entry: Entry) -> Place:
    """A visit stands at its beginning, a flag at the instant since which the deal was idle."""
    match entry:
        case Stay():
            return entry.visit.entered_at, entry.transition_id
        case Activity():
            return entry.occurred_at, entry.activity_id
        case IdleFlag():
            return entry.idle_since, entry.flag_id


async def timeline(
    connection: AsyncConnection,
    workspace: UUID,
    opportunity_id: UUID,
    *,
    before: Place | None,
    limit: int,
) -> list[Entry]:
    """The deal's entries before that place, the latest first.

    Its log and its flags are short and are read whole; activities may be many.
    """
    done = await activities.latest(
        connection, workspace, opportunity_id, before=before, limit=limit
    )
    every: list[Entry] = [
        *done,
        *await _stays(connection, workspace, opportunity_id),
        *await _flags(connection, workspace, opportunity_id),
    ]
    earlier = (entry for entry in every if before is None or place(entry) < before)
    return sorted(earlier, key=place, reverse=True)[:limit]


async def _stays(
    connection: AsyncConnection, workspace: UUID, opportunity_id: UUID
) -> Iterable[Stay]:
    t = transition.c
    rows = await connection.execute(
        select(transition)
        .where(
            t.workspace_id == workspace,
            t.opportunity_id == opportunity_id,
            t.voided_at.is_(None),
        )
        .order_by(t.seq)
    )
    log = [entry_of(row) for row in rows.mappings()]
    moves = [entry.transition for entry in log]
    entering = (entry for entry in log if not journey.is_link(entry.transition))
    # A hand-off ends the last visit and begins none.
    return (
        Stay(entry.transition_id, visit)
        for entry, visit in zip(entering, journey.visits(moves), strict=False)
    )


async def _flags(
    connection: AsyncConnection, workspace: UUID, opportunity_id: UUID
) -> Iterable[IdleFlag]:
    f = idle_flag.c
    rows = await connection.execute(
        select(idle_flag).where(f.workspace_id == workspace, f.opportunity_id == opportunity_id)
    )
    return (flag_of(row) for row in rows.mappings())
