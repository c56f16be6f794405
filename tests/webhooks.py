"""What the tests of webhooks share: endpoints, events, deliveries, and time that goes by."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from app.actions.deliver_webhook import Outcome, claim, deliver
from app.actions.fan_out_webhooks import fan_out
from app.outbound.sending import Outbound
from app.storage import events
from app.storage.engine import Connection, Database
from app.storage.webhook_deliveries import Claim

ENDPOINTS = "/v1/webhook-endpoints"
ANY = {"If-Match": "*"}
HERE = Outbound(allow_loopback=True)


async def endpoint(client: httpx.AsyncClient, url: str, **more: Any) -> dict[str, Any]:
    """A new endpoint, with its secret."""
    answer = await client.post(ENDPOINTS, json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def refused(answer: httpx.Response) -> tuple[int, str, list[tuple[str, str]]]:
    """How a request was refused: status, code, and what is wrong where."""
    problem = answer.json()
    places = [(each["pointer"], each["code"]) for each in problem["errors"]]
    return answer.status_code, problem["code"], places


async def shown(client: httpx.AsyncClient, made: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoint as it stands now."""
    answer = await client.get(f"{ENDPOINTS}/{made['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def deliveries(
    client: httpx.AsyncClient, made: Mapping[str, Any], **query: Any
) -> list[dict[str, Any]]:
    """The endpoint's deliveries, the last first."""
    answer = await client.get(
        f"{ENDPOINTS}/{made['id']}/deliveries", params={"limit": 200, **query}
    )
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def delivery(
    client: httpx.AsyncClient, made: Mapping[str, Any], sequence: int
) -> dict[str, Any]:
    """One delivery with its log."""
    answer = await client.get(f"{ENDPOINTS}/{made['id']}/deliveries/{sequence}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def tell(
    database: Database,
    workspace: UUID,
    count: int = 1,
    type_: str = "opportunity.updated",
    data: Mapping[str, Any] | None = None,
    **more: Any,
) -> list[UUID]:
    """So many events in one transaction; their ids."""
    now = datetime.now(UTC)
    parts = [
        events.append(workspace, type_, data or {"n": n}, occurred_at=now, **more)
        for n in range(count)
    ]

    async def work(connection: Connection) -> None:
        await events.append_all(connection, workspace, parts)

    await database.write(workspace, work)
    return [part.args[1] for part in parts]


async def fanned_out(
    database: Database, workspace: UUID, made: Mapping[str, Any], count: int
) -> None:
    """Read the feed on for the endpoint until so many deliveries more are added.

    What still runs anywhere in the cluster, another test's transaction too, holds the feed back.
    """
    added = 0
    async with asyncio.timeout(60):
        while added < count:
            added += (await fan_out(database, workspace)).get(UUID(made["id"]), 0)
    assert added == count


async def claimed_of(
    database: Database, workspace: UUID, made: Mapping[str, Any], limit: int = 100
) -> list[Claim]:
    """At most so many of the endpoint's deliveries that are due, now this worker's."""
    return await claim(database, workspace, {UUID(made["id"]): limit}, limit)


async def send_due(
    database: Database,
    workspace: UUID,
    made: Mapping[str, Any],
    outbound: Outbound = HERE,
    *,
    draw: float = 0.5,
) -> list[Outcome]:
    """Attempt all that is due now, one after the other, and say what came of it."""
    claimed = await claimed_of(database, workspace, made)
    return [await deliver(database, outbound, each, draw) for each in claimed]


async def let_time_pass(
    database: Database, workspace: UUID, table: str, columns: Sequence[str], length: str
) -> None:
    """Put what is written in these columns into the past by that long, as if it had gone by."""
    changes = ", ".join(f"{column} = {column} - interval '{length}'" for column in columns)

    async def work(connection: Connection) -> None:
        await connection.execute(f"UPDATE {table} SET {changes} WHERE workspace_id = $1", workspace)

    await database.write(workspace, work)


async def let_waits_end(database: Database, workspace: UUID) -> None:
    """As if the waits of all pending deliveries had gone by."""
    await let_time_pass(database, workspace, "webhook_delivery", ["next_attempt_at"], "2 days")
