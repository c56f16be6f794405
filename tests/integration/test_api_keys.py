"""Keys and workspaces by HTTP: made, shown once, replaced, revoked; and what one may give away."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.actions.manage_keys import issue_key
from app.domain.access import Principal, RowScope, Scope
from app.domain.api_key import ApiKey
from app.http.authentication import BELIEVED
from app.storage.access import NewKey
from app.storage.engine import Connection, Database
from app.storage.ids import new_id
from tests.callers import sighted
from tests.conftest import make_workspace
from tests.webhooks import refused

Service = Callable[[ApiKey], httpx.AsyncClient]

pytestmark = pytest.mark.asyncio

KEYS = "/v1/api-keys"
ANY = {"If-Match": "*"}
WANTED = {"name": "CRM", "subject": "crm", "scopes": ["opportunities:read", "metrics:read"]}


MAKING = {"name": "x", "subject": "crm", "scopes": ["api-keys:write"]}


def written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


async def made(client: httpx.AsyncClient, path: str = KEYS, **wanted: Any) -> dict[str, Any]:
    answer = await client.post(path, json=wanted or WANTED)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def spelt(shown: dict[str, Any]) -> ApiKey:
    key = ApiKey.parse(shown["key"])
    assert key is not None
    return key


async def test_a_key_made_by_http_opens_what_it_says(
    client: httpx.AsyncClient, service: Service
) -> None:
    answer = await client.post(
        KEYS, json={**WANTED, "row_scope": "team", "team": "north", "subject": "mia"}
    )
    key = answer.json()
    assert answer.headers["Location"] == f"{KEYS}/{key['id']}"
    assert answer.headers["ETag"] == '"1"'
    bearer = service(spelt(key))
    me = (await bearer.get("/v1/me")).json()
    assert {name: me[name] for name in ("subject", "team", "row_scope", "key_id", "scopes")} == {
        "subject": "mia",
        "team": "north",
        "row_scope": "team",
        "key_id": key["id"],
        "scopes": ["metrics:read", "opportunities:read"],
    }
    assert (await bearer.get("/v1/opportunities")).status_code == 200
    assert (await bearer.get(KEYS)).status_code == 403
    shown = (await client.get(answer.headers["Location"])).json()
    assert shown == {name: key[name] for name in shown} | {"last_used_at": shown["last_used_at"]}
    assert "key" not in shown
    assert shown["last_used_at"] is not None


async def test_a_request_sent_again_is_told_of_its_key_but_not_its_secret(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    again = {"Idempotency-Key": "once"}
    first, second = [await client.post(KEYS, json=WANTED, headers=again) for _ in range(2)]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json() == {**first.json(), "key": None}
    secret = spelt(first.json()).secret

    async def kept(connection: Connection) -> int:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM idempotency_record WHERE position($1 IN body) > 0",
            secret.encode(),
        )
        return found

    assert await database.write(principal.workspace_id, kept) == 0
    assert len((await client.get(KEYS)).json()["items"]) == 2


async def test_a_rotated_key_is_good_for_the_overlap_and_its_heir_gives_the_same(
    client: httpx.AsyncClient, service: Service, login_url: str
) -> None:
    key = await made(client, **WANTED, row_scope="own")
    heir = await made(client, f"{KEYS}/{key['id']}/rotation", overlap="P1D")
    assert heir["id"] != key["id"]
    for name in ("name", "subject", "scopes", "row_scope", "team"):
        assert heir[name] == key[name]
    old = (await client.get(f"{KEYS}/{key['id']}")).json()
    assert old["replaced_by"] == heir["id"]
    left = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)
    for each in (key, heir):
        assert (await service(spelt(each)).get("/v1/me")).status_code == 200
    twice = await client.post(f"{KEYS}/{key['id']}/rotation", json={})
    assert refused(twice)[:2] == (409, "conflict")
    at_once = await made(client, f"{KEYS}/{heir['id']}/rotation", overlap="PT0S")
    gone = await client.post(f"{KEYS}/{heir['id']}/rotation", json={})
    assert refused(gone)[:2] == (409, "conflict")
    assert (await service(spelt(at_once)).get("/v1/me")).status_code == 200


async def test_an_heir_of_a_key_that_expires_lasts_as_long_again(
    client: httpx.AsyncClient,
) -> None:
    until = datetime.now(UTC) + timedelta(days=30)
    key = await made(client, **WANTED, expires_at=written(until))
    heir = await made(client, f"{KEYS}/{key['id']}/rotation", overlap="P1D")

    def lasts(shown: dict[str, Any]) -> float:
        begun, ended = (datetime.fromisoformat(shown[n]) for n in ("created_at", "expires_at"))
        return (ended - begun).total_seconds()

    assert abs(lasts(heir) - lasts(key)) < 1


async def test_a_revoked_key_is_refused_soon_and_stays_in_the_list(
    client: httpx.AsyncClient, service: Service
) -> None:
    key = await made(client)
    bearer = service(spelt(key))
    assert (await bearer.get("/v1/me")).status_code == 200
    path = f"{KEYS}/{key['id']}"
    assert refused(await client.delete(path))[:2] == (428, "if_match_required")
    assert refused(await client.delete(path, headers={"If-Match": '"7"'}))[:2] == (412, "stale")
    assert (await client.delete(path, headers={"If-Match": '"1"'})).status_code == 204
    assert (await client.delete(path, headers=ANY)).status_code == 204
    async with asyncio.timeout(2 * BELIEVED):
        while (await bearer.get("/v1/me")).status_code == 200:
            pass
    listed = (await client.get(KEYS)).json()["items"]
    assert [each["revoked_at"] is None for each in listed] == [True, False]


@pytest.mark.parametrize(
    "more",
    [
        {"scopes": ["admin"]},
        {"scopes": ["opportunities:delete"]},
        {"row_scope": "all"},
        {"subject": "ben"},
        {"row_scope": "team", "team": "south"},
    ],
)
async def test_nobody_gives_away_what_they_do_not_have(
    database: Database, principal: Principal, service: Service, more: dict[str, Any]
) -> None:
    new = NewKey(
        name="ada",
        subject="ada",
        scopes=frozenset({Scope.API_KEYS_WRITE, Scope.API_KEYS_READ, Scope.METRICS_READ}),
        row_scope=RowScope.TEAM,
        team="north",
    )
    ada = service(await issue_key(database, principal.workspace_id, new))
    own = {"name": "x", "subject": "ada", "scopes": ["metrics:read"], "row_scope": "own"}
    assert (await ada.post(KEYS, json=own)).status_code == 201
    assert refused(await ada.post(KEYS, json={**own, **more}))[:2] == (403, "forbidden")


async def test_a_key_that_gives_more_is_not_rotated_into_ones_hands(
    database: Database, principal: Principal, service: Service
) -> None:
    ada = service(await sighted(database, principal))
    path = f"{KEYS}/{principal.key_id}/rotation"
    assert refused(await ada.post(path, json={}))[:2] == (403, "forbidden")


async def test_a_key_is_revoked_by_who_has_as_much(
    database: Database, principal: Principal, client: httpx.AsyncClient, service: Service
) -> None:
    ada = service(await sighted(database, principal))
    path = f"{KEYS}/{principal.key_id}"
    assert refused(await ada.delete(path, headers=ANY))[:2] == (403, "forbidden")
    hers = await made(client, name="x", subject="ada", scopes=["admin"], row_scope="own")
    assert (await ada.delete(f"{KEYS}/{hers['id']}", headers=ANY)).status_code == 204
    narrow = await made(client, name="x", subject="crm", scopes=["api-keys:write"])
    refusal = await service(spelt(narrow)).delete(path, headers=ANY)
    assert refused(refusal)[:2] == (403, "forbidden")
    assert (await client.get("/v1/me")).status_code == 200


async def test_a_key_that_expires_makes_none_that_lasts_longer(
    client: httpx.AsyncClient, service: Service
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    brief = service(spelt(await made(client, **MAKING, expires_at=written(until))))
    for expires_at in (None, written(until + timedelta(seconds=1))):
        answer = await brief.post(KEYS, json={**MAKING, "expires_at": expires_at})
        assert refused(answer)[:2] == (403, "forbidden"), expires_at
    await made(brief, **MAKING, expires_at=written(until))


async def test_a_key_is_refused_from_its_expiry_on_though_it_was_used_just_before(
    client: httpx.AsyncClient, service: Service
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=2)
    bearer = service(spelt(await made(client, **WANTED, expires_at=written(until))))
    while (answer := await bearer.get("/v1/me")).status_code == 200:
        assert datetime.now(UTC) < until + timedelta(seconds=1)
    assert refused(answer)[:2] == (401, "unauthenticated")


@pytest.mark.parametrize("subject", ["sluice", "command line"])
async def test_nobody_is_called_as_the_audit_log_calls_what_nobody_did(
    client: httpx.AsyncClient, subject: str
) -> None:
    answer = await client.post(KEYS, json={**WANTED, "subject": subject})
    assert refused(answer) == (422, "invalid", [("/subject", "reserved")])


@pytest.mark.parametrize("key_id", ["%00" * 16, "ABCDEF0123456789", "0" * 15])
async def test_what_is_no_keys_id_names_no_key(client: httpx.AsyncClient, key_id: str) -> None:
    for answer in (
        await client.get(f"{KEYS}/{key_id}"),
        await client.delete(f"{KEYS}/{key_id}", headers=ANY),
        await client.post(f"{KEYS}/{key_id}/rotation", json={}),
    ):
        assert refused(answer)[:2] == (404, "not_found")


async def test_a_team_is_named_where_the_row_scope_is_the_teams(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post(KEYS, json={**WANTED, "row_scope": "team"})
    assert refused(answer)[0] == 422


async def test_keys_are_listed_page_by_page_in_the_order_of_their_making(
    client: httpx.AsyncClient,
) -> None:
    ids = [(await client.get("/v1/me")).json()["key_id"]]
    ids += [(await made(client))["id"] for _ in range(4)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await client.get(KEYS, params=query)).json()
        found += [each["id"] for each in page["items"]]
        if page["page"]["next_cursor"] is None:
            break
        query["cursor"] = page["page"]["next_cursor"]
    assert found == ids


async def test_a_key_of_the_platform_makes_workspaces_and_sees_into_none(
    database: Database, service: Service, client: httpx.AsyncClient
) -> None:
    new = NewKey(name="ops", subject="ops", scopes=frozenset())
    operator = service(await issue_key(database, None, new))
    name = new_id().hex
    again = {"Idempotency-Key": "once"}
    wanted = {"key": name, "name": "Acme Ltd", "subject": "mia"}
    first = await operator.post("/v1/workspaces", json=wanted, headers=again)
    assert first.status_code == 201, first.text
    admin = service(spelt(first.json()["api_key"]))
    me = (await admin.get("/v1/me")).json()
    assert (me["workspace"]["key"], me["subject"], me["scopes"]) == (name, "mia", ["admin"])
    repeated = await operator.post("/v1/workspaces", json=wanted, headers=again)
    assert repeated.json()["id"] == first.json()["id"]
    assert repeated.json()["api_key"]["key"] is None
    taken = await operator.post("/v1/workspaces", json=wanted)
    assert refused(taken)[:2] == (409, "already_exists")
    other = await operator.post("/v1/workspaces", json={**wanted, "name": "B"}, headers=again)
    assert refused(other)[:2] == (422, "idempotency_key_reused")
    more = await operator.post("/v1/workspaces", json={**wanted, "key": f"{name}x"}, headers=again)
    assert refused(more)[:2] == (422, "idempotency_key_reused")
    for path in ("/v1/me", "/v1/opportunities", "/v1/api-keys"):
        assert refused(await operator.get(path))[:2] == (403, "forbidden")
    for caller in (client, admin):
        assert refused(await caller.get("/v1/workspaces"))[:2] == (403, "forbidden")
        assert refused(await caller.post("/v1/workspaces", json=wanted))[:2] == (403, "forbidden")


async def test_workspaces_are_listed_by_their_keys(database: Database, service: Service) -> None:
    made_here = sorted([(await make_workspace(database))[0].workspace_id.hex for _ in range(3)])
    new = NewKey(name="ops", subject="ops", scopes=frozenset())
    operator = service(await issue_key(database, None, new))
    found: list[str] = []
    query: dict[str, Any] = {"limit": 200}
    while True:
        page = (await operator.get("/v1/workspaces", params=query)).json()
        found += [each["key"] for each in page["items"]]
        if page["page"]["next_cursor"] is None:
            break
        query["cursor"] = page["page"]["next_cursor"]
    assert found == sorted(found)
    assert set(made_here) <= set(found)
