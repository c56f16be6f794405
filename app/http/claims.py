"""What the claims of a verified token make of its bearer: their names are configured, not ours.

Whoever issues tokens serves other systems too, so scopes of a name that is unknown here are theirs
and are passed over. What says whom, where and how far is never guessed: a claim that cannot be
read refuses the token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from app.domain.access import Principal, RowScope, Scope
from app.domain.errors import Unauthenticated
from app.http.schemas.access import Subject
from app.http.schemas.common import Key
from app.http.schemas.opportunities import Label

_KEY: Final[TypeAdapter[str]] = TypeAdapter(Key)
_LABEL: Final[TypeAdapter[str]] = TypeAdapter(Label)
_SUBJECT: Final[TypeAdapter[str]] = TypeAdapter(Subject)
_SCOPES: Final[Mapping[str, Scope]] = {scope.value: scope for scope in Scope}
_ROW_SCOPES: Final[Mapping[str, RowScope]] = {rows.value: rows for rows in RowScope}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Which claim says what. `rows` is the row scope of a token that names none."""

    workspace: str = "workspace"
    subject: str = "sub"
    team: str = "team"
    row_scope: str = "row_scope"
    scopes: str = "scope"
    rows: RowScope = RowScope.OWN


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token makes of who bears it; the workspace by its key, as others call it."""

    workspace: str
    subject: str
    team: str | None
    row_scope: RowScope
    scopes: frozenset[Scope]

    def principal(self, workspace_id: UUID, expires_at: datetime) -> Principal:
        return Principal(
            workspace_id,
            self.subject,
            self.scopes,
            team=self.team,
            row_scope=self.row_scope,
            expires_at=expires_at,
        )


def bearer_of(claims: Mapping[str, object], names: ClaimNames) -> Bearer:
    """The bearer of a token with these claims. Raises Unauthenticated."""
    workspace = _text(claims, names.workspace, _KEY)
    if workspace is None:
        raise _lacking(names.workspace)
    subject = _text(claims, names.subject, _SUBJECT)
    if subject is None:
        raise _lacking(names.subject)
    return Bearer(
        workspace,
        subject,
        _text(claims, names.team, _LABEL),
        _row_scope(claims, names),
        _scopes(claims, names.scopes),
    )


def _text(claims: Mapping[str, object], name: str, written: TypeAdapter[str]) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        return written.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise Unauthenticated(f"The token's claim {name} is not usable: {reason}.") from error


def _row_scope(claims: Mapping[str, object], names: ClaimNames) -> RowScope:
    value = claims.get(names.row_scope)
    if value is None:
        return names.rows
    found = _ROW_SCOPES.get(value) if isinstance(value, str) else None
    if found is None:
        known = ", ".join(_ROW_SCOPES)
        raise Unauthenticated(f"The token's claim {names.row_scope} is none of {known}.")
    return found


def _scopes(claims: Mapping[str, object], name: str) -> frozenset[Scope]:
    value = claims.get(name)
    match value:
        case None:
            return frozenset()
        case str():
            words: list[object] = [*value.split()]
        case list():
            words = value
        case _:
            raise Unauthenticated(f"The token's claim {name} is neither a text nor a list.")
    return frozenset(_SCOPES[word] for word in words if isinstance(word, str) and word in _SCOPES)


def _lacking(name: str) -> Unauthenticated:
    return Unauthenticated(f"The token lacks the claim {name}.")
