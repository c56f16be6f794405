"""Pipelines, their revisions and templates, as callers define and see them.

The document of a request and that of an answer have one shape; what only the server makes stands in
answers alone.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import MISSING, ConfigDict, Field

from app.domain import definition as domain
from app.domain import templates
from app.domain.errors import Breach, Invalid
from app.domain.pipeline import MAX_STAGES, QUALIFYING
from app.domain.pipeline import Flow as DomainFlow
from app.http.schemas.calendars import CALENDAR_EXAMPLE, Calendar, CalendarDocument
from app.http.schemas.common import (
    Id,
    Instant,
    Key,
    Limit,
    Name,
    Page,
    Query,
    Request,
    Response,
    Text,
    Update,
    shown,
)
from app.http.schemas.stages import STAGE_EXAMPLE, Stage, StageDocument
from app.storage.pipelines import Revision

Flow = Literal["free", "forward", "sequential", "graph"]
Language = Literal["en", "zh"]

_WON: Final[dict[str, Any]] = {"key": "won", "name": "Won", "kind": "won"}
_LOST: Final[dict[str, Any]] = {
    "key": "lost",
    "name": "Lost",
    "kind": "lost",
    "loss_reasons": [{"key": "price", "name": "Price"}],
}
_DOCUMENT: Final[dict[str, Any]] = {
    "key": "sales",
    "name": "Sales",
    "description": "New business.",
    "timezone": "Europe/Berlin",
    "calendar": CALENDAR_EXAMPLE,
    "qualifying_activities": ["call", "email", "meeting", "demo"],
    "flow": "forward",
    "moves": [],
    "stages": [{"key": "prospect", "name": "Prospect", "kind": "open"}, STAGE_EXAMPLE, _WON, _LOST],
}


SHOWN_STAGE: Final[dict[str, Any]] = {
    **STAGE_EXAMPLE,
    "position": 1,
    "archived_at": None,
    "succeeded_by": [],
}
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0d-11c0-7a40-8c11-2b3c4d5e6f70",
    "revision": 4,
    **_DOCUMENT,
    "stages": [SHOWN_STAGE],
    "archived_stages": [],
    "warnings": [],
    "created_at": "2026-10-01T08:00:00Z",
    "updated_at": "2026-11-02T08:00:00Z",
    "archived_at": None,
}
_REVISION: Final[dict[str, Any]] = {
    "revision": 4,
    "actor": "mia",
    "in_force_at": "2026-11-02T08:00:00Z",
}


class Move(Request):
    """A move that a graph allows."""

    model_config = ConfigDict(
        serialize_by_alias=True, json_schema_extra={"examples": [{"from": "quote", "to": "won"}]}
    )

    origin: Key = Field(alias="from")
    target: Key = Field(alias="to")


Stages = Annotated[list[StageDocument], Field(max_length=MAX_STAGES)]
Moves = Annotated[list[Move], Field(max_length=MAX_STAGES**2)]
Kinds = Annotated[list[Key], Field(min_length=1, max_length=50)]
Timezone = Annotated[Name, Field(max_length=100, examples=["Europe/Berlin"])]


class Shown(Request):
    """What a pipeline shows of itself beyond its document."""

    id: Any = shown("string", format="uuid")
    revision: Any = shown("integer")
    archived_stages: Any = shown("array", items={}, maxItems=MAX_STAGES)
    warnings: Any = shown("array", items={}, maxItems=MAX_STAGES**2)
    created_at: Any = shown("string", format="date-time")
    updated_at: Any = shown("string", format="date-time")
    archived_at: Any = shown("string", or_null=True, format="date-time")


class PipelineDocument(Shown):
    """A whole pipeline: what it is to be from now on. It can be kept in Git.

    The order of `stages` is their order. A stage that is left out is archived. What a read shows
    can be sent back as it is; fields that are read-only there are passed over here.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_DOCUMENT]})

    key: Key = Field(description="Its name for ever, the one in the path.")
    name: Name
    description: Text | None = None
    timezone: Timezone = Field(default="UTC", description="IANA name: where its days begin.")
    calendar: CalendarDocument | None = Field(
        default=None,
        description="Working time, in which idle thresholds and cadences count; null: all time.",
    )
    qualifying_activities: Kinds = Field(
        default_factory=lambda: list(QUALIFYING),
        description="The kinds of activity that count as a follow-up, where a stage names none.",
    )
    flow: Flow = Field(default="free", description="Which moves between open stages are allowed.")
    moves: Moves = Field(default_factory=list, description="Of a `graph`: all that it allows.")
    stages: Stages
    move_open_to: Annotated[dict[Key, Key], Field(max_length=MAX_STAGES)] = Field(
        default_factory=dict,
        description="Where the open deals of stages that are left out go, by stage.",
    )

    def definition(self) -> domain.Definition:
        return domain.Definition(
            key=self.key,
            name=self.name,
            flow=DomainFlow(self.flow),
            stages=tuple(stage.stage() for stage in self.stages),
            description=self.description,
            timezone=self.timezone,
            calendar=None if self.calendar is None else self.calendar.calendar(),
            qualifying=tuple(self.qualifying_activities),
            moves=_pairs(self.moves),
        )


class PipelineCreate(Shown):
    """A new pipeline: from a template, from a document, or from a template with changes.

    Without a template `name` and `stages` are needed; with one, what is left out is the template's.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"key": "sales", "template": "b2b", "language": "en"}, _DOCUMENT]
        }
    )

    key: Key
    template: Key | None = Field(default=None, description="See `GET /v1/pipeline-templates`.")
    language: Language = Field(default="en", description="Of the template's texts.")
    name: Name | None = None
    description: Text | None = None
    timezone: Timezone = "UTC"
    calendar: CalendarDocument | None = None
    qualifying_activities: Kinds | None = None
    flow: Flow | None = Field(default=None, description="Null: the template's, else `free`.")
    moves: Moves | None = None
    stages: Stages | None = None

    def definition(self) -> domain.Definition:
        """The definition that comes of it. Raises Invalid for what is needed or unknown."""
        given = self._template() if self.template else self._document()
        changes: dict[str, Any] = {"timezone": self.timezone}
        if self.description is not None:
            changes["description"] = self.description
        if self.name is not None:
            changes["name"] = self.name
        if self.calendar is not None:
            changes["calendar"] = self.calendar.calendar()
        if self.qualifying_activities is not None:
            changes["qualifying"] = tuple(self.qualifying_activities)
        if self.flow is not None:
            changes["flow"] = DomainFlow(self.flow)
        if self.moves is not None:
            changes["moves"] = _pairs(self.moves)
        if self.stages is not None:
            changes["stages"] = tuple(stage.stage() for stage in self.stages)
        return replace(given, **changes)

    def _template(self) -> domain.Definition:
        for template in templates.templates(self.language):
            if template.key == self.template:
                return template.definition(self.key)
        known = ", ".join(template.key for template in templates.templates(self.language))
        raise Invalid(
            f"There is no template {self.template!r}.",
            [Breach("/template", "not_one_of", f"One of {known}.")],
        )

    def _document(self) -> domain.Definition:
        missing = [name for name in ("name", "stages") if getattr(self, name) is None]
        if missing:
            raise Invalid(
                "A pipeline that is made from no template needs a name and stages.",
                [Breach(f"/{name}", "required", "Needed without a template.") for name in missing],
            )
        return domain.Definition(key=self.key, name="", flow=DomainFlow.FREE, stages=())


class PipelineUpdate(Update):
    """A merge-patch of what belongs to no stage; stages have operations of their own, or PUT."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "New business", "flow": "sequential"}]}
    )

    name: Name | MISSING = MISSING
    description: Text | MISSING | None = MISSING
    timezone: Timezone | MISSING = MISSING
    calendar: CalendarDocument | MISSING | None = Field(
        default=MISSING, description="Replaced as a whole."
    )
    qualifying_activities: Kinds | MISSING = Field(
        default=MISSING, description="Replaced as a whole."
    )
    flow: Flow | MISSING = MISSING
    moves: Moves | MISSING = Field(
        default=MISSING, description="Replaced as a whole; another flow than `graph` drops them."
    )

    def changes(self) -> dict[str, Any]:
        """What was sent, by the domain's names."""
        sent = self.given()
        if sent.get("calendar") is not None:
            sent["calendar"] = sent["calendar"].calendar()
        if "qualifying_activities" in sent:
            sent["qualifying"] = tuple(sent.pop("qualifying_activities"))
        if "flow" in sent:
            sent["flow"] = DomainFlow(sent["flow"])
        if "moves" in sent:
            sent["moves"] = _pairs(sent["moves"])
        elif sent.get("flow", DomainFlow.GRAPH) is not DomainFlow.GRAPH:
            sent["moves"] = ()  # whoever leaves a graph leaves its moves
        return sent


class DefinitionWarning(Response):
    """What is allowed, but probably not meant."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "few_open_stages",
                    "detail": "2 open stages; five to seven serve most sales processes best.",
                    "pointer": "/stages",
                }
            ]
        }
    )

    code: str
    detail: str
    pointer: str = Field(description="JSON Pointer into the pipeline.")


class Pipeline(Response):
    """A pipeline as one revision defines it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id = Field(json_schema_extra={"readOnly": True})
    key: str
    revision: int = Field(
        description="Its `ETag`; every change makes the next one.",
        json_schema_extra={"readOnly": True},
    )
    name: str
    description: str | None
    timezone: str
    calendar: Calendar | None
    qualifying_activities: list[str]
    flow: Flow
    moves: list[Move]
    stages: list[Stage] = Field(description="Those in use, in order.")
    archived_stages: list[Stage] = Field(
        description="They stay in history and in its figures.",
        json_schema_extra={"readOnly": True},
    )
    warnings: list[DefinitionWarning] = Field(json_schema_extra={"readOnly": True})
    created_at: Instant = Field(json_schema_extra={"readOnly": True})
    updated_at: Instant = Field(
        description="When this revision came into force.", json_schema_extra={"readOnly": True}
    )
    archived_at: Instant | None = Field(json_schema_extra={"readOnly": True})

    @classmethod
    def of(cls, revision: Revision) -> "Pipeline":
        """The pipeline as that revision defines it."""
        pipeline = revision.pipeline
        in_use = [stage for stage in pipeline.stages if stage.archived_at is None]
        return cls.model_construct(
            id=pipeline.pipeline_id,
            key=pipeline.key,
            revision=pipeline.revision,
            name=pipeline.name,
            description=pipeline.description,
            timezone=pipeline.timezone,
            calendar=None if pipeline.calendar is None else Calendar.of(pipeline.calendar),
            qualifying_activities=list(pipeline.qualifying),
            flow=pipeline.flow.value,
            moves=_moves(pipeline.moves),
            stages=[Stage.of(stage, position) for position, stage in enumerate(in_use, start=1)],
            archived_stages=[
                Stage.of(stage, None) for stage in pipeline.stages if stage.archived_at is not None
            ],
            warnings=[
                DefinitionWarning.model_construct(
                    code=each.code, detail=each.detail, pointer=each.pointer
                )
                for each in domain.warnings(pipeline)
            ],
            created_at=revision.created_at,
            updated_at=revision.in_force_at,
            archived_at=pipeline.archived_at,
        )


class PipelinePage(Page[Pipeline]):
    """A page of pipelines."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_EXAMPLE], "page": {"next_cursor": None}}]}
    )


class PipelineQuery(Query):
    """Which pipelines, by key."""

    archived: bool = Field(default=False, description="Those out of use instead of those in use.")
    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1024)] = None


class PipelineRevision(Response):
    """When a definition came into force, and who had it so."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REVISION]})

    revision: int
    actor: str
    in_force_at: Instant


class PipelineRevisionPage(Page[PipelineRevision]):
    """A page of revisions, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_REVISION], "page": {"next_cursor": None}}]}
    )


def _moves(moves: Iterable[tuple[str, str]]) -> list[Move]:
    return [Move.model_construct(origin=start, target=end) for start, end in sorted(moves)]


def _pairs(moves: list[Move]) -> tuple[tuple[str, str], ...]:
    return tuple((move.origin, move.target) for move in moves)
