"""The courier: woken by commits, fair to all endpoints, and leaving nothing behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
from prometheus_client import CollectorRegistry

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.jobs.deliver_webhooks import (
    IN_FLIGHT,
    OF_ONE_ENDPOINT,
    OF_ONE_WORKSPACE,
    PAUSE,
    Courier,
    WebhookMetrics,
    delivering,
)
from app.jobs.scheduler import clear_what_is_old
from app.outbound.sending import Outbound
from app.storage.engine import Connection, Database
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.receiver import Receiver, receiving, saying
from tests.webhooks import (
    ANY,
    ENDPOINTS,
    HERE,
    deliveries,
    delivery,
    endpoint,
    let_time_pass,
    let_waits_end,
    tell,
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[Database]:
    """A database in which a courier finds nothing but what this test has made."""
    opened = await Database.open(own_database)
    yield opened
    await opened.close()


@pytest.fixture
async def owner(alone: Database) -> tuple[Principal, ApiKey]:
    return await make_workspace(alone)


@pytest.fixture
async def caller(
    own_database: str, owner: tuple[Principal, ApiKey]
) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own_database) as connect:
        yield connect(owner[1])


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def courier(alone: Database, registry: CollectorRegistry) -> Courier:
    patient = Outbound(allow_loopback=True, timeout=60)  # no attempt ends by itself meanwhile
    return Courier(alone, patient, WebhookMetrics(registry))


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            pass


async def let_streaks_begin(database: Database, workspace: UUID) -> None:
    """As if all endpoints of the workspace had failed a moment ago."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            "UPDATE webhook_endpoint SET failing_since = now() WHERE workspace_id = $1", workspace
        )

    await database.write(workspace, work)


async def settle(courier: Courier, count: int, client: httpx.AsyncClient, made: Any) -> None:
    """Have the courier look until so many deliveries of the endpoint are delivered."""

    async def done() -> bool:
        await courier.look()
        await courier.settled()
        return len(await deliveries(client, made, state="delivered")) == count

    await until(done)


async def test_what_is_committed_is_delivered_by_whichever_service_hears_of_it(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    registry: CollectorRegistry,
) -> None:
    await keep_pipeline(alone, owner[0].workspace_id, sales_pipeline())
    made = await endpoint(caller, receiver.url, types=["stage.entered"], pipeline="sales")
    one, other = WebhookMetrics(registry), WebhookMetrics(CollectorRegistry())
    async with (
        alone.notices.sent_and_heard(),
        delivering(alone, HERE, one),
        delivering(alone, HERE, other),
    ):
        deal = await open_deal(caller)
        await receiver.has(1)
        for stage in ("offer", "talks", "won"):
            await move(caller, deal["id"], stage)
        await receiver.has(4)

        async def noted() -> bool:
            return len(await deliveries(caller, made, state="delivered")) == 4

        await until(noted)
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert len(set(ids)) == len(ids) == 4


async def test_a_courier_that_starts_finds_what_happened_before(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    courier: Courier,
    registry: CollectorRegistry,
) -> None:
    made = await endpoint(caller, receiver.url)
    await tell(alone, owner[0].workspace_id, 3 * OF_ONE_ENDPOINT)
    await settle(courier, 3 * OF_ONE_ENDPOINT, caller, made)
    ids = {got.headers["webhook-id"] for got in receiver.received}
    assert len(ids) == len(receiver.received) == 3 * OF_ONE_ENDPOINT
    attempts = registry.get_sample_value("sluice_webhook_attempts_total", {"outcome": "delivered"})
    assert attempts == 3 * OF_ONE_ENDPOINT


async def test_an_endpoint_that_hangs_takes_its_share_and_keeps_no_other_waiting(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    courier: Courier,
) -> None:
    async with receiving() as hanging:
        hanging.hold = asyncio.Event()
        await endpoint(caller, hanging.url)
        await endpoint(caller, receiver.url)
        await tell(alone, owner[0].workspace_id, 3 * OF_ONE_ENDPOINT)

        async def others_served() -> bool:
            await courier.look()
            return len(receiver.received) == 3 * OF_ONE_ENDPOINT

        await until(others_served)
        assert len(hanging.received) <= OF_ONE_ENDPOINT
        assert hanging.connections <= OF_ONE_ENDPOINT
        hanging.hold.set()
        await courier.settled()


async def test_workspaces_that_hang_leave_room_for_whoever_comes_next(
    alone: Database, own_database: str, receiver: Receiver, courier: Courier
) -> None:
    async with receiving() as hanging, running(own_database) as connect:
        hanging.hold = asyncio.Event()
        for _ in range(4):  # each with more than a workspace may have under way
            principal, key = await make_workspace(alone)
            for _ in range(6):
                await endpoint(connect(key), hanging.url)
            await tell(alone, principal.workspace_id, OF_ONE_ENDPOINT)
        most = 4 * OF_ONE_WORKSPACE

        async def all_that_fits() -> bool:
            before = len(hanging.received)
            await courier.look()
            return before == len(hanging.received) > 2 * OF_ONE_WORKSPACE

        await until(all_that_fits)
        assert most // 2 < len(hanging.received) < IN_FLIGHT
        principal, key = await make_workspace(alone)
        await endpoint(connect(key), receiver.url)
        await tell(alone, principal.workspace_id)

        async def served() -> bool:
            await courier.look()
            return len(receiver.received) == 1

        await until(served)
        assert hanging.answered == 0
        hanging.hold.set()
        await courier.settled()


async def test_endpoints_that_are_known_to_fail_share_a_half_of_the_room(
    alone: Database, own_database: str, courier: Courier
) -> None:
    async with receiving() as hanging, running(own_database) as connect:
        hanging.hold = asyncio.Event()
        for _ in range(3):
            principal, key = await make_workspace(alone)
            for _ in range(30):
                await endpoint(connect(key), hanging.url)
            await let_streaks_begin(alone, principal.workspace_id)
            await tell(alone, principal.workspace_id, 2)

        async def looked() -> bool:
            before = len(hanging.received)
            await courier.look()
            assert len(hanging.received) <= IN_FLIGHT // 2
            return before == len(hanging.received) == IN_FLIGHT // 2

        await until(looked)
        hanging.hold.set()
        await courier.settled()


async def test_a_courier_that_is_told_where_looks_there_and_nowhere_else(
    alone: Database, own_database: str, courier: Courier
) -> None:
    async with receiving() as one, receiving() as other, running(own_database) as connect:
        told = []
        for receiver in (one, other):
            principal, key = await make_workspace(alone)
            await endpoint(connect(key), receiver.url)
            await tell(alone, principal.workspace_id)
            told.append(principal.workspace_id)

        async def served(receiver: Receiver, *where: UUID) -> bool:
            await courier.look(where or None)
            await courier.settled()
            return len(receiver.received) == 1

        # What still runs anywhere in the cluster holds the feed back.
        await until(partial(served, one, told[0]))
        assert other.connections == 0
        await until(partial(served, other))


async def test_an_attempt_under_way_makes_no_courier_look_more_often(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver.hold = asyncio.Event()
    await endpoint(caller, receiver.url)
    elsewhere = (await make_workspace(alone))[0].workspace_id
    looks, look = 0, Courier.look

    async def counted(courier: Courier, where: Collection[UUID] | None = None) -> None:
        nonlocal looks
        looks += 1
        await look(courier, where)

    monkeypatch.setattr(Courier, "look", counted)
    clock = asyncio.get_running_loop().time
    async with delivering(alone, HERE, WebhookMetrics(registry)):
        await tell(alone, owner[0].workspace_id)
        await receiver.has(1)
        looks, began = 0, clock()
        for _ in range(200):
            await tell(alone, elsewhere)
        assert looks <= (clock() - began) / PAUSE + 1
        receiver.hold.set()


async def test_of_an_endpoint_that_fails_one_delivery_is_tried_at_a_time(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    courier: Courier,
) -> None:
    workspace = owner[0].workspace_id
    receiver.answers = [saying(500)]
    made = await endpoint(caller, receiver.url)
    await tell(alone, workspace)

    async def failing() -> bool:
        await courier.look()
        await courier.settled()
        return len(receiver.received) == 1

    await until(failing)
    await tell(alone, workspace, 5)

    async def known() -> bool:
        before = len(receiver.received)
        await courier.look()
        await courier.settled()
        assert len(receiver.received) <= before + 1
        return len(await deliveries(caller, made)) == 6

    await until(known)


async def test_a_courier_that_leaves_lets_what_is_under_way_end_and_leaves_no_task(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    registry: CollectorRegistry,
) -> None:
    receiver.hold = asyncio.Event()
    made = await endpoint(caller, receiver.url)
    before = asyncio.all_tasks()
    async with delivering(alone, HERE, WebhookMetrics(registry)):
        await tell(alone, owner[0].workspace_id)
        await receiver.has(1)
        asyncio.get_running_loop().call_later(0.05, receiver.hold.set)
    assert {task for task in asyncio.all_tasks() - before if "serve" not in repr(task)} == set()
    assert (await delivery(caller, made, 1))["state"] == "delivered"


async def test_the_figures_tell_how_much_waits_and_since_when(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
) -> None:
    workspace = owner[0].workspace_id
    made = await endpoint(caller, receiver.url)
    for _ in range(3):
        await caller.post(f"{ENDPOINTS}/{made['id']}/test")
    await let_time_pass(alone, workspace, "webhook_delivery", ["next_attempt_at"], "1 hour")

    async def counted() -> tuple[float | None, float | None]:
        registry = CollectorRegistry()
        courier = Courier(alone, HERE, WebhookMetrics(registry))
        await courier.look([])  # counts, and sends nothing
        return (
            registry.get_sample_value("sluice_webhook_deliveries_pending"),
            registry.get_sample_value("sluice_webhook_oldest_pending_seconds"),
        )

    pending, oldest = await counted()
    assert pending == 3
    assert oldest is not None
    assert 3600 <= oldest < 3660
    await let_time_pass(alone, workspace, "webhook_delivery", ["next_attempt_at"], "-2 hours")
    assert await counted() == (3, 0)  # nothing is due
    await caller.patch(f"{ENDPOINTS}/{made['id']}", json={"enabled": False}, headers=ANY)
    assert await counted() == (0, 0)  # and nothing will be


async def test_a_database_that_is_away_ends_no_courier() -> None:
    away = await Database.open("postgresql://sluice@127.0.0.1:1/sluice")
    async with delivering(away, HERE, WebhookMetrics(CollectorRegistry())):
        with away.notices.listening() as wake:
            assert await wake.wait(0.3) is None
            assert await wake.wait(0.3) is None
    await away.close()


async def test_a_secret_that_has_expired_is_forgotten(
    alone: Database, owner: tuple[Principal, ApiKey], caller: httpx.AsyncClient, receiver: Receiver
) -> None:
    workspace = owner[0].workspace_id
    made = await endpoint(caller, receiver.url)
    await caller.post(f"{ENDPOINTS}/{made['id']}/secret", json={"overlap": "PT1H"})

    async def kept(connection: Connection) -> int:
        return await connection.fetchval("SELECT count(*) FROM webhook_secret")

    await clear_what_is_old(alone)
    assert await alone.write(workspace, kept) == 2
    await let_time_pass(alone, workspace, "webhook_secret", ["expires_at"], "1 hour")
    await clear_what_is_old(alone)
    assert await alone.write(workspace, kept) == 1


async def test_deliveries_are_kept_for_a_month_and_those_of_nobody_are_cleared_away(
    alone: Database,
    owner: tuple[Principal, ApiKey],
    caller: httpx.AsyncClient,
    receiver: Receiver,
    courier: Courier,
) -> None:
    workspace = owner[0].workspace_id
    made = await endpoint(caller, receiver.url)
    gone = await endpoint(caller, receiver.url)
    await tell(alone, workspace)
    await settle(courier, 1, caller, made)
    for each in (made, gone):
        await caller.post(f"{ENDPOINTS}/{each['id']}/test")
    await caller.delete(f"{ENDPOINTS}/{gone['id']}", headers=ANY)

    async def kept(connection: Connection) -> tuple[int, int]:
        return (
            await connection.fetchval("SELECT count(*) FROM webhook_delivery"),
            await connection.fetchval("SELECT count(*) FROM webhook_attempt"),
        )

    before, attempts = await alone.write(workspace, kept)
    await clear_what_is_old(alone)
    assert (await alone.write(workspace, kept))[0] < before
    assert len(await deliveries(caller, made)) == 2
    await let_time_pass(alone, workspace, "webhook_delivery", ["finished_at"], "29 days")
    await clear_what_is_old(alone)
    assert (await alone.write(workspace, kept)) == (2 + (attempts - 1), attempts)
    await let_time_pass(alone, workspace, "webhook_delivery", ["finished_at"], "1 day")
    await clear_what_is_old(alone)
    assert (await alone.write(workspace, kept)) == (1, 0)
    await let_waits_end(alone, workspace)
    await settle(courier, 1, caller, made)
