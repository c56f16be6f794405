"""What is done to definitions, deals and history leaves one entry, in its own transaction."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.actions import define_pipeline
from app.actions.import_mapping import parse_mapping
from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.domain.definition import definition_of
from app.http.schemas.pipelines import PipelineDocument
from app.storage.engine import Database
from app.storage.idempotency import Answer
from tests.asking import decided
from tests.audit import entries, ok, the_only, told
from tests.factories import guarded, keep_pipeline, move, open_deal, sales_pipeline
from tests.integration.test_pipelines_api import document, made, opened, put, stage
from tests.webhooks import (
    ANY,
    ENDPOINTS,
)

SALES = "/v1/pipelines/sales"
Connect = Callable[[ApiKey | None], httpx.AsyncClient]


async def guarded_sales(database: Database, principal: Principal) -> None:
    """A pipeline whose stage `talks` asks for an amount."""
    pipeline = guarded(sales_pipeline(), "talks", "/amount", "/attributes/budget")
    await keep_pipeline(database, principal.workspace_id, pipeline)


# Definitions


async def test_a_pipeline_is_told_whole_when_it_is_made_by_who_made_it(
    client: httpx.AsyncClient, principal: Principal
) -> None:
    before = datetime.now(UTC)
    await made(client)
    entry = await the_only(client, "pipeline.created")
    assert (entry["actor"], entry["key_id"]) == (principal.subject, principal.key_id)
    assert before <= datetime.fromisoformat(entry["recorded_at"]) <= datetime.now(UTC)
    assert (entry["target"], entry["before"]) == ("sales", None)
    shown = ok(await client.get(SALES))
    assert entry["after"]["/name"] == shown["name"]
    assert list(entry["after"]["/stages"].values()) == shown["stages"]
    assert entry["after"]["/revision"] == 1


async def test_a_revision_is_told_by_what_it_changed(client: httpx.AsyncClient) -> None:
    await made(client, stage("a", idle_after="P7D"), stage("b"), stage("c"))
    ok(await client.patch(f"{SALES}/stages/a", json={"idle_after": "P10D"}, headers=ANY))
    entry = await the_only(client, "pipeline.updated")
    assert entry["before"] == {"/revision": 1, "/stages/a/idle_after": "P7D"}
    assert entry["after"] == {"/revision": 2, "/stages/a/idle_after": "P10D"}


async def test_every_way_to_change_a_definition_leaves_one_entry_a_revision(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    changes = [
        client.patch(SALES, json={"name": "Deals", "description": "Ours."}, headers=ANY),
        client.post(f"{SALES}/stages", json=stage("d")),
        client.post(f"{SALES}/stages/d/archive", json={}),
        client.post(f"{SALES}/stages/a/split", json={"into": [stage("a1"), stage("a2")]}),
        client.post(f"{SALES}/stages/merge", json={"stages": ["a2"], "into": "a1"}),
        client.patch(f"{SALES}/stages/b", json={"position": 1}, headers=ANY),
        client.delete(SALES, headers=ANY),
        put(client, document(), **ANY),  # in use again
    ]
    for change in changes:
        ok(await change)
    log = list(reversed(await entries(client)))
    assert [entry["action"] for entry in log] == [
        *("pipeline.created", *["pipeline.updated"] * 6, "pipeline.archived", "pipeline.updated")
    ]
    assert [entry["after"]["/revision"] for entry in log] == list(range(1, 10))
    _, named, added, archived, split, merged, placed, ended, again = log
    assert named["after"] == {"/revision": 2, "/name": "Deals", "/description": "Ours."}
    assert named["before"] == {"/revision": 1, "/name": "Sales", "/description": None}
    assert added["after"]["/stages/d"]["key"] == "d"
    assert "/stages/d" not in added["before"]
    assert archived["before"]["/stages/d/archived_at"] is None
    assert split["after"]["/stages/a/succeeded_by"] == ["a1", "a2"]
    assert merged["after"]["/stages/a2/succeeded_by"] == ["a1"]
    assert (placed["before"]["/stages/b/position"], placed["after"]["/stages/b/position"]) == (2, 1)
    assert set(ended["before"]) == {"/revision", "/archived_at"}
    assert again["after"]["/archived_at"] is None


async def test_what_changes_nothing_or_is_refused_leaves_no_entry(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    deal = await opened(client, stage="b")
    nothing = await put(client, document(), **ANY)
    assert nothing.headers["ETag"] == '"1"'
    refused = [
        await put(client, document(), **{"If-Match": '"7"'}),
        await put(client, document()),
        await client.post("/v1/pipelines", json={"key": "sales", "template": "b2b"}),
        await client.post(f"{SALES}/stages/b/archive", json={}),  # the deal stands there
        await client.patch(SALES, json={"timezone": "Nowhere"}, headers=ANY),
        await client.delete(SALES),
        await client.delete(f"/v1/opportunities/{deal['id']}"),
        await client.delete("/v1/api-keys/0123456789abcdef", headers=ANY),
        await client.post(ENDPOINTS, json={"url": "http://10.0.0.1/hook"}),
    ]
    assert [each.status_code // 100 for each in refused] == [4] * len(refused)
    assert await told(client) == ["pipeline.created"]


async def test_a_change_that_is_rolled_back_leaves_no_entry(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await made(client)

    def broken(_: object) -> Answer:
        raise RuntimeError("after everything was written")

    renamed = PipelineDocument.model_validate(document(name="Deals")).definition()
    with pytest.raises(RuntimeError):
        await define_pipeline.put_pipeline(
            *(database, principal, "sales", renamed, {}),
            check=lambda _: None,
            expects_existing=True,
            created=broken,
            replaced=broken,
        )
    assert ok(await client.get(SALES))["name"] == "Sales"
    assert await told(client) == ["pipeline.created"]


async def test_definitions_that_change_at_once_are_told_one_after_the_other(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await made(client)
    names = [f"Name {number}" for number in range(12)]
    answers = await asyncio.gather(
        *(decided(client.patch, SALES, json={"name": name}, headers=ANY) for name in names)
    )
    assert {answer.status_code for answer in answers} == {200}
    log = list(reversed(await entries(client, action="pipeline.updated")))
    assert [entry["after"]["/revision"] for entry in log] == list(range(2, 14))
    stood = ["Sales", *(entry["after"]["/name"] for entry in log)]
    assert [entry["before"]["/name"] for entry in log] == stood[:-1]
    assert sorted(stood[1:]) == sorted(names)
    async with database.read(principal.workspace_id) as connection:
        last = await define_pipeline.pipelines.read_current(
            connection, principal.workspace_id, "sales"
        )
    assert definition_of(last).name == stood[-1]


# Repeated requests


async def test_a_request_that_is_repeated_leaves_the_entry_of_the_first(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(client)
    over = {"to_stage": "talks", "override": {"reason": "The board said so."}}
    moves = f"/v1/opportunities/{deal['id']}/transitions"
    requests: list[tuple[str, Any]] = [
        ("/v1/pipelines", {"key": "other", "template": "b2b"}),
        ("/v1/pipelines/other/stages", stage("extra")),
        (ENDPOINTS, {"url": "http://127.0.0.1:9/hook"}),
        ("/v1/api-keys", {"name": "n", "subject": "s", "scopes": ["events:read"]}),
        (moves, over),
    ]
    for path, body in requests:
        for replayed in (None, "true"):
            answer = await client.post(path, json=body, headers={"Idempotency-Key": path[-8:]})
            assert answer.status_code == 201, answer.text
            assert answer.headers.get("Idempotent-Replayed") == replayed
    moved = (await client.get(moves)).json()["items"][-1]
    for _ in range(2):
        headers = {"Idempotency-Key": "void"}
        ok(
            await client.post(
                f"/v1/transitions/{moved['id']}/void", json={"reason": "Slip."}, headers=headers
            )
        )
    assert await told(client) == [
        *("pipeline.created", "pipeline.updated", "webhook_endpoint.created", "api_key.created"),
        *("transition.overridden", "transition.voided"),
    ]


# Deals


async def test_an_override_is_told_with_what_was_missing_and_without_what_was_said(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(client, attributes={"budget": 7})
    over = {"reason": "CANARY said it is fine"}
    moved = await move(client, deal["id"], "talks", override=over, note="CANARY")
    entry = await the_only(client, "transition.overridden")
    assert (entry["target"], entry["before"]) == (moved["transition"]["id"], None)
    assert entry["after"] == {
        "/opportunity_id": deal["id"],
        "/pipeline": "sales",
        "/kind": "skipped",
        "/from_stage": "lead",
        "/to_stage": "talks",
        "/overridden": ["/amount"],
    }
    assert "CANARY" not in json.dumps(await entries(client))


async def test_an_override_is_told_by_the_statement_that_moves(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(client)
    await move(client, deal["id"], "talks", override={"reason": "The board said so."})
    async with database.read(principal.workspace_id) as connection:
        written = [
            # Rows of one statement bear one transaction and one command of it.
            (await connection.execute(text(f"SELECT xmin::text, cmin::text FROM {row}"))).one()
            for row in ("transition WHERE override_reason IS NOT NULL", "audit_entry")
        ]
    assert written[0] == written[1]


async def test_a_move_that_needs_no_override_leaves_no_entry(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(client)
    await move(client, deal["id"], "offer")
    await move(client, deal["id"], "won", override={"reason": "Nothing is in the way."})
    lacking = await open_deal(client)
    refused = await client.post(
        f"/v1/opportunities/{lacking['id']}/transitions", json={"to_stage": "talks"}
    )
    assert refused.status_code == 422
    assert await told(client) == []


async def test_overrides_of_a_batch_are_told_one_by_one(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deals = [await open_deal(client) for _ in range(3)]
    over = {"to_stage": "talks", "override": {"reason": "All of them."}}
    moves = [{"opportunity_id": deal["id"], **over} for deal in deals]
    moves[1] = {"opportunity_id": deals[1]["id"], "to_stage": "talks"}  # refused
    body = {"moves": moves}
    for _ in range(2):
        answer = await client.post(
            "/v1/transitions/batch", json=body, headers={"Idempotency-Key": "batch"}
        )
        assert [each["status"] for each in ok(answer)["outcomes"]] == [201, 422, 201]
    log = await entries(client)
    assert {entry["after"]["/opportunity_id"] for entry in log} == {deals[0]["id"], deals[2]["id"]}
    assert [entry["action"] for entry in log] == ["transition.overridden"] * 2


async def test_moves_that_race_for_a_deal_leave_the_entry_of_the_one_that_won(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(client)
    over = {"to_stage": "talks", "override": {"reason": "Quick."}}
    path = f"/v1/opportunities/{deal['id']}/transitions"
    answers = await asyncio.gather(*(decided(client.post, path, json=over) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    await the_only(client, "transition.overridden")


async def test_a_void_is_told_with_the_move_that_stood(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(client)
    moved = (await move(client, deal["id"], "offer"))["transition"]
    path = f"/v1/transitions/{moved['id']}/void"
    shown = ok(await client.post(path, json={"reason": "CANARY slipped"}))["transition"]
    assert (await client.post(path, json={"reason": "Again."})).status_code == 409
    entry = await the_only(client, "transition.voided")
    assert entry["target"] == moved["id"]
    assert entry["before"] == {
        "/opportunity_id": deal["id"],
        "/pipeline": "sales",
        "/kind": "advanced",
        "/from_stage": "lead",
        "/to_stage": "offer",
    }
    stamp = shown["voided"]
    assert entry["after"] == {"/voided": {"at": stamp["at"], "by": stamp["by"]}}
    assert "CANARY" not in json.dumps(entry)


async def test_a_deal_that_is_erased_leaves_its_id_and_nothing_that_was_said_of_it(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    deal = await open_deal(
        client,
        name="CANARY Ltd",
        owner="CANARY",
        external_id="CANARY-1",
        tags=["CANARY"],
        attributes={"who": "CANARY"},
    )
    one = f"/v1/opportunities/{deal['id']}"
    over = {
        "reason": "CANARY",
    }
    moved = await move(client, deal["id"], "talks", override=over)
    void = {"reason": "CANARY"}
    ok(await client.post(f"/v1/transitions/{moved['transition']['id']}/void", json=void))
    ok(await client.delete(one, headers=ANY))
    assert (await client.delete(one, headers=ANY)).status_code == 404
    entry = await the_only(client, "opportunity.deleted")
    assert (entry["target"], entry["actor"]) == (deal["id"], principal.subject)
    assert (entry["before"], entry["after"]) == ({"/pipeline": "sales"}, None)
    assert len(await entries(client)) == 3
    assert "CANARY" not in json.dumps(await entries(client))


async def test_a_hand_off_that_is_taken_back_tells_of_the_deal_that_goes_with_it(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    ok(await client.post("/v1/pipelines", json={"key": "renewals", "template": "b2b"}))
    deal = await opened(client)
    body = {"pipeline": "renewals"}
    new = ok(await client.post(f"/v1/opportunities/{deal['id']}/hand-off", json=body))
    log = ok(await client.get(f"/v1/opportunities/{deal['id']}/transitions"))["items"]
    ok(await client.post(f"/v1/transitions/{log[-1]['id']}/void", json={"reason": "No."}))
    assert await told(client) == [
        *("pipeline.created", "pipeline.created", "opportunity.deleted", "transition.voided")
    ]
    gone = await the_only(client, "opportunity.deleted")
    assert (gone["target"], gone["before"]) == (new["id"], {"/pipeline": "renewals"})


# Imports

MAPPING = {"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}
FILE = "deal,stage,at\nD1,lead,2020-01-01T00:00:00Z\n"


async def send(client: httpx.AsyncClient, name: str, key: str, **options: str) -> httpx.Response:
    return await client.post(
        f"{SALES}/imports",
        params=options,
        data={"mapping": json.dumps(MAPPING)},
        files={"file": (name, FILE, "text/csv")},
        headers={"Idempotency-Key": key},
    )


async def test_an_import_that_may_rewrite_history_is_told_of_when_it_is_begun(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await guarded_sales(database, principal)
    assert (await send(client, "more.csv", "one")).status_code == 202
    assert await told(client) == []
    for _ in range(2):
        answer = await send(client, "past of Ada.csv", "two", on_conflict="rewrite")
        assert answer.status_code == 202
    entry = await the_only(client, "import.rewrite_started")
    mapping = parse_mapping(json.dumps(MAPPING).encode()).model_dump(mode="json")
    assert entry["target"] == answer.json()["id"]
    assert entry["actor"] == principal.subject
    assert entry["before"] is None
    assert entry["after"] == {
        "/pipeline": "sales",
        "/on_conflict": "rewrite",
        "/on_error": "skip",
        "/bytes": len(FILE),
        "/mapping_sha256": sha256(json.dumps(mapping, sort_keys=True).encode()).hexdigest(),
    }


async def test_an_import_that_is_refused_leaves_no_entry(client: httpx.AsyncClient) -> None:
    await made(client)
    answer = await client.post(
        f"{SALES}/imports",
        params={"on_conflict": "rewrite"},
        data={"mapping": json.dumps({**MAPPING, "deal": "nowhere"})},
        files={"file": ("past.csv", FILE, "text/csv")},
    )
    assert answer.status_code == 422
    assert await told(client) == ["pipeline.created"]
