"""Access: who one is, the keys of one's workspace, and, for who runs it all, workspaces."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from app.actions import manage_keys, manage_workspaces
from app.domain.access import Operator, Principal, Scope
from app.domain.api_key import KEY_ID
from app.domain.api_key import ApiKey as Secret
from app.http import answers, conditional
from app.http.deps import Allowed, DatabaseDep, OperatorAllowed, RepeatableDep
from app.http.paging import PagesDep
from app.http.schemas.access import (
    ApiKey,
    ApiKeyCreate,
    ApiKeyPage,
    ApiKeyRotation,
    Me,
    NewApiKey,
    NewWorkspace,
    Workspace,
    WorkspaceCreate,
    WorkspacePage,
)
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage import access
from app.storage.access import KeyRecord, WorkspaceRecord
from app.storage.engine import Role
from app.storage.idempotency import Answer

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["access"])

Anyone = Annotated[Principal, Depends(Allowed())]
Reader = Annotated[Principal, Depends(Allowed(Scope.API_KEYS_READ))]
Writer = Annotated[Principal, Depends(Allowed(Scope.API_KEYS_WRITE))]
Running = Annotated[Operator, Depends(OperatorAllowed())]
KeyId = Annotated[str, Path(pattern=KEY_ID, description="The key's id, which is no secret.")]


@router.get("/me")
async def get_me(principal: Anyone, database: DatabaseDep) -> Me:
    """Whom the credential makes of its caller: workspace, name, team, row scope and scopes."""
    workspace = principal.workspace_id
    async with database.read(workspace) as connection:
        return Me.of(principal, await access.read_workspace(connection, workspace))


@router.get("/api-keys")
async def list_api_keys(
    query: Annotated[PageQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> ApiKeyPage:
    """The workspace's keys, expired and revoked ones included, in the order of their making."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="api-keys", workspace=workspace)
    async with database.read(workspace) as connection:
        found = await access.keys(connection, workspace, after=listing.pair, limit=listing.more)
    found, page = listing.cut(found, lambda key: [key.created_at, key.key_id])
    return ApiKeyPage(items=[ApiKey.of(each) for each in found], page=page)


@router.post("/api-keys", status_code=201, response_model=NewApiKey)
async def create_api_key(
    body: ApiKeyCreate, principal: Writer, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Make a key. It is shown this once, and gives at most what its maker has."""
    return answers.sent(
        await manage_keys.create_key(
            database, principal, body.new(), request=repeatable, answer=_made
        )
    )


@router.get("/api-keys/{key_id}", responses={200: {"headers": {"ETag": {}}}})
async def get_api_key(
    key_id: KeyId, response: Response, principal: Reader, database: DatabaseDep
) -> ApiKey:
    """One key as it stands now. `last_used_at` goes on without a new version."""
    async with database.read(principal.workspace_id) as connection:
        found = await access.one_key(connection, principal.workspace_id, key_id)
    response.headers["ETag"] = conditional.etag(found.version)
    return ApiKey.of(found)


@router.post("/api-keys/{key_id}/rotation", status_code=201, response_model=NewApiKey)
async def rotate_api_key(
    key_id: KeyId,
    body: ApiKeyRotation,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Make a key that gives the same, and have this one expire after the overlap."""
    return answers.sent(
        await manage_keys.rotate_key(
            database, principal, key_id, body.overlap.length, request=repeatable, answer=_made
        )
    )


@router.delete("/api-keys/{key_id}", status_code=204)
async def revoke_api_key(
    key_id: KeyId,
    principal: Writer,
    database: DatabaseDep,
    if_match: conditional.IfMatch = None,
) -> None:
    """Have the key refused from now on; every worker knows within seconds. It stays in the list."""
    await manage_keys.revoke_key(
        database,
        principal.workspace_id,
        key_id,
        by=principal,
        check=conditional.required(if_match),
    )


@router.get("/workspaces")
async def list_workspaces(
    query: Annotated[PageQuery, Query()],
    _: Running,
    database: DatabaseDep,
    pages: PagesDep,
) -> WorkspacePage:
    """All workspaces of the installation. For a key of the platform."""
    listing = pages.of(query, list="workspaces")
    async with database.read(None, role=Role.JOBS) as connection:
        found = await access.workspaces(connection, after=listing.first, limit=listing.more)
    found, page = listing.cut(found, lambda workspace: [workspace.key])
    return WorkspacePage(items=[Workspace.of(each) for each in found], page=page)


@router.post("/workspaces", status_code=201, response_model=NewWorkspace)
async def create_workspace(
    body: WorkspaceCreate, operator: Running, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Make a workspace and an admin's key for it, shown this once. For a key of the platform."""

    def made(workspace: WorkspaceRecord, first: KeyRecord, secret: Secret | None) -> Answer:
        return answers.created(
            NewWorkspace.made(workspace, first, secret), location=f"{router.prefix}/me", etag=None
        )

    return answers.sent(
        await manage_workspaces.create_workspace(
            database,
            operator,
            key=body.key,
            name=body.name,
            subject=body.subject,
            request=repeatable,
            answer=made,
        )
    )


def _made(record: KeyRecord, secret: Secret | None) -> Answer:
    return answers.created(
        NewApiKey.made(record, secret),
        location=f"{router.prefix}/api-keys/{record.key_id}",
        etag=conditional.etag(record.version),
    )
