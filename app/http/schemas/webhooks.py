"""Webhook endpoints and their secrets; what they were sent is in `webhook_deliveries`."""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import MISSING, AfterValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.actions.manage_webhooks import NewEndpoint
from app.domain import webhook as domain
from app.domain.period import Period
from app.domain.webhook_signature import written as written_secret
from app.domain.webhook_target import LONGEST as LONGEST_URL
from app.http.schemas.common import (
    Duration,
    Id,
    Instant,
    Key,
    Page,
    Request,
    Response,
    Text,
    Update,
)
from app.http.schemas.events import EventName
from app.storage import events

_ASKED: Final[dict[str, Any]] = {
    "url": "https://hooks.example.com/sluice",
    "description": "Tells the manager of negotiations",
    "types": ["stage.entered"],
    "pipeline": "sales",
    "stages": ["negotiation"],
    "include_historical": False,
}
_ENDPOINT: Final[dict[str, Any]] = {
    "id": "019a8f0e-9f6e-7c31-9a24-8b9c0d1e2f30",
    "version": 1,
    **_ASKED,
    "enabled": True,
    "disabled": None,
    "failing_since": None,
    "created_at": "2026-11-16T14:30:00Z",
    "updated_at": "2026-11-16T14:30:00Z",
}
_SECRET: Final = "whsec_" + "c2x1aWNl" * 5 + "c2x1"
Url = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_URL)]
Description = Annotated[Text, StringConstraints(max_length=500)]
EventNames = Annotated[list[EventName], Field(max_length=32)]
StageKeys = Annotated[list[Key], Field(max_length=60)]
LONGEST_OVERLAP: Final = timedelta(days=30)
_TYPES: Final = (
    "Only these; empty: all. `opportunity.won`, `.lost`, `.reopened` and `stage.entered` choose "
    "among the moves, which bear `opportunity.transitioned`."
)
_STAGES: Final = (
    "Only events that bring a deal into one of these stages of the pipeline, or tell of one that "
    "stands there (`data.to_stage`, else `data.stage`); empty: all."
)
_URL: Final = "https, and a host whose every address is of the public Internet."


def _overlap(length: Period) -> Period:
    if length.length > LONGEST_OVERLAP:
        raise PydanticCustomError("out_of_range", "An overlap lasts at most 30 days")
    return length


class WebhookEndpointCreate(Request):
    """A receiver, and what it wants to be told of; from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ASKED]})

    url: Url = Field(description=_URL)
    description: Description = ""
    types: EventNames = Field(default_factory=list, description=_TYPES)
    pipeline: Key | None = Field(default=None, description="Only events of this pipeline.")
    stages: StageKeys = Field(default_factory=list, description=_STAGES)
    include_historical: bool = Field(
        default=False, description="Whether it is told of imported history too."
    )

    def new(self) -> NewEndpoint:
        return NewEndpoint(
            url=self.url,
            description=self.description,
            types=tuple(self.types),
            pipeline=self.pipeline,
            stages=tuple(self.stages),
            include_historical=self.include_historical,
        )


class WebhookEndpointUpdate(Update):
    """What is to be different. Enabled again, it is told of what happens from then on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    url: Url | MISSING = Field(default=MISSING, description=_URL)
    description: Description | MISSING = MISSING
    types: EventNames | MISSING = Field(default=MISSING, description=_TYPES)
    pipeline: Key | MISSING | None = MISSING
    stages: StageKeys | MISSING = Field(default=MISSING, description=_STAGES)
    include_historical: bool | MISSING = MISSING
    enabled: bool | MISSING = MISSING

    def values(self) -> dict[str, Any]:
        """The fields that were sent, as the domain has them."""
        return {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.given().items()
        }


class WebhookDisabling(Response):
    """Since when an endpoint is sent nothing, why, and where in the feed it stopped."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"at": "2026-11-21T14:30:00Z", "reason": "failing", "position": "1-48213-9077"}
            ]
        }
    )

    at: Instant
    reason: Literal["requested", "gone", "failing"] = Field(
        description="`gone`: it answered 410. `failing`: for days there was nothing but failures."
    )
    position: str = Field(
        description="The `after` of a replay of what it missed, once it is enabled again; keep it, "
        "as it is not shown any more then. The event `webhook_endpoint.disabled` has it too."
    )


class WebhookEndpoint(Response):
    """A receiver of webhooks. Its secrets are never shown again."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ENDPOINT]})

    id: Id
    version: int
    url: str
    description: str
    types: list[EventName]
    pipeline: str | None
    stages: list[str]
    include_historical: bool
    enabled: bool
    disabled: WebhookDisabling | None
    failing_since: Instant | None = Field(
        description="Since when there was nothing but failures; after five days and two failed "
        "deliveries it is disabled."
    )
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, endpoint: domain.Endpoint) -> "WebhookEndpoint":
        return cls.model_construct(**_shown(endpoint))


class NewWebhookEndpoint(WebhookEndpoint):
    """An endpoint as it was just made, with its secret: shown this once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_ENDPOINT, "secret": _SECRET}]})

    secret: str

    @classmethod
    def made(cls, endpoint: domain.Endpoint, secret: bytes) -> "NewWebhookEndpoint":
        return cls.model_construct(**_shown(endpoint), secret=written_secret(secret))


class WebhookEndpointPage(Page[WebhookEndpoint]):
    """A page of the workspace's endpoints, in the order in which they were made."""


class WebhookSecretCreate(Request):
    """How long the secrets that stand are to sign beside the new one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap": "P1D"}]})

    overlap: Annotated[Duration, AfterValidator(_overlap)] = Field(
        default_factory=lambda: Period(days=1),
        description="Absent: a day; at most 30 days. `PT0S`: what others know of ends at once.",
    )


class WebhookSecret(Response):
    """A new secret: shown this once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"secret": _SECRET, "others_expire_at": "2026-11-17T14:30:00Z"}]
        }
    )

    secret: str
    others_expire_at: Instant = Field(
        description="Until then deliveries bear their signatures too."
    )


def _shown(endpoint: domain.Endpoint) -> dict[str, Any]:
    wanted = endpoint.subscription
    disabled = None
    if endpoint.disabled_at is not None and endpoint.disabled_reason is not None:
        disabled = WebhookDisabling.model_construct(
            at=endpoint.disabled_at,
            reason=endpoint.disabled_reason.value,
            position=events.written(endpoint.position),
        )
    return {
        "id": endpoint.endpoint_id,
        "version": endpoint.version,
        "url": endpoint.url,
        "description": endpoint.description,
        "types": list(wanted.types),
        "pipeline": endpoint.pipeline,
        "stages": list(wanted.stages),
        "include_historical": wanted.include_historical,
        "enabled": disabled is None,
        "disabled": disabled,
        "failing_since": endpoint.failing_since,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }
