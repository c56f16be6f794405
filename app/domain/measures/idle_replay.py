"""Which flags would idle rules have opened, had they always been in force? Told of past visits.

A replay knows the clock alone: crossings and what resets them. Holds (snoozes, planned next steps,
the instant at which a rule came into force) are not replayed, nor is when things were recorded: an
activity counts from the instant at which it occurred. `storage.queries.idle_replay` says the same
of many visits in columns, and property tests hold the two together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

from app.domain.idleness import crossing
from app.domain.journey import TransitionKind
from app.domain.measures.hindsight import Deed, Sighting
from app.domain.pipeline import IdleClock, IdleRule, Pipeline

Rules: TypeAlias = Mapping[int, IdleRule]
"""By the slot of an open stage: the rule of its deals."""

MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ClockedVisit:
    """A visit of an open stage, as an idle clock sees it.

    `moved_at` is the deal's last move of its own: a rearranged definition begins a visit, but no
    clock. `ended_at` is when it was left; of a visit under way the first instant not looked at.
    `rearranged`: a changed definition began or ended it, so that its length tells nothing of deals.
    """

    slot: int
    entered_at: datetime
    ended_at: datetime
    moved_at: datetime
    priority: str | None
    under_way: bool
    rearranged: bool


@dataclass(frozen=True, slots=True)
class Episode:
    """A flag that would have been opened, in the stage of this slot."""

    slot: int
    clock_started_at: datetime
    opened_at: datetime


def rules_of(pipeline: Pipeline) -> Rules:
    """The rules of its open stages, archived ones included."""
    return {stage.slot: stage.idle for stage in pipeline.stages if stage.is_open}


def clocked(pipeline: Pipeline, deal: Sighting, until: datetime) -> list[ClockedVisit]:
    """The deal's visits of open stages, in order; what is under way is seen up to `until`.

    They bear the priority that was frozen when they ended, or the present one: the sighting is
    attributed at the move.
    """
    found: list[ClockedVisit] = []
    begun_by: TransitionKind | None = None
    moved_at = deal.opened_at
    for visit in deal.visits:
        if begun_by is not TransitionKind.REARRANGED:
            moved_at = visit.entered_at
        if pipeline.by_slot[visit.slot].is_open:
            found.append(
                ClockedVisit(
                    slot=visit.slot,
                    entered_at=visit.entered_at,
                    ended_at=until + MOMENT if visit.left_at is None else visit.left_at,
                    moved_at=moved_at,
                    priority=visit.bearer.priority,
                    under_way=visit.left_at is None,
                    rearranged=TransitionKind.REARRANGED in (begun_by, visit.ended_by),
                )
            )
        begun_by = visit.ended_by
    return found


def episodes(
    rules: Rules, visits: Iterable[ClockedVisit], activities: Sequence[Deed]
) -> list[Episode]:
    """The flags of one deal: one a clock start, opened where its threshold was first passed."""
    found: dict[datetime, Episode] = {}
    for visit in visits:
        for episode in crossed(rules[visit.slot], visit, activities):
            found.setdefault(episode.clock_started_at, episode)
    return list(found.values())


def crossed(rule: IdleRule, visit: ClockedVisit, activities: Iterable[Deed]) -> list[Episode]:
    """The silences of a visit that reached the rule's threshold before they ended."""
    starts = {visit.moved_at}
    if rule.clock is IdleClock.INACTIVITY:
        starts |= {
            deed.occurred_at
            for deed in activities
            if deed.kind in rule.qualifying and visit.moved_at < deed.occurred_at < visit.ended_at
        }
    found = []
    for start, reset in pairwise([*sorted(starts), visit.ended_at]):
        due = crossing(rule, visit.priority, start)
        # A clock that went on through a rearrangement may have been past its new threshold.
        if due is not None and (opened := max(due, visit.entered_at)) < reset:
            found.append(Episode(visit.slot, start, opened))
    return found
