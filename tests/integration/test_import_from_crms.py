"""The mapping files of the guide, on samples made in the form of each export."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.http.guide import FOLDER, mappings
from app.jobs.run_imports import run_pending_imports
from app.storage.engine import Database
from tests.guide import fence, fences
from tests.streams import serving

SAMPLES = Path(__file__).parents[1] / "samples"

Log = list[tuple[str, str, str]]
"""Kind, stage entered and instant of each transition of a deal."""


def flow() -> str:
    """Pipedrive's flow as the guide's own code makes rows of it."""
    told: dict[str, Any] = {}
    exec(fence("import-from-crms", "python pipedrive"), told)
    given = json.loads((SAMPLES / "pipedrive-flow.json").read_text())
    stages = {stage["id"]: stage["name"] for stage in given["stages"]}
    rows = [
        row
        for deal in given["deals"]
        for row in told["moves"](deal, given["flows"][str(deal["id"])], stages)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


EXPECTED: dict[str, tuple[dict[str, Log], list[tuple[int, str]]]] = {
    "salesforce-opportunity-history": (
        {
            "006A1": [
                ("opened", "prospect", "2026-01-05T09:00:00Z"),
                ("advanced", "contact", "2026-01-12T10:30:00Z"),
                ("skipped", "quote", "2026-02-02T16:45:00Z"),
                ("won", "won", "2026-03-01T11:00:00Z"),
            ],
            "006A2": [
                ("opened", "needs_confirmed", "2026-01-20T09:00:00Z"),
                ("lost", "lost", "2026-02-20T09:00:00Z"),
                ("reopened", "negotiation", "2026-03-05T09:00:00Z"),
            ],
        },
        [],
    ),
    "salesforce-opportunities": (
        {
            "006B1": [
                ("opened", "prospect", "2026-01-05T09:00:00Z"),
                ("won", "won", "2026-03-01T11:00:00Z"),
            ],
            "006B2": [("opened", "prospect", "2026-01-20T09:00:00Z")],
        },
        [(4, "undated")],
    ),
    "hubspot-deals": (
        {
            "10000000001": [
                ("opened", "prospect", "2026-01-05T08:00:00Z"),
                ("advanced", "contact", "2026-01-12T09:30:00Z"),
                ("skipped", "quote", "2026-02-02T15:45:00Z"),
                ("advanced", "negotiation", "2026-02-20T07:00:00Z"),
                ("won", "won", "2026-04-01T09:00:00Z"),
            ],
            "10000000002": [
                ("opened", "prospect", "2026-01-20T08:00:00Z"),
                ("skipped", "needs_confirmed", "2026-01-25T08:00:00Z"),
                ("lost", "lost", "2026-02-20T08:00:00Z"),
            ],
            "10000000003": [
                ("opened", "contact", "2026-02-08T08:00:00Z"),
                ("regressed", "prospect", "2026-02-10T08:00:00Z"),
            ],
        },
        [(4, "order_contradicted")],
    ),
    "pipedrive-deals": (
        {
            "1": [
                ("opened", "prospect", "2026-01-05T08:00:00Z"),
                ("skipped", "quote", "2026-02-02T15:45:00Z"),
                ("won", "won", "2026-04-01T09:00:00Z"),
            ],
            "2": [
                ("opened", "prospect", "2026-01-20T08:00:00Z"),
                ("advanced", "contact", "2026-01-25T08:00:00Z"),
                ("lost", "lost", "2026-02-20T08:00:00Z"),
            ],
            "3": [("opened", "prospect", "2026-02-10T08:00:00Z")],
        },
        [(5, "undated")],
    ),
    "pipedrive-flow": (
        {
            "1": [
                ("opened", "prospect", "2026-01-05T09:00:00Z"),
                ("skipped", "quote", "2026-02-02T16:45:00Z"),
                ("won", "won", "2026-04-01T11:00:00Z"),
            ],
            "2": [
                ("opened", "contact", "2026-01-20T09:00:00Z"),
                ("lost", "lost", "2026-02-20T09:00:00Z"),
                ("reopened", "contact", "2026-03-05T09:00:00Z"),
            ],
        },
        [],
    ),
    "zoho-deal-history": (
        {
            "4870001": [
                ("opened", "contact", "2026-01-05T08:00:00Z"),
                ("advanced", "needs_confirmed", "2026-01-12T09:30:00Z"),
                ("advanced", "quote", "2026-02-02T15:45:00Z"),
                ("won", "won", "2026-04-01T09:00:00Z"),
            ],
            "4870002": [
                ("opened", "contact", "2026-01-20T08:00:00Z"),
                ("lost", "lost", "2026-02-20T08:00:00Z"),
            ],
        },
        [],
    ),
}
"""By mapping: the log of every deal of its sample, and the lines that are reported, with why."""

FACTS: dict[str, dict[str, Any]] = {
    "salesforce-opportunity-history": {
        "external_id": "006A1",
        "name": "Deal A1",
        "owner": "owner-1",
        "source": "Web",
        "amount": {"amount": "14500.00", "currency": "EUR"},
    },
    "hubspot-deals": {
        "external_id": "10000000002",
        "name": "Deal H2",
        "owner": "owner-2",
        "attributes": {"closed_lost_reason": "Went quiet"},
    },
    "pipedrive-deals": {
        "external_id": "2",
        "amount": {"amount": "750.50", "currency": "USD"},
        "attributes": {"lost_reason": "Went quiet"},
    },
    "pipedrive-flow": {"external_id": "2", "amount": {"amount": "750.50", "currency": "USD"}},
}


@pytest.fixture
async def pipeline(client: httpx.AsyncClient) -> None:
    """The pipeline that the guide has its reader make."""
    made = await client.post("/v1/pipelines", json={"key": "sales", "template": "b2b"})
    assert made.status_code == 201


async def imported(client: httpx.AsyncClient, database: Database, name: str) -> Any:
    """The import of a sample with its mapping, when it is over."""
    mapping = (FOLDER / "imports" / f"{name}.json").read_text()
    sample = flow() if name == "pipedrive-flow" else (SAMPLES / f"{name}.csv").read_text()
    sent = await client.post(
        "/v1/pipelines/sales/imports",
        data={"mapping": mapping},
        files={"file": ("history", sample)},
    )
    assert sent.status_code == 202, sent.text
    while True:
        job = (await client.get(sent.headers["Location"])).json()
        if job["finished_at"] is not None:
            return job
        await run_pending_imports(database)


async def logs(client: httpx.AsyncClient) -> dict[str, Log]:
    """Every deal's log."""
    found: dict[str, Log] = {}
    for deal in (await client.get("/v1/opportunities")).json()["items"]:
        answer = await client.get(f"/v1/opportunities/{deal['id']}/transitions")
        found[deal["external_id"]] = [
            (row["kind"], row["to_stage"], row["occurred_at"]) for row in answer.json()["items"]
        ]
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
async def test_the_commands_of_the_page_run_as_they_stand(
    login_url: str, identity: tuple[Principal, ApiKey], tmp_path: Path
) -> None:
    (commands, *_) = (block.code for block in fences("sh") if block.page == "import-from-crms")
    shutil.copy(SAMPLES / "hubspot-deals.csv", tmp_path / "deals.csv")
    async with serving(login_url, webhooks=False) as service:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", commands.replace("curl ", "curl --silent --show-error --fail ")),
            cwd=tmp_path,
            env={**os.environ, "BASE": service.url, "KEY": str(identity[1])},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        answered, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
    assert b'"state":"pending"' in answered


def test_every_mapping_file_has_a_sample_to_be_tried_on() -> None:
    assert mappings() == {f"{name}.json" for name in EXPECTED}


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_sample_gives_the_log_that_it_tells_and_nothing_more_a_second_time(
    client: httpx.AsyncClient, database: Database, pipeline: None, name: str
) -> None:
    expected, remarks = EXPECTED[name]
    first = await imported(client, database, name)
    assert first["state"] == "completed"
    assert await logs(client) == expected
    errors = (await client.get(f"/v1/imports/{first['id']}/errors")).json()["items"]
    assert [(each["line"], each["code"]) for each in errors] == remarks
    told = FACTS.get(name, {})
    if told:
        asked = {"external_id": told["external_id"]}
        (deal,) = (await client.get("/v1/opportunities", params=asked)).json()["items"]
        assert {fact: deal[fact] for fact in told} == told

    second = (await imported(client, database, name))["counts"]
    assert (second["transitions"], second["deals_created"], second["deals_changed"]) == (0, 0, 0)
    assert second["present"] == first["counts"]["transitions"]
    assert await logs(client) == expected


async def test_an_outcome_of_zohos_becomes_a_loss_reason(
    client: httpx.AsyncClient, database: Database, pipeline: None
) -> None:
    await imported(client, database, "zoho-deal-history")
    (lost,) = (await client.get("/v1/transitions", params={"kind": "lost"})).json()["items"]
    assert lost["loss_reason"] == "competitor"
