"""Who gets in and how far: API keys, scopes, and the wall between workspaces seen from outside."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.actions.flag_idle import flag_idle
from app.actions.manage_keys import issue_key, new_key, revoke_key
from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.domain.errors import NotFound
from app.domain.period import Period
from app.domain.pipeline import IdleRule
from app.http.authentication import BELIEVED
from app.storage.access import NewKey
from app.storage.engine import Database
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline, open_deal, sales_pipeline

Service = Callable[[ApiKey | None], httpx.AsyncClient]
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer slc_live_short",
        f"Basic {ApiKey('0' * 16, '0' * 48)}",
        f"Bearer {str(ApiKey('0' * 16, '0' * 48))[:-1]}0x",
        "Bearer " + "a" * 8000,
        "Bearer \xff\xfe",
    ],
)
async def test_what_is_no_key_is_refused_without_asking_the_database(header: str | None) -> None:
    # Nothing listens on this port: whatever asks the database is answered 503.
    async with running("postgresql://sluice@127.0.0.1:1/sluice") as connect:
        sent = {} if header is None else {"Authorization": header.encode("latin-1")}
        refused = await connect(None).get("/v1/me", headers=sent)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        asked = await connect(new_key()).get("/v1/me")
        assert asked.status_code == 503


@pytest.mark.parametrize("scheme", ["Basic", "Token", "ApiKey"])
async def test_who_sends_a_key_under_another_scheme_is_told_the_right_one(scheme: str) -> None:
    async with running("postgresql://sluice@127.0.0.1:1/sluice") as connect:
        sent = {"Authorization": f"{scheme} {new_key()}"}
        refused = (await connect(None).get("/v1/me", headers=sent)).json()
    assert refused["code"] == "unauthenticated"
    assert "Authorization: Bearer <API key>" in refused["detail"]


async def test_a_browser_finds_the_documentation_without_a_key(service: Service) -> None:
    answer = await service(None).get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")


async def test_a_key_tells_its_caller_who_they_are(database: Database, service: Service) -> None:
    principal, key = await make_workspace(
        database, Scope.METRICS_READ, Scope.EVENTS_READ, subject="数据组"
    )
    me = (await service(key).get("/v1/me")).json()
    assert me["workspace"]["id"] == str(principal.workspace_id)
    assert me["subject"] == "数据组"
    assert me["key_id"] == key.key_id
    assert me["scopes"] == ["events:read", "metrics:read"]


async def test_the_right_id_with_another_secret_is_refused(
    identity: tuple[Principal, ApiKey], service: Service
) -> None:
    _, key = identity
    assert (await service(key).get("/v1/me")).status_code == 200
    forged = ApiKey(key.key_id, new_key().secret)
    assert (await service(forged).get("/v1/me")).status_code == 401


async def test_an_expired_key_is_refused(
    database: Database, principal: Principal, service: Service
) -> None:
    for ahead, status in ((timedelta(hours=1), 200), (timedelta(seconds=-1), 401)):
        new = NewKey(
            name="short",
            subject="short",
            scopes=frozenset({Scope.ADMIN}),
            expires_at=datetime.now(UTC) + ahead,
        )
        key = await issue_key(database, principal.workspace_id, new)
        assert (await service(key).get("/v1/me")).status_code == status


async def test_a_revoked_key_is_refused_at_once_where_it_is_new_and_soon_where_it_was_believed(
    database: Database, identity: tuple[Principal, ApiKey], service: Service, login_url: str
) -> None:
    principal, key = identity
    believing = service(key)
    assert (await believing.get("/v1/me")).status_code == 200
    await revoke_key(database, principal.workspace_id, key.key_id)
    async with running(login_url) as connect:
        assert (await connect(key).get("/v1/me")).status_code == 401
    async with asyncio.timeout(2 * BELIEVED):
        while (await believing.get("/v1/me")).status_code == 200:
            pass
    await revoke_key(database, principal.workspace_id, key.key_id)  # once more changes nothing
    with pytest.raises(NotFound):
        await revoke_key(database, principal.workspace_id, "0" * 16)


async def test_a_key_of_another_workspace_cannot_be_revoked_from_here(
    database: Database, identity: tuple[Principal, ApiKey], service: Service
) -> None:
    other, _ = await make_workspace(database)
    _, key = identity
    with pytest.raises(NotFound):
        await revoke_key(database, other.workspace_id, key.key_id)
    assert (await service(key).get("/v1/me")).status_code == 200


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        (Scope.OPPORTUNITIES_READ, "GET", f"/v1/opportunities/{NOBODY}/activities"),
        (Scope.OPPORTUNITIES_WRITE, "POST", f"/v1/opportunities/{NOBODY}/activities"),
        (Scope.IDLE_FLAGS_READ, "GET", "/v1/idle-flags"),
        (Scope.IDLE_FLAGS_READ, "GET", "/v1/pipelines/sales/idle/upcoming"),
        (Scope.IDLE_FLAGS_WRITE, "POST", f"/v1/idle-flags/{NOBODY}/acknowledgement"),
        (Scope.IDLE_FLAGS_WRITE, "POST", f"/v1/idle-flags/{NOBODY}/snooze"),
        (Scope.IDLE_FLAGS_WRITE, "POST", "/v1/idle-scans"),
        (Scope.EVENTS_READ, "GET", "/v1/events"),
    ],
)
async def test_an_operation_wants_its_own_scope_and_no_other_will_do(
    database: Database, service: Service, scope: Scope, method: str, path: str
) -> None:
    body = {"kind": "call"} if path.endswith("activities") else None
    if path.endswith("snooze"):
        until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"until": until, "reason": "why"}
    if method == "GET":
        body = None
    others = [other for other in Scope if other not in {scope, Scope.ADMIN}]
    for held, allowed in (((scope,), True), ((Scope.ADMIN,), True), (tuple(others), False)):
        _, key = await make_workspace(database, *held)
        answer = await service(key).request(method, path, json=body)
        assert (answer.status_code != 403) == allowed, answer.text


async def test_a_key_of_another_workspace_finds_nothing_of_this_one(
    database: Database, principal: Principal, client: httpx.AsyncClient, service: Service
) -> None:
    await keep_pipeline(
        database, principal.workspace_id, sales_pipeline(lead=IdleRule(after=Period(days=7)))
    )
    opened_at = (datetime.now(UTC) - timedelta(days=8)).isoformat()
    deal = await open_deal(client, opened_at=opened_at)
    activity = await client.post(
        f"/v1/opportunities/{deal['id']}/activities", json={"kind": "note"}
    )
    await flag_idle(database, principal.workspace_id)
    (flag,) = (await client.get("/v1/idle-flags")).json()["items"]
    _, foreign_key = await make_workspace(database)
    foreign = service(foreign_key)
    for path in ("/v1/idle-flags", "/v1/events"):
        assert (await foreign.get(path)).json()["items"] == []
    for path in (
        f"/v1/opportunities/{deal['id']}/activities",
        activity.headers["Location"],
        "/v1/pipelines/sales/idle/upcoming",
    ):
        assert (await foreign.get(path)).status_code == 404
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for path, body in (
        (f"/v1/idle-flags/{flag['id']}/acknowledgement", None),
        (f"/v1/idle-flags/{flag['id']}/snooze", {"until": until, "reason": "why"}),
        (f"/v1/opportunities/{deal['id']}/activities", {"kind": "note"}),
    ):
        assert (await foreign.post(path, json=body)).status_code == 404
    assert (await foreign.post("/v1/idle-scans")).json()["flagged"] == 0
    (untouched,) = (await client.get("/v1/idle-flags")).json()["items"]
    assert untouched == flag
