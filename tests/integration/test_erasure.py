"""Erasing a deal: what is gone, what stays, and what can no longer be read of it anywhere."""

from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.domain.access import Principal
from app.storage.engine import Database, connect_arguments
from tests.deals import DEALS, listed, read
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def test_erasing_leaves_nothing_but_a_tombstone_and_an_event(
    client: httpx.AsyncClient, owner_url: str, sales: None
) -> None:
    deal = await open_deal(client, external_id="CRM-9", owner="mia")
    kept = await open_deal(client)
    path = f"{DEALS}/{deal['id']}"
    await move(client, deal["id"], "offer")
    await client.patch(path, json={"owner": "tom"}, headers={"If-Match": "*"})
    await client.post(
        f"{path}/activities",
        json={"kind": "call", "content": "Spoke", "occurred_at": "2026-01-02T00:00:00Z"},
    )
    erased = await client.delete(path, headers={"If-Match": "*"})
    assert (erased.status_code, erased.content) == (204, b"")
    for gone in (path, f"{path}/transitions", f"{path}/changes", f"{path}/next-stages"):
        assert (await client.get(gone)).status_code == 404
    again = await client.delete(path, headers={"If-Match": "*"})
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    owner = await asyncpg.connect(**connect_arguments(owner_url))
    try:
        for table in ("opportunity", "transition", "opportunity_change", "activity", "idle_flag"):
            left = f"SELECT count(*) FROM {table} WHERE opportunity_id = $1"
            assert await owner.fetchval(left, UUID(deal["id"])) == 0
        stone = await owner.fetchrow(
            "SELECT * FROM tombstone WHERE opportunity_id = $1", UUID(deal["id"])
        )
        assert stone["deleted_by"] == "tester"
        told = await owner.fetch(
            "SELECT type FROM event WHERE opportunity_id = $1 ORDER BY xid, n", UUID(deal["id"])
        )
    finally:
        await owner.close()
    assert told[-1]["type"] == "opportunity.deleted"
    assert await listed(client) == [kept["id"]]
    # Its name is free again.
    await open_deal(client, external_id="CRM-9")


async def test_nothing_that_was_told_of_an_erased_deal_can_be_read_any_more(
    client: httpx.AsyncClient, database: Database, owner_url: str, workspace: UUID, sales: None
) -> None:
    secret = "Geheimrat von Stein"
    body = {"pipeline": "sales", "name": secret, "owner": secret}
    made = await client.post(DEALS, json=body, headers={"Idempotency-Key": "made"})
    deal_id, kept = made.json()["id"], await open_deal(client)
    path = f"{DEALS}/{deal_id}"
    for deal in (deal_id, kept["id"]):
        await client.post(
            f"{DEALS}/{deal}/transitions",
            json={"to_stage": "offer"},
            headers={"Idempotency-Key": deal},
        )
    moves = [{"opportunity_id": deal, "to_stage": "talks"} for deal in (deal_id, kept["id"])]
    batch = {"json": {"moves": moves}, "headers": {"Idempotency-Key": "batch"}}
    await client.post("/v1/transitions/batch", **batch)
    before = await events_so_far(database, client)
    await client.delete(path, headers={"If-Match": "*"})
    after = await events_so_far(database, client)

    def places(events: list[Any]) -> list[Any]:
        return [(event["id"], event["type"], event["opportunity_id"]) for event in events]

    assert places(after[:-1]) == places(before)
    of_deal = [event for event in after if event["opportunity_id"] == deal_id]
    assert [event["data"] for event in of_deal[:-1]] == [{}, {}, {}]
    assert of_deal[-1]["type"] == "opportunity.deleted"
    assert of_deal[-1]["data"]["opportunity_id"] == deal_id
    others = [event for event in after if event["opportunity_id"] != deal_id]
    assert others == [event for event in before if event["opportunity_id"] != deal_id]

    owner = await asyncpg.connect(**connect_arguments(owner_url))
    records = await owner.fetch(
        "SELECT body FROM idempotency_record WHERE workspace_id = $1", workspace
    )
    await owner.close()
    assert not [row for row in records if secret.encode() in row["body"]]
    # Sent again, what was told of the deal is decided anew; of other deals it is told again.
    moved = await client.post(
        f"{path}/transitions", json={"to_stage": "offer"}, headers={"Idempotency-Key": deal_id}
    )
    assert moved.status_code == 404
    outcomes = (await client.post("/v1/transitions/batch", **batch)).json()["outcomes"]
    assert [outcome["status"] for outcome in outcomes] == [404, 201]
    assert (await read(client, kept["id"]))["seq"] == 3
    again = await client.post(DEALS, json=body, headers={"Idempotency-Key": "made"})
    assert again.status_code == 201
    assert again.json()["id"] != deal_id
