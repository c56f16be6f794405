"""Pipelines over HTTP: defined, changed, restructured under live deals, and refused in full."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.actions.check_projection import disagreements
from app.domain.access import Principal
from app.storage import pipelines
from app.storage.engine import Database
from tests.asking import decided
from tests.conftest import make_workspace

Document = dict[str, Any]
ANY = {"If-Match": "*"}


def document(*stages: Document, **more: Any) -> Document:
    """A pipeline of three open stages, or of those given, between which every move is free."""
    opened = stages or tuple({"key": key, "name": key.title(), "kind": "open"} for key in "abc")
    return {
        "key": "sales",
        "name": "Sales",
        "stages": [
            *opened,
            {"key": "won", "name": "Won", "kind": "won"},
            {
                "key": "lost",
                "name": "Lost",
                "kind": "lost",
                "loss_reasons": [{"key": "price", "name": "Price"}],
            },
        ],
        **more,
    }


def stage(key: str, **more: Any) -> Document:
    return {"key": key, "name": key.title(), "kind": "open", **more}


async def put(client: httpx.AsyncClient, body: Document, **headers: str) -> httpx.Response:
    return await client.put(f"/v1/pipelines/{body['key']}", json=body, headers=headers)


async def made(client: httpx.AsyncClient, *stages: Document, **more: Any) -> Document:
    answer = await put(client, document(*stages, **more))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def opened(client: httpx.AsyncClient, stage: str = "a", **more: Any) -> Document:
    body = {"pipeline": "sales", "stage": stage, "name": "Deal", **more}
    answer = await client.post("/v1/opportunities", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def read(client: httpx.AsyncClient, deal: Document) -> Document:
    return (await client.get(f"/v1/opportunities/{deal['id']}")).json()


async def log_of(client: httpx.AsyncClient, deal: Document) -> list[Document]:
    answer = await client.get(f"/v1/opportunities/{deal['id']}/transitions")
    return answer.json()["items"]


async def told(client: httpx.AsyncClient, database: Database, principal: Principal) -> list[Any]:
    """The types and data of all events of the workspace, in order."""
    async with database.read(principal.workspace_id) as connection:
        rows = await connection.execute(
            text("SELECT type, data FROM event WHERE workspace_id = :w ORDER BY epoch, xid, n"),
            {"w": principal.workspace_id},
        )
        return [(row.type, row.data) for row in rows]


async def test_every_template_becomes_a_pipeline_in_one_call(client: httpx.AsyncClient) -> None:
    for language in ("en", "zh"):
        offered = await client.get(f"/v1/pipeline-templates?language={language}")
        assert [each["key"] for each in offered.json()["items"]] == [
            *("classic", "b2b", "software", "executive")
        ]
        for template in offered.json()["items"]:
            key = f"{template['key']}-{language}"
            answer = await client.post(
                "/v1/pipelines",
                json={"key": key, "template": template["key"], "language": language},
            )
            assert answer.status_code == 201, answer.text
            assert answer.headers["Location"] == f"/v1/pipelines/{key}"
            assert answer.headers["ETag"] == '"1"'
            assert answer.json()["stages"] == template["stages"]
            assert answer.json()["warnings"] == []


async def test_what_is_sent_beside_a_template_takes_its_place(client: httpx.AsyncClient) -> None:
    body = {"key": "new", "template": "b2b", "name": "Mine", "flow": "sequential"}
    answer = (await client.post("/v1/pipelines", json=body)).json()
    assert (answer["name"], answer["flow"]) == ("Mine", "sequential")
    assert answer["stages"][0]["key"] == "prospect"


async def test_a_pipeline_from_nothing_says_what_is_missing(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/pipelines", json={"key": "new"})
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/name", "/stages"]
    answer = await client.post("/v1/pipelines", json={"key": "new", "template": "none"})
    assert answer.json()["errors"][0]["pointer"] == "/template"


async def test_a_key_can_be_taken_only_once(client: httpx.AsyncClient) -> None:
    body = {"key": "sales", "template": "b2b"}
    await client.post("/v1/pipelines", json=body)
    again = await client.post("/v1/pipelines", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")


async def test_the_same_post_under_one_idempotency_key_makes_one_pipeline(
    client: httpx.AsyncClient,
) -> None:
    headers = {"Idempotency-Key": "first"}
    body = {"key": "sales", "template": "b2b"}
    first = await client.post("/v1/pipelines", json=body, headers=headers)
    second = await client.post("/v1/pipelines", json=body, headers=headers)
    assert first.status_code == second.status_code == 201
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.content == second.content


async def test_put_creates_then_changes_nothing_until_the_document_does(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    body = document()
    created = await put(client, body)
    assert (created.status_code, created.headers["ETag"]) == (201, '"1"')
    again = await put(client, body, **{"If-Match": '"1"'})
    assert (again.status_code, again.headers["ETag"]) == (200, '"1"')
    assert again.json() == created.json()
    changed = await put(client, {**body, "name": "Other"}, **{"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    assert changed.json()["name"] == "Other"
    assert changed.json()["created_at"] == created.json()["created_at"]
    assert changed.json()["updated_at"] > created.json()["updated_at"]
    events = [data for type_, data in await told(client, database, principal)]
    assert [(each["previous_revision"], each["revision"]) for each in events] == [(None, 1), (1, 2)]
    assert events[1]["changes"] == {
        "fields": ["name"],
        "added": [],
        "changed": [],
        "archived": [],
        "restored": [],
        "reordered": False,
    }


async def test_a_change_needs_the_version_that_it_changes(client: httpx.AsyncClient) -> None:
    await made(client)
    body = document(name="Other")
    for method, path, sent in (
        ("PUT", "", body),
        ("PATCH", "", {"name": "Other"}),
        ("PATCH", "/stages/a", {"name": "Other"}),
        ("DELETE", "", None),
    ):
        bare = await client.request(method, f"/v1/pipelines/sales{path}", json=sent)
        assert (bare.status_code, bare.json()["code"]) == (428, "if_match_required")
        stale = await client.request(
            method, f"/v1/pipelines/sales{path}", json=sent, headers={"If-Match": '"7"'}
        )
        assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert (await client.get("/v1/pipelines/sales")).headers["ETag"] == '"1"'


async def test_a_put_that_expects_a_pipeline_does_not_make_one(client: httpx.AsyncClient) -> None:
    answer = await put(client, document(), **ANY)
    assert answer.status_code == 412
    assert (await client.get("/v1/pipelines/sales")).status_code == 404


async def test_the_key_of_the_document_is_that_of_the_path(client: httpx.AsyncClient) -> None:
    new = await client.put("/v1/pipelines/other", json=document())
    await put(client, document(key="other"))
    known = await client.put("/v1/pipelines/other", json=document(), headers=ANY)
    for answer in (new, known):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_definition")
        (breach,) = answer.json()["errors"]
        assert (breach["pointer"], breach["code"]) == ("/key", "immutable")


async def test_everything_that_is_wrong_is_said_at_once(client: httpx.AsyncClient) -> None:
    body = document(
        stage("a", probability=0.5, idle_after="PT0S"),
        stage("a", entry_requirements=[{"type": "field", "path": "/secret"}]),
        stage("b", loss_reasons=[{"key": "price", "name": "Price"}]),
        timezone="Mars/Olympus",
        moves=[{"from": "a", "to": "b"}],
    )
    body["stages"][3]["idle_after"] = "P1D"
    body["stages"][4]["loss_reasons"] = [{"key": "unknown", "name": "Unknown"}]
    answer = await put(client, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_definition")
    assert {(each["pointer"], each["code"]) for each in answer.json()["errors"]} == {
        ("/timezone", "unknown_timezone"),
        ("/stages/0/idle_after", "out_of_range"),
        ("/stages/1/key", "duplicate"),
        ("/stages/1/entry_requirements/0/path", "not_requirable"),
        ("/stages/2/loss_reasons", "lost_stages_only"),
        ("/stages/3/idle_after", "open_stages_only"),
        ("/stages/4/loss_reasons/0/key", "reserved"),
        ("/moves", "graph_only"),
    }
    assert (await client.get("/v1/pipelines/sales")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"key": "Sales"},
        {"stages": "none"},
        {"flow": "sideways"},
        {"extra": 1},
        {"stages": [{"key": "a"}]},
        {"stages": [stage("a", idle_after="7 days")]},
        {"stages": [stage("a", idle_after=7)]},
        {"stages": [stage("a", probability="high")]},
        {"stages": [stage("a", probability=1.5)]},
        {"stages": [stage("a", name="\x00")]},
        {"stages": [stage(f"s{n}") for n in range(61)]},
        {"moves": [{"from": "a"}]},
        {"move_open_to": {"a": 1}},
    ],
)
async def test_what_is_no_document_is_unprocessable(
    client: httpx.AsyncClient, body: Document
) -> None:
    answer = await client.put("/v1/pipelines/sales", json={**document(), **body})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_warnings_stand_beside_the_answer(client: httpx.AsyncClient) -> None:
    few = await made(client, stage("a"))
    assert [each["code"] for each in few["warnings"]] == ["few_open_stages"]
    many = await put(client, document(*(stage(f"s{n}") for n in range(10)), key="many"))
    assert [each["code"] for each in many.json()["warnings"]] == ["many_open_stages"]
    moves = [("a", "b"), ("b", "a"), ("a", "won")]
    graph = await put(
        client,
        document(
            key="graph",
            flow="graph",
            moves=[{"from": start, "to": end} for start, end in [*moves, ("c", "a")]],
        ),
    )
    assert {(each["code"], each["pointer"]) for each in graph.json()["warnings"]} == {
        ("unreachable", "/stages/2"),
        ("unreachable", "/stages/4"),
    }
    dead_end = await put(
        client,
        document(
            key="dead-end",
            flow="graph",
            moves=[
                {"from": start, "to": end}
                for start, end in [*moves[:1], ("a", "c"), ("c", "won"), ("c", "lost")]
            ],
        ),
    )
    assert [(each["code"], each["pointer"]) for each in dead_end.json()["warnings"]] == [
        ("cannot_close", "/stages/1")
    ]


async def test_what_was_sent_is_what_is_read(client: httpx.AsyncClient) -> None:
    rich = stage(
        "b",
        description="多行\ntext",
        probability=0.25,
        idle_after="P7D",
        idle_after_by_priority={"high": "PT36H", "never/mind": None},
        idle_clock="inactivity",
        qualifying_activities=["visit", "call"],
        follow_up_every="P2W",
        target_conversion=0.625,
        target_dwell="P1DT12H",
        guidance={"goal": None, "key_actions": ["x"], "assessment_criteria": []},
        entry_requirements=[{"type": "field", "path": "/attributes/seats"}],
    )
    body = document(stage("a"), rich, stage("c", off_path=True), description="All of it")
    body["stages"][4]["loss_reasons"].append({"key": "fit", "name": "不合适"})
    await put(client, body)
    answer = (await client.get("/v1/pipelines/sales")).json()
    for sent, got in zip(body["stages"], answer["stages"], strict=True):
        assert {name: got[name] for name in sent} == sent
    assert [each["position"] for each in answer["stages"]] == [1, 2, 3, 4, 5]
    again = await put(client, body, **{"If-Match": '"1"'})
    assert again.headers["ETag"] == '"1"'


async def test_reading_answers_304_while_nothing_has_changed(client: httpx.AsyncClient) -> None:
    await made(client)
    for path in ("/v1/pipelines/sales", "/v1/pipelines/sales/revisions/1"):
        same = await client.get(path, headers={"If-None-Match": '"1"'})
        assert (same.status_code, same.content) == (304, b"")
    await client.patch("/v1/pipelines/sales", json={"name": "B"}, headers=ANY)
    other = await client.get("/v1/pipelines/sales", headers={"If-None-Match": '"1"'})
    assert other.status_code == 200


async def test_old_revisions_stay_readable(client: httpx.AsyncClient) -> None:
    await made(client)
    await client.patch("/v1/pipelines/sales", json={"name": "Second"}, headers=ANY)
    await client.patch("/v1/pipelines/sales/stages/b", json={"position": 1}, headers=ANY)
    first = (await client.get("/v1/pipelines/sales/revisions/1")).json()
    assert (first["name"], first["revision"]) == ("Sales", 1)
    third = (await client.get("/v1/pipelines/sales/revisions/3")).json()
    assert [each["key"] for each in third["stages"]][:3] == ["b", "a", "c"]
    page = await client.get("/v1/pipelines/sales/revisions?limit=2")
    assert [row["revision"] for row in page.json()["items"]] == [3, 2]
    assert {row["actor"] for row in page.json()["items"]} == {"tester"}
    rest = await client.get(
        "/v1/pipelines/sales/revisions",
        params={"limit": 2, "cursor": page.json()["page"]["next_cursor"]},
    )
    assert [row["revision"] for row in rest.json()["items"]] == [1]
    assert rest.json()["page"]["next_cursor"] is None
    for number in ("4", "0", "99999999999999999999"):
        missing = await client.get(f"/v1/pipelines/sales/revisions/{number}")
        assert missing.status_code == 404


async def test_pipelines_are_listed_by_key_and_archived_ones_apart(
    client: httpx.AsyncClient,
) -> None:
    for key in ("b", "c", "a"):
        await put(client, document(key=key))
    gone = await client.delete("/v1/pipelines/b", headers=ANY)
    assert (gone.status_code, gone.content) == (204, b"")
    first = await client.get("/v1/pipelines?limit=1")
    assert [each["key"] for each in first.json()["items"]] == ["a"]
    assert 'rel="next"' in first.headers["Link"]
    second = await client.get(
        "/v1/pipelines", params={"cursor": first.json()["page"]["next_cursor"]}
    )
    assert [each["key"] for each in second.json()["items"]] == ["c"]
    foreign = await client.get(
        "/v1/pipelines",
        params={"cursor": first.json()["page"]["next_cursor"], "archived": True},
    )
    assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid_cursor")
    archived = await client.get("/v1/pipelines?archived=true")
    assert [each["key"] for each in archived.json()["items"]] == ["b"]


async def test_the_deals_of_an_archived_pipeline_rest_until_it_is_put_back(
    client: httpx.AsyncClient,
) -> None:
    body = document()
    await put(client, body)
    deal = await opened(client)
    await client.delete("/v1/pipelines/sales", headers={"If-Match": '"1"'})
    for _ in range(2):
        refused = await client.post(
            f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": "b"}
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "pipeline_archived")
    patched = await client.patch("/v1/pipelines/sales", json={"name": "B"}, headers=ANY)
    assert (patched.status_code, patched.json()["code"]) == (409, "pipeline_archived")
    back = await put(client, body, **ANY)
    assert (back.json()["archived_at"], back.json()["revision"]) == (None, 3)
    moved = await client.post(f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": "b"})
    assert moved.status_code == 201


async def test_a_stage_with_open_deals_is_archived_only_with_a_place_for_them(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    await made(client, stage("a"), stage("b", idle_after="P1D"), stage("c", idle_after="P9D"))
    deals = [await opened(client, "b", amount={"amount": "5", "currency": "EUR"}) for _ in "12"]
    refused = await client.post("/v1/pipelines/sales/stages/b/archive", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "stage_holds_deals")
    assert "2 in 'b'" in refused.json()["detail"]
    assert refused.json()["errors"][0]["pointer"] == "/move_open_to"
    for target in ("won", "b", "nowhere"):
        wrong = await client.post(
            "/v1/pipelines/sales/stages/b/archive", json={"move_open_to": target}
        )
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"] == "/move_open_to"
    archived = await client.post("/v1/pipelines/sales/stages/b/archive", json={"move_open_to": "c"})
    assert archived.status_code == 201
    assert archived.headers["Location"] == "/v1/pipelines/sales/revisions/2"
    assert [each["key"] for each in archived.json()["archived_stages"]] == ["b"]
    instant = archived.json()["updated_at"]
    for deal in deals:
        now = await read(client, deal)
        assert (now["stage"], now["seq"], now["version"]) == ("c", 2, 2)
        assert now["stage_entered_at"] == instant
        assert now["idle"]["clock_started_at"] == deal["stage_entered_at"]
        last = (await log_of(client, deal))[-1]
        assert (last["kind"], last["revision"], last["actor"]) == ("rearranged", 2, "tester")
        assert (last["from_stage"], last["to_stage"]) == ("b", "c")
        assert last["entered_at"] == deal["stage_entered_at"]
        assert last["amount"] == {"amount": "5.00", "currency": "EUR"}
    events = await told(client, database, principal)
    assert [type_ for type_, _ in events[-3:]] == [
        "pipeline.updated",
        *["opportunity.transitioned"] * 2,
    ]
    assert events[-1][1]["kind"] == "rearranged"
    assert events[-1][1]["opportunity"]["version"] == 2
    gone = await client.post("/v1/pipelines/sales/stages/b/archive", json={})
    assert (gone.status_code, gone.json()["code"]) == (409, "stage_archived")
    missing = await client.post("/v1/pipelines/sales/stages/x/archive", json={})
    assert missing.status_code == 404


async def test_put_archives_what_is_left_out_and_may_be_sent_again(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    deal = await opened(client, "b")
    smaller = document(stage("a"), stage("c"))
    refused = await put(client, smaller, **ANY)
    assert (refused.status_code, refused.json()["code"]) == (409, "stage_holds_deals")
    assert refused.json()["errors"][0]["pointer"] == "/move_open_to/b"
    in_use = await put(client, {**smaller, "move_open_to": {"b": "c", "a": "c"}}, **ANY)
    assert in_use.json()["errors"][0]["pointer"] == "/move_open_to/a"
    for revision in (2, 2):
        answer = await put(client, {**smaller, "move_open_to": {"b": "c"}}, **ANY)
        assert (answer.status_code, answer.json()["revision"]) == (200, revision)
    assert (await read(client, deal))["stage"] == "c"
    restored = await put(client, document(), **ANY)
    assert restored.json()["archived_stages"] == []
    assert restored.json()["stages"][1]["archived_at"] is None


async def flagged_deal(client: httpx.AsyncClient, **rules: Any) -> Document:
    """A deal that has been idle in `b`, and bears an open flag for it."""
    await made(client, stage("a"), stage("b", idle_after="P1D"), stage("c", **rules))
    long_ago = (datetime.now(UTC) - timedelta(days=10)).isoformat()
    deal = await opened(client, "b", opened_at=long_ago)
    scan = await client.post("/v1/idle-scans")
    assert scan.json()["flagged"] == 1
    return deal


async def test_a_rule_that_asks_for_less_ends_the_flags_that_it_would_not_have_raised(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    deal = await flagged_deal(client)
    for patience, stands in (("P5D", True), ("P30D", False)):
        answer = await client.patch(
            "/v1/pipelines/sales/stages/b", json={"idle_after": patience}, headers=ANY
        )
        idle = (await read(client, deal))["idle"]
        assert (idle["flagged_at"] is not None) is stands
        if stands:  # due by the new rule, but not before there was one
            assert idle["goes_idle_at"] == answer.json()["updated_at"]
    (flag,) = (await client.get("/v1/idle-flags?state=resolved")).json()["items"]
    assert flag["resolved"]["cause"] == "not_due"
    type_, data = (await told(client, database, principal))[-1]
    assert (type_, data["resolved_by"]) == ("idle_flag.resolved", "not_due")


@pytest.mark.parametrize(("rules", "stands"), [({"idle_after": "P3D"}, True), ({}, False)])
async def test_a_flag_goes_along_with_its_deal_as_far_as_the_new_stage_asks_for_it(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    rules: Document,
    stands: bool,
) -> None:
    deal = await flagged_deal(client, **rules)
    before = await read(client, deal)
    body = {"move_open_to": "c"}
    archived = await client.post("/v1/pipelines/sales/stages/b/archive", json=body)
    assert archived.status_code == 201
    after = await read(client, deal)
    assert after["idle"]["clock_started_at"] == before["idle"]["clock_started_at"]
    assert after["idle"]["flag_id"] == (before["idle"]["flag_id"] if stands else None)
    assert [each async for each in disagreements(database, principal.workspace_id)] == []
    types = [type_ for type_, _ in await told(client, database, principal)]
    assert ("idle_flag.resolved" in types) is not stands


async def test_a_document_may_name_moves_that_are_not_needed_here(
    client: httpx.AsyncClient,
) -> None:
    body = document(move_open_to={"never": "there"})
    for status in (201, 200):
        answer = await put(client, body, **({} if status == 201 else ANY))
        assert (answer.status_code, answer.headers["ETag"]) == (status, '"1"')
    contradiction = document(key="other", move_open_to={"a": "b"})
    answer = await put(client, contradiction)
    assert answer.json()["errors"][0]["code"] == "still_in_use"
    assert (await client.get("/v1/pipelines/other")).status_code == 404


async def test_a_split_stage_gives_its_deals_to_one_part_and_keeps_the_lineage(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    deal = await opened(client, "b")
    parts = [stage("b1"), stage("b2")]
    unnamed = await client.post("/v1/pipelines/sales/stages/b/split", json={"into": parts})
    assert (unnamed.status_code, unnamed.json()["code"]) == (409, "stage_holds_deals")
    wrong = await client.post(
        "/v1/pipelines/sales/stages/b/split",
        json={"into": [stage("a"), stage("b2", kind="won", name="!")], "move_open_to": "c"},
    )
    assert {each["pointer"] for each in wrong.json()["errors"]} == {
        "/into/0/key",
        "/into/1/kind",
        "/move_open_to",
    }
    inside = await client.post(
        "/v1/pipelines/sales/stages/b/split",
        json={"into": [stage("b1"), stage("b2", idle_after="PT0S")], "move_open_to": "b1"},
    )
    assert [each["pointer"] for each in inside.json()["errors"]] == ["/into/1/idle_after"]
    done = await client.post(
        "/v1/pipelines/sales/stages/b/split", json={"into": parts, "move_open_to": "b2"}
    )
    assert done.status_code == 201
    assert [each["key"] for each in done.json()["stages"]] == ["a", "b1", "b2", "c", "won", "lost"]
    assert done.json()["archived_stages"][0]["succeeded_by"] == ["b1", "b2"]
    assert (await read(client, deal))["stage"] == "b2"


async def test_merged_stages_give_their_deals_and_moves_to_the_one(
    client: httpx.AsyncClient,
) -> None:
    moves = [("a", "b"), ("b", "c"), ("c", "won"), ("b", "lost")]
    await made(
        client,
        flow="graph",
        moves=[{"from": start, "to": end} for start, end in moves],
    )
    deal = await opened(client)
    await client.post(f"/v1/opportunities/{deal['id']}/transitions", json={"to_stage": "b"})
    wrong = await client.post(
        "/v1/pipelines/sales/stages/merge", json={"stages": ["b", "won", "x"], "into": "c"}
    )
    assert [each["pointer"] for each in wrong.json()["errors"]] == ["/stages/2"]
    done = await client.post(
        "/v1/pipelines/sales/stages/merge", json={"stages": ["b", "c"], "into": "c"}
    )
    assert done.status_code == 201, done.text
    assert done.json()["moves"] == [
        {"from": "a", "to": "c"},
        {"from": "c", "to": "lost"},
        {"from": "c", "to": "won"},
    ]
    assert done.json()["archived_stages"][0]["succeeded_by"] == ["c"]
    assert (await read(client, deal))["stage"] == "c"


async def test_a_stage_is_added_at_its_place_and_changed_in_part(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    added = await client.post("/v1/pipelines/sales/stages", json=stage("d"))
    assert added.status_code == 201
    assert [each["key"] for each in added.json()["stages"]] == ["a", "b", "c", "d", "won", "lost"]
    second = await client.post("/v1/pipelines/sales/stages", json=stage("e", position=2))
    assert [each["key"] for each in second.json()["stages"]][:3] == ["a", "e", "b"]
    taken = await client.post("/v1/pipelines/sales/stages", json=stage("e"))
    assert taken.json()["errors"][0]["pointer"] == "/key"
    wrong = await client.post("/v1/pipelines/sales/stages", json=stage("f", idle_after="PT0S"))
    assert wrong.json()["errors"][0]["pointer"] == "/idle_after"
    changed = await client.patch(
        "/v1/pipelines/sales/stages/e",
        json={"probability": 0.4, "guidance": None, "position": 4, "idle_after": "P2D"},
        headers=ANY,
    )
    assert changed.status_code == 200
    got = changed.json()["stages"][3]
    assert (got["key"], got["probability"], got["idle_after"]) == ("e", 0.4, "P2D")
    fixed = await client.patch("/v1/pipelines/sales/stages/e", json={"kind": "won"}, headers=ANY)
    assert fixed.json()["errors"][0]["code"] == "unknown_field"


async def test_whoever_leaves_a_graph_leaves_its_moves(client: httpx.AsyncClient) -> None:
    await made(client, flow="graph", moves=[{"from": "a", "to": "won"}])
    kept = await client.patch("/v1/pipelines/sales", json={"name": "B"}, headers=ANY)
    assert kept.json()["moves"] == [{"from": "a", "to": "won"}]
    left = await client.patch("/v1/pipelines/sales", json={"flow": "forward"}, headers=ANY)
    assert (left.status_code, left.json()["moves"]) == (200, [])
    back = await client.patch("/v1/pipelines/sales", json={"flow": "graph"}, headers=ANY)
    assert [each["pointer"] for each in back.json()["errors"]] == ["/moves"]


async def test_a_pipeline_cannot_lose_its_last_stage_of_a_kind(client: httpx.AsyncClient) -> None:
    await made(client)
    answer = await client.post("/v1/pipelines/sales/stages/won/archive", json={})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "no_won_stage"


async def test_no_pipeline_of_another_workspace_is_seen_or_touched(
    client: httpx.AsyncClient, service: Any, database: Database
) -> None:
    await made(client)
    _, key = await make_workspace(database)
    stranger = service(key)
    assert (await stranger.get("/v1/pipelines/sales")).status_code == 404
    assert (await stranger.get("/v1/pipelines")).json()["items"] == []
    answer = await stranger.patch("/v1/pipelines/sales", json={"name": "Mine"}, headers=ANY)
    assert answer.status_code == 404
    assert (await client.get("/v1/pipelines/sales")).json()["name"] == "Sales"


async def test_of_many_puts_against_one_version_exactly_one_wins(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    answers = await asyncio.gather(
        *(decided(put, client, document(name=f"Name {n}"), **{"If-Match": '"1"'}) for n in range(8))
    )
    assert sorted(each.status_code for each in answers) == [200] + [412] * 7
    now = (await client.get("/v1/pipelines/sales")).json()
    assert now["revision"] == 2
    assert now["name"] == next(each.json()["name"] for each in answers if each.is_success)


async def test_of_many_first_puts_exactly_one_creates(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(decided(put, client, document()) for _ in range(6)))
    assert sorted(each.status_code for each in answers) == [201] + [428] * 5


async def test_no_deal_is_left_in_a_stage_that_was_archived_while_it_moved(
    client: httpx.AsyncClient,
) -> None:
    await made(client)
    deals = [await opened(client) for _ in range(12)]

    async def wander(deal: Document) -> list[int]:
        codes = []
        for to_stage in ("b", "a") * 6:
            moves = f"/v1/opportunities/{deal['id']}/transitions"
            answer = await decided(client.post, moves, json={"to_stage": to_stage})
            codes.append(answer.status_code)
        return codes

    async def archive() -> httpx.Response:
        for _ in range(4):
            await client.get("/v1/pipelines/sales")
        path = "/v1/pipelines/sales/stages/b/archive"
        return await decided(client.post, path, json={"move_open_to": "c"})

    archived, *codes = await asyncio.gather(archive(), *(wander(deal) for deal in deals))
    assert archived.status_code == 201, archived.text
    assert {code for each in codes for code in each} <= {201, 409}
    for deal in deals:
        assert (await read(client, deal))["stage"] in ("a", "c")
        rows = await log_of(client, deal)
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        for before, after in pairwise(rows):
            assert after["from_stage"] == before["to_stage"]
            assert after["entered_at"] == before["occurred_at"]
        entered_late = [row for row in rows if row["revision"] > 1 and row["to_stage"] == "b"]
        assert entered_late == []


async def test_figures_before_the_first_recording_use_the_definition_of_that_recording(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    workspace = principal.workspace_id
    pipeline = await made(client)
    await client.patch("/v1/pipelines/sales", json={"name": "Second"}, headers=ANY)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)

    async def at(instant: datetime) -> int:
        async with database.read(workspace) as connection:
            found = await pipelines.in_force_at(
                connection, workspace, UUID(pipeline["id"]), instant
            )
            return found.revision

    assert await at(long_ago) == 1
    await opened(client)
    third = await client.patch("/v1/pipelines/sales", json={"name": "Third"}, headers=ANY)
    assert await at(long_ago) == 2
    assert await at(datetime.fromisoformat(third.json()["updated_at"])) == 3
    assert await at(datetime.fromisoformat(pipeline["updated_at"])) == 2
