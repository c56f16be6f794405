"""Access: who one is."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.domain.access import Principal
from app.http.deps import Allowed, DatabaseDep
from app.http.schemas.access import Me, Workspace
from app.http.strictness import StrictRoute
from app.storage import access

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["access"])


@router.get("/me")
async def get_me(principal: Annotated[Principal, Depends(Allowed())], database: DatabaseDep) -> Me:
    """Whom the credential makes of its caller: workspace, name and scopes."""
    async with database.read(principal.workspace_id) as connection:
        own = await access.read_workspace(connection, principal.workspace_id)
    return Me(
        workspace=Workspace(id=own.workspace_id, key=own.key, name=own.name),
        subject=principal.subject,
        key_id=principal.key_id,
        scopes=sorted(scope.value for scope in principal.scopes),
    )
