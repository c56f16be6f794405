"""The digest: what the deals of a seller, a team or a pipeline ask for on a morning."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.domain.access import Principal, Scope
from app.http.deps import Allowed, DatabaseDep
from app.http.schemas.digest import Digest, DigestQuery
from app.http.strictness import StrictRoute
from app.storage import pipelines
from app.storage.queries import digest

router = APIRouter(route_class=StrictRoute, prefix="/v1/digest", tags=["opportunities"])

# A deal shows its flag and a timeline all of them by this scope alone: the digest tells no more.
Reader = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_READ))]


@router.get("")
async def get_digest(
    query: Annotated[DigestQuery, Query()], principal: Reader, database: DatabaseDep
) -> Digest:
    """What is idle, what is due and what has moved: the deals that ask for attention on a day.

    Moves and newly idle deals are those of the day and the day before. Everything else is told by
    how the deals stand now, measured against that day: of a past or future one it says what is
    still, or already, on record.
    """
    workspace = principal.workspace_id
    async with database.read(workspace) as connection:
        pipeline = (
            None
            if query.pipeline is None
            else await pipelines.read_current(connection, workspace, query.pipeline)
        )
        timezone, morning = query.morning(pipeline, await digest.now(connection))
        filters = digest.Filters(
            pipeline_id=None if pipeline is None else pipeline.pipeline_id,
            owner=query.owner,
            team=query.team,
        )
        found = await digest.digest(
            connection, workspace, principal.sight, filters, morning, query.limit
        )
    return Digest.of(found, morning, timezone)
