"""The API's own description: OpenAPI 3.1 that client generators can take as it is.

FastAPI makes a first version from the routes; here it is completed by rule, so that a route never
spells out what holds for all: operation ids from function names, the problems that an operation may
answer, the headers that go with its status, the scope that it needs. A dependency that demands
scopes bears them in an attribute `scopes` (a tuple; empty for "any credential will do"), which is
what is declared; an operation without such a dependency is public.

It is made by `sluice openapi` and committed; what is served is that file (`http.contract`).
"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final, cast, get_args

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts
from pydantic import BaseModel

from app.http import wording
from app.http.codes import CODES
from app.http.links import link
from app.http.problems import MEDIA_TYPE
from app.http.schemas import common
from app.http.schemas.events import EVENTS
from app.http.schemas.problem import Breach, Problem
from app.http.strictness import JSON, MERGE_PATCH, StrictRoute

SECURITY_SCHEME: Final = "apiKey"

_REF: Final = "#/components/schemas/{model}"
_METHODS: Final = ("get", "put", "post", "delete", "patch")
_RESPONSE_NAMES: Final = {
    400: "Malformed",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    412: "Stale",
    413: "PayloadTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    428: "IfMatchRequired",
    429: "RateLimited",
    500: "InternalError",
    503: "Unavailable",
}
_HEADERS: Final = {
    "Accept": ("The media types that are read here.", "application/json"),
    "Accept-Encoding": ("`identity`, where the body's coding is refused.", "identity"),
    "Content-Disposition": (
        "The name that the file may be given.",
        'attachment; filename="audit-log.ndjson"',
    ),
    "ETag": ("The version of the answer, for `If-Match` and `If-None-Match`.", '"1"'),
    "Idempotent-Replayed": ("`true`: this is the first answer, told again.", "true"),
    "Link": ('The next page, as `<…>; rel="next"`; absent on the last.', '</v1/…>; rel="next"'),
    "Location": ("The path of what was created, or of what was taken on.", "/v1/…"),
    "RateLimit": (
        "What is left of each limit that the request drew on: `r` requests, to last `t` seconds.",
        '"key";r=9999;t=1, "workspace";r=39999;t=1',
    ),
    "RateLimit-Policy": (
        "These limits: `q` requests at once, which come back within `w` seconds.",
        '"key";q=10000;w=10, "workspace";q=40000;w=10',
    ),
    "Retry-After": ("How many seconds to wait before asking again.", "1"),
    "WWW-Authenticate": ("Always `Bearer`.", "Bearer"),
}
_HEADERS_OF_WEBHOOK: Final = {
    "webhook-id": ("The event's id.", "019a8f0e-7d4c-7b31-8e22-5c6d7e8f9a0b"),
    "webhook-timestamp": ("When it was sent, in whole seconds since 1970.", "1763303400"),
    "webhook-signature": ("A signature for each secret of the endpoint.", "v1,K5oZfzN95Z9UVu1E…"),
    "webhook-sequence": ("The delivery's number among those of the endpoint.", "42"),
}
_SUCCESS: Final = {
    "200": "Done.",
    "201": "Created.",
    "202": "Taken on; it goes on in the background.",
    "204": "Done; there is nothing to say.",
}
# Of every answer to a caller who is known, problems included: components, because they are many.
_LIMITS: Final = {
    name: {"$ref": f"#/components/headers/{name}"} for name in ("RateLimit", "RateLimit-Policy")
}
_HEADERS_OF_PROBLEM: Final = {
    401: ("WWW-Authenticate",),
    415: ("Accept", "Accept-Encoding"),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def text(app: FastAPI) -> str:
    """The description as it is committed: in a stable order, one fact a line."""
    return json.dumps(document(app), ensure_ascii=False, indent=2) + "\n"


def document(app: FastAPI) -> dict[str, Any]:
    """The whole description. Raises ValueError where two operations would bear the same id."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        tags=app.openapi_tags,
        **wording.info(),
    )
    seen: set[str] = set()
    for route in iter_route_contexts(app.routes):
        item = described["paths"].get(route.path_format, {})
        for method in sorted(route.methods or ()):
            operation = item.get(method.lower())
            if operation is None:
                continue
            operation["operationId"] = operation_id(route.name or "")
            if operation["operationId"] in seen:
                raise ValueError(f"two operations are called {operation['operationId']}")
            seen.add(operation["operationId"])
            _complete(operation, method.lower(), route, described)
    described["paths"] = {
        path: {method: item[method] for method in _METHODS if method in item}
        for path, item in sorted(described["paths"].items())
    }
    link(described)
    _complete_components(described.setdefault("components", {}))
    schemas = described["components"]["schemas"]
    if webhooks := dict(_webhook(event) for event in EVENTS if event.__name__ in schemas):
        described["webhooks"] = webhooks
    return described


def operation_id(function: str) -> str:
    """`create_transition` is `createTransition` in every client."""
    first, *rest = function.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _complete(
    operation: dict[str, Any], method: str, route: RouteContext, described: dict[str, Any]
) -> None:
    scopes = _scopes(cast("Dependant", route.dependant))
    operation["security"] = [] if scopes is None else [{SECURITY_SCHEME: sorted(scopes)}]
    if operation["summary"] == (route.name or "").replace("_", " ").title():
        operation["summary"] = operation["summary"].capitalize()

    parameters = operation.get("parameters", [])
    for parameter in parameters:
        parameter["schema"] = _parameter(parameter["schema"])
        if parameter["name"] in wording.PARAMETERS:
            parameter.setdefault("description", wording.PARAMETERS[parameter["name"]])
    names = {parameter["name"] for parameter in parameters}
    responses = operation["responses"]
    if "HTTPValidationError" in json.dumps(responses.get("422", "")):
        del responses["422"]

    for status, response in responses.items():
        if status.startswith("2"):
            if response["description"] in ("Successful Response", "Created"):
                response["description"] = _SUCCESS[status]
            # A route may name headers that no rule gives it: `{"headers": {"ETag": {}}}`.
            special = response.get("headers", {})
            for name in (*special, *_headers_of_success(method, status, names)):
                response.setdefault("headers", {})[name] = _header(name)
            if scopes is not None:
                response.setdefault("headers", {}).update(_LIMITS)
    if "If-None-Match" in names and method == "get":
        unchanged = {
            "description": "What the caller holds is still the answer.",
            "headers": {"ETag": _header("ETag"), **(_LIMITS if scopes is not None else {})},
        }
        responses.setdefault("304", unchanged)
    if method == "patch":
        content = operation["requestBody"]["content"]
        content.setdefault(MERGE_PATCH, content[JSON])

    in_path = any(parameter["in"] == "path" for parameter in parameters)
    named = names | _fields_of_body(operation, described)
    strict = isinstance(route.original_route, StrictRoute)
    statuses = {400, 500, 503}
    statuses |= {401, 403, 429} if scopes is not None else set()
    statuses |= {404} if in_path or "pipeline" in named else set()
    statuses |= {409} if method != "get" else set()
    statuses |= {412, 428} if "If-Match" in names and method != "post" else set()
    statuses |= {412} if "If-Match" in names else set()
    statuses |= {413, 415} if "requestBody" in operation or (strict and method != "get") else set()
    statuses |= {422} if parameters or "requestBody" in operation or strict else set()
    for status in sorted(statuses):
        reference = {"$ref": f"#/components/responses/{_RESPONSE_NAMES[status]}"}
        responses.setdefault(str(status), reference)


def _parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without what only a body can have: a parameter is left out, never null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema = {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    return {key: value for key, value in schema.items() if key not in {"title", "description"}}


def _fields_of_body(operation: dict[str, Any], described: dict[str, Any]) -> set[str]:
    schema = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema", {})
    model = schema.get("$ref", "").rpartition("/")[2]
    return set(described["components"]["schemas"].get(model, {}).get("properties", ()))


def _headers_of_success(method: str, status: str, parameters: set[str]) -> Iterator[str]:
    changes = method in {"patch", "put"}
    if status == "201" or (changes and status == "200") or "If-None-Match" in parameters:
        yield "ETag"
    if status in ("201", "202"):
        yield "Location"
    if method == "post" and "Idempotency-Key" in parameters:
        yield "Idempotent-Replayed"
    if "cursor" in parameters:
        yield "Link"


def _webhook(event: type[BaseModel]) -> tuple[str, dict[str, Any]]:
    """What an endpoint is sent of events of one type, and how it should answer."""
    (type_,) = get_args(event.model_fields["type"].annotation)
    summary = " ".join((event.__doc__ or "").split())
    return type_, {
        "post": {
            "tags": ["events"],
            "operationId": f"on{event.__name__.removesuffix('Event')}",
            "summary": summary.partition(". ")[0].removesuffix("."),
            "description": f"{summary}\n\nSigned by Standard Webhooks 1.0 over id, timestamp and "
            "body as it came. A delivery may come twice, under the same `webhook-id`.",
            "security": [],
            "parameters": [
                {
                    "name": name,
                    "in": "header",
                    "required": True,
                    "description": description,
                    "schema": {"type": "string"},
                    "example": example,
                }
                for name, (description, example) in _HEADERS_OF_WEBHOOK.items()
            ],
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": {"$ref": _REF.format(model=event.__name__)}}},
            },
            "responses": {
                "2XX": {"description": "Taken. Whatever else is answered, it is tried again."},
                "410": {"description": "Never again: the endpoint is disabled."},
            },
        }
    }


def _header(name: str) -> dict[str, Any]:
    description, example = _HEADERS[name]
    return {"description": description, "schema": {"type": "string"}, "example": example}


def _scopes(dependant: Dependant) -> set[str] | None:
    """The scopes that the route's dependencies demand; nothing where no credential is needed."""
    demanded: set[str] | None = None
    for dependency in dependant.dependencies:
        scopes = getattr(dependency.call, "scopes", None)
        for found in (scopes, _scopes(dependency)):
            if found is not None:
                demanded = (demanded or set()) | set(found)
    return demanded


def _complete_components(components: dict[str, Any]) -> None:
    schemas = components.setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for written in (Breach, Problem):  # no route names them
        schema = written.model_json_schema(mode="serialization", ref_template=_REF)
        schema.pop("$defs", None)
        schemas[written.__name__] = schema
    # FastAPI drops every null, those in examples too, which then lack fields that are required.
    for model in (*_models(common.Request), *_models(common.Response)):
        extra = model.model_config.get("json_schema_extra")
        if model.__name__ in schemas and isinstance(extra, dict) and "examples" in extra:
            schemas[model.__name__]["examples"] = extra["examples"]
    for schema in schemas.values():
        # A title for each field is noise, and makes some generators invent a type for each.
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
    for schema in schemas.values():
        if set(schema.get("properties", ())) == {"items", "page"}:
            of = schema["properties"]["items"]["items"].get("$ref", "").rpartition("/")[2]
            items = schemas.get(of, {}).get("examples", [])[:1]
            schema.setdefault("examples", [{"items": items, "page": {"next_cursor": None}}])
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = {name: _header(name) for name in _LIMITS}
    components["responses"] = dict(sorted(_problem_responses()))
    components["securitySchemes"] = {
        SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "slc_live_<id>_<secret> or JWT",
            "description": "An API key of the workspace or, where the service is configured for"
            " an issuer, a token (JWT) of it. What it must be allowed to do stands beside each"
            " operation.",
        }
    }


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield base
    for model in base.__subclasses__():
        yield from _models(model)


def _problem_responses() -> Iterator[tuple[str, dict[str, Any]]]:
    for status, rows in groupby(CODES.values(), key=lambda row: row.status):
        if status not in _RESPONSE_NAMES:
            continue
        codes = list(rows)
        examples = {
            row.code: {
                "value": {
                    "type": row.type,
                    "title": row.title,
                    "status": status,
                    "detail": row.advice,
                    "code": row.code,
                    "request_id": "5f0d1c3a9b7e4f62d8a1c0b3",
                    "errors": [],
                }
            }
            for row in codes
        }
        response: dict[str, Any] = {
            "description": "\n".join(f"- `{row.code}`: {row.title}." for row in codes),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": _REF.format(model="Problem")},
                    "examples": examples,
                }
            },
        }
        headers = {name: _header(name) for name in _HEADERS_OF_PROBLEM.get(status, ())}
        if status != 401:
            headers |= _LIMITS
        if headers:
            response["headers"] = headers
        yield _RESPONSE_NAMES[status], response
