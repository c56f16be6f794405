"""Workspaces: made by whoever runs the installation, each with an admin's key to get in with."""

from collections.abc import Callable
from typing import Final
from uuid import UUID, uuid5

from app.actions.manage_keys import add_key, new_key
from app.domain.access import Operator, Scope
from app.domain.api_key import ApiKey
from app.domain.audit_log import Action, Entry
from app.domain.errors import AlreadyExists, IdempotencyKeyReused
from app.storage import access, audit_log, idempotency
from app.storage.access import KeyRecord, NewKey, WorkspaceRecord
from app.storage.engine import Connection, Database, Lock, Role
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.statement import execute

_BY_REQUESTS: Final = UUID("6e6c1f6c-2a0b-4e5e-9a54-0e3f5c1d7b28")
"""The name space of the ids of workspaces that repeatable requests make."""

Made = Callable[[WorkspaceRecord, KeyRecord, ApiKey | None], Answer]
"""Renders what the caller is answered; without the key itself, where the answer is kept."""


async def create_workspace(
    database: Database,
    operator: Operator,
    *,
    key: str,
    name: str,
    subject: str,
    request: Repeatable | None,
    answer: Made,
) -> Answer:
    """Make a workspace, whose first key is an admin's of that subject.

    The answer to a repeatable request is kept in the workspace that it made; so that it is found
    there, that one's id follows from the request's key. Raises AlreadyExists for a workspace's key
    that is taken, IdempotencyKeyReused.
    """
    workspace = new_id() if request is None else uuid5(_BY_REQUESTS, request.key)

    async def work(connection: Connection) -> Answer | None:
        if earlier := await idempotency.find(connection, workspace, request):
            return earlier
        made = await access.add_workspace(connection, workspace, key, name)
        if made is None:
            return None
        secret = new_key()
        first = NewKey(name="first", subject=subject, scopes=frozenset({Scope.ADMIN}))
        record = await add_key(connection, workspace, secret, first)
        told = {"name": name, "api_key": record.key_id, "subject": subject}
        entry = Entry.of(Action.WORKSPACE_CREATED, key, None, told)
        kept = idempotency.keep(workspace, request, answer(made, record, None))
        await execute(connection, [audit_log.append(workspace, operator, entry), *kept])
        return answer(made, record, secret)

    if told := await database.write(
        workspace, work, lock=Lock.NONE, keys=idempotency.keys(request)
    ):
        return told
    async with database.read(None, role=Role.JOBS) as connection:
        if await access.find_workspace(connection, key) is None:
            raise IdempotencyKeyReused(
                "This Idempotency-Key has made another workspace; every new request needs its own."
            )
    raise AlreadyExists(f"There is a workspace {key!r} already.")
