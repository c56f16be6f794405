"""API keys: made, replaced by new ones, revoked. A key's secret is shown once, when it is made.

Whoever makes a key can give away only what they have: no scope that they lack, and no sight of
deals that they do not see. Answers are kept without the secret: a request that is sent again is
told of the key that it made, and no more.
"""

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from app.actions.announcements import plain
from app.actions.deciding import VersionCheck
from app.domain.access import COMMAND_LINE, Principal
from app.domain.api_key import ID_LENGTH, SECRET_LENGTH, ApiKey
from app.domain.audit_log import Action, Entry
from app.domain.errors import Conflict, Forbidden
from app.storage import access, audit_log, idempotency
from app.storage.access import KeyRecord, NewKey
from app.storage.engine import Connection, Database, Lock
from app.storage.idempotency import Answer, Repeatable
from app.storage.statement import Part, execute

log = structlog.stdlib.get_logger("sluice.platform")

Made = Callable[[KeyRecord, ApiKey | None], Answer]
"""Renders what the caller is answered; without the key itself, where the answer is kept."""


def new_key() -> ApiKey:
    """A key that nobody knows yet."""
    return ApiKey(secrets.token_hex(ID_LENGTH // 2), secrets.token_hex(SECRET_LENGTH // 2))


async def issue_key(database: Database, workspace: UUID | None, new: NewKey) -> ApiKey:
    """Make a key of the workspace (None: of the platform), for who has the database at hand.

    Only what is returned here ever bears its secret.
    """

    async def work(connection: Connection) -> ApiKey:
        key = new_key()
        made = await add_key(connection, workspace, key, new)
        for part in _noted(COMMAND_LINE, Action.API_KEY_CREATED, None, made):
            await execute(connection, [part])
        return key

    return await database.write(workspace, work, role=access.role_of(workspace), lock=Lock.NONE)


async def create_key(
    database: Database,
    principal: Principal,
    new: NewKey,
    *,
    request: Repeatable | None,
    answer: Made,
) -> Answer:
    """Make a key of the principal's workspace. Raises Forbidden for more than the principal has."""
    workspace = principal.workspace_id
    _check_may_grant(principal, new)

    async def work(connection: Connection) -> Answer:
        if earlier := await idempotency.find(connection, workspace, request):
            return earlier
        key = new_key()
        made = await add_key(connection, workspace, key, new)
        noted = _noted(principal, Action.API_KEY_CREATED, None, made)
        kept = idempotency.keep(workspace, request, answer(made, None))
        await execute(connection, [*noted, *kept])
        return answer(made, key)

    return await database.write(workspace, work, lock=Lock.NONE, keys=idempotency.keys(request))


async def rotate_key(
    database: Database,
    principal: Principal,
    key_id: str,
    overlap: timedelta,
    *,
    request: Repeatable | None,
    answer: Made,
) -> Answer:
    """Make a key that gives what the one of this id gives, which is good for `overlap` more.

    Raises NotFound, Forbidden for a key that gives more than the principal has, Conflict for one
    that is out of use or was replaced already.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection) -> Answer:
        if earlier := await idempotency.find(connection, workspace, request):
            return earlier
        before, now = await access.locked_key(connection, workspace, key_id)
        if not before.is_good(now):
            raise Conflict(f"Key {key_id} is out of use; make a new one.")
        if before.replaced_by is not None:
            raise Conflict(f"Key {key_id} was replaced by {before.replaced_by} already.")
        new = before.again(now)
        _check_may_grant(principal, new)
        key = new_key()
        made = await add_key(connection, workspace, key, new)
        after = await access.replace_key(connection, before, now + overlap, made)
        noted = _noted(principal, Action.API_KEY_ROTATED, before, after)
        kept = idempotency.keep(workspace, request, answer(made, None))
        await execute(connection, [*noted, *kept])
        return answer(made, key)

    return await database.write(workspace, work, lock=Lock.NONE, keys=idempotency.keys(request))


async def revoke_key(
    database: Database,
    workspace: UUID | None,
    key_id: str,
    *,
    by: Principal | str = COMMAND_LINE,
    check: VersionCheck = lambda _: None,
) -> None:
    """Have the key refused from now on; every worker knows within seconds.

    One that is revoked already stays so. Raises NotFound, Forbidden for a key that gives more than
    the principal has, VersionRequired, Stale.
    """

    async def work(connection: Connection) -> None:
        before, _ = await access.locked_key(connection, workspace, key_id)
        if isinstance(by, Principal) and not by.has(before.scopes, before.sight):
            raise Forbidden("The key gives more than you have; who has as much may revoke it.")
        check(before.version)
        if before.revoked_at is not None:
            return
        after = await access.revoke_key(connection, before)
        for part in _noted(by, Action.API_KEY_REVOKED, before, after):
            await execute(connection, [part])

    await database.write(workspace, work, role=access.role_of(workspace), lock=Lock.NONE)


async def add_key(
    connection: Connection, workspace: UUID | None, key: ApiKey, new: NewKey
) -> KeyRecord:
    """Store what is to be known of the key. Raises Conflict where its id is taken."""
    if (made := await access.add_key(connection, workspace, key, new)) is None:
        raise Conflict(f"The key id {key.key_id} is taken.")
    return made


def _check_may_grant(principal: Principal, new: NewKey) -> None:
    if not principal.may_grant(new.scopes, new.sight, new.expires_at):
        raise Forbidden(
            "A key gives at most what its maker has: your scopes, and, unless your row scope is"
            " all, your own subject with your row scope and team or less. It is good for no longer"
            " than the key that it is made with."
        )


def _noted(
    by: Principal | str, action: Action, before: KeyRecord | None, after: KeyRecord
) -> list[Part]:
    """The part that tells of it; of the platform's, which is in no workspace's log, a log line."""
    if after.workspace_id is None:
        log.info(action.value, key_id=after.key_id, name=after.name, subject=after.subject)
        return []
    old = None if before is None else _shown(before)
    entry = Entry.of(action, after.key_id, old, _shown(after))
    return [audit_log.append(after.workspace_id, by, entry)]


def _shown(key: KeyRecord) -> dict[str, Any]:
    """What the audit log tells of a key."""
    return {
        "name": key.name,
        "subject": key.subject,
        "scopes": sorted(key.scopes),
        "row_scope": key.row_scope.value,
        "team": key.team,
        "expires_at": plain(key.expires_at),
        "revoked_at": plain(key.revoked_at),
        "replaced_by": key.replaced_by,
    }
