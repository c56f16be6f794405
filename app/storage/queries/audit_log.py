"""What the audit log tells: the newest first, or all of it in the order in which it was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import NotFound
from app.storage.tables import audit_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An entry as it is kept. `key_id`: of the API key that it was done with, if any."""

    entry_id: UUID
    recorded_at: datetime
    actor: str
    key_id: str | None
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Entries that pass all of these; what is None or empty passes everything."""

    actions: Sequence[str] = ()
    target: str | None = None
    actor: str | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None


_READ = [audit_entry.c[name] for name in Recorded.__dataclass_fields__]


async def newest(
    connection: AsyncConnection,
    workspace: UUID,
    filters: Filters,
    *,
    before: UUID | None,
    limit: int,
) -> list[Recorded]:
    """Entries older than the entry `before`, the newest first."""
    a = audit_entry.c
    query = _passing(workspace, filters).order_by(a.entry_id.desc()).limit(limit)
    return await _read(connection, query if before is None else query.where(a.entry_id < before))


async def oldest(
    connection: AsyncConnection,
    workspace: UUID,
    filters: Filters,
    *,
    after: UUID | None,
    limit: int,
) -> list[Recorded]:
    """Entries newer than the entry `after`, the oldest first."""
    a = audit_entry.c
    query = _passing(workspace, filters).order_by(a.entry_id).limit(limit)
    return await _read(connection, query if after is None else query.where(a.entry_id > after))


async def one(connection: AsyncConnection, workspace: UUID, entry_id: UUID) -> Recorded:
    """The entry of that id. Raises NotFound."""
    found = await _read(
        connection, _passing(workspace, Filters()).where(audit_entry.c.entry_id == entry_id)
    )
    if not found:
        raise NotFound(f"There is no entry {entry_id} in the audit log.")
    return found[0]


def _passing(workspace: UUID, filters: Filters) -> Select[Any]:
    a = audit_entry.c
    query = select(*_READ).where(a.workspace_id == workspace)
    if filters.actions:
        query = query.where(a.action.in_(filters.actions))
    if filters.target is not None:
        query = query.where(a.target == filters.target)
    if filters.actor is not None:
        query = query.where(a.actor == filters.actor)
    if filters.recorded_from is not None:
        query = query.where(a.recorded_at >= filters.recorded_from)
    if filters.recorded_to is not None:
        query = query.where(a.recorded_at < filters.recorded_to)
    return query


async def _read(connection: AsyncConnection, query: Select[Any]) -> list[Recorded]:
    return [Recorded(**row) for row in (await connection.execute(query)).mappings()]
