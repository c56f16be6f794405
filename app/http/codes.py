"""The table of every `code` that a problem may bear: its status, its title, what to do about it.

A refusal of the domain has its code and title from its class (`domain.errors`) and its status from
the branch it stands on; HTTP adds a few of its own. The table is part of the contract: tests hold
docs/errors.md, the page at /docs/errors and the OpenAPI document against it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from app.domain import errors

STATUS_OF_BRANCH: Final[Mapping[type[errors.SluiceError], int]] = MappingProxyType(
    {
        errors.Malformed: 400,
        errors.Unauthenticated: 401,
        errors.Forbidden: 403,
        errors.NotFound: 404,
        errors.Conflict: 409,
        errors.Stale: 412,
        errors.Invalid: 422,
        errors.VersionRequired: 428,
        errors.RateLimited: 429,
        errors.Unavailable: 503,
    }
)

# What the one who gets it should do. A new error class is not done before it has its line here.
ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "malformed": "Send well-formed JSON in UTF-8, and headers as their standards write them.",
        "invalid_cursor": "Begin the list anew without `cursor`, and keep the filters the same"
        " while following `next_cursor`.",
        "unauthenticated": "Send `Authorization: Bearer <API key>` with a key that is neither"
        " expired nor revoked, or a good token of the issuer that is configured.",
        "forbidden": "Use a credential that has the scope which the operation declares.",
        "not_found": "Check the id or key. What belongs to another workspace is not found either.",
        "route_not_found": "Check the path against the API's description at `/openapi.json`.",
        "method_not_allowed": "Use one of the methods that `Allow` lists.",
        "conflict": "Read the present state and decide anew.",
        "already_exists": "Choose another name, or change the one that exists.",
        "already_there": "Nothing to do: the move has happened.",
        "already_closed": "Nothing to do. To close it anew, reopen it first.",
        "pipeline_archived": "Use a pipeline that is in use.",
        "stage_archived": "Use a stage that is in use.",
        "stage_holds_deals": "Say in `move_open_to` where its open opportunities go.",
        "handed_off": "Follow `continued_as` to the opportunity in the other pipeline.",
        "not_last_transition": "Void the later transitions first, the last one first.",
        "already_voided": "Nothing to do: the transition is out of every figure.",
        "flag_resolved": "Nothing to do: the idle episode is over.",
        "request_in_progress": "Send the same request again in a moment: it gets the first answer.",
        "history_conflict": "Import all rows of the deal from that instant on with"
        " `on_conflict=rewrite`: they replace the log from there on, moves that only the log had"
        " are voided.",
        "endpoint_disabled": 'Enable it by `PATCH` with `{"enabled": true}` first.',
        "too_many_endpoints": "Delete an endpoint that is not needed any more.",
        "stale": "Read the resource again, decide anew, and send its new `ETag` in `If-Match`.",
        "payload_too_large": "Send less at a time: 1 MiB a request, 256 MiB an import.",
        "unsupported_media_type": "Send `Content-Type: application/json` in UTF-8 (for a PATCH also"
        " `application/merge-patch+json`, for an import `multipart/form-data`), and no coded body.",
        "invalid": "Mend what `errors` lists; each entry says where it is.",
        "invalid_definition": "Mend what `errors` lists; the definition as it was stays in force.",
        "move_not_allowed": "Ask `next-stages` where the opportunity may go.",
        "requirements_missing": "Supply what `errors` lists, or override with a reason.",
        "loss_reason_required": "Send a `loss_reason` from the list of the stage.",
        "unknown_stage": "Use the key of a stage of this pipeline.",
        "time_out_of_range": "Send an instant that is neither in the future nor before the last"
        " transition; older history is imported.",
        "idempotency_key_reused": "Make a new key for each new request.",
        "currency_missing": "Send the currency together with the amount.",
        "not_voidable": "See `detail` for what stands in the way.",
        "url_refused": "Use an https URL whose host has public addresses only; `errors` says what"
        " is wrong with this one.",
        "if_match_required": "Send the `ETag` of the version that you read in `If-Match`, or `*`.",
        "headers_too_large": "Send fewer or shorter headers, and a shorter URL: 64 KiB in all.",
        "rate_limited": "Wait `Retry-After` seconds; `detail` names the limit, and `RateLimit` says"
        " what is left of each.",
        "internal_error": "Our mistake. Report it with the `request_id`; nothing was changed unless"
        " a later read says so.",
        "unavailable": "Send the request again after `Retry-After` seconds.",
        "database_unavailable": "Send the request again after `Retry-After` seconds.",
        "overloaded": "Send the request again after `Retry-After` seconds.",
    }
)

# The codes of one entry in `errors`: first what is wrong with the shape of a request, then what the
# rules of the domain find. A test reads the code for every one that it makes.
BREACHES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "required": "It is missing.",
        "unknown_field": "There is no field or parameter of that name.",
        "wrong_type": "Another JSON type is expected.",
        "wrong_format": "It is not written as it should be.",
        "not_one_of": "It is none of the values that are allowed.",
        "too_short": "It is shorter, or holds less, than it must.",
        "too_long": "It is longer, or holds more, than it may.",
        "out_of_range": "The number is too small or too large.",
        "duplicate": "It is there more than once.",
        "unknown_timezone": "It is no IANA time zone, like Europe/Berlin.",
        "unknown_stage": "The pipeline has no such stage, or none in use.",
        "unknown_loss_reason": "No lost stage of the pipeline has this loss reason.",
        "loss_reason_required": "A lost stage needs one of its loss reasons.",
        "not_lost": "Only a lost stage takes a loss reason: leave it out.",
        "required_by_stage": "The stage asks for it before a deal enters.",
        "time_out_of_range": "The instant lies in the future, or before what it must follow.",
        "other_pipeline": "The opportunity is in another pipeline: hand it off instead.",
        "unknown_column": "The file's header does not have the column just once.",
        "unresolvable": "No address is known for the host.",
        "not_public": "The host has an address that is not of the public Internet.",
        "not_frozen": "A move does not freeze this dimension: ask `attribution=current`.",
        "no_open_stage": "The pipeline needs an open stage on its path.",
        "no_won_stage": "The pipeline needs a won stage.",
        "no_lost_stage": "The pipeline needs a lost stage.",
        "too_many_stages": "The pipeline would have more stages in its life than one may.",
        "immutable": "It stays what it was when it was made.",
        "reserved": "This name is kept: for imported history, or for the service itself.",
        "open_stages_only": "Only an open stage has this.",
        "lost_stages_only": "Only a lost stage has loss reasons.",
        "not_requirable": "A stage requires a field of the list, or a path under `/attributes/`.",
        "graph_only": "Only the flow `graph` lists its moves.",
        "no_move": "A move leads to another stage.",
        "kind_differs": "The stages are of different kinds.",
        "no_merge": "No other stage is named that is to be merged.",
        "still_in_use": "The stage stays in use, with its deals.",
        "stage_holds_deals": "Open opportunities stand in the stage.",
        "few_open_stages": "(Of `warnings`.) Five to seven open stages serve most processes best.",
        "many_open_stages": "(Of `warnings`.) Five to seven open stages serve most processes best.",
        "critical_at_once": "(Of `warnings`.) Its flags are critical as they open.",
        "unreachable": "(Of `warnings`.) No chain of moves leads to the stage.",
        "cannot_close": "(Of `warnings`.) No chain of moves leads from the stage to a closed one.",
    }
)


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table."""

    code: str
    status: int
    title: str
    advice: str

    @property
    def type(self) -> str:
        """The URI reference that resolves to the entry in the documentation."""
        return f"/docs/errors#{self.code}"


def _refusals(branch: type[errors.SluiceError]) -> Iterator[type[errors.SluiceError]]:
    yield branch
    for kind in branch.__subclasses__():
        yield from _refusals(kind)


def _table() -> Iterator[Code]:
    for branch, status in STATUS_OF_BRANCH.items():
        for kind in _refusals(branch):
            yield Code(kind.code, status, kind.title, ADVICE.get(kind.code, ""))
    for code, status, title in (
        ("route_not_found", 404, "There is no such path"),
        ("method_not_allowed", 405, "The path does not know this method"),
        ("payload_too_large", 413, "The body is too large"),
        ("unsupported_media_type", 415, "The body's media type is not one that is read here"),
        ("headers_too_large", 431, "The request's head is too large"),
        ("internal_error", 500, "Something went wrong inside the service"),
    ):
        yield Code(code, status, title, ADVICE[code])


CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {row.code: row for row in sorted(_table(), key=lambda row: row.status)}
)
"""Every code of a problem, by status."""
