"""Two services on one database: together they are as exact as one, even when one is killed."""

import asyncio
import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from app.actions.check_projection import disagreements
from app.storage.engine import Database
from tests.acceptance.services import Service, until
from tests.asking import decided
from tests.conftest import OWNER_URL, at, make_workspace
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.logs import assert_is_chain, whole_log

pytestmark = pytest.mark.process

STAGES = ("lead", "offer", "talks", "parked", "won")
BUSY = 80


@pytest.fixture
def two_services(own_database: str) -> Iterator[list[Service]]:
    """Two services that share a database and nothing else."""
    owner = at(os.environ[OWNER_URL], urlsplit(own_database).path.removeprefix("/"))
    with tempfile.TemporaryDirectory(prefix="sluice-two-") as folder:
        services: list[Service] = []
        for name in ("one", "two"):
            own_folder = Path(folder) / name
            own_folder.mkdir()
            services.append(
                Service(own_folder, DATABASE_URL=own_database, DATABASE_OWNER_URL=owner)
            )
        for service in services:
            until(service.answers)
        yield services
        for service in services:
            service.end()


@dataclass
class Scene:
    """The deals, a client for each service, and what the services have acknowledged."""

    database: Database
    workspace: UUID
    clients: list[httpx.AsyncClient]
    deals: list[str]
    acknowledged: Counter[str] = field(default_factory=Counter)
    keys: Iterator[int] = field(default_factory=itertools.count)
    is_busy: asyncio.Event = field(default_factory=asyncio.Event)
    """Set in the middle: when `BUSY` moves are acknowledged."""

    async def move(self, at_service: int, deal_id: str, stage: str) -> None:
        """Ask one service, and where no answer comes the other, under the same key."""
        path = f"/v1/opportunities/{deal_id}/transitions"
        headers = {"Idempotency-Key": f"move-{next(self.keys)}"}
        for client in (self.clients[at_service], self.clients[1 - at_service]):
            try:
                answer = await decided(client.post, path, json={"to_stage": stage}, headers=headers)
            except httpx.TransportError:
                continue
            if answer.status_code == 201:
                self.acknowledged[answer.json()["transition"]["id"]] += 1
                if self.acknowledged.total() == BUSY:
                    self.is_busy.set()
            else:
                assert answer.status_code == 409, answer.text
                assert answer.json()["code"] in {"already_there", "already_closed"}
            return
        raise AssertionError("neither service answered")

    async def call(self, seed: int, moves: int) -> None:
        """One caller, who asks both services in turn."""
        dice = random.Random(seed)
        for n in range(moves):
            await self.move((seed + n) % 2, dice.choice(self.deals), dice.choice(STAGES))

    async def assert_exact(self, survivor: httpx.AsyncClient) -> None:
        """Every acknowledged move is in the logs exactly once, and nothing else is."""
        rows = []
        for deal_id in self.deals:
            log = await whole_log(survivor, deal_id)
            assert_is_chain(log)
            rows += log[1:]
        assert Counter(row["id"] for row in rows) == self.acknowledged
        assert [deal async for deal in disagreements(self.database, self.workspace)] == []


@pytest.fixture
async def scene(own_database: str, two_services: list[Service]) -> AsyncIterator[Scene]:
    database = await Database.open(own_database, size=2)
    principal, key = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    clients = [
        httpx.AsyncClient(
            base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=15
        )
        for service in two_services
    ]
    deals = [(await open_deal(clients[n % 2]))["id"] for n in range(8)]
    yield Scene(database, principal.workspace_id, clients, deals)
    for client in clients:
        await client.aclose()
    await database.close()


async def test_32_callers_of_two_services_leave_chains_and_no_move_is_lost_or_doubled(
    scene: Scene,
) -> None:
    await asyncio.gather(*(scene.call(seed, moves=12) for seed in range(32)))
    assert scene.acknowledged.total() > 100
    await scene.assert_exact(scene.clients[0])


async def test_many_moves_of_one_deal_through_two_services_happen_one_after_another(
    scene: Scene,
) -> None:
    scene.deals = scene.deals[:1]
    await asyncio.gather(*(scene.call(seed, moves=10) for seed in range(16)))
    assert scene.acknowledged.total() > 50
    await scene.assert_exact(scene.clients[1])


async def test_a_service_killed_in_the_middle_loses_and_doubles_nothing(
    scene: Scene, two_services: list[Service]
) -> None:
    killed, survivor = two_services

    async def kill_in_the_middle() -> None:
        await scene.is_busy.wait()
        killed.process.kill()

    await asyncio.gather(kill_in_the_middle(), *(scene.call(seed, moves=12) for seed in range(24)))
    assert killed.process.wait(5) != 0
    assert survivor.answers()
    assert scene.acknowledged.total() > BUSY
    await scene.assert_exact(scene.clients[1])
