"""Stages, as callers define and see them: one shape in requests and answers.

What only the server makes (position, lineage) stands in answers alone. Here is what a stage looks
like; which ones are valid is `domain.definition`'s business.
"""

from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import MISSING, AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.domain import pipeline as domain
from app.domain.definition import UNPLACED
from app.domain.pipeline import IdleClock, StageKind
from app.http.schemas.common import (
    Duration,
    Instant,
    Key,
    Name,
    Request,
    Response,
    Share,
    Text,
    Update,
    shown,
)

Kind = Literal["open", "won", "lost"]
Clock = Literal["stage_age", "inactivity"]
IdleTime = Literal["working", "elapsed"]
Line = Annotated[Text, Field(min_length=1, max_length=500)]
Priority = Annotated[Name, Field(max_length=100)]
Path = Annotated[Text, Field(max_length=500)]

STAGE_EXAMPLE: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "kind": "open",
    "off_path": False,
    "description": "A priced offer lies with the buyer.",
    "probability": 0.5,
    "idle_after": "P7D",
    "idle_after_by_priority": {"high": "P3D"},
    "idle_clock": "inactivity",
    "idle_time": "working",
    "critical_after": "P14D",
    "max_pause": "P7D",
    "qualifying_activities": ["call", "email", "meeting"],
    "follow_up_every": "P3D",
    "target_conversion": 0.6,
    "target_dwell": "P14D",
    "guidance": {
        "goal": "The buyer answers the offer.",
        "key_actions": ["Walk the buyer through the offer"],
        "assessment_criteria": ["The decision maker has seen the price"],
    },
    "entry_requirements": [{"type": "field", "path": "/amount"}],
    "loss_reasons": [],
}


def _different(stages: list[str]) -> list[str]:
    if len(set(stages)) < len(stages):
        raise PydanticCustomError("duplicate", "Each stage should appear once")
    return stages


class Guidance(Request):
    """What the seller should do in a stage, and how to tell that it is done."""

    model_config = ConfigDict(json_schema_extra={"examples": [STAGE_EXAMPLE["guidance"]]})

    goal: Line | None
    key_actions: Annotated[list[Line], Field(max_length=20)]
    assessment_criteria: Annotated[list[Line], Field(max_length=20)]


class EntryRequirement(Request):
    """What a deal must bear before it enters the stage."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "field", "path": "/amount"}]}
    )

    type: Literal["field"]
    path: Path = Field(description="JSON Pointer into the opportunity: the field that has a value.")


class LossReason(Request):
    """Why a deal may be lost."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": "price", "name": "Price"}]})

    key: Key
    name: Name


class StageDocument(Request):
    """A stage, as a definition writes it, or as an answer shows it."""

    model_config = ConfigDict(json_schema_extra={"examples": [STAGE_EXAMPLE]})

    key: Key = Field(description="Its name for ever.")
    name: Name
    kind: Kind = Field(description="Never changes.")
    off_path: bool = Field(
        default=False, description="An open stage beside the path (On hold, Nurture): without rank."
    )
    description: Text | None = None
    probability: Share | None = Field(default=None, description="Of winning a deal that is here.")
    idle_after: Duration | None = Field(
        default=None, description="How long a deal may be quiet here; null: for ever."
    )
    idle_after_by_priority: Annotated[dict[Priority, Duration | None], Field(max_length=20)] = (
        Field(default_factory=dict, description="Exceptions, by the deal's priority.")
    )
    idle_clock: Clock = Field(
        default="stage_age",
        description="What is quiet: `stage_age` counts from entering the stage, `inactivity` from "
        "the last move or qualifying activity.",
    )
    idle_time: IdleTime = Field(
        default="working",
        description="How lengths count where the pipeline has a calendar: in its working time, or"
        " in all time.",
    )
    critical_after: Duration | None = Field(
        default=None,
        description="How long after its clock's start a flag is critical; null: after twice the"
        " threshold.",
    )
    max_pause: Duration | None = Field(
        default=None,
        description="How long beyond the threshold a planned next step keeps a deal from being"
        " idle, at most; null: it does not.",
    )
    qualifying_activities: Annotated[list[Key], Field(max_length=50)] | None = Field(
        default=None,
        description="The kinds of activity that count as a follow-up here: they reset an inactivity"
        " clock; null: those of the pipeline.",
    )
    follow_up_every: Duration | None = Field(
        default=None, description="Cadence: how often a deal here is to be followed up."
    )
    target_conversion: Share | None = Field(
        default=None, description="The share that should go on to the next stage."
    )
    target_dwell: Duration | None = Field(
        default=None, description="How long a deal should be here at most."
    )
    guidance: Guidance | None = None
    entry_requirements: Annotated[list[EntryRequirement], Field(max_length=50)] = Field(
        default_factory=list
    )
    loss_reasons: Annotated[list[LossReason], Field(max_length=50)] = Field(
        default_factory=list, description="Of a lost stage: at least one."
    )
    position: Any = shown("integer", or_null=True)
    archived_at: Any = shown("string", or_null=True, format="date-time")
    succeeded_by: Any = shown("array", items={}, maxItems=domain.MAX_STAGES)

    def stage(self) -> domain.Stage:
        """The stage, not placed in any revision yet."""
        bare = domain.Stage(key=self.key, name=self.name, kind=StageKind(self.kind), slot=UNPLACED)
        return _with(bare, {name: getattr(self, name) for name in type(self).model_fields})


class StageCreate(StageDocument):
    """A further stage, and where it goes."""

    position: Annotated[int, Field(ge=1, le=domain.MAX_STAGES)] | None = Field(
        default=None,
        description="Its place among the stages in use; null: an open stage goes to the end of the "
        "path, a closed one to the end.",
    )


class StageUpdate(Update):
    """A merge-patch of a stage. Lists and guidance are replaced as a whole."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"idle_after": "P5D", "probability": 0.6}]}
    )

    name: Name | MISSING = MISSING
    off_path: bool | MISSING = MISSING
    description: Text | MISSING | None = MISSING
    probability: Share | MISSING | None = MISSING
    idle_after: Duration | MISSING | None = MISSING
    idle_after_by_priority: (
        Annotated[dict[Priority, Duration | None], Field(max_length=20)] | MISSING
    ) = Field(default=MISSING, description="Replaced as a whole: null means never, for a priority.")
    idle_clock: Clock | MISSING = MISSING
    idle_time: IdleTime | MISSING = MISSING
    critical_after: Duration | MISSING | None = MISSING
    max_pause: Duration | MISSING | None = MISSING
    qualifying_activities: Annotated[list[Key], Field(max_length=50)] | MISSING | None = MISSING
    follow_up_every: Duration | MISSING | None = MISSING
    target_conversion: Share | MISSING | None = MISSING
    target_dwell: Duration | MISSING | None = MISSING
    guidance: Guidance | MISSING | None = MISSING
    entry_requirements: Annotated[list[EntryRequirement], Field(max_length=50)] | MISSING = MISSING
    loss_reasons: Annotated[list[LossReason], Field(max_length=50)] | MISSING = MISSING
    position: Annotated[int, Field(ge=1, le=domain.MAX_STAGES)] | MISSING = Field(
        default=MISSING, description="Its place among the stages in use."
    )

    def apply(self, stage: domain.Stage) -> domain.Stage:
        """The stage with what was sent."""
        return _with(stage, self.given())


class StageArchive(Request):
    """Which open stage takes the open deals of the one that goes out of use."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"move_open_to": "quote"}]})

    move_open_to: Key | None = Field(
        default=None, description="Needed where open deals stand in the stage."
    )


class StageSplit(Request):
    """The parts that take the place of a stage, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "into": [
                        {"key": "pricing", "name": "Pricing", "kind": "open"},
                        {"key": "contract", "name": "Contract", "kind": "open"},
                    ],
                    "move_open_to": "pricing",
                }
            ]
        }
    )

    into: Annotated[list[StageDocument], Field(min_length=2, max_length=10)]
    move_open_to: Key | None = Field(
        default=None, description="The part that takes the open deals; needed where there are any."
    )


class StageMerge(Request):
    """Stages that become one, which is in use already and may be one of them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"stages": ["pricing", "contract"], "into": "contract"}]}
    )

    stages: Annotated[
        list[Key],
        Field(min_length=1, max_length=domain.MAX_STAGES, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_different),
    ]
    into: Key = Field(description="The stage that takes their open deals and their moves.")


class Stage(Response):
    """A stage as it is defined in one revision."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**STAGE_EXAMPLE, "position": 3, "archived_at": None, "succeeded_by": []}]
        }
    )

    key: str
    name: str
    kind: Kind
    position: int | None = Field(
        description="1 is the first of those in use; null: archived.",
        json_schema_extra={"readOnly": True},
    )
    off_path: bool
    description: str | None
    probability: float | None
    idle_after: Duration | None
    idle_after_by_priority: dict[str, Duration | None]
    idle_clock: Clock
    idle_time: IdleTime
    critical_after: Duration | None
    max_pause: Duration | None
    qualifying_activities: list[str] | None = Field(description="Null: those of the pipeline.")
    follow_up_every: Duration | None
    target_conversion: float | None
    target_dwell: Duration | None
    guidance: Guidance | None
    entry_requirements: list[EntryRequirement]
    loss_reasons: list[LossReason]
    archived_at: Instant | None = Field(json_schema_extra={"readOnly": True})
    succeeded_by: list[str] = Field(
        description="What an archived stage became: the parts of its split, or the one it was "
        "merged into.",
        json_schema_extra={"readOnly": True},
    )

    @classmethod
    def of(cls, stage: domain.Stage, position: int | None) -> "Stage":
        """The stage at its place among those in use."""
        rule, guidance = stage.idle, stage.guidance
        return cls.model_construct(
            key=stage.key,
            name=stage.name,
            kind=stage.kind.value,
            position=position,
            off_path=stage.off_path,
            description=stage.description,
            probability=_rate(stage.probability),
            idle_after=rule.after,
            idle_after_by_priority=dict(rule.after_by_priority),
            idle_clock=rule.clock.value,
            idle_time="elapsed" if rule.elapsed else "working",
            critical_after=rule.critical_after,
            max_pause=rule.max_pause,
            qualifying_activities=None if rule.inherits else list(rule.qualifying),
            follow_up_every=stage.follow_up_every,
            target_conversion=_rate(stage.target_conversion),
            target_dwell=stage.target_dwell,
            guidance=None
            if guidance is None
            else Guidance.model_construct(
                goal=guidance.goal,
                key_actions=list(guidance.key_actions),
                assessment_criteria=list(guidance.assessment_criteria),
            ),
            entry_requirements=[
                EntryRequirement.model_construct(type="field", path=requirement.path)
                for requirement in stage.entry_requirements
            ],
            loss_reasons=[
                LossReason.model_construct(key=reason.key, name=reason.name)
                for reason in stage.loss_reasons
            ],
            archived_at=stage.archived_at,
            succeeded_by=list(stage.succeeded_by),
        )


def _with(stage: domain.Stage, given: dict[str, Any]) -> domain.Stage:
    """The stage with the terms that were sent, in the domain's types."""
    terms: dict[str, Any] = {}
    rule: dict[str, Any] = {}
    for name, value in given.items():
        match name, value:
            case (("key" | "kind" | "position" | "archived_at" | "succeeded_by"), _):
                continue  # what a stage is called, where and how it stands are not its terms
            case "idle_after_by_priority", _:
                rule["after_by_priority"] = MappingProxyType(value)
            case "idle_clock", _:
                rule["clock"] = IdleClock(value)
            case "idle_time", _:
                rule["elapsed"] = value == "elapsed"
            case "qualifying_activities", None:
                rule["inherits"] = True
            case "qualifying_activities", _:
                rule["inherits"], rule["qualifying"] = False, tuple(value)
            case "idle_after", _:
                rule["after"] = value
            case (("critical_after" | "max_pause"), _):
                rule[name] = value
            case (("probability" | "target_conversion"), float()):
                terms[name] = Decimal(repr(value))
            case "guidance", Guidance():
                terms[name] = domain.Guidance(
                    goal=value.goal,
                    key_actions=tuple(value.key_actions),
                    assessment_criteria=tuple(value.assessment_criteria),
                )
            case "entry_requirements", _:
                terms[name] = tuple(domain.FieldRequirement(each.path) for each in value)
            case "loss_reasons", _:
                terms[name] = tuple(domain.LossReason(each.key, each.name) for each in value)
            case _:
                terms[name] = value
    return replace(stage, idle=replace(stage.idle, **rule), **terms)


def _rate(share: Decimal | None) -> float | None:
    return None if share is None else float(share)
