"""What stands behind a count: a cell says which deals or visits it counts, `held` which those are.

The figures are counted elsewhere, by other code (`domain.funnel`, `domain.measures`); here is only
what makes up each of their counts, so that the number and the list can be held against each other.
`storage.queries.cells` lists the same things in SQL. What cells are called: `cell_names`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from app.domain.durations import microseconds
from app.domain.journey import Status, TransitionKind
from app.domain.measures.closings import DealPopulation, closed_deals
from app.domain.measures.hindsight import SeenVisit, Sighting, effective_probability
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Bearer, Selection
from app.domain.measures.snapshot import bucket_boundaries, is_idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a deal looks to the funnel: what is left out asks nothing.

    `at_least` and `at_most` bound the furthest rank. `visited` and `unvisited` are masks: one stage
    of the first was visited, none of the second. `stepped`: it first entered the one slot, and the
    other at some time after that.
    """

    at_least: int = 1
    at_most: int | None = None
    statuses: frozenset[Status] | None = None
    visited: int = 0
    unvisited: int = 0
    stepped: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class CohortCell:
    """Deals opened in the period that look like any of these; no deal looks like two."""

    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedCell:
    """Deals closed with one of these outcomes, and for losses: from where, and why.

    In `from_slots` None is a deal that was opened as lost, in `reasons` one lost without a reason.
    """

    population: DealPopulation
    statuses: frozenset[Status]
    from_slots: frozenset[int | None] | None = None
    reasons: frozenset[str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingCell:
    """Open deals at T: in this stage, idle, unweighted (an amount but no probability), so old."""

    slot: int | None = None
    idle: bool = False
    unweighted: bool = False
    bucket: int | None = None


class Counted(StrEnum):
    """Which visits: of the deals opened in the period, or by their own instants and the period's.

    `AT_START` and `AT_END` are under way when the period begins and ends; without an end, at T.
    """

    COHORT = "cohort"
    ENTERED = "entered"
    LEFT = "left"
    AT_START = "at_start"
    AT_END = "at_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitCell:
    """Visits of these stages; `ended`: over at T, or not; None: both.

    `within` is a period of the cell's own, instead of the selection's. `arriving`: the deal came
    from none of these stages. `ended_by` are the kinds of moves that ended the visits, `to_slot`
    where those led. `summed`, of one stage: the visits of a deal are one thing, which is over when
    the last of them is.
    """

    slots: frozenset[int]
    counted: Counted
    within: tuple[datetime, datetime] | None = None
    arriving: bool = False
    ended: bool | None = None
    ended_by: frozenset[TransitionKind] | None = None
    to_slot: int | None = None
    summed: bool = False

    def narrowed(self, selection: Selection) -> Selection:
        """The selection with the period of which the cell is."""
        if self.within is None:
            return selection
        start, end = self.within
        return replace(selection, start=start, end=end)


Cell = CohortCell | ClosedCell | StandingCell | VisitCell


@dataclass(frozen=True, slots=True)
class Stay:
    """A visit, or the visits of a deal in a stage added up: from the first on, `lasted` in all.

    `lasted` is in microseconds; what is not over has aged to T, but never ahead of the clock.
    """

    slot: int
    entered_at: datetime
    left_at: datetime | None
    lasted: int


@dataclass(frozen=True, slots=True)
class Held:
    """One thing that a cell counts: a deal, by its number among those given, or a stay of it."""

    number: int
    stay: Stay | None = None


def held(
    cell: Cell, ranking: Ranking, deals: Sequence[Sighting], selection: Selection, now: datetime
) -> list[Held]:
    """What the cell holds of all deals seen at T, in their order; `now` is the clock.

    A group is opened as the filter on its value: what the selection groups by is not looked at.
    """
    selection = replace(selection, group_by=None)
    match cell:
        case CohortCell():
            found = _cohort(cell, ranking, deals, selection)
        case ClosedCell():
            found = _closed(cell, deals, selection)
        case StandingCell():
            found = _standing(cell, ranking, deals, selection, now)
        case VisitCell():
            found = _visits(cell, deals, cell.narrowed(selection), now)
    return [*found]


def _cohort(
    cell: CohortCell, ranking: Ranking, deals: Sequence[Sighting], selection: Selection
) -> Iterator[Held]:
    for number, deal in enumerate(deals):
        opened = selection.covers(deal.opened_at) and _passes(selection, deal.bearer)
        if opened and any(_looks(deal, look, ranking) for look in cell.looks):
            yield Held(number)


def _looks(deal: Sighting, look: Look, ranking: Ranking) -> bool:
    furthest = ranking.furthest(deal.status, deal.reach_mask)
    return (
        look.at_least <= furthest
        and (look.at_most is None or furthest <= look.at_most)
        and (look.statuses is None or deal.status in look.statuses)
        and (not look.visited or bool(deal.reach_mask & look.visited))
        and not deal.reach_mask & look.unvisited
        and (look.stepped is None or _stepped(deal, *look.stepped))
    )


def _stepped(deal: Sighting, here: int, following: int) -> bool:
    stays = [visit.slot for visit in deal.visits]
    return here in stays and following in stays[stays.index(here) + 1 :]


def _closed(cell: ClosedCell, deals: Sequence[Sighting], selection: Selection) -> Iterator[Held]:
    for number, deal in enumerate(deals):
        if (
            any(closed_deals([deal], selection, cell.population))
            and deal.status in cell.statuses
            and (cell.from_slots is None or deal.last.from_slot in cell.from_slots)
            and (cell.reasons is None or deal.last.loss_reason in cell.reasons)
        ):
            yield Held(number)


def _standing(
    cell: StandingCell,
    ranking: Ranking,
    deals: Sequence[Sighting],
    selection: Selection,
    now: datetime,
) -> Iterator[Held]:
    boundaries = bucket_boundaries(ranking, deals, selection.as_of)
    aged_until = min(selection.as_of, now)
    for number, deal in enumerate(deals):
        stands = deal.status is Status.OPEN and cell.slot in (None, deal.slot)
        if not stands or not _passes(selection, deal.bearer):
            continue
        stage = ranking.stage(deal.slot)
        if cell.idle and not is_idle(stage, deal, aged_until):
            continue
        probability = effective_probability(deal.facts, stage.probability)
        if cell.unweighted and (deal.facts.amount is None or probability is not None):
            continue
        if cell.bucket is not None:
            ends = boundaries.get(deal.slot)
            age = max(microseconds(aged_until - deal.entered_at), 0)
            if ends is None or bisect_right(ends, age) != cell.bucket:
                continue
        yield Held(number)


def _visits(
    cell: VisitCell, deals: Sequence[Sighting], selection: Selection, now: datetime
) -> Iterator[Held]:
    aged_until = min(selection.as_of, now)
    for number, deal in enumerate(deals):
        stays = [
            Stay(
                slot=visit.slot,
                entered_at=visit.entered_at,
                left_at=visit.left_at,
                lasted=max(microseconds((visit.left_at or aged_until) - visit.entered_at), 0),
            )
            for before, visit, following in zip(
                (None, *deal.visits), deal.visits, (*deal.visits[1:], None), strict=False
            )
            if _is_counted(cell, deal, visit, selection)
            and _began_so(cell, before)
            and _ended_so(cell, visit, following)
        ]
        for stay in [_summed(stays)] if cell.summed and stays else stays:
            if cell.ended is None or cell.ended == (stay.left_at is not None):
                yield Held(number, stay)


def _is_counted(cell: VisitCell, deal: Sighting, visit: SeenVisit, selection: Selection) -> bool:
    """Whether the visit is one of the stages and the population, however it began and ended."""
    bearer = deal.bearer if cell.counted is Counted.COHORT else visit.bearer
    return (
        visit.slot in cell.slots
        and _is_of_period(cell.counted, deal, visit, selection)
        and _passes(selection, bearer)
    )


def _is_of_period(counted: Counted, deal: Sighting, visit: SeenVisit, selection: Selection) -> bool:
    match counted:
        case Counted.COHORT:
            return selection.covers(deal.opened_at)
        case Counted.ENTERED:
            return selection.covers(visit.entered_at)
        case Counted.LEFT:
            return visit.left_at is not None and selection.covers(visit.left_at)
        case Counted.AT_START:
            return selection.start is not None and _is_under_way(visit, selection.start)
        case Counted.AT_END:
            return _is_under_way(visit, selection.end or selection.as_of)


def _is_under_way(visit: SeenVisit, at: datetime) -> bool:
    """Whether the visit, as it was seen, had begun before the instant and did not end before it."""
    return visit.entered_at < at and (visit.left_at is None or visit.left_at >= at)


def _began_so(cell: VisitCell, before: SeenVisit | None) -> bool:
    """Whether the visit began as the cell asks; the one before it tells whence the deal came."""
    return not cell.arriving or before is None or before.slot not in cell.slots


def _ended_so(cell: VisitCell, visit: SeenVisit, following: SeenVisit | None) -> bool:
    """Whether the visit ended as the cell asks; the next one tells where the move led."""
    if cell.ended_by is not None and visit.ended_by not in cell.ended_by:
        return False
    return cell.to_slot is None or (following is not None and following.slot == cell.to_slot)


def _summed(stays: Sequence[Stay]) -> Stay:
    """The stays of one deal as one thing; only the last of them can be under way."""
    return replace(stays[0], left_at=stays[-1].left_at, lasted=sum(stay.lasted for stay in stays))


def _passes(selection: Selection, bearer: Bearer) -> bool:
    """Whether what bears these values passes the filters of a selection that groups nothing."""
    return any(True for _ in selection.groups_of(bearer))
