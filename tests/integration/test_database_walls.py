"""The walls inside the database: what its catalogue says, and what it does where a query errs.

Row-level security holds whatever a query forgets; grants hold whatever the code would do.
"""

import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from app.actions.fold_deals import fold_deals
from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleRule
from app.storage.engine import Connection, Database, Role, connect_arguments
from tests.conftest import LOGIN_URL, OWNER_URL, make_workspace
from tests.factories import keep_pipeline, open_deal, sales_pipeline

WITHOUT_POLICY_OF_A_WORKSPACE = {
    "alembic_version": "the schema's own version; no role of the service may read it",
    "epoch": "which history of the cluster this is; the same for all",
    "installation": "the secret that signs cursors; the same for all",
}
"""The tables that hold nothing of a workspace, and why they need no wall between any two."""

BEYOND_A_WORKSPACE = {
    ("api_key", "api_key_lookup"): "the one row whose id the caller named, to learn its workspace",
    ("api_key", "api_key_of_platform"): "keys that belong to no workspace, and no others",
    ("workspace", "workspace_for_jobs"): "jobs go through all workspaces",
    ("opportunity", "opportunity_for_jobs"): "jobs ask where deals are due",
    ("opportunity", "opportunity_unfolded_for_jobs"): "jobs ask where deals are to be folded",
    ("pipeline", "pipeline_for_jobs"): "and of which pipelines",
    ("segment", "segment_for_jobs"): "jobs ask which segments are to be written anew",
    ("idempotency_record", "idempotency_record_for_jobs"): "jobs delete what has expired",
    ("idle_scan", "idle_scan_for_jobs"): "and records of scans that are old",
    ("import_job", "import_job_for_jobs"): "jobs ask where imports wait",
    ("event", "event_for_jobs"): "jobs ask which webhook endpoints have events to be told of",
    ("webhook_endpoint", "webhook_endpoint_for_jobs"): "of these endpoints",
    ("webhook_delivery", "webhook_delivery_for_jobs"): "and which deliveries are due or are old",
    ("webhook_attempt", "webhook_attempt_for_jobs"): "jobs delete what is old",
    ("webhook_secret", "webhook_secret_for_jobs"): "and what has expired or will",
    ("epoch", "epoch_for_all"): "as above",
    ("installation", "installation_for_all"): "as above",
}
"""Every policy that shows a row without its workspace being named, and what for."""


async def test_rows_without_a_workspace_named_are_seen_by_nobody(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await open_deal(client)
    for table in ("workspace", "api_key", "pipeline", "opportunity", "transition", "event"):
        async with database.read(principal.workspace_id) as inside:
            assert (await inside.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() > 0
        async with database.read(None) as outside:
            assert (await outside.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0


async def test_the_second_wall_stands_where_a_query_forgets_the_first(
    database: Database, principal: Principal
) -> None:
    other, _ = await make_workspace(database)
    await keep_pipeline(database, other.workspace_id, sales_pipeline())

    async def meddle(connection: Connection) -> list[str]:
        return [
            await connection.execute("UPDATE pipeline SET key = 'mine' WHERE key = 'sales'"),
            await connection.execute("UPDATE api_key SET revoked_at = now()"),
        ]

    changed = await database.write(principal.workspace_id, meddle)
    assert changed == ["UPDATE 0", "UPDATE 1"]  # its own key is all that it reaches

    async def plant(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO tombstone (workspace_id, opportunity_id, pipeline_id, deleted_at, "
            "deleted_by) VALUES ($1, $1, $1, now(), 'me')",
            other.workspace_id,
        )

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.write(principal.workspace_id, plant)


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(owner_url))
    yield connection
    await connection.close()


async def test_every_table_has_its_wall(owner: asyncpg.Connection) -> None:
    tables = await owner.fetch(
        """
        SELECT c.relname AS name, c.relrowsecurity AS walled,
               EXISTS (SELECT FROM pg_policies AS p
                       WHERE p.schemaname = 'public' AND p.tablename = c.relname
                         AND p.cmd = 'ALL' AND p.roles = '{sluice_app}'
                         AND p.qual LIKE '(workspace_id =%app.workspace_id%'
                         AND p.with_check LIKE '(workspace_id =%app.workspace_id%') AS of_workspace
        FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        """
    )
    unwalled = {row["name"] for row in tables if not row["walled"]}
    assert unwalled == {"alembic_version"}
    of_no_workspace = {row["name"] for row in tables if not row["of_workspace"]}
    assert of_no_workspace == set(WITHOUT_POLICY_OF_A_WORKSPACE)


async def test_every_way_round_the_wall_is_written_down(owner: asyncpg.Connection) -> None:
    ways = await owner.fetch(
        """
        SELECT tablename, policyname FROM pg_policies
        WHERE schemaname = 'public' AND coalesce(qual, '') NOT LIKE '(workspace_id =%'
        """
    )
    assert {tuple(row) for row in ways} == set(BEYOND_A_WORKSPACE)


async def test_the_services_roles_are_neither_owners_nor_above_the_walls(
    owner: asyncpg.Connection,
) -> None:
    roles = await owner.fetch(
        """
        SELECT rolname, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin,
               EXISTS (SELECT FROM pg_class WHERE relowner = r.oid)
        FROM pg_roles AS r WHERE rolname IN ('sluice_app', 'sluice_jobs')
        """
    )
    assert {tuple(row) for row in roles} == {
        ("sluice_app", False, False),
        ("sluice_jobs", False, False),
    }


async def granted(owner: asyncpg.Connection, role: str) -> set[tuple[str, str]]:
    rows = await owner.fetch(
        """
        SELECT c.relname, a.privilege_type FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = $1::regrole
        """,
        role,
    )
    return {tuple(row) for row in rows}


async def test_nothing_the_service_does_can_delete_or_rewrite_history(
    owner: asyncpg.Connection,
) -> None:
    held = await granted(owner, "sluice_app")
    kept_for_ever = {"transition", "opportunity_change", "activity", "event", "tombstone"}
    for table in kept_for_ever | {"pipeline_revision", "audit_entry"}:
        may = {privilege for name, privilege in held if name == table}
        assert may == {"SELECT", "INSERT"}, table
    assert not {name for name, privilege in held if privilege == "TRUNCATE"}
    assert not {"opportunity", "idle_flag", "pipeline", "workspace", "api_key"} & {
        name for name, privilege in held if privilege == "DELETE"
    }
    columns = await owner.fetch(
        """
        SELECT c.relname, a.attname FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid, aclexplode(a.attacl) AS acl
        WHERE acl.grantee = 'sluice_app'::regrole AND acl.privilege_type = 'UPDATE'
          AND c.relname IN ('transition', 'api_key', 'segment', 'segment_column')
        """
    )
    assert {tuple(row) for row in columns} == {
        ("transition", "voided_at"),
        ("transition", "voided_by"),
        ("transition", "void_reason"),
        ("api_key", "revoked_at"),
        ("api_key", "expires_at"),
        ("api_key", "replaced_by"),
        ("api_key", "last_used_at"),
        ("api_key", "version"),
        ("segment", "filled"),
        ("segment", "gone"),
        ("segment", "holds_erased"),
    }


async def test_a_transition_is_refused_every_change_but_its_void_stamp(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await open_deal(client)
    for statement in (
        "DELETE FROM transition",
        "UPDATE transition SET occurred_at = now()",
        "UPDATE transition SET to_slot = 2",
        "UPDATE event SET type = 'other'",
        "DELETE FROM event",
        "TRUNCATE transition",
    ):

        async def rewrite(connection: Connection, statement: str = statement) -> None:
            await connection.execute(statement)

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.write(principal.workspace_id, rewrite)


async def test_the_audit_log_is_only_ever_written_on(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    workspace = principal.workspace_id
    answer = await client.post("/v1/pipelines", json={"key": "sales", "template": "b2b"})
    assert answer.status_code == 201
    other, _ = await make_workspace(database)
    columns = "workspace_id, entry_id, recorded_at, actor, action, target"
    forged = f"'{other.workspace_id}', gen_random_uuid(), now(), 'me', 'pipeline.created', 'x'"
    for statement in (
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
        "UPDATE audit_entry SET actor = 'somebody'",
        "UPDATE audit_entry SET after = NULL",
        "ALTER TABLE audit_entry DISABLE ROW LEVEL SECURITY",
        f"INSERT INTO audit_entry ({columns}) VALUES ({forged})",
    ):

        async def rewrite(connection: Connection, statement: str = statement) -> None:
            await connection.execute(statement)

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.write(workspace, rewrite)
    for one, count in ((workspace, 1), (other.workspace_id, 0)):
        async with database.read(one) as connection:
            found = await connection.execute(text("SELECT count(*) FROM audit_entry"))
            assert found.scalar_one() == count  # the query forgets the workspace, the wall does not


async def test_jobs_see_of_a_deal_no_more_than_when_it_is_due_and_whether_it_is_folded(
    database: Database, principal: Principal, client: httpx.AsyncClient
) -> None:
    workspace = principal.workspace_id
    rule = IdleRule(after=Period(days=7))
    pipeline = await keep_pipeline(database, workspace, sales_pipeline(lead=rule))
    await open_deal(client)
    await open_deal(client, stage="offer")  # never idle: once folded, jobs do not see it at all
    await fold_deals(database, workspace, pipeline.key, enough=1)
    async with database.read(None, role=Role.JOBS) as jobs:
        seen = await jobs.execute(
            text("SELECT count(*) FROM opportunity WHERE workspace_id = :workspace"),
            {"workspace": workspace},
        )
        assert seen.scalar_one() == 1
        keys = await jobs.execute(text("SELECT count(*) FROM api_key WHERE scopes <> '{platform}'"))
        assert keys.scalar_one() == 0
    for statement in (
        "SELECT name FROM opportunity",
        "SELECT revision FROM pipeline",
        "SELECT gone FROM segment",
        "SELECT * FROM segment_column",
        "SELECT * FROM transition",
        "SELECT data FROM event",
        "SELECT url FROM webhook_endpoint",
        "SELECT * FROM webhook_secret",
        "SELECT response FROM webhook_attempt",
        "SELECT * FROM audit_entry",
        "UPDATE opportunity SET goes_idle_at = NULL",
        "INSERT INTO workspace VALUES (gen_random_uuid(), 'w', 'w', now())",
    ):

        async def meddle(connection: Connection, statement: str = statement) -> None:
            await connection.execute(statement)

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.write(None, meddle, role=Role.JOBS)


async def test_the_login_may_do_nothing_before_it_has_taken_a_role(
    login_url: str, owner: asyncpg.Connection
) -> None:
    if urlsplit(os.environ[LOGIN_URL]).username == urlsplit(os.environ[OWNER_URL]).username:
        pytest.skip("with one URL the login owns the schema")
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    login = await asyncpg.connect(**connect_arguments(login_url))
    try:
        for (table,) in tables:
            for statement in (f"SELECT FROM {table}", f"DELETE FROM {table}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await login.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute("SELECT erase_opportunity(gen_random_uuid())")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute("CREATE TABLE mine ()")
    finally:
        await login.close()
