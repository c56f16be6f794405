"""Flow through the stages in a period, and the matrix of moves (metrics.md, section 2).

What is counted is visits, of every stage: a visit of a closed one ends when its deal is reopened or
closed anew the other way. A visit bears the same in all its counts, so the balance open_at_end =
open_at_start + entries - exits holds for every stage and in every group.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from types import MappingProxyType
from typing import Final

from app.domain.durations import microseconds, quantile
from app.domain.intervals import Proportion
from app.domain.journey import TransitionKind
from app.domain.measures.hindsight import SeenVisit, Sighting
from app.domain.measures.selection import Selection, Value

EXITS: Final = (
    *(TransitionKind.ADVANCED, TransitionKind.REGRESSED, TransitionKind.SIDESTEPPED),
    *(TransitionKind.WON, TransitionKind.LOST, TransitionKind.REOPENED),
    *(TransitionKind.HANDED_OFF, TransitionKind.REARRANGED),
)
"""The ways out of a stage. Who skipped a stage has advanced."""

Move = tuple[int, int | None]
"""From which slot to which; None: handed off to another pipeline."""


@dataclass(frozen=True, slots=True)
class StageFlow:
    """The visits of one stage that were under way at some time in the period.

    `exits` counts those left in the period, by the EXITS that there were. Where the period has no
    beginning nothing was there before it; where it has no end, it ends at T.
    """

    open_at_start: int = 0
    entries: int = 0
    exits: Mapping[TransitionKind, int] = field(default_factory=lambda: MappingProxyType({}))
    open_at_end: int = 0

    @property
    def left(self) -> int:
        """All exits."""
        return sum(self.exits.values())

    @property
    def forward(self) -> Proportion:
        """(advanced + won) / all exits."""
        ahead = (self.exits.get(kind, 0) for kind in (TransitionKind.ADVANCED, TransitionKind.WON))
        return Proportion(sum(ahead), self.left, independent=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """Moves from one stage to another; `median_dwell` is the median of the stays, microseconds."""

    count: int
    median_dwell: float


def measure(
    deals: Iterable[Sighting], selection: Selection
) -> Mapping[Value, Mapping[int, StageFlow]]:
    """By group and slot: what came in, what went out and how, what was there before and after."""
    visits: dict[Value, dict[int, list[SeenVisit]]] = defaultdict(lambda: defaultdict(list))
    for visit in (visit for deal in deals for visit in deal.visits):
        if _touches(visit, selection):
            for group in selection.groups_of(visit.bearer):
                visits[group][visit.slot].append(visit)
    return {
        group: {slot: _stage_flow(found, selection) for slot, found in by_slot.items()}
        for group, by_slot in visits.items()
    }


def moves(deals: Iterable[Sighting], selection: Selection) -> Mapping[Value, Mapping[Move, Cell]]:
    """By group: every exit of the period, from where to where."""
    stays: dict[Value, dict[Move, list[int]]] = defaultdict(lambda: defaultdict(list))
    for visit, move in (left for deal in deals for left in _left(deal)):
        assert visit.left_at is not None, "it was left"
        if selection.covers(visit.left_at):
            for group in selection.groups_of(visit.bearer):
                stays[group][move].append(microseconds(visit.left_at - visit.entered_at))
    return {
        group: {move: Cell(len(found), quantile(sorted(found), 0.5)) for move, found in row.items()}
        for group, row in stays.items()
    }


def way_out(kind: TransitionKind) -> TransitionKind:
    """Which of the EXITS it is."""
    return TransitionKind.ADVANCED if kind is TransitionKind.SKIPPED else kind


def is_under_way(visit: SeenVisit, instant: datetime | None) -> bool:
    """Whether it was entered before the instant and not left before it; None: at T."""
    if instant is None:
        return visit.left_at is None
    return visit.entered_at < instant and (visit.left_at is None or visit.left_at >= instant)


def _touches(visit: SeenVisit, selection: Selection) -> bool:
    """Whether it is there at the start of the period, or entered in it."""
    at_start = selection.start is not None and is_under_way(visit, selection.start)
    return at_start or selection.covers(visit.entered_at)


def _stage_flow(visits: Iterable[SeenVisit], selection: Selection) -> StageFlow:
    start, end = selection.start, selection.end
    found = tuple(visits)
    return StageFlow(
        open_at_start=0 if start is None else sum(is_under_way(visit, start) for visit in found),
        entries=sum(selection.covers(visit.entered_at) for visit in found),
        exits=Counter(
            way_out(visit.ended_by)
            for visit in found
            if visit.left_at is not None
            and visit.ended_by is not None
            and selection.covers(visit.left_at)
        ),
        open_at_end=sum(is_under_way(visit, end) for visit in found),
    )


def _left(deal: Sighting) -> Iterator[tuple[SeenVisit, Move]]:
    """The visits that were left, each with its move: to the stage of the next visit."""
    for visit, following in zip_longest(deal.visits, deal.visits[1:]):
        if visit.left_at is not None:
            yield visit, (visit.slot, None if following is None else following.slot)
