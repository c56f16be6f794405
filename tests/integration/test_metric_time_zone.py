"""Where a day begins is part of the definition: a report of its time keeps its days."""

from datetime import UTC, datetime

import httpx

from tests.factories import open_deal

ZONES = ("Asia/Kolkata", "America/New_York")
HERE = "/v1/pipelines/sales"


async def days_opened(client: httpx.AsyncClient, **query: str) -> tuple[str, str]:
    """The zone by which a period of one day was cut, and the instant at which it begins."""
    period = {"from": "2026-03-01", "to": "2026-03-02", **query}
    answer = await client.get(f"{HERE}/metrics/funnel", params=period)
    assert answer.status_code == 200, answer.text
    policy = answer.json()["policy"]
    return policy["timezone"], policy["from"]


async def test_a_report_as_it_was_known_keeps_the_days_of_its_time(
    client: httpx.AsyncClient,
) -> None:
    price = [{"key": "price", "name": "Price"}]
    stages = [
        {"key": "lead", "name": "Lead", "kind": "open"},
        {"key": "won", "name": "Won", "kind": "won"},
        {"key": "lost", "name": "Lost", "kind": "lost", "loss_reasons": price},
    ]
    before, after = ZONES
    document = {"key": "sales", "name": "Sales", "timezone": before, "stages": stages}
    made = await client.post("/v1/pipelines", json=document)
    assert made.status_code == 201, made.text
    await open_deal(client)
    known_at = datetime.now(UTC).isoformat()
    told = before, "2026-02-28T18:30:00Z"
    assert await days_opened(client, known_at=known_at) == told
    any_version = {"If-Match": "*"}
    moved = await client.patch(HERE, json={"timezone": after}, headers=any_version)
    assert moved.status_code == 200, moved.text
    assert await days_opened(client) == (after, "2026-03-01T05:00:00Z")
    assert await days_opened(client, known_at=known_at) == told
    assert await days_opened(client, revision="1") == told
