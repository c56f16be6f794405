"""Workspaces and API keys: the little that is looked up before a workspace is known.

A key is read under a policy of its own: a transaction that names `app.key_id` sees that one row.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Operator, Principal, RowScope, Scope, Sight
from app.domain.api_key import ApiKey
from app.domain.errors import NotFound
from app.storage.engine import Connection, Role
from app.storage.tables import api_key, installation, workspace

PLATFORM: Final = "platform"
"""Stands where a key's scopes do: it belongs to no workspace, and makes them."""

ADD_WORKSPACE: Final = """
INSERT INTO workspace (workspace_id, key, name, created_at)
VALUES ($1, $2, $3, clock_timestamp()) ON CONFLICT DO NOTHING
RETURNING workspace_id, key, name, created_at
"""

ADD_KEY: Final = """
INSERT INTO api_key (key_id, workspace_id, secret_hash, name, subject, scopes, row_scope, team,
                     version, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, clock_timestamp(), $9) ON CONFLICT (key_id) DO NOTHING
RETURNING *
"""

_OF_KEY: Final = "WHERE workspace_id IS NOT DISTINCT FROM $1 AND key_id = $2"
LOCK_KEY: Final = f"SELECT *, clock_timestamp() AS now FROM api_key {_OF_KEY} FOR NO KEY UPDATE"
REVOKE: Final = f"""
UPDATE api_key SET revoked_at = clock_timestamp(), version = version + 1
{_OF_KEY} AND revoked_at IS NULL
RETURNING *
"""
REPLACE: Final = f"""
-- It is good for a while beside the key that was made instead; no longer than it was.
UPDATE api_key SET expires_at = least(expires_at, $3), replaced_by = $4, version = version + 1
{_OF_KEY}
RETURNING *
"""
USE: Final = f"UPDATE api_key SET last_used_at = clock_timestamp() {_OF_KEY}"


@dataclass(frozen=True, slots=True)
class WorkspaceRecord:
    """A tenant, and what it is called."""

    workspace_id: UUID
    key: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What is said of a key that is to be made; without scopes it is one of the platform."""

    name: str
    subject: str
    scopes: frozenset[Scope]
    row_scope: RowScope = RowScope.ALL
    team: str | None = None
    expires_at: datetime | None = None

    @property
    def sight(self) -> Sight:
        return Sight(self.row_scope, self.subject, self.team)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as it is stored: everything but its secret. `workspace_id` None: of the platform."""

    key_id: str
    workspace_id: UUID | None
    secret_hash: bytes
    name: str
    subject: str
    scopes: frozenset[Scope]
    row_scope: RowScope
    team: str | None
    version: int
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None

    @property
    def sight(self) -> Sight:
        return Sight(self.row_scope, self.subject, self.team)

    def is_good(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def again(self, now: datetime) -> NewKey:
        """Another that gives the same, and is good for as long from now on."""
        lasts = None if self.expires_at is None else self.expires_at - self.created_at
        return NewKey(
            name=self.name,
            subject=self.subject,
            scopes=self.scopes,
            row_scope=self.row_scope,
            team=self.team,
            expires_at=None if lasts is None else now + lasts,
        )

    @property
    def caller(self) -> Principal | Operator:
        """Whom it makes of who bears it."""
        if self.workspace_id is None:
            return Operator(self.subject, self.key_id)
        return Principal(
            self.workspace_id,
            self.subject,
            self.scopes,
            self.key_id,
            self.team,
            self.row_scope,
            self.expires_at,
        )


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
    row = found.mappings().one_or_none()
    return None if row is None else _record(row)


async def keys(
    connection: AsyncConnection,
    workspace_id: UUID | None,
    *,
    after: tuple[datetime, str] | None = None,
    limit: int | None = None,
) -> list[KeyRecord]:
    """The workspace's keys, revoked ones included, oldest first, after (made at, id).

    Those of the platform where there is no workspace: under the jobs' role.
    """
    order = api_key.c.created_at, api_key.c.key_id
    query = _keys(workspace_id).order_by(*order).limit(limit)
    if after is not None:
        query = query.where(tuple_(*order) > after)
    return [_record(row) for row in (await connection.execute(query)).mappings()]


async def one_key(connection: AsyncConnection, workspace_id: UUID, key_id: str) -> KeyRecord:
    """The key of that id, whether it is in use or not. Raises NotFound."""
    found = await connection.execute(_keys(workspace_id).where(api_key.c.key_id == key_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise no_key(key_id)
    return _record(row)


async def locked_key(
    connection: Connection, workspace_id: UUID | None, key_id: str
) -> tuple[KeyRecord, datetime]:
    """The key, locked until the transaction ends, and the time. Raises NotFound."""
    row = await connection.fetchrow(LOCK_KEY, workspace_id, key_id)
    if row is None:
        raise no_key(key_id)
    return _record(row), row["now"]


async def replace_key(
    connection: Connection, key: KeyRecord, until: datetime, replacement: KeyRecord
) -> KeyRecord:
    """Let the key, which is locked, be good until then at most, beside the one in its place."""
    row = await connection.fetchrow(
        REPLACE, key.workspace_id, key.key_id, until, replacement.key_id
    )
    return _record(row)


async def revoke_key(connection: Connection, key: KeyRecord) -> KeyRecord:
    """Have the key, which is locked and not revoked yet, refused from now on."""
    return _record(await connection.fetchrow(REVOKE, key.workspace_id, key.key_id))


def role_of(workspace_id: UUID | None) -> Role:
    """Who keeps such keys: those of no workspace, the role that looks across workspaces."""
    return Role.JOBS if workspace_id is None else Role.APP


async def find_workspace(connection: AsyncConnection, key: str) -> UUID | None:
    """The workspace of that key. Asked under the jobs' role, which sees every workspace."""
    return await connection.scalar(select(workspace.c.workspace_id).where(workspace.c.key == key))


async def read_workspace(connection: AsyncConnection, workspace_id: UUID) -> WorkspaceRecord:
    """The workspace in which this transaction runs."""
    found = await connection.execute(
        select(workspace).where(workspace.c.workspace_id == workspace_id)
    )
    return WorkspaceRecord(*found.one())


async def workspaces(
    connection: AsyncConnection, *, after: str | None, limit: int
) -> list[WorkspaceRecord]:
    """All workspaces by their keys, after the key. Asked under the jobs' role."""
    query = select(workspace).order_by(workspace.c.key).limit(limit)
    if after is not None:
        query = query.where(workspace.c.key > after)
    return [WorkspaceRecord(*row) for row in await connection.execute(query)]


async def signing_secret(connection: AsyncConnection) -> bytes:
    """The installation's secret, with which every worker signs cursors."""
    found = await connection.execute(
        select(installation.c.value).where(installation.c.name == "secret")
    )
    return found.scalar_one()


async def add_workspace(
    connection: Connection, workspace_id: UUID, key: str, name: str
) -> WorkspaceRecord | None:
    """Add a workspace; None where its key or its id is taken."""
    row = await connection.fetchrow(ADD_WORKSPACE, workspace_id, key, name)
    return None if row is None else WorkspaceRecord(*row)


async def add_key(
    connection: Connection, workspace_id: UUID | None, key: ApiKey, new: NewKey
) -> KeyRecord | None:
    """Store the hash of a new key; None where its id is taken."""
    scopes = sorted(scope.value for scope in new.scopes) if workspace_id else [PLATFORM]
    row = await connection.fetchrow(
        ADD_KEY,
        key.key_id,
        workspace_id,
        key.secret_hash,
        new.name,
        new.subject,
        scopes,
        new.row_scope.value,
        new.team,
        new.expires_at,
    )
    return None if row is None else _record(row)


def no_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id!r} in this workspace.")


def _keys(workspace_id: UUID | None) -> Select[Any]:
    return select(api_key).where(api_key.c.workspace_id.is_not_distinct_from(workspace_id))


def _record(row: Any) -> KeyRecord:
    workspace_id = row["workspace_id"]
    return KeyRecord(
        key_id=row["key_id"],
        workspace_id=workspace_id,
        secret_hash=row["secret_hash"],
        name=row["name"],
        subject=row["subject"],
        scopes=frozenset(map(Scope, row["scopes"] if workspace_id else ())),
        row_scope=RowScope(row["row_scope"]),
        team=row["team"],
        version=row["version"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        replaced_by=row["replaced_by"],
    )
