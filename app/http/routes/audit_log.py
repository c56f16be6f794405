"""The audit log: who changed what, from what to what. Read and exported, never written, here."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse

from app.domain.access import Principal, Scope
from app.http.deps import Allowed, DatabaseDep
from app.http.paging import PagesDep
from app.http.schemas.audit_log import (
    AuditEntry,
    AuditEntryPage,
    AuditEntryQuery,
    AuditExportQuery,
)
from app.http.schemas.common import Id
from app.http.strictness import StrictRoute
from app.storage.engine import Database
from app.storage.queries import audit_log
from app.storage.queries.audit_log import Recorded

router = APIRouter(route_class=StrictRoute, prefix="/v1/audit-log", tags=["access"])

AT_ONCE: Final = 100
"""Entries of an export that are held at a time; one may be as long as a pipeline's definition."""
NDJSON: Final = "application/x-ndjson"


Reader = Annotated[Principal, Depends(Allowed(Scope.AUDIT_READ, whole=True))]


@router.get("")
async def list_audit_entries(
    query: Annotated[AuditEntryQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> AuditEntryPage:
    """Changes of definitions, keys, endpoints and overrides, voids and deletions, newest first."""
    workspace, filters = principal.workspace_id, query.filters()
    listing = pages.of(query, list="audit-log", workspace=workspace, **asdict(filters))
    async with database.read(workspace) as connection:
        found = await audit_log.newest(
            connection, workspace, filters, before=listing.first, limit=listing.more
        )
    found, page = listing.cut(found, lambda entry: [entry.entry_id])
    return AuditEntryPage(items=[AuditEntry.of(each) for each in found], page=page)


@router.get(
    "/export",
    response_class=Response,
    responses={
        200: {
            "description": "An `AuditEntry` a line, the oldest first. Every entry is there whose "
            "change was committed when the export began.",
            "content": {NDJSON: {"schema": {"type": "string"}}},
            "headers": {"Content-Disposition": {}},
        }
    },
)
async def export_audit_entries(
    query: Annotated[AuditExportQuery, Query()], principal: Reader, database: DatabaseDep
) -> Response:
    """All entries at once, as newline-delimited JSON, in the order in which they were written."""
    workspace, filters = principal.workspace_id, query.filters()
    first = await _some(database, workspace, filters, None)  # so that a refusal is still possible
    return StreamingResponse(
        _lines(database, workspace, filters, first),
        media_type=NDJSON,
        headers={"Content-Disposition": 'attachment; filename="audit-log.ndjson"'},
    )


@router.get("/{entry_id}")
async def get_audit_entry(
    entry_id: Annotated[Id, Path(description="The entry's id.")],
    principal: Reader,
    database: DatabaseDep,
) -> AuditEntry:
    """One entry of the audit log."""
    async with database.read(principal.workspace_id) as connection:
        return AuditEntry.of(await audit_log.one(connection, principal.workspace_id, entry_id))


async def _lines(
    database: Database, workspace: UUID, filters: audit_log.Filters, found: list[Recorded]
) -> AsyncIterator[bytes]:
    """The lines of an export, from these entries on; none is kept once it is sent."""
    while True:
        yield b"".join(AuditEntry.of(each).line() for each in found)
        if len(found) < AT_ONCE:
            return
        found = await _some(database, workspace, filters, found[-1].entry_id)


async def _some(
    database: Database, workspace: UUID, filters: audit_log.Filters, after: UUID | None
) -> list[Recorded]:
    """The next entries, in a transaction that does not wait for the caller to take them."""
    async with database.read(workspace) as connection:
        return await audit_log.oldest(connection, workspace, filters, after=after, limit=AT_ONCE)
