"""Who calls, as the API tells it; workspaces, and the keys that open them."""

from datetime import timedelta
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.domain.access import COMMAND_LINE, SERVICE, Principal, RowScope, Scope
from app.domain.api_key import ApiKey as Secret
from app.domain.period import Period
from app.http.schemas.common import (
    Duration,
    Id,
    Instant,
    Key,
    Name,
    Page,
    Request,
    Response,
)
from app.http.schemas.opportunities import Label
from app.storage.access import KeyRecord, NewKey, WorkspaceRecord

LONGEST_OVERLAP: Final = timedelta(days=30)

# A body is validated strictly, after its JSON was parsed: there is nothing but text by then.
AScope = Annotated[Scope, Field(strict=False)]
ARowScope = Annotated[RowScope, Field(strict=False)]

_WORKSPACE: Final[dict[str, Any]] = {
    "id": "019a8f0e-0a1b-7c2d-8e3f-4a5b6c7d8e9f",
    "key": "default",
    "name": "Default",
    "created_at": "2026-11-16T14:30:00Z",
}
_GIVEN: Final[dict[str, Any]] = {
    "name": "CRM of the northern team",
    "subject": "crm-sync",
    "scopes": ["opportunities:read", "opportunities:write"],
    "row_scope": "team",
    "team": "north",
    "expires_at": "2027-11-16T14:30:00Z",
}
_KEY: Final[dict[str, Any]] = {
    "id": "5f0d1c3a9b7e4f62",
    "version": 1,
    **_GIVEN,
    "created_at": "2026-11-16T14:30:00Z",
    "last_used_at": None,
    "revoked_at": None,
    "replaced_by": None,
}
_NEW_KEY: Final[dict[str, Any]] = {
    **_KEY,
    "key": "slc_live_5f0d1c3a9b7e4f62_" + "0f1e2d3c" * 6 + "9a4b7c21",
}
_ROW_SCOPE: Final = (
    "Which opportunities it sees, in lists, moves, figures and events alike: those whose present "
    "owner is `subject` (`own`), those of `team` as well (`team`), or all of the workspace."
)
_SUBJECT: Final = "The name that the log bears as actor, and that owners are compared with."


def _overlap(length: Period) -> Period:
    if length.length > LONGEST_OVERLAP:
        raise PydanticCustomError("out_of_range", "An overlap lasts at most 30 days")
    return length


def _nobodys(subject: str) -> str:
    if subject in (SERVICE, COMMAND_LINE):
        raise PydanticCustomError("reserved", "The service and its command line are called so")
    return subject


Subject = Annotated[Label, AfterValidator(_nobodys)]
"""Whom a credential makes of its bearer, as the log calls them."""


class Workspace(Response):
    """A tenant: nothing is ever seen across two of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WORKSPACE]})

    id: Id
    key: str
    name: str
    created_at: Instant

    @classmethod
    def of(cls, found: WorkspaceRecord) -> "Workspace":
        return cls.model_construct(
            id=found.workspace_id, key=found.key, name=found.name, created_at=found.created_at
        )


class WorkspacePage(Page[Workspace]):
    """A page of all workspaces of the installation, by their keys."""


class WorkspaceCreate(Request):
    """A workspace to be made, and whom its first key makes of its bearer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": "acme", "name": "Acme Ltd"}]})

    key: Key
    name: Name
    subject: Subject = Field(default="admin", description="Of its first key, which is an admin's.")


class Me(Response):
    """Who the caller is and what they may do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workspace": _WORKSPACE,
                    "subject": "crm-sync",
                    "team": "north",
                    "row_scope": "team",
                    "key_id": "5f0d1c3a9b7e4f62",
                    "scopes": ["opportunities:read", "opportunities:write"],
                }
            ]
        }
    )

    workspace: Workspace
    subject: str = Field(description=_SUBJECT)
    team: str | None
    row_scope: RowScope = Field(description=_ROW_SCOPE)
    key_id: str | None = Field(description="The API key's id, no secret; null: a token.")
    scopes: list[Scope] = Field(description="`admin` holds all the others.")

    @classmethod
    def of(cls, principal: Principal, workspace: WorkspaceRecord) -> "Me":
        return cls.model_construct(
            workspace=Workspace.of(workspace),
            subject=principal.subject,
            team=principal.team,
            row_scope=principal.row_scope,
            key_id=principal.key_id,
            scopes=sorted(principal.scopes),
        )


class ApiKeyCreate(Request):
    """A key to be made. It gives at most what its maker has."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GIVEN]})

    name: Name = Field(description="What it is for; shown in lists.")
    subject: Subject = Field(description=_SUBJECT)
    scopes: Annotated[list[AScope], Field(min_length=1, max_length=len(Scope))]
    row_scope: ARowScope = Field(default=RowScope.ALL, description=_ROW_SCOPE)
    team: Label | None = Field(default=None, description="Needed where `row_scope` is `team`.")
    expires_at: Instant | None = Field(default=None, description="Null: never.")

    @model_validator(mode="after")
    def _team_is_named(self) -> Self:
        if self.row_scope is RowScope.TEAM and self.team is None:
            raise PydanticCustomError("required", "The row scope team needs the name of the team")
        return self

    def new(self) -> NewKey:
        return NewKey(
            name=self.name,
            subject=self.subject,
            scopes=frozenset(self.scopes),
            row_scope=self.row_scope,
            team=self.team,
            expires_at=self.expires_at,
        )


class ApiKeyRotation(Request):
    """How long the key is good beside the one that replaces it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap": "P1D"}]})

    overlap: Annotated[Duration, AfterValidator(_overlap)] = Field(
        default_factory=lambda: Period(days=1),
        description="Absent: a day; at most 30 days. `PT0S`: it is refused at once.",
    )


class ApiKey(Response):
    """A key of the workspace. Its secret is known to nobody but its bearer."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    id: str
    version: int
    name: str
    subject: str = Field(description=_SUBJECT)
    scopes: list[Scope]
    row_scope: RowScope = Field(description=_ROW_SCOPE)
    team: str | None
    created_at: Instant
    last_used_at: Instant | None = Field(description="To the minute; null: never.")
    expires_at: Instant | None
    revoked_at: Instant | None
    replaced_by: str | None = Field(description="The id of the key that a rotation made of it.")

    @classmethod
    def of(cls, key: KeyRecord) -> "ApiKey":
        return cls.model_construct(**_shown(key))


class NewApiKey(ApiKey):
    """A key as it was just made. `key` is shown this once: to a repeated request it is null."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW_KEY]})

    key: str | None = Field(description="What `Authorization: Bearer` takes.")

    @classmethod
    def made(cls, record: KeyRecord, key: Secret | None) -> "NewApiKey":
        return cls.model_construct(**_shown(record), key=None if key is None else str(key))


class ApiKeyPage(Page[ApiKey]):
    """A page of the workspace's keys, in the order in which they were made."""


class NewWorkspace(Workspace):
    """A workspace as it was just made, with its first key, an admin's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_WORKSPACE, "api_key": _NEW_KEY}]})

    api_key: NewApiKey

    @classmethod
    def made(cls, found: WorkspaceRecord, first: KeyRecord, key: Secret | None) -> "NewWorkspace":
        return cls.model_construct(**dict(Workspace.of(found)), api_key=NewApiKey.made(first, key))


def _shown(key: KeyRecord) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "version": key.version,
        "name": key.name,
        "subject": key.subject,
        "scopes": sorted(key.scopes),
        "row_scope": key.row_scope,
        "team": key.team,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "replaced_by": key.replaced_by,
    }
