"""What an error looks like in the API's description. `http.problems` writes it."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from app.http.schemas.common import Response

_EXAMPLE_BREACH: JsonDict = {
    "pointer": "/stages/0/key",
    "code": "wrong_format",
    "detail": "A key has 1 to 63 characters of a-z, 0-9, _ and -,"
    " and begins with a letter or digit",
}


class Breach(Response):
    """One thing that is wrong, at one place."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_BREACH]})

    pointer: Annotated[
        str,
        Field(
            description="Where: a JSON Pointer (RFC 6901) into the body, empty for the whole of it;"
            " `?name` for a query parameter; `{name}` for a part of the path; the name of a header."
        ),
    ]
    code: Annotated[str, Field(description="Stable, for programs.")]
    detail: Annotated[str, Field(description="For people; its words may change.")]


class Problem(Response):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/docs/errors#invalid",
                    "title": "The request breaks a rule",
                    "status": 422,
                    "detail": "See errors: /stages/0/key.",
                    "code": "invalid",
                    "request_id": "5f0d1c3a9b7e4f62d8a1c0b3",
                    "errors": [_EXAMPLE_BREACH],
                }
            ]
        }
    )

    type: Annotated[str, Field(description="The documentation of this code.")]
    title: Annotated[str, Field(description="What the code means; always the same.")]
    status: Annotated[int, Field(description="The HTTP status.", ge=400, le=599)]
    detail: Annotated[str, Field(description="What happened this time, for people.")]
    code: Annotated[
        str, Field(description="Stable, for programs; /docs/errors lists all. More may come.")
    ]
    request_id: Annotated[str, Field(description="`X-Request-Id` of the answer.")]
    errors: Annotated[
        list[Breach], Field(description="Everything that is wrong with the request, at most 100.")
    ]
