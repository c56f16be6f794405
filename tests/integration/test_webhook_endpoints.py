"""Webhook endpoints over HTTP: made, changed, given new secrets, tested, replayed, deleted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.actions.deliver_webhook import Outcome, deliver
from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.domain.webhook import MOST_ENDPOINTS
from app.main import create_app
from app.settings import Settings
from app.storage.engine import Connection, Database
from tests.asking import decided
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, sales_pipeline
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
    refused,
    send_due,
    shown,
    tell,
)

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


async def test_an_endpoint_is_shown_as_it_was_made_and_its_secret_this_once(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    asked = {
        "url": URL,
        "description": "Tells the manager",
        "types": ["stage.entered"],
        "pipeline": "sales",
        "stages": ["talks"],
        "include_historical": True,
    }
    answer = await client.post(ENDPOINTS, json=asked)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{ENDPOINTS}/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert {name: made[name] for name in asked} == asked
    assert made["enabled"]
    assert Webhook(made["secret"])
    one = await client.get(answer.headers["Location"])
    assert one.json() == {name: value for name, value in made.items() if name != "secret"}
    assert one.headers["ETag"] == '"1"'


async def test_the_same_request_again_makes_no_second_endpoint(client: httpx.AsyncClient) -> None:
    once = {"Idempotency-Key": "once"}
    first = await client.post(ENDPOINTS, json={"url": URL}, headers=once)
    again = await client.post(ENDPOINTS, json={"url": URL}, headers=once)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    assert len((await client.get(ENDPOINTS)).json()["items"]) == 1
    other = await client.post(ENDPOINTS, json={"url": URL + "2"}, headers=once)
    assert (refused(other))[:2] == (422, "idempotency_key_reused")


async def test_endpoints_are_listed_page_by_page_in_the_order_of_their_making(
    client: httpx.AsyncClient,
) -> None:
    made = [(await endpoint(client, f"{URL}/{n}"))["id"] for n in range(5)]
    listed, query = [], {"limit": 2}
    while True:
        page = (await client.get(ENDPOINTS, params=query)).json()
        listed += [each["id"] for each in page["items"]]
        if page["page"]["next_cursor"] is None:
            break
        query = {"limit": 2, "cursor": page["page"]["next_cursor"]}
    assert listed == made


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"url": "http://10.0.0.1/"}, (422, "url_refused", [("/url", "not_public")])),
        ({"url": "https://169.254.169.254/"}, (422, "url_refused", [("/url", "not_public")])),
        ({"url": "https://[64:ff9b::7f00:1]/"}, (422, "url_refused", [("/url", "not_public")])),
        ({"url": "https://a@b.example/"}, (422, "url_refused", [("/url", "wrong_format")])),
        ({"url": "ftp://b.example/"}, (422, "url_refused", [("/url", "not_one_of")])),
        ({"url": "https://b.example/" + "x" * 2000}, (422, "invalid", [("/url", "too_long")])),
        ({"types": ["opportunity.exploded"]}, (422, "invalid", [("/types/0", "not_one_of")])),
        ({"pipeline": "nowhere"}, (404, "not_found", [])),
        ({"stages": ["talks"]}, (422, "invalid", [("/pipeline", "required")])),
        (
            {"pipeline": "sales", "stages": ["talks", "attic"]},
            (422, "unknown_stage", [("/stages/1", "unknown_stage")]),
        ),
        ({"secret": "whsec_"}, (422, "invalid", [("/secret", "unknown_field")])),
        ({"description": "x" * 501}, (422, "invalid", [("/description", "too_long")])),
    ],
)
async def test_what_cannot_be_is_refused_at_making_and_at_changing(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    change: dict[str, Any],
    expected: tuple[int, str, list[tuple[str, str]]],
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    answer = await client.post(ENDPOINTS, json={"url": URL, **change})
    assert refused(answer) == expected
    made = await endpoint(client, URL)
    answer = await client.patch(f"{ENDPOINTS}/{made['id']}", json=change, headers=ANY)
    assert refused(answer) == expected
    assert (await shown(client, made))["version"] == 1


async def test_without_the_switch_for_development_this_machine_is_refused(
    login_url: str, identity: tuple[Principal, ApiKey]
) -> None:
    app = create_app(Settings(database_url=login_url, webhooks=False))
    app.state.database = await Database.open(login_url)
    headers = {"Authorization": f"Bearer {identity[1]}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers
    ) as client:
        for url, code in (
            (URL, "not_one_of"),
            ("https://127.0.0.1/", "not_public"),
            ("https://localhost/", "not_public"),
            ("https://[::1]/", "not_public"),
        ):
            answer = await client.post(ENDPOINTS, json={"url": url})
            assert refused(answer) == (422, "url_refused", [("/url", code)])
    await app.state.database.close()


async def test_a_change_needs_the_version_and_what_is_left_out_stays(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    made = await endpoint(client, URL, pipeline="sales", stages=["talks"], description="A")
    one = f"{ENDPOINTS}/{made['id']}"
    assert (await client.patch(one, json={"description": "B"})).status_code == 428
    for change in ({"description": "B"}, {"url": "https://10.0.0.1/"}):  # before it is looked at
        stale = await client.patch(one, json=change, headers={"If-Match": '"7"'})
        assert stale.status_code == 412
    changed = await client.patch(one, json={"description": "B"}, headers={"If-Match": '"1"'})
    assert changed.headers["ETag"] == '"2"'
    assert changed.json()["description"] == "B"
    assert changed.json()["stages"] == ["talks"]
    same = await client.patch(one, json={"description": "B"}, headers=ANY)
    assert same.json() == changed.json()
    cleared = await client.patch(one, json={"pipeline": None, "stages": []}, headers=ANY)
    assert (cleared.json()["pipeline"], cleared.json()["stages"]) == (None, [])
    orphaned = await client.patch(one, json={"stages": ["talks"]}, headers=ANY)
    assert (refused(orphaned))[1:] == ("invalid", [("/pipeline", "required")])


async def test_a_new_secret_signs_beside_the_old_one_for_the_overlap(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    one = f"{ENDPOINTS}/{made['id']}"

    async def sent() -> Received:
        await tell(database, workspace)
        await fanned_out(database, workspace, made, 1)
        assert await send_due(database, workspace, made) == [Outcome.DELIVERED]
        return receiver.received[-1]

    def verifies(secret: str, got: Received) -> bool:
        try:
            Webhook(secret).verify(got.body, got.headers)
        except WebhookVerificationError:
            return False
        return True

    rotated = await client.post(f"{one}/secret", json={"overlap": "PT12H"})
    assert rotated.status_code == 200, rotated.text
    old, new = made["secret"], rotated.json()["secret"]
    both = await sent()
    assert (verifies(old, both), verifies(new, both)) == (True, True)
    assert both.headers["webhook-signature"].count("v1,") == 2
    await let_time_pass(database, workspace, "webhook_secret", ["expires_at"], "12 hours")
    after = await sent()
    assert (verifies(old, after), verifies(new, after)) == (False, True)
    leaked = (await client.post(f"{one}/secret", json={"overlap": "PT0S"})).json()["secret"]
    at_once = await sent()
    assert (verifies(new, at_once), verifies(leaked, at_once)) == (False, True)


async def test_no_rotation_lets_a_secret_stand_longer_and_there_are_never_too_many(
    client: httpx.AsyncClient,
) -> None:
    made = await endpoint(client, URL)
    path = f"{ENDPOINTS}/{made['id']}/secret"
    answers = [await client.post(path, json={}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 409]
    for wrong, code in (("P31D", "out_of_range"), ("1 day", "wrong_format"), (60, "wrong_type")):
        answer = await client.post(path, json={"overlap": wrong})
        assert refused(answer) == (422, "invalid", [("/overlap", code)])
    assert (await client.post(path, json={"overlap": "PT0S"})).status_code == 200
    assert (await client.post(path, json={})).status_code == 200


async def test_deliveries_are_listed_by_state_the_last_first(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(204), saying(500)]
    made = await endpoint(client, receiver.url)
    await tell(database, workspace, 3)
    await fanned_out(database, workspace, made, 3)
    await send_due(database, workspace, made)
    path = f"{ENDPOINTS}/{made['id']}/deliveries"
    first = await client.get(path, params={"limit": 2})
    assert [each["sequence"] for each in first.json()["items"]] == [3, 2]
    rest = await client.get(
        path, params={"limit": 2, "cursor": first.json()["page"]["next_cursor"]}
    )
    assert [each["sequence"] for each in rest.json()["items"]] == [1]
    assert [d["sequence"] for d in await deliveries(client, made, state="pending")] == [3, 2]
    assert [d["sequence"] for d in await deliveries(client, made, state="delivered")] == [1]
    assert await deliveries(client, made, state="failed") == []
    assert (await client.get(f"{path}/7")).status_code == 404
    for wrong in ("0", "-1", "x", str(2**63)):
        assert (await client.get(f"{path}/{wrong}")).status_code == 404, wrong


async def test_a_deleted_endpoint_is_sent_nothing_that_waits(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    one = f"{ENDPOINTS}/{made['id']}"
    assert (await client.delete(one)).status_code == 428
    assert (await client.delete(one, headers=ANY)).status_code == 204
    assert (await client.get(one)).status_code == 404
    assert (await client.delete(one, headers=ANY)).status_code == 404
    assert await send_due(database, workspace, made) == []
    assert receiver.connections == 0


async def test_there_are_so_many_endpoints_and_no_more(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    made = await endpoint(client, URL)

    async def fill(connection: Connection) -> None:
        await connection.execute(
            """
            INSERT INTO webhook_endpoint (workspace_id, endpoint_id, version, url, description,
                types, stages, include_historical, epoch, xid, n, created_at, updated_at,
                row_scope)
            SELECT workspace_id, gen_random_uuid(), version, url, description, types, stages,
                include_historical, epoch, xid, n, created_at, updated_at, row_scope
            FROM webhook_endpoint, generate_series(2, $2) WHERE workspace_id = $1
            """,
            workspace,
            MOST_ENDPOINTS,
        )

    await database.write(workspace, fill)
    full = await client.post(ENDPOINTS, json={"url": URL})
    assert (refused(full))[:2] == (409, "too_many_endpoints")
    await client.delete(f"{ENDPOINTS}/{made['id']}", headers=ANY)

    answers = await asyncio.gather(
        *(decided(client.post, ENDPOINTS, json={"url": URL}) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5


async def test_whatever_is_changed_at_once_is_one_version_and_a_streak_is_none(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    one = f"{ENDPOINTS}/{made['id']}"
    change = {"enabled": False, "description": "B"}
    disabled = await client.patch(one, json=change, headers={"If-Match": '"1"'})
    assert disabled.headers["ETag"] == '"2"'
    await events_so_far(database, client)  # else it is told of that, once it is enabled
    enabled = await client.patch(one, json={"enabled": True}, headers={"If-Match": '"2"'})
    assert enabled.headers["ETag"] == '"3"'
    receiver.answers = [saying(500), saying(204)]
    await tell(database, workspace, 2)
    await fanned_out(database, workspace, made, 2)
    assert await send_due(database, workspace, made) == [Outcome.POSTPONED, Outcome.DELIVERED]
    again = await client.patch(one, json={"description": "C"}, headers={"If-Match": '"3"'})
    assert (again.status_code, again.headers["ETag"]) == (200, '"4"')


async def test_another_url_is_tried_at_once_and_bears_no_streak(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    async with receiving() as broken:
        broken.answers = [saying(500)]
        made = await endpoint(client, broken.url)
        await tell(database, workspace, 3)
        await fanned_out(database, workspace, made, 3)
        assert await send_due(database, workspace, made) == [Outcome.POSTPONED] * 3
        await let_waits_end(database, workspace)
        *ended, under_way = await claimed_of(database, workspace, made)
        for claimed in ended:
            assert await deliver(database, HERE, claimed, 0.5) is Outcome.POSTPONED
    assert (await shown(client, made))["failing_since"] is not None
    one = f"{ENDPOINTS}/{made['id']}"
    same = await client.patch(one, json={"description": "B"}, headers=ANY)
    assert same.json()["failing_since"] is not None
    assert await send_due(database, workspace, made) == []
    changed = await client.patch(one, json={"url": receiver.url}, headers=ANY)
    assert changed.json()["failing_since"] is None
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED] * 2
    assert under_way.sequence == 3  # and stays its worker's
    assert [each["attempts"] for each in await deliveries(client, made)] == [2, 3, 3]


@pytest.mark.parametrize("status", [410, 500])
async def test_what_the_old_url_answers_late_is_held_against_no_other(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    receiver: Receiver,
    status: int,
) -> None:
    async with receiving() as old:
        old.answers, old.hold = [saying(status)], asyncio.Event()
        made = await endpoint(client, old.url)
        await tell(database, workspace)
        await fanned_out(database, workspace, made, 1)
        under_way = asyncio.create_task(send_due(database, workspace, made))
        await old.keeps_waiting(1)
        one = f"{ENDPOINTS}/{made['id']}"
        changed = await client.patch(one, json={"url": receiver.url}, headers=ANY)
        assert changed.status_code == 200
        old.hold.set()
        assert await under_way == [Outcome.POSTPONED]
    found = await shown(client, made)
    assert (found["enabled"], found["failing_since"]) == (True, None)
    assert await send_due(database, workspace, made) == [Outcome.DELIVERED]
    assert [each["status"] for each in (await delivery(client, made, 1))["log"]] == [status, 204]


async def test_another_workspace_sees_nothing_of_it_and_scopes_are_asked_for(
    client: httpx.AsyncClient,
    database: Database,
    service: Callable[[ApiKey], httpx.AsyncClient],
) -> None:
    made = await endpoint(client, URL)
    one = f"{ENDPOINTS}/{made['id']}"
    _, key = await make_workspace(database)
    stranger = service(key)
    assert (await stranger.get(ENDPOINTS)).json()["items"] == []
    for answer in (
        await stranger.get(one),
        await stranger.patch(one, json={"enabled": False}, headers=ANY),
        await stranger.delete(one, headers=ANY),
        await stranger.post(f"{one}/secret", json={}),
        await stranger.post(f"{one}/test"),
        await stranger.post(f"{one}/replays", json={"after": "0-0-0"}),
        await stranger.get(f"{one}/deliveries"),
        await stranger.get(f"{one}/deliveries/1"),
        await stranger.post(f"{one}/deliveries/1/replay"),
        await client.get(f"{ENDPOINTS}/{uuid4()}"),
    ):
        assert answer.status_code == 404, answer.request.url
    _, reading = await make_workspace(database, Scope.WEBHOOKS_READ)
    reader = service(reading)
    assert (await reader.get(ENDPOINTS)).status_code == 200
    assert (await reader.post(ENDPOINTS, json={"url": URL})).status_code == 403
    _, following = await make_workspace(database, Scope.EVENTS_READ)
    assert (await service(following).get(ENDPOINTS)).status_code == 403


async def test_no_answer_but_the_first_bears_a_secret(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    made = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, made, 1)
    await send_due(database, workspace, made)
    one = f"{ENDPOINTS}/{made['id']}"
    shown_later = [
        (await client.get(path)).text
        for path in (ENDPOINTS, one, f"{one}/deliveries", f"{one}/deliveries/1", "/v1/events")
    ]
    assert not any("whsec_" in text or made["secret"][6:] in text for text in shown_later)
    log = await delivery(client, made, 1)
    assert "secret" not in log
