"""What the tests of the audit log share: how it is read and exported."""

import json
from typing import Any

import httpx

LOG = "/v1/audit-log"
Told = dict[str, Any]


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
