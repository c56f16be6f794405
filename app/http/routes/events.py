"""The event feed: everything that happened in the workspace, in an order that never changes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.domain.access import Principal, Scope
from app.http.deps import Allowed, DatabaseDep
from app.http.schemas.events import Event, EventFeed, EventQuery, read, written
from app.http.strictness import StrictRoute
from app.storage import events, pipelines

router = APIRouter(route_class=StrictRoute, prefix="/v1/events", tags=["events"])

Follower = Annotated[Principal, Depends(Allowed(Scope.EVENTS_READ))]


@router.get("")
async def list_events(
    query: Annotated[EventQuery, Query()], principal: Follower, database: DatabaseDep
) -> EventFeed:
    """What happened after a position: nothing is missed and nothing comes twice.

    Ask again with `next`, at once while there are items, else after a moment.
    """
    workspace = principal.workspace_id
    async with database.read(workspace) as connection:
        horizon = await events.horizon(connection)
        if query.after == "now":
            return EventFeed(items=[], next=written(horizon))
        pipeline_id = None
        if query.pipeline is not None:
            found = await pipelines.read_current(connection, workspace, query.pipeline)
            pipeline_id = found.pipeline_id
        position = events.START if query.after is None else read(query.after)
        happened = await events.after(
            connection,
            workspace,
            position,
            horizon,
            limit=query.limit,
            types=query.types,
            pipeline_id=pipeline_id,
        )
    # A page that is not full: all that is settled was looked at, also what the filters left out.
    is_full = len(happened) == query.limit
    onward = happened[-1].position if is_full else max(position, horizon)
    return EventFeed(items=[Event.of(event) for event in happened], next=written(onward))
