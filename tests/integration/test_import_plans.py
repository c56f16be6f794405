"""What an import reads in the database: it must not grow with the square of the file.

A fresh database is where it would: its tables are empty when the first plans are made.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg

from app.actions.import_history import run_next_import
from app.actions.import_mapping import parse_mapping
from app.actions.receive_import import receive_import
from app.storage.engine import Database, connect_arguments
from app.storage.idempotency import Answer
from tests.conftest import OWNER_URL, at, make_workspace
from tests.factories import keep_pipeline, sales_pipeline

DEALS = 2_500
MAPPING = '{"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}'
READ = """
SELECT n_tup_ins AS written, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS read
FROM pg_stat_user_tables WHERE relname = 'opportunity'
"""


KNOWN = "SELECT reltuples FROM pg_class WHERE oid = 'opportunity'::regclass"


async def a_file() -> AsyncIterator[bytes]:
    stages = ("lead,2020-01-01T00:00:00Z", "offer,2020-02-01T00:00:00Z")
    rows = [f"D{n},{stage}" for n in range(DEALS) for stage in stages]
    yield "\n".join(["deal,stage,at", *rows]).encode()


async def test_a_first_import_does_not_read_all_deals_for_each_row(own_database: str) -> None:
    database = await Database.open(own_database, size=4)
    principal, _ = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    await receive_import(
        database,
        principal,
        "sales",
        parse_mapping(MAPPING),
        a_file(),
        on_error="skip",
        on_conflict="reject",
        request=None,
        answer=lambda _: Answer(202, b""),
    )
    await run_next_import(database, principal.workspace_id, piece=200)
    await database.close()
    name = urlsplit(own_database).path.lstrip("/")
    owner = await asyncpg.connect(**connect_arguments(at(os.environ[OWNER_URL], name)))
    try:
        async with asyncio.timeout(10):  # a session tells what it has read when it ends
            while (found := await owner.fetchrow(READ))["written"] < DEALS:  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.05)
        planned_for = await owner.fetchval(KNOWN)
    finally:
        await owner.close()
    # Two rows a deal, and half of the deals are there on average. While they are few, one index is
    # as good as another to the planner, so a part of it remains.
    all_for_each_row = 2 * DEALS * DEALS / 2
    assert found["read"] < all_for_each_row / 4
    # Metrics are planned for what is there now: nobody has to wait for autovacuum.
    assert planned_for >= DEALS
