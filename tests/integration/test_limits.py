"""The limits where they stand in the service: told by settings, counted for real credentials."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.actions.manage_keys import issue_key, new_key, revoke_key
from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.http import authentication
from app.http.limits import COSTLY, is_costly
from app.main import create_app
from app.settings import load_settings
from app.storage.access import NewKey
from app.storage.engine import Database
from tests.conftest import make_workspace, running
from tests.issuer import AUDIENCE, ISSUER, claims, key_set, signer
from tests.streams import serving, stream

Connect = Callable[[ApiKey | str | None], httpx.AsyncClient]
FIGURES = "/v1/pipelines/sales/metrics/funnel"
# So slow that nothing comes back while a test runs: a token an hour, or two hours.
SLOW = {"rate_limit_burst": timedelta(hours=1)}
ONE = 1 / 3600


@pytest.fixture
def look_ups() -> Iterator[list[str]]:
    """The statements that looked a key up."""
    seen: list[str] = []

    def executed(*said: Any) -> None:
        if "FROM api_key" in said[2]:
            seen.append(said[2])

    event.listen(Engine, "before_cursor_execute", executed)
    yield seen
    event.remove(Engine, "before_cursor_execute", executed)


async def asked(client: httpx.AsyncClient, path: str = "/v1/me") -> int:
    return (await client.get(path)).status_code


async def test_keys_and_workspaces_are_limited_each_by_itself(
    database: Database, login_url: str
) -> None:
    (acme, ann), (_, eve) = await make_workspace(database), await make_workspace(database)
    held = frozenset({Scope.ADMIN})
    bob = await issue_key(database, acme.workspace_id, NewKey(name="b", subject="bob", scopes=held))
    limits = {"rate_limit_key": 2 * ONE, "rate_limit_workspace": 3 * ONE, **SLOW}
    async with running(login_url, **limits) as connect:
        assert [await asked(connect(ann)) for _ in range(3)] == [200, 200, 429]
        assert [await asked(connect(bob)) for _ in range(2)] == [200, 429]
        assert [await asked(connect(eve)) for _ in range(3)] == [200, 200, 429]
        assert await asked(connect(ann), FIGURES) == 404  # costly ones count by themselves
        assert await asked(connect(None), "/livez") == 200
        assert await asked(connect(None)) == 401


async def test_figures_have_a_limit_of_their_own(
    identity: tuple[Principal, ApiKey], login_url: str
) -> None:
    async with running(login_url, rate_limit_costly_key=ONE, **SLOW) as connect:
        client = connect(identity[1])
        assert [await asked(client, FIGURES) for _ in range(2)] == [404, 429]
        refused = await client.get(FIGURES)
        assert refused.headers["RateLimit"].startswith('"costly-key";r=0;t=3')
        assert refused.headers["Retry-After"] == refused.headers["RateLimit"][19:23]
        assert await asked(client) == 200


async def test_only_those_operations_are_costly_that_are_meant(login_url: str) -> None:
    paths = create_app(load_settings()).openapi()["paths"]
    lines = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    costly = {line for line in lines if is_costly(*line.split(" "))}
    under = {line for line in lines if "/v1/pipelines/{pipeline}/metrics/" in line}
    assert len(under) > 20
    assert costly - under == {
        "POST /v1/pipelines/{pipeline}/idle/preview",
        "GET /v1/pipelines/{pipeline}/idle/suggestions",
        "POST /v1/pipelines/{pipeline}/imports",
        "POST /v1/transitions/batch",
        "POST /v1/idle-scans",
        "GET /v1/digest",
        "GET /v1/audit-log/export",
    }
    assert under <= costly
    assert {line for line in lines if line.endswith("/export")} <= costly
    for each in COSTLY:
        assert any(re.fullmatch(each, line) for line in lines), f"nothing is asked by {each}"


@pytest.fixture
async def wary(login_url: str) -> AsyncIterator[Connect]:
    """A service that looks three wrong keys up for an address, and then none for an hour."""
    async with running(login_url, rate_limit_wrong_keys=3 * ONE, **SLOW) as connect:
        yield connect


async def test_a_flood_of_wrong_keys_does_not_reach_the_database(
    wary: Connect, look_ups: list[str]
) -> None:
    answers = [await wary(new_key()).get("/v1/me") for _ in range(20)]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 17
    assert answers[-1].json()["code"] == "rate_limited"
    assert int(answers[-1].headers["Retry-After"]) > 1000
    assert len(look_ups) == 3


async def test_a_flood_of_wrong_keys_holds_up_none_that_was_good(
    wary: Connect,
    database: Database,
    identity: tuple[Principal, ApiKey],
    look_ups: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authentication, "BELIEVED", 0.0)  # every key is looked up every time
    _, key = identity
    client = wary(key)
    assert await asked(client) == 200
    forged = ApiKey(key.key_id, new_key().secret)
    flood = [await asked(wary(wrong)) for wrong in [forged, *(new_key() for _ in range(9)), forged]]
    assert flood == [401] * 3 + [429] * 8
    assert await asked(client) == 200
    assert len(look_ups) == 1 + 3 + 1
    _, new = await make_workspace(database)
    assert await asked(wary(new)) == 429  # from the same address, and not known to be good


@pytest.mark.parametrize("before", ["unknown", "in use"])
async def test_a_wrong_secret_of_a_known_key_counts_each_time_and_is_looked_up_once(
    wary: Connect, identity: tuple[Principal, ApiKey], look_ups: list[str], before: str
) -> None:
    right = wary(identity[1])
    if before == "in use":
        assert await asked(right) == 200
    forged = ApiKey(identity[1].key_id, new_key().secret)
    assert [await asked(wary(forged)) for _ in range(20)] == [401] * 3 + [429] * 17
    assert await asked(right) == 200
    assert len(look_ups) == 1


async def test_wrong_tokens_count_as_wrong_keys_do_and_hold_up_no_right_one(
    login_url: str, tmp_path: Path, identity: tuple[Principal, ApiKey]
) -> None:
    issuer, other = signer("ES256"), signer("ES256", "another")
    (keys := tmp_path / "jwks.json").write_bytes(key_set(issuer))
    tokens = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(keys)}
    said = claims(workspace=identity[0].workspace_id.hex)
    async with running(login_url, rate_limit_wrong_keys=3 * ONE, **SLOW, **tokens) as connect:
        forged = connect(replace(other, kid=issuer.kid).sign(said))
        assert [await asked(forged) for _ in range(10)] == [401] * 3 + [429] * 7
        assert [await asked(connect(issuer.sign(said))) for _ in range(2)] == [200] * 2
        assert await asked(connect(new_key())) == 429


async def test_a_key_that_is_gone_counts_as_wrong_from_then_on(
    wary: Connect, database: Database
) -> None:
    principal, key = await make_workspace(database)
    await revoke_key(database, principal.workspace_id, key.key_id)
    assert [await asked(wary(key)) for _ in range(5)] == [401] * 3 + [429] * 2


async def test_open_streams_leave_the_places_of_requests_free(
    identity: tuple[Principal, ApiKey], login_url: str, operating: dict[str, str]
) -> None:
    limits = {"requests_at_once": 2, "streams_at_once": 3, "webhooks": False}
    async with serving(login_url, **limits) as served, served.client(identity[1]) as client:
        async with stream(client), stream(client), stream(client):
            assert await asked(client) == 200
            refused = await client.get("/v1/events/stream")
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert refused.headers["Retry-After"] == "1"
            figures = (await client.get("/metrics", headers=operating)).text
            assert "sluice_event_streams 3.0" in figures
            assert "sluice_http_requests_in_progress 0.0" in figures
            assert 'sluice_http_refusals_total{limit="streams-at-once"} 1.0' in figures
        async with asyncio.timeout(20):
            while "sluice_event_streams 0.0" not in figures:
                figures = (await client.get("/metrics", headers=operating)).text
        async with stream(client):
            assert len(served.broadcast.streams) == 1


async def test_pages_of_a_configured_origin_may_read_answers_and_no_others(
    login_url: str, identity: tuple[Principal, ApiKey]
) -> None:
    ours, foreign = "https://app.example.com", "https://evil.example.com"
    async with running(login_url, cors_origins=(ours,)) as connect:
        client = connect(identity[1])
        for origin, allowed in ((ours, ours), (foreign, None)):
            answer = await client.get("/v1/me", headers={"Origin": origin})
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
