"""Webhooks of two services, one of which is killed in the middle of sending: none is ever lost."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.jobs.deliver_webhooks import OF_ONE_ENDPOINT
from app.storage.engine import Database
from tests.acceptance.services import Service, until
from tests.conftest import OWNER_URL, at, make_workspace
from tests.factories import keep_pipeline, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.receiver import receiving
from tests.webhooks import deliveries, endpoint, let_waits_end

pytestmark = pytest.mark.process

DEALS = 120
HELD = 2 * OF_ONE_ENDPOINT
"""The last of them, as many as two services have under way: who is held for long is given up."""


@pytest.fixture
def two_services(own_database: str) -> Iterator[list[Service]]:
    """Two services that share a database, and may send to this machine."""
    owner = at(os.environ[OWNER_URL], urlsplit(own_database).path.removeprefix("/"))
    settings = {
        "DATABASE_URL": own_database,
        "DATABASE_OWNER_URL": owner,
        "SLUICE_WEBHOOKS_ALLOW_LOOPBACK": "1",
    }
    with tempfile.TemporaryDirectory(prefix="sluice-webhooks-") as folder:
        services: list[Service] = []
        for name in ("one", "two"):
            own_folder = Path(folder) / name
            own_folder.mkdir()
            services.append(Service(own_folder, **settings))
        for service in services:
            until(service.answers)
        yield services
        for service in services:
            service.end()


async def test_what_a_killed_service_had_under_way_is_sent_by_the_other(
    own_database: str, two_services: list[Service]
) -> None:
    database = await Database.open(own_database)
    principal, key = await make_workspace(database)
    workspace = principal.workspace_id
    await keep_pipeline(database, workspace, sales_pipeline())
    survivor, victim = two_services
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        receiving() as receiver,
        httpx.AsyncClient(base_url=survivor.url, headers=headers, timeout=30) as client,
    ):
        made = await endpoint(client, receiver.url)
        for number in range(DEALS):
            if number == DEALS - HELD:  # from here on nobody is answered
                await receiver.has(1)
                receiver.hold = asyncio.Event()
            await open_deal(client, name=f"Deal {number}")
        await receiver.keeps_waiting(OF_ONE_ENDPOINT + 1)  # more than one service has under way
        victim.process.kill()
        victim.process.wait()
        assert receiver.hold is not None
        receiver.hold.set()
        receiver.hold = None
        feed = [event["id"] for event in await events_so_far(database, client)]
        async with asyncio.timeout(60):
            while len(await deliveries(client, made, state="delivered")) < len(feed):
                await let_waits_end(database, workspace)  # the leases of the dead, for one
        found = await deliveries(client, made)
        sent = Counter(got.headers["webhook-id"] for got in receiver.received)
    await database.close()
    assert len(feed) == DEALS
    assert set(sent) == set(feed)
    assert max(sent.values()) > 1  # what was under way came again, under the same id
    assert [each["event_id"] for each in found[::-1]] == feed
    assert [each["sequence"] for each in found[::-1]] == list(range(1, DEALS + 1))
