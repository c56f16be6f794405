"""A sales process as it stands in one revision: its stages, their order, and the moves it allows.

These are values that were found valid when they were saved; `domain.definition` decides what a
valid definition is and how one revision becomes the next. Nothing here looks at a deal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from app.domain.business_calendar import BusinessCalendar
from app.domain.errors import UnknownStage
from app.domain.period import Period

MAX_STAGES = 60
"""Stages of a pipeline in its whole life: each keeps a bit of the reach mask, a 64-bit integer."""

QUALIFYING = ("call", "email", "meeting", "demo")
"""The kinds of activity that count as a follow-up where a definition names no others."""

UNKNOWN_LOSS_REASON = "unknown"
"""Every lost stage has it, for imported history alone."""


class StageKind(StrEnum):
    """What standing in a stage means: under way, won or lost."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class Flow(StrEnum):
    """Which moves are allowed between open stages."""

    FREE = "free"
    FORWARD = "forward"
    SEQUENTIAL = "sequential"
    GRAPH = "graph"


class IdleClock(StrEnum):
    """What a stage's idle clock measures: time in the stage, or time since anything was done."""

    STAGE_AGE = "stage_age"
    INACTIVITY = "inactivity"


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """A guard: the deal must bear a value at `path` (JSON Pointer) before it enters the stage."""

    path: str


@dataclass(frozen=True, slots=True)
class LossReason:
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Guidance:
    """What the seller should do in a stage."""

    goal: str | None = None
    key_actions: tuple[str, ...] = ()
    assessment_criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdleRule:
    """When a deal in the stage counts as idle. `after` None: never.

    A flag becomes critical `critical_after` the clock's start, else after twice the threshold. A
    planned next step holds a flag back for at most `max_pause` beyond the crossing; None: not at
    all. `qualifying` names the activity kinds that count as a follow-up: they reset an inactivity
    clock, and the stage's cadence begins anew. `since` is the instant at which this rule came into
    force: no deal goes idle by a rule before the rule existed.

    `calendar` and `qualifying` are those in effect: the pipeline's own calendar, unless the stage
    counts `elapsed` time; the pipeline's own kinds, where the stage `inherits` them.
    """

    clock: IdleClock = IdleClock.STAGE_AGE
    after: Period | None = None
    after_by_priority: Mapping[str, Period | None] = field(
        default_factory=lambda: MappingProxyType({})
    )
    critical_after: Period | None = None
    max_pause: Period | None = None
    elapsed: bool = False
    calendar: BusinessCalendar | None = None
    inherits: bool = False
    qualifying: tuple[str, ...] = QUALIFYING
    since: datetime | None = None

    def threshold(self, priority: str | None) -> Period | None:
        """How long a deal of this priority may sit; None: for ever."""
        if priority is not None and priority in self.after_by_priority:
            return self.after_by_priority[priority]
        return self.after

    def critical(self, priority: str | None) -> Period | None:
        """How long until a flag of a deal of this priority is critical; None: it never is."""
        threshold = self.threshold(priority)
        return None if threshold is None else self.critical_after or threshold.doubled()

    @property
    def opens_critical(self) -> bool:
        """Whether a flag of some deal is critical as it opens, by what the rule says.

        Days and clock seconds of a calendar are not measured against each other.
        """
        critical = self.critical_after
        return critical is not None and any(
            critical.length <= after.length
            and (self.calendar is None or bool(critical.seconds) == bool(after.seconds))
            for after in (self.after, *self.after_by_priority.values())
            if after is not None
        )

    def treats_alike(self, other: "IdleRule", priority: str | None) -> bool:
        """Whether a deal of this priority goes idle by the one when it does by the other."""
        return (
            self.clock is other.clock
            and self.threshold(priority) == other.threshold(priority)
            and self.max_pause == other.max_pause
            and self.calendar == other.calendar
            and (self.clock is IdleClock.STAGE_AGE or set(self.qualifying) == set(other.qualifying))
        )

    def same_crossing(self, other: "IdleRule") -> bool:
        """Whether every deal goes idle by the one when it does by the other."""
        return self.after_by_priority.keys() == other.after_by_priority.keys() and all(
            self.treats_alike(other, priority) for priority in (None, *self.after_by_priority)
        )

    def same_terms(self, other: "IdleRule") -> bool:
        """Whether both ask the same of a deal, whenever they came into force."""
        return (
            self.same_crossing(other)
            and self.critical_after == other.critical_after
            and set(self.qualifying) == set(other.qualifying)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step. `key`, `kind` and `slot` never change in the life of the pipeline.

    `succeeded_by` is the lineage of a stage that was split (its parts, in order) or merged (the
    one it went into); `preceded_by` the nearest ranked stage before it when it was archived.
    Together they give an archived stage the rank of its heir.
    """

    key: str
    name: str
    kind: StageKind
    slot: int
    off_path: bool = False
    description: str | None = None
    probability: Decimal | None = None
    idle: IdleRule = IdleRule()
    follow_up_every: Period | None = None
    target_conversion: Decimal | None = None
    target_dwell: Period | None = None
    guidance: Guidance | None = None
    entry_requirements: tuple[FieldRequirement, ...] = ()
    loss_reasons: tuple[LossReason, ...] = ()
    archived_at: datetime | None = None
    succeeded_by: tuple[str, ...] = ()
    preceded_by: str | None = None

    @property
    def is_open(self) -> bool:
        return self.kind is StageKind.OPEN

    @property
    def bit(self) -> int:
        """The stage's bit in a reach mask."""
        return 1 << (self.slot - 1)

    def accepts_loss_reason(self, key: str) -> bool:
        return any(reason.key == key for reason in self.loss_reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One revision of a pipeline: every stage it ever had, in order, archived ones included.

    `moves` lists the allowed (from, to) pairs and is used by `Flow.GRAPH` alone. `calendar` and
    `qualifying` are what the idle rules of its stages go by where those say nothing else.
    """

    pipeline_id: UUID
    key: str
    name: str
    revision: int
    flow: Flow
    stages: tuple[Stage, ...]
    description: str | None = None
    timezone: str = "UTC"
    calendar: BusinessCalendar | None = None
    qualifying: tuple[str, ...] = QUALIFYING
    moves: frozenset[tuple[str, str]] = frozenset()
    archived_at: datetime | None = None
    by_key: Mapping[str, Stage] = field(init=False, repr=False, compare=False)
    by_slot: Mapping[int, Stage] = field(init=False, repr=False, compare=False)
    path: tuple[Stage, ...] = field(init=False, repr=False, compare=False)
    """The ranked open stages in use, in order: rank 1 is the first."""
    rank_by_slot: Mapping[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        settle = object.__setattr__  # the frozen dataclass's one way to derive a field
        settle(self, "by_key", MappingProxyType({s.key: s for s in self.stages}))
        settle(self, "by_slot", MappingProxyType({s.slot: s for s in self.stages}))
        path = tuple(
            s for s in self.stages if s.is_open and not s.off_path and s.archived_at is None
        )
        settle(self, "path", path)
        settle(self, "rank_by_slot", MappingProxyType(dict(self._ranks(path))))

    def stage(self, key: str) -> Stage:
        """The stage of that key, archived or not; raises UnknownStage."""
        try:
            return self.by_key[key]
        except KeyError:
            raise UnknownStage(
                f"Pipeline {self.key!r} has no stage {key!r}; "
                f"it has {', '.join(s.key for s in self.stages if s.archived_at is None)}."
            ) from None

    @property
    def won_rank(self) -> int:
        """k + 1: every won stage ranks after the last open one (metrics.md, Notation)."""
        return len(self.path) + 1

    def rank(self, stage: Stage) -> int | None:
        """Where the stage stands in the order; None off the path and for lost stages."""
        return self.rank_by_slot.get(stage.slot)

    def slots(self, kind: StageKind) -> tuple[int, ...]:
        """The slots of every stage of the kind that the pipeline ever had."""
        return tuple(s.slot for s in self.stages if s.kind is kind)

    def _ranks(self, path: tuple[Stage, ...]) -> Iterator[tuple[int, int]]:
        place = {stage.key: rank for rank, stage in enumerate(path, start=1)}
        for stage in self.stages:
            if stage.kind is StageKind.WON:
                yield stage.slot, len(path) + 1
            elif stage.is_open and not stage.off_path:
                yield stage.slot, self._heir_rank(stage, place)

    def _heir_rank(self, stage: Stage, place: Mapping[str, int]) -> int:
        """A stage no longer in the order has its heir's rank, else 1 (metrics.md, Notation)."""
        seen: set[str] = set()
        while stage.key not in place:
            seen.add(stage.key)
            heir = stage.succeeded_by[0] if stage.succeeded_by else stage.preceded_by
            if heir is None or heir in seen or heir not in self.by_key:
                return 1
            stage = self.by_key[heir]
        return place[stage.key]
