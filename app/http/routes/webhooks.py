"""Webhook endpoints: registered, changed, tested, looked after."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from app.actions import manage_webhooks, replay_webhooks
from app.domain.access import Principal, Scope
from app.domain.webhook import Delivery, DeliveryState, Endpoint
from app.domain.webhook_signature import written
from app.http import answers, conditional
from app.http.deps import Allowed, DatabaseDep, OutboundDep, RepeatableDep
from app.http.paging import PagesDep
from app.http.schemas.common import Id
from app.http.schemas.transitions import PageQuery
from app.http.schemas.webhook_deliveries import (
    WebhookDelivery,
    WebhookDeliveryLog,
    WebhookDeliveryPage,
    WebhookDeliveryQuery,
    WebhookReplay,
    WebhookReplayCreate,
)
from app.http.schemas.webhooks import (
    NewWebhookEndpoint,
    WebhookEndpoint,
    WebhookEndpointCreate,
    WebhookEndpointPage,
    WebhookEndpointUpdate,
    WebhookSecret,
    WebhookSecretCreate,
)
from app.http.strictness import StrictRoute
from app.storage import webhooks
from app.storage.events import Position
from app.storage.idempotency import Answer
from app.storage.queries import webhooks as queries

router = APIRouter(route_class=StrictRoute, prefix="/v1/webhook-endpoints", tags=["webhooks"])

Reader = Annotated[Principal, Depends(Allowed(Scope.WEBHOOKS_READ))]
Writer = Annotated[Principal, Depends(Allowed(Scope.WEBHOOKS_WRITE))]
EndpointId = Annotated[Id, Path(description="The endpoint's id.")]
Sequence = Annotated[
    int, Path(ge=1, le=2**63 - 1, description="The delivery's number in the endpoint's sequence.")
]


@router.get("")
async def list_webhook_endpoints(
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> WebhookEndpointPage:
    """The workspace's endpoints, in the order in which they were made."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="webhook-endpoints", workspace=workspace)
    async with database.read(workspace) as connection:
        found = await webhooks.page(
            connection, workspace, principal.sight, after=listing.first, limit=listing.more
        )
    found, page = listing.cut(found, lambda endpoint: [endpoint.endpoint_id])
    return WebhookEndpointPage(items=[WebhookEndpoint.of(each) for each in found], page=page)


@router.post("", status_code=201, response_model=NewWebhookEndpoint)
async def create_webhook_endpoint(
    body: WebhookEndpointCreate,
    principal: Writer,
    database: DatabaseDep,
    outbound: OutboundDep,
    repeatable: RepeatableDep,
) -> Response:
    """Register a receiver, which is told of what happens from now on. Its secret is shown once."""

    def made(endpoint: Endpoint, secret: bytes) -> Answer:
        return answers.created(
            NewWebhookEndpoint.made(endpoint, secret),
            location=f"{router.prefix}/{endpoint.endpoint_id}",
            etag=conditional.etag(endpoint.version),
        )

    return answers.sent(
        await manage_webhooks.create_endpoint(
            database,
            principal,
            body.new(),
            check_url=outbound.check,
            request=repeatable,
            answer=made,
        )
    )


@router.get("/{endpoint_id}", responses={200: {"headers": {"ETag": {}}}})
async def get_webhook_endpoint(
    endpoint_id: EndpointId,
    response: Response,
    principal: Reader,
    database: DatabaseDep,
) -> WebhookEndpoint:
    """One endpoint as it stands now. `failing_since` comes and goes without a new version."""
    async with database.read(principal.workspace_id) as connection:
        found = await webhooks.one(connection, principal.workspace_id, principal.sight, endpoint_id)
    response.headers["ETag"] = conditional.etag(found.version)
    return WebhookEndpoint.of(found)


@router.patch("/{endpoint_id}")
async def update_webhook_endpoint(
    endpoint_id: EndpointId,
    body: WebhookEndpointUpdate,
    response: Response,
    principal: Writer,
    database: DatabaseDep,
    outbound: OutboundDep,
    if_match: conditional.IfMatch = None,
) -> WebhookEndpoint:
    """Change an endpoint, disable it, or enable it again: then what waits for it goes on."""
    changed = await manage_webhooks.amend_endpoint(
        database,
        principal,
        endpoint_id,
        body.values(),
        check=conditional.required(if_match),
        check_url=outbound.check,
    )
    response.headers["ETag"] = conditional.etag(changed.version)
    return WebhookEndpoint.of(changed)


@router.delete("/{endpoint_id}", status_code=204)
async def delete_webhook_endpoint(
    endpoint_id: EndpointId,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
) -> None:
    """Send the endpoint nothing any more; what it was sent is cleared away within thirty days."""
    await manage_webhooks.delete_endpoint(
        database, principal, endpoint_id, check=conditional.required(if_match)
    )


@router.post("/{endpoint_id}/secret", response_model=WebhookSecret)
async def rotate_webhook_secret(
    endpoint_id: EndpointId,
    body: WebhookSecretCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Give the endpoint a new secret; for the overlap the old ones sign beside it."""

    def rotated(secret: bytes, until: datetime) -> Answer:
        return answers.done(
            WebhookSecret.model_construct(secret=written(secret), others_expire_at=until)
        )

    return answers.sent(
        await manage_webhooks.rotate_secret(
            database,
            principal,
            endpoint_id,
            body.overlap.length,
            request=repeatable,
            answer=rotated,
        )
    )


@router.post("/{endpoint_id}/test", status_code=201, response_model=WebhookDelivery)
async def test_webhook_endpoint(
    endpoint_id: EndpointId, principal: Writer, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Send the endpoint, and it alone, a `webhook.test` event. What came of it is in its log."""
    return answers.sent(
        await replay_webhooks.send_test(
            database, principal, endpoint_id, request=repeatable, answer=_added
        )
    )


@router.post("/{endpoint_id}/replays", response_model=WebhookReplay)
async def replay_webhook_events(
    endpoint_id: EndpointId,
    body: WebhookReplayCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Send a stretch of the feed again, or for the first time: what an endpoint missed."""

    def replayed(deliveries: int, onward: Position | None) -> Answer:
        return answers.done(WebhookReplay.of(deliveries, onward))

    return answers.sent(
        await replay_webhooks.replay_stretch(
            database,
            principal,
            endpoint_id,
            body.stretch(),
            request=repeatable,
            answer=replayed,
        )
    )


@router.get("/{endpoint_id}/deliveries")
async def list_webhook_deliveries(
    endpoint_id: EndpointId,
    query: Annotated[WebhookDeliveryQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> WebhookDeliveryPage:
    """What the endpoint was sent in the last thirty days, and what waits; the last first."""
    workspace = principal.workspace_id
    listing = pages.of(
        query,
        list="webhook-deliveries",
        workspace=workspace,
        endpoint=endpoint_id,
        state=query.state,
        event=query.event_id,
    )
    async with database.read(workspace) as connection:
        await webhooks.one(connection, workspace, principal.sight, endpoint_id)
        found = await queries.deliveries(
            connection,
            workspace,
            endpoint_id,
            state=None if query.state is None else DeliveryState(query.state),
            event_id=query.event_id,
            before=listing.first,
            limit=listing.more,
        )
    found, page = listing.cut(found, lambda delivery: [delivery.sequence])
    return WebhookDeliveryPage(items=[WebhookDelivery.of(each) for each in found], page=page)


@router.get("/{endpoint_id}/deliveries/{sequence}")
async def get_webhook_delivery(
    endpoint_id: EndpointId,
    sequence: Sequence,
    response: Response,
    principal: Reader,
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> WebhookDeliveryLog:
    """One delivery, with what came of each attempt."""
    workspace = principal.workspace_id
    async with database.read(workspace) as connection:
        await webhooks.one(connection, workspace, principal.sight, endpoint_id)
        found = await queries.delivery(connection, workspace, endpoint_id, sequence)
        attempts = await queries.attempts(connection, workspace, endpoint_id, sequence)
    conditional.offer(response, _tag_of(found), if_none_match)
    return WebhookDeliveryLog.with_attempts(found, list(attempts))


@router.post(
    "/{endpoint_id}/deliveries/{sequence}/replay",
    status_code=201,
    response_model=WebhookDelivery,
)
async def replay_webhook_delivery(
    endpoint_id: EndpointId,
    sequence: Sequence,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Send a delivery's event again, under the same id and a number of its own."""
    return answers.sent(
        await replay_webhooks.replay_delivery(
            database, principal, endpoint_id, sequence, request=repeatable, answer=_added
        )
    )


def _added(delivery: Delivery) -> Answer:
    return answers.created(
        WebhookDelivery.of(delivery),
        location=f"{router.prefix}/{delivery.endpoint_id}/deliveries/{delivery.sequence}",
        etag=_tag_of(delivery),
    )


def _tag_of(delivery: Delivery) -> str:
    """It differs after every step of a delivery; weak, as what was answered may be forgotten."""
    waits = delivery.next_attempt_at
    until = "" if waits is None else f"-{waits.timestamp():.6f}"
    return conditional.opaque(f"{delivery.attempts}-{delivery.state.value}{until}", weak=True)
