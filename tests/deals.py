"""Deals as tests send and read them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

DEALS = "/v1/opportunities"


async def read(client: httpx.AsyncClient, deal_id: str) -> Any:
    answer = await client.get(f"{DEALS}/{deal_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def changes(client: httpx.AsyncClient, deal_id: str) -> list[Any]:
    answer = await client.get(f"{DEALS}/{deal_id}/changes")
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """The ids of one page."""
    answer = await client.get(DEALS, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


FULL = {
    "external_id": "CRM-1",
    "name": "十个席位 — ten seats",
    "amount": {"amount": "1250.5", "currency": "EUR"},
    "probability": 0.35,
    "owner": "mia",
    "team": "north",
    "source": "fair",
    "priority": "high",
    "tags": ["renewal", "vip"],
    "attributes": {"seats": 10, "nested": {"a": [1, None, True, "x"]}},
    "expected_close_on": "2026-12-15",
}


async def unchanged(
    client: httpx.AsyncClient, path: str, params: Mapping[str, str] | None = None
) -> httpx.Response:
    """The 304 to whoever holds the answer.

    As long as any transaction of the cluster that began earlier is running, be it another test's,
    the last event is not settled, and an answer may be told anew though nothing has happened.
    """
    answer = await client.get(path, params=params)
    async with asyncio.timeout(60):
        while answer.status_code != 304:
            held = {"If-None-Match": answer.headers["ETag"]}
            answer = await client.get(path, params=params, headers=held)
    return answer
