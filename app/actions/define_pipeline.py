"""Defining a pipeline: every change makes the next revision, in one transaction under the
definition lock, so that no deal is moved by rules that are being replaced.

A change that takes a stage out of use moves its open deals; one that changes an idle rule works out
the clock of every open deal under it. What each request asks for comes as a `Restructuring`;
here it becomes the revision, the moves, the clocks, the events and the kept answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from uuid import UUID

from app.actions import announcements
from app.actions.deciding import VersionCheck
from app.domain.access import Principal
from app.domain.definition import Definition, begin, revise
from app.domain.difference import difference
from app.domain.errors import (
    Breach,
    InvalidDefinition,
    NotFound,
    PipelineArchived,
    StageArchived,
    StageHoldsDeals,
    Stale,
)
from app.domain.idleness import Resolution
from app.domain.pipeline import Pipeline, Stage
from app.domain.restructuring import Restructuring
from app.storage import events, idempotency, idle_clock, pipelines, rearrangement
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.statement import Part, execute

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
                _updated(workspace, revision, None),
                *idempotency.keep(workspace, request, answered),
            ],
        )
        return answered

    return await database.write(
        workspace, work, lock=Lock.DEFINITIONS, key=None if request is None else request.key
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
            await execute(connection, [_updated(workspace, revision, None)])
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
        workspace, work, lock=Lock.DEFINITIONS, key=None if request is None else request.key
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
        await execute(connection, [_updated(workspace, after, before.pipeline)])

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
        destinations = _destinations(old, new, asked.move_open_to)
    except InvalidDefinition as invalid:
        errors = [_in_request(breach, asked.places) for breach in invalid.errors]
        raise InvalidDefinition(invalid.detail, errors) from None
    if new is old:
        return before
    await _refuse_to_strand(connection, principal.workspace_id, old, new, asked)
    after = await _save(connection, principal, new, instant, before.created_at)
    told = [_updated(principal.workspace_id, after, old)]
    for origin, target in destinations:
        told += await _move_all(connection, principal, after, origin, target)
    for stage in new.stages:
        was = old.by_key.get(stage.key)
        if stage.archived_at is None and was is not None and was.idle.since != stage.idle.since:
            told += await _reclock(connection, principal.workspace_id, after, stage)
    await connection.executemany(events.APPEND, [part.args for part in told])
    return after


def _destinations(
    old: Pipeline, new: Pipeline, move_open_to: Mapping[str, str]
) -> list[tuple[Stage, Stage]]:
    """Which stage's open deals go where. Raises InvalidDefinition.

    A stage that is archived already may still be named: the same document sent again is no error.
    """
    wrong: list[Breach] = []
    for key, target in move_open_to.items():
        at = f"/move_open_to/{key}"
        stage, heir = new.by_key.get(key), new.by_key.get(target)
        if stage is None:
            wrong.append(Breach(at, "unknown_stage", f"The pipeline has no stage {key!r}."))
        elif stage.archived_at is None:
            wrong.append(Breach(at, "still_in_use", f"{key!r} stays in use, with its deals."))
        if heir is None or heir.archived_at is not None or not heir.is_open:
            detail = f"The definition has no open stage {target!r}."
            wrong.append(Breach(at, "unknown_stage", detail))
    if wrong:
        raise InvalidDefinition("Open deals cannot be moved so.", wrong)
    return [
        (old.by_key[key], new.by_key[target])
        for key, target in move_open_to.items()
        if old.by_key[key].archived_at is None
    ]


async def _refuse_to_strand(
    connection: Connection, workspace: UUID, old: Pipeline, new: Pipeline, asked: Restructuring
) -> None:
    """Raises StageHoldsDeals where a stage that goes out of use has open deals left in it."""
    leaving = [
        stage
        for stage in old.stages
        if stage.archived_at is None
        and new.by_key[stage.key].archived_at is not None
        and stage.key not in asked.move_open_to
    ]
    held = await rearrangement.deals_held(connection, workspace, old, leaving) if leaving else {}
    if held:
        where = ", ".join(f"{count} in {key!r}" for key, count in held.items())
        raise StageHoldsDeals(
            f"Open opportunities stand in what would be archived: {where}."
            " Say in move_open_to where they go.",
            [
                _in_request(
                    Breach(
                        f"/move_open_to/{key}",
                        "stage_holds_deals",
                        f"{count} open opportunities stand in {key!r}.",
                    ),
                    asked.places,
                )
                for key, count in held.items()
            ],
        )


async def _move_all(
    connection: Connection, principal: Principal, after: Revision, origin: Stage, target: Stage
) -> list[Part]:
    workspace, pipeline = principal.workspace_id, after.pipeline
    told: list[Part] = []
    while deals := await rearrangement.next_deals(
        connection, workspace, pipeline.pipeline_id, origin
    ):
        for (deal, flag), entry in await rearrangement.move(
            connection,
            workspace,
            deals,
            revised=pipeline,
            origin=origin,
            target=target,
            actor=principal.subject,
            instant=after.in_force_at,
        ):
            told.append(announcements.transitioned(workspace, deal, entry, pipeline))
            if flag is not None:
                told.append(
                    announcements.flag_resolved(
                        workspace, deal, flag, after.in_force_at, Resolution.NOT_DUE
                    )
                )
    return told


async def _reclock(
    connection: Connection, workspace: UUID, after: Revision, stage: Stage
) -> list[Part]:
    ended = await idle_clock.recompute(
        connection, workspace, after.pipeline.pipeline_id, stage, after.in_force_at
    )
    return [
        announcements.flag_resolved(workspace, deal, flag, after.in_force_at, Resolution.NOT_DUE)
        for deal, flag in ended
        if flag is not None
    ]


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


def _updated(workspace: UUID, after: Revision, old: Pipeline | None) -> Part:
    """`pipeline.updated`: a revision came into force, and what it changed."""
    new = after.pipeline
    return events.append(
        workspace,
        "pipeline.updated",
        {
            "pipeline": new.key,
            "revision": new.revision,
            "previous_revision": None if old is None else old.revision,
            "archived": new.archived_at is not None,
            "changes": None if old is None else asdict(difference(old, new)),
            "actor": after.actor,
        },
        occurred_at=after.in_force_at,
        pipeline_id=new.pipeline_id,
    )


def _in_request(breach: Breach, places: Mapping[str, str]) -> Breach:
    """The breach at the place in the request that it came from, else of the whole body."""
    for place, sent in places.items():
        if breach.pointer == place or breach.pointer.startswith(f"{place}/"):
            return replace(breach, pointer=sent + breach.pointer.removeprefix(place))
    return replace(breach, pointer="")
