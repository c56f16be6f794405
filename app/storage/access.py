"""Workspaces and API keys: the little that is looked up before a workspace is known.

A key is read under a policy of its own: a transaction that names `app.key_id` sees that one row.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.storage.engine import Connection
from app.storage.tables import api_key, installation, workspace

ADD_WORKSPACE: Final = """
INSERT INTO workspace (workspace_id, key, name, created_at)
VALUES ($1, $2, $3, clock_timestamp()) ON CONFLICT (key) DO NOTHING
"""

ADD_KEY: Final = """
INSERT INTO api_key (key_id, workspace_id, secret_hash, name, subject, scopes, created_at,
                     expires_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), $7) ON CONFLICT (key_id) DO NOTHING
"""

REVOKE: Final = """
UPDATE api_key SET revoked_at = clock_timestamp()
WHERE workspace_id = $1 AND key_id = $2 AND revoked_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class WorkspaceRecord:
    """A tenant, and what it is called."""

    workspace_id: UUID
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it is stored: everything but its secret."""

    key_id: str
    workspace_id: UUID
    secret_hash: bytes
    name: str
    subject: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def principal(self) -> Principal:
        return Principal(self.workspace_id, self.subject, self.scopes, self.key_id)


async def find_key(connection: AsyncConnection, key_id: str) -> KeyRecord | None:
    """The key of that id, if it is neither revoked nor expired. `key_id` is hexadecimal."""
    await connection.exec_driver_sql(f"SET LOCAL app.key_id = '{key_id}'")
    found = await connection.execute(
        select(api_key).where(
            api_key.c.key_id == key_id,
            api_key.c.revoked_at.is_(None),
            func.coalesce(api_key.c.expires_at > func.clock_timestamp(), True),
        )
    )
    row = found.one_or_none()
    return None if row is None else _record(row)


async def keys(connection: AsyncConnection, workspace_id: UUID) -> list[KeyRecord]:
    """The workspace's keys, revoked ones included, oldest first."""
    rows = await connection.execute(
        select(api_key)
        .where(api_key.c.workspace_id == workspace_id)
        .order_by(api_key.c.created_at, api_key.c.key_id)
    )
    return [_record(row) for row in rows]


async def find_workspace(connection: AsyncConnection, key: str) -> UUID | None:
    """The workspace of that key. Asked under the jobs' role, which sees every workspace."""
    return await connection.scalar(select(workspace.c.workspace_id).where(workspace.c.key == key))


async def read_workspace(connection: AsyncConnection, workspace_id: UUID) -> WorkspaceRecord:
    """The workspace in which this transaction runs."""
    found = await connection.execute(
        select(workspace.c.workspace_id, workspace.c.key, workspace.c.name).where(
            workspace.c.workspace_id == workspace_id
        )
    )
    return WorkspaceRecord(*found.one())


async def signing_secret(connection: AsyncConnection) -> bytes:
    """The installation's secret, with which every worker signs cursors."""
    found = await connection.execute(
        select(installation.c.value).where(installation.c.name == "secret")
    )
    return found.scalar_one()


async def add_workspace(connection: Connection, workspace_id: UUID, key: str, name: str) -> bool:
    """Add a workspace; False where its key is taken."""
    return await connection.execute(ADD_WORKSPACE, workspace_id, key, name) == "INSERT 0 1"


async def add_key(
    connection: Connection,
    key: ApiKey,
    workspace_id: UUID,
    *,
    name: str,
    subject: str,
    scopes: frozenset[Scope],
    expires_at: datetime | None = None,
) -> bool:
    """Store the hash of a new key; False where its id is taken."""
    tag = await connection.execute(
        ADD_KEY,
        key.key_id,
        workspace_id,
        key.secret_hash,
        name,
        subject,
        sorted(scope.value for scope in scopes),
        expires_at,
    )
    return tag == "INSERT 0 1"


async def revoke_key(connection: Connection, workspace_id: UUID, key_id: str) -> bool:
    """Revoke a key; False where there is none standing. Workers notice within seconds."""
    return await connection.execute(REVOKE, workspace_id, key_id) == "UPDATE 1"


def _record(row: Any) -> KeyRecord:
    return KeyRecord(
        row.key_id,
        row.workspace_id,
        row.secret_hash,
        row.name,
        row.subject,
        frozenset(Scope(scope) for scope in row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )
