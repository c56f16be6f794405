"""The audit log, as the API tells it."""

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from app.domain.audit_log import Action
from app.http.schemas.common import Id, Instant, Limit, Name, Page, Query, Response
from app.http.schemas.opportunities import Label
from app.storage.queries import audit_log

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-3b7a-7d10-9c55-6a7b8c9d0e1f",
    "recorded_at": "2026-11-16T14:30:00.218934Z",
    "actor": "mia",
    "key_id": "5f0d1c3a9b7e4f62",
    "action": "pipeline.updated",
    "target": "sales",
    "before": {"/revision": 3, "/stages/negotiation/idle_after": "P7D"},
    "after": {"/revision": 4, "/stages/negotiation/idle_after": "P10D"},
}
_POINTERS: Final = "by JSON Pointer into the resource as the API shows it, its stages by key"


class AuditEntry(Response):
    """One change: who made it, when, of what, and from what to what. It never changes itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id
    recorded_at: Instant
    actor: str = Field(description="The `subject` of who did it; `sluice`: the service itself.")
    key_id: str | None = Field(description="The API key that it was done with; null: without one.")
    action: str = Field(
        description="What was done to what kind of thing: one of those that `action` filters by, "
        "or one that a later version tells of."
    )
    target: str = Field(description="The key or id of what was changed.")
    before: dict[str, Any] | None = Field(
        description=f"What stood there and does not any more, {_POINTERS}; null: nothing was there."
    )
    after: dict[str, Any] | None = Field(
        description=f"What stands there since, {_POINTERS}; null: nothing is left."
    )

    @classmethod
    def of(cls, entry: audit_log.Recorded) -> "AuditEntry":
        return cls.model_construct(
            id=entry.entry_id,
            recorded_at=entry.recorded_at,
            actor=entry.actor,
            key_id=entry.key_id,
            action=entry.action,
            target=entry.target,
            before=entry.before,
            after=entry.after,
        )

    def line(self) -> bytes:
        """The entry as a line of an export."""
        return self.__pydantic_serializer__.to_json(self) + b"\n"


class AuditEntryPage(Page[AuditEntry]):
    """A page of the audit log, the newest entry first."""


class AuditExportQuery(Query):
    """Which entries of the audit log."""

    action: Annotated[list[Action], Field(max_length=len(Action))] = Field(
        default_factory=list, description="Only these, the parameter repeated."
    )
    target: Name | None = Field(
        default=None, description="Only changes of this: a pipeline's key, else an id."
    )
    actor: Label | None = Field(default=None, description="Only what this subject did.")
    recorded_from: Instant | None = Field(default=None, description="At or after.")
    recorded_to: Instant | None = Field(default=None, description="Before.")

    def filters(self) -> audit_log.Filters:
        return audit_log.Filters(
            actions=tuple(sorted(each.value for each in self.action)),
            target=self.target,
            actor=self.actor,
            recorded_from=self.recorded_from,
            recorded_to=self.recorded_to,
        )


class AuditEntryQuery(AuditExportQuery):
    """Which entries of the audit log, newest first."""

    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1024)] = None
