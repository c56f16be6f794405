"""Every event that an action can write is what its published schema says, in feed and stream."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from app.actions.load_demo import load_demo
from app.domain.access import Principal
from app.domain.webhook import DISABLED, TESTED
from app.http import openapi
from app.http.schemas.events import EVENTS, EventName
from app.jobs.run_imports import run_pending_imports
from app.main import create_app
from app.settings import load_settings
from app.storage import events
from app.storage.engine import Connection, Database
from app.storage.statement import execute
from tests.conftest import make_workspace
from tests.factories import move, open_deal
from tests.feed import events_so_far
from tests.idle import ago, flags, scan

ANY = {"If-Match": "*"}
TYPES = [get_args(event.model_fields["type"].annotation)[0] for event in EVENTS]
DOCS = Path(__file__).parents[2] / "docs" / "events.md"

STAGES: list[dict[str, Any]] = [
    {"key": "lead", "name": "Lead", "kind": "open", "idle_after": "P7D", "probability": 0.1},
    {"key": "offer", "name": "Offer", "kind": "open"},
    {"key": "talks", "name": "Talks", "kind": "open", "idle_after": "P1D", "probability": 0.5},
    {"key": "parked", "name": "Parked", "kind": "open", "off_path": True},
    {"key": "won", "name": "Won", "kind": "won"},
    {
        "key": "lost",
        "name": "Lost",
        "kind": "lost",
        "loss_reasons": [{"key": "price", "name": "Price"}],
    },
]
MAPPING = {
    "shape": "long",
    "deal": "deal",
    "stage": "stage",
    "occurred_at": "at",
    "facts": {"amount": "amount", "owner": "owner"},
    "constants": {"currency": "EUR"},
    "activities": {"phoned": "call"},
}
HEAD = "deal,stage,at,amount,owner\n"
PAST = "D1,lead,2020-01-01T00:00:00Z,100.00,mia\nD1,offer,2020-01-05T00:00:00Z,120.00,tom\n"
LATER = "D1,lost,2020-02-01T00:00:00Z,120.00,tom\n"
OTHER = "D1,lead,2019-12-30T00:00:00Z,90.00,mia\nD1,won,2020-03-01T00:00:00Z,90.00,mia\n"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(openapi.text(create_app(load_settings())))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def checked(document: dict[str, Any]) -> Draft202012Validator:
    """The published schema of an event, its formats included."""
    schema = {"$ref": "#/components/schemas/Event", "components": document["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def ok(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def define(client: httpx.AsyncClient, key: str, stages: list[dict[str, Any]]) -> Any:
    body = {"key": key, "name": key.title(), "flow": "free", "stages": stages}
    return ok(await client.put(f"/v1/pipelines/{key}", json=body))


async def live_as_deals_do(client: httpx.AsyncClient) -> None:
    """Every kind of move, an edit of every field, an undo, a follow-up, a deletion."""
    deal = await open_deal(client, amount={"amount": "1250.50", "currency": "EUR"}, owner="mia")
    one = f"/v1/opportunities/{deal['id']}"
    edit = {
        "name": "Another",
        "amount": {"amount": "7", "currency": "USD"},
        "owner": None,
        "tags": ["a"],
        "attributes": {"nested": {"list": [1, None]}},
        "expected_close_on": "2027-01-31",
    }
    ok(await client.patch(one, json=edit, headers=ANY))
    for to_stage in ("talks", "lead", "offer", "parked", "talks", "won", "lead", "lost", "won"):
        more = {"loss_reason": "price"} if to_stage == "lost" else {}
        moved = await move(client, deal["id"], to_stage, **more)
    ok(
        await client.post(
            f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "A slip."}
        )
    )
    said = {"kind": "call", "content": "Hello.", "next_step": "Call", "next_step_at": ago(days=-3)}
    for activity in ({"kind": "note"}, said):
        ok(await client.post(f"{one}/activities", json=activity))
    ok(await client.post(f"{one}/hand-off", json={"pipeline": "renewals"}))
    while_open = await open_deal(client)
    handed = f"/v1/opportunities/{while_open['id']}/hand-off"
    ok(await client.post(handed, json={"pipeline": "renewals"}))
    erased = await open_deal(client)
    await move(client, erased["id"], "offer")
    ok(await client.delete(f"/v1/opportunities/{erased['id']}", headers=ANY))


async def fall_idle(client: httpx.AsyncClient) -> None:
    """Flags that open, become critical, are seen to, put aside twice, resolved, and come back."""
    deals = [await open_deal(client, opened_at=ago(days=days)) for days in (8, 30, 9, 10)]
    assert await scan(client) == 4
    by_deal = {flag["opportunity"]["id"]: flag["id"] for flag in await flags(client)}
    seen, _, put_aside, moves_on = (by_deal[deal["id"]] for deal in deals)
    assert moves_on != seen
    ok(await client.post(f"/v1/idle-flags/{seen}/acknowledgement"))
    for days in (-5, -6):
        snooze = {"until": ago(days=days), "reason": "Their budget is decided then."}
        ok(await client.post(f"/v1/idle-flags/{put_aside}/snooze", json=snooze))
    moved = await move(client, deals[3]["id"], "offer")
    void = f"/v1/transitions/{moved['transition']['id']}/void"
    ok(await client.post(void, json={"reason": "A slip."}))  # its flag is open again
    await move(client, deals[2]["id"], "won")


async def import_past(client: httpx.AsyncClient, database: Database) -> None:
    """A deal of the past: new, continued, and rewritten from its beginning."""
    options: dict[str, str] = {}
    for rows in (PAST, PAST + LATER, OTHER + "D1,phoned,2020-03-02T00:00:00Z,,\n"):
        sent = await client.post(
            "/v1/pipelines/sales/imports",
            params=options,
            data={"mapping": json.dumps(MAPPING)},
            files={"file": ("history.csv", HEAD + rows, "text/csv")},
        )
        ok(sent)
        while (job := ok(await client.get(sent.headers["Location"])))["finished_at"] is None:
            await run_pending_imports(database)
        assert (job["state"], job["counts"]["rejected"]) == ("completed", 0), job
        options = {"on_conflict": "rewrite"}


async def redefine(client: httpx.AsyncClient) -> None:
    """A stage goes out of use with its open deals, some of them flagged; then the pipeline does."""
    await open_deal(client, stage="talks", opened_at=ago(days=2))
    await scan(client)
    stages = [stage for stage in STAGES if stage["key"] != "talks"]
    body = {"key": "sales", "name": "Sales", "flow": "forward", "stages": stages}
    body["move_open_to"] = {"talks": "offer"}
    ok(await client.put("/v1/pipelines/sales", json=body, headers=ANY))
    ok(await client.delete("/v1/pipelines/sales", headers=ANY))


async def disable_endpoint(database: Database, workspace: UUID) -> None:
    """What is told of an endpoint, in the words of `actions.manage_webhooks`."""
    endpoint = "019a8f0e-9f6e-7c31-9a24-8b9c0d1e2f30"
    said = {
        "endpoint_id": endpoint,
        "description": "",
        "reason": "gone",
        "failing_since": None,
        "position": "1-2-3",
    }
    told = events.append(workspace, DISABLED, said, occurred_at=datetime.now(UTC))

    async def work(connection: Connection) -> None:
        await execute(connection, [told])

    await database.write(workspace, work)


async def test_every_event_that_an_action_writes_is_what_its_schema_says(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    checked: Draft202012Validator,
) -> None:
    await define(client, "sales", STAGES)
    await define(client, "renewals", STAGES)
    await live_as_deals_do(client)
    await fall_idle(client)
    await import_past(client, database)
    await redefine(client)
    await disable_endpoint(database, principal.workspace_id)
    by_type = defaultdict[str, list[dict[str, Any]]](list)
    for event in await events_so_far(database, client):
        wrong = [f"{e.json_path}: {e.message}" for e in checked.iter_errors(event)]
        assert wrong == [], event
        by_type[event["type"]].append(event)
    assert set(by_type) == set(TYPES) - {TESTED}  # told to its endpoint alone

    moves = [event["data"] for event in by_type["opportunity.transitioned"] if event["data"]]
    assert {move["kind"] for move in moves} == {
        *("advanced", "skipped", "regressed", "sidestepped", "won", "lost", "reopened"),
        *("handed_off", "rearranged", "opened"),
    }
    said = {(move["kind"], move["from_status"], move["to_status"]) for move in moves}
    assert ("reopened", "won", "open") in said
    assert ("handed_off", "open", "handed_off") in said
    assert ("handed_off", "lost", "lost") in said  # a link alone: it stays as it was
    assert {event["data"]["previous_until"] is None for event in by_type["idle_flag.snoozed"]} == {
        True,
        False,
    }
    assert {event["data"]["resolved_by"] for event in by_type["idle_flag.resolved"]} >= {
        *("moved", "closed", "not_due")
    }
    assert [event for event in by_type["opportunity.created"] if event["data"] == {}]
    assert {True, False} == {event["historical"] for event in by_type["opportunity.created"]}


async def test_the_demo_tells_of_its_deals_as_the_schemas_say(
    database: Database, service: Any, checked: Draft202012Validator
) -> None:
    owner, key = await make_workspace(database)
    await load_demo(database, owner.workspace_id, deals=20)
    told = await events_so_far(database, service(key))
    assert {event["type"] for event in told} >= {"opportunity.created", "opportunity.transitioned"}
    for event in told:
        assert [f"{e.json_path}: {e.message}" for e in checked.iter_errors(event)] == [], event


def test_an_event_that_says_less_than_its_schema_is_told_apart(
    checked: Draft202012Validator, document: dict[str, Any]
) -> None:
    for type_ in EVENTS:
        (example,) = document["components"]["schemas"][type_.__name__]["examples"]
        assert checked.is_valid(example), type_.__name__
        for name in example["data"]:
            less = {key: value for key, value in example["data"].items() if key != name}
            schema = document["components"]["schemas"][type_.__name__]
            may_be_empty = "anyOf" in schema["properties"]["data"]
            assert checked.is_valid({**example, "data": less}) == (may_be_empty and not less)
        for name in example:
            less = {key: value for key, value in example.items() if key != name}
            assert not checked.is_valid(less), (type_.__name__, name)


def test_every_type_has_a_webhook_a_name_to_ask_by_and_a_place_in_the_docs(
    document: dict[str, Any],
) -> None:
    assert list(document["webhooks"]) == TYPES
    assert set(TYPES) - {TESTED} < set(get_args(EventName))
    names = {item["post"]["operationId"] for item in document["webhooks"].values()}
    assert len(names) == len(TYPES)
    for type_, item in document["webhooks"].items():
        body = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        assert schema["properties"]["type"]["const"] == type_
        assert item["post"]["tags"] == ["events"]
    written = DOCS.read_text()
    for name in (*get_args(EventName), TESTED):
        assert f"`{name}`" in written, name


async def test_generators_that_cannot_take_webhooks_get_the_same_without_them(
    client: httpx.AsyncClient,
) -> None:
    whole = (await client.get("/openapi.json")).json()
    for_clients = (await client.get("/openapi-client.json")).json()
    assert whole.pop("webhooks")
    assert whole == for_clients
