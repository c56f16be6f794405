"""Pipelines and their stages: defined, read, changed, taken out of use."""

import re
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BeforeValidator, Field

from app.actions import define_pipeline
from app.domain import restructuring
from app.domain.access import Principal, Scope
from app.domain.definition import definition_of
from app.domain.pipeline import Pipeline as Definition
from app.domain.restructuring import Restructuring
from app.http import answers, conditional
from app.http.deps import Allowed, DatabaseDep, RepeatableDep
from app.http.paging import PagesDep
from app.http.schemas.common import Key
from app.http.schemas.pipelines import (
    Pipeline,
    PipelineCreate,
    PipelineDocument,
    PipelinePage,
    PipelineQuery,
    PipelineRevision,
    PipelineRevisionPage,
    PipelineUpdate,
)
from app.http.schemas.stages import StageArchive, StageCreate, StageMerge, StageSplit, StageUpdate
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage import pipelines
from app.storage.idempotency import Answer
from app.storage.pipelines import Revision

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["pipelines"])

Reader = Annotated[Principal, Depends(Allowed(Scope.PIPELINES_READ))]
Writer = Annotated[Principal, Depends(Allowed(Scope.PIPELINES_WRITE))]
PipelineKey = Annotated[Key, Path(alias="pipeline", description="The pipeline's key.")]
StageKey = Annotated[Key, Path(alias="stage", description="The stage's key.")]


def _plain_number(text: str) -> str:
    """One resource, one path: neither `+1` nor `01` nor `1.0` is another spelling of `1`."""
    if not re.fullmatch("[1-9][0-9]*", text):
        raise ValueError("a revision is a number like 1")
    return text


@router.get("/pipelines")
async def list_pipelines(
    query: Annotated[PipelineQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> PipelinePage:
    """The pipelines in use, or those out of use, by key."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="pipelines", workspace=workspace, archived=query.archived)
    async with database.read(workspace) as connection:
        found = await pipelines.read_list(
            connection,
            workspace,
            archived=query.archived,
            after=listing.first or "",
            limit=listing.more,
        )
    found, page = listing.cut(found, lambda revision: [revision.pipeline.key])
    return PipelinePage(
        items=[Pipeline.of(revision) for revision in found],
        page=page,
    )


@router.post("/pipelines", status_code=201, response_model=Pipeline)
async def create_pipeline(
    body: PipelineCreate, principal: Writer, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Make a pipeline, from a template or from a document."""
    answer = await define_pipeline.create_pipeline(
        database, principal, body.definition(), request=repeatable, answer=_created
    )
    return answers.sent(answer)


@router.get("/pipelines/{pipeline}")
async def get_pipeline(
    key: PipelineKey,
    response: Response,
    principal: Reader,
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> Pipeline:
    """A pipeline as it is defined now."""
    async with database.read(principal.workspace_id) as connection:
        found = await pipelines.read_current_revision(connection, principal.workspace_id, key)
    conditional.offer(response, conditional.etag(found.pipeline.revision), if_none_match)
    return Pipeline.of(found)


@router.put("/pipelines/{pipeline}", response_model=Pipeline, responses={201: {"model": Pipeline}})
async def put_pipeline(
    key: PipelineKey,
    body: PipelineDocument,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
    if_none_match: conditional.IfNoneMatchOfPut = None,
) -> Response:
    """Make a pipeline what the document says: created (201), or replaced by its next revision.

    The same document again changes nothing. An archived pipeline is in use again.
    """
    answer = await define_pipeline.put_pipeline(
        database,
        principal,
        key,
        body.definition(),
        body.move_open_to,
        check=conditional.unless_held(if_none_match, conditional.required(if_match)),
        expects_existing=if_match is not None,
        created=_created,
        replaced=_changed,
    )
    return answers.sent(answer)


@router.patch("/pipelines/{pipeline}", response_model=Pipeline)
async def update_pipeline(
    key: PipelineKey,
    body: PipelineUpdate,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Change what belongs to no stage (JSON merge-patch)."""

    def asked(pipeline: Definition) -> Restructuring:
        return Restructuring(
            definition=replace(definition_of(pipeline), **body.changes()),
            places=define_pipeline.AS_SENT,
        )

    return answers.sent(
        await define_pipeline.change_pipeline(
            database,
            principal,
            key,
            asked,
            check=conditional.required(if_match),
            answer=_changed,
        )
    )


@router.delete("/pipelines/{pipeline}", status_code=204)
async def archive_pipeline(
    key: PipelineKey,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
) -> None:
    """Take a pipeline out of use: its opportunities rest where they are, its figures stay."""
    await define_pipeline.archive_pipeline(
        database, principal, key, check=conditional.required(if_match)
    )


@router.get("/pipelines/{pipeline}/revisions")
async def list_pipeline_revisions(
    key: PipelineKey,
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> PipelineRevisionPage:
    """Every definition that the pipeline has had, the newest first."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="revisions", workspace=workspace, pipeline=key)
    async with database.read(workspace) as connection:
        pipeline = await pipelines.read_current(connection, workspace, key)
        found = await pipelines.read_revisions(
            connection, workspace, pipeline.pipeline_id, before=listing.first, limit=listing.more
        )
    found, page = listing.cut(list(found), lambda row: [row.revision])
    return PipelineRevisionPage(
        items=[
            PipelineRevision.model_construct(
                revision=row.revision, actor=row.actor, in_force_at=row.in_force_at
            )
            for row in found
        ],
        page=page,
    )


@router.get("/pipelines/{pipeline}/revisions/{revision}")
async def get_pipeline_revision(
    key: PipelineKey,
    # The bounds stand before the validator: after it they would not become JSON Schema.
    revision: Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_plain_number), Path()],
    response: Response,
    principal: Reader,
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> Pipeline:
    """The pipeline as that revision defined it."""
    workspace = principal.workspace_id
    async with database.read(workspace) as connection:
        now = await pipelines.read_current(connection, workspace, key)
        found = await pipelines.read_revision(connection, workspace, now.pipeline_id, revision)
    conditional.offer(response, conditional.etag(revision), if_none_match)
    return Pipeline.of(found)


@router.post("/pipelines/{pipeline}/stages", status_code=201, response_model=Pipeline)
async def create_stage(
    key: PipelineKey,
    body: StageCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Add a stage; an archived one of the same key is in use again."""
    stage = body.stage()
    return answers.sent(
        await define_pipeline.change_pipeline(
            database,
            principal,
            key,
            lambda pipeline: restructuring.add(pipeline, stage, body.position),
            check=conditional.optional(if_match),
            request=repeatable,
            answer=_revised,
        )
    )


@router.patch("/pipelines/{pipeline}/stages/{stage}", response_model=Pipeline)
async def update_stage(
    key: PipelineKey,
    stage: StageKey,
    body: StageUpdate,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Change a stage (JSON merge-patch); If-Match names the pipeline's revision."""

    def asked(pipeline: Definition) -> Restructuring:
        define_pipeline.stage_in_use(pipeline, stage)
        return restructuring.change(pipeline, stage, body.apply, body.given().get("position"))

    return answers.sent(
        await define_pipeline.change_pipeline(
            database,
            principal,
            key,
            asked,
            check=conditional.required(if_match),
            answer=_changed,
        )
    )


@router.post(
    "/pipelines/{pipeline}/stages/{stage}/archive", status_code=201, response_model=Pipeline
)
async def archive_stage(
    key: PipelineKey,
    stage: StageKey,
    body: StageArchive,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Take a stage out of use; its open opportunities move, its history stays."""

    def asked(pipeline: Definition) -> Restructuring:
        define_pipeline.stage_in_use(pipeline, stage)
        return restructuring.archive(pipeline, stage, body.move_open_to)

    return answers.sent(
        await define_pipeline.change_pipeline(
            database,
            principal,
            key,
            asked,
            check=conditional.optional(if_match),
            request=repeatable,
            answer=_revised,
        )
    )


@router.post("/pipelines/{pipeline}/stages/{stage}/split", status_code=201, response_model=Pipeline)
async def split_stage(
    key: PipelineKey,
    stage: StageKey,
    body: StageSplit,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Put several stages in the place of one; reports can fold the parts back into the whole."""

    def asked(pipeline: Definition) -> Restructuring:
        define_pipeline.stage_in_use(pipeline, stage)
        parts = [part.stage() for part in body.into]
        return restructuring.split(pipeline, stage, parts, body.move_open_to)

    return answers.sent(
        await define_pipeline.change_pipeline(
            database,
            principal,
            key,
            asked,
            check=conditional.optional(if_match),
            request=repeatable,
            answer=_revised,
        )
    )


@router.post("/pipelines/{pipeline}/stages/merge", status_code=201, response_model=Pipeline)
async def merge_stages(
    key: PipelineKey,
    body: StageMerge,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Make one stage of several, which takes their open opportunities."""
    return answers.sent(
        await define_pipeline.change_pipeline(
            database,
            principal,
            key,
            lambda pipeline: restructuring.merge(pipeline, body.stages, body.into),
            check=conditional.optional(if_match),
            request=repeatable,
            answer=_revised,
        )
    )


def _created(revision: Revision) -> Answer:
    """201: the new pipeline."""
    return answers.created(
        Pipeline.of(revision),
        location=f"{router.prefix}/pipelines/{revision.pipeline.key}",
        etag=conditional.etag(revision.pipeline.revision),
    )


def _revised(revision: Revision) -> Answer:
    """201: the revision that a POST has made."""
    pipeline = revision.pipeline
    return answers.created(
        Pipeline.of(revision),
        location=f"{router.prefix}/pipelines/{pipeline.key}/revisions/{pipeline.revision}",
        etag=conditional.etag(pipeline.revision),
    )


def _changed(revision: Revision) -> Answer:
    """200: the pipeline as it is defined now."""
    return answers.done(Pipeline.of(revision), etag=conditional.etag(revision.pipeline.revision))
