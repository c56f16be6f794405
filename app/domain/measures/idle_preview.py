"""What would other idle thresholds have done? Flags a week, and how well they foretold losses.

Replayed are the visits of open stages whose clock started in `[from, to)`, seen at T: those that
were entered there by a move of their own, and those into which a rearranged definition carried them
on. A deal's outcome is the one that it has at T. Flags that are never followed by an outcome teach
nothing yet, so open deals and those handed off stand in neither rate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from app.domain.definition import definition_of, revise
from app.domain.durations import microseconds, quantile
from app.domain.errors import Breach, Invalid, InvalidDefinition
from app.domain.intervals import MIN_CASES, Proportion, Silence
from app.domain.journey import Status
from app.domain.measures.hindsight import Sighting
from app.domain.measures.idle_replay import Episode, Rules, clocked, episodes
from app.domain.measures.selection import Selection
from app.domain.pipeline import Pipeline, Stage
from app.domain.restructuring import in_request

PERIOD: Final = timedelta(days=180)
"""What is looked at unless a period is named: long enough for most of what was flagged to have been
won or lost since, short enough to speak of the present way of selling."""

_WEEK: Final = timedelta(weeks=1)


class Replayed(StrEnum):
    """Under which rules the past was replayed."""

    PRESENT = "present"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True)
class Figures:
    """What rules did to the visits of a stage, or of all stages.

    `deals` are those that made the visits, `lost` those of them that are lost at T; `flagged` are
    the deals of the `flags` by their status at T. `lead` is the median time, in microseconds, from
    a lost deal's first flag to its loss; None for fewer than MIN_CASES.
    """

    visits: int = 0
    deals: int = 0
    lost: int = 0
    flags: int = 0
    flagged: Mapping[Status, int] = field(default_factory=lambda: MappingProxyType({}))
    lead: float | None = None

    @property
    def precision(self) -> Proportion:
        """How many of the flagged deals that are won or lost by now were lost."""
        lost, won = (self.flagged.get(status, 0) for status in (Status.LOST, Status.WON))
        return Proportion(lost, lost + won)

    @property
    def recall(self) -> Proportion:
        """How many of the lost deals had been flagged before."""
        return Proportion(self.flagged.get(Status.LOST, 0), self.lost)


NOTHING: Final = Figures()

Told: TypeAlias = Mapping[int | None, Figures]
"""By slot; None: all stages together."""


def thin(cases: int) -> Silence | None:
    """Why nothing is said about so few."""
    return Silence.TOO_FEW_CASES if cases < MIN_CASES else None


def weeks(selection: Selection, until: datetime) -> float:
    """How many weeks of the period have passed: what flags a week are divided by."""
    assert selection.start is not None, "a preview has a period"
    return (min(selection.end or until, until) - selection.start) / _WEEK


def tried(
    pipeline: Pipeline, trials: Mapping[str, Callable[[Stage], Stage]], instant: datetime
) -> Pipeline:
    """The revision that these changes of stages would make, by key; nothing is saved.

    Raises Invalid for a stage that is not open and in use, InvalidDefinition for what no definition
    may say; both point into `/stages/<key>`.
    """
    present = definition_of(pipeline)
    places = {f"/stages/{n}": f"/stages/{stage.key}" for n, stage in enumerate(present.stages)}
    if wrong := [breach for key in trials if (breach := _untriable(pipeline, key)) is not None]:
        raise Invalid("These stages have no idle rule to be tried.", wrong)
    stages = tuple(trials.get(stage.key, _same)(stage) for stage in present.stages)
    try:
        return revise(pipeline, replace(present, stages=stages), instant)
    except InvalidDefinition as refused:
        errors = [in_request(breach, places) for breach in refused.errors]
        raise InvalidDefinition(refused.detail, errors) from refused


def measure(
    pipeline: Pipeline, rules: Rules, deals: Sequence[Sighting], selection: Selection, now: datetime
) -> Told:
    """By slot, and of all: what these rules would have done. `now` is the clock."""
    made: list[_Made] = []
    for deal in deals:
        visits = clocked(pipeline, deal, min(selection.as_of, now))
        here = [visit for visit in visits if selection.covers(visit.moved_at)]
        opened = episodes(rules, here, deal.activities)
        made += (_Made(deal, visit.slot, None) for visit in here)
        made += (_Made(deal, episode.slot, episode) for episode in opened)
    slots = {each.slot for each in made}
    return {
        slot: _figures([each for each in made if slot in (None, each.slot)])
        for slot in (None, *slots)
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A visit that a deal made, or an episode of it."""

    deal: Sighting
    slot: int
    episode: Episode | None


def _figures(made: Sequence[_Made]) -> Figures:
    deals = {id(each.deal): each.deal for each in made}
    first: dict[int, datetime] = {}
    flags = 0
    for each in made:
        if each.episode is not None:
            flags += 1
            known = first.get(id(each.deal), each.episode.opened_at)
            first[id(each.deal)] = min(known, each.episode.opened_at)
    leads = sorted(
        microseconds(closed_at - first[deal])
        for deal, seen in deals.items()
        if seen.status is Status.LOST and (closed_at := seen.closed_at) and deal in first
    )
    statuses = [deals[deal].status for deal in first]
    return Figures(
        visits=sum(each.episode is None for each in made),
        deals=len(deals),
        lost=sum(deal.status is Status.LOST for deal in deals.values()),
        flags=flags,
        flagged={status: statuses.count(status) for status in Status if status in statuses},
        lead=median_lead(leads),
    )


def median_lead(leads: Sequence[int]) -> float | None:
    """The median of ascending lead times; None for fewer than MIN_CASES."""
    return None if thin(len(leads)) else quantile(leads, 0.5)


def _untriable(pipeline: Pipeline, key: str) -> Breach | None:
    stage, at = pipeline.by_key.get(key), f"/stages/{key}"
    if stage is None:
        return Breach(at, "unknown_stage", f"The pipeline has no stage {key!r}.")
    if stage.archived_at is not None:
        return Breach(at, "unknown_stage", f"The stage {key!r} is not in use any more.")
    if not stage.is_open:
        return Breach(at, "open_stages_only", "Only an open stage has an idle rule.")
    return None


def _same(stage: Stage) -> Stage:
    return stage
