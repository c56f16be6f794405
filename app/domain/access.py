"""Who calls, and what they may do: the principal behind a credential, its scopes and its sight.

Scopes say what may be done, the row scope to which deals: those of the caller, of the caller's team
too, or all. It is the deal's *present* owner and team that count, for lists, moves and figures
alike. Which workspace a principal sees is row-level security's business as well as every query's;
here are only the words.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

SERVICE: Final = "sluice"
"""The actor of what the service does by itself."""
COMMAND_LINE: Final = "command line"
"""The actor of what is done with the database at hand, and no credential."""


class Scope(StrEnum):
    """Resource and verb. `ADMIN` holds all the others."""

    PIPELINES_READ = "pipelines:read"
    PIPELINES_WRITE = "pipelines:write"
    OPPORTUNITIES_READ = "opportunities:read"
    OPPORTUNITIES_WRITE = "opportunities:write"
    OPPORTUNITIES_DELETE = "opportunities:delete"
    TRANSITIONS_OVERRIDE = "transitions:override"
    TRANSITIONS_VOID = "transitions:void"
    IMPORTS_WRITE = "imports:write"
    METRICS_READ = "metrics:read"
    IDLE_FLAGS_READ = "idle-flags:read"
    IDLE_FLAGS_WRITE = "idle-flags:write"
    EVENTS_READ = "events:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    API_KEYS_READ = "api-keys:read"
    API_KEYS_WRITE = "api-keys:write"
    AUDIT_READ = "audit:read"
    ADMIN = "admin"


class RowScope(StrEnum):
    """Whose deals: those one owns, those of one's team as well, or all of the workspace."""

    OWN = "own"
    TEAM = "team"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Sight:
    """Which deals are to be seen. Whoever has no team sees as `TEAM` what `OWN` would show."""

    rows: RowScope
    subject: str
    team: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it holds every deal of the workspace."""
        return self.rows is RowScope.ALL

    @property
    def of_team(self) -> str | None:
        """The team whose deals it holds beside the subject's own."""
        return self.team if self.rows is RowScope.TEAM else None

    def holds(self, owner: str | None, team: str | None) -> bool:
        """Whether a deal of this owner and team is to be seen."""
        if self.is_whole or owner == self.subject:
            return True
        return team is not None and team == self.of_team

    def covers(self, other: "Sight") -> bool:
        """Whether all that the other holds is held by this one, whatever deals there are."""
        if self.is_whole:
            return True
        if other.is_whole or other.subject != self.subject:
            return False
        return other.of_team is None or other.of_team == self.of_team


WHOLE: Final = Sight(RowScope.ALL, subject="")
"""Of what nobody called for: the service's own work, and who has the database at hand."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request. `subject` is the name that the log bears as actor.

    `expires_at`: when the credential is good no longer by itself.
    """

    workspace_id: UUID
    subject: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    team: str | None = None
    row_scope: RowScope = RowScope.ALL
    expires_at: datetime | None = None

    @property
    def sight(self) -> Sight:
        return Sight(self.row_scope, self.subject, self.team)

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def has(self, scopes: frozenset[Scope], sight: Sight) -> bool:
        """Whether who has this can do and see nothing that this principal cannot."""
        return all(map(self.may, scopes)) and self.sight.covers(sight)

    def may_grant(
        self, scopes: frozenset[Scope], sight: Sight, expires_at: datetime | None
    ) -> bool:
        """Whether who is given this until then has nothing that this principal has not.

        A key that expires gives nothing away for longer. A token is good for a moment, and says
        nothing of how long its bearer's rights last.
        """
        until = None if self.key_id is None else self.expires_at
        lasts = until is None or (expires_at is not None and expires_at <= until)
        return lasts and self.has(scopes, sight)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the installation: makes workspaces and lists them, and sees into none of them."""

    subject: str
    key_id: str
