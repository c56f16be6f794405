"""What an operation would never look at is refused, not ignored: a route class for all of `/v1`.

FastAPI reads what an operation declares and passes over the rest. Whoever sends a second `limit`, a
mistyped parameter, a body to an operation without one or a compressed body would get an answer to
another question than the one that was asked. What is declared is checked by its schema; here is
only what no schema sees: that, and how much a body may hold before a schema is asked about it.

And nothing is read for who may not ask: FastAPI would take in a form of 256 MiB before it runs the
dependency that refuses its sender, so that one is asked here first.
"""

import json
from collections.abc import Callable, Coroutine, Iterator
from email.message import Message
from itertools import islice
from typing import Any, Final, get_args, get_origin

from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException

from app.domain import json_pointer
from app.domain.errors import Breach, Invalid, Malformed
from app.http.deps import Allowed, OperatorAllowed
from app.http.problems import MOST_BREACHES

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
FORM: Final = "multipart/form-data"

LARGE: Final = 64 * 1024
MOST_MEMBERS: Final = 30_000
"""So many members may stand in all the objects of a body larger than `LARGE` bytes: each that is
wrong is a fault that validation writes down, and a mebibyte has room for 80,000: seconds of work.
"""
MOST_FIELDS: Final = 8
MOST_FILES: Final = 2  # a mapping may come as one

_USUAL: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})


class StrictRoute(APIRoute):
    """A route that takes what it declares, from whom it allows: else 403, 400, 415 or 422."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        allowances = list(_allowances(self.dependant))
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
            for is_allowed in allowances:
                await is_allowed(request)
            if not safe and (body is not None or await request.body()):
                _check_media(request, allowed)
            if request.scope["query_string"]:
                known.check(request)
            if not safe and body is None:
                _check_empty(await request.body())
            elif FORM in allowed:
                await _check_form(request)
            elif not safe and len(await request.body()) > LARGE:
                await _check_members(request)
            return await handle(request)

        return strictly


def _allowances(dependant: Dependant) -> Iterator[Allowed | OperatorAllowed]:
    """What the operation asks of who calls."""
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Allowed | OperatorAllowed):
            yield dependency.call
        yield from _allowances(dependency)


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
        names = islice(sent, MOST_BREACHES)
        raise Invalid(detail, [Breach(_pointer(name), "unknown_field", detail) for name in names])


async def _check_form(request: Request) -> None:
    """Reads the form, which the framework then finds read. A field is kept in memory, a file not.

    Raises Malformed, and Invalid for a part that comes twice, of which one would be passed over.
    """
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise Malformed(f"The form could not be read: {error.detail}") from error
    given = [name for name, _ in form.multi_items()]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        await form.close()
        detail = "It can be given once only."
        breaches = [Breach(_pointer(name), "duplicate", detail) for name in twice]
        raise Invalid(f"See errors: {', '.join(b.pointer for b in breaches)}.", breaches)


async def _check_members(request: Request) -> None:
    try:
        remaining = [await request.json()]
    except (ValueError, RecursionError):
        return  # the framework finds it too, and says where
    members = 0
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            members += len(value)
            remaining += value.values()
        elif isinstance(value, list):
            remaining += value
        if members > MOST_MEMBERS:
            detail = f"Its objects have more than {MOST_MEMBERS} members together."
            raise Invalid(detail, [Breach("", "too_long", detail)])


def _pointer(name: str) -> str:
    return "/" + json_pointer.token(name)[:100]
