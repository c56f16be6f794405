"""Transitions: the moves that callers ask for, and the log that they read."""

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from app.domain.pipeline import Pipeline
from app.http.schemas.common import (
    Id,
    Instant,
    Key,
    Limit,
    Money,
    Page,
    Query,
    Request,
    Response,
    Text,
)
from app.http.schemas.opportunities import OPPORTUNITY_EXAMPLE, Label, Opportunity, money_of
from app.http.schemas.problem import Breach, Problem
from app.storage.transitions import LogEntry

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-5b2a-7c11-8f00-6a7b8c9d0e1f",
    "opportunity_id": "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a",
    "pipeline": "sales",
    "revision": 4,
    "seq": 3,
    "kind": "advanced",
    "from_stage": "quote",
    "from_stage_name": "Quote",
    "to_stage": "negotiation",
    "to_stage_name": "Negotiation",
    "entered_at": "2026-11-09T14:30:00Z",
    "occurred_at": "2026-11-12T10:15:00Z",
    "recorded_at": "2026-11-12T10:15:00Z",
    "dwell_seconds": 243900.0,
    "amount": {"amount": "1250.00", "currency": "EUR"},
    "probability": 0.7,
    "owner": "mia",
    "team": "north",
    "source": "webinar",
    "priority": "high",
    "loss_reason": None,
    "note": "Budget confirmed",
    "override_reason": None,
    "actor": "crm-sync",
    "linked_opportunity_id": None,
    "historical": False,
    "voided": None,
}

_NEXT_STAGE: Final[dict[str, Any]] = {
    "stage": "negotiation",
    "name": "Negotiation",
    "kind": "open",
    "allowed": False,
    "refusal": None,
    "missing": [
        {
            "pointer": "/amount",
            "code": "required_by_stage",
            "detail": "Negotiation needs a value at /amount.",
        }
    ],
    "loss_reasons": [],
}

_RESULT: Final[dict[str, Any]] = {
    "transition": _EXAMPLE,
    "opportunity": OPPORTUNITY_EXAMPLE,
}
_OUTCOME: Final[dict[str, Any]] = {"status": 201, "result": _RESULT, "problem": None}

Kind = Literal[
    "opened",
    "advanced",
    "skipped",
    "regressed",
    "sidestepped",
    "won",
    "lost",
    "reopened",
    "handed_off",
    "rearranged",
]


class Override(Request):
    """A manager passes the stage's requirements, for a reason that the log keeps."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Agreed with the board"}]})

    reason: Annotated[Text, Field(min_length=1)]


class TransitionCreate(Request):
    """A move. Its kind is derived; whether it is allowed, the pipeline decides."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"to_stage": "negotiation", "note": "Budget confirmed"}]}
    )

    to_stage: Key
    loss_reason: Key | None = Field(
        default=None, description="Needed by a lost stage: one of its loss reasons."
    )
    note: Text | None = None
    occurred_at: Instant | None = Field(
        default=None,
        description="When it happened; null: now. Not before the deal's last transition; up to "
        "60 seconds ahead it is taken as now.",
    )
    override: Override | None = None


class VoidStamp(Response):
    """Who took the transition back, when and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"at": "2026-11-12T11:00:00Z", "by": "mia", "reason": "Wrong deal"}]
        }
    )

    at: Instant
    by: str
    reason: str


class Transition(Response):
    """One row of the log: a move, and the visit that it ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id
    opportunity_id: Id
    pipeline: str
    revision: int = Field(description="The revision of the pipeline that it was decided under.")
    seq: int
    kind: Kind
    from_stage: str | None = Field(description="Null for the opening.")
    from_stage_name: str | None
    to_stage: str
    to_stage_name: str
    entered_at: Instant | None = Field(description="When the deal had entered the stage it left.")
    occurred_at: Instant
    recorded_at: Instant
    dwell_seconds: float | None = Field(description="How long it had been in the stage it left.")
    amount: Money | None
    probability: float | None
    owner: str | None
    team: str | None
    source: str | None
    priority: str | None
    loss_reason: str | None
    note: str | None
    override_reason: str | None
    actor: str
    linked_opportunity_id: Id | None = Field(description="The other end of a hand-off.")
    historical: bool = Field(description="Whether it came by an import.")
    voided: VoidStamp | None

    @classmethod
    def of(cls, entry: LogEntry, pipeline: Pipeline) -> "Transition":
        """A row of the log under any later revision of its pipeline: stages keep their keys."""
        moved, facts = entry.transition, entry.transition.facts
        probability: Decimal | None = facts.probability
        return cls.model_construct(
            id=entry.transition_id,
            opportunity_id=entry.opportunity_id,
            pipeline=pipeline.key,
            revision=entry.revision,
            seq=moved.seq,
            kind=moved.kind.value,
            from_stage=None if moved.from_slot is None else pipeline.by_slot[moved.from_slot].key,
            from_stage_name=entry.from_name,
            to_stage=pipeline.by_slot[moved.to_slot].key,
            to_stage_name=entry.to_name,
            entered_at=moved.entered_at,
            occurred_at=moved.occurred_at,
            recorded_at=entry.recorded_at,
            dwell_seconds=None
            if moved.entered_at is None
            else (moved.occurred_at - moved.entered_at).total_seconds(),
            amount=money_of(facts.amount, facts.currency),
            probability=None if probability is None else float(probability),
            owner=facts.owner,
            team=facts.team,
            source=facts.source,
            priority=facts.priority,
            loss_reason=moved.loss_reason,
            note=entry.note,
            override_reason=entry.override_reason,
            actor=entry.actor,
            linked_opportunity_id=entry.linked_id,
            historical=entry.import_id is not None,
            voided=None
            if entry.voided_at is None
            else VoidStamp.model_construct(
                at=entry.voided_at, by=entry.voided_by or "", reason=entry.void_reason or ""
            ),
        )


class TransitionResult(Response):
    """What a move did: the row of the log, and the deal as it stands now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RESULT]})

    transition: Transition
    opportunity: Opportunity


class TransitionPage(Page[Transition]):
    """A page of the log."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_EXAMPLE], "page": {"next_cursor": None}}]}
    )


class PageQuery(Query):
    """Where a list goes on, and how much of it."""

    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1024)] = None


class TransitionQuery(PageQuery):
    """Which rows of the log, newest first."""

    pipeline: Key | None = None
    kind: Kind | None = None
    owner: Label | None = None
    occurred_from: Instant | None = Field(default=None, description="At or after.")
    occurred_to: Instant | None = Field(default=None, description="Before.")
    voided: bool | None = Field(default=None, description="Null: standing and voided ones.")

    def asked(self) -> dict[str, Any]:
        """What decides which list it is, for its cursors."""
        return self.model_dump(exclude={"limit", "cursor"})


class BatchMoveCreate(TransitionCreate):
    """One move of a batch; `version` is what If-Match is to a single one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "opportunity_id": _EXAMPLE["opportunity_id"],
                    "to_stage": "negotiation",
                    "version": 3,
                }
            ]
        }
    )

    opportunity_id: Id
    version: int | None = Field(default=None, ge=1)


class TransitionBatchCreate(Request):
    """Up to 1,000 moves. Those of one deal happen in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"moves": [{"opportunity_id": _EXAMPLE["opportunity_id"], "to_stage": "won"}]}
            ]
        }
    )

    moves: Annotated[list[BatchMoveCreate], Field(min_length=1, max_length=1000)]


class BatchOutcome(Response):
    """What became of one move: a result or a problem."""

    model_config = ConfigDict(json_schema_extra={"examples": [_OUTCOME]})

    status: int = Field(description="What the move alone would have been answered: 201, 409 …")
    result: TransitionResult | None
    problem: Problem | None


class TransitionBatchResult(Response):
    """The outcome of every move, in the order in which they were sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"outcomes": [_OUTCOME]}]})

    outcomes: list[BatchOutcome]


class TransitionVoid(Request):
    """Why a transition is taken back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Wrong deal"}]})

    reason: Annotated[Text, Field(min_length=1)]


class HandOffCreate(Request):
    """Where a deal goes on."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"pipeline": "onboarding", "note": "Signed"}]}
    )

    pipeline: Key
    stage: Key | None = Field(
        default=None, description="Where it opens there; null: in the first open stage."
    )
    occurred_at: Instant | None = None
    note: Text | None = None


class LossReasonChoice(Response):
    """A reason that may be given."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key": "price", "name": "Too expensive"}]}
    )

    key: str
    name: str


class NextStage(Response):
    """A stage where the deal might go, and what stands against it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEXT_STAGE]})

    stage: str
    name: str
    kind: Literal["open", "won", "lost"]
    allowed: bool = Field(description="Whether a move there would succeed as things are.")
    refusal: str | None = Field(description="What the process has against it, in words.")
    missing: list[Breach] = Field(description="What the deal lacks to enter it.")
    loss_reasons: list[LossReasonChoice] = Field(description="For a lost stage: one is needed.")


class NextStages(Response):
    """Every stage in use but the deal's own, in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_NEXT_STAGE]}]})

    items: list[NextStage]
