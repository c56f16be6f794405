"""Tokens as the API takes them: who one is with which, and what is answered to a wrong one."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from uuid import UUID

import httpx
import pytest
import time_machine
from structlog.testing import capture_logs

from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.http import issuer_keys
from app.http.tokens import LONGEST
from app.storage.engine import Database
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline, sales_pipeline
from tests.feed import events_so_far
from tests.issuer import AUDIENCE, ISSUER, claims, key_set, signer

RSA, EC, ED = signer("RS256"), signer("ES256"), signer("EdDSA")
Service = Callable[[ApiKey | str | None], httpx.AsyncClient]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    path.write_bytes(key_set(RSA, EC, ED))
    return path


@asynccontextmanager
async def taking_tokens(url: str, keys: Path, **others: object) -> AsyncIterator[Service]:
    settings = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(keys), **others}
    async with running(url, **settings) as connect:
        yield connect


@pytest.fixture(scope="module")
async def tokens(login_url: str, key_file: Path) -> AsyncIterator[Service]:
    """The application, taking tokens."""
    async with taking_tokens(login_url, key_file) as connect:
        yield connect


@pytest.fixture
def workspace_key(workspace: UUID) -> str:
    return workspace.hex


async def test_a_token_tells_its_caller_who_they_are(
    tokens: Service, workspace: UUID, workspace_key: str
) -> None:
    said = claims(
        workspace=workspace_key,
        sub="米亚",
        team="north",
        row_scope="team",
        scope="openid metrics:read events:read",
    )
    for key in (RSA, EC, ED):
        answer = await tokens(key.sign(said)).get("/v1/me")
        assert answer.status_code == 200
        me = answer.json()
        assert me.pop("workspace")["id"] == str(workspace)
        assert me == {
            "subject": "米亚",
            "team": "north",
            "row_scope": "team",
            "key_id": None,
            "scopes": ["events:read", "metrics:read"],
        }


async def test_a_token_that_names_no_row_scope_or_scope_sees_its_own_and_may_nothing(
    tokens: Service, workspace_key: str
) -> None:
    client = tokens(EC.sign(claims(workspace=workspace_key, scope=None)))
    me = (await client.get("/v1/me")).json()
    assert (me["row_scope"], me["team"], me["scopes"]) == ("own", None, [])
    refused = await client.get("/v1/pipelines")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_a_token_may_what_its_scopes_say_and_is_never_of_the_platform(
    tokens: Service, workspace_key: str
) -> None:
    said = claims(workspace=workspace_key, scope=["pipelines:read", "platform"])
    client = tokens(EC.sign(said))
    assert (await client.get("/v1/pipelines")).status_code == 200
    assert (await client.post("/v1/pipelines", json={})).status_code == 403
    assert (await client.get("/v1/workspaces")).status_code == 403


async def test_the_subject_of_a_token_is_the_actor_in_log_and_events(
    tokens: Service, workspace: UUID, workspace_key: str, database: Database
) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())
    said = claims(workspace=workspace_key, sub="mia@acme.example", scope="admin", row_scope="all")
    caller = tokens(RSA.sign(said))
    opened = await caller.post("/v1/opportunities", json={"pipeline": "sales", "name": "Deal"})
    assert opened.status_code == 201, opened.text
    log = f"/v1/opportunities/{opened.json()['id']}/transitions"
    assert (await caller.post(log, json={"to_stage": "offer"})).status_code == 201
    actors = [entry["actor"] for entry in (await caller.get(log)).json()["items"]]
    assert actors == ["mia@acme.example"] * 2
    told = await events_so_far(database, caller, types="opportunity.transitioned")
    assert [event["data"]["actor"] for event in told] == ["mia@acme.example"]


async def test_an_api_key_goes_on_working_beside_tokens(
    tokens: Service, identity: tuple[Principal, ApiKey]
) -> None:
    principal, key = identity
    me = (await tokens(key).get("/v1/me")).json()
    assert (me["subject"], me["key_id"]) == (principal.subject, key.key_id)


async def test_a_token_opens_the_workspace_that_it_names_and_no_other(
    tokens: Service, database: Database, workspace_key: str
) -> None:
    other, _ = await make_workspace(database, Scope.ADMIN)
    for key in (workspace_key, other.workspace_id.hex):
        me = (await tokens(EC.sign(claims(workspace=key))).get("/v1/me")).json()
        assert me["workspace"]["key"] == key


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        (lambda: EC.sign(claims(workspace="no-such-place")), "workspace that is not here"),
        (lambda: EC.sign(claims(exp=int(time()) - 60)), "expired"),
        (lambda: EC.sign(claims(aud="billing")), "another audience"),
        (lambda: EC.sign(claims(sub=None)), "lacks the claim sub"),
        (lambda: EC.sign(claims(), kid="unknown"), "unknown key"),
        (lambda: EC.sign(claims(pad="x" * LONGEST)), "at most 8,192 characters"),
        (lambda: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtaWEifQ.", "algorithm"),
        (lambda: "e30.e30.e30", "algorithm"),
        (lambda: "e30.e30", "no API key and no token"),
        (lambda: "slc_live_aa.bb.cc", "no API key and no token"),
    ],
)
async def test_a_wrong_token_is_a_401_that_says_what_is_wrong(
    tokens: Service, token: Callable[[], str], detail: str
) -> None:
    refused = await tokens(token()).get("/v1/me")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert detail in refused.json()["detail"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    for secret in (ISSUER, f'"{AUDIENCE}"', "RS256", "EdDSA"):
        assert secret not in refused.json()["detail"]


async def test_where_no_issuer_is_configured_a_token_is_refused_as_any_text(
    service: Service, workspace_key: str
) -> None:
    refused = await service(EC.sign(claims(workspace=workspace_key))).get("/v1/me")
    assert refused.status_code == 401
    assert refused.json()["detail"] == "The credential is no API key: mistyped, or cut off?"


async def test_a_token_that_was_believed_is_refused_when_it_expires(
    tokens: Service, workspace_key: str
) -> None:
    client = tokens(EC.sign(claims(workspace=workspace_key, exp=int(time()) + 300)))
    assert (await client.get("/v1/me")).status_code == 200
    with time_machine.travel(time() + 320, tick=True):
        refused = await client.get("/v1/me")
    assert (refused.status_code, "expired" in refused.json()["detail"]) == (401, True)


async def test_keys_that_are_changed_in_the_file_are_picked_up(
    login_url: str, workspace_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "PAUSE", 0.0)
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(EC))
    old, new = (each.sign(claims(workspace=workspace_key)) for each in (EC, ED))
    async with taking_tokens(login_url, path) as connect:
        assert (await connect(old).get("/v1/me")).status_code == 200
        assert (await connect(new).get("/v1/me")).status_code == 401
        path.write_bytes(key_set(ED))
        assert (await connect(new).get("/v1/me")).status_code == 200
        withdrawn = EC.sign(claims(workspace=workspace_key, jti="another"))
        assert (await connect(withdrawn).get("/v1/me")).status_code == 401


async def test_without_the_issuers_keys_a_token_is_answered_503_and_a_key_as_ever(
    login_url: str, identity: tuple[Principal, ApiKey], workspace_key: str, tmp_path: Path
) -> None:
    async with taking_tokens(login_url, tmp_path / "not-there.json") as connect:
        with capture_logs() as logged:
            refused = await connect(EC.sign(claims(workspace=workspace_key))).get("/v1/me")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        assert str(tmp_path) not in refused.text
        (away,) = [line for line in logged if line["event"] == "issuer.away"]
        assert "not-there.json" in away["reason"]
        assert (await connect(identity[1]).get("/v1/me")).status_code == 200


async def test_the_claims_names_and_the_row_scope_by_default_are_settings(
    login_url: str, key_file: Path, workspace_key: str
) -> None:
    named = {
        "jwt_workspace_claim": "https://acme.example/workspace",
        "jwt_subject_claim": "email",
        "jwt_scopes_claim": "scp",
        "jwt_default_row_scope": "all",
        "jwt_algorithms": ("ES256",),
    }
    said = claims(scp=["metrics:read"], email="mia@acme.example")
    said["https://acme.example/workspace"] = workspace_key
    async with taking_tokens(login_url, key_file, **named) as connect:
        me = (await connect(EC.sign(said)).get("/v1/me")).json()
        assert (me["subject"], me["row_scope"]) == ("mia@acme.example", "all")
        assert me["scopes"] == ["metrics:read"]
        assert (await connect(RSA.sign(said)).get("/v1/me")).status_code == 401
