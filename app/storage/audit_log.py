"""The audit log: written by the change that it tells of, in its transaction, and never again."""

from typing import Any, Final
from uuid import UUID

from pydantic_core import to_json

from app.domain.access import Operator, Principal
from app.domain.audit_log import Entry
from app.storage.ids import new_id
from app.storage.statement import Part

APPEND: Final = """
INSERT INTO audit_entry (workspace_id, entry_id, recorded_at, actor, key_id, action, target, before,
                         after)
VALUES ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7, $8)
"""


def append(workspace: UUID, by: Principal | Operator | str, entry: Entry) -> Part:
    """The part that tells of a change. `by`: who made it; a name, where nobody called."""
    actor, key_id = (by, None) if isinstance(by, str) else (by.subject, by.key_id)
    return Part(
        APPEND,
        (
            workspace,
            new_id(),
            actor,
            key_id,
            entry.action.value,
            entry.target,
            _written(entry.before),
            _written(entry.after),
        ),
    )


def _written(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()
