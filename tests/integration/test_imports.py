"""Importing history over HTTP: what is taken, what is told of the rest, and what a restart does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions.check_projection import disagreements
from app.actions.import_history import run_next_import
from app.actions.import_mapping import parse_mapping
from app.actions.move_opportunity import move_opportunity
from app.actions.receive_import import receive_import
from app.domain.access import Principal
from app.domain.errors import AlreadyThere
from app.domain.pipeline import Pipeline
from app.domain.transition import Move
from app.jobs.run_imports import run_pending_imports
from app.storage import imports
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer
from app.storage.ids import new_id
from app.storage.imports import ImportJob, LostLease, State
from tests.commands import Ended, sluice
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far

LONG = {
    "shape": "long",
    "deal": "deal",
    "stage": "stage",
    "occurred_at": "at",
    "facts": {"amount": "amount", "owner": "owner"},
    "constants": {"currency": "EUR"},
}
HEAD = "deal,stage,at,amount,owner\n"
TALE = (
    "D1,lead,2020-01-01T00:00:00Z,100.00,mia\n"
    "D1,offer,2020-01-05T00:00:00Z,120.00,mia\n"
    "D1,won,2020-01-09T00:00:00Z,130.00,tom\n"
    "D2,lead,2020-02-01T00:00:00Z,,tom\n"
    "D2,talks,2020-02-03T00:00:00Z,,tom\n"
    "D2,lost,2020-02-09T00:00:00Z,,tom\n"
)


@pytest.fixture
async def pipeline(database: Database, principal: Principal) -> Pipeline:
    return await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def send(
    client: httpx.AsyncClient,
    content: str | bytes,
    mapping: Any = LONG,
    *,
    headers: dict[str, str] | None = None,
    **options: str,
) -> httpx.Response:
    return await client.post(
        "/v1/pipelines/sales/imports",
        params=options,
        data={"mapping": json.dumps(mapping)},
        files={"file": ("history.csv", content, "text/csv")},
        headers=headers,
    )


async def done(client: httpx.AsyncClient, database: Database, sent: httpx.Response) -> Any:
    """The import when it is over, whoever has run it."""
    assert sent.status_code == 202, sent.text
    async with asyncio.timeout(30):
        while True:
            job = (await client.get(sent.headers["Location"])).json()
            if job["finished_at"] is not None:
                return job
            await run_pending_imports(database)


async def imported(
    client: httpx.AsyncClient,
    database: Database,
    content: str | bytes,
    mapping: Any = LONG,
    **options: str,
) -> Any:
    return await done(client, database, await send(client, content, mapping, **options))


async def errors(client: httpx.AsyncClient, job: Any) -> list[Any]:
    answer = await client.get(f"/v1/imports/{job['id']}/errors", params={"limit": 200})
    return [
        (each["line"], each["column"], each["severity"], each["code"])
        for each in answer.json()["items"]
    ]


async def log_of(client: httpx.AsyncClient, external_id: str) -> list[tuple[Any, ...]]:
    """The standing transitions of a deal, the first one first."""
    deal = await deal_of(client, external_id)
    answer = await client.get(f"/v1/opportunities/{deal['id']}/transitions")
    rows = [row for row in answer.json()["items"] if row["voided"] is None]
    return [
        (row["kind"], row["from_stage"], row["to_stage"], row["occurred_at"])
        for row in sorted(rows, key=lambda row: row["seq"])
    ]


async def deal_of(client: httpx.AsyncClient, external_id: str) -> Any:
    answer = await client.get("/v1/opportunities", params={"external_id": external_id})
    (deal,) = answer.json()["items"]
    return deal


def counted(job: Any) -> dict[str, int]:
    return {name: number for name, number in job["counts"].items() if number}


async def test_a_mapping_may_be_sent_as_a_file_as_the_documentation_does(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    documented = Path(__file__).parents[2] / "docs" / "import.md"
    assert "-F mapping=@mapping.json -F file=@deals.csv" in documented.read_text()

    async def sent(mapping: bytes) -> httpx.Response:
        return await client.post(
            "/v1/pipelines/sales/imports",
            files={
                "mapping": ("mapping.json", mapping, "application/json"),
                "file": ("deals.csv", HEAD + TALE, "text/csv"),
            },
        )

    job = await done(client, database, await sent(json.dumps(LONG).encode()))
    assert (job["state"], job["counts"]["rejected"]) == ("completed", 0)
    for nonsense in (b"", b"\xff\xfe", b"{", b"[" * (1 << 21)):
        refused = await sent(nonsense)
        assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


async def test_an_import_opens_deals_in_the_past_and_moves_them(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    sent = await send(client, HEAD + TALE)
    assert sent.status_code == 202
    assert sent.json()["state"] == "pending"
    job = await done(client, database, sent)
    assert (job["state"], job["progress"]) == ("completed", 1.0)
    assert counted(job) == {"records": 6, "transitions": 6, "deals_created": 2}
    assert await log_of(client, "D1") == [
        ("opened", None, "lead", "2020-01-01T00:00:00Z"),
        ("advanced", "lead", "offer", "2020-01-05T00:00:00Z"),
        ("won", "offer", "won", "2020-01-09T00:00:00Z"),
    ]
    won = await deal_of(client, "D1")
    assert won["closed_at"] == "2020-01-09T00:00:00Z"
    assert won["amount"] == {"amount": "130.00", "currency": "EUR"}
    assert won["owner"] == "tom"
    kinds = [kind for kind, *_ in await log_of(client, "D2")]
    assert kinds == ["opened", "skipped", "lost"]


async def test_each_move_freezes_what_its_row_says_and_the_changes_are_kept(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    await imported(client, database, HEAD + TALE)
    deal = await deal_of(client, "D1")
    log = (await client.get(f"/v1/opportunities/{deal['id']}/transitions")).json()["items"]
    frozen = {row["seq"]: (row["amount"]["amount"], row["owner"]) for row in log}
    assert frozen == {1: ("100.00", "mia"), 2: ("120.00", "mia"), 3: ("130.00", "tom")}
    changes = (await client.get(f"/v1/opportunities/{deal['id']}/changes")).json()["items"]
    told = {(change["field"], change["occurred_at"], change["new"]) for change in changes}
    assert {(field, at) for field, at, _ in told} == {
        ("amount", "2020-01-05T00:00:00Z"),
        ("amount", "2020-01-09T00:00:00Z"),
        ("owner", "2020-01-09T00:00:00Z"),
    }


async def test_the_same_file_again_adds_nothing_and_a_longer_one_what_is_new(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    repeated = TALE + "D2,lost,2020-02-09T12:00:00Z,,tom\n"
    first = await imported(client, database, HEAD + repeated)
    assert counted(first)["unchanged"] == 1
    before = [await log_of(client, "D1"), await log_of(client, "D2")]
    again = await imported(client, database, HEAD + repeated)
    assert counted(again) == {"records": 7, "present": 6, "unchanged": 1}
    assert [await log_of(client, "D1"), await log_of(client, "D2")] == before
    longer = repeated + "D2,lead,2020-03-01T00:00:00Z,,tom\n"
    job = await imported(client, database, HEAD + longer)
    assert counted(job)["transitions"] == 1
    assert (await log_of(client, "D2"))[-1][0] == "reopened"


async def test_every_rejected_row_is_told_with_its_line_column_and_reason(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    rows = [
        "D1,lead,2020-01-01,100,mia",
        "D1,nowhere,2020-01-02,100,mia",
        "D1,offer,yesterday,100,mia",
        "D1,offer,,100,mia",
        ",offer,2020-01-02,100,mia",
        "D1,offer,2020-01-02,-1000,mia",
        "D1,offer,2020-01-02,100",
        "D1,offer,2999-01-01,100,mia",
        "D1,offer,2020-01-02,100," + "x" * 201,
        "D1,offer,2020-01-02,100,m\x00a",
    ]
    content = HEAD.encode() + "\n".join(rows).encode() + b"\nD1,offer,2020-01-02,100,m\xff\n"
    job = await imported(client, database, content)
    assert job["state"] == "completed"
    assert counted(job) == {"records": 11, "rejected": 10, "transitions": 1, "deals_created": 1}
    assert await errors(client, job) == [
        (3, "stage", "rejected", "unknown_stage"),
        (4, "at", "rejected", "wrong_format"),
        (5, "at", "rejected", "undated"),
        (6, "deal", "rejected", "required"),
        (7, "amount", "rejected", "wrong_format"),
        (8, None, "rejected", "wrong_number_of_cells"),
        (9, "at", "rejected", "time_out_of_range"),
        (10, "owner", "rejected", "too_long"),
        (11, None, "rejected", "wrong_format"),
        (12, None, "rejected", "wrong_format"),
    ]
    answer = await client.get(f"/v1/imports/{job['id']}/errors", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.splitlines()
    assert lines[0] == "line,column,severity,code,reason,raw"
    assert len(lines) == 11
    page = await client.get(f"/v1/imports/{job['id']}/errors", params={"limit": 4})
    cursor = page.json()["page"]["next_cursor"]
    rest = await client.get(
        f"/v1/imports/{job['id']}/errors", params={"limit": 200, "cursor": cursor}
    )
    assert [each["line"] for each in rest.json()["items"]] == [7, 8, 9, 10, 11, 12]


async def test_a_name_over_several_lines_becomes_one_line(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    mapping = {**LONG, "facts": {"name": "name", "owner": "owner"}}
    content = (
        'deal,stage,at,name,owner\nD1,lead,2020-01-01,"Ten seats,\r\n\tsecond  floor ",mia\n'
        'D2,lead,2020-01-01,Desks,"mia\nand tom"\n'
    )
    job = await imported(client, database, content, mapping)
    assert (await deal_of(client, "D1"))["name"] == "Ten seats, second floor"
    assert await errors(client, job) == [(4, "owner", "rejected", "wrong_format")]


@pytest.mark.parametrize(
    ("written", "amount"),
    [("1.5E7", "15000000.00"), ("1.5e+3", "1500.00"), ("125E-2", "1.25"), ("0E0", "0.00")],
)
async def test_an_amount_with_an_exponent_is_taken_exactly(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline, written: str, amount: str
) -> None:
    await imported(client, database, f"{HEAD}D1,lead,2020-01-01,{written},mia\n")
    assert (await deal_of(client, "D1"))["amount"] == {"amount": amount, "currency": "EUR"}


@pytest.mark.parametrize("written", ["1E15", "1E-5", "1.5E", "E7", "-1E3", '"1,500.00"', "1E999"])
async def test_an_amount_that_is_none_is_told_how_one_is_written(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline, written: str
) -> None:
    job = await imported(client, database, f"{HEAD}D1,lead,2020-01-01,{written},mia\n")
    answer = await client.get(f"/v1/imports/{job['id']}/errors")
    (remark,) = answer.json()["items"]
    assert (remark["column"], remark["code"]) == ("amount", "wrong_format")
    assert "after a point at most 4 more; it has no sign" in remark["reason"]


async def test_with_abort_one_rejected_row_keeps_all_others_out(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    job = await imported(
        client, database, HEAD + TALE + "D3,nowhere,2020-01-01,,\n", on_error="abort"
    )
    assert (job["state"], counted(job)["rejected"]) == ("aborted", 1)
    assert (await client.get("/v1/opportunities")).json()["items"] == []
    clean = await imported(client, database, HEAD + TALE, on_error="abort")
    assert (clean["state"], counted(clean)["transitions"]) == ("completed", 6)
    earlier = HEAD + "D1,talks,2020-01-07,,\nD9,lead,2020-01-07,,\n"
    conflicting = await imported(client, database, earlier, on_error="abort")
    assert (conflicting["state"], counted(conflicting)["rejected"]) == ("aborted", 1)
    assert len((await client.get("/v1/opportunities")).json()["items"]) == 2


async def test_a_row_before_the_logs_end_conflicts_and_a_rewrite_takes_the_files_word(
    client: httpx.AsyncClient, database: Database, principal: Principal, pipeline: Pipeline
) -> None:
    await imported(client, database, HEAD + TALE)
    corrected = HEAD + TALE.replace("D1,offer,2020-01-05", "D1,talks,2020-01-04")
    job = await imported(client, database, corrected)
    assert counted(job) == {"records": 6, "present": 5, "rejected": 1}
    assert await errors(client, job) == [(3, None, "rejected", "history_conflict")]
    rewritten = await imported(client, database, corrected, on_conflict="rewrite")
    assert counted(rewritten)["voided"] == 2
    assert await log_of(client, "D1") == [
        ("opened", None, "lead", "2020-01-01T00:00:00Z"),
        ("skipped", "lead", "talks", "2020-01-04T00:00:00Z"),
        ("won", "talks", "won", "2020-01-09T00:00:00Z"),
    ]
    again = await imported(client, database, corrected, on_conflict="rewrite")
    assert counted(again) == {"records": 6, "present": 6}
    assert [each async for each in disagreements(database, principal.workspace_id)] == []


@pytest.mark.parametrize("on_error", ["skip", "abort"])
async def test_a_rewrite_after_which_a_log_ends_earlier_is_warned_of(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline, on_error: str
) -> None:
    await imported(client, database, HEAD + TALE)
    mended = HEAD + "D1,talks,2020-01-07,125.00,mia\n"
    job = await imported(client, database, mended, on_conflict="rewrite", on_error=on_error)
    assert counted(job) == {
        "records": 1,
        "transitions": 1,
        "voided": 1,
        "warnings": 1,
        "deals_changed": 1,
    }
    answer = await client.get(f"/v1/imports/{job['id']}/errors")
    (remark,) = answer.json()["items"]
    assert (remark["line"], remark["severity"], remark["code"]) == (2, "warning", "log_shortened")
    assert remark["raw"] == mended.splitlines()[1]
    assert "'won' at 2020-01-09" in remark["reason"]
    whole = await imported(client, database, HEAD + TALE, on_conflict="rewrite")
    assert "warnings" not in counted(whole)
    assert (await deal_of(client, "D1"))["status"] == "won"


async def test_a_wide_row_bears_a_warning_of_its_reading_and_one_of_its_rewrite(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    dates = {"lead_on": "lead", "offer_on": "offer", "won_on": "won"}
    mapping = {"shape": "wide", "deal": "id", "dates": dates}
    head = "id,lead_on,offer_on,won_on\n"
    await imported(client, database, f"{head}W1,2020-01-01,2020-01-03,2020-01-09\n", mapping)
    contradicting = f"{head}W1,2020-01-05,2020-01-04,\n"
    job = await imported(client, database, contradicting, mapping, on_conflict="rewrite")
    assert job["counts"]["warnings"] == 2
    assert await errors(client, job) == [
        (2, "offer_on", "warning", "order_contradicted"),
        (2, None, "warning", "log_shortened"),
    ]


async def test_a_rewrite_may_void_the_opening_and_later_moves_go_on_from_there(
    client: httpx.AsyncClient, database: Database, principal: Principal, pipeline: Pipeline
) -> None:
    await imported(client, database, HEAD + TALE)
    earlier = HEAD + "D1,offer,2019-12-01,,\n" + TALE
    await imported(client, database, earlier, on_conflict="rewrite")
    log = await log_of(client, "D1")
    assert log[0] == ("opened", None, "offer", "2019-12-01T00:00:00Z")
    assert [kind for kind, *_ in log] == ["opened", "regressed", "advanced", "won"]
    deal = await deal_of(client, "D1")
    assert deal["seq"] == 7
    moved = await move(client, deal["id"], "lead")
    assert moved["transition"]["seq"] == 8
    assert moved["transition"]["kind"] == "reopened"
    assert [each async for each in disagreements(database, principal.workspace_id)] == []


async def test_a_deal_that_lives_on_keeps_its_moves_and_gets_what_came_after_them(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    deal = await open_deal(client, external_id="L1", opened_at="2024-01-01T00:00:00Z")
    await move(client, deal["id"], "offer", occurred_at="2024-02-01T00:00:00Z")
    rows = "L1,talks,2024-01-15,,\nL1,offer,2024-02-01,,\nL1,talks,2024-03-01,500,tom\n"
    job = await imported(client, database, HEAD + rows)
    assert counted(job) == {
        "records": 3,
        "rejected": 1,
        "present": 1,
        "transitions": 1,
        "deals_changed": 1,
    }
    after = await deal_of(client, "L1")
    assert (after["stage"], after["version"], after["owner"]) == ("talks", 3, "tom")
    assert (await log_of(client, "L1"))[-1][0] == "advanced"


async def test_a_wide_row_is_read_in_the_order_of_its_dates_and_contradictions_are_told(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    mapping = {
        "shape": "wide",
        "deal": "id",
        "dates": {"lead_on": "lead", "offer_on": "offer", "won_on": "won"},
        "instants": {"format": "%d.%m.%Y", "timezone": "Europe/Berlin"},
        "facts": {"name": "title", "tags": {"column": "tags", "separator": "|"}},
        "delimiter": ";",
    }
    content = (
        "id;title;tags;lead_on;offer_on;won_on\n"
        'W1;"Ten; seats";a|b|a;01.07.2020;02.07.2020;02.07.2020\n'
        "W2;Late;;05.01.2020;02.01.2020;\n"
        "W3;None;;;;\n"
    )
    job = await imported(client, database, content.encode("utf-8-sig"), mapping)
    assert counted(job) == {
        "records": 3,
        "rejected": 1,
        "warnings": 1,
        "transitions": 5,
        "deals_created": 2,
    }
    assert await errors(client, job) == [
        (3, "offer_on", "warning", "order_contradicted"),
        (4, None, "rejected", "undated"),
    ]
    assert await log_of(client, "W1") == [
        ("opened", None, "lead", "2020-06-30T22:00:00Z"),
        ("advanced", "lead", "offer", "2020-07-01T22:00:00Z"),
        ("won", "offer", "won", "2020-07-01T22:00:00Z"),
    ]
    assert [kind for kind, *_ in await log_of(client, "W2")] == ["opened", "regressed"]
    first = await deal_of(client, "W1")
    assert (first["name"], first["tags"]) == ("Ten; seats", ["a", "b"])


async def test_ndjson_keeps_exact_amounts_plain_attributes_and_the_text_na(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    mapping = {
        **LONG,
        "format": "ndjson",
        "facts": {"amount": "amount", "attributes": {"seats": "seats"}},
    }
    lines = [
        {"deal": "NA", "stage": "lead", "at": "2020-01-01T00:00:00+02:00", "seats": 10},
        {"deal": "NA", "stage": "offer", "at": "2020-01-02T00:00:00Z", "seats": {"a": 1}},
        {"deal": "NA", "stage": None, "at": "2020-01-02T00:00:00Z"},
    ]
    content = "\n".join(json.dumps(line) for line in lines)
    content += '\n{"deal": "NA", "stage": "talks", "at": "2020-01-03", "amount": 0.1}\n[1]\n{"'
    content += "\n" + '{"deal": "\\ud800", "stage": "lead", "at": "2020-01-03"}\n'
    job = await imported(client, database, content, mapping)
    assert [(line, code) for line, _, _, code in await errors(client, job)] == [
        (2, "wrong_type"),
        (3, "unknown_stage"),
        (5, "wrong_type"),
        (6, "wrong_format"),
        (7, "wrong_format"),
    ]
    deal = await deal_of(client, "NA")
    assert deal["opened_at"] == "2019-12-31T22:00:00Z"
    assert deal["amount"] == {"amount": "0.10", "currency": "EUR"}
    assert deal["attributes"] == {"seats": 10}


async def test_values_may_be_activities_or_be_ignored_and_are_counted(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    mapping = {**LONG, "activities": {"Called": "call"}, "ignore": ["Noise"]}
    rows = (
        "D1,Called,2020-01-01,,\nD1,lead,2020-01-02,,\nD1,Called,2020-01-03,,\n"
        "D1,Called,2020-01-03,,\nD1,Noise,2020-01-04,,\nD2,Called,2020-01-04,,\n"
    )
    job = await imported(client, database, HEAD + rows, mapping)
    assert counted(job) == {
        "records": 6,
        "activities": 3,
        "ignored": 1,
        "rejected": 1,
        "transitions": 1,
        "deals_created": 1,
    }
    assert await errors(client, job) == [(7, None, "rejected", "no_opening")]
    again = await imported(client, database, HEAD + rows, mapping)
    assert counted(again)["activities_present"] == 3
    deal = await deal_of(client, "D1")
    answer = await client.get(f"/v1/opportunities/{deal['id']}/activities")
    assert len(answer.json()["items"]) == 3


async def test_events_of_history_say_so_and_one_for_all_tells_of_the_end(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    await imported(client, database, HEAD + TALE)
    events = await events_so_far(database, client)
    told = [(event["type"], event["historical"]) for event in events]
    assert told.count(("opportunity.created", True)) == 2
    assert told.count(("opportunity.transitioned", True)) == 4
    assert told.count(("import.completed", False)) == 1
    (end,) = [event for event in events if event["type"] == "import.completed"]
    assert end["data"]["counts"]["transitions"] == 6


async def test_a_mapping_that_does_not_fit_is_refused_before_anything_is_stored(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    async def refused(content: str, mapping: Any) -> set[tuple[str, str]]:
        answer = await send(client, content, mapping)
        assert answer.status_code == 422, answer.text
        return {(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]}

    assert await refused(HEAD, {**LONG, "stages": {"X/Y": "gone"}}) == {
        ("/mapping/stages/X~1Y", "unknown_stage")
    }
    assert await refused(HEAD, {**LONG, "constants": {"loss_reason": "mood"}}) == {
        ("/mapping/constants/loss_reason", "unknown_loss_reason")
    }
    assert await refused("deal,deal,stage\n", LONG) == {("/file", "unknown_column")}
    assert await refused("", LONG) == {("/file", "required")}
    for wrong in ({}, {**LONG, "shape": "round"}, {**LONG, "colour": "red"}, [], "x"):
        assert await refused(HEAD, wrong)
    assert await refused(HEAD, {**LONG, "instants": {"format": "%d/%m"}})
    assert await refused(HEAD, {**LONG, "instants": {"timezone": "Mars/Olympus"}})
    assert (await client.get("/v1/imports")).json()["items"] == []


async def test_a_request_that_is_no_form_is_a_clear_refusal(
    client: httpx.AsyncClient, pipeline: Pipeline
) -> None:
    path = "/v1/pipelines/sales/imports"
    assert (await client.post(path, json={"mapping": LONG})).status_code in (415, 422)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await client.post(path, content=b"--y\r\nnonsense", headers=broken)
    assert answer.status_code in (400, 422)
    mapping = {"mapping": (None, json.dumps(LONG))}
    for half in ({}, {"file": (None, "deal,stage,at")}, {"file": (None, "")}):
        answer = await client.post(path, files={**mapping, **half})
        assert answer.status_code == 422
    encoded = await client.post(path, data={"mapping": json.dumps(LONG)})
    assert encoded.status_code == 415
    for nonsense in ("{", "\x00", "[" * 5000, '{"shape": "long", "deal": "\\ud800"}'):
        answer = await client.post(
            path, data={"mapping": nonsense}, files={"file": ("f.csv", HEAD)}
        )
        assert answer.json()["code"] in ("malformed", "invalid")
    separated = {**LONG, "facts": {"tags": {"column": "amount", "separator": "\x00"}}}
    for unstorable in (separated, {**LONG, "ignore": ["\x00"]}, {**LONG, "deal": "\x00"}):
        assert (await send(client, HEAD, unstorable)).status_code == 422
    elsewhere = await client.post(
        "/v1/pipelines/none/imports",
        data={"mapping": json.dumps(LONG)},
        files={"file": ("f.csv", HEAD)},
    )
    assert elsewhere.status_code == 404


async def test_the_same_request_under_one_key_is_one_import(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    key = {"Idempotency-Key": "import-1"}
    first, second = [await send(client, HEAD + TALE, headers=key) for _ in range(2)]
    assert second.json() == first.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    other = await send(client, HEAD + TALE + TALE, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await done(client, database, first)
    assert len((await client.get("/v1/imports")).json()["items"]) == 1


async def test_imports_are_listed_newest_first_and_belong_to_their_workspace(
    client: httpx.AsyncClient, database: Database, pipeline: Pipeline
) -> None:
    jobs = [await imported(client, database, HEAD + TALE) for _ in range(3)]
    page = (await client.get("/v1/imports", params={"limit": 2})).json()
    assert [job["id"] for job in page["items"]] == [jobs[2]["id"], jobs[1]["id"]]
    rest = await client.get("/v1/imports", params={"cursor": page["page"]["next_cursor"]})
    assert [job["id"] for job in rest.json()["items"]] == [jobs[0]["id"]]
    assert (await client.get(f"/v1/imports/{new_id()}")).status_code == 404
    assert (await client.get(f"/v1/imports/{new_id()}/errors")).status_code == 404


class Broken(BaseException):
    """The worker is gone: nothing that it would have done next is done."""


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[tuple[Database, Principal]]:
    """A database in which no service runs imports by itself, and a workspace with a pipeline."""
    database = await Database.open(own_database, size=4)
    principal, _ = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    yield database, principal
    await database.close()


async def receive(database: Database, principal: Principal, content: bytes) -> UUID:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100):
            yield content[start : start + 100]

    received = await receive_import(
        database,
        principal,
        "sales",
        parse_mapping(json.dumps(LONG)),
        chunks(),
        on_error="skip",
        on_conflict="reject",
        request=None,
        answer=lambda job: Answer(202, str(job.import_id).encode()),
    )
    return UUID(received.body.decode())


async def read(database: Database, principal: Principal, import_id: UUID) -> ImportJob:
    async with database.read(principal.workspace_id) as connection:
        return (await imports.read(connection, principal.workspace_id, import_id))[0]


def many_deals() -> bytes:
    rows = [
        f"D{n:03},{stage},2020-01-{day:02},{n}.50,owner{n % 3}"
        for n in range(40)
        for day, stage in ((1, "lead"), (1 + n % 20, "offer"), (25, "won"))
    ]
    bad = [f"D{n:03},nowhere,2020-01-01,," for n in range(9)]
    return (HEAD + "\n".join([*rows, *bad]) + "\n").encode()


async def test_an_import_broken_off_after_each_piece_ends_like_one_that_ran_through(
    alone: tuple[Database, Principal],
) -> None:
    database, principal = alone
    import_id = await receive(database, principal, many_deals())
    steps = 0

    def break_off(_: ImportJob) -> None:
        nonlocal steps
        steps += 1
        raise Broken

    async with asyncio.timeout(60):
        ran = True
        while ran:
            try:
                ran = await run_next_import(database, principal.workspace_id, break_off, piece=10)
            except Broken:
                continue
    job = await read(database, principal, import_id)
    assert steps > 20
    assert job.state is State.COMPLETED
    assert {name: number for name, number in job.counts.items() if number} == {
        "records": 129,
        "rejected": 9,
        "transitions": 120,
        "deals_created": 40,
    }

    async def count(connection: Connection) -> list[int]:
        tables = ("transition", "opportunity", "import_remark", "import_row", "import_chunk")
        return [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    assert await database.write(principal.workspace_id, count) == [120, 40, 9, 0, 0]


async def test_a_worker_whose_import_was_taken_over_writes_nothing_any_more(
    alone: tuple[Database, Principal],
) -> None:
    database, principal = alone
    workspace = principal.workspace_id
    import_id = await receive(database, principal, many_deals())

    async def claimed(lease: UUID) -> ImportJob | None:
        return await database.write(workspace, lambda c: imports.claim(c, workspace, lease))

    job = await claimed(new_id())
    assert job is not None
    assert await claimed(new_id()) is None
    assert not await run_next_import(database, workspace)

    async def silent_for_long(connection: Connection) -> None:
        await connection.execute(
            "UPDATE import_job SET leased_until = clock_timestamp() - interval '1 s' "
            "WHERE workspace_id = $1",
            workspace,
        )

    await database.write(workspace, silent_for_long)
    assert await run_next_import(database, workspace)
    with pytest.raises(LostLease):
        await database.write(workspace, lambda c: imports.save(c, workspace, job))
    assert (await read(database, principal, import_id)).state is State.COMPLETED


async def test_live_moves_of_the_same_deals_meanwhile_are_kept_and_every_log_is_a_chain(
    alone: tuple[Database, Principal],
) -> None:
    database, principal = alone
    workspace = principal.workspace_id
    await receive(database, principal, many_deals().replace(b",won,", b",talks,"))
    await run_next_import(database, workspace)
    longer = many_deals().replace(b",won,", b",talks,").replace(b",nowhere,", b",offer,")
    longer += b"\n".join(b"D%03d,won,2020-03-01,," % n for n in range(40)) + b"\n"
    await receive(database, principal, longer)

    async def ids(connection: Connection) -> list[UUID]:
        rows = await connection.fetch("SELECT opportunity_id FROM opportunity ORDER BY 1")
        return [row["opportunity_id"] for row in rows]

    async def moves() -> None:
        for deal in await database.write(workspace, ids):
            for stage in ("parked", "lead"):
                with suppress(AlreadyThere):
                    await move_opportunity(
                        database,
                        principal,
                        deal,
                        Move(to_stage=stage),
                        note=None,
                        check=lambda _: None,
                        request=None,
                        answer=lambda *_: Answer(201, b""),
                    )

    async with asyncio.timeout(60):
        await asyncio.gather(moves(), run_next_import(database, workspace, piece=15))

    async def logs(connection: Connection) -> list[Any]:
        return await connection.fetch(
            "SELECT t.*, o.seq AS last, o.slot FROM transition AS t JOIN opportunity AS o "
            "USING (workspace_id, opportunity_id) ORDER BY opportunity_id, t.seq"
        )

    rows = await database.write(workspace, logs)
    for before, after in pairwise(rows):
        if before["opportunity_id"] == after["opportunity_id"]:
            assert after["seq"] == before["seq"] + 1
            assert after["from_slot"] == before["to_slot"]
            assert after["entered_at"] == before["occurred_at"]
        else:
            assert (before["seq"], before["to_slot"]) == (before["last"], before["slot"])
    parked = sum(row["to_slot"] == 4 for row in rows)
    assert parked == 40  # no live move was lost


@pytest.fixture
def command_line(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Awaitable[Ended]]:
    """`sluice import` with these arguments, on a database of its own."""
    monkeypatch.setenv("DATABASE_URL", own_database)

    async def run(*arguments: str) -> Ended:
        return await asyncio.to_thread(sluice, "import", *arguments)

    return run


async def test_the_command_line_imports_a_file_and_tells_what_was_wrong_with_it(
    command_line: Callable[..., Awaitable[Ended]],
    alone: tuple[Database, Principal],
    tmp_path: Path,
) -> None:
    _, principal = alone
    file, mapping = tmp_path / "deals.csv", tmp_path / "mapping.json"
    file.write_text(HEAD + TALE + "D3,nowhere,2020-01-01,,\n")
    mapping.write_text(json.dumps(LONG))
    place = ("--pipeline", "sales", "--mapping", str(mapping))
    workspace = ("--workspace", principal.workspace_id.hex)
    done = await command_line(str(file), *place, *workspace)
    assert done.exit_code == 0, done.output
    assert "completed: import" in done.output
    assert "line 8, stage: unknown_stage" in done.output
    aborted = await command_line(str(file), *place, *workspace, "--on-error", "abort")
    assert (aborted.exit_code, "aborted: import" in aborted.output) == (1, True)
    nowhere = await command_line(str(file), *place, "--workspace", "none")
    assert (nowhere.exit_code, "no workspace 'none'" in nowhere.output) == (1, True)
    mapping.write_text('{"shape": "long"}')
    unfit = await command_line(str(file), *place, *workspace)
    assert (unfit.exit_code, "/long/deal" in unfit.output) == (1, True)
