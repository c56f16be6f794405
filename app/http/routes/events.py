"""What happened in the workspace, in an order that never changes: to be asked for, or streamed."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Principal, Scope
from app.domain.errors import Unavailable
from app.http.authentication import Credential
from app.http.broadcast import Broadcast, EventStream
from app.http.deps import Allowed, DatabaseDep
from app.http.follower import Follower, Wanted
from app.http.schemas.events import EventFeed, EventQuery, StreamQuery, read
from app.http.strictness import StrictRoute
from app.storage import events, pipelines

router = APIRouter(route_class=StrictRoute, prefix="/v1/events", tags=["events"])

Reader = Annotated[Principal, Depends(Allowed(Scope.EVENTS_READ))]


async def _broadcast(request: Request) -> Broadcast:
    broadcast: Broadcast = request.app.state.broadcast
    return broadcast


LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The last `id` that was received: the stream goes on after it, without loss or "
        "repetition. Browsers send it by themselves when they connect anew.",
        max_length=1024,
        examples=["1-48213-9077"],
    ),
]


@router.get("", response_model=EventFeed)
async def list_events(
    query: Annotated[EventQuery, Query()], principal: Reader, database: DatabaseDep
) -> Response:
    """What happened after a position: nothing is missed and nothing comes twice.

    Ask again with `next`, at once while there are items, else after a moment.
    """
    workspace = principal.workspace_id
    position = _begins(query.after, None)
    async with database.read(workspace) as connection:
        horizon = await events.horizon(connection)
        if query.after == "now":
            return _page([], horizon)
        begins = await events.begin(connection, position or events.START, horizon)
        happened = await events.after(
            connection,
            workspace,
            begins,
            horizon,
            limit=query.limit,
            sight=principal.sight,
            types=query.types,
            pipeline_id=await _pipeline_id(connection, workspace, query.pipeline),
        )
    # A page that is not full: all that is settled was looked at, also what the filters left out.
    is_full = len(happened) == query.limit
    return _page(happened, happened[-1].position if is_full else max(begins, horizon))


@router.get(
    "/stream",
    response_class=Response,  # of a class of streams FastAPI would make two tasks for each
    responses={
        200: {
            "description": "Messages whose `id` is the event's position, `event` its type and "
            "`data` the `Event` as the feed shows it, on one line. The first bears an `id` alone; "
            "comments come while nothing happens.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "event: opportunity.transitioned\n"
                    'data: {"id":"019a8f0e-7d4c-7b31-8e22-5c6d7e8f9a0b", …}\n'
                    "id: 1-48213-9077\n\n",
                }
            },
        }
    },
)
async def stream_events(
    query: Annotated[StreamQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    broadcast: Annotated[Broadcast, Depends(_broadcast)],
    last_event_id: LastEventId = None,
) -> Response:
    """What happens from now on, or after a position, as it happens (server-sent events).

    Every stream is ended after a while; come back with the last `id`.
    """
    if broadcast.is_leaving:
        raise Unavailable("The service is shutting down.")
    workspace = principal.workspace_id
    position = _begins(query.after, last_event_id)
    async with database.read(workspace) as connection:
        pipeline_id = await _pipeline_id(connection, workspace, query.pipeline)
        begins = await events.begin(connection, position, await events.horizon(connection))
    wanted = Wanted(
        workspace=workspace,
        types=tuple(query.types),
        pipeline=query.pipeline,
        pipeline_id=pipeline_id,
        historical=query.historical,
        sight=principal.sight,
    )
    return EventStream(broadcast, Follower(wanted, begins, Credential(principal, database)))


def _begins(after: str | None, last_event_id: str | None) -> events.Position | None:
    """Where to begin; None: nothing was said of it, or `now`. Raises InvalidCursor."""
    said = last_event_id if last_event_id is not None else after
    return None if said is None or said == "now" else read(said)


async def _pipeline_id(
    connection: AsyncConnection, workspace: UUID, key: str | None
) -> UUID | None:
    if key is None:
        return None
    return (await pipelines.read_current(connection, workspace, key)).pipeline_id


def _page(happened: list[events.Event], onward: events.Position) -> Response:
    items = b",".join(map(events.told, happened))
    next_ = events.written(onward).encode()
    body = b'{"items":[%b],"next":"%b"}' % (items, next_)
    return Response(body, media_type="application/json")
