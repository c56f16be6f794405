"""Who calls, as the API tells it."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from app.http.schemas.common import Id, Response

_EXAMPLE: Final[dict[str, Any]] = {
    "workspace": {
        "id": "019a8f0e-0a1b-7c2d-8e3f-4a5b6c7d8e9f",
        "key": "default",
        "name": "Default",
    },
    "subject": "crm-sync",
    "key_id": "5f0d1c3a9b7e4f62",
    "scopes": ["opportunities:read", "opportunities:write"],
}


class Workspace(Response):
    """The tenant that a credential belongs to."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["workspace"]]})

    id: Id
    key: str
    name: str


class Me(Response):
    """Who the caller is and what they may do."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    workspace: Workspace
    subject: str = Field(description="The name that the log bears as actor.")
    key_id: str | None = Field(description="The id of the API key, which is no secret.")
    scopes: list[str] = Field(description="`admin` holds all the others.")
