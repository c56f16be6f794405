"""How one revision of a pipeline is written down: `Pipeline` ↔ the JSON of `pipeline_revision`.

The document holds everything of the definition, the parts that only the server makes included
(slots, lineage, since when a rule is in force). It is storage's own form: what callers send and
get is `http.schemas.pipelines`. Lengths of time stay as they were written, shares are decimal
strings and instants ISO 8601, so that what is read is exactly what was saved.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from app.domain.business_calendar import BusinessCalendar, Holiday, SpecialDay
from app.domain.period import Period
from app.domain.pipeline import (
    QUALIFYING,
    FieldRequirement,
    Flow,
    Guidance,
    IdleClock,
    IdleRule,
    LossReason,
    Pipeline,
    Stage,
    StageKind,
)
from app.domain.working_hours import Hours, Span

Document = dict[str, Any]


def encode(pipeline: Pipeline) -> Document:
    """The JSON object that `decode` reads back as an equal pipeline."""
    return {
        "key": pipeline.key,
        "name": pipeline.name,
        "description": pipeline.description,
        "timezone": pipeline.timezone,
        "calendar": _encode_calendar(pipeline.calendar),
        "qualifying": list(pipeline.qualifying),
        "flow": pipeline.flow.value,
        "moves": sorted(pipeline.moves),
        "stages": [_encode_stage(stage) for stage in pipeline.stages],
        "archived_at": _text(pipeline.archived_at),
    }


def decode(pipeline_id: UUID, revision: int, document: Mapping[str, Any]) -> Pipeline:
    """The pipeline as that revision defines it.

    Revisions saved before there were calendars say nothing of them, nor of kinds of their own.
    """
    calendar = _decode_calendar(document.get("calendar"))
    return Pipeline(
        pipeline_id=pipeline_id,
        revision=revision,
        key=document["key"],
        name=document["name"],
        description=document["description"],
        timezone=document["timezone"],
        calendar=calendar,
        qualifying=tuple(document.get("qualifying", QUALIFYING)),
        flow=Flow(document["flow"]),
        moves=frozenset((start, end) for start, end in document["moves"]),
        stages=tuple(_decode_stage(stage, calendar) for stage in document["stages"]),
        archived_at=_instant(document["archived_at"]),
    )


def _encode_stage(stage: Stage) -> Document:
    return {
        "key": stage.key,
        "name": stage.name,
        "kind": stage.kind.value,
        "slot": stage.slot,
        "off_path": stage.off_path,
        "description": stage.description,
        "probability": _text(stage.probability),
        "idle": _encode_rule(stage.idle),
        "follow_up_every": _text(stage.follow_up_every),
        "target_conversion": _text(stage.target_conversion),
        "target_dwell": _text(stage.target_dwell),
        "guidance": _encode_guidance(stage.guidance),
        "required_fields": [requirement.path for requirement in stage.entry_requirements],
        "loss_reasons": [[reason.key, reason.name] for reason in stage.loss_reasons],
        "archived_at": _text(stage.archived_at),
        "succeeded_by": list(stage.succeeded_by),
        "preceded_by": stage.preceded_by,
    }


def _decode_stage(stage: Mapping[str, Any], calendar: BusinessCalendar | None) -> Stage:
    return Stage(
        key=stage["key"],
        name=stage["name"],
        kind=StageKind(stage["kind"]),
        slot=stage["slot"],
        off_path=stage["off_path"],
        description=stage["description"],
        probability=_share(stage["probability"]),
        idle=_decode_rule(stage["idle"], calendar),
        follow_up_every=_period(stage["follow_up_every"]),
        target_conversion=_share(stage["target_conversion"]),
        target_dwell=_period(stage["target_dwell"]),
        guidance=_decode_guidance(stage["guidance"]),
        entry_requirements=tuple(FieldRequirement(path) for path in stage["required_fields"]),
        loss_reasons=tuple(LossReason(key, name) for key, name in stage["loss_reasons"]),
        archived_at=_instant(stage["archived_at"]),
        succeeded_by=tuple(stage["succeeded_by"]),
        preceded_by=stage["preceded_by"],
    )


def _encode_rule(rule: IdleRule) -> Document:
    return {
        "clock": rule.clock.value,
        "after": _text(rule.after),
        "after_by_priority": {
            priority: _text(after) for priority, after in rule.after_by_priority.items()
        },
        "critical_after": _text(rule.critical_after),
        "max_pause": _text(rule.max_pause),
        "elapsed": rule.elapsed,
        "inherits": rule.inherits,
        "qualifying": list(rule.qualifying),
        "since": _text(rule.since),
    }


def _decode_rule(rule: Mapping[str, Any], calendar: BusinessCalendar | None) -> IdleRule:
    elapsed = rule.get("elapsed", False)
    return IdleRule(
        clock=IdleClock(rule["clock"]),
        after=_period(rule["after"]),
        after_by_priority=MappingProxyType(
            {priority: _period(after) for priority, after in rule["after_by_priority"].items()}
        ),
        critical_after=_period(rule.get("critical_after")),
        max_pause=_period(rule.get("max_pause")),
        elapsed=elapsed,
        calendar=None if elapsed else calendar,
        inherits=rule.get("inherits", False),
        qualifying=tuple(rule["qualifying"]),
        since=_instant(rule["since"]),
    )


def _encode_calendar(calendar: BusinessCalendar | None) -> Document | None:
    if calendar is None:
        return None
    return {
        "timezone": calendar.timezone,
        "hours": [_encode_hours(hours) for hours in calendar.hours],
        "holidays": [[day.on.isoformat(), day.name] for day in calendar.holidays],
        "special_days": [
            [day.on.isoformat(), _encode_hours(day.hours), day.name]
            for day in calendar.special_days
        ],
    }


def _decode_calendar(calendar: Mapping[str, Any] | None) -> BusinessCalendar | None:
    if calendar is None:
        return None
    return BusinessCalendar(
        timezone=calendar["timezone"],
        hours=tuple(_decode_hours(hours) for hours in calendar["hours"]),
        holidays=tuple(Holiday(date.fromisoformat(on), name) for on, name in calendar["holidays"]),
        special_days=tuple(
            SpecialDay(date.fromisoformat(on), _decode_hours(hours), name)
            for on, hours, name in calendar["special_days"]
        ),
    )


def _encode_hours(hours: Hours) -> list[list[int]]:
    return [[span.start, span.end] for span in hours]


def _decode_hours(hours: list[list[int]]) -> Hours:
    return tuple(Span(start, end) for start, end in hours)


def _encode_guidance(guidance: Guidance | None) -> Document | None:
    if guidance is None:
        return None
    return {
        "goal": guidance.goal,
        "key_actions": list(guidance.key_actions),
        "assessment_criteria": list(guidance.assessment_criteria),
    }


def _decode_guidance(guidance: Mapping[str, Any] | None) -> Guidance | None:
    if guidance is None:
        return None
    return Guidance(
        goal=guidance["goal"],
        key_actions=tuple(guidance["key_actions"]),
        assessment_criteria=tuple(guidance["assessment_criteria"]),
    )


def _text(value: Period | Decimal | datetime | None) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _period(text: str | None) -> Period | None:
    return None if text is None else Period.parse(text)


def _share(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
