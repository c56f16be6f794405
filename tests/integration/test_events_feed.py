"""The event feed: everything once and in order, whoever writes at the same time."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.domain.access import Principal, Scope
from app.storage import events
from app.storage.engine import Connection, Database, Lock
from app.storage.statement import execute
from app.storage.webhook_deliveries import append_event
from tests.asking import decided
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far

WRITERS = 8
TRANSACTIONS = 25
"""Of each writer; a transaction writes between one event and twenty, a statement each."""


async def write_events(
    database: Database, principal: Principal, writer: int, acknowledged: list[tuple[int, int, int]]
) -> None:
    """Transactions of very different lengths; what has been committed is noted."""
    chance = random.Random(writer)
    for turn in range(TRANSACTIONS):
        length = chance.choice([1, 1, 2, 5, 20])

        async def work(connection: Connection, turn: int = turn, length: int = length) -> None:
            for number in range(length):
                data = {"writer": writer, "turn": turn, "number": number}
                part = events.append(
                    principal.workspace_id, "test.written", data, occurred_at=datetime.now(UTC)
                )
                await execute(connection, [part])

        await database.write(principal.workspace_id, work)
        acknowledged += [(writer, turn, number) for number in range(length)]


async def follow(
    client: httpx.AsyncClient, limit: int, acknowledged: list[Any], done: asyncio.Event
) -> list[dict[str, Any]]:
    """Read on and on until all that was acknowledged is read and nobody writes any more."""
    seen: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        ended = done.is_set()
        answer = await client.get("/v1/events", params={"limit": limit, **after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        seen += page["items"]
        after = {"after": page["next"]}
        if ended and not page["items"] and len(seen) >= len(acknowledged):
            return seen


async def test_a_follower_misses_no_event_and_sees_none_twice_while_many_write(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    acknowledged: list[tuple[int, int, int]] = []
    done = asyncio.Event()
    async with asyncio.timeout(60):
        followers = [
            asyncio.create_task(follow(client, limit, acknowledged, done)) for limit in (3, 50, 200)
        ]
        await asyncio.gather(
            *(write_events(database, principal, writer, acknowledged) for writer in range(WRITERS))
        )
        done.set()
        feeds = await asyncio.gather(*followers)
    for feed in feeds:
        written = [event["data"] for event in feed]
        keys = [(data["writer"], data["turn"], data["number"]) for data in written]
        assert len(keys) == len(set(keys))
        assert set(keys) == set(acknowledged)
        positions = [tuple(map(int, event["position"].split("-"))) for event in feed]
        assert positions == sorted(set(positions))
    assert feeds[0] == feeds[1] == feeds[2]


async def test_the_events_of_one_transaction_follow_each_other_in_the_order_of_their_writing(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    acknowledged: list[tuple[int, int, int]] = []
    done = asyncio.Event()
    await asyncio.gather(
        *(write_events(database, principal, writer, acknowledged) for writer in range(3))
    )
    done.set()
    feed = await follow(client, 200, acknowledged, done)
    transactions: dict[str, list[int]] = {}
    for event in feed:
        transaction = event["position"].rpartition("-")[0]
        transactions.setdefault(transaction, []).append(event["data"]["number"])
    assert len(transactions) == 3 * TRANSACTIONS
    for numbers in transactions.values():
        assert numbers == list(range(len(numbers)))


async def test_what_is_not_settled_is_held_back_and_a_later_commit_cannot_slip_behind_the_reader(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    def told(name: str) -> Any:
        return events.append(principal.workspace_id, name, {}, occurred_at=datetime.now(UTC))

    async def read(after: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        page = (await client.get("/v1/events", params=after)).json()
        return [event["type"] for event in page["items"]], {"after": page["next"]}

    async def quick(connection: Connection) -> None:
        await execute(connection, [told("test.second")])

    async def slow(connection: Connection) -> dict[str, str]:
        await execute(connection, [told("test.first")])
        await database.write(principal.workspace_id, quick)
        seen, after = await read({})
        assert seen == []  # the second is committed, but the first may still come before it
        return after

    after = await database.write(principal.workspace_id, slow)

    async def follow_on() -> list[str]:
        nonlocal after
        seen: list[str] = []
        async with asyncio.timeout(60):
            while len(seen) < 2:
                more, after = await read(after)
                seen += more
        return seen

    assert await follow_on() == ["test.first", "test.second"]


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def test_moves_are_found_by_the_names_that_subscribers_know(
    client: httpx.AsyncClient, sales: None, database: Database
) -> None:
    deal = await open_deal(client)
    for to_stage in ("offer", "won", "lead", "lost"):
        more = {"loss_reason": "price"} if to_stage == "lost" else {}
        await move(client, deal["id"], to_stage, **more)

    async def kinds(*types: str) -> list[str | None]:
        feed = await events_so_far(database, client, types=types)
        return [event["data"].get("kind") for event in feed]

    moves = ["advanced", "won", "reopened", "lost"]
    assert await kinds("opportunity.transitioned") == moves
    assert await kinds("opportunity.won") == ["won"]
    assert await kinds("opportunity.lost", "opportunity.reopened") == ["reopened", "lost"]
    assert await kinds("stage.entered") == [None, *moves]
    assert await kinds("opportunity.updated") == []


async def test_moves_of_one_deal_are_told_in_the_order_of_its_log_however_contended(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client)

    async def move_about(turn: int) -> int:
        stages = ("offer", "talks", "lead")
        moved = 0
        for n in range(12):
            answer = await decided(
                client.post,
                f"/v1/opportunities/{deal['id']}/transitions",
                json={"to_stage": stages[(turn + n) % 3]},
            )
            assert answer.status_code in {201, 409}, answer.text
            moved += answer.status_code == 201
        return moved

    made = sum(await asyncio.gather(*(move_about(turn) for turn in range(8))))
    seen: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    async with asyncio.timeout(60):
        while len(seen) < made:
            query = {"types": "opportunity.transitioned", "limit": 200, **after}
            page = (await client.get("/v1/events", params=query)).json()
            seen += [event["data"] for event in page["items"]]
            after = {"after": page["next"]}
    assert [data["seq"] for data in seen] == list(range(2, made + 2))
    assert [data["opportunity"]["version"] for data in seen] == list(range(2, made + 2))
    stages = [deal["stage"], *(data["to_stage"] for data in seen)]
    assert [data["from_stage"] for data in seen] == stages[:-1]


async def test_an_empty_answer_says_where_to_go_on_and_filters_do_not_lose_the_place(
    client: httpx.AsyncClient, sales: None
) -> None:
    start = (await client.get("/v1/events?after=now")).json()
    assert start["items"] == []
    deal = await open_deal(client)
    nothing = (
        await client.get("/v1/events", params={"after": start["next"], "types": "opportunity.won"})
    ).json()
    assert nothing["items"] == []
    await move(client, deal["id"], "won")
    async with asyncio.timeout(60):
        found: list[dict[str, Any]] = []
        while not found:
            after = {"after": nothing["next"], "types": "opportunity.won"}
            nothing = (await client.get("/v1/events", params=after)).json()
            found += nothing["items"]
    assert [event["opportunity_id"] for event in found] == [deal["id"]]
    assert [event["pipeline"] for event in found] == ["sales"]


async def test_only_the_events_of_the_pipeline_asked_for_are_told(
    client: httpx.AsyncClient, sales: None, database: Database, principal: Principal
) -> None:
    await open_deal(client)
    await keep_pipeline(database, principal.workspace_id, replace(sales_pipeline(), key="renewals"))
    renewed = await open_deal(client, "renewals")
    named = await events_so_far(database, client, pipeline="renewals")
    assert [event["opportunity_id"] for event in named] == [renewed["id"]]
    assert (await client.get("/v1/events?pipeline=nowhere")).status_code == 404


NEVER = ["7", "1-2", "1-2-3-4", "a-b-c", "1-2-3 ", "-1-2-3", "9" * 60]
FUTURE = ["1-999999999999999999-0", "99-1-0"]


@pytest.mark.parametrize("after", [*NEVER, *FUTURE])
async def test_a_position_that_was_never_given_is_no_cursor(
    client: httpx.AsyncClient, after: str
) -> None:
    refused = await client.get("/v1/events", params={"after": after})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")


async def test_the_place_of_an_event_that_is_not_settled_is_a_place_to_go_on_from(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    async def told(connection: Connection) -> tuple[int, int, int]:
        part = events.append(
            principal.workspace_id, "test.written", {}, occurred_at=datetime.now(UTC)
        )
        return (await append_event(connection, part))[1]

    async def older(connection: Connection) -> None:
        await connection.execute("SELECT pg_current_xact_id()")
        position = events.written(await database.write(principal.workspace_id, told))
        page = await client.get("/v1/events", params={"after": position})
        assert (page.status_code, page.json()["items"]) == (200, [])
        assert page.json()["next"] == position  # and not the horizon, which lies before it

    await database.write(principal.workspace_id, older, lock=Lock.NONE)


@pytest.mark.parametrize(
    "query", [{"types": "opportunity.exploded"}, {"limit": 0}, {"limit": 201}, {"since": "now"}]
)
async def test_what_the_feed_does_not_know_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any]
) -> None:
    assert (await client.get("/v1/events", params=query)).status_code == 422


async def test_a_type_that_there_is_not_is_refused_at_the_parameter_that_names_it(
    client: httpx.AsyncClient,
) -> None:
    query = {"types": ["opportunity.won", "opportunity.exploded"]}
    answer = await client.get("/v1/events", params=query)
    errors = [(each["pointer"], each["code"]) for each in answer.json()["errors"]]
    assert errors == [("?types", "not_one_of")]


async def test_a_workspace_is_told_of_itself_alone_and_only_who_may_follow(
    database: Database, service: Any, client: httpx.AsyncClient, sales: None
) -> None:
    await open_deal(client)
    assert len(await events_so_far(database, client)) == 1
    _, foreign = await make_workspace(database)
    assert (await service(foreign).get("/v1/events")).json()["items"] == []
    _, writer = await make_workspace(database, Scope.OPPORTUNITIES_WRITE)
    refused = await service(writer).get("/v1/events")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
