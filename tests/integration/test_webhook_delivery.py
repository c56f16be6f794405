"""Deliveries to a real receiver: verified, tried again, given up, and never lost or doubled."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from app.actions import deliver_webhook
from app.actions.deliver_webhook import Outcome, deliver, note, send
from app.actions.fan_out_webhooks import fan_out
from app.domain.webhook_retries import ATTEMPTS
from app.outbound import addresses
from app.outbound.sending import Outbound
from app.storage.engine import JOB, Connection, Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.receiver import Received, Receiver, receiving, saying
from tests.webhooks import (
    ANY,
    ENDPOINTS,
    HERE,
    claimed_of,
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

    made = await endpoint(client, receiver.url.replace("127.0.0.1", "localhost"))
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
    first, _ = await claimed_of(database, workspace, made, 2)
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
    assert await fan_out(database, workspace) == {}


async def test_after_five_days_of_nothing_but_failures_an_endpoint_is_disabled(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(503)]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    for _ in range(ATTEMPTS):
        await send_due(database, workspace, made)
        await let_waits_end(database, workspace)
    await let_time_pass(database, workspace, "webhook_endpoint", ["failing_since"], "30 days")
    await tell(database, workspace, 2)  # after a month in which there was nothing to tell
    await fanned_out(database, workspace, made, 2)
    for attempt in range(ATTEMPTS):
        assert (await shown(client, made))["enabled"], attempt  # one delivery proves nothing
        await send_due(database, workspace, made)
        await let_waits_end(database, workspace)
    found = await shown(client, made)
    assert found["disabled"]["reason"] == "failing"
    (told,) = await events_so_far(database, client, types="webhook_endpoint.disabled")
    assert told["data"]["failing_since"] is not None
    enabled = await client.patch(f"{ENDPOINTS}/{made['id']}", json={"enabled": True}, headers=ANY)
    assert enabled.json()["failing_since"] is None
    receiver.answers = [saying(204)]
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]


async def test_two_that_claim_at_once_share_what_is_due(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    ids = await tell(database, workspace, 40)
    await fanned_out(database, workspace, made, 40)
    claimed = await asyncio.gather(*(claimed_of(database, workspace, made, 25) for _ in range(4)))
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
    (dead,) = await claimed_of(database, workspace, made, 1)
    late = await send(HERE, dead)
    assert await claimed_of(database, workspace, made, 1) == []
    await let_waits_end(database, workspace)
    (alive,) = await claimed_of(database, workspace, made, 1)
    assert (dead.number, alive.number) == (1, 2)
    # The dead one was only slow, and comes back in the middle: it has no say any more.
    assert await note(database, dead, late, 0.5) is Outcome.SUPERSEDED
    assert await deliver(database, HERE, alive, 0.5) is Outcome.DELIVERED
    assert await note(database, dead, late, 0.5) is Outcome.SUPERSEDED
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    done = await delivery(client, made, 1)
    assert (done["state"], [each["number"] for each in done["log"]]) == ("delivered", [2])


async def test_what_is_erased_is_sent_to_nobody_and_what_was_answered_is_forgotten(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    receiver.answers = [saying(500, "canary"), saying(204)]
    made = await endpoint(client, receiver.url, types=["opportunity.created"])
    deal = await open_deal(client, name="canary")
    other = await open_deal(client)
    await fanned_out(database, workspace, made, 2)
    (first,) = await claimed_of(database, workspace, made, 1)
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


async def test_what_a_receiver_says_of_a_deal_that_is_erased_meanwhile_is_not_kept(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    receiver.answers = [saying(500, "You sent: canary")]
    made = await endpoint(client, receiver.url, types=["opportunity.created"])
    deal = await open_deal(client, name="canary")
    await fanned_out(database, workspace, made, 1)
    (under_way,) = await claimed_of(database, workspace, made, 1)
    reply = await send(HERE, under_way)
    erased = await client.delete(f"/v1/opportunities/{deal['id']}", headers=ANY)
    assert erased.status_code == 204
    assert await note(database, under_way, reply, 0.5) is Outcome.POSTPONED
    (attempt,) = (await delivery(client, made, 1))["log"]
    assert (attempt["status"], attempt["response"]) == (500, "")


async def test_a_date_that_no_clock_has_is_no_date(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    never = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    receiver.answers = [saying(503, retry_after=never)]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert await send_due(database, workspace, made) == [Outcome.POSTPONED]
    waiting = await delivery(client, made, 1)
    assert [each["status"] for each in waiting["log"]] == [503]
    waits = instant(waiting["next_attempt_at"]) - instant(waiting["log"][0]["started_at"])
    assert timedelta(seconds=4) <= waits < timedelta(seconds=30)


async def test_a_delivery_of_which_no_attempt_leaves_word_ends_after_the_last_one(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    for number in range(1, ATTEMPTS + 1):
        (dead,) = await claimed_of(database, workspace, made)
        assert dead.number == number
        await let_waits_end(database, workspace)
    assert await claimed_of(database, workspace, made) == []
    done = await delivery(client, made, 1)
    assert (done["state"], done["attempts"], done["log"]) == ("failed", ATTEMPTS, [])
    assert done["finished_at"] is not None


async def test_what_could_not_even_be_tried_is_no_failure(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speak = asyncio.Event()

    async def silent(_: str, __: int) -> Sequence[str]:
        await speak.wait()
        return ()

    monkeypatch.setattr(addresses, "ROOM_WITHIN", 0.02)
    made = await endpoint(client, receiver.url.replace("127.0.0.1", "localhost"))
    crowded = Outbound(allow_loopback=True, resolving=silent, timeout=0.05)
    for n in range(addresses.OF_ONE_WORKSPACE):
        await crowded.post(f"http://silent{n}.example/", {}, b"", workspace)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert await send_due(database, workspace, made, crowded) == [Outcome.POSTPONED]
    speak.set()
    waiting = await delivery(client, made, 1)
    assert (waiting["state"], waiting["attempts"], waiting["log"]) == ("pending", 0, [])
    assert (await shown(client, made))["failing_since"] is None
    await let_waits_end(database, workspace)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]
    assert [each["number"] for each in (await delivery(client, made, 1))["log"]] == [1]


async def test_a_success_is_noted_though_the_database_is_busy_at_that_moment(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliver_webhook, "BETWEEN_NOTES", 0.0)
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    (under_way,) = await claimed_of(database, workspace, made, 1)

    async def hold(connection: Connection) -> asyncio.Task[Outcome]:
        await connection.execute(
            "SELECT FROM webhook_delivery WHERE workspace_id = $1 FOR UPDATE", workspace
        )
        delivering = asyncio.create_task(deliver(database, HERE, under_way, 0.5))
        await receiver.has(1)
        await asyncio.wait({delivering}, timeout=JOB.lock + 0.5)  # one wait for the lock ends
        return delivering

    assert await (await database.write(workspace, hold)) is Outcome.DELIVERED
    assert len(receiver.received) == 1
    assert (await delivery(client, made, 1))["state"] == "delivered"
