"""What an operation would never look at is refused, not ignored: a route class for all of `/v1`.

FastAPI reads what an operation declares and passes over the rest. Whoever sends a second `limit`, a
mistyped parameter, a body to an operation without one or a compressed body would get an answer to
another question than the one that was asked. What is declared is checked by its schema; here is
only what no schema sees.
"""

import json
from collections.abc import Callable, Coroutine, Iterator
from email.message import Message
from typing import Any, Final, get_args, get_origin

from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException

from app.domain.errors import Breach, Invalid, Malformed

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
FORM: Final = "multipart/form-data"

_USUAL: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})


class StrictRoute(APIRoute):
    """A route that takes what it declares, and nothing else: 400, 415 or 422."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = _Parameters(self.dependant)
        body = self.body_field
        methods = self.methods or set()
        safe = methods <= {"GET", "HEAD"}
        allowed: tuple[str, ...] = (
            (FORM,) if body and isinstance(body.field_info, params.Form) else (JSON,)
        )
        if "PATCH" in methods:
            allowed += (MERGE_PATCH,)

        async def strictly(request: Request) -> Response:
            if not safe and (body is not None or await request.body()):
                _check_media(request, allowed)
            if request.scope["query_string"]:
                known.check(request)
            if not safe and body is None:
                _check_empty(await request.body())
            return await handle(request)

        return strictly


class _Parameters:
    """The query parameters of an operation: which may be repeated, and whether others may come."""

    def __init__(self, dependant: Dependant) -> None:
        self.single: set[str] = set()
        self.repeated: set[str] = set()
        self.open = False  # to names that its model looks at itself, as metrics do at attributes
        for name, field, model in _declared(dependant):
            (self.repeated if _is_list(field.annotation) else self.single).add(name)
            self.open |= model is not None and model.model_config.get("extra") == "allow"

    def check(self, request: Request) -> None:
        """Raises Invalid for a parameter that nobody looks at, the repetition of one included."""
        breaches = []
        given = [name for name, _ in request.query_params.multi_items()]
        for name in dict.fromkeys(given):
            pointer = f"?{name[:100]}"
            if name in self.single:
                if given.count(name) > 1:
                    breaches.append(Breach(pointer, "duplicate", "It can be given once only."))
            elif name not in self.repeated and not self.open:
                detail = "This operation has no parameter of that name."
                breaches.append(Breach(pointer, "unknown_field", detail))
        if breaches:
            raise Invalid(f"See errors: {', '.join(b.pointer for b in breaches[:3])}.", breaches)


def _declared(dependant: Dependant) -> Iterator[tuple[str, FieldInfo, type[BaseModel] | None]]:
    for parameter in dependant.query_params:
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, field in model.model_fields.items():
                yield field.alias or name, field, model
        else:
            yield parameter.alias, parameter.field_info, None
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(part) for part in get_args(annotation))


def _check_media(request: Request, allowed: tuple[str, ...]) -> None:
    # One pass over the raw headers: this stands before every write.
    for name, value in request.scope["headers"]:
        if name == b"content-type" and not (value in _USUAL and JSON in allowed):
            _check_type(value.decode("latin-1"), allowed)
        elif name == b"content-encoding" and value.lower() != b"identity":
            headers = {"Accept": ", ".join(allowed), "Accept-Encoding": "identity"}
            detail = f"The Content-Encoding is {value.decode('latin-1')}."
            raise HTTPException(415, detail, headers)


def _check_type(sent: str, allowed: tuple[str, ...]) -> None:
    message = Message()
    message["content-type"] = sent
    charset = message.get_param("charset", "utf-8")
    if message.get_content_type() not in allowed or str(charset).lower() not in ("utf-8", "utf8"):
        raise HTTPException(415, f"The Content-Type is {sent}.", {"Accept": ", ".join(allowed)})


def _check_empty(body: bytes) -> None:
    """An operation without a body takes none, or `{}` from clients that always send one."""
    if not body:
        return
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is not JSON; this operation takes none.") from error
    if not isinstance(sent, dict):
        detail = "This operation takes no body, or an empty object."
        raise Invalid(detail, [Breach("", "wrong_type", detail)])
    if sent:
        detail = "This operation takes no fields."
        pointers = ("/" + name.replace("~", "~0").replace("/", "~1")[:100] for name in sent)
        raise Invalid(detail, [Breach(pointer, "unknown_field", detail) for pointer in pointers])
