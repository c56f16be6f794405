"""API keys: made, with their secret shown this once, and revoked."""

import secrets
from datetime import datetime
from uuid import UUID

from app.domain.access import Scope
from app.domain.api_key import ID_LENGTH, SECRET_LENGTH, ApiKey
from app.domain.errors import NotFound
from app.storage import access
from app.storage.engine import Connection, Database, Lock


def new_key() -> ApiKey:
    """A key that nobody knows yet."""
    return ApiKey(secrets.token_hex(ID_LENGTH // 2), secrets.token_hex(SECRET_LENGTH // 2))


async def issue_key(
    database: Database,
    workspace: UUID,
    *,
    name: str,
    subject: str,
    scopes: frozenset[Scope],
    expires_at: datetime | None = None,
) -> ApiKey:
    """Make a key of the workspace. Only what is returned here ever bears its secret."""

    async def work(connection: Connection) -> ApiKey:
        key = new_key()
        added = await access.add_key(
            connection,
            key,
            workspace,
            name=name,
            subject=subject,
            scopes=scopes,
            expires_at=expires_at,
        )
        assert added, "64 random bits name a key of their own"
        return key

    return await database.write(workspace, work, lock=Lock.NONE)


async def revoke_key(database: Database, workspace: UUID, key_id: str) -> None:
    """Have the key refused from now on; every worker knows within seconds. Raises NotFound."""

    async def work(connection: Connection) -> None:
        if not await access.revoke_key(connection, workspace, key_id):
            raise NotFound(f"There is no key {key_id!r} in use in this workspace.")

    await database.write(workspace, work, lock=Lock.NONE)
