"""Webhooks in the domain's words: an endpoint, what it asks for, what becomes of a delivery.

An endpoint is told of events that pass its filter, each time under the next number of its own
sequence. A delivery is one event for one endpoint; an attempt is one request. When to try again is
`domain.webhook_retries`' business, where to send to `domain.webhook_target`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.domain.access import Sight

TESTED: Final = "webhook.test"
"""The event that an endpoint is sent on demand; the feed has it, no other endpoint is sent it."""
DISABLED: Final = "webhook_endpoint.disabled"

MOST_ENDPOINTS: Final = 100
"""Of a workspace: each is asked about whenever something happens."""
MOST_SECRETS: Final = 5
"""That an endpoint may have at a time: every delivery bears a signature of each."""


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Disabling(StrEnum):
    """Why an endpoint is sent nothing any more."""

    REQUESTED = "requested"
    GONE = "gone"  # it answered 410
    FAILING = "failing"  # for days there was nothing but failures


class Failure(StrEnum):
    """Why an attempt got no answer at all."""

    URL_REFUSED = "url_refused"
    UNRESOLVABLE = "unresolvable"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    CONNECTION_LOST = "connection_lost"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What an endpoint wants to be told of; what is empty or None leaves nothing out."""

    types: tuple[str, ...] = ()
    pipeline_id: UUID | None = None
    stages: tuple[str, ...] = ()
    include_historical: bool = False

    def concerns(self, type_: str, data: Mapping[str, Any]) -> bool:
        """Whether an event that passed types, pipeline and history is wanted for its stage too.

        The stage is the one that the deal entered, or stands in; an event that says none is about
        no stage, and passes only where none is asked for. Tests are sent to their endpoint when
        they are made, and to nobody by the feed.
        """
        if type_ == TESTED:
            return False
        return not self.stages or data.get("to_stage", data.get("stage")) in self.stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A receiver. `pipeline` is the key of its subscription's; a version a visible change.

    It is told of what its maker may see: `sight`.
    """

    endpoint_id: UUID
    version: int
    url: str
    description: str
    subscription: Subscription
    pipeline: str | None
    position: tuple[int, int, int]  # the feed has been looked through for it up to here
    disabled_at: datetime | None
    disabled_reason: Disabling | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    sight: Sight


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for an endpoint, under a number. `attempts` counts one that is under way.

    `next_attempt_at` is the latest, `replay_of` the number under which the endpoint had it last.
    """

    endpoint_id: UUID
    sequence: int
    event_id: UUID
    event_type: str
    position: tuple[int, int, int]
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    replay_of: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a request. One whose worker died has left none; its number is missing."""

    number: int
    started_at: datetime
    seconds: float
    status: int | None
    failure: Failure | None
    response: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an attempt met with: a status, or a failure; and the beginning of what was said."""

    seconds: float
    status: int | None = None
    failure: Failure | None = None
    retry_after: str | None = None
    text: str = ""

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        return self.status == 410
