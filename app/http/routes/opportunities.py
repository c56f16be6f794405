"""Deals: opened, read, listed, amended, upserted, erased."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from app.actions.amend_opportunity import amend_opportunity, upsert_opportunity
from app.actions.erase_opportunity import erase_opportunity
from app.actions.open_opportunity import NewDeal, open_opportunity
from app.domain.access import Principal, Scope
from app.domain.journey import Facts
from app.domain.opportunity import Opportunity as Deal
from app.domain.pipeline import Pipeline
from app.http import answers, conditional
from app.http.cursors import Scalar
from app.http.deps import Allowed, DatabaseDep, RepeatableDep
from app.http.paging import PagesDep
from app.http.schemas.common import Id
from app.http.schemas.opportunities import (
    ExternalId,
    Opportunity,
    OpportunityChange,
    OpportunityChangePage,
    OpportunityCreate,
    OpportunityPage,
    OpportunityQuery,
    OpportunityUpdate,
    OpportunityUpsert,
    merged_attributes,
)
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage import pipelines
from app.storage.idempotency import Answer
from app.storage.opportunities import FACTS
from app.storage.queries import opportunities as queries

router = APIRouter(route_class=StrictRoute, prefix="/v1/opportunities", tags=["opportunities"])

Reader = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_READ))]
Writer = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_WRITE))]
Eraser = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_DELETE))]
OpportunityId = Annotated[Id, Path(description="The id that the server gave.")]


@router.get("")
async def list_opportunities(
    query: Annotated[OpportunityQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> OpportunityPage:
    """Deals that pass the filters, newest first; with `updated_since`, in order of their change."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="opportunities", workspace=workspace, **query.asked())
    async with database.read(workspace) as connection:
        pipeline_id, slot = await pipelines.read_place(
            connection, workspace, query.pipeline, query.stage
        )
        filters = queries.Filters(
            pipeline_id=pipeline_id,
            slot=slot,
            status=query.status,
            owner=query.owner,
            team=query.team,
            source=query.source,
            priority=query.priority,
            tag=query.tag,
            external_id=query.external_id,
            idle=query.idle,
            name_part=query.q,
            updated_since=query.updated_since,
        )
        if query.updated_since is None:
            found = await queries.newest(
                connection,
                workspace,
                principal.sight,
                filters,
                before=listing.first,
                limit=listing.more,
            )
        else:
            found = await queries.changed(
                connection,
                workspace,
                principal.sight,
                filters,
                after=listing.pair,
                limit=listing.more,
            )

    def key(seen: queries.Seen) -> list[Scalar]:
        deal, _ = seen
        by_id: list[Scalar] = [deal.opportunity_id]
        return by_id if query.updated_since is None else [deal.updated_at, *by_id]

    found, page = listing.cut(found, key)
    return OpportunityPage(
        items=[Opportunity.of(deal, pipeline) for deal, pipeline in found],
        page=page,
    )


@router.post("", status_code=201, response_model=Opportunity)
async def create_opportunity(
    body: OpportunityCreate, principal: Writer, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Open a deal in a pipeline."""
    answer = await open_opportunity(
        database,
        principal,
        new_deal(body, body.external_id),
        request=repeatable,
        answer=opened,
    )
    return answers.sent(answer)


@router.get("/{opportunity_id}")
async def get_opportunity(
    opportunity_id: OpportunityId,
    response: Response,
    principal: Reader,
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> Opportunity:
    """One deal as it stands now."""
    async with database.read(principal.workspace_id) as connection:
        deal, pipeline = await queries.one(
            connection, principal.workspace_id, principal.sight, opportunity_id
        )
    conditional.offer(response, conditional.etag(deal.version), if_none_match)
    return Opportunity.of(deal, pipeline)


@router.patch("/{opportunity_id}")
async def update_opportunity(
    opportunity_id: OpportunityId,
    body: OpportunityUpdate,
    principal: Writer,
    database: DatabaseDep,
    response: Response,
    if_match: conditional.IfMatch = None,
) -> Opportunity:
    """Change facts of a deal (JSON merge-patch); each change is kept with its old value."""
    deal, pipeline = await amend_opportunity(
        database,
        principal,
        opportunity_id,
        body.values(),
        check=conditional.required(if_match),
        merge=merged_attributes,
    )
    response.headers["ETag"] = conditional.etag(deal.version)
    return Opportunity.of(deal, pipeline)


@router.delete("/{opportunity_id}", status_code=204)
async def delete_opportunity(
    opportunity_id: OpportunityId,
    principal: Eraser,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
) -> None:
    """Erase a deal and all that was recorded of it; its id, emptied events and a tombstone stay."""
    await erase_opportunity(
        database, principal, opportunity_id, check=conditional.required(if_match)
    )


@router.put(
    "/by-external-id/{external_id:path}",
    response_model=Opportunity,
    responses={201: {"model": Opportunity}},
)
async def upsert_opportunity_by_external_id(
    external_id: Annotated[ExternalId, Path()],
    body: OpportunityUpsert,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
    if_none_match: conditional.IfNoneMatchOfPut = None,
) -> Response:
    """Create the deal of this external id, or replace its facts."""
    answer = await upsert_opportunity(
        database,
        principal,
        new_deal(body, external_id),
        check=conditional.unless_held(if_none_match, conditional.optional(if_match)),
        expects_existing=if_match is not None,
        opened=opened,
        amended=lambda deal, pipeline: answers.done(
            Opportunity.of(deal, pipeline), etag=conditional.etag(deal.version)
        ),
    )
    return answers.sent(answer)


@router.get("/{opportunity_id}/changes")
async def list_opportunity_changes(
    opportunity_id: OpportunityId,
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> OpportunityChangePage:
    """Every change of the deal's facts, the newest first."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="changes", workspace=workspace, deal=opportunity_id)
    async with database.read(workspace) as connection:
        await queries.one(connection, workspace, principal.sight, opportunity_id)
        rows = await queries.changes(
            connection, workspace, opportunity_id, before=listing.pair, limit=listing.more
        )
    rows, page = listing.cut(rows, lambda row: [row.change_id, row.field])
    return OpportunityChangePage(
        items=[
            OpportunityChange.model_construct(
                id=row.change_id,
                field=row.field,
                old=row.old,
                new=row.new,
                occurred_at=row.occurred_at,
                recorded_at=row.recorded_at,
                actor=row.actor,
            )
            for row in rows
        ],
        page=page,
    )


def new_deal(body: OpportunityCreate | OpportunityUpsert, external_id: str | None) -> NewDeal:
    values = body.values()
    return NewDeal(
        pipeline=body.pipeline,
        stage=body.stage,
        opened_at=body.opened_at,
        external_id=external_id,
        facts=Facts(**{name: values.pop(name) for name in FACTS}),
        **values,
    )


def opened(deal: Deal, pipeline: Pipeline) -> Answer:
    """201: the new deal."""
    return answers.created(
        Opportunity.of(deal, pipeline),
        location=location_of(deal.opportunity_id),
        etag=conditional.etag(deal.version),
    )


def location_of(opportunity_id: UUID) -> str:
    return f"{router.prefix}/{opportunity_id}"
