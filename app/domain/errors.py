"""Everything that Sluice refuses, and why: one class a reason, one stable `code` a class.

    SluiceError
    ├── Malformed             the request cannot be read at all
    │   └── InvalidCursor
    ├── Unauthenticated       no credential, or none that holds
    ├── Forbidden             known, but not allowed to do this
    ├── NotFound              not there, or in another workspace: the two are never told apart
    ├── Conflict              the state of things forbids it now
    │   ├── AlreadyExists · AlreadyThere · AlreadyClosed · PipelineArchived · StageArchived
    │   ├── StageHoldsDeals · HandedOff · NotLastTransition · AlreadyVoided · FlagResolved
    │   └── RequestInProgress · HistoryConflict · EndpointDisabled · TooManyEndpoints
    ├── Stale                 If-Match names a version that has moved on
    ├── VersionRequired       a change of an existing resource came without If-Match
    ├── Invalid               readable, but breaks a rule; `errors` lists every breach at once
    │   ├── InvalidDefinition · MoveNotAllowed · RequirementsMissing · LossReasonRequired
    │   ├── UnknownStage · TimeOutOfRange · IdempotencyKeyReused · CurrencyMissing
    │   └── NotVoidable · UrlRefused
    ├── RateLimited           more than a caller may ask for; `wait` says when to come back
    └── Unavailable           not now; worth trying again
        └── DatabaseUnavailable · Overloaded

The classes say what happened in the field's terms; which HTTP status a branch answers is
`http.problems`' business. `tests/contract` holds every code against the documentation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that is wrong, at one place.

    `pointer` is a JSON Pointer (RFC 6901) into the request's body, or `?name` for a query
    parameter; the empty pointer is the whole body. `code` is stable, `detail` is for people.
    """

    pointer: str
    code: str
    detail: str


class SluiceError(Exception):
    """The root: a refusal with a stable code, a title that never varies, and a detail."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "The request was refused"

    def __init__(self, detail: str, errors: Iterable[Breach] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class Malformed(SluiceError):
    code = "malformed"
    title = "The request could not be read"


class InvalidCursor(Malformed):
    code = "invalid_cursor"
    title = "The cursor belongs to another list, or to none"


class Unauthenticated(SluiceError):
    code = "unauthenticated"
    title = "A valid credential is needed"


class Forbidden(SluiceError):
    code = "forbidden"
    title = "The credential does not allow this"


class NotFound(SluiceError):
    code = "not_found"
    title = "There is no such thing here"


class Conflict(SluiceError):
    code = "conflict"
    title = "The present state forbids it"


class AlreadyExists(Conflict):
    code = "already_exists"
    title = "The name is taken"


class AlreadyThere(Conflict):
    code = "already_there"
    title = "The opportunity is in that stage already"


class AlreadyClosed(Conflict):
    code = "already_closed"
    title = "The opportunity is closed with that outcome already"


class PipelineArchived(Conflict):
    code = "pipeline_archived"
    title = "The pipeline is archived"


class StageArchived(Conflict):
    code = "stage_archived"
    title = "The stage is archived"


class StageHoldsDeals(Conflict):
    code = "stage_holds_deals"
    title = "Open opportunities stand in the stage"


class HandedOff(Conflict):
    code = "handed_off"
    title = "The opportunity went on in another pipeline"


class NotLastTransition(Conflict):
    code = "not_last_transition"
    title = "Only the last standing transition can be voided"


class AlreadyVoided(Conflict):
    code = "already_voided"
    title = "The transition is voided already"


class FlagResolved(Conflict):
    code = "flag_resolved"
    title = "The idle flag is resolved"


class RequestInProgress(Conflict):
    code = "request_in_progress"
    title = "The first request with this idempotency key is still running"


class HistoryConflict(Conflict):
    code = "history_conflict"
    title = "The row lies before what the log already holds"


class EndpointDisabled(Conflict):
    code = "endpoint_disabled"
    title = "The webhook endpoint is disabled"


class TooManyEndpoints(Conflict):
    code = "too_many_endpoints"
    title = "The workspace has as many webhook endpoints as it may"


class Stale(SluiceError):
    code = "stale"
    title = "The resource has changed since"


class VersionRequired(SluiceError):
    code = "if_match_required"
    title = "If-Match is needed to change an existing resource"


class Invalid(SluiceError):
    code = "invalid"
    title = "The request breaks a rule"


class InvalidDefinition(Invalid):
    code = "invalid_definition"
    title = "The pipeline's definition is not valid"


class MoveNotAllowed(Invalid):
    code = "move_not_allowed"
    title = "The pipeline's flow does not allow this move"


class RequirementsMissing(Invalid):
    code = "requirements_missing"
    title = "The stage asks for something that is missing"


class LossReasonRequired(Invalid):
    code = "loss_reason_required"
    title = "A lost stage needs one of its loss reasons"


class UnknownStage(Invalid):
    code = "unknown_stage"
    title = "The pipeline has no such stage"


class TimeOutOfRange(Invalid):
    code = "time_out_of_range"
    title = "The instant is not possible here"


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"
    title = "The idempotency key was used for another request"


class CurrencyMissing(Invalid):
    code = "currency_missing"
    title = "An amount needs its currency"


class NotVoidable(Invalid):
    code = "not_voidable"
    title = "This transition cannot be voided"


class UrlRefused(Invalid):
    code = "url_refused"
    title = "Webhooks are not sent to such a URL"


class RateLimited(SluiceError):
    code = "rate_limited"
    title = "Too many requests in too short a time"

    def __init__(self, detail: str, errors: Iterable[Breach] = (), *, wait: int = 1) -> None:
        """`wait`: whole seconds until it is worth asking again, at least one."""
        super().__init__(detail, errors)
        self.wait = wait


class Unavailable(SluiceError):
    code = "unavailable"
    title = "Not available at the moment"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    title = "The database is not available at the moment"


class Overloaded(Unavailable):
    code = "overloaded"
    title = "More is asked at once than the service takes"
