"""The client in docs/requests.md does what the page says, on good days and on bad ones."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.storage.engine import Database
from tests.factories import keep_pipeline, sales_pipeline
from tests.guide import fence
from tests.streams import serving

DONE = (200, {}, {"done": True})
BUSY = (503, {"Retry-After": "0"}, {"code": "unavailable", "detail": "Later."})
FAST = (429, {"Retry-After": "0"}, {"code": "any", "detail": "Slower."})
RUNNING = (409, {"Retry-After": "0"}, {"code": "request_in_progress", "detail": "Still."})
STALE = (412, {}, {"code": "stale", "detail": "The present version is 4."})

Answer = tuple[int, dict[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the page's code defines."""
    names: dict[str, Any] = {}
    exec(fence("requests", "python client"), names)
    return names


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A service that gives these answers in turn; its address, and the headers that it was sent."""
    left, seen = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = left.pop(0)
            self.send_response(status)
            kind = "json" if status < 400 else "problem+json"
            for name, value in {**headers, "Content-Type": f"application/{kind}"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_it_repeats_what_may_be_repeated_under_one_key(told: dict[str, Any]) -> None:
    with answering(BUSY, FAST, RUNNING, DONE) as (base, seen):
        assert told["Api"](base, "key").call("POST", "/v1/x", {"a": 1}) == {"done": True}
    assert len(seen) == 4
    assert len({each["idempotency-key"] for each in seen}) == 1


def test_it_does_not_repeat_what_is_refused_for_good(told: dict[str, Any]) -> None:
    with (
        answering(STALE) as (base, seen),
        pytest.raises(told["Refused"], match="412 stale: The present version is 4") as refused,
    ):
        told["Api"](base, "key").call("POST", "/v1/x", {}, If_Match='"3"')
    assert refused.value.problem["code"] == "stale"
    assert [each["if-match"] for each in seen] == ['"3"']


def test_what_it_raises_says_what_is_wrong_where(told: dict[str, Any]) -> None:
    errors = [{"pointer": "/name", "code": "required", "detail": "It is missing"}]
    invalid = (422, {}, {"code": "invalid", "detail": "See errors: /name.", "errors": errors})
    with answering(invalid) as (base, _), pytest.raises(told["Refused"]) as refused:
        told["Api"](base, "key").call("POST", "/v1/x", {})
    assert str(refused.value) == "422 invalid: See errors: /name.\n  /name: It is missing"


def test_it_gives_up_after_its_attempts(told: dict[str, Any]) -> None:
    with answering(BUSY, BUSY) as (base, seen), pytest.raises(told["Refused"], match="503"):
        told["Api"](base, "key", attempts=2).call("POST", "/v1/x", {})
    assert len(seen) == 2


async def test_it_follows_a_list_to_its_end(
    told: dict[str, Any],
    database: Database,
    login_url: str,
    identity: tuple[Principal, ApiKey],
    client: httpx.AsyncClient,
) -> None:
    principal, key = identity
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())

    def walk(base: str) -> tuple[list[str], list[str]]:
        api = told["Api"](base, str(key))
        deals = [
            api.call("POST", "/v1/opportunities", {"pipeline": "sales", "name": f"Deal {n}"})
            for n in range(5)
        ]
        one = f"/v1/opportunities/{deals[0]['id']}"
        api.call("PATCH", one, {"owner": "tom"}, If_Match='"1"')
        found = [deal["name"] for deal in api.items("/v1/opportunities", 2, pipeline="sales")]
        return found, [deal["owner"] for deal in api.items("/v1/opportunities", owner=["tom"])]

    async with serving(login_url, webhooks=False) as service:
        found, owners = await asyncio.to_thread(walk, service.url)
    assert found == [f"Deal {n}" for n in reversed(range(5))]
    assert owners == ["tom"]
