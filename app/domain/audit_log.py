"""What the audit log bears: the settings, rights and overrides that somebody changed.

What deals do is told by their own log and by events. Here stands what decides over them, so that
who widened a right, lowered a threshold or overrode a rule can be asked long afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. `target` is the id or key of what was changed, of the kind that `action` names.

    `before` and `after` hold what differs, as the API shows it: `before` None where nothing was
    there, `after` None where nothing is left. Neither ever holds a secret.
    """

    action: Action
    target: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
