"""Moves and the log: one, many, undone, handed off, read."""

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.actions.hand_off_opportunity import hand_off_opportunity
from app.actions.move_batch import BatchMove, move_batch
from app.actions.move_opportunity import move_opportunity
from app.actions.void_transition import void_transition
from app.domain import guards, transition
from app.domain.access import Principal, Scope
from app.domain.errors import SluiceError
from app.domain.opportunity import Opportunity as Deal
from app.domain.pipeline import Pipeline, Stage
from app.domain.transition import Move
from app.http import answers, conditional, problems
from app.http.codes import CODES
from app.http.deps import Allowed, DatabaseDep, RepeatableDep
from app.http.paging import PagesDep
from app.http.routes.opportunities import OpportunityId, Reader, Writer, opened
from app.http.schemas.common import Id, PageInfo
from app.http.schemas.opportunities import Opportunity
from app.http.schemas.problem import Breach
from app.http.schemas.transitions import (
    HandOffCreate,
    LossReasonChoice,
    NextStage,
    NextStages,
    PageQuery,
    Transition,
    TransitionBatchCreate,
    TransitionBatchResult,
    TransitionCreate,
    TransitionPage,
    TransitionQuery,
    TransitionResult,
    TransitionVoid,
)
from app.http.strictness import StrictRoute
from app.storage import pipelines
from app.storage.idempotency import Answer
from app.storage.queries import opportunities as deals
from app.storage.queries import transitions as log
from app.storage.transitions import LogEntry

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["transitions"])

Voider = Annotated[Principal, Depends(Allowed(Scope.TRANSITIONS_VOID))]


@router.post(
    "/opportunities/{opportunity_id}/transitions", status_code=201, response_model=TransitionResult
)
async def create_transition(
    opportunity_id: OpportunityId,
    body: TransitionCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """Move a deal to another stage. With `If-Match`, only from the version that you have seen."""
    answer = await move_opportunity(
        database,
        principal,
        opportunity_id,
        move_of(body),
        note=body.note,
        check=conditional.optional(if_match),
        request=repeatable,
        answer=moved,
    )
    return answers.sent(answer)


@router.get("/opportunities/{opportunity_id}/transitions")
async def list_transitions_of_opportunity(
    opportunity_id: OpportunityId,
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> TransitionPage:
    """The log of one deal, in its order; what was voided stands in it with its stamp."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="log", workspace=workspace, deal=opportunity_id)
    async with database.read(workspace) as connection:
        await deals.one(connection, workspace, principal.sight, opportunity_id)
        found = await log.of_deal(
            connection, workspace, opportunity_id, after=listing.first or 0, limit=listing.more
        )
    return page(*listing.cut(found, lambda told: [told[0].transition.seq]))


@router.get("/opportunities/{opportunity_id}/next-stages")
async def list_next_stages(
    opportunity_id: OpportunityId, principal: Reader, database: DatabaseDep
) -> NextStages:
    """Where the deal may go, and what is missing for each stage."""
    async with database.read(principal.workspace_id) as connection:
        deal, pipeline = await deals.one(
            connection, principal.workspace_id, principal.sight, opportunity_id
        )
    seen = guards.view(deal)
    return NextStages(
        items=[
            next_stage(stage, refused, guards.missing(stage, seen))
            for stage, refused in transition.possible_moves(
                pipeline, deal.position, deal.continued_as
            )
        ]
    )


@router.post(
    "/opportunities/{opportunity_id}/hand-off", status_code=201, response_model=Opportunity
)
async def create_hand_off(
    opportunity_id: OpportunityId,
    body: HandOffCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
    if_match: conditional.IfMatch = None,
) -> Response:
    """End a deal here and open the one that continues it in another pipeline."""
    answer = await hand_off_opportunity(
        database,
        principal,
        opportunity_id,
        to_pipeline=body.pipeline,
        to_stage=body.stage,
        occurred_at=body.occurred_at,
        note=body.note,
        check=conditional.optional(if_match),
        request=repeatable,
        answer=opened,
    )
    return answers.sent(answer)


@router.get("/transitions")
async def list_transitions(
    query: Annotated[TransitionQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> TransitionPage:
    """The whole log, what was recorded last first."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="transitions", workspace=workspace, **query.asked())
    async with database.read(workspace) as connection:
        pipeline_id = None
        if query.pipeline is not None:
            pipeline = await pipelines.read_current(connection, workspace, query.pipeline)
            pipeline_id = pipeline.pipeline_id
        found = await log.newest(
            connection,
            workspace,
            principal.sight,
            log.Filters(
                pipeline_id=pipeline_id,
                kind=query.kind,
                owner=query.owner,
                occurred_from=query.occurred_from,
                occurred_to=query.occurred_to,
                voided=query.voided,
            ),
            before=listing.first,
            limit=listing.more,
        )
    return page(*listing.cut(found, lambda told: [told[0].transition_id]))


@router.get("/transitions/{transition_id}")
async def get_transition(
    transition_id: Annotated[Id, Path()], principal: Reader, database: DatabaseDep
) -> Transition:
    """One row of the log."""
    async with database.read(principal.workspace_id) as connection:
        entry, pipeline = await log.one(
            connection, principal.workspace_id, principal.sight, transition_id
        )
    return Transition.of(entry, pipeline)


@router.post("/transitions/batch", response_model=TransitionBatchResult)
async def create_transition_batch(
    request: Request,
    body: TransitionBatchCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Up to 1,000 moves, each with its own outcome; a refused one takes nothing else with it."""
    answer = await move_batch(
        database,
        principal,
        [
            BatchMove(
                item.opportunity_id,
                move_of(item),
                item.note,
                conditional.optional(
                    None if item.version is None else conditional.etag(item.version)
                ),
            )
            for item in body.moves
        ],
        request=repeatable,
        moved=moved,
        refused=partial(refused, request),
        together=together,
    )
    return answers.sent(answer)


@router.post(
    "/transitions/{transition_id}/void",
    response_model=TransitionResult,
    responses={200: {"headers": {"ETag": {}}}},
)
async def create_void(
    transition_id: Annotated[Id, Path()],
    body: TransitionVoid,
    principal: Voider,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Take back a deal's last standing transition; the row stays in the log with its stamp."""
    answer = await void_transition(
        database,
        principal,
        transition_id,
        body.reason,
        request=repeatable,
        answer=lambda deal, entry, pipeline: answers.done(
            result(deal, entry, pipeline), etag=conditional.etag(deal.version)
        ),
    )
    return answers.sent(answer)


def move_of(body: TransitionCreate) -> Move:
    return Move(
        to_stage=body.to_stage,
        loss_reason=body.loss_reason,
        occurred_at=body.occurred_at,
        override_reason=None if body.override is None else body.override.reason,
    )


def result(deal: Deal, entry: LogEntry, pipeline: Pipeline) -> TransitionResult:
    return TransitionResult.model_construct(
        transition=Transition.of(entry, pipeline), opportunity=Opportunity.of(deal, pipeline)
    )


def moved(deal: Deal, entry: LogEntry, pipeline: Pipeline) -> Answer:
    """201: the row of the log and the deal."""
    return answers.created(
        result(deal, entry, pipeline),
        location=f"{router.prefix}/transitions/{entry.transition_id}",
        etag=conditional.etag(deal.version),
    )


def refused(request: Request, refusal: SluiceError) -> Answer:
    """The status and the problem that a single move would be answered."""
    problem = problems.written(request, refusal.code, refusal.detail, refusal.errors)
    return Answer(CODES[refusal.code].status, problem)


def together(outcomes: Sequence[Answer]) -> Answer:
    """200: the outcomes of a batch, around the bytes that a single move would be answered."""
    return Answer(200, b'{"outcomes":[' + b",".join(map(outcome_of, outcomes)) + b"]}")


def outcome_of(told: Answer) -> bytes:
    if told.status < HTTPStatus.BAD_REQUEST:
        return b'{"status":%d,"result":%s,"problem":null}' % (told.status, told.body)
    return b'{"status":%d,"result":null,"problem":%s}' % (told.status, told.body)


def next_stage(stage: Stage, refused: SluiceError | None, missing: tuple[Any, ...]) -> NextStage:
    return NextStage(
        stage=stage.key,
        name=stage.name,
        kind=stage.kind.value,
        allowed=refused is None and not missing,
        refusal=None if refused is None else refused.detail,
        missing=[
            Breach(pointer=breach.pointer, code=breach.code, detail=breach.detail)
            for breach in missing
        ],
        loss_reasons=[
            LossReasonChoice(key=reason.key, name=reason.name) for reason in stage.loss_reasons
        ],
    )


def page(found: list[log.Told], info: PageInfo) -> TransitionPage:
    return TransitionPage(
        items=[Transition.of(entry, pipeline) for entry, pipeline in found], page=info
    )
