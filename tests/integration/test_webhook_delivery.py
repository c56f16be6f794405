"""Deliveries to a real receiver: verified, tried again, given up, and never lost or doubled."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from app.actions.deliver_webhook import Outcome, claim, deliver, note, send
from app.actions.fan_out_webhooks import PAGE, fan_out
from app.outbound.sending import Outbound
from app.storage.engine import Connection, Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.receiver import Received, Receiver, receiving, saying
from tests.webhooks import (
    ANY,
    ENDPOINTS,
    HERE,
    deliveries,
    delivery,
    endpoint,
    fanned_out,
    let_time_pass,
    let_waits_end,
    send_due,
    shown,
    tell,
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


def verified(got: Received, secret: str) -> Any:
    """The payload, which the standard's own library finds to be ours."""
    return Webhook(secret).verify(got.body, got.headers)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_receiver_can_verify_what_it_is_sent_and_it_is_the_event_of_the_feed(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    made = await endpoint(client, receiver.url)
    deal = await open_deal(client)
    await move(client, deal["id"], "offer")
    await fanned_out(database, workspace, made, 2)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED] * 2
    feed = await events_so_far(database, client)
    assert [verified(got, made["secret"]) for got in receiver.received] == feed
    assert [got.headers["webhook-id"] for got in receiver.received] == [e["id"] for e in feed]
    assert [got.headers["webhook-sequence"] for got in receiver.received] == ["1", "2"]
    assert {got.headers["content-type"] for got in receiver.received} == {"application/json"}
    last, first = await deliveries(client, made)
    assert (first["sequence"], first["state"], first["attempts"]) == (1, "delivered", 1)
    assert first["event_id"] == feed[0]["id"]
    assert first["position"] == feed[0]["position"]
    assert last["event_type"] == "opportunity.transitioned"
    (attempt,) = (await delivery(client, made, 1))["log"]
    assert (attempt["number"], attempt["status"], attempt["failure"]) == (1, 204, None)
    assert await send_due(database, workspace, made) == []


async def test_a_failed_delivery_is_tried_again_after_its_wait_until_it_succeeds(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(500, "oh no"), saying(200, "fine")]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert await send_due(database, workspace, made, draw=0.0) == [Outcome.POSTPONED]
    waiting = await delivery(client, made, 1)
    assert (waiting["state"], waiting["attempts"]) == ("pending", 1)
    began = instant(waiting["log"][0]["started_at"])
    assert instant(waiting["next_attempt_at"]) - began >= timedelta(seconds=4)
    assert (await shown(client, made))["failing_since"] is not None
    assert await send_due(database, workspace, made) == []  # its wait is not over
    await let_waits_end(database, workspace)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]
    done = await delivery(client, made, 1)
    assert (done["state"], done["next_attempt_at"]) == ("delivered", None)
    assert [(each["number"], each["status"], each["response"]) for each in done["log"]] == [
        (1, 500, "oh no"),
        (2, 200, "fine"),
    ]
    assert (await shown(client, made))["failing_since"] is None
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-sequence"] == second.headers["webhook-sequence"]
    assert verified(second, made["secret"]) == verified(first, made["secret"])


async def test_after_the_last_attempt_of_the_schedule_a_delivery_has_failed(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(404)]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    outcomes = []
    for _ in range(10):
        outcomes += await send_due(database, workspace, made)
        await let_waits_end(database, workspace)
    assert outcomes == [Outcome.POSTPONED] * 9 + [Outcome.FAILED]
    done = await delivery(client, made, 1)
    assert (done["state"], done["attempts"], len(done["log"])) == ("failed", 10, 10)
    assert await send_due(database, workspace, made) == []


async def test_what_a_receiver_asks_for_by_retry_after_is_waited_for(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(429, retry_after="3600")]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    await send_due(database, workspace, made)
    waiting = await delivery(client, made, 1)
    waits = instant(waiting["next_attempt_at"]) - instant(waiting["log"][0]["started_at"])
    assert timedelta(hours=1) <= waits < timedelta(hours=1, seconds=30)


async def test_a_redirect_is_a_failure_and_is_never_followed(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    async with receiving() as elsewhere:
        receiver.answers = [saying(302, location=elsewhere.url)]
        made = await endpoint(client, receiver.url)
        await tell(database, workspace)
        await fanned_out(database, workspace, made, 1)
        assert await send_due(database, workspace, made) == [Outcome.POSTPONED]
        assert elsewhere.connections == 0
    assert (await delivery(client, made, 1))["log"][0]["status"] == 302


async def test_who_never_answers_has_timed_out_and_is_tried_again(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.hold = asyncio.Event()
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    impatient = Outbound(allow_loopback=True, timeout=0.2)
    assert await send_due(database, workspace, made, impatient) == [Outcome.POSTPONED]
    (attempt,) = (await delivery(client, made, 1))["log"]
    assert (attempt["status"], attempt["failure"]) == (None, "timeout")


async def test_a_host_that_has_moved_inward_is_sent_nothing(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    async def inward(_: str, __: int) -> Sequence[str]:
        return ["10.0.0.7"]

    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    outbound = Outbound(allow_loopback=True, resolving=inward)
    assert await send_due(database, workspace, made, outbound) == [Outcome.POSTPONED]
    (attempt,) = (await delivery(client, made, 1))["log"]
    assert (attempt["status"], attempt["failure"]) == (None, "url_refused")
    assert receiver.connections == 0


async def test_a_receiver_that_is_gone_is_disabled_at_once_and_others_are_told(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(410)]
    made = await endpoint(client, receiver.url, description="Team channel")
    await tell(database, workspace, 2)
    await fanned_out(database, workspace, made, 2)
    first, _ = await claim(database, workspace, UUID(made["id"]), 2)
    assert await deliver(database, HERE, first, 0.5) is Outcome.FAILED
    found = await shown(client, made)
    assert not found["enabled"]
    assert found["disabled"]["reason"] == "gone"
    assert found["version"] > made["version"]
    (told,) = await events_so_far(database, client, types="webhook_endpoint.disabled")
    assert told["data"]["endpoint_id"] == made["id"]
    assert told["data"]["reason"] == "gone"
    assert told["data"]["position"] == found["disabled"]["position"]
    assert receiver.url not in str(told)
    await let_waits_end(database, workspace)
    assert await send_due(database, workspace, made) == []
    await tell(database, workspace)
    assert await fan_out(database, workspace, UUID(made["id"])) == 0


async def test_after_five_days_of_nothing_but_failures_an_endpoint_is_disabled(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(503)]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    for day in range(6):
        assert (await shown(client, made))["enabled"], day
        await send_due(database, workspace, made)
        await let_waits_end(database, workspace)
        columns = ["failing_since", "last_failed_at"]
        await let_time_pass(database, workspace, "webhook_endpoint", columns, "1 day")
    found = await shown(client, made)
    assert found["disabled"]["reason"] == "failing"
    (told,) = await events_so_far(database, client, types="webhook_endpoint.disabled")
    assert told["data"]["failing_since"] is not None
    enabled = await client.patch(f"{ENDPOINTS}/{made['id']}", json={"enabled": True}, headers=ANY)
    assert enabled.json()["failing_since"] is None
    receiver.answers = [saying(204)]
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]


async def test_two_that_claim_at_once_share_what_is_due(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    ids = await tell(database, workspace, 40)
    await fanned_out(database, workspace, made, 40)
    claimed = await asyncio.gather(
        *(claim(database, workspace, UUID(made["id"]), 25) for _ in range(4))
    )
    all_claimed = [each for one in claimed for each in one]
    assert sorted(each.sequence for each in all_claimed) == list(range(1, 41))
    await asyncio.gather(*(deliver(database, HERE, each, 0.5) for each in all_claimed))
    assert sorted(got.headers["webhook-id"] for got in receiver.received) == sorted(map(str, ids))
    assert len(await deliveries(client, made, state="delivered")) == 40


async def test_a_delivery_whose_worker_died_after_sending_is_sent_again_when_its_lease_is_over(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    (dead,) = await claim(database, workspace, UUID(made["id"]), 1)
    late = await send(HERE, dead)
    assert await claim(database, workspace, UUID(made["id"]), 1) == []
    await let_waits_end(database, workspace)
    (alive,) = await claim(database, workspace, UUID(made["id"]), 1)
    assert (dead.number, alive.number) == (1, 2)
    # The dead one was only slow, and comes back in the middle: it has no say any more.
    assert await note(database, dead, late, 0.5) is Outcome.SUPERSEDED
    assert await deliver(database, HERE, alive, 0.5) is Outcome.DELIVERED
    assert await note(database, dead, late, 0.5) is Outcome.SUPERSEDED
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    done = await delivery(client, made, 1)
    assert (done["state"], [each["number"] for each in done["log"]]) == ("delivered", [2])


async def test_many_that_read_the_feed_at_once_add_each_delivery_once_and_in_order(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    ids: list[UUID] = []
    for _ in range(4):
        ids += await tell(database, workspace, PAGE // 2)
    added = 0
    async with asyncio.timeout(30):
        while added < len(ids):
            added += sum(
                await asyncio.gather(
                    *(fan_out(database, workspace, UUID(made["id"])) for _ in range(4))
                )
            )

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
    added = {
        name: await fan_out(database, workspace, UUID(each["id"])) for name, each in made.items()
    }
    assert added == {"manager": 1, "talks": 1, "wins": 1, "sales": 4, "all": 5, "history": 6}
    await send_due(database, workspace, made["manager"])
    (got,) = receiver.received
    assert verified(got, made["manager"]["secret"])["data"]["to_stage"] == "talks"


async def test_an_endpoint_is_told_of_what_happens_from_its_making_on(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await tell(database, workspace, 3)
    await events_so_far(database, client)
    made = await endpoint(client, receiver.url)
    (after,) = await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert [each["event_id"] for each in await deliveries(client, made)] == [str(after)]


async def test_what_is_erased_is_sent_to_nobody_and_what_was_answered_is_forgotten(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    receiver.answers = [saying(500, "canary"), saying(204)]
    made = await endpoint(client, receiver.url, types=["opportunity.created"])
    deal = await open_deal(client, name="canary")
    other = await open_deal(client)
    await fanned_out(database, workspace, made, 2)
    (first,) = await claim(database, workspace, UUID(made["id"]), 1)
    await deliver(database, HERE, first, 0.5)
    assert (await delivery(client, made, 1))["log"][0]["response"] == "canary"
    erased = await client.delete(f"/v1/opportunities/{deal['id']}", headers=ANY)
    assert erased.status_code == 204
    assert (await delivery(client, made, 1))["log"][0]["response"] == ""
    await let_waits_end(database, workspace)
    await send_due(database, workspace, made)
    sent = {got.headers["webhook-sequence"]: got for got in receiver.received}
    again = verified(sent["1"], made["secret"])
    assert (again["opportunity_id"], again["data"]) == (deal["id"], {})
    assert b"canary" not in sent["1"].body
    assert verified(sent["2"], made["secret"])["data"]["opportunity"]["id"] == other["id"]
