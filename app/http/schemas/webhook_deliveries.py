"""What webhook endpoints were sent, and how to have it sent again."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints

from app.actions.replay_webhooks import Stretch
from app.domain import webhook as domain
from app.http.schemas.common import Id, Instant, Page, Request, Response
from app.http.schemas.events import read
from app.http.schemas.transitions import PageQuery
from app.storage import events

_DELIVERY: Final[dict[str, Any]] = {
    "endpoint_id": "019a8f0e-9f6e-7c31-9a24-8b9c0d1e2f30",
    "sequence": 17,
    "event_id": "019a8f0e-7d4c-7b31-8e22-5c6d7e8f9a0b",
    "event_type": "opportunity.transitioned",
    "position": "1-48213-9077",
    "state": "pending",
    "attempts": 1,
    "next_attempt_at": "2026-11-16T14:30:05Z",
    "created_at": "2026-11-16T14:30:00Z",
    "finished_at": None,
    "replay_of": None,
}
_ATTEMPT: Final[dict[str, Any]] = {
    "number": 1,
    "started_at": "2026-11-16T14:30:00.1Z",
    "seconds": 0.182,
    "status": 503,
    "failure": None,
    "response": "Down for maintenance.",
}

PositionText = Annotated[str, StringConstraints(max_length=1024)]
State = Literal["pending", "delivered", "failed"]
Failure = Literal[
    "url_refused",
    "unresolvable",
    "connect_failed",
    "tls_failed",
    "connection_lost",
    "timeout",
]


class WebhookDelivery(Response):
    """An event for an endpoint, under the next number of the endpoint's own sequence."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DELIVERY]})

    endpoint_id: Id
    sequence: int = Field(description="What the delivery bears as `webhook-sequence`.")
    event_id: Id = Field(description="What the delivery bears as `webhook-id`.")
    event_type: str
    position: str = Field(description="The event's place in the feed.")
    state: State
    attempts: int = Field(description="How many there were, one under way among them.")
    next_attempt_at: Instant | None = Field(
        description="While an attempt is under way: when another worker takes over."
    )
    created_at: Instant
    finished_at: Instant | None
    replay_of: int | None = Field(
        description="The number under which the endpoint had this event last."
    )

    @classmethod
    def of(cls, delivery: domain.Delivery) -> "WebhookDelivery":
        return cls.model_construct(**_told(delivery))


class WebhookAttempt(Response):
    """What came of one request: a status, or a failure without one."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ATTEMPT]})

    number: int
    started_at: Instant
    seconds: float
    status: int | None
    failure: Failure | None
    response: str = Field(description="The first 1,024 bytes of what was answered.")

    @classmethod
    def of(cls, attempt: domain.Attempt) -> "WebhookAttempt":
        return cls.model_construct(
            number=attempt.number,
            started_at=attempt.started_at,
            seconds=attempt.seconds,
            status=attempt.status,
            failure=None if attempt.failure is None else attempt.failure.value,
            response=attempt.response,
        )


class WebhookDeliveryLog(WebhookDelivery):
    """A delivery with all that was tried. A number is missing where a worker died in the middle."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_DELIVERY, "log": [_ATTEMPT]}]})

    log: list[WebhookAttempt]

    @classmethod
    def with_attempts(
        cls, delivery: domain.Delivery, attempts: list[domain.Attempt]
    ) -> "WebhookDeliveryLog":
        return cls.model_construct(
            **_told(delivery), log=[WebhookAttempt.of(attempt) for attempt in attempts]
        )


class WebhookDeliveryPage(Page[WebhookDelivery]):
    """A page of an endpoint's deliveries, the last first."""


class WebhookDeliveryQuery(PageQuery):
    """Which of an endpoint's deliveries."""

    state: State | None = None
    event_id: Id | None = Field(default=None, description="Only deliveries of this event.")


class WebhookReplayCreate(Request):
    """A stretch of the feed that is to be sent again, as far as the endpoint asks for it now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"after": "1-48213-9077", "until": "1-48350-9180", "undelivered_only": True}
            ]
        }
    )

    after: PositionText = Field(
        description="A `position` of the feed: what lies behind it. `0-0-0`: from the start."
    )
    until: PositionText | None = Field(
        default=None, description="The last `position` that belongs to it; null: up to now."
    )
    undelivered_only: bool = Field(
        default=False,
        description="Whether to leave out what the endpoint has taken already, or waits for.",
    )

    def stretch(self) -> Stretch:
        """Raises InvalidCursor for what was never a position."""
        return Stretch(
            read(self.after),
            None if self.until is None else read(self.until),
            self.undelivered_only,
        )


class WebhookReplay(Response):
    """What was added: each event is sent under its own id and the next numbers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"deliveries": 118, "next": None}]})

    deliveries: int
    next: str | None = Field(
        description="The `after` to ask with for the rest; null: there is none. "
        "One request looks at no more than 1,000 events."
    )

    @classmethod
    def of(cls, deliveries: int, onward: events.Position | None) -> "WebhookReplay":
        return cls.model_construct(
            deliveries=deliveries, next=None if onward is None else events.written(onward)
        )


def _told(delivery: domain.Delivery) -> dict[str, Any]:
    return {
        "endpoint_id": delivery.endpoint_id,
        "sequence": delivery.sequence,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "position": events.written(delivery.position),
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.next_attempt_at,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
        "replay_of": delivery.replay_of,
    }
