"""Taking a file of history in: stored as it comes, checked as far as its first line, then queued.

Whether its rows make sense is found out by the job that runs it (`import_history`).
"""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import UUID

from app.actions import audit_entries
from app.actions.import_mapping import LongMapping, WideMapping
from app.actions.read_records import check_head
from app.actions.read_rows import Meaning
from app.domain.access import Principal
from app.domain.errors import PipelineArchived
from app.domain.pipeline import Pipeline
from app.storage import idempotency, imports, pipelines
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.imports import ImportJob, State
from app.storage.statement import execute

Received = Callable[[ImportJob], Answer]
"""Renders what the caller is answered; it is kept with the import, in the same transaction."""

TWICE = "The same request came twice at once; the other one is the import."


async def receive_import(
    database: Database,
    principal: Principal,
    pipeline: str,
    mapping: LongMapping | WideMapping,
    chunks: AsyncIterator[bytes],
    *,
    on_error: str,
    on_conflict: str,
    request: Repeatable | None,
    answer: Received,
) -> Answer:
    """Store the file and queue its import.

    `chunks` are the file's bytes, about a MiB each. Raises NotFound and PipelineArchived for the
    pipeline, Invalid for a mapping that does not fit it or the file's first line,
    IdempotencyKeyReused.
    """
    workspace = principal.workspace_id
    first = await anext(chunks, b"")

    async def begin(connection: Connection) -> tuple[ImportJob, Pipeline] | Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        found = await pipelines.current(connection, workspace, pipeline)
        if found.archived_at is not None:
            raise PipelineArchived(f"Pipeline {pipeline!r} takes no more opportunities.")
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        check_head(first, mapping, Meaning(mapping, found, now).columns)
        job = ImportJob(
            import_id=new_id(),
            pipeline_id=found.pipeline_id,
            state=State.RECEIVING,
            mapping=mapping.model_dump(mode="json"),
            on_error=on_error,
            on_conflict=on_conflict,
            actor=principal.subject,
            created_at=now.astimezone(UTC),
        )
        await imports.add(connection, workspace, job)
        return job, found

    begun = await database.write(workspace, begin, lock=Lock.NONE)
    if isinstance(begun, Answer):
        return begun
    receiving, into = begun
    size = await _store(database, workspace, receiving.import_id, first, chunks)

    async def end(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            await imports.discard(connection, workspace, receiving.import_id, TWICE)
            return kept
        job = await imports.received(connection, workspace, receiving, size)
        answered = answer(job)
        noted = audit_entries.rewriting(principal, job, into)
        if parts := [*noted, *idempotency.keep(workspace, request, answered)]:
            await execute(connection, parts)
        return answered

    return await database.write(workspace, end, lock=Lock.NONE, keys=idempotency.keys(request))


async def _store(
    database: Database,
    workspace: UUID,
    import_id: UUID,
    first: bytes,
    chunks: AsyncIterator[bytes],
) -> int:
    """The file's size in bytes, when all of it is stored; a transaction a chunk."""
    chunk, number, size = first, 0, 0
    while chunk:

        async def keep(connection: Connection, chunk: bytes = chunk, number: int = number) -> None:
            await connection.execute(imports.ADD_CHUNK, workspace, import_id, number, chunk)

        await database.write(workspace, keep, lock=Lock.NONE)
        size += len(chunk)
        number += 1
        chunk = await anext(chunks, b"")
    return size
