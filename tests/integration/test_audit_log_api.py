"""Reading the audit log: page by page, by filters, one entry, and all of it as one stream."""

import json
import logging
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.domain.access import Principal
from app.domain.audit_log import Action
from app.http.routes.audit_log import AT_ONCE
from app.storage.engine import Database, connect_arguments
from app.storage.ids import new_id
from tests.audit import LOG, Told, entries, exported, record, record_many
from tests.integration.test_metric_hang_up import Line, calling
from tests.integration.test_metric_timeouts import owned, until

STALLED = 40_000
"""Entries that no buffer between the service and a caller has room for: about 18 MB."""


@pytest.fixture
async def log(client: httpx.AsyncClient, database: Database, principal: Principal) -> list[Told]:
    """Twelve entries of three actions, targets and actors; the newest first."""
    actions = (Action.PIPELINE_UPDATED, Action.API_KEY_REVOKED, Action.TRANSITION_VOIDED)
    for number in range(12):
        action, target = actions[number % 3], ("sales", "hiring", "x")[number // 2 % 3]
        by = ("mia", "tom", "sluice")[number // 4]
        await record(database, principal.workspace_id, action, target, by)
    return await entries(client)


async def test_the_newest_entry_comes_first_and_each_once(
    client: httpx.AsyncClient, log: list[Told]
) -> None:
    assert len(log) == 12
    assert [each["recorded_at"] for each in log] == sorted(
        (each["recorded_at"] for each in log), reverse=True
    )
    paged: list[Told] = []
    path: str | None = f"{LOG}?limit=5"
    pages = 0
    while path is not None:
        answer = await client.get(path)
        paged += answer.json()["items"]
        path = answer.links["next"]["url"] if "next" in answer.links else None
        pages += 1
    assert (paged, pages) == (log, 3)


async def test_what_is_recorded_meanwhile_moves_nothing_on_the_pages_that_follow(
    client: httpx.AsyncClient, database: Database, principal: Principal, log: list[Told]
) -> None:
    first = (await client.get(LOG, params={"limit": 4})).json()
    await record(database, principal.workspace_id, Action.PIPELINE_CREATED, "late")
    cursor = first["page"]["next_cursor"]
    second = (await client.get(LOG, params={"limit": 8, "cursor": cursor})).json()
    assert [*first["items"], *second["items"]] == log
    assert second["page"]["next_cursor"] is None


async def test_every_filter_holds_for_the_list_and_the_export(
    client: httpx.AsyncClient, log: list[Told]
) -> None:
    middle = log[6]["recorded_at"]

    def is_early(entry: Told) -> bool:
        return datetime.fromisoformat(entry["recorded_at"]) < datetime.fromisoformat(middle)

    several = ["pipeline.updated", "api_key.revoked"]
    wanted: list[tuple[dict[str, Any], Any]] = [
        ({}, lambda _: True),
        ({"action": "transition.voided"}, lambda e: e["action"] == "transition.voided"),
        ({"action": several}, lambda e: e["action"] in several),
        ({"target": "sales"}, lambda e: e["target"] == "sales"),
        ({"actor": "tom"}, lambda e: e["actor"] == "tom"),
        ({"actor": "nobody"}, lambda _: False),
        ({"recorded_from": middle}, lambda e: not is_early(e)),
        ({"recorded_to": middle}, is_early),
        (
            {"action": several, "target": "sales", "actor": "mia", "recorded_to": middle},
            lambda e: e["action"] in several and e["target"] == "sales" and e["actor"] == "mia",
        ),
    ]
    for query, passes in wanted:
        expected = [entry for entry in log if passes(entry)]
        assert len(expected) < 12 or query == {}
        assert await entries(client, **query) == expected
        assert await entries(client, limit=1, **query) == expected
        assert await exported(client, **query) == expected[::-1]


async def test_a_cursor_opens_only_the_list_that_it_came_from(
    client: httpx.AsyncClient, log: list[Told]
) -> None:
    asked = {"limit": 1, "action": ["pipeline.updated", "api_key.revoked"]}
    cursor = (await client.get(LOG, params=asked)).json()["page"]["next_cursor"]
    turned = {"action": asked["action"][::-1], "cursor": cursor}
    assert (await client.get(LOG, params=turned)).status_code == 200
    for query in ({}, {"actor": "mia"}, {"action": "pipeline.updated"}):
        answer = await client.get(LOG, params={**query, "cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_one_entry_is_what_the_list_shows_of_it(
    client: httpx.AsyncClient, log: list[Told]
) -> None:
    assert (await client.get(f"{LOG}/{log[3]['id']}")).json() == log[3]
    answer = await client.get(f"{LOG}/{new_id()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        {"action": "pipeline.burnt"},
        {"actor": ""},
        {"recorded_from": "yesterday"},
        {"unknown": "1"},
        {"limit": "0"},
    ],
    ids=str,
)
async def test_a_filter_that_means_nothing_is_refused_by_list_and_export(
    client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    for path in (LOG, f"{LOG}/export"):
        answer = await client.get(path, params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
        assert answer.json()["errors"][0]["pointer"].startswith(f"?{next(iter(query))}")


async def test_the_log_cannot_be_written_by_anybody(client: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await client.request(method, LOG, json={})
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
async def test_an_export_is_the_list_turned_round_however_long_it_is(
    client: httpx.AsyncClient, database: Database, principal: Principal, count: int
) -> None:
    await record_many(database, principal.workspace_id, count)
    answer = await client.get(f"{LOG}/export")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit-log.ndjson"'
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert len(told) == count
    assert told == (await entries(client))[::-1]


async def workspace_of(line: Line) -> UUID:
    async with line.client() as client:
        return UUID((await client.get("/v1/me")).json()["workspace"]["id"])


async def test_an_export_waits_for_its_caller_outside_of_any_transaction(
    own_database: str,
) -> None:
    async with calling(own_database) as line:
        database: Database = line.app.state.database
        workspace = await workspace_of(line)
        await record_many(database, workspace, STALLED)
        reader, writer = await line.ask(f"{LOG}/export")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await until(own_database, [], seconds=20)  # the buffers are full
        await record(database, workspace, Action.PIPELINE_ARCHIVED, "sales")
        body = bytearray()
        while not body.endswith(b"\r\n0\r\n\r\n"):
            body += await reader.read(1 << 20)
        writer.close()
        assert body.count(b'"pipeline.updated"') == STALLED
        assert body.count(b'"pipeline.archived"') == 1  # the last page was read after the wait


async def test_an_export_ends_when_its_caller_hangs_up(
    own_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with calling(own_database, pool_size=2) as line:
        database: Database = line.app.state.database
        workspace = await workspace_of(line)
        await record_many(database, workspace, STALLED)
        caplog.clear()
        for _ in range(5):  # more often than there are connections
            reader, writer = await line.ask(f"{LOG}/export")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(1000)
            writer.close()
        async with line.client() as client:
            answer = await client.get(
                f"{LOG}/export", params={"recorded_to": "2020-01-01T00:00:00Z"}
            )
            assert (answer.status_code, answer.content) == (200, b"")
            assert len((await client.get(LOG)).json()["items"]) == 50
        await until(own_database, [], seconds=5)
        assert line.counted(*range(500, 600)) == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_export_that_cannot_begin_is_refused_as_any_other_request(
    own_database: str,
) -> None:
    async with calling(own_database) as line, line.client() as client:
        owner = await asyncpg.connect(**connect_arguments(owned(own_database)))
        try:
            async with owner.transaction():
                await owner.execute("LOCK TABLE audit_entry IN ACCESS EXCLUSIVE MODE")
                answer = await client.get(f"{LOG}/export")
        finally:
            await owner.close()
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert (await client.get(f"{LOG}/export")).status_code == 200
