"""What a caller may ask for in a time, what is told of it, and what comes back when."""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.access import Operator, Principal
from app.domain.errors import NotFound, RateLimited
from app.http import middleware, problems
from app.http.guard import Refusals
from app.http.limits import RateLimits, Rates, WrongKeys, is_costly

IsProblem = Callable[[httpx.Response, str], dict[str, Any]]
SECOND = 1_000_000_000
RATES = Rates(key=2, workspace=3, costly_key=1, costly_workspace=1, burst=2)
NONE = Rates(key=0, workspace=0, costly_key=0, costly_workspace=0, burst=2)
ACME, OTHER = UUID(int=1), UUID(int=2)
FUNNEL = "/v1/pipelines/sales/metrics/funnel"

CALLERS: dict[str, Principal | Operator] = {
    "ann": Principal(ACME, "ann", frozenset(), "k1"),
    "bob": Principal(ACME, "bob", frozenset(), "k2"),
    "eve": Principal(OTHER, "eve", frozenset(), "k3"),
    "ann-by-token": Principal(ACME, "ann", frozenset()),
    "ben-by-token": Principal(ACME, "ben", frozenset()),
    "ann-of-others-by-token": Principal(OTHER, "ann", frozenset()),
    "operator": Operator("root", "k4"),
}


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Named:
    """Stands where authentication stands: whoever says a name is believed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization")
        if given is not None:
            scope["state"]["caller"] = CALLERS[given.decode()]
        await self.app(scope, receive, send)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask(clock: Clock, registry: CollectorRegistry) -> Callable[..., Any]:
    """`ask("ann", path, rates=…)`: an answer."""
    clients: dict[Rates, httpx.AsyncClient] = {}
    refusals = Refusals(registry)

    def made(rates: Rates) -> httpx.AsyncClient:
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

        @app.get("/v1/refused")
        async def refused() -> None:
            raise NotFound("It is not here.")

        @app.get("/v1/broken")
        async def broken() -> None:
            raise RuntimeError("oh")

        @app.get("/v1/unchanged")
        async def unchanged() -> None:
            raise HTTPException(304)

        @app.get("/{path:path}")
        async def anything(path: str) -> str:
            return path

        problems.install(app)
        app.add_middleware(RateLimits, rates=rates, refusals=refusals, clock=clock)
        app.add_middleware(Named)
        middleware.install(app, middleware.RequestMetrics(CollectorRegistry()))
        transport = httpx.ASGITransport(app)
        return httpx.AsyncClient(transport=transport, base_url="http://sluice.test")

    async def answered(
        name: str | None, path: str = "/v1/me", *, rates: Rates = RATES
    ) -> httpx.Response:
        if rates not in clients:
            clients[rates] = made(rates)
        headers = {} if name is None else {"authorization": name}
        return await clients[rates].get(path, headers=headers)

    return answered


async def test_every_answer_says_what_is_left_and_the_limits_themselves(ask: Any) -> None:
    answer = await ask("ann")
    assert answer.headers["RateLimit"] == '"key";r=3;t=1, "workspace";r=5;t=1'
    assert answer.headers["RateLimit-Policy"] == '"key";q=4;w=2, "workspace";q=6;w=2'
    assert (await ask("ann")).headers["RateLimit"] == '"key";r=2;t=1, "workspace";r=4;t=1'


async def test_refusals_failures_and_unchanged_answers_bear_the_headers_too(ask: Any) -> None:
    for name, path, status in (
        ("ann", "/v1/refused", 404),
        ("bob", "/v1/unchanged", 304),
        ("eve", "/v1/broken", 500),
        ("operator", "/v1/nothing", 200),
    ):
        answer = await ask(name, path)
        assert answer.status_code == status
        assert answer.headers["RateLimit"].startswith('"key";r=3;t=1')


async def test_whoever_is_nobody_yet_draws_on_nothing(ask: Any) -> None:
    for _ in range(10):
        answer = await ask(None, "/livez")
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers


async def test_more_than_the_limit_is_refused_and_told_which_limit_and_when_to_come_back(
    ask: Any, is_problem: IsProblem, registry: CollectorRegistry
) -> None:
    for _ in range(4):
        assert (await ask("ann")).status_code == 200
    refused = await ask("ann")
    assert '"key"' in is_problem(refused, "rate_limited")["detail"]
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["RateLimit"] == '"key";r=0;t=1, "workspace";r=2;t=1'
    assert refused.headers["RateLimit-Policy"] == '"key";q=4;w=2, "workspace";q=6;w=2'
    assert registry.get_sample_value("sluice_http_refusals_total", {"limit": "key"}) == 1


async def test_after_the_time_that_was_said_it_goes_on(ask: Any, clock: Clock) -> None:
    for _ in range(5):
        last = await ask("ann")
    assert last.status_code == 429
    clock.passes(int(last.headers["Retry-After"]))
    assert [(await ask("ann")).status_code for _ in range(3)] == [200, 200, 429]
    clock.passes(3600)
    assert [(await ask("ann")).status_code for _ in range(5)] == [200] * 4 + [429]


async def test_a_slow_limit_names_a_longer_wait(
    ask: Any, clock: Clock, is_problem: IsProblem
) -> None:
    slow = Rates(key=0.1, workspace=0, costly_key=0, costly_workspace=0, burst=1)
    first = await ask("ann", rates=slow)
    assert first.headers["RateLimit"] == '"key";r=0;t=10'
    assert first.headers["RateLimit-Policy"] == '"key";q=1;w=10'
    clock.passes(2.5)
    refused = await ask("ann", rates=slow)
    is_problem(refused, "rate_limited")
    assert refused.headers["Retry-After"] == "8"
    clock.passes(7.5)
    assert (await ask("ann", rates=slow)).status_code == 200


async def test_one_credential_does_not_use_up_anothers_limit(ask: Any) -> None:
    for _ in range(9):
        await ask("ann")
    assert (await ask("bob")).status_code == 200
    assert (await ask("ann-by-token")).status_code == 200


async def test_callers_without_a_key_are_told_apart_by_workspace_and_subject(ask: Any) -> None:
    for _ in range(4):
        assert (await ask("ann-by-token")).status_code == 200
    assert (await ask("ann-by-token")).status_code == 429
    assert (await ask("ben-by-token")).status_code == 200
    assert (await ask("ann-of-others-by-token")).headers["RateLimit"].startswith('"key";r=3')


async def test_the_credentials_of_a_workspace_share_its_limit_and_those_of_others_do_not(
    ask: Any, is_problem: IsProblem
) -> None:
    for name in ("ann", "bob") * 3:
        assert (await ask(name)).status_code == 200
    refused = await ask("bob")
    assert '"workspace"' in is_problem(refused, "rate_limited")["detail"]
    assert refused.headers["RateLimit"] == '"key";r=1;t=1, "workspace";r=0;t=1'
    # Refused by one limit, it takes nothing of the other.
    assert (await ask("bob")).headers["RateLimit"] == '"key";r=1;t=1, "workspace";r=0;t=1'
    assert (await ask("eve")).status_code == 200


async def test_costly_questions_and_moves_do_not_stop_each_other(
    ask: Any, is_problem: IsProblem
) -> None:
    for _ in range(2):
        assert (await ask("ann", FUNNEL)).status_code == 200
    refused = await ask("ann", FUNNEL)
    assert '"costly-key"' in is_problem(refused, "rate_limited")["detail"]
    policy = '"costly-key";q=2;w=2, "costly-workspace";q=2;w=2'
    assert refused.headers["RateLimit-Policy"] == policy
    assert '"costly-workspace"' in is_problem(await ask("bob", FUNNEL), "rate_limited")["detail"]
    assert (await ask("ann")).headers["RateLimit"] == '"key";r=3;t=1, "workspace";r=5;t=1'


async def test_an_operator_has_a_limit_of_the_credential_alone(ask: Any) -> None:
    for left in (3, 2, 1, 0):
        assert (await ask("operator")).headers["RateLimit"] == f'"key";r={left};t=1'
    assert (await ask("operator")).status_code == 429


async def test_a_limit_of_zero_is_none_and_is_not_spoken_of(ask: Any) -> None:
    for _ in range(100):
        answer = await ask("ann", rates=NONE)
        assert answer.status_code == 200
    assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)
    only = Rates(key=0, workspace=3, costly_key=0, costly_workspace=0, burst=2)
    assert (await ask("ann", rates=only)).headers["RateLimit"] == '"workspace";r=5;t=1'


async def test_what_is_told_is_written_as_structured_fields(ask: Any) -> None:
    item = r'"[a-z-]+"(;[a-z]=\d+){2}'
    for path in ("/v1/me", FUNNEL):
        for field in ("RateLimit", "RateLimit-Policy"):
            assert re.fullmatch(f"{item}(, {item})*", (await ask("ann", path)).headers[field])


@pytest.mark.parametrize(
    ("line", "costly"),
    [
        (f"GET {FUNNEL}", True),
        (f"GET {FUNNEL}/deals", True),
        ("POST /v1/pipelines/sales/idle/preview", True),
        ("GET /v1/pipelines/sales/idle/suggestions", True),
        ("POST /v1/pipelines/sales/imports", True),
        ("GET /v1/pipelines/sales/imports", False),
        ("POST /v1/transitions/batch", True),
        ("POST /v1/idle-scans", True),
        ("GET /v1/idle-scans", False),
        ("GET /v1/audit-log/export", True),
        ("GET /v1/audit-log", False),
        ("GET /v1/pipelines/metrics/stages", False),
        ("GET /v1/pipelines/sales/idle/upcoming", False),
        ("GET /v1/opportunities/export/transitions", False),
        ("GET /v1/metric-definitions", False),
        ("GET /v1/imports", False),
        ("GET /metrics", False),
    ],
)
def test_what_is_costly_is_known_by_method_and_path(line: str, costly: bool) -> None:
    assert is_costly(*line.split(" ")) is costly


def scope(host: str | None) -> Scope:
    return {"type": "http", "client": None if host is None else (host, 40_000)}


def test_wrong_keys_of_one_address_hold_up_no_other(
    clock: Clock, registry: CollectorRegistry
) -> None:
    wrong = WrongKeys(1, 3, Refusals(registry), clock)
    for _ in range(10):
        wrong.count(scope("192.0.2.1"))
    with pytest.raises(RateLimited) as refused:
        wrong.check(scope("192.0.2.1"))
    assert refused.value.wait == 1
    wrong.check(scope("192.0.2.2"))
    wrong.check(scope(None))
    clock.passes(1)
    wrong.check(scope("192.0.2.1"))
    assert registry.get_sample_value("sluice_http_refusals_total", {"limit": "wrong-keys"}) == 1


def test_addresses_of_one_ipv6_network_are_one_client(
    clock: Clock, registry: CollectorRegistry
) -> None:
    wrong = WrongKeys(1, 3, Refusals(registry), clock)
    for number in range(3):
        wrong.count(scope(f"2001:db8:0:1::{number}"))
    with pytest.raises(RateLimited):
        wrong.check(scope("2001:db8:0:1:ffff::9"))
    wrong.check(scope("2001:db8:0:2::1"))


def test_asking_takes_nothing_so_that_good_keys_are_never_held_up(
    clock: Clock, registry: CollectorRegistry
) -> None:
    wrong = WrongKeys(1, 1, Refusals(registry), clock)
    for _ in range(1_000):
        wrong.check(scope("192.0.2.1"))
    for host in ("192.0.2.1", "not:an:address"):
        wrong.count(scope(host))
        with pytest.raises(RateLimited):
            wrong.check(scope(host))
    off = WrongKeys(0, 1, Refusals(CollectorRegistry()), clock)
    for _ in range(1_000):
        off.count(scope("192.0.2.1"))
        off.check(scope("192.0.2.1"))
