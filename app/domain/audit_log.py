"""What the audit log bears: the settings, rights and overrides that somebody changed.

What deals do is told by their own log and by events. Here stands what decides over them, so that
who widened a right, lowered a threshold or overrode a rule can be asked long afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from app.domain import json_pointer


class Action(StrEnum):
    """What was done, by the kind of thing that it was done to."""

    WORKSPACE_CREATED = "workspace.created"
    API_KEY_CREATED = "api_key.created"
    API_KEY_ROTATED = "api_key.rotated"
    API_KEY_REVOKED = "api_key.revoked"
    PIPELINE_CREATED = "pipeline.created"
    PIPELINE_UPDATED = "pipeline.updated"
    PIPELINE_ARCHIVED = "pipeline.archived"
    WEBHOOK_ENDPOINT_CREATED = "webhook_endpoint.created"
    WEBHOOK_ENDPOINT_UPDATED = "webhook_endpoint.updated"
    WEBHOOK_ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    WEBHOOK_ENDPOINT_DELETED = "webhook_endpoint.deleted"
    WEBHOOK_ENDPOINT_ROTATED = "webhook_endpoint.rotated"  # its signing secret
    TRANSITION_OVERRIDDEN = "transition.overridden"
    TRANSITION_VOIDED = "transition.voided"
    OPPORTUNITY_DELETED = "opportunity.deleted"
    IMPORT_REWRITE_STARTED = "import.rewrite_started"  # of a file that may void what it contradicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. `target` is the id or key of what was changed, of the kind that `action` names.

    `before` and `after` hold what differs, as the API shows it, by JSON Pointer: `before` None
    where nothing was there, `after` None where nothing is left. Neither ever holds a secret, nor
    anything of a deal but its id: the log outlives it.
    """

    action: Action
    target: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        action: Action,
        target: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> Self:
        """The change from the one document to the other; None: there was none, or is none left."""
        old, new = differing(before or {}, after or {})
        return cls(
            action=action,
            target=target,
            before=None if before is None else old,
            after=None if after is None else new,
        )


def differing(
    before: Mapping[str, Any], after: Mapping[str, Any], at: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands in only one of two documents, by JSON Pointer (RFC 6901): before, and after.

    Objects are compared member by member, everything else as a whole; a list is one value. Whoever
    takes from the one document what `before` points at, and puts in what `after` says, has the
    other; and so back.
    """
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name in {**before, **after}:
        pointer = f"{at}/{json_pointer.token(name)}"
        if name not in after:
            old[pointer] = before[name]
        elif name not in before:
            new[pointer] = after[name]
        elif isinstance(before[name], Mapping) and isinstance(after[name], Mapping):
            inner = differing(before[name], after[name], pointer)
            old.update(inner[0])
            new.update(inner[1])
        elif before[name] != after[name]:
            old[pointer], new[pointer] = before[name], after[name]
    return old, new
