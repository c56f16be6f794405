"""What makes a pipeline's definition valid, and how a new one becomes the next revision.

A `Definition` is what a caller writes: one document, which can be kept in Git. `breaches` says all
that is wrong with it at once; `begin` and `revise` make a revision of it, in which every stage that
the pipeline ever had keeps its slot, its kind and its place in history. Pointers lead into the
document as the API writes it.

What a revision then allows a deal to do is `domain.transition`'s business.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from uuid import UUID
from zoneinfo import available_timezones

from app.domain import json_pointer
from app.domain.business_calendar import BusinessCalendar
from app.domain.errors import Breach, InvalidDefinition
from app.domain.guards import REQUIRABLE
from app.domain.period import Period
from app.domain.pipeline import (
    MAX_STAGES,
    QUALIFYING,
    UNKNOWN_LOSS_REASON,
    Flow,
    IdleClock,
    IdleRule,
    Pipeline,
    Stage,
    StageKind,
)

UNPLACED = 0
"""The slot of a stage that a definition names and no revision has placed yet."""

KEY_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
LONGEST_NAME = 200
FEW_OPEN_STAGES, MANY_OPEN_STAGES = 3, 9

LONGEST_WORKED = timedelta(days=3_653)
"""The longest that a length may take where it counts in working time: every year that it reaches
over has to be worked out."""

_key = re.compile(KEY_PATTERN, re.ASCII)
_requirable = tuple(f"/{name}" for name in REQUIRABLE)
_attribute = re.compile(r"/attributes(/([^~/]|~[01])+)+")
_NO_HEIRS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a pipeline shall be. Its stages are those to be in use, in their order.

    They bear only what a caller may say of a stage: no slot, no lineage, and an idle rule without
    the instant at which it comes into force.
    """

    key: str
    name: str
    flow: Flow
    stages: tuple[Stage, ...]
    description: str | None = None
    timezone: str = "UTC"
    calendar: BusinessCalendar | None = None
    qualifying: tuple[str, ...] = QUALIFYING
    moves: tuple[tuple[str, str], ...] = ()


def definition_of(pipeline: Pipeline) -> Definition:
    """The definition that makes this very revision: what to change a part of, to get the next."""
    return Definition(
        key=pipeline.key,
        name=pipeline.name,
        flow=pipeline.flow,
        stages=tuple(_unplaced(s) for s in pipeline.stages if s.archived_at is None),
        description=pipeline.description,
        timezone=pipeline.timezone,
        calendar=pipeline.calendar,
        qualifying=pipeline.qualifying,
        moves=tuple(sorted(pipeline.moves)),
    )


def begin(definition: Definition, pipeline_id: UUID, instant: datetime) -> Pipeline:
    """The first revision of a new pipeline. Raises InvalidDefinition with every breach."""
    return _revision(definition, None, pipeline_id, instant, _NO_HEIRS)


def revise(
    previous: Pipeline,
    definition: Definition,
    instant: datetime,
    heirs: Mapping[str, tuple[str, ...]] = _NO_HEIRS,
) -> Pipeline:
    """The next revision, or `previous` itself where the definition changes nothing.

    A stage that the definition leaves out is archived at `instant`; `heirs` names what a split or
    merged one became. One whose key appears again is back in use, in its old slot. An idle rule
    with new terms is in force from `instant`. An archived pipeline is in use again. Raises
    InvalidDefinition with every breach.
    """
    revised = _revision(definition, previous, previous.pipeline_id, instant, heirs)
    unchanged = replace(revised, revision=previous.revision) == previous
    return previous if unchanged else revised


def breaches(definition: Definition, previous: Pipeline | None = None) -> Iterator[Breach]:
    """All that is wrong with a definition, by itself and as the next one after `previous`."""
    yield from _breaches_of_pipeline(definition, previous)
    seen: set[str] = set()
    for number, stage in enumerate(definition.stages):
        at = f"/stages/{number}"
        if stage.key in seen:
            yield Breach(f"{at}/key", "duplicate", f"Another stage has the key {stage.key!r}.")
        seen.add(stage.key)
        before = previous.by_key.get(stage.key) if previous else None
        if before is not None and before.kind is not stage.kind:
            yield Breach(
                f"{at}/kind", "immutable", f"The kind of {stage.key!r} is {before.kind.value!r}."
            )
        yield from _breaches_of_stage(stage, at)
        calendar = None if stage.idle.elapsed else definition.calendar
        yield from _breaches_of_lengths(stage, calendar, at)
    yield from _breaches_of_moves(definition, seen)


def warnings(pipeline: Pipeline) -> Iterator[Breach]:
    """What is allowed but probably not meant, in the form of breaches."""
    count = sum(s.is_open and s.archived_at is None for s in pipeline.stages)
    if not FEW_OPEN_STAGES <= count <= MANY_OPEN_STAGES:
        many = count > MANY_OPEN_STAGES
        yield Breach(
            "/stages",
            "many_open_stages" if many else "few_open_stages",
            f"{count} open stages; five to seven serve most sales processes best.",
        )
    in_use = [stage for stage in pipeline.stages if stage.archived_at is None]
    for number, stage in enumerate(in_use):
        if stage.idle.opens_critical:
            detail = "No longer than the deal is let sit: its flag is critical as it opens."
            yield Breach(f"/stages/{number}/critical_after", "critical_at_once", detail)
    if pipeline.flow is Flow.GRAPH:
        yield from _warnings_of_graph(pipeline)


def _breaches_of_pipeline(definition: Definition, previous: Pipeline | None) -> Iterator[Breach]:
    if previous is not None and definition.key != previous.key:
        yield Breach("/key", "immutable", f"The pipeline's key is {previous.key!r} for ever.")
    yield from _breaches_of_names(definition.key, definition.name, "")
    if definition.timezone not in timezones():
        detail = f"{definition.timezone!r} is no IANA time zone, like Europe/Berlin."
        yield Breach("/timezone", "unknown_timezone", detail)
    kinds = {stage.kind for stage in definition.stages if not (stage.is_open and stage.off_path)}
    for kind in StageKind:
        if kind not in kinds:
            path = " on the path" if kind is StageKind.OPEN else ""
            detail = f"A pipeline needs a stage of the kind {kind.value!r}{path}."
            yield Breach("/stages", f"no_{kind.value}_stage", detail)
    if not definition.qualifying:
        detail = "At least one kind of activity counts as a follow-up."
        yield Breach("/qualifying_activities", "required", detail)
    ever = {stage.key for stage in definition.stages} | set(previous.by_key if previous else ())
    if len(ever) > MAX_STAGES:
        detail = f"A pipeline has at most {MAX_STAGES} stages in its life; this makes {len(ever)}."
        yield Breach("/stages", "too_many_stages", detail)


def _breaches_of_names(key: str, name: str, at: str) -> Iterator[Breach]:
    if not _key.fullmatch(key):
        detail = "A key has 1 to 63 characters of a-z, 0-9, _ and -, no sign first."
        yield Breach(f"{at}/key", "wrong_format", detail)
    if not name.strip() or len(name) > LONGEST_NAME:
        detail = f"A name has 1 to {LONGEST_NAME} characters."
        yield Breach(f"{at}/name", "too_long" if name.strip() else "too_short", detail)


def _breaches_of_stage(stage: Stage, at: str) -> Iterator[Breach]:
    yield from _breaches_of_names(stage.key, stage.name, at)
    yield from _breaches_of_numbers(stage, at)
    yield from _breaches_of_kind(stage, at)
    for number, requirement in enumerate(stage.entry_requirements):
        if requirement.path not in _requirable and not _attribute.fullmatch(requirement.path):
            detail = f"One of {', '.join(_requirable)}, or a path under /attributes/."
            yield Breach(f"{at}/entry_requirements/{number}/path", "not_requirable", detail)
    reasons: set[str] = set()
    for number, reason in enumerate(stage.loss_reasons):
        place = f"{at}/loss_reasons/{number}"
        yield from _breaches_of_names(reason.key, reason.name, place)
        if reason.key == UNKNOWN_LOSS_REASON:
            detail = "This reason is kept for imported history, where no other is known."
            yield Breach(f"{place}/key", "reserved", detail)
        if reason.key in reasons:
            detail = f"Another loss reason has the key {reason.key!r}."
            yield Breach(f"{place}/key", "duplicate", detail)
        reasons.add(reason.key)


def _breaches_of_numbers(stage: Stage, at: str) -> Iterator[Breach]:
    for name, share in (
        ("probability", stage.probability),
        ("target_conversion", stage.target_conversion),
    ):
        if share is None:
            continue
        if not (share.is_finite() and 0 <= share <= 1 and share == round(share, 4)):
            detail = "A share lies between 0 and 1 and has at most four decimal places."
            yield Breach(f"{at}/{name}", "out_of_range", detail)


def _breaches_of_lengths(
    stage: Stage, calendar: BusinessCalendar | None, at: str
) -> Iterator[Breach]:
    """`calendar` is the one in whose working time the stage's idle rule and cadence count."""
    counted: dict[str, Period | None] = {
        "idle_after": stage.idle.after,
        "critical_after": stage.idle.critical_after,
        "max_pause": stage.idle.max_pause,
        "follow_up_every": stage.follow_up_every,
    }
    for priority, after in stage.idle.after_by_priority.items():
        counted[f"idle_after_by_priority/{json_pointer.token(priority)}"] = after
    for name, length in {**counted, "target_dwell": stage.target_dwell}.items():
        if length is None:
            continue
        if not length.length:
            yield Breach(f"{at}/{name}", "out_of_range", "A length of time is longer than nothing.")
        if calendar and name in counted and calendar.regular_length(length) > LONGEST_WORKED:
            detail = "In the calendar's working time this takes more than ten years."
            yield Breach(f"{at}/{name}", "out_of_range", detail)


def _breaches_of_kind(stage: Stage, at: str) -> Iterator[Breach]:
    """What only open, or only lost stages may have: said elsewhere it would mean nothing."""
    if not stage.is_open:
        said = {
            "off_path": stage.off_path,
            "idle_after": stage.idle.after is not None,
            "idle_after_by_priority": bool(stage.idle.after_by_priority),
            "critical_after": stage.idle.critical_after is not None,
            "max_pause": stage.idle.max_pause is not None,
            "follow_up_every": stage.follow_up_every is not None,
            "target_conversion": stage.target_conversion is not None,
            "target_dwell": stage.target_dwell is not None,
        }
        for name in (name for name, is_said in said.items() if is_said):
            yield Breach(f"{at}/{name}", "open_stages_only", "Only an open stage has this.")
        settled = Decimal(stage.kind is StageKind.WON)
        if stage.probability not in (None, settled):
            detail = f"The probability of a {stage.kind.value} stage is {settled}."
            yield Breach(f"{at}/probability", "out_of_range", detail)
    if stage.kind is StageKind.LOST and not stage.loss_reasons:
        detail = "A lost stage needs at least one loss reason."
        yield Breach(f"{at}/loss_reasons", "required", detail)
    if stage.kind is not StageKind.LOST and stage.loss_reasons:
        yield Breach(f"{at}/loss_reasons", "lost_stages_only", "Only a lost stage has reasons.")
    rule = stage.idle
    if rule.clock is IdleClock.INACTIVITY and not rule.inherits and not rule.qualifying:
        detail = "An inactivity clock needs at least one kind of activity that resets it."
        yield Breach(f"{at}/qualifying_activities", "required", detail)


def _breaches_of_moves(definition: Definition, stages: Container[str]) -> Iterator[Breach]:
    if definition.flow is not Flow.GRAPH:
        if definition.moves:
            detail = f"The flow {definition.flow.value!r} says by itself which moves are allowed."
            yield Breach("/moves", "graph_only", detail)
        return
    if not definition.moves:
        yield Breach("/moves", "required", "A graph lists the moves that it allows.")
    seen: set[tuple[str, str]] = set()
    for number, move in enumerate(definition.moves):
        for end, key in zip(("from", "to"), move, strict=True):
            if key not in stages:
                detail = f"The definition has no stage {key!r}."
                yield Breach(f"/moves/{number}/{end}", "unknown_stage", detail)
        if move[0] == move[1]:
            yield Breach(f"/moves/{number}", "no_move", "A move leads to another stage.")
        if move in seen:
            yield Breach(f"/moves/{number}", "duplicate", "The move is listed already.")
        seen.add(move)


def _warnings_of_graph(pipeline: Pipeline) -> Iterator[Breach]:
    in_use = [stage for stage in pipeline.stages if stage.archived_at is None]
    closed = {stage.key for stage in in_use if not stage.is_open}
    begun = _reachable(pipeline.path[0].key, pipeline.moves)
    for number, stage in enumerate(in_use):
        at = f"/stages/{number}"
        if stage.key not in begun:
            detail = f"No chain of moves leads from {pipeline.path[0].key!r} to {stage.key!r}."
            yield Breach(at, "unreachable", detail)
        if stage.is_open and not closed & _reachable(stage.key, pipeline.moves):
            detail = f"No chain of moves leads from {stage.key!r} to a closed stage."
            yield Breach(at, "cannot_close", detail)


def _reachable(start: str, moves: Iterable[tuple[str, str]]) -> set[str]:
    onward: dict[str, list[str]] = {}
    for origin, target in moves:
        onward.setdefault(origin, []).append(target)
    found, ahead = {start}, [start]
    while ahead:
        for target in onward.get(ahead.pop(), ()):
            if target not in found:
                found.add(target)
                ahead.append(target)
    return found


def _revision(
    definition: Definition,
    previous: Pipeline | None,
    pipeline_id: UUID,
    instant: datetime,
    heirs: Mapping[str, tuple[str, ...]],
) -> Pipeline:
    if found := tuple(breaches(definition, previous)):
        raise InvalidDefinition("The definition breaks the rules that errors lists.", found)
    known = previous.by_key if previous else {}
    next_slot = 1 + max((stage.slot for stage in known.values()), default=0)
    stages: list[Stage] = []
    for said in definition.stages:
        stage = replace(said, idle=_in_effect(said.idle, definition))
        placed = _placed(stage, known.get(stage.key), next_slot, instant)
        next_slot = max(next_slot, placed.slot + 1)
        stages.append(placed)
    kept = {stage.key for stage in stages}
    if previous is not None:
        stages += (
            _archived(previous, stage, instant, heirs.get(stage.key, ()))
            # Those archived before stay ahead of those archived now.
            for stage in sorted(previous.stages, key=lambda s: s.archived_at is None)
            if stage.key not in kept
        )
    return Pipeline(
        pipeline_id=pipeline_id,
        key=definition.key,
        name=definition.name,
        revision=previous.revision + 1 if previous else 1,
        flow=definition.flow,
        stages=tuple(stages),
        description=definition.description,
        timezone=definition.timezone,
        calendar=definition.calendar,
        qualifying=definition.qualifying,
        moves=frozenset(definition.moves),
    )


def _placed(stage: Stage, before: Stage | None, next_slot: int, instant: datetime) -> Stage:
    """The stage in the slot that it had, or in the next one that no stage ever had."""
    # What bears on no deal's falling idle begins nothing: no flag is idle since a later hour by it.
    keeps_rule = before is not None and before.idle.same_crossing(stage.idle)
    since = before.idle.since if before and keeps_rule else instant
    return replace(
        stage,
        slot=before.slot if before else next_slot,
        idle=replace(stage.idle, since=since),
    )


def _in_effect(rule: IdleRule, definition: Definition) -> IdleRule:
    """The rule with what it takes from its pipeline."""
    return replace(
        rule,
        calendar=None if rule.elapsed else definition.calendar,
        qualifying=definition.qualifying if rule.inherits else rule.qualifying,
    )


def _archived(previous: Pipeline, stage: Stage, instant: datetime, heirs: tuple[str, ...]) -> Stage:
    if stage.archived_at is not None:
        return stage
    rank = previous.rank(stage) if stage.is_open else None
    before = previous.path[rank - 2].key if rank is not None and rank > 1 else None
    return replace(stage, archived_at=instant, succeeded_by=heirs, preceded_by=before)


def _unplaced(stage: Stage) -> Stage:
    return replace(stage, slot=UNPLACED, idle=replace(stage.idle, since=None))


@cache
def timezones() -> frozenset[str]:
    """The names of IANA's time zones, without those of a machine's own, which are no places."""
    return frozenset(
        name
        for name in available_timezones() - {"localtime", "Factory", "posixrules"}
        if not name.startswith(("right/", "posix/"))
    )
