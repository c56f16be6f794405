"""Moving deals over HTTP: what is allowed, what the log then says, what is refused."""

from dataclasses import replace

import httpx
import pytest

from app.domain.access import Principal
from app.domain.pipeline import Flow
from app.storage.engine import Database
from tests.factories import guarded, keep_pipeline, move, open_deal, sales_pipeline


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def test_a_move_answers_the_row_of_the_log_and_the_deal(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, owner="mia", amount={"amount": "10.5", "currency": "EUR"})
    answer = await client.post(
        f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": "offer", "note": "Sent"}
    )
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["ETag"] == '"2"'
    assert answer.headers["Location"] == f"/v1/transitions/{body['transition']['id']}"
    assert body["transition"]["kind"] == "advanced"
    assert body["transition"]["from_stage"] == "lead"
    assert body["transition"]["entered_at"] == deal["stage_entered_at"]
    assert body["transition"]["amount"] == {"amount": "10.50", "currency": "EUR"}
    assert body["transition"]["owner"] == "mia"
    assert body["opportunity"]["stage"] == "offer"
    assert body["opportunity"]["version"] == 2
    read = await client.get(f"/v1/opportunities/{deal['id']}")
    assert read.json() == body["opportunity"]
    one = await client.get(answer.headers["Location"])
    assert one.json() == body["transition"]


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        (["offer", "talks", "won"], ["advanced", "advanced", "won"]),
        (["talks", "lead"], ["skipped", "regressed"]),
        (["parked", "offer"], ["sidestepped", "sidestepped"]),
        (["won", "offer"], ["won", "reopened"]),
        (["won", "lost", "lead"], ["won", "lost", "reopened"]),
    ],
)
async def test_kinds_are_derived_from_where_a_deal_comes_from_and_goes(
    client: httpx.AsyncClient, sales: None, path: list[str], kinds: list[str]
) -> None:
    deal = await open_deal(client)
    for to_stage in path:
        more = {"loss_reason": "price"} if to_stage == "lost" else {}
        await move(client, deal["id"], to_stage, **more)
    log = (await client.get(f"/v1/opportunities/{deal['id']}/transitions")).json()["items"]
    assert [row["kind"] for row in log] == ["opened", *kinds]
    assert [row["seq"] for row in log] == list(range(1, len(path) + 2))


async def test_closing_stamps_the_close_and_reopening_clears_it(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    won = await move(client, deal["id"], "won")
    assert won["opportunity"]["status"] == "won"
    assert won["opportunity"]["closed_at"] == won["transition"]["occurred_at"]
    assert won["opportunity"]["idle"]["goes_idle_at"] is None
    again = await client.post(
        f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": "won"}
    )
    assert (again.status_code, again.json()["code"]) == (409, "already_closed")
    reopened = await move(client, deal["id"], "talks")
    assert reopened["opportunity"]["status"] == "open"
    assert reopened["opportunity"]["closed_at"] is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"to_stage": "lead"}, 409, "already_there"),
        ({"to_stage": "nowhere"}, 422, "unknown_stage"),
        ({"to_stage": "lost"}, 422, "loss_reason_required"),
        ({"to_stage": "lost", "loss_reason": "weather"}, 422, "loss_reason_required"),
        ({"to_stage": "won", "loss_reason": "price"}, 422, "invalid"),
        ({"to_stage": "won", "occurred_at": "2999-01-01T00:00:00Z"}, 422, "time_out_of_range"),
        ({"to_stage": "won", "occurred_at": "2000-01-01T00:00:00Z"}, 422, "time_out_of_range"),
        ({"to_stage": "won", "kind": "won"}, 422, "invalid"),
    ],
)
async def test_a_refused_move_changes_nothing(
    client: httpx.AsyncClient, sales: None, body: dict[str, str], status: int, code: str
) -> None:
    deal = await open_deal(client)
    answer = await client.post(f"/v1/opportunities/{deal['id']}/transitions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await client.get(f"/v1/opportunities/{deal['id']}")).json() == deal
    log = (await client.get(f"/v1/opportunities/{deal['id']}/transitions")).json()["items"]
    assert len(log) == 1


async def test_if_match_lets_exactly_one_of_two_callers_move(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    path = f"/v1/opportunities/{deal['id']}/transitions"
    first = await client.post(path, json={"to_stage": "offer"}, headers={"If-Match": '"1"'})
    second = await client.post(path, json={"to_stage": "talks"}, headers={"If-Match": '"1"'})
    assert (first.status_code, second.status_code) == (201, 412)
    assert second.json()["code"] == "stale"


async def test_a_repeated_request_is_answered_byte_for_byte_and_moves_once(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    path = f"/v1/opportunities/{deal['id']}/transitions"
    key = {"Idempotency-Key": '"move-1"'}
    first = await client.post(path, json={"to_stage": "offer"}, headers=key)
    again = await client.post(path, json={"to_stage": "offer"}, headers=key)
    other = await client.post(path, json={"to_stage": "talks"}, headers=key)
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    log = (await client.get(path)).json()["items"]
    assert len(log) == 2


async def test_a_stage_says_what_is_missing_to_every_caller_and_an_override_is_kept(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    pipeline = guarded(sales_pipeline(), "talks", "/amount", "/attributes/budget")
    await keep_pipeline(database, principal.workspace_id, pipeline)
    deal = await open_deal(client)
    path = f"/v1/opportunities/{deal['id']}/transitions"
    refused = await client.post(path, json={"to_stage": "talks"})
    assert (refused.status_code, refused.json()["code"]) == (422, "requirements_missing")
    wanted = ["/amount", "/attributes/budget"]
    assert [breach["pointer"] for breach in refused.json()["errors"]] == wanted
    batch = await client.post(
        "/v1/transitions/batch",
        json={"moves": [{"opportunity_id": deal["id"], "to_stage": "talks"}]},
    )
    outcome = batch.json()["outcomes"][0]
    assert (outcome["status"], outcome["problem"]["code"]) == (422, "requirements_missing")
    stages = (await client.get(f"/v1/opportunities/{deal['id']}/next-stages")).json()["items"]
    talks = next(s for s in stages if s["stage"] == "talks")
    assert not talks["allowed"]
    assert [breach["pointer"] for breach in talks["missing"]] == wanted
    passed = await move(client, deal["id"], "talks", override={"reason": "Board said so"})
    assert passed["transition"]["override_reason"] == "Board said so"


async def test_an_override_is_recorded_only_where_it_passed_a_requirement_over(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await keep_pipeline(
        database, principal.workspace_id, guarded(sales_pipeline(), "talks", "/owner")
    )
    override = {"override": {"reason": "Board said so"}}
    for owner, recorded in ((None, "Board said so"), ("mia", None)):
        deal = await open_deal(client, owner=owner)
        moved = await move(client, deal["id"], "talks", **override)
        assert moved["transition"]["override_reason"] == recorded


async def test_no_deal_comes_into_being_in_a_stage_without_what_it_requires(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    for pipeline in (sales_pipeline(), replace(sales_pipeline(), key="renewals")):
        needing = guarded(pipeline, "talks", "/owner", "/attributes/budget")
        needing = replace(needing, key=pipeline.key, pipeline_id=pipeline.pipeline_id)
        await keep_pipeline(database, principal.workspace_id, needing)
    deal = await open_deal(client)
    wanted = {"pipeline": "sales", "name": "A deal", "stage": "talks"}
    asked = [
        ("POST", "/v1/opportunities", wanted),
        ("PUT", "/v1/opportunities/by-external-id/CRM-1", wanted),
        (
            "POST",
            f"/v1/opportunities/{deal['id']}/hand-off",
            {"pipeline": "renewals", "stage": "talks"},
        ),
    ]
    for method, path, body in asked:
        refused = await client.request(method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "requirements_missing")
        pointers = [breach["pointer"] for breach in refused.json()["errors"]]
        assert pointers == ["/owner", "/attributes/budget"]
    assert len((await client.get("/v1/opportunities")).json()["items"]) == 1
    bears = {"owner": "mia", "attributes": {"budget": 0}}
    for method, path, body in asked[:2]:
        done = await client.request(method, path, json=body | bears)
        assert done.status_code == 201, done.text
    await client.patch(f"/v1/opportunities/{deal['id']}", json=bears, headers={"If-Match": "*"})
    method, path, body = asked[2]
    assert (await client.request(method, path, json=body)).status_code == 201


@pytest.mark.parametrize(
    ("flow", "refused"),
    [
        (Flow.FORWARD, {"talks": False, "offer": True}),
        (Flow.SEQUENTIAL, {"won": True}),
    ],
)
async def test_the_flow_decides_where_a_deal_may_go(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    flow: Flow,
    refused: dict[str, bool],
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(flow))
    deal = await open_deal(client)
    for to_stage, is_refused in refused.items():
        answer = await client.post(
            f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": to_stage}
        )
        assert answer.status_code == (422 if is_refused else 201), answer.text


async def test_the_last_move_can_be_voided_and_the_one_before_it(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    first = await move(client, deal["id"], "offer")
    second = await move(client, deal["id"], "won")
    early = await client.post(
        f"/v1/transitions/{first['transition']['id']}/void", json={"reason": "Wrong deal"}
    )
    assert (early.status_code, early.json()["code"]) == (409, "not_last_transition")
    undone = await client.post(
        f"/v1/transitions/{second['transition']['id']}/void", json={"reason": "Wrong deal"}
    )
    assert undone.status_code == 200
    assert undone.json()["transition"]["voided"]["reason"] == "Wrong deal"
    back = undone.json()["opportunity"]
    assert (back["stage"], back["status"], back["closed_at"]) == ("offer", "open", None)
    assert back["stage_entered_at"] == first["transition"]["occurred_at"]
    twice = await client.post(
        f"/v1/transitions/{second['transition']['id']}/void", json={"reason": "Again"}
    )
    assert (twice.status_code, twice.json()["code"]) == (409, "already_voided")
    next_move = await move(client, deal["id"], "talks")
    assert next_move["transition"]["seq"] == 4
    assert next_move["transition"]["from_stage"] == "offer"


async def test_a_hand_off_ends_the_deal_here_and_opens_its_continuation(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    other = sales_pipeline()
    object.__setattr__(other, "key", "onboarding")
    await keep_pipeline(database, principal.workspace_id, other)
    deal = await open_deal(client, external_id="CRM-1", owner="mia")
    answer = await client.post(
        f"/v1/opportunities/{deal['id']}/hand-off", json={"pipeline": "onboarding"}
    )
    assert answer.status_code == 201, answer.text
    new = answer.json()
    old = (await client.get(f"/v1/opportunities/{deal['id']}")).json()
    assert (old["status"], old["external_id"]) == ("handed_off", None)
    assert (new["external_id"], new["owner"], new["seq"]) == ("CRM-1", "mia", 1)
    assert (old["continued_as"], new["continues"]) == (new["id"], old["id"])
    moved = await client.post(
        f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": "offer"}
    )
    assert (moved.status_code, moved.json()["code"]) == (409, "handed_off")
    log = (await client.get(f"/v1/opportunities/{deal['id']}/transitions")).json()["items"]
    undone = await client.post(
        f"/v1/transitions/{log[-1]['id']}/void", json={"reason": "Too early"}
    )
    assert undone.status_code == 200, undone.text
    assert undone.json()["opportunity"]["external_id"] == "CRM-1"
    assert undone.json()["opportunity"]["status"] == "open"
    assert (await client.get(f"/v1/opportunities/{new['id']}")).status_code == 404
