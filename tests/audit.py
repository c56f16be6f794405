"""What the tests of the audit log share: how it is read and exported."""

import json
from typing import Any
from uuid import UUID

import httpx

from app.domain.audit_log import Action, Entry
from app.storage import audit_log
from app.storage.engine import Connection, Database
from app.storage.statement import execute

MANY = """
INSERT INTO audit_entry (workspace_id, entry_id, recorded_at, actor, action, target, after)
SELECT $1, (lpad(to_hex(1763300000000 + n), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))
       ::uuid, to_timestamp(1763300000 + n), 'mia', 'pipeline.updated', 'sales',
       jsonb_build_object('/revision', n, '/description', repeat('x', 200))
FROM generate_series(1, $2::bigint) AS n
"""

LOG = "/v1/audit-log"
Told = dict[str, Any]


def ok(answer: httpx.Response) -> Any:
    """What a request that must succeed was answered."""
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def entries(client: httpx.AsyncClient, **query: Any) -> list[Told]:
    """The log, the newest entry first, page by page."""
    found: list[Told] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(LOG, params={"limit": 200, **query, **cursor})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += body["items"]
        if body["page"]["next_cursor"] is None:
            return found
        cursor = {"cursor": body["page"]["next_cursor"]}


async def exported(client: httpx.AsyncClient, **query: Any) -> list[Told]:
    """The log as it is exported, the oldest entry first."""
    answer = await client.get(f"{LOG}/export", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.text == "" or answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


async def the_only(client: httpx.AsyncClient, action: str) -> Told:
    """The one entry of this kind."""
    (entry,) = await entries(client, action=action)
    return entry


async def told(client: httpx.AsyncClient) -> list[str]:
    """What the log tells of, the oldest first."""
    return [entry["action"] for entry in reversed(await entries(client))]


async def record(
    database: Database, workspace: UUID, action: Action, target: str, by: str = "mia"
) -> None:
    """An entry that says little."""
    entry = Entry.of(action, target, None, {"name": target})

    async def work(connection: Connection) -> None:
        await execute(connection, [audit_log.append(workspace, by, entry)])

    await database.write(workspace, work)


async def record_many(database: Database, workspace: UUID, count: int) -> None:
    """So many entries of the past, some hundred bytes each."""

    async def work(connection: Connection) -> None:
        await connection.execute(MANY, workspace, count)

    await database.write(workspace, work)
