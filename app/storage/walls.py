"""The wall between workspaces, as the service itself meets it: is row-level security on?

Migrations enable it on every table, but it is silently off for a role that owns a table, is a
superuser or has BYPASSRLS. So PostgreSQL is asked from inside a transaction of the service's own,
under each of its roles, and a service that is not held back does not serve.
"""

from typing import Final

from app.storage.engine import Database, Role
from app.storage.tables import metadata

# `to_regclass` gives null for a table that migrations have yet to make: it holds nothing to see.
OPEN_TABLES: Final = """
SELECT coalesce(array_agg(name ORDER BY name), '{}')
FROM unnest($1::text[]) AS name WHERE NOT row_security_active(to_regclass(name)::oid)
"""


class WallsDown(Exception):
    """Row-level security does not hold the service back; the message says where."""


async def check(database: Database) -> None:
    """Raise `WallsDown` unless every table is behind row-level security for the service's roles.

    Raises DatabaseUnavailable where the server is away.
    """
    tables = sorted(metadata.tables)
    for role in Role:
        async with database.read(None, role=role) as connection:  # a replica cannot write
            found = (await connection.exec_driver_sql(OPEN_TABLES, (tables,))).scalar_one()
        if found:
            raise WallsDown(
                f"Row-level security is not active for {role.value} on {', '.join(found)}: a"
                " workspace would see the rows of others. The role must not be a superuser, have"
                " BYPASSRLS or own the tables, and `sluice migrate` must have run as the owner."
            )


async def check_at(url: str) -> None:
    """`check` for a process that has no pools: before it serves, or instead of serving."""
    database = await Database.open(url, size=1)
    try:
        await check(database)
    finally:
        await database.close()
