"""Reading the event feed to the end of what has happened.

A running transaction anywhere in the cluster, that of another test too, holds the feed back for a
moment. So a test that expects an event asks until the feed has passed what was written before.
"""

import asyncio
from typing import Any
from uuid import UUID

import httpx

from app.storage.engine import Connection, Database, Lock


async def events_so_far(
    database: Database, client: httpx.AsyncClient, **query: Any
) -> list[dict[str, Any]]:
    """All events of the client's workspace that pass the query, up to this very moment."""

    async def transaction_id(connection: Connection) -> int:
        return await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")

    now = await database.write(UUID(int=0), transaction_id, lock=Lock.NONE)
    async with asyncio.timeout(60):
        while await _horizon(client) <= now:
            pass
    seen: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        answer = await client.get("/v1/events", params={"limit": 200, **query, **after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        seen += page["items"]
        after = {"after": page["next"]}
        if len(page["items"]) < 200:
            return seen


async def _horizon(client: httpx.AsyncClient) -> int:
    """The oldest transaction that may still run; the feed tells of everything before it."""
    position = (await client.get("/v1/events?after=now")).json()["next"]
    return int(position.split("-")[1])
