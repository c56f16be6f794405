"""Imports as jobs: received, claimed by one worker at a time, brought further piece by piece.

A worker holds a lease. Every piece of work ends in a transaction that writes what was done *and*
how far the job has come, guarded by that lease: after a crash another worker goes on from there,
and one that was thought dead can write nothing any more.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import NotFound
from app.storage import bulk
from app.storage.engine import Connection
from app.storage.statement import Part
from app.storage.tables import import_job, import_remark, pipeline

LEASE_SECONDS: Final = 60
"""How long a worker may be silent before its import is another's: longer than any piece takes."""


class State(StrEnum):
    """How far an import is; the last three are ends."""

    RECEIVING = "receiving"
    PENDING = "pending"
    STAGING = "staging"
    CHECKING = "checking"
    APPENDING = "appending"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"


ENDS: Final = frozenset({State.COMPLETED, State.ABORTED, State.FAILED})
"""What an import ends as. It is finished when, after that, what it had staged is cleared."""


COUNTED: Final = (
    *("records", "rejected", "ignored", "warnings"),
    *("transitions", "present", "unchanged", "voided", "against_flow"),
    *("activities", "activities_present", "deals_created", "deals_changed"),
)
"""What an import counts. Each dated statement ends as one of transitions, present, unchanged,
activities, activities_present or rejected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportJob:
    """A row of `import_job`: what was asked, how far it is, what it has counted."""

    import_id: UUID
    pipeline_id: UUID
    state: State
    mapping: Mapping[str, Any]
    on_error: str
    on_conflict: str
    actor: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: str | None = None
    lease_id: UUID | None = None
    bytes_total: int = 0
    bytes_read: int = 0
    records_read: int = 0
    rows_staged: int = 0
    rows_done: int = 0
    done_through: str | None = None
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    def counting(self, **more: int) -> "ImportJob":
        """The job with these numbers added to its counts."""
        counts = {name: self.counts[name] + more.get(name, 0) for name in COUNTED}
        return replace(self, counts=counts)


_READ = tuple(ImportJob.__dataclass_fields__)

ADD: Final = """
INSERT INTO import_job (workspace_id, import_id, pipeline_id, state, mapping, on_error, on_conflict,
                        actor, created_at, bytes_total, bytes_read, records_read, rows_staged,
                        rows_done, counts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, 0, 0, 0, $10)
"""

ADD_CHUNK: Final = """
INSERT INTO import_chunk (workspace_id, import_id, n, content) VALUES ($1, $2, $3, $4)
"""

CHUNK: Final = """
SELECT content FROM import_chunk WHERE workspace_id = $1 AND import_id = $2 AND n = $3
"""

CLEAR_CHUNKS: Final = "DELETE FROM import_chunk WHERE workspace_id = $1 AND import_id = $2"

RECEIVED: Final = """
UPDATE import_job SET state = 'pending', bytes_total = $3
WHERE workspace_id = $1 AND import_id = $2 AND state = 'receiving'
"""

# A caller who has been silent for an hour has left.
CLEAR_ABANDONED: Final = """
WITH abandoned AS (
    UPDATE import_job
    SET state = 'failed', finished_at = clock_timestamp(),
        failure = 'The file was never received to its end.'
    WHERE workspace_id = $1 AND state = 'receiving'
      AND created_at < clock_timestamp() - interval '1 hour'
    RETURNING import_id
)
DELETE FROM import_chunk AS c USING abandoned AS a
WHERE c.workspace_id = $1 AND c.import_id = a.import_id
"""

# Which import of the workspace has nobody working on it, the oldest first?
CLAIM: Final = f"""
UPDATE import_job SET lease_id = $2, started_at = coalesce(started_at, clock_timestamp()),
                      leased_until = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
WHERE workspace_id = $1 AND import_id = (
    SELECT import_id FROM import_job
    WHERE workspace_id = $1 AND finished_at IS NULL AND state <> 'receiving'
      AND (leased_until IS NULL OR leased_until < clock_timestamp())
    ORDER BY import_id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING {", ".join(_READ)}
"""

REFRESH_STATISTICS: Final = "SELECT refresh_statistics()"

RELEASE: Final = """
UPDATE import_job SET lease_id = NULL, leased_until = NULL
WHERE workspace_id = $1 AND import_id = $2 AND lease_id = $3
"""

SAVE: Final = f"""
UPDATE import_job SET state = $4, bytes_read = $5, records_read = $6, rows_staged = $7,
    rows_done = $8, done_through = $9, counts = $10, failure = $11,
    leased_until = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
WHERE workspace_id = $1 AND import_id = $2 AND lease_id = $3
"""

FINISH: Final = """
UPDATE import_job SET finished_at = clock_timestamp(), lease_id = NULL, leased_until = NULL
WHERE workspace_id = $1 AND import_id = $2 AND lease_id = $3
"""

CURRENT: Final = """
SELECT revision, clock_timestamp() AS now FROM pipeline
WHERE workspace_id = $1 AND pipeline_id = $2
"""

DISCARD: Final = """
UPDATE import_job SET state = 'failed', failure = $3, finished_at = clock_timestamp()
WHERE workspace_id = $1 AND import_id = $2 AND state = 'receiving'
"""

WAITING: Final = select(import_job.c.workspace_id).distinct()
"""In which workspaces has an import not ended? Asked as `sluice_jobs`, whose policy says it."""

REMARK: Final = """
INSERT INTO import_remark (workspace_id, import_id, line, severity, ordinal, column_name, code,
                           reason, raw)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


READ_SHARE: Final = 0.3
"""What reading the file takes of the whole, about."""


class LostLease(Exception):
    """Another worker has taken the import over; nothing of this piece may stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What is wrong with a row of the file, or worth a second look. `line` counts from 1."""

    line: int
    severity: str = "rejected"
    ordinal: int = 0
    column: str | None = None
    code: str
    reason: str
    raw: str = ""


async def add(connection: Connection, workspace: UUID, job: ImportJob) -> None:
    """Begin an import, before its file is there."""
    await connection.execute(
        ADD,
        workspace,
        job.import_id,
        job.pipeline_id,
        job.state.value,
        json.dumps(job.mapping),
        job.on_error,
        job.on_conflict,
        job.actor,
        job.created_at,
        json.dumps(job.counts),
    )


async def received(connection: Connection, workspace: UUID, job: ImportJob, size: int) -> ImportJob:
    """The import with its file complete: it may be run."""
    await connection.execute(RECEIVED, workspace, job.import_id, size)
    return replace(job, state=State.PENDING, bytes_total=size)


async def discard(connection: Connection, workspace: UUID, import_id: UUID, reason: str) -> None:
    """End an import that is never to be run."""
    await connection.execute(CLEAR_CHUNKS, workspace, import_id)
    await connection.execute(DISCARD, workspace, import_id, reason)


async def claim(connection: Connection, workspace: UUID, lease: UUID) -> ImportJob | None:
    """The next import of the workspace, now held by this lease; None where none waits."""
    row = await connection.fetchrow(CLAIM, workspace, lease)
    return None if row is None else job_of(row)


async def save(connection: Connection, workspace: UUID, job: ImportJob) -> None:
    """Write how far the job has come. Raises LostLease where it is another worker's now."""
    done = await connection.execute(
        SAVE,
        workspace,
        job.import_id,
        job.lease_id,
        job.state.value,
        job.bytes_read,
        job.records_read,
        job.rows_staged,
        job.rows_done,
        job.done_through,
        json.dumps(job.counts),
        job.failure,
    )
    if done != "UPDATE 1":
        raise LostLease


async def finish(connection: Connection, workspace: UUID, job: ImportJob) -> None:
    """The import is over and nobody's. Raises LostLease."""
    if await connection.execute(FINISH, workspace, job.import_id, job.lease_id) != "UPDATE 1":
        raise LostLease


async def remark(
    connection: Connection, workspace: UUID, import_id: UUID, remarks: Sequence[Remark]
) -> None:
    """Add to what is reported of the file's rows."""
    await bulk.execute(
        connection,
        [
            Part(
                REMARK,
                (
                    workspace,
                    import_id,
                    said.line,
                    said.severity,
                    said.ordinal,
                    said.column,
                    said.code,
                    said.reason,
                    said.raw,
                ),
            )
            for said in remarks
        ],
    )


def job_of(row: Any) -> ImportJob:
    """A row of `import_job`, from either driver."""
    values = {name: row[name] for name in _READ}
    for name in ("mapping", "counts"):
        if isinstance(values[name], str):
            values[name] = json.loads(values[name])
    return ImportJob(**{**values, "state": State(values["state"])})


async def read(
    connection: AsyncConnection, workspace: UUID, import_id: UUID
) -> tuple[ImportJob, str]:
    """An import and its pipeline's key. Raises NotFound."""
    found = await read_list(connection, workspace, only=import_id, limit=1)
    if not found:
        raise NotFound(f"There is no import {import_id}.")
    return found[0]


async def read_list(
    connection: AsyncConnection,
    workspace: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    only: UUID | None = None,
) -> list[tuple[ImportJob, str]]:
    """Imports with their pipelines' keys, the newest first."""
    wanted = (
        select(import_job, pipeline.c.key)
        .join(
            pipeline,
            (pipeline.c.workspace_id == import_job.c.workspace_id)
            & (pipeline.c.pipeline_id == import_job.c.pipeline_id),
        )
        .where(import_job.c.workspace_id == workspace)
        .order_by(import_job.c.import_id.desc())
        .limit(limit)
    )
    if before is not None:
        wanted = wanted.where(import_job.c.import_id < before)
    if only is not None:
        wanted = wanted.where(import_job.c.import_id == only)
    rows = (await connection.execute(wanted)).mappings()
    return [(job_of(row), row["key"]) for row in rows]


async def read_remarks(
    connection: AsyncConnection,
    workspace: UUID,
    import_id: UUID,
    *,
    limit: int,
    after: tuple[int, str, int] | None = None,
) -> list[Remark]:
    """What is reported of the file's rows, by line."""
    r = import_remark.c
    wanted = (
        select(import_remark)
        .where(r.workspace_id == workspace, r.import_id == import_id)
        .order_by(r.line, r.severity, r.ordinal)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(tuple_(r.line, r.severity, r.ordinal) > tuple_(*map(literal, after)))
    return [
        Remark(
            line=row.line,
            severity=row.severity,
            ordinal=row.ordinal,
            column=row.column_name,
            code=row.code,
            reason=row.reason,
            raw=row.raw,
        )
        for row in await connection.execute(wanted)
    ]


async def workspaces_waiting(connection: AsyncConnection) -> list[UUID]:
    """The workspaces in which an import has not ended."""
    return list((await connection.execute(WAITING)).scalars())


def progress(job: ImportJob) -> float:
    """The share of the work that is done, 0 to 1: reading the file, then appending its rows."""
    if job.state in (State.COMPLETED, State.ABORTED):
        return 1.0
    read = job.bytes_read / job.bytes_total if job.bytes_total else 0.0
    done = job.rows_done / job.rows_staged if read >= 1 and job.rows_staged else 0.0
    return READ_SHARE * read + (1 - READ_SHARE) * done
