"""Webhook endpoints: made, changed, given new secrets, deleted. Secrets are shown this once."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.actions import audit_entries
from app.actions.announcements import plain
from app.actions.deciding import VersionCheck
from app.domain.access import Principal
from app.domain.errors import Breach, Conflict, Invalid, TooManyEndpoints, UnknownStage
from app.domain.webhook import (
    DISABLED,
    MOST_ENDPOINTS,
    MOST_SECRETS,
    Disabling,
    Endpoint,
    Subscription,
)
from app.domain.webhook_retries import Streak
from app.domain.webhook_signature import SECRET_BYTES
from app.storage import events, idempotency, pipelines, webhook_deliveries, webhooks
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.statement import Part, execute

Checked = Callable[[str, UUID], Awaitable[None]]
"""Asks for a workspace whether webhooks may be sent to a URL; raises UrlRefused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What a caller says of an endpoint; `pipeline` is a key."""

    url: str
    description: str
    types: tuple[str, ...]
    pipeline: str | None
    stages: tuple[str, ...]
    include_historical: bool


async def create_endpoint(
    database: Database,
    principal: Principal,
    new: NewEndpoint,
    *,
    check_url: Checked,
    request: Repeatable | None,
    answer: Callable[[Endpoint, bytes], Answer],
) -> Answer:
    """Make an endpoint, which is told of what happens from now on, and its first secret.

    Raises UrlRefused, NotFound for the pipeline, UnknownStage, TooManyEndpoints.
    """
    workspace = principal.workspace_id

    async def kept(connection: Connection) -> Answer | None:
        return await idempotency.find(connection, workspace, request)

    async def work(connection: Connection) -> Answer:
        if earlier := await kept(connection):
            return earlier
        if await connection.fetchval(webhooks.COUNT, workspace) >= MOST_ENDPOINTS:
            raise TooManyEndpoints(f"A workspace has at most {MOST_ENDPOINTS} webhook endpoints.")
        wanted = await _subscription(connection, workspace, new)
        now = await connection.fetchval("SELECT clock_timestamp()")
        endpoint_id, secret = new_id(), secrets.token_bytes(SECRET_BYTES)
        adding = webhooks.add(
            workspace, endpoint_id, new.url, new.description, wanted, principal.sight, now
        )
        await execute(connection, [adding])
        await execute(connection, [webhooks.add_secret(workspace, endpoint_id, secret)])
        made, _, _ = await webhooks.read(connection, workspace, principal.sight, endpoint_id)
        await execute(connection, audit_entries.endpoint_changed(principal, None, made))
        answered = answer(made, secret)
        for part in idempotency.keep(workspace, request, answered):
            await execute(connection, [part])
        return answered

    # Names are looked up outside of any transaction; but not for an answer that is only repeated.
    keys = idempotency.keys(request)
    if keys and (first := await database.write(workspace, kept, lock=Lock.NONE, keys=keys)):
        return first
    await check_url(new.url, workspace)
    # One at a time: two that count at once would both find room.
    return await database.write(workspace, work, lock=Lock.DEFINITIONS, keys=keys)


async def amend_endpoint(
    database: Database,
    principal: Principal,
    endpoint_id: UUID,
    values: Mapping[str, Any],
    *,
    check: VersionCheck,
    check_url: Checked,
) -> Endpoint:
    """Change the given fields: those of `NewEndpoint`, and `enabled`.

    An endpoint that is enabled again is told of what happens from now on; deliveries that waited
    go on. What has failed at one URL is tried at another at once.

    Raises NotFound, VersionRequired, Stale, UrlRefused, UnknownStage.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Endpoint:
        before, streak, now = await webhooks.locked(
            connection, workspace, principal.sight, endpoint_id
        )
        check(before.version)
        said = replace(_said(before), **{k: v for k, v in values.items() if k != "enabled"})
        wanted = await _subscription(connection, workspace, said)
        after = replace(before, url=said.url, description=said.description, subscription=wanted)
        enabled = values.get("enabled", before.disabled_at is None)
        if after != before or enabled != (before.disabled_at is None):
            await execute(connection, [webhooks.change(workspace, after, now)])
        if enabled and before.disabled_at is not None:
            await execute(connection, [webhooks.enable(workspace, endpoint_id)])
            await execute(connection, [webhooks.end_streak(workspace, endpoint_id)])
        elif not enabled and before.disabled_at is None:
            reason = Disabling.REQUESTED
            stopped = await held_back(connection, workspace, before, streak)
            await execute(connection, disabling(workspace, stopped, streak, reason, now))
        if after.url != before.url:
            await execute(connection, [webhooks.end_streak(workspace, endpoint_id)])
            await execute(connection, [webhook_deliveries.hasten(workspace, endpoint_id)])
        changed, _, _ = await webhooks.read(connection, workspace, principal.sight, endpoint_id)
        await execute(connection, audit_entries.endpoint_changed(principal, before, changed))
        return changed

    if "url" in values:  # a name is looked up outside of any transaction, but not for a stranger
        async with database.read(workspace) as reading:
            found = await webhooks.one(reading, workspace, principal.sight, endpoint_id)
        check(found.version)
        await check_url(values["url"], workspace)
    return await database.write(workspace, work)


async def rotate_secret(
    database: Database,
    principal: Principal,
    endpoint_id: UUID,
    overlap: timedelta,
    *,
    request: Repeatable | None,
    answer: Callable[[bytes, datetime], Answer],
) -> Answer:
    """Give an endpoint a new secret; those it has sign beside it for as long as `overlap`.

    Raises NotFound, Conflict where too many secrets stand already.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        _, _, now = await webhooks.locked(connection, workspace, principal.sight, endpoint_id)
        until, secret = now + overlap, secrets.token_bytes(SECRET_BYTES)
        await connection.execute(webhooks.EXPIRE_SECRETS, workspace, endpoint_id, until)
        await connection.execute(webhooks.CLEAR_SECRETS, workspace, endpoint_id)
        standing = await connection.fetchval(webhooks.COUNT_SECRETS, workspace, endpoint_id)
        if standing >= MOST_SECRETS:
            raise Conflict(
                f"{MOST_SECRETS} secrets sign already; wait until one has expired, or say a"
                " shorter overlap."
            )
        answered = answer(secret, until)
        adding = webhooks.add_secret(workspace, endpoint_id, secret)
        noted = audit_entries.secret_rotated(principal, endpoint_id, until)
        await execute(connection, [adding, noted, *idempotency.keep(workspace, request, answered)])
        return answered

    return await database.write(workspace, work, keys=idempotency.keys(request))


async def delete_endpoint(
    database: Database, principal: Principal, endpoint_id: UUID, *, check: VersionCheck
) -> None:
    """Send it nothing any more; what it was sent is cleared away by and by.

    Raises NotFound, VersionRequired, Stale.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        found, _, _ = await webhooks.locked(connection, workspace, principal.sight, endpoint_id)
        check(found.version)
        await connection.execute(webhooks.DELETE_SECRETS, workspace, endpoint_id)
        await connection.execute(webhooks.DELETE, workspace, endpoint_id)
        await execute(connection, audit_entries.endpoint_changed(principal, found, None))

    await database.write(workspace, work)


async def held_back(
    connection: Connection, workspace: UUID, endpoint: Endpoint, streak: Streak
) -> Endpoint:
    """The endpoint, moved back to before the first event that the streak has kept from it.

    The feed has been read on for it while deliveries failed: a replay from where the reading
    stopped would leave those out.
    """
    first = await webhook_deliveries.first_unserved(
        connection, workspace, endpoint.endpoint_id, streak.since
    )
    if first is None:
        return endpoint
    epoch, xid, number = first
    return replace(endpoint, position=min(endpoint.position, (epoch, xid, number - 1)))


def disabling(
    workspace: UUID, endpoint: Endpoint, streak: Streak, reason: Disabling, now: datetime
) -> list[Part]:
    """The parts that disable an endpoint and tell of it. Its URL may be a secret: it is not told.

    Where it stopped (`held_back`) is told: from there on it can be told again.
    """
    return [
        webhooks.disable(workspace, endpoint, reason, now),
        events.append(
            workspace,
            DISABLED,
            {
                "endpoint_id": str(endpoint.endpoint_id),
                "description": endpoint.description,
                "reason": reason.value,
                "failing_since": plain(streak.since),
                "position": events.written(endpoint.position),
            },
            occurred_at=now,
        ),
    ]


def _said(endpoint: Endpoint) -> NewEndpoint:
    wanted = endpoint.subscription
    return NewEndpoint(
        url=endpoint.url,
        description=endpoint.description,
        types=wanted.types,
        pipeline=endpoint.pipeline,
        stages=wanted.stages,
        include_historical=wanted.include_historical,
    )


async def _subscription(connection: Connection, workspace: UUID, said: NewEndpoint) -> Subscription:
    """What was said, with the pipeline's id. Raises NotFound, UnknownStage, Invalid."""
    pipeline_id = None
    if said.pipeline is not None:
        pipeline = await pipelines.current(connection, workspace, said.pipeline)
        pipeline_id = pipeline.pipeline_id
        unknown = [
            Breach(f"/stages/{n}", "unknown_stage", f"The pipeline has no stage {key!r}.")
            for n, key in enumerate(said.stages)
            if key not in pipeline.by_key
        ]
        if unknown:
            raise UnknownStage(unknown[0].detail, unknown)
    elif said.stages:
        detail = "Stages are those of a pipeline: name it."
        raise Invalid(detail, [Breach("/pipeline", "required", detail)])
    return Subscription(said.types, pipeline_id, said.stages, said.include_historical)
