"""Every refusal as `application/problem+json` (RFC 9457): the one place that writes an error.

`install` takes over all of FastAPI's and Starlette's own answers; the middleware asks `respond`
for what is raised outside of a route. What a problem says comes from the refusal itself and from
the table in `http.codes`; nothing of an unexpected exception ever leaves the service.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.domain import json_pointer
from app.domain.errors import Breach, RateLimited, SluiceError
from app.http.codes import BREACHES, CODES

MEDIA_TYPE: Final = "application/problem+json"
MOST_BREACHES: Final = 100
RETRY_AFTER: Final = "1"  # seconds; an outage answers quickly, so that asking again costs little

_HEADERS_OF_STATUS: Final = {
    401: {"WWW-Authenticate": "Bearer"},
    415: {"Accept": "application/json, application/merge-patch+json"},
    503: {"Retry-After": RETRY_AFTER},
}
# Pydantic's many error types in our few words; what is not here is a wrong format.
BREACH_OF_TYPE: Final = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "unexpected_keyword_argument": "unknown_field",
    "literal_error": "not_one_of",
    "enum": "not_one_of",
    "union_tag_invalid": "not_one_of",
    "union_tag_not_found": "required",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "bytes_too_long": "too_long",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "int_parsing_size": "out_of_range",
    "multiple_of": "out_of_range",
    "none_required": "wrong_type",
    "int_parsing": "wrong_type",
    "int_from_float": "wrong_type",
    "float_parsing": "wrong_type",
    "bool_parsing": "wrong_type",
}

# The same types in words of ours, which take what the type tells of itself; other types have words
# of their own.
_WORDS: Final = {
    "missing": "It is missing",
    "extra_forbidden": "There is no field or parameter of that name",
    "unexpected_keyword_argument": "There is no field or parameter of that name",
    "literal_error": "It should be one of {expected}",
    "enum": "It should be one of {expected}",
    "union_tag_invalid": "It should be one of {expected_tags}",
    "union_tag_not_found": "It is missing: it says which of several forms is meant",
    "string_too_short": "It should have {min_length} or more characters",
    "string_too_long": "It should have {max_length} characters at most",
    "bytes_too_long": "It should have {max_length} bytes at most",
    "string_pattern_mismatch": "It should be written as the pattern {pattern} says",
    "too_short": "It should hold {min_length} or more",
    "too_long": "It should hold {max_length} at most",
    "greater_than": "It should be more than {gt}",
    "greater_than_equal": "It should be {ge} or more",
    "less_than": "It should be less than {lt}",
    "less_than_equal": "It should be {le} or less",
    "finite_number": "It should be a finite number",
    "int_parsing_size": "It should be a whole number of sensible size",
    "none_required": "It should be null",
    "model_type": "It should be an object",
    "model_attributes_type": "It should be an object",
    "dict_type": "It should be an object",
    "list_type": "It should be an array",
    "tuple_type": "It should be an array",
    "string_type": "It should be a text",
    "bool_type": "It should be true or false",
    "bool_parsing": "It should be true or false",
    "int_type": "It should be a whole number",
    "int_parsing": "It should be a whole number",
    "int_from_float": "It should be a whole number",
    "float_type": "It should be a number",
    "float_parsing": "It should be a number",
    "json_invalid": "It should be JSON",
    "json_type": "It should be JSON, as a text",
}

_MEMBER: Final = re.compile(r"<\w+\.\w+: ('[^']*')>")
"""A member of an enumeration, as Python shows it."""

log = structlog.get_logger("sluice.http")


def install(app: FastAPI) -> None:
    """Have every error of this application answered as a problem."""
    app.add_exception_handler(SluiceError, respond)
    app.add_exception_handler(RequestValidationError, respond)
    app.add_exception_handler(HTTPException, respond)


async def respond(request: Request, error: Exception) -> Response:
    """The problem that answers `error`, whatever it is; the unexpected is logged and kept."""
    match error:
        case RateLimited():
            headers = {"Retry-After": str(error.wait)}
            return problem(request, error.code, error.detail, error.errors, headers)
        case SluiceError():
            return problem(request, error.code, error.detail, error.errors)
        case RequestValidationError():
            return _unprocessable(request, error)
        case HTTPException():
            return _refused_by_framework(request, error)
        case _:
            return _unexpected(request, error)


def problem(
    request: Request,
    code: str,
    detail: str,
    errors: Sequence[Breach] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer with this code of the table."""
    status = CODES[code].status
    return Response(
        written(request, code, detail, errors),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={**_HEADERS_OF_STATUS.get(status, {}), **(headers or {})},
    )


def written(request: Request, code: str, detail: str, errors: Sequence[Breach] = ()) -> bytes:
    """The body of a problem, which a batch has one of for every move that was refused."""
    row = CODES[code]
    body = {
        "type": row.type,
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "code": code,
        "request_id": getattr(request.state, "request_id", ""),
        "errors": [asdict(breach) for breach in errors[:MOST_BREACHES]],
    }
    # A refused lone surrogate may stand in a pointer; it must not break its own refusal.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request.failed", exc_info=error)
    detail = "The service failed to answer. The failure is logged."
    return problem(request, "internal_error", detail)


def _refused_by_framework(request: Request, error: HTTPException) -> Response:
    match error.status_code:
        case 304:
            return Response(status_code=304, headers=error.headers)
        case 400:
            detail = "The body could not be read as JSON in UTF-8 of sensible size and depth."
            return problem(request, "malformed", detail)
        case 404:
            detail = f"No operation has the path {request.url.path}."
            return problem(request, "route_not_found", detail)
        case 405:
            return _not_allowed(request)
        case 413:
            detail = "The body is larger than this operation takes."
            return problem(request, "payload_too_large", detail)
        case 415:
            detail, offered = error.detail, error.headers
            return problem(request, "unsupported_media_type", detail, headers=offered)
        case _:  # the framework raises no other; our own refusals are domain errors
            return _unexpected(request, error)


def _not_allowed(request: Request) -> Response:
    # The router knows only the first route that has the path; RFC 9110 asks for all its methods.
    allowed = ", ".join(sorted(_methods(request, word=True) or _methods(request)))
    detail = f"{request.method} is not allowed here; allowed: {allowed}."
    return problem(request, "method_not_allowed", detail, headers={"Allow": allowed})


def _methods(request: Request, *, word: bool = False) -> set[str]:
    """The methods of all routes that have the path.

    `word`: of those that have a word where others have an id, as `/transitions/batch`.
    """
    path = request.scope["path"]
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        regex = getattr(route, "path_regex", None)
        last = (route.path_format or "").rpartition("/")[2]
        if regex is not None and regex.match(path) and not (word and last.startswith("{")):
            methods |= set(route.methods or ())
    if "GET" in methods:
        methods.add("HEAD")  # the middleware answers it
    return methods


def _unprocessable(request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):  # the framework reads JSON only under a JSON media type
        sent = request.headers.get("content-type", "none")
        return problem(request, "unsupported_media_type", f"The Content-Type is {sent}.")
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        reason, place = found[0]["ctx"]["error"], found[0]["loc"][1]
        where = f"at offset {place}" if isinstance(place, int) else f"in the part {place}"
        return problem(request, "malformed", f"The body is not JSON: {reason}, {where}.")
    if request.method != "PUT" and any(fault["loc"][0] == "path" for fault in found):
        # An id that could never have been given belongs to nothing, unless it is a word of ours.
        # A PUT would make it, and is told what is wrong with it.
        word = _methods(request, word=True)
        if word and request.method not in word:
            return _not_allowed(request)
        return problem(request, "not_found", "The path names nothing that could exist.")
    body = dict(error.body) if isinstance(error.body, FormData) else error.body
    breaches = [_breach(fault, body) for fault in found[:MOST_BREACHES]]
    places = ", ".join(breach.pointer or "the body" for breach in breaches[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return problem(request, "invalid", f"See errors: {places}{more}.", breaches)


def _breach(fault: Mapping[str, Any], body: object) -> Breach:
    source, *path = fault["loc"]
    match source:
        case "query":  # one that is given several times is one parameter
            pointer = f"?{path[0]}"
        case "path":
            pointer = f"{{{path[0]}}}"
        case "header":
            pointer = "-".join(word.capitalize() for word in str(path[0]).split("-"))
        case _:
            path += _discriminator(fault)
            missing = fault["type"] in {"missing", "union_tag_not_found"}
            pointer = "".join(_steps(path, body, missing=missing))
    return Breach(pointer, _breach_code(fault["type"]), _said(fault))


def _said(fault: Mapping[str, Any]) -> str:
    """What is wrong, in our words where there are some."""
    with suppress(KeyError):  # no words; or a type that schemas of ours use too, with their own
        said = _WORDS[fault["type"]].format(**fault.get("ctx", {}))
        return _MEMBER.sub(r"\1", said)[:500]
    detail = str(fault["msg"]).removeprefix("Value error, ")
    return detail[:1].upper() + detail[1:500]


def _discriminator(fault: Mapping[str, Any]) -> list[str]:
    """The field that tells members of a union apart, where it is what is wrong."""
    if not fault["type"].startswith("union_tag_"):
        return []
    return [str(fault["ctx"]["discriminator"]).strip("'")]


def _breach_code(kind: str) -> str:
    if kind in BREACH_OF_TYPE:
        return BREACH_OF_TYPE[kind]
    if kind.endswith("_type"):
        return "wrong_type"
    return kind if kind in BREACHES else "wrong_format"


def _steps(path: Sequence[str | int], body: object, *, missing: bool) -> Iterator[str]:
    """The steps of an RFC 6901 pointer, found by walking the body itself.

    Pydantic's location also names the members of unions and the words `[key]`, which are places
    in the schema and not in the request; they lead nowhere in the body, and are left out.
    """
    for position, part in enumerate(path):
        if isinstance(body, str):  # a part of a form that is itself JSON
            body = _read(body)
        match body:
            case dict() if part in body:
                body = body[part]
            case list() if isinstance(part, int) and part < len(body):
                body = body[part]
            case _ if not (missing and position == len(path) - 1):
                continue
        yield "/" + json_pointer.token(str(part))


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
