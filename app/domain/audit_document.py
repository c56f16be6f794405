"""A pipeline's definition as the audit log compares it: the document that the API shows, as plain
JSON, with its stages by key.

Stages bear their place as `position`; archived ones stand among the others, under the key that they
keep. What follows from the definition, such as its warnings, is left out.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from app.domain.business_calendar import BusinessCalendar
from app.domain.period import Period
from app.domain.pipeline import Guidance, Pipeline, Stage
from app.domain.working_hours import Hours

Document = dict[str, Any]

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def document_of(pipeline: Pipeline) -> Document:
    """One revision, in the names and notations of the API."""
    in_use = [stage.key for stage in pipeline.stages if stage.archived_at is None]
    place = {key: position for position, key in enumerate(in_use, start=1)}
    return {
        "key": pipeline.key,
        "revision": pipeline.revision,
        "name": pipeline.name,
        "description": pipeline.description,
        "timezone": pipeline.timezone,
        "calendar": None if pipeline.calendar is None else _calendar(pipeline.calendar),
        "qualifying_activities": list(pipeline.qualifying),
        "flow": pipeline.flow.value,
        "moves": [{"from": start, "to": end} for start, end in sorted(pipeline.moves)],
        "stages": {stage.key: _stage(stage, place.get(stage.key)) for stage in pipeline.stages},
        "archived_at": _instant(pipeline.archived_at),
    }


def _stage(stage: Stage, position: int | None) -> Document:
    rule = stage.idle
    return {
        "key": stage.key,
        "name": stage.name,
        "kind": stage.kind.value,
        "position": position,
        "off_path": stage.off_path,
        "description": stage.description,
        "probability": _share(stage.probability),
        "idle_after": _length(rule.after),
        "idle_after_by_priority": _lengths(rule.after_by_priority),
        "idle_clock": rule.clock.value,
        "idle_time": "elapsed" if rule.elapsed else "working",
        "critical_after": _length(rule.critical_after),
        "max_pause": _length(rule.max_pause),
        "qualifying_activities": None if rule.inherits else list(rule.qualifying),
        "follow_up_every": _length(stage.follow_up_every),
        "target_conversion": _share(stage.target_conversion),
        "target_dwell": _length(stage.target_dwell),
        "guidance": None if stage.guidance is None else _guidance(stage.guidance),
        "entry_requirements": [
            {"type": "field", "path": requirement.path} for requirement in stage.entry_requirements
        ],
        "loss_reasons": [{"key": reason.key, "name": reason.name} for reason in stage.loss_reasons],
        "archived_at": _instant(stage.archived_at),
        "succeeded_by": list(stage.succeeded_by),
    }


def _guidance(guidance: Guidance) -> Document:
    return {
        "goal": guidance.goal,
        "key_actions": list(guidance.key_actions),
        "assessment_criteria": list(guidance.assessment_criteria),
    }


def _calendar(calendar: BusinessCalendar) -> Document:
    return {
        "timezone": calendar.timezone,
        "hours": {day: _hours(hours) for day, hours in zip(_DAYS, calendar.hours, strict=True)},
        "holidays": [{"on": day.on.isoformat(), "name": day.name} for day in calendar.holidays],
        "special_days": [
            {"on": day.on.isoformat(), "hours": _hours(day.hours), "name": day.name}
            for day in calendar.special_days
        ],
    }


def _hours(hours: Hours) -> list[Document]:
    return [{"from": _clock(span.start), "to": _clock(span.end)} for span in hours]


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _lengths(lengths: Mapping[str, Period | None]) -> Document:
    return {name: _length(length) for name, length in lengths.items()}


def _length(length: Period | None) -> str | None:
    return None if length is None else str(length)


def _share(share: Decimal | None) -> float | None:
    return None if share is None else float(share)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
