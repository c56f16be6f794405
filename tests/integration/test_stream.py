"""Event streams: what the feed tells, as it happens, whoever else reads, writes or goes away."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import httpx
import pytest

from app.actions.manage_keys import issue_key, revoke_key
from app.domain.access import WHOLE, Principal, Scope
from app.domain.api_key import ApiKey
from app.domain.errors import DatabaseUnavailable
from app.http import broadcast
from app.http.follower import MOST_HANDED
from app.http.schemas.events import EventName
from app.main import leave
from app.storage import events
from app.storage.access import NewKey
from app.storage.engine import Connection, Database, Lock
from app.storage.statement import execute
from tests.conftest import make_workspace, on_server
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.streams import Serving, Stream, serving, stream

HEARTBEAT = timedelta(milliseconds=100)
ALONE = {"jobs": False, "webhooks": False}
"""A service that works off nothing of what other tests have left in the database."""


@pytest.fixture(scope="module")
async def served(login_url: str) -> AsyncIterator[Serving]:
    async with serving(login_url, stream_heartbeat=HEARTBEAT, **ALONE) as service:
        yield service


@pytest.fixture
async def caller(
    served: Serving, identity: tuple[Principal, ApiKey]
) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client(identity[1]) as client:
        yield client


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def tell(
    database: Database, workspace: UUID, *numbers: int, size: int = 0, historical: bool = False
) -> None:
    """Write events that bear these numbers, in one transaction."""

    async def work(connection: Connection) -> None:
        parts = [
            events.append(
                workspace,
                "test.written",
                {"number": number, "padding": "x" * size},
                occurred_at=datetime.now(UTC),
                historical=historical,
            )
            for number in numbers
        ]
        await events.append_all(connection, workspace, parts)

    await database.write(workspace, work, lock=Lock.NONE)


async def numbers(following: Stream, count: int) -> list[int]:
    return [event["data"]["number"] for event in await following.events(count)]


async def closed(served: Serving) -> None:
    """Wait until no stream is open."""
    async with asyncio.timeout(60):
        while served.broadcast.streams:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_what_happens_is_told_as_the_feed_tells_it(
    caller: httpx.AsyncClient, client: httpx.AsyncClient, database: Database, sales: None
) -> None:
    await open_deal(client)
    await events_so_far(database, client)  # a stream begins with what is not settled
    async with stream(caller) as following:
        deal = await open_deal(client)
        await move(client, deal["id"], "offer")
        await move(client, deal["id"], "won")
        told = await following.events(3)
        headers = following.answer.headers
    assert told == (await events_so_far(database, client))[1:]
    assert [event["type"] for event in told] == [
        "opportunity.created",
        "opportunity.transitioned",
        "opportunity.transitioned",
    ]
    assert headers["Content-Type"].partition(";")[0] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"


async def test_a_stream_goes_on_after_the_last_id_or_the_position_given(
    caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    async with stream(caller) as following:
        before = following.last_id
        await tell(database, workspace, 1, 2, 3)
        second = (await following.events(2))[1]["position"]
    async with stream(caller, last=second, after="0-0-0") as following:
        assert await numbers(following, 1) == [3]
    async with stream(caller, after=second) as following:
        assert await numbers(following, 1) == [3]
    async with stream(caller, last=before) as following:
        assert await numbers(following, 3) == [1, 2, 3]


async def test_who_is_cut_off_before_anything_happened_loses_nothing(
    caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    async with stream(caller) as following:
        place = following.last_id
    await tell(database, workspace, 1)
    async with stream(caller, last=place) as following:
        assert await numbers(following, 1) == [1]


async def test_nothing_is_lost_or_repeated_however_often_one_resumes_while_many_write(
    caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    writers, turns = 6, 40
    written: list[int] = []

    async def write(writer: int) -> None:
        """Long and short transactions, whose ids are committed out of order."""
        chance = random.Random(writer)
        for turn in range(turns):
            given = [writer * 10_000 + turn * 100 + n for n in range(chance.choice([1, 1, 3, 20]))]

            async def work(connection: Connection, given: list[int] = given) -> None:
                for number in given:
                    data = {"number": number}
                    now = datetime.now(UTC)
                    told = events.append(workspace, "test.written", data, occurred_at=now)
                    await execute(connection, [told])

            await database.write(workspace, work, lock=Lock.NONE)
            written.extend(given)

    async def follow(seed: int, done: asyncio.Event) -> list[dict[str, Any]]:
        chance, seen, last = random.Random(seed), list[dict[str, Any]](), "0-0-0"
        while not (done.is_set() and len(seen) >= len(written)):
            async with stream(caller, last=last) as following:
                for _ in range(chance.choice([1, 5, 30, 200])):
                    if done.is_set() and len(seen) >= len(written):
                        break
                    seen.append(await following.event())
                last = seen[-1]["position"]
        return seen

    done = asyncio.Event()
    async with asyncio.timeout(90):
        followers = [asyncio.create_task(follow(seed, done)) for seed in range(4)]
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        done.set()
        seen = await asyncio.gather(*followers)
    for told in seen:
        positions = [tuple(map(int, event["position"].split("-"))) for event in told]
        assert positions == sorted(set(positions))
        assert sorted(event["data"]["number"] for event in told) == sorted(written)


async def test_a_commit_behind_a_longer_transaction_is_told_after_it_and_not_lost(
    caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    async with stream(caller) as following:

        async def work(connection: Connection) -> None:
            now = datetime.now(UTC)
            told = events.append(workspace, "test.written", {"number": 1}, occurred_at=now)
            await execute(connection, [told])
            await tell(database, workspace, 2)
            for _ in range(3):  # while it runs the stream is alive, and tells of nothing
                message = await following.message()
                assert message is not None
                assert message.comment == "heartbeat"

        await database.write(workspace, work, lock=Lock.NONE)
        assert await numbers(following, 2) == [1, 2]


async def test_a_slow_reader_holds_nobody_up_is_kept_a_hand_for_and_loses_nothing(
    served: Serving, caller: httpx.AsyncClient, identity: tuple[Principal, ApiKey]
) -> None:
    database: Database = served.app.state.database
    workspace, count = identity[0].workspace_id, 4_000
    host, port = served.url.removeprefix("http://").split(":")
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    slow.setblocking(False)  # noqa: FBT003 - its only name
    loop = asyncio.get_running_loop()
    await loop.sock_connect(slow, (host, int(port)))
    request = f"GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {identity[1]}"
    await loop.sock_sendall(slow, f"{request}\r\n\r\n".encode())
    received = bytearray()
    while b"id: " not in received:
        received += await loop.sock_recv(slow, 65536)
    (lagging,) = served.broadcast.streams
    async with stream(caller) as following:
        for first in range(0, count, 200):
            await tell(database, workspace, *range(first, first + 200), size=2000)
            assert await numbers(following, 200) == list(range(first, first + 200))
            assert lagging.in_hand <= MOST_HANDED
    assert not lagging.is_live  # it is behind: nothing more is kept for it
    assert lagging.in_hand == 0
    async with asyncio.timeout(60):
        while f'"number":{count - 1}'.encode() not in received[-10_000:]:
            more = await loop.sock_recv(slow, 1 << 20)
            assert more, "the stream has ended"
            received += more
    slow.close()
    told = [int(part.split(b"}")[0].split(b",")[0]) for part in received.split(b'"number":')[1:]]
    assert told == list(range(count))
    await closed(served)


def placed(position: str | None) -> tuple[int, ...]:
    """A place of the feed, to be compared with others."""
    return tuple(int(part) for part in (position or "0-0-0").split("-"))


async def test_while_nothing_happens_comments_come_and_move_the_place_on(
    caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    async with stream(caller, types="opportunity.won") as following:
        await tell(database, workspace, 1)  # not asked for
        async with asyncio.timeout(60):
            told = None
            while told is None:  # until it is settled: others write in the same cluster
                items = (await caller.get("/v1/events")).json()["items"]
                told = items[-1]["position"] if items else None
            while placed(following.last_id) <= placed(told):
                message = await following.message()
                assert message is not None
                assert message.comment == "heartbeat"
                assert message.data is None
        later = following.last_id
    async with stream(caller, last=later) as following:
        await tell(database, workspace, 2)
        assert await numbers(following, 1) == [2]


async def test_the_first_message_says_when_to_come_back(caller: httpx.AsyncClient) -> None:
    async with caller.stream("GET", "/v1/events/stream") as answer:
        first = await Stream(answer).message()
    assert first is not None
    assert first.retry == "1000"


async def test_only_what_is_asked_for_is_told_live_and_afterwards(
    caller: httpx.AsyncClient,
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    sales: None,
) -> None:
    await keep_pipeline(database, principal.workspace_id, replace(sales_pipeline(), key="renewals"))
    asked = {"types": ["opportunity.won", "opportunity.updated"], "pipeline": "sales"}
    async with stream(caller, **asked) as following:
        start = following.last_id
        other = await open_deal(client, "renewals")
        await move(client, other["id"], "won")
        deal = await open_deal(client)
        await move(client, deal["id"], "offer")
        await move(client, deal["id"], "won")
        live = await following.event()
    async with stream(caller, last=start, **asked) as following:
        assert await following.event() == live
    assert live["data"]["kind"] == "won"
    assert live["opportunity_id"] == deal["id"]


async def test_an_event_at_hand_bears_the_names_by_which_the_feed_finds_it(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    deal = await open_deal(client)
    for to_stage in ("offer", "won", "lead", "lost", "won", "lead"):
        more = {"loss_reason": "price"} if to_stage == "lost" else {}
        await move(client, deal["id"], to_stage, **more)
    erased = await open_deal(client)
    await move(client, erased["id"], "won")
    one = f"/v1/opportunities/{erased['id']}"
    assert (await client.delete(one, headers={"If-Match": "*"})).status_code == 204
    everything = await events_so_far(database, client)
    async with database.read(principal.workspace_id) as connection:
        horizon = await events.horizon(connection)
        workspace = principal.workspace_id
        at_hand = await events.after(
            connection, workspace, events.START, horizon, limit=100, sight=WHOLE
        )
    assert [str(event.event_id) for event in at_hand] == [event["id"] for event in everything]
    for name in get_args(EventName):
        found = await events_so_far(database, client, types=name)
        named = [str(event.event_id) for event in at_hand if events.is_named(event, [name])]
        assert named == [event["id"] for event in found], name


async def test_imported_history_is_left_out_unless_it_is_asked_for(
    caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    async with stream(caller) as present, stream(caller, historical=True) as everything:
        start = present.last_id
        await tell(database, workspace, 1, historical=True)
        await tell(database, workspace, 2)
        assert await numbers(present, 1) == [2]
        assert await numbers(everything, 2) == [1, 2]
    async with stream(caller, last=start) as present:
        assert await numbers(present, 1) == [2]


@pytest.mark.parametrize("last", ["7", "1-2", "a-b-c", "", "9" * 60, "1-999999999999999999-0"])
async def test_a_place_that_was_never_given_is_refused_before_the_stream_begins(
    caller: httpx.AsyncClient, last: str
) -> None:
    refused = await caller.get("/v1/events/stream", headers={"Last-Event-ID": last})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")


async def test_what_the_stream_does_not_know_is_refused(caller: httpx.AsyncClient) -> None:
    for query in ({"types": "opportunity.exploded"}, {"limit": 5}, {"historical": "perhaps"}):
        assert (await caller.get("/v1/events/stream", params=query)).status_code == 422
    missing = await caller.get("/v1/events/stream", params={"pipeline": "nowhere"})
    assert missing.status_code == 404


async def test_a_workspace_is_told_of_itself_alone_and_only_who_may_follow(
    served: Serving, caller: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    stranger, key = await make_workspace(database)
    async with served.client(key) as foreign, stream(caller) as ours, stream(foreign) as theirs:
        await tell(database, stranger.workspace_id, 1)
        await tell(database, workspace, 2)
        assert await numbers(ours, 1) == [2]
        assert await numbers(theirs, 1) == [1]
    _, writer = await make_workspace(database, Scope.OPPORTUNITIES_WRITE)
    async with served.client(writer) as client:
        refused = await client.get("/v1/events/stream")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_who_hangs_up_is_forgotten_at_once(
    served: Serving, caller: httpx.AsyncClient, operating: dict[str, str]
) -> None:
    await closed(served)
    async with stream(caller), stream(caller):
        assert len(served.broadcast.streams) == 2
        figures = (await caller.get("/metrics", headers=operating)).text
        assert "sluice_event_streams 2.0" in figures
    await closed(served)
    assert served.broadcast.watched == 0


async def test_behind_pgbouncer_a_stream_hears_of_other_processes_by_looking(
    database: Database, login_url: str, identity: tuple[Principal, ApiKey]
) -> None:
    url = f"{login_url}{'&' if '?' in login_url else '?'}pgbouncer=true"
    async with (
        serving(url, **ALONE) as deaf,
        deaf.client(identity[1]) as client,
        stream(client) as told,
    ):
        await tell(database, identity[0].workspace_id, 1, 2)
        assert await numbers(told, 2) == [1, 2]


async def test_streams_outlive_a_database_that_goes_away_and_comes_back(own_database: str) -> None:
    name = own_database.rpartition("/")[2].partition("?")[0]
    database = await Database.open(own_database)
    admin, key = await make_workspace(database)
    async with (
        serving(own_database, stream_heartbeat=HEARTBEAT) as service,
        service.client(key) as client,
        stream(client) as following,
    ):
        await tell(database, admin.workspace_id, 1)
        assert await numbers(following, 1) == [1]
        for number in (2, 3):
            await on_server(
                own_database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'",  # not what vacuums there by itself
            )
            message = await following.message()
            assert message is not None
            async with asyncio.timeout(60):
                while True:
                    try:
                        await tell(database, admin.workspace_id, number)
                        break
                    except DatabaseUnavailable:
                        await asyncio.sleep(0.05)
            assert await numbers(following, 1) == [number]
    await database.close()


async def test_a_stream_ends_soon_after_its_key_is_revoked(
    served: Serving, caller: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    new = NewKey(name="brief", subject="brief", scopes=frozenset({Scope.EVENTS_READ}))
    key = await issue_key(database, principal.workspace_id, new)
    async with served.client(key) as brief, stream(brief) as following, stream(caller) as staying:
        await tell(database, principal.workspace_id, 1)
        assert await numbers(following, 1) == [1]
        await revoke_key(database, principal.workspace_id, key.key_id)
        await following.end()
        await tell(database, principal.workspace_id, 1)
        assert len(await numbers(staying, 2)) == 2


async def test_a_stream_lasts_no_longer_than_its_key(
    login_url: str, database: Database, principal: Principal
) -> None:
    async with serving(login_url, **ALONE) as service:
        until = datetime.now(UTC) + timedelta(seconds=3)
        new = NewKey(
            name="brief", subject="brief", scopes=frozenset({Scope.EVENTS_READ}), expires_at=until
        )
        key = await issue_key(database, principal.workspace_id, new)
        async with service.client(key) as brief, stream(brief) as following:
            await following.end()
        assert datetime.now(UTC) >= until


async def test_a_stream_ends_after_its_lifetime_and_is_gone_on_with(
    login_url: str,
    database: Database,
    identity: tuple[Principal, ApiKey],
    operating: dict[str, str],
) -> None:
    workspace = identity[0].workspace_id
    async with (
        serving(login_url, stream_lifetime=timedelta(seconds=3), **ALONE) as service,
        service.client(identity[1]) as client,
    ):
        await tell(database, workspace, 1)
        await events_so_far(database, client)  # so it is told before the stream ends
        async with stream(client, after="0-0-0") as following:
            assert await numbers(following, 1) == [1]
            await following.end()
        await tell(database, workspace, 2)
        async with stream(client, last=following.last_id) as again:
            assert await numbers(again, 1) == [2]
        await closed(service)
        figures = (await client.get("/metrics", headers=operating)).text
    answered = next(
        line
        for line in figures.splitlines()
        if line.startswith('sluice_http_request_seconds_sum{method="GET",route="/v1/events/stream"')
    )
    # How long they took to begin: the first alone lasted nearly three seconds.
    assert float(answered.split()[-1]) < 2.5


@asynccontextmanager
async def stuck(served: Serving, key: ApiKey) -> AsyncIterator[socket.socket]:
    """A client that has begun a stream of what it was told and takes nothing of it any more."""
    host, port = served.url.removeprefix("http://").split(":")
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.setblocking(False)  # noqa: FBT003 - its only name
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, (host, int(port)))
    asked = "GET /v1/events/stream?after=0-0-0 HTTP/1.1"
    request = f"{asked}\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    await loop.sock_sendall(deaf, request.encode())
    try:
        async with asyncio.timeout(60):
            while all(each.position == events.START for each in served.broadcast.streams):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        yield deaf
    finally:
        deaf.close()


@pytest.mark.parametrize("why", ["patience", "lifetime", "leaving"])
async def test_who_takes_nothing_more_is_broken_off(
    login_url: str,
    database: Database,
    identity: tuple[Principal, ApiKey],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    monkeypatch.setattr(broadcast, "PARTING", 0.1)
    if why == "patience":
        monkeypatch.setattr(broadcast, "TAKEN_WITHIN", 0.1)
    for first in range(0, 1_000, 100):  # more than the sockets between them hold
        await tell(database, identity[0].workspace_id, *range(first, first + 100), size=10_000)
    lifetime = timedelta(seconds=1 if why == "lifetime" else 3600)
    async with (
        serving(login_url, stream_lifetime=lifetime, **ALONE) as service,
        stuck(service, identity[1]) as deaf,
    ):
        if why == "leaving":
            leave(service.app)
        await closed(service)
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                while await asyncio.get_running_loop().sock_recv(deaf, 1 << 20):
                    pass  # what the system still held of it, and then the end
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_who_leaves_ends_its_streams_and_begins_no_others(
    login_url: str, identity: tuple[Principal, ApiKey]
) -> None:
    async with serving(login_url, **ALONE) as service, service.client(identity[1]) as client:
        async with stream(client) as following:
            leave(service.app)
            await following.end()
        refused = await client.get("/v1/events/stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert (await client.get("/readyz")).status_code == 503


async def test_head_tells_of_a_stream_and_opens_none(
    login_url: str, identity: tuple[Principal, ApiKey], operating: dict[str, str]
) -> None:
    async with serving(login_url, **ALONE) as served, served.client(identity[1]) as client:
        path = "/v1/events/stream"
        async with asyncio.timeout(20):
            for _ in range(3):  # on one connection, which each leaves as it was
                answer = await client.head(path)
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
        figures = (await client.get("/metrics", headers=operating)).text
        assert "sluice_event_streams 0.0" in figures
        assert "sluice_http_requests_in_progress 0.0" in figures
        assert f'method="HEAD",route="{path}",status="200"}} 3.0' in figures


async def test_head_of_an_export_ends_with_its_headers(
    login_url: str, identity: tuple[Principal, ApiKey]
) -> None:
    async with serving(login_url, **ALONE) as served, served.client(identity[1]) as client:
        async with asyncio.timeout(20):
            answers = [await client.head("/v1/audit-log/export") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
