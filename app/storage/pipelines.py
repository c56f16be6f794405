"""Pipelines in the database: the newest revision, any other one, the one in force at an instant.

A revision never changes once it is committed, so each process keeps the ones it has read; what is
asked of the database every time is only *which* revision holds. Writers use the functions that
take an asyncpg connection (`load`, `current`, `save`), readers those named `read_…`.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, Row, RowMapping, Select, Table, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import AlreadyExists, Breach, Invalid, NotFound
from app.domain.pipeline import Pipeline
from app.storage import tables
from app.storage.driver import fetch
from app.storage.engine import Connection
from app.storage.events import LAST_CHANGE
from app.storage.pipeline_document import decode, encode

MOST_KEPT = 1024
"""Revisions kept per process; a pipeline of ten stages takes about 20 kB."""

PRESENT_REVISION = tables.pipeline.c.revision.label("pipeline_revision")
"""Of a row that is joined to its pipeline: what `read_present_of` needs beside `pipeline_id`."""

LOAD = """
-- One revision of a pipeline, and when its pipeline was made.
SELECT r.document, r.actor, r.in_force_at, p.created_at
FROM pipeline_revision r JOIN pipeline p USING (workspace_id, pipeline_id)
WHERE r.workspace_id = $1 AND r.pipeline_id = $2 AND r.revision = $3
"""

CURRENT = """
-- Which revision of the pipeline of that key holds now?
SELECT pipeline_id, revision FROM pipeline WHERE workspace_id = $1 AND key = $2
"""

PRESENT = f"""
-- Which revision of the pipeline holds, what time is it, and what happened last?
SELECT p.pipeline_id, p.revision, clock_timestamp() AS now, ({LAST_CHANGE}) AS change
FROM pipeline AS p WHERE p.workspace_id = $1 AND p.key = $2
"""

ANY = """
-- Has the workspace a pipeline at all?
SELECT EXISTS (SELECT FROM pipeline WHERE workspace_id = $1)
"""

ADD_PIPELINE = """
INSERT INTO pipeline (workspace_id, pipeline_id, key, revision, created_at, updated_at)
VALUES ($1, $2, $3, 1, $4, $4)
"""

ADVANCE = """
-- The pipeline goes on to its next revision, the one after $3 - 1.
UPDATE pipeline SET revision = $3, updated_at = $4, archived_at = $5
WHERE workspace_id = $1 AND pipeline_id = $2 AND revision = $3 - 1
"""

ADD_REVISION = """
INSERT INTO pipeline_revision (workspace_id, pipeline_id, revision, document, actor, in_force_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""


@dataclass(frozen=True, slots=True)
class Revision:
    """One saved state of a pipeline: what it defined, since when, by whom."""

    pipeline: Pipeline
    actor: str
    in_force_at: datetime
    created_at: datetime
    """When the pipeline was made, whatever its revision."""


@dataclass(frozen=True, slots=True)
class Present:
    """How things stand: the revision that holds, the database's clock, the mark of the last change.

    `change` differs whenever the pipeline's data visible here differ.
    """

    revision: Revision
    now: datetime
    change: str


class Kept:
    """The revisions read last, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._revisions: OrderedDict[tuple[UUID, UUID, int], Revision] = OrderedDict()

    def get(self, key: tuple[UUID, UUID, int]) -> Revision | None:
        found = self._revisions.get(key)
        if found is not None:
            self._revisions.move_to_end(key)
        return found

    def put(self, key: tuple[UUID, UUID, int], revision: Revision) -> None:
        self._revisions[key] = revision
        if len(self._revisions) > self._most:
            self._revisions.popitem(last=False)


_kept = Kept(MOST_KEPT)


async def load(
    connection: Connection, workspace: UUID, pipeline_id: UUID, revision: int
) -> Pipeline:
    """That revision of the pipeline. Raises NotFound.

    Never ask for a revision that this very transaction has saved: it would be kept though the
    transaction may yet be rolled back.
    """
    return (await _load(connection, (workspace, pipeline_id, revision))).pipeline


async def any_there(connection: Connection, workspace: UUID) -> bool:
    """Whether the workspace has a pipeline, archived ones included."""
    return bool(await connection.fetchval(ANY, workspace))


async def current(connection: Connection, workspace: UUID, key: str) -> Pipeline:
    """The pipeline of that key as it is defined now. Raises NotFound."""
    return (await current_revision(connection, workspace, key)).pipeline


async def current_revision(connection: Connection, workspace: UUID, key: str) -> Revision:
    """The revision of the pipeline of that key that holds now. Raises NotFound."""
    row = await connection.fetchrow(CURRENT, workspace, key)
    if row is None:
        raise _no_pipeline(key)
    return await _load(connection, (workspace, row["pipeline_id"], row["revision"]))


async def save(
    connection: Connection, workspace: UUID, pipeline: Pipeline, *, actor: str, instant: datetime
) -> None:
    """Add a revision and make it the one that holds; the first one makes the pipeline.

    The caller holds the definition lock. Raises AlreadyExists where the key is taken.
    """
    pipeline_id = pipeline.pipeline_id
    if pipeline.revision == 1:
        try:
            await connection.execute(ADD_PIPELINE, workspace, pipeline_id, pipeline.key, instant)
        except asyncpg.UniqueViolationError as taken:
            if taken.constraint_name != "pipeline_workspace_id_key_ix":
                raise
            raise AlreadyExists(f"There is a pipeline {pipeline.key!r} already.") from taken
    else:
        advanced = await connection.execute(
            ADVANCE, workspace, pipeline_id, pipeline.revision, instant, pipeline.archived_at
        )
        assert advanced == "UPDATE 1", "the definition lock lets no other revision come between"
    await connection.execute(
        ADD_REVISION,
        workspace,
        pipeline_id,
        pipeline.revision,
        json.dumps(encode(pipeline), ensure_ascii=False),
        actor,
        instant,
    )


async def read_current(connection: AsyncConnection, workspace: UUID, key: str) -> Pipeline:
    """The pipeline of that key as it is defined now. Raises NotFound."""
    return (await read_current_revision(connection, workspace, key)).pipeline


async def read_current_revision(connection: AsyncConnection, workspace: UUID, key: str) -> Revision:
    """The revision of the pipeline of that key that holds now. Raises NotFound."""
    p = tables.pipeline.c
    which = select(p.pipeline_id, p.revision).where(p.workspace_id == workspace, p.key == key)
    row = (await connection.execute(which)).one_or_none()
    if row is None:
        raise _no_pipeline(key)
    return await read_revision(connection, workspace, row.pipeline_id, row.revision)


async def read_present(connection: AsyncConnection, workspace: UUID, key: str) -> Present:
    """The pipeline of that key, what time it is, and whether anything has happened. NotFound."""
    found = await fetch(connection, PRESENT, workspace, key)
    if not found:
        raise _no_pipeline(key)
    (row,) = found
    revision = await read_revision(connection, workspace, row.pipeline_id, row.revision)
    return Present(revision, row.now, row.change or "")


async def read_place(
    connection: AsyncConnection, workspace: UUID, key: str | None, stage: str | None
) -> tuple[UUID | None, int | None]:
    """The pipeline's id and the stage's slot that a list's filters name; None for none.

    Raises NotFound, UnknownStage, and Invalid for a stage without its pipeline.
    """
    if key is None:
        if stage is not None:
            problem = "A stage is one of a pipeline: name the pipeline too."
            raise Invalid(problem, [Breach("?pipeline", "required", problem)])
        return None, None
    pipeline = await read_current(connection, workspace, key)
    return pipeline.pipeline_id, None if stage is None else pipeline.stage(stage).slot


async def read_revision(
    connection: AsyncConnection, workspace: UUID, pipeline_id: UUID, revision: int
) -> Revision:
    """That revision of the pipeline. Raises NotFound."""
    key = (workspace, pipeline_id, revision)
    found = _kept.get(key)
    if found is None:
        r = tables.pipeline_revision.c
        wanted = _revisions(workspace).where(r.pipeline_id == pipeline_id, r.revision == revision)
        row = (await connection.execute(wanted)).mappings().one_or_none()
        if row is None:
            raise _no_revision(revision)
        found = _keep(key, row)
    return found


def owning(table: Table) -> ColumnElement[bool]:
    """The condition that joins the rows of a table to their pipelines."""
    t, p = table.c, tables.pipeline.c
    return (p.workspace_id == t.workspace_id) & (p.pipeline_id == t.pipeline_id)


async def read_present_of(
    connection: AsyncConnection, workspace: UUID, row: RowMapping
) -> Pipeline:
    """The pipeline of a row that bears PRESENT_REVISION, as it is defined now."""
    key = row["pipeline_id"], row[PRESENT_REVISION.name]
    return (await read_revision(connection, workspace, *key)).pipeline


async def read_revisions(
    connection: AsyncConnection,
    workspace: UUID,
    pipeline_id: UUID,
    *,
    before: int | None,
    limit: int,
) -> Sequence[Row[int, str, datetime]]:
    """Number, actor and instant of the revisions before that one, the newest first."""
    r = tables.pipeline_revision.c
    wanted = select(r.revision, r.actor, r.in_force_at).where(
        r.workspace_id == workspace, r.pipeline_id == pipeline_id
    )
    if before is not None:
        wanted = wanted.where(r.revision < before)
    return (await connection.execute(wanted.order_by(r.revision.desc()).limit(limit))).all()


async def read_list(
    connection: AsyncConnection, workspace: UUID, *, archived: bool, after: str, limit: int
) -> list[Revision]:
    """The pipelines as they are defined now, by key, after the key `after`."""
    p, r = tables.pipeline.c, tables.pipeline_revision.c
    wanted = (
        _revisions(workspace)
        .where(
            r.revision == p.revision,
            p.archived_at.is_not(None) if archived else p.archived_at.is_(None),
            p.key > after,
        )
        .order_by(p.key)
        .limit(limit)
    )
    return [
        _keep((workspace, row["pipeline_id"], row["revision"]), row)
        for row in (await connection.execute(wanted)).mappings()
    ]


async def in_force_at(
    connection: AsyncConnection, workspace: UUID, pipeline_id: UUID, instant: datetime
) -> Pipeline:
    """The definition by which figures at `instant` are made (metrics.md, Notation).

    It is the revision in force then; before the pipeline's first transition was *recorded*, the
    one in force at that recording, because imported history is older than its pipeline. Raises
    NotFound where there is no such pipeline.
    """
    r, e = tables.pipeline_revision.c, tables.event.c
    # The first event of a deal is written with the first transition, and has an index that leads
    # straight to it; the log has none by recording, and this must not cost a scan of it.
    first_recorded = (
        select(e.recorded_at)
        .where(
            e.workspace_id == workspace,
            e.pipeline_id == pipeline_id,
            e.opportunity_id.is_not(None),
        )
        .order_by(e.epoch, e.xid, e.n)
        .limit(1)
        .scalar_subquery()
    )
    which = select(func.max(r.revision)).where(
        r.workspace_id == workspace,
        r.pipeline_id == pipeline_id,
        or_(r.revision == 1, r.in_force_at <= func.greatest(instant, first_recorded)),
    )
    revision = (await connection.execute(which)).scalar_one()
    if revision is None:
        raise NotFound("There is no such pipeline.")
    return (await read_revision(connection, workspace, pipeline_id, revision)).pipeline


async def _load(connection: Connection, key: tuple[UUID, UUID, int]) -> Revision:
    found = _kept.get(key)
    if found is None:
        row = await connection.fetchrow(LOAD, *key)
        if row is None:
            raise _no_revision(key[-1])
        found = _keep(key, {**row, "document": json.loads(row["document"])})
    return found


def _no_pipeline(key: str) -> NotFound:
    return NotFound(f"There is no pipeline {key!r}.")


def _no_revision(revision: int) -> NotFound:
    return NotFound(f"The pipeline has no revision {revision}.")


def _revisions(workspace: UUID) -> Select[Any]:
    p, r = tables.pipeline, tables.pipeline_revision
    return (
        select(
            r.c.pipeline_id,
            r.c.revision,
            r.c.document,
            r.c.actor,
            r.c.in_force_at,
            p.c.created_at,
        )
        .join(p, owning(r))
        .where(r.c.workspace_id == workspace)
    )


def _keep(key: tuple[UUID, UUID, int], row: Mapping[str, Any]) -> Revision:
    _, pipeline_id, revision = key
    found = Revision(
        pipeline=decode(pipeline_id, revision, row["document"]),
        actor=row["actor"],
        in_force_at=row["in_force_at"],
        created_at=row["created_at"],
    )
    _kept.put(key, found)
    return found
