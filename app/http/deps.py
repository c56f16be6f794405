"""What routes ask for: the database, the caller, the repeatable request, the signer of cursors.

No transaction begins here. A dependency cannot run a handler again, and one that ends after the
answer was sent would have told the client of a success that then fails; transactions belong to
actions, and streaming endpoints open their own.
"""

from hashlib import sha256
from typing import Annotated, Final

from fastapi import Depends, Header, Request

from app.domain.access import Operator, Principal, Scope
from app.domain.errors import Forbidden, Malformed
from app.http.cursors import Cursors
from app.outbound.sending import Outbound
from app.storage import access
from app.storage.engine import Database
from app.storage.idempotency import Repeatable

_WHOSE: Final = 32
"""Hexadecimal digits that stand for a caller and what they see."""


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _outbound(request: Request) -> Outbound:
    outbound: Outbound = request.app.state.outbound
    return outbound


async def _cursors(request: Request) -> Cursors:
    """Made with the installation's secret when the first list is asked for."""
    state = request.app.state
    if getattr(state, "cursors", None) is None:
        async with state.database.read(None) as connection:
            state.cursors = Cursors(await access.signing_secret(connection))
    cursors: Cursors = state.cursors
    return cursors


class Allowed:
    """A dependency: the caller, who has all these scopes. Raises Forbidden for any other.

    `whole`: and who sees all deals, as what is asked tells of all. `StrictRoute` asks it before it
    looks at anything that was sent.
    """

    def __init__(self, *scopes: Scope, whole: bool = False) -> None:
        self.scopes = scopes  # read by http.openapi, which declares them
        self._whole = whole

    async def __call__(self, request: Request) -> Principal:
        principal: Principal | Operator = request.state.caller
        if isinstance(principal, Operator):
            raise Forbidden("A key of the platform is for the installation: it sees no workspace.")
        lacking = [scope.value for scope in self.scopes if not principal.may(scope)]
        if lacking:
            raise Forbidden(f"This needs the scope {' and '.join(lacking)}.")
        if self._whole and not principal.sight.is_whole:
            raise Forbidden("This is about all opportunities: it needs the row scope all.")
        return principal


class OperatorAllowed:
    """A dependency: who runs the installation. Raises Forbidden for any other."""

    scopes: tuple[Scope, ...] = ()  # read by http.openapi; a key of the platform has no others

    async def __call__(self, request: Request) -> Operator:
        operator: Principal | Operator = request.state.caller
        if not isinstance(operator, Operator):
            raise Forbidden("This needs a key of the platform, not one of a workspace.")
        return operator


async def _repeatable(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="A text of your choice, new for every new request. Sent again with the "
            "same request within a day, it gets the first answer again and changes nothing.",
            min_length=1,
            max_length=255,
            examples=["6c0f1a52-8c2f-4a0e-9a59-2f0d2bb4f7a1"],
        ),
    ] = None,
) -> Repeatable | None:
    if idempotency_key is None:
        return None
    scope = request.scope  # `request.url` would take the whole URL together, and apart again
    query = scope["query_string"].decode("latin-1")
    digest = sha256(f"{scope['method']} {scope['path']}?{query}\n".encode())
    digest.update(await request.body())
    return repeatable_under(idempotency_key, request, digest.digest())


def repeatable_under(idempotency_key: str, request: Request, fingerprint: bytes) -> Repeatable:
    """The request under the key that its caller chose. Raises Malformed for an empty one.

    Another caller's key of the same text is another: an answer that is kept may tell of what only
    some may see, and nobody is to learn from a refusal what others chose.
    """
    key = idempotency_key.strip('"')
    if not key:
        raise Malformed("Idempotency-Key is empty; leave it out or send a text of your choice.")
    caller: Principal | Operator = request.state.caller
    sight = caller.sight if isinstance(caller, Principal) else None
    whose = sha256(repr((caller.subject, sight)).encode()).hexdigest()[:_WHOSE]
    return Repeatable(f"{whose}:{key}", fingerprint)


DatabaseDep = Annotated[Database, Depends(_database)]
OutboundDep = Annotated[Outbound, Depends(_outbound)]
CursorsDep = Annotated[Cursors, Depends(_cursors)]
RepeatableDep = Annotated[Repeatable | None, Depends(_repeatable)]
