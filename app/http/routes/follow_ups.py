"""Deals to be followed up, by the cadence of their stages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.domain.access import Principal, Scope
from app.http.deps import Allowed, DatabaseDep
from app.http.paging import PagesDep
from app.http.schemas.follow_ups import FollowUp, FollowUpPage, FollowUpQuery
from app.http.strictness import StrictRoute
from app.storage import pipelines
from app.storage.queries import opportunities

router = APIRouter(route_class=StrictRoute, prefix="/v1/follow-ups", tags=["activities"])

Reader = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_READ))]


@router.get("")
async def list_follow_ups(
    query: Annotated[FollowUpQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> FollowUpPage:
    """Deals whose last follow-up lies further back than their stage's cadence, longest due first.

    A deal that has just entered its stage is due as long after that.
    """
    workspace = principal.workspace_id
    listing = pages.of(query, list="follow-ups", workspace=workspace, **query.asked())
    async with database.read(workspace) as connection:
        pipeline_id, slot = await pipelines.read_place(
            connection, workspace, query.pipeline, query.stage
        )
        filters = opportunities.Filters(
            pipeline_id=pipeline_id, slot=slot, owner=query.owner, team=query.team
        )
        found = await opportunities.to_follow_up(
            connection,
            workspace,
            principal.sight,
            filters,
            query.due,
            after=listing.pair,
            limit=listing.more,
        )
    found, page = listing.cut(
        found, lambda seen: [seen[0].idle.follow_up_due_at, seen[0].opportunity_id]
    )
    return FollowUpPage(items=[FollowUp.of(*seen) for seen in found], page=page)
