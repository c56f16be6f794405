"""The answer of a write, made before its commit: it is kept with the effect, byte for byte."""

from fastapi import Response
from pydantic import BaseModel

from app.storage.idempotency import Answer


def created(body: BaseModel, *, location: str, etag: str | None) -> Answer:
    """201, where the new thing is and what it is."""
    return Answer(201, body.__pydantic_serializer__.to_json(body), location, etag)


def done(body: BaseModel, *, etag: str | None = None) -> Answer:
    """200, and what there is to see."""
    return Answer(200, body.__pydantic_serializer__.to_json(body), None, etag)


def sent(answer: Answer) -> Response:
    """The answer on its way, marked when it is an earlier one told again."""
    headers = {
        name: value
        for name, value in (
            ("Location", answer.location),
            ("ETag", answer.etag),
            ("Idempotent-Replayed", "true" if answer.replayed else None),
        )
        if value is not None
    }
    return Response(answer.body, answer.status, headers, media_type="application/json")
