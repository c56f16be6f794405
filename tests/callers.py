"""Callers who see only some of the deals."""

from app.actions.manage_keys import issue_key
from app.domain.access import Principal, RowScope, Scope
from app.domain.api_key import ApiKey
from app.storage.access import NewKey
from app.storage.engine import Database


async def sighted(
    database: Database,
    principal: Principal,
    row_scope: RowScope = RowScope.OWN,
    team: str | None = None,
    *,
    subject: str = "ada",
) -> ApiKey:
    """A key of the principal's workspace with every scope, whose bearer sees only some deals."""
    new = NewKey(
        name=subject,
        subject=subject,
        scopes=frozenset({Scope.ADMIN}),
        row_scope=row_scope,
        team=team,
    )
    return await issue_key(database, principal.workspace_id, new)
