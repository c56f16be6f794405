"""From the feed to deliveries: each event that was asked for, once, in order, at little cost."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions import fan_out_webhooks
from app.actions.fan_out_webhooks import PAGE, fan_out
from app.storage.engine import Connection, Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.idle import ago, only_flag, scan, watched_pipeline
from tests.receiver import Receiver, receiving
from tests.webhooks import (
    ANY,
    deliveries,
    endpoint,
    fanned_out,
    send_due,
    tell,
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


async def test_many_that_read_the_feed_at_once_add_each_delivery_once_and_in_order(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    ids: list[UUID] = []
    for _ in range(4):
        ids += await tell(database, workspace, PAGE // 2)
    added = 0
    async with asyncio.timeout(60):
        while added < len(ids):
            told = await asyncio.gather(*(fan_out(database, workspace) for _ in range(4)))
            added += sum(each.get(UUID(made["id"]), 0) for each in told)

    async def kept(connection: Connection) -> list[Any]:
        return await connection.fetch(
            "SELECT sequence, event_id FROM webhook_delivery WHERE workspace_id = $1"
            " ORDER BY sequence",
            workspace,
        )

    rows = await database.write(workspace, kept)
    assert [row["sequence"] for row in rows] == list(range(1, len(ids) + 1))
    assert [row["event_id"] for row in rows] == ids


async def test_an_endpoint_is_told_of_what_it_asks_for_alone(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    pipeline = await keep_pipeline(database, workspace, sales_pipeline())
    wanted = {
        "manager": {"types": ["stage.entered"], "pipeline": "sales", "stages": ["talks"]},
        "talks": {"pipeline": "sales", "stages": ["talks"]},
        "wins": {"types": ["opportunity.won"]},
        "sales": {"pipeline": "sales"},
        "all": {},
        "history": {"include_historical": True},
    }
    made = {name: await endpoint(client, receiver.url, **asked) for name, asked in wanted.items()}
    deal = await open_deal(client)
    for stage in ("talks", "offer", "won"):
        await move(client, deal["id"], stage)
    await tell(database, workspace)  # of no pipeline
    await tell(
        database,
        workspace,
        type_="opportunity.transitioned",
        data={"kind": "won", "to_stage": "won"},
        pipeline_id=pipeline.pipeline_id,
        historical=True,
    )
    await events_so_far(database, client)
    told = await fan_out(database, workspace)
    added = {name: told[UUID(each["id"])] for name, each in made.items()}
    assert added == {"manager": 1, "talks": 1, "wins": 1, "sales": 4, "all": 5, "history": 6}
    await send_due(database, workspace, made["manager"])
    (got,) = receiver.received
    assert json.loads(got.body)["data"]["to_stage"] == "talks"


async def test_an_endpoint_that_asks_for_a_stage_is_told_whatever_happens_to_deals_there(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await keep_pipeline(database, workspace, watched_pipeline())
    asked = {"pipeline": "sales", "stages": ["lead"]}
    made = await endpoint(client, receiver.url, **asked)
    deal = await open_deal(client, opened_at=ago(days=8))
    one = f"/v1/opportunities/{deal['id']}"
    assert await scan(client) == 1
    flag = f"/v1/idle-flags/{(await only_flag(client))['id']}"
    snooze = {"until": ago(days=-1), "reason": "Later."}
    for path, body in (("acknowledgement", None), ("snooze", snooze)):
        assert (await client.post(f"{flag}/{path}", json=body)).is_success
    assert (await client.post(f"{one}/activities", json={"kind": "note"})).is_success
    assert (await client.patch(one, json={"name": "B"}, headers=ANY)).is_success
    told = [
        *("opportunity.created", "idle_flag.opened", "idle_flag.acknowledged"),
        *("idle_flag.snoozed", "activity.recorded", "opportunity.updated"),
    ]
    await fanned_out(database, workspace, made, len(told))
    await move(client, deal["id"], "offer")  # of this only the end of the flag is told
    assert (await client.patch(one, json={"name": "C"}, headers=ANY)).is_success
    await move(client, deal["id"], "lead")
    told += ["idle_flag.resolved", "opportunity.transitioned"]
    await fanned_out(database, workspace, made, 2)
    assert (await client.delete(one, headers=ANY)).is_success
    await fanned_out(database, workspace, made, 1)
    told.append("opportunity.deleted")
    assert [each["event_type"] for each in reversed(await deliveries(client, made))] == told


async def test_an_endpoint_is_told_of_what_happens_from_its_making_on(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await tell(database, workspace, 3)
    await events_so_far(database, client)
    made = await endpoint(client, receiver.url)
    (after,) = await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert [each["event_id"] for each in await deliveries(client, made)] == [str(after)]


async def test_one_event_for_many_endpoints_is_read_once_and_added_at_once(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = [await endpoint(client, receiver.url) for _ in range(5)]
    await tell(database, workspace, 2)
    await fanned_out(database, workspace, made[0], 2)

    async def kept(connection: Connection) -> list[Any]:
        return await connection.fetch(
            "SELECT endpoint_id, sequence, xmin::text FROM webhook_delivery"
            " WHERE workspace_id = $1",
            workspace,
        )

    rows = await database.write(workspace, kept)
    assert {(str(row["endpoint_id"]), row["sequence"]) for row in rows} == {
        (each["id"], number) for each in made for number in (1, 2)
    }
    assert len({row["xmin"] for row in rows}) == 1  # one transaction


async def test_who_passes_over_events_is_moved_on_lazily(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url, types=["opportunity.lost"])

    async def position(connection: Connection) -> Any:
        return await connection.fetchrow(
            "SELECT epoch, xid::text::bigint, n FROM webhook_endpoint WHERE workspace_id = $1",
            workspace,
        )

    async def moved(*, lazily: bool) -> bool:
        before = await database.write(workspace, position)
        assert await fan_out(database, workspace, lazily=lazily) == {}
        return bool(before != await database.write(workspace, position))

    await tell(database, workspace, PAGE - 1)
    await events_so_far(database, client)
    assert not await moved(lazily=True)
    assert await moved(lazily=False)
    await tell(database, workspace, PAGE)
    await events_so_far(database, client)
    assert await moved(lazily=True)  # a whole page is not read twice
    await tell(database, workspace, type_="opportunity.lost")
    await fanned_out(database, workspace, made, 1)


async def test_history_that_nobody_asks_for_is_passed_over_in_pieces(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fan_out_webhooks, "SPAN", 3)
    made = await endpoint(client, receiver.url)
    await tell(database, workspace, 7, historical=True)
    (live,) = await tell(database, workspace)
    await events_so_far(database, client)
    assert [len(await fan_out(database, workspace, lazily=True)) for _ in range(4)] == [0, 0, 1, 0]
    assert [each["event_id"] for each in await deliveries(client, made)] == [str(live)]
