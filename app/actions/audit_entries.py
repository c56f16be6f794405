"""What the audit log says: each change of a setting, right or past, as a part of its transaction.

Secrets are never told, and of a deal nothing but its id, its pipeline and its stages: the log
outlives both. Reasons that people wrote about a deal stand in the deal's own log, and go with it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from app.actions.announcements import plain
from app.domain import guards
from app.domain.access import SERVICE, Principal
from app.domain.audit_document import document_of
from app.domain.audit_log import Action, Entry
from app.domain.pipeline import Pipeline
from app.domain.webhook import Disabling, Endpoint
from app.storage import events
from app.storage.audit_log import append
from app.storage.imports import ImportJob
from app.storage.statement import Part
from app.storage.transitions import LogEntry

_TOLD_OF_URL: Final = 12
"""Hexadecimal digits of a digest: enough to see a change, too few to be the URL's stand-in."""


def pipeline_changed(
    workspace: UUID, by: Principal | str, old: Pipeline | None, new: Pipeline
) -> Part:
    """A revision came into force: what it defines otherwise than the one before."""
    if old is None:
        action = Action.PIPELINE_CREATED
    elif new.archived_at is not None and old.archived_at is None:
        action = Action.PIPELINE_ARCHIVED
    else:
        action = Action.PIPELINE_UPDATED
    before = None if old is None else document_of(old)
    return append(workspace, by, Entry.of(action, new.key, before, document_of(new)))


def endpoint_changed(
    principal: Principal, before: Endpoint | None, after: Endpoint | None
) -> list[Part]:
    """An endpoint was made, changed, disabled or deleted by a caller; nothing where it stays.

    One request is one entry: what else was changed as it was disabled stands there too.
    """
    old, new = (None if each is None else _endpoint(each) for each in (before, after))
    if before is None:
        action = Action.WEBHOOK_ENDPOINT_CREATED
    elif after is None:
        action = Action.WEBHOOK_ENDPOINT_DELETED
    elif old == new:
        return []
    elif after.disabled_at is not None and before.disabled_at is None:
        action = Action.WEBHOOK_ENDPOINT_DISABLED
    else:
        action = Action.WEBHOOK_ENDPOINT_UPDATED
    changed = after or before
    assert changed is not None, "something was changed"
    entry = Entry.of(action, str(changed.endpoint_id), old, new)
    return [append(principal.workspace_id, principal, entry)]


def endpoint_given_up(
    workspace: UUID, endpoint: Endpoint, reason: Disabling, now: datetime
) -> Part:
    """The service disabled an endpoint by itself."""
    after = replace(endpoint, disabled_at=now, disabled_reason=reason)
    entry = Entry.of(
        Action.WEBHOOK_ENDPOINT_DISABLED,
        str(endpoint.endpoint_id),
        _endpoint(endpoint),
        _endpoint(after),
    )
    return append(workspace, SERVICE, entry)


def secret_rotated(principal: Principal, endpoint_id: UUID, until: datetime) -> Part:
    """An endpoint was given a new secret; when the others expire."""
    before, after = {"others_expire_at": None}, {"others_expire_at": plain(until)}
    entry = Entry.of(Action.WEBHOOK_ENDPOINT_ROTATED, str(endpoint_id), before, after)
    return append(principal.workspace_id, principal, entry)


def overridden(
    principal: Principal, entry: LogEntry, pipeline: Pipeline, seen: Mapping[str, Any]
) -> list[Part]:
    """A move passed over what its stage requires; nothing for every other move.

    `seen` is the deal as the guards saw it: what it lacked is told by place, not by value.
    """
    if entry.override_reason is None:
        return []
    target = pipeline.by_slot[entry.transition.to_slot]
    told = {
        **_transition(entry, pipeline),
        "overridden": [breach.pointer for breach in guards.missing(target, seen)],
    }
    made = Entry.of(Action.TRANSITION_OVERRIDDEN, str(entry.transition_id), None, told)
    return [append(principal.workspace_id, principal, made)]


def voided(principal: Principal, entry: LogEntry, pipeline: Pipeline, at: datetime) -> Part:
    """A transition was taken back: the move that stood, and since when it does not."""
    stamp = {"voided": {"at": plain(at), "by": principal.subject}}
    stood = _transition(entry, pipeline)
    made = Entry.of(Action.TRANSITION_VOIDED, str(entry.transition_id), stood, stamp)
    return append(principal.workspace_id, principal, made)


def deleted(principal: Principal, opportunity_id: UUID, pipeline: Pipeline) -> Part:
    """A deal was erased: its id and its pipeline, and nothing else of it."""
    stood = {"pipeline": pipeline.key}
    entry = Entry.of(Action.OPPORTUNITY_DELETED, str(opportunity_id), stood, None)
    return append(principal.workspace_id, principal, entry)


def rewriting(principal: Principal, job: ImportJob, pipeline: Pipeline) -> list[Part]:
    """An import was begun that may rewrite history; nothing for one that only adds to it."""
    if job.on_conflict != "rewrite":
        return []
    told = {
        "pipeline": pipeline.key,
        "on_conflict": job.on_conflict,
        "on_error": job.on_error,
        "bytes": job.bytes_total,
        "mapping_sha256": sha256(json.dumps(job.mapping, sort_keys=True).encode()).hexdigest(),
    }
    entry = Entry.of(Action.IMPORT_REWRITE_STARTED, str(job.import_id), None, told)
    return [append(principal.workspace_id, principal, entry)]


def _transition(entry: LogEntry, pipeline: Pipeline) -> dict[str, Any]:
    moved = entry.transition
    return {
        "opportunity_id": str(entry.opportunity_id),
        "pipeline": pipeline.key,
        "kind": moved.kind.value,
        "from_stage": None if moved.from_slot is None else pipeline.by_slot[moved.from_slot].key,
        "to_stage": pipeline.by_slot[moved.to_slot].key,
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    wanted, disabled = endpoint.subscription, None
    if endpoint.disabled_at is not None and endpoint.disabled_reason is not None:
        disabled = {
            "at": plain(endpoint.disabled_at),
            "reason": endpoint.disabled_reason.value,
            "position": events.written(endpoint.position),
        }
    return {
        "url": _told_of_url(endpoint),
        "description": endpoint.description,
        "types": list(wanted.types),
        "pipeline": endpoint.pipeline,
        "stages": list(wanted.stages),
        "include_historical": wanted.include_historical,
        "enabled": disabled is None,
        "disabled": disabled,
    }


def _told_of_url(endpoint: Endpoint) -> str:
    """Where the URL leads; of its path and query, which may be a secret, only a digest.

    The digest is the endpoint's own: the same path at another endpoint has another.
    """
    parts = urlsplit(endpoint.url)
    origin = f"{parts.scheme}://{parts.netloc}"
    rest = endpoint.url[len(origin) :]
    digest = sha256(endpoint.endpoint_id.bytes + rest.encode()).hexdigest()
    return f"{origin}/…{digest[:_TOLD_OF_URL]}"
