"""Deliveries on demand: a test, one again, a stretch of the feed again, what was missed."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from app.actions import replay_webhooks
from app.actions.deliver_webhook import Outcome, deliver
from app.domain.webhook_retries import ATTEMPTS
from app.storage.engine import Database
from tests.feed import events_so_far
from tests.receiver import Receiver, receiving, saying
from tests.webhooks import (
    ANY,
    ENDPOINTS,
    HERE,
    claimed_of,
    deliveries,
    endpoint,
    fanned_out,
    let_time_pass,
    let_waits_end,
    refused,
    send_due,
    shown,
    tell,
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


async def test_an_endpoint_that_is_disabled_misses_what_happens_and_a_replay_makes_up_for_it(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    one = f"{ENDPOINTS}/{made['id']}"
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    disabled = (await client.patch(one, json={"enabled": False}, headers=ANY)).json()
    assert disabled["disabled"]["reason"] == "requested"
    for path in ("test", "replays", "deliveries/1/replay"):
        body = {"json": {"after": disabled["disabled"]["position"]}} if path == "replays" else {}
        answer = await client.post(f"{one}/{path}", **body)
        assert (refused(answer))[:2] == (409, "endpoint_disabled"), path
    missed = await tell(database, workspace, 2)
    (told,) = await events_so_far(database, client, types="webhook_endpoint.disabled")
    assert await send_due(database, workspace, made) == []
    enabled = await client.patch(one, json={"enabled": True}, headers=ANY)
    assert (enabled.json()["enabled"], enabled.json()["disabled"]) == (True, None)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]  # had waited
    later = await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    replayed = await client.post(
        f"{one}/replays",
        json={"after": disabled["disabled"]["position"], "undelivered_only": True},
    )
    assert replayed.status_code == 200, replayed.text
    # What was missed, the news of the disabling among it; what waits will be sent in any case.
    assert replayed.json() == {"deliveries": 3, "next": None}
    await send_due(database, workspace, made)
    ids = {got.headers["webhook-id"] for got in receiver.received}
    assert {*map(str, missed + later), told["id"]} <= ids


async def made_up_for(client: httpx.AsyncClient, made: Mapping[str, Any]) -> int:
    """As the guide says: keep the position, enable it, replay from there; how many are added."""
    one = f"{ENDPOINTS}/{made['id']}"
    position = (await shown(client, made))["disabled"]["position"]
    await client.patch(one, json={"enabled": True}, headers=ANY)
    asked = {"after": position, "undelivered_only": True}
    replayed = await client.post(f"{one}/replays", json=asked)
    assert replayed.status_code == 200, replayed.text
    assert replayed.json()["next"] is None
    added: int = replayed.json()["deliveries"]
    return added


async def test_what_was_answered_gone_is_made_up_for_by_the_replay_that_is_documented(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]
    receiver.answers = [saying(410)]
    gone = [*await tell(database, workspace), *await tell(database, workspace)]
    await fanned_out(database, workspace, made, 2)
    first, second = await claimed_of(database, workspace, made)
    for under_way in (second, first):  # the one that disables it is not the first of them
        assert await deliver(database, HERE, under_way, 0.5) is Outcome.FAILED
    missed = await tell(database, workspace)
    (told,) = await events_so_far(database, client, types="webhook_endpoint.disabled")
    assert told["data"]["position"] == (await shown(client, made))["disabled"]["position"]
    receiver.answers, receiver.received = [saying(204)], []
    assert await made_up_for(client, made) == 4
    await send_due(database, workspace, made)
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert sorted(ids) == sorted([*map(str, gone + missed), told["id"]])


async def test_what_used_up_its_attempts_before_a_disabling_is_made_up_for_too(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(503)]
    made = await endpoint(client, receiver.url)
    failed = [*await tell(database, workspace), *await tell(database, workspace)]
    await fanned_out(database, workspace, made, 2)
    for _ in range(ATTEMPTS - 1):
        await send_due(database, workspace, made)
        await let_waits_end(database, workspace)
    await let_time_pass(database, workspace, "webhook_endpoint", ["failing_since"], "5 days")
    last = await send_due(database, workspace, made)
    assert last == [Outcome.FAILED] * 2
    assert (await shown(client, made))["disabled"]["reason"] == "failing"
    (told,) = await events_so_far(database, client, types="webhook_endpoint.disabled")
    receiver.answers, receiver.received = [saying(204)], []
    assert await made_up_for(client, made) == 3
    await send_due(database, workspace, made)
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert sorted(ids) == sorted([*map(str, failed), told["id"]])


async def test_a_test_event_goes_to_its_endpoint_alone(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url, types=["opportunity.won"])
    other = await endpoint(client, receiver.url)
    once = {"Idempotency-Key": "test"}
    path = f"{ENDPOINTS}/{made['id']}/test"
    answer = await client.post(path, headers=once)
    assert answer.status_code == 201, answer.text
    tested = answer.json()
    assert (tested["event_type"], tested["state"]) == ("webhook.test", "pending")
    assert answer.headers["Location"].endswith(f"/deliveries/{tested['sequence']}")
    assert (await client.post(path, headers=once)).json() == tested
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]
    (got,) = receiver.received
    told = Webhook(made["secret"]).verify(got.body, got.headers)
    assert told["type"] == "webhook.test"
    assert told["data"] == {"endpoint_id": made["id"], "actor": "tester"}
    assert (told["id"], told["position"]) == (tested["event_id"], tested["position"])
    assert await events_so_far(database, client) == [told]
    await tell(database, workspace)
    await fanned_out(database, workspace, other, 1)
    assert [each["event_type"] for each in await deliveries(client, other)] == [
        "opportunity.updated"
    ]


async def test_one_delivery_is_sent_again_under_its_id_and_the_next_number(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    await tell(database, workspace, 2)
    await fanned_out(database, workspace, made, 2)
    await send_due(database, workspace, made)
    answer = await client.post(f"{ENDPOINTS}/{made['id']}/deliveries/1/replay")
    again = answer.json()
    assert (answer.status_code, again["sequence"], again["replay_of"]) == (201, 3, 1)
    await send_due(database, workspace, made)
    first, _, third = receiver.received
    assert first.headers["webhook-id"] == third.headers["webhook-id"]
    assert first.body == third.body
    assert third.headers["webhook-sequence"] == "3"
    found = await deliveries(client, made, event_id=again["event_id"])
    assert [each["sequence"] for each in found] == [3, 1]
    missing = await client.post(f"{ENDPOINTS}/{made['id']}/deliveries/9/replay")
    assert missing.status_code == 404


async def test_a_stretch_of_the_feed_is_replayed_in_pieces_to_its_last_event(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_webhooks, "AT_ONCE", 2)
    await tell(database, workspace, 8)
    feed = await events_so_far(database, client)
    made = await endpoint(client, receiver.url)
    path = f"{ENDPOINTS}/{made['id']}/replays"
    stretch = {"after": feed[0]["position"], "until": feed[5]["position"]}
    counts = []
    while True:
        page = (await client.post(path, json=stretch)).json()
        counts.append(page["deliveries"])
        if page["next"] is None:
            break
        stretch["after"] = page["next"]
    assert sum(counts) == 5
    found = await deliveries(client, made)
    assert [each["event_id"] for each in found[::-1]] == [each["id"] for each in feed[1:6]]
    for never in ("now", "1-999999999999999999-0"):
        nonsense = await client.post(path, json={"after": never})
        assert (nonsense.status_code, nonsense.json()["code"]) == (400, "invalid_cursor")


async def test_what_a_stretch_sends_again_says_what_it_repeats_and_what_waits_is_not_doubled(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    await tell(database, workspace)
    await events_so_far(database, client)
    made = await endpoint(client, receiver.url)
    receiver.answers = [saying(410)]  # ends the first
    await tell(database, workspace, 2)
    await fanned_out(database, workspace, made, 2)
    first, _ = await claimed_of(database, workspace, made, 2)
    assert await deliver(database, HERE, first, 0.5) is Outcome.FAILED
    one = f"{ENDPOINTS}/{made['id']}"
    await client.patch(one, json={"enabled": True}, headers=ANY)
    feed = await events_so_far(database, client, types="opportunity.updated")
    stretch = {"after": "0-0-0", "until": feed[-1]["position"]}
    undelivered = {**stretch, "undelivered_only": True}
    counts = [
        (await client.post(f"{one}/replays", json=body)).json()["deliveries"]
        for body in (undelivered, undelivered, stretch)
    ]
    assert counts == [2, 0, 3]
    found = await deliveries(client, made)
    said = {each["sequence"]: (each["event_id"], each["replay_of"]) for each in found}
    before, failed, waiting = (each["id"] for each in feed)
    assert said == {
        1: (failed, None),
        2: (waiting, None),
        3: (before, None),
        4: (failed, 1),
        5: (before, 3),
        6: (failed, 4),
        7: (waiting, 2),
    }


async def test_no_more_is_asked_for_again_than_may_wait(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_webhooks, "MOST_PENDING", 3)
    made = await endpoint(client, receiver.url)
    await tell(database, workspace, 3)
    await fanned_out(database, workspace, made, 3)
    one = f"{ENDPOINTS}/{made['id']}"
    asked: list[tuple[str, dict[str, str] | None]] = [
        ("test", None),
        ("deliveries/1/replay", None),
        ("replays", {"after": "0-0-0"}),
    ]
    for path, body in asked:
        assert refused(await client.post(f"{one}/{path}", json=body))[:2] == (409, "conflict")
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED] * 3
    for path, body in asked:
        assert (await client.post(f"{one}/{path}", json=body)).is_success, path


async def test_a_replay_is_not_told_to_begin_where_it_cannot(client: httpx.AsyncClient) -> None:
    made = await endpoint(client, "http://127.0.0.1:9/hook")
    answer = await client.post(f"{ENDPOINTS}/{made['id']}/replays", json={"after": "now"})
    assert refused(answer)[:2] == (400, "invalid_cursor")
    assert answer.json()["detail"].startswith("'now' is no position of this feed")
