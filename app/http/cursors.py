"""Cursors: where a list goes on, opaque to the caller and signed by the service.

A cursor holds the position of the last item (its sort key and id) and a signature over that
position *and* over what was asked for, so that it opens only the list it came from: another list,
workspace, order or filter, another secret or a changed byte all give `InvalidCursor`. It is signed,
not encrypted: a caller may read from it what the item before it already said.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

from fastapi import Query
from starlette.requests import Request

from app.domain.errors import InvalidCursor

Scalar = str | int | None | datetime | UUID
CursorParameter = Annotated[
    str | None,
    Query(
        alias="cursor",
        description="`page.next_cursor` of the page before; the other parameters as they were.",
        max_length=1024,
    ),
]

_SIGNATURE = 16  # bytes of HMAC-SHA256: 128 bits, beyond forging online


class Cursors:
    """Signs and opens cursors with a secret that every worker shares."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def encode(self, position: Sequence[Scalar], asked: Mapping[str, Any]) -> str:
        """The cursor that goes on after `position` in the list that `asked` describes.

        `asked` is everything that decides which list it is: its name, the workspace, the order, the
        filters; not the limit. Its values are whatever `str` tells apart.
        """
        payload = json.dumps([_plain(value) for value in position], separators=(",", ":")).encode()
        return _spelt(self._signature(payload, asked) + payload)

    def decode(self, cursor: str, asked: Mapping[str, Any]) -> list[Scalar]:
        """The position that was encoded. Raises InvalidCursor for any cursor not of this list."""
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            signed = urlsafe_b64decode(padded)
        except ValueError as error:
            raise _invalid() from error
        signature, payload = signed[:_SIGNATURE], signed[_SIGNATURE:]
        genuine = hmac.compare_digest(signature, self._signature(payload, asked))
        # The decoder skips strange characters and spare bits; a cursor has one spelling only.
        if not genuine or _spelt(signed) != cursor:
            raise _invalid()
        return [_rich(value) for value in json.loads(payload)]

    def _signature(self, payload: bytes, asked: Mapping[str, Any]) -> bytes:
        question = json.dumps(asked, sort_keys=True, default=str).encode()
        message = len(question).to_bytes(4, "big") + question + payload
        return hmac.digest(self._secret, message, "sha256")[:_SIGNATURE]


def next_link(request: Request, cursor: str) -> str:
    """The `Link` header's value for the next page: the same request, further on (RFC 8288).

    The reference is relative to the host, as a service behind a proxy does not know its own name.
    """
    query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    kept = [(name, value) for name, value in query if name != "cursor"]
    target = f"{quote(request.url.path)}?{urlencode([*kept, ('cursor', cursor)])}"
    return f'<{target}>; rel="next"'


def _spelt(signed: bytes) -> str:
    return urlsafe_b64encode(signed).rstrip(b"=").decode()


def _plain(value: Scalar) -> object:
    if isinstance(value, datetime):
        return {"at": value.isoformat()}
    if isinstance(value, UUID):
        return {"id": value.hex}
    return value


def _rich(value: Any) -> Scalar:
    if isinstance(value, dict):
        return datetime.fromisoformat(value["at"]) if "at" in value else UUID(hex=value["id"])
    return value  # type: ignore[no-any-return] # signed by ourselves: a JSON scalar


def _invalid() -> InvalidCursor:
    return InvalidCursor(
        "The cursor does not belong to this list as it is asked for now."
        " Ask without it and follow page.next_cursor, with the same filters."
    )
