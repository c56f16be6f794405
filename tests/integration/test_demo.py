"""The demo as it stands in the database, and as the API shows it."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions.load_demo import KEY, load_demo
from app.domain import journey
from app.domain.errors import DatabaseUnavailable
from app.domain.idleness import idle_state
from app.domain.journey import Status
from app.storage import opportunities, pipelines, transitions
from app.storage.engine import Connection, Database
from tests.asking import TRIES
from tests.audit import entries
from tests.commands import sluice


async def rows(database: Database, workspace: UUID, sql: str) -> list[Any]:
    async def work(connection: Connection) -> list[Any]:
        return await connection.fetch(sql, workspace)

    return await database.write(workspace, work)


async def count(database: Database, workspace: UUID, table: str) -> int:
    found = await rows(
        database, workspace, f"SELECT count(*) AS n FROM {table} WHERE workspace_id = $1"
    )
    return int(found[0]["n"])


async def test_an_empty_workspace_gets_as_many_deals_as_asked_for(
    database: Database, workspace: UUID
) -> None:
    assert await load_demo(database, workspace, deals=30) == 30
    assert await count(database, workspace, "opportunity") == 30


async def test_its_definition_is_told_of_in_the_audit_log(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    await load_demo(database, workspace, deals=3)
    (entry,) = await entries(client)
    assert (entry["action"], entry["target"], entry["actor"]) == ("pipeline.created", KEY, "demo")


async def test_more_deals_than_a_batch_are_loaded_whole(
    database: Database, workspace: UUID
) -> None:
    assert await load_demo(database, workspace, deals=2100) == 2100
    assert await count(database, workspace, "opportunity") == 2100


async def test_a_workspace_with_a_pipeline_is_left_alone(
    database: Database, workspace: UUID
) -> None:
    await load_demo(database, workspace, deals=10)
    assert await load_demo(database, workspace, deals=20, seed=99) == 0
    assert await count(database, workspace, "opportunity") == 10


async def test_two_loads_at_once_make_one_demo(database: Database, workspace: UUID) -> None:
    async def load() -> int:
        """Again, as often as the others were waited for in vain."""
        for _ in range(TRIES):
            with suppress(DatabaseUnavailable):
                return await load_demo(database, workspace, deals=10)
        raise AssertionError("it was never free")

    loaded = await asyncio.gather(*(load() for _ in range(4)))
    assert sorted(loaded) == [0, 0, 0, 10]
    assert await count(database, workspace, "opportunity") == 10


async def test_rows_are_what_their_logs_say_and_idle_clocks_are_exact(
    database: Database, workspace: UUID
) -> None:
    await load_demo(database, workspace, deals=150)
    now = datetime.now(UTC)

    async def work(connection: Connection) -> int:
        pipeline = await pipelines.current(connection, workspace, KEY)
        idle = 0
        for row in await connection.fetch(
            "SELECT * FROM opportunity WHERE workspace_id = $1", workspace
        ):
            deal = opportunities.deal_of(row)
            log = await transitions.standing(connection, workspace, deal.opportunity_id)
            assert deal.position == journey.position(pipeline, [e.transition for e in log])
            clock = idle_state(
                pipeline.by_slot[deal.position.slot],
                deal.facts.priority,
                moved_at=deal.position.moved_at,
                last_activity_at=None,
            )
            if deal.position.status is Status.OPEN:
                assert deal.idle == clock
                assert clock.goes_idle_at is not None
                idle += clock.goes_idle_at <= now
            else:
                assert deal.idle.goes_idle_at is None
            assert deal.facts.owner == log[-1].transition.facts.owner
            assert deal.facts.amount == log[-1].transition.facts.amount
        return idle

    assert await database.write(workspace, work) > 0


async def test_every_move_and_change_has_left_its_event(
    database: Database, workspace: UUID
) -> None:
    await load_demo(database, workspace, deals=200)
    told = await rows(
        database,
        workspace,
        "SELECT type, opportunity_id, occurred_at FROM event WHERE workspace_id = $1 ORDER BY n",
    )
    kinds = [event["type"] for event in told]
    moves = await count(database, workspace, "transition")
    assert kinds.count("pipeline.updated") == 1
    assert kinds.count("opportunity.created") == 200
    assert kinds.count("opportunity.transitioned") == moves - 200
    changes = await count(database, workspace, "opportunity_change")
    assert kinds.count("opportunity.updated") == changes > 0
    instants = [event["occurred_at"] for event in told]
    assert instants == sorted(instants), "the feed reads as it happened"


async def test_the_api_shows_the_demo_and_goes_on_from_it(
    database: Database, workspace: UUID, client: httpx.AsyncClient
) -> None:
    await load_demo(database, workspace, deals=60)
    answer = await client.get("/v1/opportunities", params={"pipeline": KEY, "status": "open"})
    assert answer.status_code == 200, answer.text
    deal = answer.json()["items"][0]
    lost = await client.post(
        f"/v1/opportunities/{deal['id']}/transitions",
        json={"to_stage": "lost", "loss_reason": "price"},
    )
    assert lost.status_code == 201, lost.text
    assert lost.json()["transition"]["seq"] > 1


async def test_the_command_says_what_it_loaded_and_where_it_loaded_nothing(
    workspace: UUID, login_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", login_url)

    async def run(*arguments: str) -> tuple[int, str]:
        # The command runs a loop of its own, so it needs a thread without one.
        done = await asyncio.to_thread(sluice, "demo", *arguments)
        return done.exit_code, done.output

    arguments = ("--deals", "12", "--seed", "3", "--workspace", workspace.hex)
    assert await run(*arguments) == (0, "Loaded 12 deals into the pipeline 'demo'.\n")
    code, output = await run(*arguments)
    assert code == 0
    assert "nothing was loaded" in output
    code, output = await run("--workspace", "nowhere")
    assert code == 1
    assert "There is no workspace 'nowhere'." in output
