"""Handing a deal over to another pipeline, and taking that back."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.pipeline import Flow
from app.storage.engine import Database
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.logs import assert_is_chain, whole_log

DEALS = "/v1/opportunities"


@pytest.fixture
async def pipelines(database: Database, principal: Principal) -> None:
    for key, flow in (("sales", Flow.FREE), ("renewals", Flow.FREE), ("strict", Flow.SEQUENTIAL)):
        await keep_pipeline(
            database, principal.workspace_id, replace(sales_pipeline(flow), key=key)
        )


async def hand_off(
    client: httpx.AsyncClient, deal_id: str, pipeline: str = "renewals", **more: Any
) -> httpx.Response:
    return await client.post(f"{DEALS}/{deal_id}/hand-off", json={"pipeline": pipeline, **more})


async def read(client: httpx.AsyncClient, deal_id: str) -> Any:
    return (await client.get(f"{DEALS}/{deal_id}")).json()


async def void_last(client: httpx.AsyncClient, deal_id: str) -> httpx.Response:
    standing = [row for row in await whole_log(client, deal_id) if row["voided"] is None]
    return await client.post(
        f"/v1/transitions/{standing[-1]['id']}/void", json={"reason": "Too early"}
    )


async def test_an_open_deal_ends_here_and_opens_there_at_the_same_instant(
    client: httpx.AsyncClient, pipelines: None
) -> None:
    facts = {
        "owner": "mia",
        "tags": ["vip"],
        "attributes": {"seats": 3},
        "amount": {"amount": "5.00", "currency": "EUR"},
        "expected_close_on": "2026-12-24",
        "external_id": "CRM-1",
    }
    deal = await open_deal(client, opened_at="2026-01-01T00:00:00Z", **facts)
    answer = await hand_off(
        client, deal["id"], stage="talks", occurred_at="2026-01-03T00:00:00Z", note="Over to you"
    )
    new = answer.json()
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    assert answer.headers["Location"] == f"{DEALS}/{new['id']}"
    assert {name: new[name] for name in facts} == facts
    assert (new["pipeline"], new["stage"], new["seq"]) == ("renewals", "talks", 1)
    assert new["opened_at"] == "2026-01-03T00:00:00Z"
    old = await read(client, deal["id"])
    assert (old["status"], old["closed_at"]) == ("handed_off", "2026-01-03T00:00:00Z")
    assert old["idle"]["goes_idle_at"] is None
    log = await whole_log(client, deal["id"])
    assert_is_chain(log)
    assert (log[1]["kind"], log[1]["note"]) == ("handed_off", "Over to you")
    assert log[1]["linked_opportunity_id"] == new["id"]
    assert log[1]["dwell_seconds"] == 2 * 86_400
    (opening,) = await whole_log(client, new["id"])
    assert (opening["kind"], opening["linked_opportunity_id"]) == ("opened", deal["id"])


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_a_closed_deal_stays_as_it_is_but_for_the_link(
    client: httpx.AsyncClient, pipelines: None, outcome: str
) -> None:
    deal = await open_deal(client, external_id="CRM-1")
    reason = {"loss_reason": "price"} if outcome == "lost" else {}
    closed = (await move(client, deal["id"], outcome, **reason))["opportunity"]
    new = (await hand_off(client, deal["id"])).json()
    linked = await read(client, deal["id"])
    changed = {"version", "seq", "updated_at", "continued_as", "external_id"}
    assert {k: v for k, v in linked.items() if k not in changed} == {
        k: v for k, v in closed.items() if k not in changed
    }
    assert (linked["continued_as"], linked["external_id"]) == (new["id"], None)
    link = (await whole_log(client, deal["id"]))[-1]
    assert (link["kind"], link["entered_at"], link["dwell_seconds"]) == ("handed_off", None, None)
    # What went on elsewhere is moved there, and no stage here is offered.
    refused = await client.post(f"{DEALS}/{deal['id']}/transitions", json={"to_stage": "lead"})
    assert (refused.status_code, refused.json()["code"]) == (409, "handed_off")
    offered = (await client.get(f"{DEALS}/{deal['id']}/next-stages")).json()["items"]
    assert {stage["allowed"] for stage in offered} == {False}
    again = await hand_off(client, deal["id"])
    assert (again.status_code, again.json()["code"]) == (409, "handed_off")
    # Taken back, it is the closed deal that it was, and may be reopened.
    undone = await void_last(client, deal["id"])
    assert undone.status_code == 200, undone.text
    back = undone.json()["opportunity"]
    same = set(closed) - {"version", "seq", "updated_at"}
    assert {name: back[name] for name in same} == {name: closed[name] for name in same}
    await move(client, deal["id"], "lead")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"pipeline": "sales"}, 422, "invalid"),
        ({"pipeline": "nowhere"}, 404, "not_found"),
        ({"pipeline": "renewals", "stage": "nowhere"}, 422, "unknown_stage"),
        ({"pipeline": "renewals", "stage": "won"}, 422, "move_not_allowed"),
        ({"pipeline": "strict", "stage": "talks"}, 422, "move_not_allowed"),
        ({"pipeline": "renewals", "occurred_at": "2000-01-01T00:00:00Z"}, 422, "time_out_of_range"),
        ({"pipeline": "renewals", "kind": "won"}, 422, "invalid"),
    ],
)
async def test_a_refused_hand_off_changes_nothing(
    client: httpx.AsyncClient, pipelines: None, body: dict[str, str], status: int, code: str
) -> None:
    deal = await open_deal(client, external_id="CRM-1")
    answer = await client.post(f"{DEALS}/{deal['id']}/hand-off", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await read(client, deal["id"]) == deal
    assert len((await client.get(DEALS)).json()["items"]) == 1


async def test_a_repeated_hand_off_opens_one_deal(
    client: httpx.AsyncClient, pipelines: None
) -> None:
    deal = await open_deal(client)
    path = f"{DEALS}/{deal['id']}/hand-off"
    first, again = [
        await client.post(path, json={"pipeline": "renewals"}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    stale = await client.post(path, json={"pipeline": "renewals"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")


async def test_a_hand_off_is_taken_back_only_while_the_new_deal_stands_at_its_opening(
    client: httpx.AsyncClient, pipelines: None
) -> None:
    deal = await open_deal(client, external_id="CRM-1")
    before = await read(client, deal["id"])
    new = (await hand_off(client, deal["id"])).json()
    await move(client, new["id"], "offer")
    refused = await void_last(client, deal["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await void_last(client, new["id"])).status_code == 200
    undone = await void_last(client, deal["id"])
    assert undone.status_code == 200, undone.text
    back = undone.json()["opportunity"]
    same = set(before) - {"version", "seq", "updated_at"}
    assert {name: back[name] for name in same} == {name: before[name] for name in same}
    assert (await client.get(f"{DEALS}/{new['id']}")).status_code == 404
    assert_is_chain(await whole_log(client, deal["id"]))
    # And it can be handed off anew.
    assert (await hand_off(client, deal["id"])).status_code == 201


@pytest.mark.parametrize("touch", ["patched", "called", "handed on"])
async def test_what_was_done_with_the_new_deal_is_not_erased_by_taking_it_back(
    client: httpx.AsyncClient, pipelines: None, touch: str
) -> None:
    deal = await open_deal(client)
    new = (await hand_off(client, deal["id"])).json()
    path, any_version = f"{DEALS}/{new['id']}", {"If-Match": "*"}
    match touch:
        case "patched":
            answer = await client.patch(path, json={"owner": "tom"}, headers=any_version)
        case "called":
            answer = await client.post(
                f"{path}/activities", json={"kind": "call", "occurred_at": new["opened_at"]}
            )
        case _:
            answer = await hand_off(client, new["id"], "strict")
    assert answer.is_success, answer.text
    refused = await void_last(client, deal["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await read(client, deal["id"]))["continued_as"] == new["id"]


async def test_a_hand_off_to_a_deal_that_was_deleted_is_taken_back_without_its_external_id(
    client: httpx.AsyncClient, pipelines: None
) -> None:
    deal = await open_deal(client, external_id="CRM-1")
    new = (await hand_off(client, deal["id"])).json()
    await client.delete(f"{DEALS}/{new['id']}", headers={"If-Match": "*"})
    undone = await void_last(client, deal["id"])
    assert undone.status_code == 200, undone.text
    back = undone.json()["opportunity"]
    assert (back["status"], back["stage"], back["continued_as"]) == ("open", "lead", None)
    assert back["external_id"] is None
    await move(client, deal["id"], "offer")
    # The external id is whoever's takes it.
    await open_deal(client, external_id="CRM-1")
