"""What an import does with files, mappings and clocks that are not what they should be."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.domain.access import Principal
from app.domain.pipeline import Pipeline
from app.jobs.run_imports import run_pending_imports
from app.storage.engine import Database, connect_arguments
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline, sales_pipeline

MAPPING = {
    "shape": "long",
    "deal": "deal",
    "stage": "stage",
    "occurred_at": "at",
    "stages": {"lead": "lead", "offer": "offer"},
}


@pytest.fixture
async def sales(database: Database, principal: Principal) -> Pipeline:
    return await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def send(
    client: httpx.AsyncClient, content: str | bytes, mapping: Any = MAPPING
) -> httpx.Response:
    return await client.post(
        "/v1/pipelines/sales/imports",
        data={"mapping": json.dumps(mapping)},
        files={"file": ("deals.csv", content, "text/csv")},
    )


async def done(client: httpx.AsyncClient, database: Database, sent: httpx.Response) -> Any:
    async with asyncio.timeout(30):
        while True:
            job = (await client.get(sent.headers["Location"])).json()
            if job["finished_at"] is not None:
                return job
            await run_pending_imports(database)


@pytest.mark.parametrize("content", ["deal,stage,at\rD,lead,2026-01-01\r", "d" * 140_000])
async def test_a_header_that_is_no_csv_is_refused_before_anything_is_stored(
    client: httpx.AsyncClient, sales: Pipeline, content: str
) -> None:
    answer = await send(client, content)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
    assert [breach["pointer"] for breach in answer.json()["errors"]] == ["/file"]
    assert (await client.get("/v1/imports")).json()["items"] == []


async def test_what_is_wrong_with_a_mapping_is_told_at_its_place(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    answer = await send(client, "deal,stage,at\n", {**MAPPING, "stagse": {}, "deel": "x"})
    assert answer.status_code == 422
    pointers = sorted(breach["pointer"] for breach in answer.json()["errors"])
    assert pointers == ["/mapping/deel", "/mapping/stagse"]


@pytest.mark.parametrize(
    ("content", "read", "hint"),
    [
        ("deal;stage;at\n", "'deal;stage;at'", "If ';' stands between its columns"),
        ("deal\tstage\tat\n", r"'deal\tstage\tat'", "say so in the mapping's `delimiter`"),
        ("Deal,stage,at\n", "'Deal', 'stage', 'at'", ""),
        ("deal,größe\n".encode("latin-1"), "'deal'", "It is no text in UTF-8"),
        ("d" * 1_000 + ",at\n", "'ddd", " …."),
    ],
)
async def test_a_header_that_does_not_fit_is_shown_as_it_was_read(
    client: httpx.AsyncClient, sales: Pipeline, content: str | bytes, read: str, hint: str
) -> None:
    answer = await send(client, content)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid")
    assert f"It was read as {read}" in problem["detail"]
    assert hint in problem["detail"]
    assert {each["code"] for each in problem["errors"]} == {"unknown_column"}


async def test_a_column_that_differs_in_case_is_named(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    (error,) = (await send(client, "DEAL,stage,at\n")).json()["errors"]
    assert error["detail"] == (
        "The header has no column 'deal' but 'DEAL': upper and lower case differ."
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
async def test_a_file_in_utf_16_is_told_so(
    client: httpx.AsyncClient, sales: Pipeline, encoding: str
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    answer = await send(client, f"{mark}deal,stage,at\n".encode(encoding))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "The file is written in UTF-16: save it as UTF-8."


async def test_a_mapping_without_its_shape_is_told_that_it_lacks_it(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    (error,) = (await send(client, "deal,stage,at\n", {})).json()["errors"]
    assert (error["pointer"], error["code"]) == ("/mapping/shape", "required")
    assert "discriminator" not in error["detail"]


async def test_a_row_a_little_ahead_is_taken_as_now(
    client: httpx.AsyncClient, database: Database, sales: Pipeline
) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=45)
    sent = await send(client, f"deal,stage,at\nD,lead,{ahead.isoformat()}\n")
    job = await done(client, database, sent)
    assert job["counts"]["transitions"] == 1
    (deal,) = (await client.get("/v1/opportunities?external_id=D")).json()["items"]
    assert datetime.fromisoformat(deal["opened_at"]) <= datetime.now(UTC)
    funnel = (await client.get("/v1/pipelines/sales/metrics/funnel")).json()
    assert funnel["total"]["deals"] == 1


async def test_an_import_that_cannot_be_read_back_fails_alone(own_database: str) -> None:
    database = await Database.open(own_database, size=4)
    (one, one_key), (other, other_key) = [await make_workspace(database) for _ in range(2)]
    for principal in (one, other):
        await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    async with running(own_database) as connect:
        broken = await send(connect(one_key), "deal,stage,at\nD,lead,2026-01-01\n")
        sound = await send(connect(other_key), "deal,stage,at\nD,lead,2026-01-01\n")
        connection = await asyncpg.connect(**connect_arguments(own_database))
        await connection.execute(
            "BEGIN; SET LOCAL ROLE sluice_app; "
            f"SET LOCAL app.workspace_id = '{one.workspace_id}'; "
            """UPDATE import_job SET mapping = '{"shape": "neither"}'; COMMIT"""
        )
        await connection.close()
        failed = await done(connect(one_key), database, broken)
        assert (failed["state"], failed["counts"]["transitions"]) == ("failed", 0)
        assert (await done(connect(other_key), database, sound))["state"] == "completed"
    await database.close()
