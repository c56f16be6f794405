"""Time in stage (metrics.md, section 3): how long visits in open stages lasted, or have lasted.

Visits still open at T are kept apart and never left out: leaving them out makes slow stages look
fast. Survival estimates, which put both together, are not here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.durations import NOTHING, Summary, microseconds, summary
from app.domain.measures.hindsight import Sighting
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection, Value
from app.domain.pipeline import StageKind


class VisitPopulation(StrEnum):
    """Which visits: those entered in the period, or those that ended there."""

    ENTERED = "entered"
    LEFT = "left"


class VisitReentry(StrEnum):
    """Each visit by itself, or those of a deal in a stage added up."""

    EVERY = "every"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class StageTime:
    """Microseconds: how long the completed stays lasted, and how old the open ones are."""

    completed: Summary = NOTHING
    open: Summary = NOTHING


def measure(
    ranking: Ranking,
    deals: Iterable[Sighting],
    selection: Selection,
    population: VisitPopulation,
    reentry: VisitReentry,
) -> Mapping[Value, Mapping[int, StageTime]]:
    """By group and slot; a sum is completed unless its last visit, hence any, is open at T."""
    stays: dict[tuple[Value, int], dict[object, list[tuple[int, bool]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    open_slots = ranking.slots(StageKind.OPEN)
    for number, deal in enumerate(deals):
        for place, visit in enumerate(deal.visits):
            counted = visit.entered_at if population is VisitPopulation.ENTERED else visit.left_at
            if visit.slot not in open_slots or counted is None or not selection.covers(counted):
                continue
            lasted = microseconds((visit.left_at or selection.as_of) - visit.entered_at)
            stay = number if reentry is VisitReentry.SUM else (number, place)
            for group in selection.groups_of(visit.bearer):
                stays[group, visit.slot][stay].append((lasted, visit.left_at is None))
    found: dict[Value, dict[int, StageTime]] = defaultdict(dict)
    for (group, slot), visits in stays.items():
        sums = [
            (sum(lasted for lasted, _ in parts), any(is_open for _, is_open in parts))
            for parts in visits.values()
        ]
        found[group][slot] = StageTime(
            completed=summary(lasted for lasted, is_open in sums if not is_open),
            open=summary(lasted for lasted, is_open in sums if is_open),
        )
    return found
