"""The life of one deal: its visits, its activities, its idle flags."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from app.domain.access import Principal, Scope
from app.http.deps import Allowed, DatabaseDep
from app.http.paging import PagesDep
from app.http.schemas.common import Id
from app.http.schemas.timeline import Timeline, TimelineEntry
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage.queries import opportunities
from app.storage.queries.timeline import place, timeline

router = APIRouter(route_class=StrictRoute, prefix="/v1/opportunities", tags=["opportunities"])

Reader = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_READ))]


@router.get("/{opportunity_id}/timeline")
async def get_timeline(
    opportunity_id: Annotated[Id, Path(description="The id that the server gave.")],
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> Timeline:
    """Where the deal stood and for how long, what was done, and when it was idle."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="timeline", workspace=workspace, deal=opportunity_id)
    async with database.read(workspace) as connection:
        deal, pipeline = await opportunities.one(
            connection, workspace, principal.sight, opportunity_id
        )
        found = await timeline(
            connection, workspace, opportunity_id, before=listing.pair, limit=listing.more
        )
    found, page = listing.cut(found, lambda entry: [*place(entry)])
    return Timeline(items=[TimelineEntry.of(entry, deal, pipeline) for entry in found], page=page)
