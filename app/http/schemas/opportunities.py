"""Opportunities, as callers send and see them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import MISSING, AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from app.domain import money
from app.domain import opportunity as domain
from app.domain.errors import Breach, Invalid
from app.domain.pipeline import Pipeline
from app.http.schemas.clocks import IDLE_EXAMPLE, OpportunityIdle
from app.http.schemas.common import (
    Attributes,
    Day,
    Id,
    Instant,
    Key,
    Limit,
    Money,
    Name,
    Page,
    Query,
    Request,
    Response,
    Share,
    Update,
)

_ID: Final = "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a"
_DEAL: Final[dict[str, Any]] = {
    "name": "Ten seats for the design team",
    "amount": {"amount": "1250.00", "currency": "EUR"},
    "probability": None,
    "owner": "mia",
    "team": "north",
    "source": "webinar",
    "priority": "high",
    "tags": ["renewal"],
    "attributes": {"seats": 10},
    "expected_close_on": "2026-12-15",
}
OPPORTUNITY_EXAMPLE: Final[dict[str, Any]] = {
    "id": _ID,
    "external_id": "CRM-1042",
    "version": 3,
    "pipeline": "sales",
    "stage": "quote",
    "status": "open",
    **_DEAL,
    "seq": 2,
    "opened_at": "2026-11-02T09:00:00Z",
    "stage_entered_at": "2026-11-09T14:30:00Z",
    "closed_at": None,
    "idle": IDLE_EXAMPLE,
    "continues": None,
    "continued_as": None,
    "created_at": "2026-11-02T09:00:00Z",
    "updated_at": "2026-11-09T14:30:00Z",
}


def _different(tags: list[str]) -> list[str]:
    if len(set(tags)) < len(tags):
        raise PydanticCustomError("duplicate", "Each tag should appear once")
    return tags


Label = Annotated[Name, Field(max_length=100)]
ExternalId = Annotated[Name, Field(description="Your own id of the deal; unique in the workspace.")]
Tags = Annotated[list[Label], Field(max_length=50), AfterValidator(_different)]
Status = Literal["open", "won", "lost", "handed_off"]


class OpportunityFacts(Request):
    """What a deal is, as far as its caller says it."""

    name: Name
    amount: Money | None = None
    probability: Share | None = Field(
        default=None,
        description="Your own estimate, with at most 4 decimals; null: the one that its stage "
        "declares.",
    )
    owner: Label | None = None
    team: Label | None = None
    source: Label | None = None
    priority: Label | None = None
    tags: Tags = Field(default_factory=list)
    attributes: Attributes = Field(default_factory=dict)
    expected_close_on: Day | None = None

    def values(self) -> dict[str, Any]:
        """The facts by the domain's names."""
        return _values({name: getattr(self, name) for name in OpportunityFacts.model_fields})


class OpportunityCreate(OpportunityFacts):
    """A new deal."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"pipeline": "sales", "external_id": "CRM-1042", **_DEAL}]}
    )

    pipeline: Key
    stage: Key | None = Field(
        default=None,
        description="Where it opens; null: in the first open stage. Another open stage only under "
        "the flows `free` and `forward`.",
    )
    external_id: ExternalId | None = None
    opened_at: Instant | None = Field(default=None, description="When it opened; null: now.")


class OpportunityUpsert(OpportunityFacts):
    """A deal by your own id: created where there is none, else its facts replaced.

    `pipeline`, `stage` and `opened_at` serve to create it. An existing deal is not moved by them:
    what moves is a transition.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"pipeline": "sales", **_DEAL}]})

    pipeline: Key
    stage: Key | None = None
    opened_at: Instant | None = None


class OpportunityUpdate(Update):
    """A merge-patch of a deal's facts; `attributes` are merged key by key, null removes a key."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"owner": "tom", "attributes": {"seats": 12}, "expected_close_on": None}]
        }
    )

    name: Name | MISSING = MISSING
    external_id: ExternalId | MISSING | None = MISSING
    amount: Money | MISSING | None = MISSING
    probability: Share | MISSING | None = MISSING
    owner: Label | MISSING | None = MISSING
    team: Label | MISSING | None = MISSING
    source: Label | MISSING | None = MISSING
    priority: Label | MISSING | None = MISSING
    tags: Tags | MISSING = MISSING
    attributes: Attributes | MISSING = MISSING
    expected_close_on: Day | MISSING | None = MISSING

    def values(self) -> dict[str, Any]:
        """The facts that the caller sent, by the domain's names."""
        return _values(self.given())


def _values(sent: dict[str, Any]) -> dict[str, Any]:
    if "amount" in sent:
        given = sent.pop("amount")
        sent["amount"] = None if given is None else Decimal(given.amount)
        sent["currency"] = None if given is None else given.currency
    if sent.get("probability") is not None:
        sent["probability"] = Decimal(repr(sent["probability"]))
    if "tags" in sent:
        sent["tags"] = tuple(sent["tags"])
    return sent


class Opportunity(Response):
    """One deal as it stands now."""

    model_config = ConfigDict(json_schema_extra={"examples": [OPPORTUNITY_EXAMPLE]})

    id: Id
    external_id: str | None
    version: int = Field(description="Its `ETag`; every change makes the next one.")
    pipeline: str
    stage: str
    status: Status
    name: str
    amount: Money | None
    probability: float | None = Field(
        description="The deal's own estimate; null: the one that its stage declares."
    )
    owner: str | None
    team: str | None
    source: str | None
    priority: str | None
    tags: list[str]
    attributes: dict[str, Any]
    expected_close_on: Day | None
    seq: int = Field(description="The number of its last transition.")
    opened_at: Instant
    stage_entered_at: Instant
    closed_at: Instant | None
    idle: OpportunityIdle
    continues: Id | None = Field(description="The deal that was handed off to make this one.")
    continued_as: Id | None = Field(description="The deal that this one was handed off to.")
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, deal: domain.Opportunity, pipeline: Pipeline) -> "Opportunity":
        """The deal under a revision of its pipeline. What we made is not validated again."""
        here, facts = deal.position, deal.facts
        stage = pipeline.by_slot[here.slot]
        return cls.model_construct(
            id=deal.opportunity_id,
            external_id=deal.external_id,
            version=deal.version,
            pipeline=pipeline.key,
            stage=stage.key,
            status=here.status.value,
            name=deal.name,
            amount=money_of(facts.amount, facts.currency),
            probability=None if facts.probability is None else float(facts.probability),
            owner=facts.owner,
            team=facts.team,
            source=facts.source,
            priority=facts.priority,
            tags=list(deal.tags),
            attributes=dict(deal.attributes),
            expected_close_on=deal.expected_close_on,
            seq=here.seq,
            opened_at=here.opened_at,
            stage_entered_at=here.stage_entered_at,
            closed_at=here.closed_at,
            idle=OpportunityIdle.of(deal, stage),
            continues=deal.continues,
            continued_as=deal.continued_as,
            created_at=deal.created_at,
            updated_at=deal.updated_at,
        )


_attributes: Final = TypeAdapter(Attributes)


def merged_attributes(kept: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, section 2: null removes, an object merges, everything else replaces.

    Raises Invalid where the whole has grown past what attributes may be.
    """
    try:
        return _attributes.validate_python(_merged(kept, patch))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]["msg"]
        raise Invalid(
            "The attributes would be too large.", [Breach("/attributes", "too_long", detail)]
        ) from error


def _merged(kept: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    result = dict(kept) if isinstance(kept, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def money_of(amount: Decimal | None, currency: str | None) -> Money | None:
    """An amount as the API writes it."""
    if amount is None or currency is None:
        return None
    written = money.written(amount, currency)
    return Money.model_construct(amount=written, currency=currency)


class OpportunityPage(Page[Opportunity]):
    """A page of deals."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [OPPORTUNITY_EXAMPLE], "page": {"next_cursor": None}}]
        }
    )


class OpportunityQuery(Query):
    """Which deals. Filters add up; a list gives those that pass all of them."""

    pipeline: Key | None = None
    stage: Key | None = Field(default=None, description="A stage of `pipeline`, which it needs.")
    status: Status | None = None
    owner: Label | None = None
    team: Label | None = None
    source: Label | None = None
    priority: Label | None = None
    tag: Label | None = None
    external_id: ExternalId | None = None
    idle: bool | None = Field(default=None, description="Whether an idle flag stands open.")
    q: Name | None = Field(default=None, description="A part of the name, in either case.")
    updated_since: Instant | None = Field(
        default=None, description="Changed at or after this instant; ordered by the change."
    )
    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1024)] = None

    def asked(self) -> dict[str, Any]:
        """What decides which list it is, for its cursors."""
        return self.model_dump(exclude={"limit", "cursor"})


class OpportunityChange(Response):
    """One field that was changed: from what, to what, when, by whom."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _ID,
                    "field": "owner",
                    "old": "mia",
                    "new": "tom",
                    "occurred_at": "2026-11-10T08:00:00Z",
                    "recorded_at": "2026-11-10T08:00:00Z",
                    "actor": "crm-sync",
                }
            ]
        }
    )

    id: Id
    field: str
    old: Any
    new: Any
    occurred_at: Instant
    recorded_at: Instant
    actor: str


class OpportunityChangePage(Page[OpportunityChange]):
    """A page of a deal's changes, the newest first."""
