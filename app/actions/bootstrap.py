"""The first start: a workspace to work in, and a key to get in with.

Any number of services may start at once. The workspace and its key are one transaction, and the
workspace's key is unique: one service makes both, the others find them made.
"""

from app.actions.manage_keys import new_key
from app.domain.access import SERVICE, Scope
from app.domain.api_key import ApiKey
from app.domain.audit_log import Action, Entry
from app.settings import SettingsError
from app.storage import access, audit_log
from app.storage.access import NewKey
from app.storage.engine import Connection, Database, Lock, Role
from app.storage.ids import new_id
from app.storage.statement import execute

WORKSPACE = "default"


def chosen_key(text: str) -> ApiKey:
    """The key that SLUICE_BOOTSTRAP_KEY spells. Raises SettingsError where it spells none.

    The setting takes the form that every key has and no other secret: so a mistyped one is found
    at the first start, and none is ever accepted that somebody could guess.
    """
    key = ApiKey.parse(text)
    if key is None:
        raise SettingsError(
            "SLUICE_BOOTSTRAP_KEY: is no API key. Accepted: a key in the form "
            "slc_live_<id>_<secret>, as `sluice keys generate` makes them."
        )
    return key


async def bootstrap(database: Database, chosen: ApiKey | None = None) -> ApiKey | None:
    """Make the workspace `default` with an admin key, unless it is there; the key, if made.

    Raises SettingsError where the chosen key's id belongs to a key of another workspace.
    """
    async with database.read(None, role=Role.JOBS) as connection:
        if await access.find_workspace(connection, WORKSPACE) is not None:
            return None
    workspace, key = new_id(), chosen or new_key()

    async def work(connection: Connection) -> ApiKey | None:
        if not await access.add_workspace(connection, workspace, WORKSPACE, "Default"):
            return None
        new = NewKey(name="bootstrap", subject="admin", scopes=frozenset({Scope.ADMIN}))
        if not await access.add_key(connection, workspace, key, new):
            raise SettingsError("SLUICE_BOOTSTRAP_KEY: belongs to another workspace already.")
        told = {"name": "Default", "api_key": key.key_id, "subject": new.subject}
        entry = Entry.of(Action.WORKSPACE_CREATED, WORKSPACE, None, told)
        await execute(connection, [audit_log.append(workspace, SERVICE, entry)])
        return key

    return await database.write(workspace, work, lock=Lock.NONE)
