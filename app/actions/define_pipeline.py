"""Defining a pipeline: every change makes the next revision, in one transaction under the
definition lock, so that no deal is moved by rules that are being replaced.

What each request asks for comes as a `Restructuring`; here it becomes the revision, its event and
the kept answer. What it means for the open deals is `actions.rearrange_deals`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from app.actions import announcements, audit_entries, rearrange_deals
from app.actions.deciding import VersionCheck
from app.domain import restructuring
from app.domain.access import Principal
from app.domain.definition import Definition, begin, revise
from app.domain.errors import (
    Breach,
    InvalidDefinition,
    NotFound,
    PipelineArchived,
    StageArchived,
    StageHoldsDeals,
    Stale,
)
from app.domain.pipeline import Pipeline, Stage
from app.domain.restructuring import Restructuring
from app.storage import idempotency, pipelines
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.statement import execute

TICK = timedelta(microseconds=1)
AS_SENT: Mapping[str, str] = {"": ""}
"""The places of a request whose body is the definition itself."""

Defined = Callable[[Revision], Answer]
"""Renders what the caller is answered; it is kept with the effect, in the same transaction."""

Asked = Callable[[Pipeline], Restructuring]
"""What a request makes of the definition that it finds."""


async def create_pipeline(
    database: Database,
    principal: Principal,
    definition: Definition,
    *,
    request: Repeatable | None,
    answer: Defined,
) -> Answer:
    """Make a pipeline. Raises AlreadyExists for its key, InvalidDefinition."""
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        revision = await _begin(connection, principal, definition)
        answered = answer(revision)
        await execute(
            connection,
            [
                announcements.pipeline_updated(workspace, revision, None),
                audit_entries.pipeline_changed(workspace, principal, None, revision.pipeline),
                *idempotency.keep(workspace, request, answered),
            ],
        )
        return answered

    return await database.write(
        workspace, work, lock=Lock.DEFINITIONS, keys=idempotency.keys(request)
    )


async def put_pipeline(
    database: Database,
    principal: Principal,
    key: str,
    definition: Definition,
    move_open_to: Mapping[str, str],
    *,
    check: VersionCheck,
    expects_existing: bool,
    created: Defined,
    replaced: Defined,
) -> Answer:
    """Make the pipeline what the definition says: created if it is not there, else replaced.

    The same definition again changes nothing. With `expects_existing` a pipeline that is not there
    is Stale. Raises Stale, VersionRequired, InvalidDefinition, StageHoldsDeals.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        try:
            before = await pipelines.current_revision(connection, workspace, key)
        except NotFound:
            if expects_existing:
                raise Stale(f"There is no pipeline {key!r} to replace.") from None
            if definition.key != key:
                breach = Breach("/key", "immutable", f"The path says {key!r}.")
                raise InvalidDefinition("The key is not that of the path.", [breach]) from None
            revision = await _begin(connection, principal, definition)
            rearrange_deals.routes(revision.pipeline, revision.pipeline, move_open_to)
            await execute(
                connection,
                [
                    announcements.pipeline_updated(workspace, revision, None),
                    audit_entries.pipeline_changed(workspace, principal, None, revision.pipeline),
                ],
            )
            return created(revision)
        check(before.pipeline.revision)
        asked = Restructuring(definition=definition, move_open_to=move_open_to, places=AS_SENT)
        return replaced(await _revise(connection, principal, before, asked))

    return await database.write(workspace, work, lock=Lock.DEFINITIONS)


async def change_pipeline(
    database: Database,
    principal: Principal,
    key: str,
    asked: Asked,
    *,
    check: VersionCheck,
    request: Repeatable | None = None,
    answer: Defined,
) -> Answer:
    """Make of the pipeline what `asked` makes of its present definition.

    Raises NotFound, PipelineArchived, Stale, VersionRequired, InvalidDefinition, StageHoldsDeals
    and what `asked` raises.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        before = await pipelines.current_revision(connection, workspace, key)
        check(before.pipeline.revision)
        if before.pipeline.archived_at is not None:
            raise PipelineArchived(f"Pipeline {key!r} is archived; PUT brings it back into use.")
        after = await _revise(connection, principal, before, asked(before.pipeline))
        answered = answer(after)
        if request is not None:
            await execute(connection, idempotency.keep(workspace, request, answered))
        return answered

    return await database.write(
        workspace, work, lock=Lock.DEFINITIONS, keys=idempotency.keys(request)
    )


async def archive_pipeline(
    database: Database, principal: Principal, key: str, *, check: VersionCheck
) -> None:
    """Take the pipeline out of use: its deals rest, and figures stay.

    Raises NotFound, Stale, VersionRequired; archiving it again changes nothing.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        before = await pipelines.current_revision(connection, workspace, key)
        check(before.pipeline.revision)
        if before.pipeline.archived_at is not None:
            return
        instant = await _instant(connection, before)
        archived = replace(
            before.pipeline, revision=before.pipeline.revision + 1, archived_at=instant
        )
        after = await _save(connection, principal, archived, instant, before.created_at)
        await execute(
            connection,
            [
                announcements.pipeline_updated(workspace, after, before.pipeline),
                audit_entries.pipeline_changed(workspace, principal, before.pipeline, archived),
            ],
        )
        await rearrange_deals.rearrange(connection, principal, before.pipeline, after, ())

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


def stage_in_use(pipeline: Pipeline, key: str) -> Stage:
    """The stage that a path names. Raises NotFound, StageArchived."""
    stage = pipeline.by_key.get(key)
    if stage is None:
        raise NotFound(f"Pipeline {pipeline.key!r} has no stage {key!r}.")
    if stage.archived_at is not None:
        raise StageArchived(f"Stage {key!r} is archived; a definition with its key restores it.")
    return stage


async def _begin(connection: Connection, principal: Principal, definition: Definition) -> Revision:
    instant = await _instant(connection, None)
    pipeline = begin(definition, new_id(), instant)
    return await _save(connection, principal, pipeline, instant, instant)


async def _revise(
    connection: Connection, principal: Principal, before: Revision, asked: Restructuring
) -> Revision:
    """The next revision with all that follows from it; `before` where nothing changes."""
    old = before.pipeline
    instant = await _instant(connection, before)
    try:
        new = revise(old, asked.definition, instant, asked.heirs)
        routes = rearrange_deals.routes(old, new, asked.move_open_to)
        if new is old:
            return before
        await rearrange_deals.refuse_to_strand(connection, principal.workspace_id, old, new, routes)
    except (InvalidDefinition, StageHoldsDeals) as refused:
        errors = [restructuring.in_request(breach, asked.places) for breach in refused.errors]
        raise type(refused)(refused.detail, errors) from None
    after = await _save(connection, principal, new, instant, before.created_at)
    updated = announcements.pipeline_updated(principal.workspace_id, after, old)
    noted = audit_entries.pipeline_changed(principal.workspace_id, principal, old, new)
    await execute(connection, [updated, noted])
    await rearrange_deals.rearrange(connection, principal, old, after, routes)
    return after


async def _save(
    connection: Connection,
    principal: Principal,
    pipeline: Pipeline,
    instant: datetime,
    created_at: datetime,
) -> Revision:
    await pipelines.save(
        connection, principal.workspace_id, pipeline, actor=principal.subject, instant=instant
    )
    return Revision(
        pipeline=pipeline, actor=principal.subject, in_force_at=instant, created_at=created_at
    )


async def _instant(connection: Connection, before: Revision | None) -> datetime:
    """Now, by the database's clock, and always after the revision before."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now if before is None else max(now, before.in_force_at + TICK)
