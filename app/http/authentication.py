"""Who calls: the credential of a request, checked before anything else is looked at.

It is an API key or, where an issuer is configured, a token (`http.tokens`); their forms have
nothing in common. A pure ASGI layer inside `RequestMiddleware`, because FastAPI parses a body
before it runs a dependency. It stores the caller in the request's state; what the caller may do is
asked by each route (`deps.Allowed`). A key found good is believed for `BELIEVED` seconds, so that a
stream of requests costs one look-up; a revoked key is refused by every worker after that time at
the latest.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.access import Operator, Principal
from app.domain.api_key import PREFIX, ApiKey
from app.domain.errors import DatabaseUnavailable, Unauthenticated
from app.http.limits import WrongKeys
from app.storage import access
from app.storage.access import KeyRecord
from app.storage.engine import Database, Lock

if TYPE_CHECKING:
    from app.http.tokens import Tokens

BELIEVED: Final = 5.0
MOST_BELIEVED: Final = 10_000
USE_NOTED: Final = timedelta(minutes=1)
"""So often is it written down that a key is in use."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
OPEN: Final = ("/", "/livez", "/readyz", "/openapi.json", "/openapi-client.json", "/docs")


class Authentication:
    """Lets a request through with its caller, or raises Unauthenticated."""

    def __init__(self, app: ASGIApp, wrong_keys: WrongKeys) -> None:
        self.app = app
        self._wrong_keys = wrong_keys
        self._believed: dict[str, tuple[float, KeyRecord]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            caller = await self._caller(scope)
            scope.setdefault("state", {})["caller"] = caller
            structlog.contextvars.bind_contextvars(principal=caller.subject)
            if isinstance(caller, Principal):
                structlog.contextvars.bind_contextvars(workspace=str(caller.workspace_id))
        await self.app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Principal | Operator:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if given is None:
            raise Unauthenticated("Send Authorization: Bearer <API key>.")
        scheme, _, text = given.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(
                "The scheme of Authorization is Bearer: send Authorization: Bearer <API key>."
            )
        text = text.strip()
        state = scope["app"].state
        if state.tokens is not None and is_token(text):
            tokens: Tokens = state.tokens
            try:
                return await tokens.caller(text, state.database)
            except Unauthenticated:
                self._wrong_keys.check(scope)
                self._wrong_keys.count(scope)
                raise
        key = ApiKey.parse(text)
        if key is None:
            kind = "API key" if state.tokens is None else "API key and no token"
            raise Unauthenticated(f"The credential is no {kind}: mistyped, or cut off?")
        record = await self._record(scope, key)
        if record is None:
            raise Unauthenticated("The API key is unknown, revoked or expired.")
        return record.caller

    async def _record(self, scope: Scope, key: ApiKey) -> KeyRecord | None:
        """What is known of the key, if its secret is the right one."""
        now = monotonic()
        kept = self._believed.get(key.key_id)
        is_right = kept is not None and _is_right(kept[1], key)
        if not is_right:  # what was good is let in, and looked up, at any time
            self._wrong_keys.check(scope)
        if kept and now - kept[0] < BELIEVED and kept[1].is_good(datetime.now(UTC)):
            if is_right:
                return kept[1]
            self._wrong_keys.count(scope)
            return None
        database: Database = scope["app"].state.database
        async with database.read(None) as connection:
            record = await access.find_key(connection, key.key_id)
        if record is None:
            self._believed.pop(key.key_id, None)
        else:  # a wrong secret makes nobody forget the right one
            if len(self._believed) >= MOST_BELIEVED:
                self._believed.clear()
            self._believed[key.key_id] = (now, record)
        if record is None or not _is_right(record, key):
            self._wrong_keys.count(scope)
            return None
        used, wall = record.last_used_at, datetime.now(UTC)
        if used is None or not timedelta(0) <= wall - used < USE_NOTED:
            await _note_use(database, record)
        return record


@dataclass(frozen=True, slots=True)
class Credential:
    """By which right somebody is answered for longer than a request lasts."""

    principal: Principal
    database: Database

    @property
    def lasts(self) -> float:
        """Seconds until it is good no longer by itself."""
        until = self.principal.expires_at
        return inf if until is None else (until - datetime.now(UTC)).total_seconds()

    async def is_good(self) -> bool:
        """Whether it is good still. A key may have been revoked; a token ends by itself alone."""
        if self.principal.key_id is None:
            return True
        try:
            async with self.database.read(None) as connection:
                return await access.find_key(connection, self.principal.key_id) is not None
        except DatabaseUnavailable:
            return True


def is_open(path: str) -> bool:
    """Whether anyone may ask for the path: health, the API's description and documentation."""
    return path in OPEN or path.startswith("/docs/")


def is_token(text: str) -> bool:
    """Whether the credential has the form of a token (JWT). That of an API key has no dots."""
    return not text.startswith(PREFIX) and _TOKEN.fullmatch(text) is not None


def _is_right(record: KeyRecord, key: ApiKey) -> bool:
    return hmac.compare_digest(record.secret_hash, key.secret_hash)


async def _note_use(database: Database, record: KeyRecord) -> None:
    await database.write(
        record.workspace_id,
        lambda connection: connection.execute(access.USE, record.workspace_id, record.key_id),
        role=access.role_of(record.workspace_id),
        lock=Lock.NONE,
    )
