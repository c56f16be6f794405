"""What is done to endpoints, keys and workspaces leaves one entry, and no secret; who reads it.

Canaries are planted in all that is secret, and looked for in all that is told.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions import manage_keys
from app.actions.bootstrap import bootstrap
from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.storage.access import NewKey
from app.storage.engine import Database
from tests.audit import LOG, entries, ok, the_only, told
from tests.conftest import make_workspace, running
from tests.integration.test_pipelines_api import made
from tests.receiver import Receiver, receiving, saying
from tests.webhooks import (
    ANY,
    ENDPOINTS,
    endpoint,
    fanned_out,
    let_time_pass,
    let_waits_end,
    send_due,
    tell,
)

Connect = Callable[[ApiKey | None], httpx.AsyncClient]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


# Webhook endpoints

SECRET_PATH = "/CANARY-in-the-path?token=CANARY"


async def test_an_endpoint_is_told_of_from_its_making_to_its_end_and_its_url_by_its_host(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    asked = {"description": "Ours", "types": ["stage.entered"], "pipeline": "sales"}
    one = await endpoint(client, f"http://127.0.0.1:9{SECRET_PATH}", stages=["b"], **asked)
    path = f"{ENDPOINTS}/{one['id']}"
    other_url = {"url": f"http://127.0.0.1:9{SECRET_PATH}&more"}
    for change in (
        {"stages": ["c"]},
        {"stages": ["c"]},
        other_url,
        {"enabled": False, "types": []},
        {"enabled": False},
        {"enabled": True},
    ):
        ok(await client.patch(path, json=change, headers=ANY))
    new = ok(await client.post(f"{path}/secret", json={"overlap": "P1D"}))
    ok(await client.delete(path, headers=ANY))
    assert (await client.delete(path, headers=ANY)).status_code == 404
    log = list(reversed(await entries(client, target=one["id"])))
    assert [entry["action"].removeprefix("webhook_endpoint.") for entry in log] == [
        *("created", "updated", "updated", "disabled", "updated", "rotated", "deleted")
    ]
    assert {entry["actor"] for entry in log} == {"tester"}
    first, stages, url, off, on, rotated, gone = log
    told_url = first["after"].pop("/url")
    assert told_url.startswith("http://127.0.0.1:9/…")
    assert first["after"] == {
        "/description": "Ours",
        "/types": ["stage.entered"],
        "/pipeline": "sales",
        "/stages": ["b"],
        "/include_historical": False,
        "/enabled": True,
        "/disabled": None,
    }
    assert (stages["before"], stages["after"]) == ({"/stages": ["b"]}, {"/stages": ["c"]})
    assert url["before"] == {"/url": told_url}
    assert url["after"]["/url"].startswith("http://127.0.0.1:9/…")
    assert url["after"] != url["before"]
    assert (off["before"]["/enabled"], off["after"]["/enabled"]) == (True, False)
    assert off["after"]["/disabled"]["reason"] == "requested"
    assert (off["before"]["/types"], off["after"]["/types"]) == (["stage.entered"], [])
    assert (on["before"]["/disabled"], on["after"]["/disabled"]) == (
        off["after"]["/disabled"],
        None,
    )
    assert rotated["after"] == {"/others_expire_at": new["others_expire_at"]}
    assert (gone["before"]["/stages"], gone["after"]) == (["c"], None)
    whole = json.dumps(log)
    for secret in ("CANARY", "whsec", one["secret"], new["secret"]):
        assert secret not in whole


async def test_the_same_path_at_two_endpoints_is_not_told_alike(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await endpoint(client, f"http://127.0.0.1:9{SECRET_PATH}")
    urls = {entry["after"]["/url"] for entry in await entries(client)}
    assert len(urls) == 2


async def test_an_endpoint_that_the_service_gives_up_is_told_as_its_own_doing(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(410)]
    one = await endpoint(client, receiver.url)
    await tell(database, workspace)
    await fanned_out(database, workspace, one, 1)
    await send_due(database, workspace, one)
    entry = await the_only(client, "webhook_endpoint.disabled")
    assert (entry["actor"], entry["key_id"], entry["target"]) == ("sluice", None, one["id"])
    assert entry["before"] == {"/enabled": True, "/disabled": None}
    shown = ok(await client.get(f"{ENDPOINTS}/{one['id']}"))
    assert entry["after"] == {"/enabled": False, "/disabled": shown["disabled"]}
    assert entry["after"]["/disabled"]["reason"] == "gone"


async def test_an_endpoint_that_only_fails_for_days_is_told_once(
    client: httpx.AsyncClient, database: Database, workspace: UUID, receiver: Receiver
) -> None:
    receiver.answers = [saying(500)]
    one = await endpoint(client, receiver.url)
    await tell(database, workspace, 3)
    await fanned_out(database, workspace, one, 3)
    await send_due(database, workspace, one)
    assert await told(client) == ["webhook_endpoint.created"]
    await let_time_pass(database, workspace, "webhook_endpoint", ["failing_since"], "6 days")
    for _ in range(12):
        await let_waits_end(database, workspace)
        await send_due(database, workspace, one)
    entry = await the_only(client, "webhook_endpoint.disabled")
    assert (entry["actor"], entry["after"]["/disabled"]["reason"]) == ("sluice", "failing")


# Keys


async def test_keys_are_told_of_and_never_shown(
    client: httpx.AsyncClient, principal: Principal
) -> None:
    body = {"name": "CRM", "subject": "crm", "scopes": ["opportunities:read"]}
    one = ok(await client.post("/v1/api-keys", json=body))
    path = f"/v1/api-keys/{one['id']}"
    two = ok(await client.post(f"{path}/rotation", json={"overlap": "P1D"}))
    for _ in range(2):
        ok(await client.delete(f"/v1/api-keys/{two['id']}", headers=ANY))
    log = list(reversed(await entries(client)))
    assert [(entry["action"], entry["target"]) for entry in log] == [
        ("api_key.created", one["id"]),
        ("api_key.rotated", one["id"]),
        ("api_key.revoked", two["id"]),
    ]
    created, rotated, revoked = log
    assert (created["before"], created["after"]["/scopes"]) == (None, ["opportunities:read"])
    assert rotated["before"] == {"/expires_at": None, "/replaced_by": None}
    assert rotated["after"]["/replaced_by"] == two["id"]
    assert revoked["before"] == {"/revoked_at": None}
    whole = json.dumps(log)
    for key in (one["key"], two["key"]):
        assert key not in whole
        assert key.rpartition("_")[2] not in whole


async def test_a_key_that_is_made_with_the_database_at_hand_is_told_as_that(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    new = NewKey(name="n", subject="s", scopes=frozenset({Scope.EVENTS_READ}))
    key = await manage_keys.issue_key(database, workspace, new)
    await manage_keys.revoke_key(database, workspace, key.key_id)
    log = await entries(client, target=key.key_id)
    assert [(entry["action"], entry["actor"], entry["key_id"]) for entry in log] == [
        ("api_key.revoked", "command line", None),
        ("api_key.created", "command line", None),
    ]


# Workspaces


async def test_a_workspace_is_told_of_in_its_own_log_by_who_runs_the_installation(
    database: Database, service: Connect, client: httpx.AsyncClient
) -> None:
    platform = NewKey(name="ops", subject="ops", scopes=frozenset())
    operator = service(await manage_keys.issue_key(database, None, platform))
    body = {"key": f"w-{platform.name}-{id(service)}", "name": "Acme", "subject": "root"}
    headers = {"Idempotency-Key": "acme"}
    answers = [await operator.post("/v1/workspaces", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201], answers[0].text
    key = answers[0].json()["api_key"]
    entry = await the_only(service(ApiKey.parse(key["key"])), "workspace.created")
    assert (entry["actor"], entry["target"], entry["before"]) == ("ops", body["key"], None)
    assert entry["after"] == {"/name": "Acme", "/api_key": key["id"], "/subject": "root"}
    assert await entries(client) == []


async def test_the_first_workspace_is_told_of_as_the_services_own_doing(own_database: str) -> None:
    database = await Database.open(own_database, size=1)
    key = await bootstrap(database)
    await database.close()
    async with running(own_database) as connect:
        (entry,) = await entries(connect(key))
    assert (entry["action"], entry["actor"]) == ("workspace.created", "sluice")
    assert key is not None
    assert entry["after"]["/api_key"] == key.key_id


# Who reads


async def test_another_workspace_sees_none_of_it(
    client: httpx.AsyncClient, database: Database, service: Connect
) -> None:
    await made(client)
    (entry,) = await entries(client)
    _, key = await make_workspace(database)
    stranger = service(key)
    assert await entries(stranger) == []
    assert (await stranger.get(f"{LOG}/export")).content == b""
    answer = await stranger.get(f"{LOG}/{entry['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_log_is_read_with_its_scope_and_by_who_sees_every_deal(
    client: httpx.AsyncClient, database: Database, service: Connect
) -> None:
    await made(client)
    (entry,) = await entries(client)
    paths = (LOG, f"{LOG}/export", f"{LOG}/{entry['id']}")

    async def bearer(**more: Any) -> httpx.AsyncClient:
        body = {"name": "n", "subject": "s", "scopes": ["audit:read"], **more}
        return service(ApiKey.parse(ok(await client.post("/v1/api-keys", json=body))["key"]))

    reader = await bearer()
    other = await bearer(
        scopes=[s.value for s in Scope if s not in (Scope.ADMIN, Scope.AUDIT_READ)]
    )
    own, team = await bearer(row_scope="own"), await bearer(row_scope="team", team="north")
    for path in paths:
        assert (await reader.get(path)).status_code == 200
        assert "audit:read" in (await other.get(path)).json()["detail"]
        for narrow in (own, team):
            answer = await narrow.get(path)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert "needs the row scope all" in answer.json()["detail"]
