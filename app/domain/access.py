"""Who calls, and what they may do: the principal behind a credential, and the names of scopes.

Which row of which workspace a principal sees is row-level security's business as well as every
query's; here are only the words.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


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
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request. `subject` is the name that the log bears as actor."""

    workspace_id: UUID
    subject: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes
