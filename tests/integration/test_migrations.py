"""Migrations make what the tables say, one by one as well as at once, and can be taken back."""

import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.actions.check_projection import disagreements
from app.actions.flag_idle import flag_idle
from app.domain.period import Period
from app.domain.pipeline import Pipeline
from app.storage import migrate, roles
from app.storage.embedded import EmbeddedPostgres
from app.storage.engine import Database
from tests.conftest import OWNER_URL, at, dropped, make_workspace, on_server
from tests.factories import keep_pipeline
from tests.idle import open_deals, watched_pipeline

# Everything that a migration makes: columns, constraints, indexes, policies, grants, functions.
SCHEMA = """
SELECT 'column', table_name || '.' || column_name, data_type || ' ' || is_nullable
       || coalesce(' ' || column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'policy', tablename || '.' || policyname, concat(roles, cmd, qual, with_check)
FROM pg_policies WHERE schemaname = 'public'
UNION ALL SELECT 'wall', relname, relrowsecurity::text
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL SELECT 'grant', relname, coalesce(relacl, acldefault('r', relowner))::text
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL SELECT 'column grant', attrelid::regclass || '.' || attname, array_to_string(attacl, ' ')
FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid::regclass::text NOT LIKE 'pg_%'
UNION ALL SELECT 'function', proname, concat(prosrc, prosecdef, proconfig, proacl)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
ORDER BY 1, 2, 3
"""


@pytest.fixture
async def empty() -> AsyncIterator[AsyncEngine]:
    """A database of one's own with nothing in it, as its owner."""
    owner, name = os.environ[OWNER_URL], f"sluice_empty_{uuid4().hex[:12]}"
    await on_server(owner, f"CREATE DATABASE {name}")
    url = "postgresql+asyncpg://" + at(owner, name).split("://", 1)[1]
    engine = create_async_engine(url, poolclass=NullPool)
    yield engine
    await engine.dispose()
    await dropped(owner, name)


async def run(engine: AsyncEngine, step: Callable[..., Any], *arguments: str) -> None:
    """An Alembic command on the database."""

    def with_configuration(connection: Connection) -> None:
        configuration: Config = migrate.configuration()
        configuration.attributes["connection"] = connection
        step(configuration, *arguments)

    async with engine.connect() as connection:
        await connection.run_sync(with_configuration)


async def schema(engine: AsyncEngine) -> list[tuple[str, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(SCHEMA))]


def revisions() -> list[str]:
    """All of them, the first one first."""
    script = ScriptDirectory.from_config(migrate.configuration())
    return [revision.revision for revision in script.walk_revisions()][::-1]


async def test_the_migrations_make_exactly_the_tables_that_the_code_knows(
    empty: AsyncEngine,
) -> None:
    await run(empty, command.upgrade, "head")
    await run(empty, command.check)


def test_the_names_of_the_files_tell_the_head_that_alembic_finds() -> None:
    script = ScriptDirectory.from_config(migrate.configuration())
    assert script.get_heads() == [migrate.head()]


STARTED = """
import asyncio, sys
import app.main, app.preparation, app.serve
asyncio.run(app.preparation.upgrade(sys.argv[1], "sluice"))
print("alembic" in sys.modules)
"""


async def test_who_finds_every_migration_made_does_not_load_what_makes_them(
    cluster: EmbeddedPostgres,
) -> None:
    """Alembic is 7 MB, which the service would bear for as long as it runs."""
    owner = cluster.url(roles.OWNER)
    loaded = []
    for _ in range(2):
        at_head = await migrate.at_head(owner)
        command = [sys.executable, "-c", STARTED, owner]
        process = await create_subprocess_exec(*command, stdout=PIPE)
        told, _ = await process.communicate()
        assert process.returncode == 0
        loaded.append((at_head, told.decode().strip()))
    assert loaded == [(False, "True"), (True, "False")]
    assert await migrate.at_head(owner)


async def test_down_and_up_again_gives_the_same_schema(empty: AsyncEngine) -> None:
    await run(empty, command.upgrade, "head")
    first = await schema(empty)
    await run(empty, command.downgrade, "base")
    left = {name for kind, name, _ in await schema(empty) if kind == "wall"}
    assert left == {"alembic_version"}
    await run(empty, command.upgrade, "head")
    assert await schema(empty) == first


async def test_one_migration_at_a_time_forth_and_back_gives_the_same_schema_at_every_step(
    empty: AsyncEngine,
) -> None:
    after: dict[str, list[tuple[str, ...]]] = {}
    for revision in revisions():
        await run(empty, command.upgrade, revision)
        after[revision] = await schema(empty)
    for revision, before in zip(reversed(revisions()), [*reversed(revisions())][1:], strict=False):
        await run(empty, command.downgrade, before)
        assert await schema(empty) == after[before], f"taking back {revision}"


async def test_deals_from_before_there_were_critical_flags_have_their_clocks_worked_out(
    own_database: str,
) -> None:
    owner_url = at(os.environ[OWNER_URL], urlsplit(own_database).path.removeprefix("/"))
    engine = create_async_engine(
        "postgresql+asyncpg://" + owner_url.split("://", 1)[1], poolclass=NullPool
    )
    database = await Database.open(own_database, size=2)
    principal, _ = await make_workspace(database)
    pipeline = await keep_pipeline(database, principal.workspace_id, _cadenced(watched_pipeline()))
    now = datetime.now(UTC)
    for days in (0, 5, 30):
        await open_deals(database, principal, pipeline, 2, now - timedelta(days=days))
    await flag_idle(database, principal.workspace_id)
    await database.close()
    await run(engine, command.downgrade, "0008")
    await run(engine, command.upgrade, "head")
    async with engine.connect() as connection:
        clocks = await connection.execute(
            text("SELECT count(critical_at), count(follow_up_due_at) FROM opportunity")
        )
        assert clocks.one() == (6, 6)
    await engine.dispose()
    database = await Database.open(own_database, size=2)
    assert [found async for found in disagreements(database, principal.workspace_id)] == []
    await database.close()


def _cadenced(pipeline: Pipeline) -> Pipeline:
    stages = (replace(stage, follow_up_every=Period(days=3)) for stage in pipeline.stages)
    return replace(pipeline, stages=tuple(stages))
