"""The database seam: what PostgreSQL may do to a transaction, and what the caller hears of it."""

import asyncio
import time
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.domain.errors import DatabaseUnavailable, RequestInProgress
from app.storage import migrate, walls
from app.storage.embedded import EmbeddedPostgres
from app.storage.engine import (
    ATTEMPTS,
    POOL_WAIT,
    REQUEST,
    Connection,
    Database,
    Lock,
    Role,
    Timeouts,
    connect_arguments,
)
from app.storage.ids import new_id
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline, sales_pipeline

RENAME = "UPDATE workspace SET name = $2 WHERE workspace_id = $1"
NAME = "SELECT name FROM workspace WHERE workspace_id = $1"


async def name_of(database: Database, workspace: UUID) -> str:
    async def work(connection: Connection) -> str:
        name: str = await connection.fetchval(NAME, workspace)
        return name

    return await database.write(workspace, work)


async def test_what_returned_is_committed_and_what_raised_is_not(
    database: Database, workspace: UUID
) -> None:
    async def work(connection: Connection) -> int:
        await connection.execute(RENAME, workspace, "kept")
        return 7

    async def failing(connection: Connection) -> None:
        await connection.execute(RENAME, workspace, "lost")
        raise LookupError

    assert await database.write(workspace, work) == 7
    with pytest.raises(LookupError):
        await database.write(workspace, failing)
    assert await name_of(database, workspace) == "kept"


async def test_work_that_goes_on_after_a_failed_statement_is_no_success(
    database: Database, workspace: UUID
) -> None:
    async def careless(connection: Connection) -> None:
        await connection.execute(RENAME, workspace, "lost")
        try:
            await connection.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            return

    with pytest.raises(AssertionError):
        await database.write(workspace, careless)


async def test_a_transaction_sees_its_workspace_alone_and_its_connection_remembers_nothing(
    one_place: Database, database: Database, workspace: UUID
) -> None:
    other, _ = await make_workspace(database)

    async def seen(connection: Connection) -> list[UUID]:
        return [r["workspace_id"] for r in await connection.fetch("SELECT * FROM workspace")]

    assert await one_place.write(workspace, seen) == [workspace]
    assert await one_place.write(other.workspace_id, seen) == [other.workspace_id]
    assert await one_place.write(None, seen, lock=Lock.NONE) == []
    async with one_place.read(None) as connection:
        assert (await connection.execute(text("SELECT * FROM workspace"))).all() == []
    async with one_place.read(None, role=Role.JOBS) as connection:
        found = (await connection.execute(text("SELECT workspace_id FROM workspace"))).scalars()
        assert {workspace, other.workspace_id} <= set(found)


async def test_a_read_writes_nothing(database: Database, workspace: UUID) -> None:
    async with database.read(workspace) as connection:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await connection.execute(text("UPDATE workspace SET name = 'x'"))


async def test_a_write_that_meets_a_standby_is_told_to_come_again(
    database: Database, workspace: UUID
) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("SET TRANSACTION READ ONLY")  # as a standby has it
        await connection.execute(RENAME, workspace, "lost")

    with pytest.raises(DatabaseUnavailable):
        await database.write(workspace, work)


async def test_a_serialization_failure_is_tried_again_as_a_whole(
    database: Database, workspace: UUID
) -> None:
    attempts = 0

    async def work(connection: Connection) -> str:
        nonlocal attempts
        attempts += 1
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seen: str = await connection.fetchval(NAME, workspace)
        if attempts == 1:  # between our snapshot and our write, another one writes
            await database.write(
                workspace, lambda other: other.execute(RENAME, workspace, "theirs")
            )
        await connection.execute(RENAME, workspace, f"ours after {seen}")
        return seen

    # The definition lock is a query, and a transaction's level is set before its first one.
    assert await database.write(workspace, work, lock=Lock.NONE) == "theirs"
    assert attempts == 2
    assert await name_of(database, workspace) == "ours after theirs"


async def test_it_is_tried_four_times_and_then_told(database: Database, workspace: UUID) -> None:
    attempts = 0

    async def work(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.fetchval(NAME, workspace)
        await database.write(
            workspace, lambda other: other.execute(RENAME, workspace, f"theirs {attempts}")
        )
        await connection.execute(RENAME, workspace, "ours")

    with pytest.raises(DatabaseUnavailable, match="Too many requests"):
        await database.write(workspace, work, lock=Lock.NONE)
    assert attempts == ATTEMPTS == 4
    assert await name_of(database, workspace) == "theirs 4"


async def test_of_two_that_deadlock_both_succeed_in_the_end(
    database: Database, workspace: UUID
) -> None:
    holds = [asyncio.Event(), asyncio.Event()]
    attempts = [0, 0]

    async def cross(me: int) -> None:
        async def work(connection: Connection) -> None:
            attempts[me] += 1
            await connection.execute("SELECT pg_advisory_xact_lock($1)", 900 + me)
            holds[me].set()
            await holds[1 - me].wait()
            await connection.execute("SELECT pg_advisory_xact_lock($1)", 900 + (1 - me))

        await database.write(workspace, work)

    await asyncio.gather(cross(0), cross(1))
    assert sorted(attempts) == [1, 2]


async def test_a_lock_that_is_not_to_be_had_is_told_within_its_two_seconds(
    database: Database, workspace: UUID
) -> None:
    locked, release = asyncio.Event(), asyncio.Event()

    async def holder(connection: Connection) -> None:
        await connection.execute(RENAME, workspace, "held")
        locked.set()
        await release.wait()

    holding = asyncio.create_task(database.write(workspace, holder))
    await locked.wait()
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="too long"):
        await database.write(workspace, lambda c: c.execute(RENAME, workspace, "second"))
    # The holder would never let go; a statement is given up later than a lock.
    assert REQUEST.lock == 2
    assert 1.5 < time.monotonic() - began < REQUEST.statement
    release.set()
    await holding
    assert await name_of(database, workspace) == "held"


async def test_a_twin_that_waits_in_vain_for_the_first_one_is_told_so(
    database: Database, workspace: UUID
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def first(_: Connection) -> None:
        begun.set()
        await release.wait()

    running_one = asyncio.create_task(database.write(workspace, first, keys=["k"]))
    await begun.wait()
    with pytest.raises(RequestInProgress):
        await database.write(workspace, lambda c: c.execute("SELECT 1"), keys=["k"])
    # Another key, and the same key in another workspace, wait for nobody.
    await database.write(workspace, lambda c: c.execute("SELECT 1"), keys=["l"])
    await database.write(new_id(), lambda c: c.execute("SELECT 1"), keys=["k"])
    release.set()
    await running_one


async def test_a_definition_is_changed_when_no_deal_is_being_written_and_the_other_way_round(
    database: Database, workspace: UUID
) -> None:
    inside, most = {"deals": 0, "definitions": 0}, 0
    places = asyncio.Semaphore(10)  # as many as the pool has: nobody waits for a connection too

    async def worker(what: str) -> None:
        async def work(connection: Connection) -> None:
            nonlocal most
            inside[what] += 1
            await connection.execute("SELECT pg_sleep(0.005)")
            assert not (inside["deals"] and inside["definitions"])
            assert inside["definitions"] <= 1
            most = max(most, inside["deals"])
            inside[what] -= 1

        lock = Lock.DEALS if what == "deals" else Lock.DEFINITIONS
        async with places:
            await database.write(workspace, work, lock=lock)

    await asyncio.gather(*(worker("deals" if n % 4 else "definitions") for n in range(40)))
    assert most > 1


async def test_a_statement_that_takes_too_long_is_told(database: Database, workspace: UUID) -> None:
    brief = Timeouts(statement=0.05)
    with pytest.raises(DatabaseUnavailable, match="too long"):
        await database.write(workspace, lambda c: c.execute("SELECT pg_sleep(5)"), timeouts=brief)
    with pytest.raises(DatabaseUnavailable, match="too long"):
        async with database.read(workspace, timeouts=brief) as connection:
            await connection.execute(text("SELECT pg_sleep(5)"))


async def test_who_finds_no_connection_free_is_told_within_two_seconds(
    one_place: Database, workspace: UUID
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def occupy(_: Connection) -> None:
        begun.set()
        await release.wait()

    busy = asyncio.create_task(one_place.write(workspace, occupy))
    await begun.wait()
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="No database connection was free"):
        await one_place.write(workspace, lambda c: c.execute("SELECT 1"))
    async with one_place.read(workspace):
        with pytest.raises(DatabaseUnavailable, match="No database connection was free"):
            async with one_place.read(workspace):
                pass
    # Sooner than the server would have made the one that is occupied free.
    assert POOL_WAIT == 2
    assert time.monotonic() - began < REQUEST.idle_in_transaction
    release.set()
    await busy


async def test_a_value_that_cannot_be_sent_is_our_mistake_and_not_an_absent_server(
    database: Database, workspace: UUID
) -> None:
    with pytest.raises(asyncpg.DataError, match="invalid input"):
        await database.write(workspace, lambda c: c.execute("SELECT $1::int8", 2**80))


async def test_a_database_that_goes_away_is_told_within_two_seconds_and_comes_back_by_itself(
    cluster: EmbeddedPostgres,
) -> None:
    await migrate.upgrade(cluster.url("sluice_owner"), "sluice")
    async with running(cluster.url()) as connect:
        database = await Database.open(cluster.url(), size=2)
        principal, key = await make_workspace(database)
        await keep_pipeline(database, principal.workspace_id, sales_pipeline())
        await database.close()
        client = connect(key)
        body = {"pipeline": "sales", "name": "A deal"}
        made = (await client.post("/v1/opportunities", json=body)).json()["id"]
        reads = ("/readyz", f"/v1/opportunities/{made}", "/v1/opportunities")
        assert [(await client.get(path)).status_code for path in reads] == [200] * 3

        cluster.stop()
        took: list[list[float]] = []
        for _ in range(3):
            took.append([])
            for ask in (
                client.post("/v1/opportunities", json=body),
                *(client.get(path) for path in reads),
            ):
                began = time.monotonic()
                answer = await ask
                took[-1].append(time.monotonic() - began)
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "database_unavailable"
                assert int(answer.headers["Retry-After"]) >= 1
        # Once at least, on a machine that may be busy with something else.
        assert all(min(times) < 2.5 for times in zip(*took, strict=True))
        assert (await client.get("/livez")).status_code == 200

        cluster.start()
        for _ in range(3):  # a connection that died with the server is found out when it is used
            if (await client.get("/readyz")).status_code == 200:
                break
        assert [(await client.get(path)).status_code for path in reads] == [200] * 3
        assert (await client.post("/v1/opportunities", json=body)).status_code == 201
        listed = (await client.get("/v1/opportunities")).json()["items"]
        assert len(listed) == 2


async def test_a_role_that_bypasses_row_level_security_is_found_out(
    cluster: EmbeddedPostgres,
) -> None:
    await migrate.upgrade(cluster.url("sluice_owner"), "sluice")
    await walls.check_at(cluster.url())
    superuser = await asyncpg.connect(**connect_arguments(cluster.url("postgres")))
    try:
        # Even a superuser's login is held: in a transaction it is the app's role that counts.
        await walls.check_at(cluster.url("postgres"))
        await superuser.execute("ALTER ROLE sluice_app BYPASSRLS")
        with pytest.raises(walls.WallsDown, match="not active for sluice_app on activity"):
            await walls.check_at(cluster.url())
        await superuser.execute(
            "ALTER ROLE sluice_app NOBYPASSRLS; ALTER ROLE sluice_jobs SUPERUSER"
        )
        with pytest.raises(walls.WallsDown, match="not active for sluice_jobs"):
            await walls.check_at(cluster.url())
    finally:
        await superuser.close()
