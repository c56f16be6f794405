"""Who calls: the credential of a request, checked before anything else is looked at.

A pure ASGI layer inside `RequestMiddleware`, because FastAPI parses a body before it runs a
dependency. It stores the `Principal` in the request's state; what the principal may do is asked by
each route (`deps.allowed`). A key found good is believed for `BELIEVED` seconds, so that a stream
of requests costs one look-up; a revoked key is refused by every worker after that time at the
latest.
"""

import hmac
from time import monotonic
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.api_key import ApiKey
from app.domain.errors import Unauthenticated
from app.storage import access
from app.storage.access import KeyRecord
from app.storage.engine import Database

BELIEVED: Final = 5.0
MOST_BELIEVED: Final = 10_000
OPEN: Final = ("/livez", "/readyz", "/openapi.json", "/openapi-client.json", "/docs")


class Authentication:
    """Lets a request through with a principal, or raises Unauthenticated."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._believed: dict[str, tuple[float, KeyRecord]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            key = await self._key(scope)
            scope.setdefault("state", {})["principal"] = key.principal
            structlog.contextvars.bind_contextvars(
                principal=key.subject, workspace=str(key.workspace_id)
            )
        await self.app(scope, receive, send)

    async def _key(self, scope: Scope) -> KeyRecord:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if given is None:
            raise Unauthenticated("Send Authorization: Bearer <API key>.")
        scheme, _, text = given.decode("latin-1").partition(" ")
        key = ApiKey.parse(text.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise Unauthenticated("The credential is no API key: mistyped, or cut off?")
        record = await self._record(scope["app"].state.database, key.key_id)
        if record is None or not hmac.compare_digest(record.secret_hash, key.secret_hash):
            raise Unauthenticated("The API key is unknown, revoked or expired.")
        return record

    async def _record(self, database: Database, key_id: str) -> KeyRecord | None:
        now = monotonic()
        kept = self._believed.get(key_id)
        if kept is not None and now - kept[0] < BELIEVED:
            return kept[1]
        async with database.read(None) as connection:
            record = await access.find_key(connection, key_id)
        if record is None:
            self._believed.pop(key_id, None)
            return None
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[key_id] = (now, record)
        return record


def is_open(path: str) -> bool:
    """Whether anyone may ask for the path: health, the API's description and documentation."""
    return path in OPEN or path.startswith("/docs/")
