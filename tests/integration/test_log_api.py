"""The log over HTTP: listed, filtered, paged; undone with its flags; moved in batches."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions.move_batch import BatchMove, move_batch
from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.domain.errors import DatabaseUnavailable
from app.domain.opportunity import Opportunity as Deal
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline
from app.domain.transition import Move
from app.http import conditional
from app.storage.engine import Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.transitions import LogEntry
from tests.conftest import make_workspace
from tests.factories import guarded, keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.logs import whole_log

DEALS = "/v1/opportunities"
LOG = "/v1/transitions"
Connect = Callable[[ApiKey | None], httpx.AsyncClient]


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def void(client: httpx.AsyncClient, transition: Any) -> Any:
    answer = await client.post(f"{LOG}/{transition['id']}/void", json={"reason": "Wrong deal"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_filter_of_the_log_gives_the_rows_that_pass_it(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, owner="mia", opened_at="2026-01-01T00:00:00Z")
    await move(client, deal["id"], "offer", occurred_at="2026-01-02T00:00:00Z")
    await client.patch(f"{DEALS}/{deal['id']}", json={"owner": "tom"}, headers={"If-Match": "*"})
    won = await move(client, deal["id"], "won", occurred_at="2026-01-03T00:00:00Z")
    await void(client, won["transition"])

    async def kinds(**query: Any) -> list[str]:
        answer = await client.get(LOG, params=query)
        assert answer.status_code == 200, answer.text
        return [row["kind"] for row in answer.json()["items"]]

    for query, expected in (
        ({}, ["won", "advanced", "opened"]),
        ({"pipeline": "sales"}, ["won", "advanced", "opened"]),
        ({"kind": "advanced"}, ["advanced"]),
        ({"owner": "mia"}, ["advanced", "opened"]),
        ({"owner": "tom"}, ["won"]),
        ({"occurred_from": "2026-01-02T00:00:00Z"}, ["won", "advanced"]),
        ({"occurred_to": "2026-01-02T00:00:00Z"}, ["opened"]),
        ({"voided": "true"}, ["won"]),
        ({"voided": "false"}, ["advanced", "opened"]),
    ):
        assert await kinds(**query) == expected, query
    for query, status in (
        ({"pipeline": "nowhere"}, 404),
        ({"kind": "moved"}, 422),
        ({"occurred_from": "today"}, 422),
        ({"voided": "x"}, 422),
        ({"cursor": "x"}, 400),
    ):
        assert (await client.get(LOG, params=query)).status_code == status


@pytest.mark.parametrize("of_one_deal", [True, False])
async def test_the_log_is_read_page_by_page_each_row_once(
    client: httpx.AsyncClient, sales: None, *, of_one_deal: bool
) -> None:
    deal = await open_deal(client)
    rows = [row["id"] for row in await whole_log(client, deal["id"])]
    rows += [
        (await move(client, deal["id"], stage))["transition"]["id"]
        for stage in ("offer", "talks", "lead", "won")
    ]
    path = f"{DEALS}/{deal['id']}/transitions" if of_one_deal else LOG
    found: list[str] = []
    sizes: list[int] = []
    link: str | None = f"{path}?limit=2"
    while link is not None:
        answer = await client.get(link)
        found += [row["id"] for row in answer.json()["items"]]
        sizes.append(len(answer.json()["items"]))
        link = answer.links["next"]["url"] if "next" in answer.links else None
    assert sizes == [2, 2, 1]
    assert found == (rows if of_one_deal else rows[::-1])


async def test_a_batch_tells_of_each_move_what_the_move_alone_would_be_told(
    client: httpx.AsyncClient, sales: None
) -> None:
    one, two = await open_deal(client), await open_deal(client)
    nobody = "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a"
    answer = await client.post(
        f"{LOG}/batch",
        json={
            "moves": [
                {"opportunity_id": one["id"], "to_stage": "offer", "version": 1},
                {"opportunity_id": one["id"], "to_stage": "talks", "version": 1},
                {"opportunity_id": one["id"], "to_stage": "offer"},
                {"opportunity_id": two["id"], "to_stage": "lost"},
                {"opportunity_id": two["id"], "to_stage": "lost", "loss_reason": "price"},
                {"opportunity_id": nobody, "to_stage": "offer"},
            ]
        },
    )
    assert answer.status_code == 200
    outcomes = answer.json()["outcomes"]
    told = [(each["status"], each["problem"] and each["problem"]["code"]) for each in outcomes]
    assert told == [
        (201, None),
        (412, "stale"),
        (409, "already_there"),
        (422, "loss_reason_required"),
        (201, None),
        (404, "not_found"),
    ]
    assert [len(await whole_log(client, deal["id"])) for deal in (one, two)] == [2, 2]
    assert outcomes[0]["result"]["opportunity"]["stage"] == "offer"


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_moves(
    client: httpx.AsyncClient, sales: None, count: int
) -> None:
    deal = await open_deal(client)
    moves = [{"opportunity_id": deal["id"], "to_stage": "offer"}] * count
    answer = await client.post(f"{LOG}/batch", json={"moves": moves})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert len(await whole_log(client, deal["id"])) == 1


async def test_a_batch_sent_again_under_its_key_is_told_the_same_and_moves_nothing(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)
    await move(client, deal["id"], "offer")
    # Refused at first: the deal stands there. Done at a retry, it would come after the second.
    moves = [{"opportunity_id": deal["id"], "to_stage": stage} for stage in ("offer", "talks")]
    first, again = [
        await client.post(f"{LOG}/batch", json={"moves": moves}, headers={"Idempotency-Key": "b"})
        for _ in range(2)
    ]
    assert [outcome["status"] for outcome in first.json()["outcomes"]] == [409, 201]
    assert (again.status_code, again.content) == (200, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await client.get(f"{DEALS}/{deal['id']}")).json()["stage"] == "talks"


async def test_a_batch_broken_off_goes_on_with_the_moves_that_have_no_outcome(
    client: httpx.AsyncClient, sales: None, database: Database, principal: Principal
) -> None:
    one, two = await open_deal(client), await open_deal(client)
    await move(client, one["id"], "offer")
    moves = [
        BatchMove(UUID(deal["id"]), Move(to_stage=stage), None, conditional.optional(None))
        for deal, stage in ((one, "offer"), (one, "talks"), (two, "offer"))
    ]
    rendered: list[UUID] = []

    async def send(*, breaks: bool) -> Answer:
        def moved(deal: Deal, _entry: LogEntry, _pipeline: Pipeline) -> Answer:
            if breaks and deal.opportunity_id == UUID(two["id"]):
                raise DatabaseUnavailable("It went away.")
            rendered.append(deal.opportunity_id)
            return Answer(201, b"moved")

        return await move_batch(
            database,
            principal,
            moves,
            request=Repeatable("b", b"the same"),
            moved=moved,
            refused=lambda refusal: Answer(409, refusal.code.encode()),
            together=lambda outcomes: Answer(200, b",".join(each.body for each in outcomes)),
        )

    assert (await send(breaks=True)).body == b"already_there,moved,database_unavailable"
    whole = await send(breaks=False)
    assert (whole.body, whole.replayed) == (b"already_there,moved,moved", False)
    assert rendered == [UUID(one["id"]), UUID(two["id"])]
    again = await send(breaks=False)
    assert (again.body, again.replayed) == (whole.body, True)
    assert [len(await whole_log(client, deal["id"])) for deal in (one, two)] == [3, 2]


async def test_a_move_that_could_not_be_tried_holds_back_those_of_its_deal_behind_it(
    client: httpx.AsyncClient, sales: None, database: Database, principal: Principal
) -> None:
    deal = await open_deal(client)

    def check(_version: int) -> None:
        raise DatabaseUnavailable("It went away.")

    deal_id = UUID(deal["id"])
    answer = await move_batch(
        database,
        principal,
        [
            BatchMove(deal_id, Move(to_stage="offer"), None, check),
            BatchMove(deal_id, Move(to_stage="talks"), None, conditional.optional(None)),
        ],
        request=None,
        moved=lambda *_: Answer(201, b"moved"),
        refused=lambda refusal: Answer(503, refusal.code.encode()),
        together=lambda outcomes: Answer(200, b",".join(each.body for each in outcomes)),
    )
    assert answer.body == b"database_unavailable,database_unavailable"
    assert (await client.get(f"{DEALS}/{deal['id']}")).json() == deal


async def test_another_batch_under_the_key_of_the_first_is_refused_whole(
    client: httpx.AsyncClient, sales: None
) -> None:
    one, two = await open_deal(client), await open_deal(client)
    first, other = (
        {"moves": [{"opportunity_id": deal["id"], "to_stage": stage}]}
        for deal, stage in ((one, "lead"), (two, "offer"))
    )
    key = {"Idempotency-Key": "b"}
    refused_move = await client.post(f"{LOG}/batch", json=first, headers=key)
    assert refused_move.json()["outcomes"][0]["status"] == 409
    for path, body in (
        (f"{LOG}/batch", other),
        (f"{DEALS}/{two['id']}/transitions", {"to_stage": "offer"}),
    ):
        answer = await client.post(path, json=body, headers=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await whole_log(client, two["id"])) == 1


async def test_a_key_that_an_erased_deal_set_free_takes_another_batch(
    client: httpx.AsyncClient, sales: None
) -> None:
    erased, kept = await open_deal(client), await open_deal(client)

    async def send(stage: str, *deals: Any) -> Any:
        moves = [{"opportunity_id": deal["id"], "to_stage": stage} for deal in deals]
        answer = await client.post(
            f"{LOG}/batch", json={"moves": moves}, headers={"Idempotency-Key": "b"}
        )
        assert answer.status_code == 200, answer.text
        return [outcome["status"] for outcome in answer.json()["outcomes"]]

    assert await send("offer", kept, erased) == [201, 201]
    await client.delete(f"{DEALS}/{erased['id']}", headers={"If-Match": "*"})
    assert await send("talks", kept) == [201]


async def test_overriding_needs_a_scope_of_its_own_in_a_batch_as_well(
    service: Connect, database: Database
) -> None:
    seller, key = await make_workspace(
        database, Scope.OPPORTUNITIES_READ, Scope.OPPORTUNITIES_WRITE
    )
    await keep_pipeline(database, seller.workspace_id, guarded(sales_pipeline(), "talks", "/owner"))
    client = service(key)
    deal = await open_deal(client)
    asked = {"to_stage": "talks", "override": {"reason": "Because"}}
    alone = await client.post(f"{DEALS}/{deal['id']}/transitions", json=asked)
    assert (alone.status_code, alone.json()["code"]) == (403, "forbidden")
    batch = await client.post(
        f"{LOG}/batch", json={"moves": [{"opportunity_id": deal["id"], **asked}]}
    )
    assert [outcome["status"] for outcome in batch.json()["outcomes"]] == [403]
    voided = await client.post(
        f"{LOG}/{(await whole_log(client, deal['id']))[0]['id']}/void", json={"reason": "x"}
    )
    assert (voided.status_code, voided.json()["code"]) == (403, "forbidden")
    assert (await client.get(f"{DEALS}/{deal['id']}")).json() == deal


async def test_an_opening_is_not_voided(client: httpx.AsyncClient, sales: None) -> None:
    deal = await open_deal(client)
    (opening,) = await whole_log(client, deal["id"])
    answer = await client.post(f"{LOG}/{opening['id']}/void", json={"reason": "Wrong"})
    assert (answer.status_code, answer.json()["code"]) == (422, "not_voidable")


async def open_flags(client: httpx.AsyncClient) -> list[str]:
    scanned = await client.post("/v1/idle-scans")
    assert scanned.is_success, scanned.text
    answer = await client.get("/v1/idle-flags")
    assert answer.status_code == 200, answer.text
    return [flag["id"] for flag in answer.json()["items"]]


async def test_voiding_brings_the_flag_back_that_the_move_had_resolved(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    rule = IdleRule(after=Period.parse("P2D"))
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(lead=rule))
    deal = await open_deal(client, opened_at="2026-01-01T00:00:00Z")
    (flag,) = await open_flags(client)
    moved = await move(client, deal["id"], "offer")
    assert moved["opportunity"]["idle"]["flag_id"] is None
    assert await open_flags(client) == []
    back = (await void(client, moved["transition"]))["opportunity"]
    assert back["idle"]["flag_id"] == flag
    assert back["idle"]["clock_started_at"] == "2026-01-01T00:00:00Z"
    assert await open_flags(client) == [flag]


async def test_voiding_ends_a_flag_that_the_stage_before_would_not_have_raised(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    long, short = Period.parse("P36500D"), Period.parse("P2D")
    pipeline = sales_pipeline(
        lead=IdleRule(clock=IdleClock.INACTIVITY, after=long),
        offer=IdleRule(clock=IdleClock.INACTIVITY, after=short),
    )
    await keep_pipeline(database, principal.workspace_id, pipeline)
    deal = await open_deal(client, opened_at="2026-01-01T00:00:00Z")
    moved = await move(client, deal["id"], "offer", occurred_at="2026-01-02T00:00:00Z")
    called = await client.post(
        f"{DEALS}/{deal['id']}/activities",
        json={"kind": "call", "occurred_at": "2026-01-03T00:00:00Z"},
    )
    assert called.is_success, called.text
    (flag,) = await open_flags(client)
    # The call started the clock, before and after the undo; only the threshold is another.
    back = (await void(client, moved["transition"]))["opportunity"]
    assert back["idle"]["clock_started_at"] == "2026-01-03T00:00:00Z"
    assert back["idle"]["flag_id"] is None
    assert await open_flags(client) == []
    resolved = await events_so_far(database, client, types="idle_flag.resolved")
    assert [(e["data"]["flag_id"], e["data"]["resolved_by"]) for e in resolved] == [
        (flag, "not_due")
    ]
