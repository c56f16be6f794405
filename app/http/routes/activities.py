"""Activities: what was done about a deal, recorded and listed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from app.actions.record_activity import FollowUp, record_activity
from app.domain.access import Principal, Scope
from app.http import answers, conditional
from app.http.deps import Allowed, DatabaseDep, RepeatableDep
from app.http.paging import PagesDep
from app.http.schemas.activities import Activity, ActivityCreate, ActivityPage
from app.http.schemas.common import Id
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage import activities
from app.storage.idempotency import Answer
from app.storage.queries import opportunities

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1/opportunities/{opportunity_id}/activities",
    tags=["activities"],
)

Reader = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_READ))]
Writer = Annotated[Principal, Depends(Allowed(Scope.OPPORTUNITIES_WRITE))]
OpportunityId = Annotated[Id, Path(description="The id that the server gave.")]

_NEVER_CHANGED = conditional.etag(1)


@router.get("")
async def list_activities(
    opportunity_id: OpportunityId,
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> ActivityPage:
    """A deal's activities, the latest first."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="activities", workspace=workspace, deal=opportunity_id)
    async with database.read(workspace) as connection:
        await opportunities.one(connection, workspace, principal.sight, opportunity_id)
        found = await activities.latest(
            connection, workspace, opportunity_id, before=listing.pair, limit=listing.more
        )
    found, page = listing.cut(found, lambda done: [done.occurred_at, done.activity_id])
    return ActivityPage(
        items=[Activity.of(done) for done in found],
        page=page,
    )


@router.post("", status_code=201, response_model=Activity)
async def create_activity(
    opportunity_id: OpportunityId,
    body: ActivityCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Record what was done; a kind that the deal's stage asks for resets its idle clock."""
    answer = await record_activity(
        database,
        principal,
        opportunity_id,
        FollowUp(**dict(body)),
        request=repeatable,
        answer=_recorded,
    )
    return answers.sent(answer)


@router.get("/{activity_id}")
async def get_activity(
    opportunity_id: OpportunityId,
    activity_id: Annotated[Id, Path()],
    response: Response,
    principal: Reader,
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> Activity:
    """One activity."""
    async with database.read(principal.workspace_id) as connection:
        done = await activities.one(
            connection, principal.workspace_id, principal.sight, opportunity_id, activity_id
        )
    conditional.offer(response, _NEVER_CHANGED, if_none_match)
    return Activity.of(done)


def _recorded(done: activities.Activity) -> Answer:
    path = router.prefix.format(opportunity_id=done.opportunity_id)
    return answers.created(
        Activity.of(done), location=f"{path}/{done.activity_id}", etag=_NEVER_CHANGED
    )
