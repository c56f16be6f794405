"""Time in stage (metrics.md, section 3): how long visits in open stages lasted, or have lasted.

Visits still open at T are never left out: leaving them out makes slow stages look fast. They are
summed up apart, and the survival estimate puts both together, the open ones censored.

Nothing ages ahead of the clock: where T lies ahead of now (left out, it is the end of the present
minute), open visits are as old as they are now.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.durations import (
    NOTHING,
    TOO_FEW,
    Quantiles,
    Summary,
    microseconds,
    summary,
    survival_quantiles,
)
from app.domain.intervals import Silence
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
    """Microseconds: how long the completed stays lasted, how old the open ones are, and both.

    `survival`: Kaplan-Meier quantiles, a stay ending for whatever reason; none of stays that were
    chosen because they have ended.
    """

    completed: Summary = NOTHING
    open: Summary = NOTHING
    survival: Quantiles = TOO_FEW


def measure(
    ranking: Ranking,
    deals: Iterable[Sighting],
    selection: Selection,
    population: VisitPopulation,
    reentry: VisitReentry,
    now: datetime,
) -> Mapping[Value, Mapping[int, StageTime]]:
    """By group and slot; `now` is the clock."""
    found: dict[Value, dict[int, StageTime]] = defaultdict(dict)
    every = stays(ranking, deals, selection, population, reentry, now)
    for (group, slot), (ended, running) in every.items():
        survival = Quantiles(len(ended), reason=Silence.ENDED_ONLY)
        if population is VisitPopulation.ENTERED:
            survival = survival_quantiles(ended, running)
        found[group][slot] = StageTime(summary(ended), summary(running), survival)
    return found


def stays(
    ranking: Ranking,
    deals: Iterable[Sighting],
    selection: Selection,
    population: VisitPopulation,
    reentry: VisitReentry,
    now: datetime,
) -> Mapping[tuple[Value, int], tuple[list[int], list[int]]]:
    """By group and slot: the lengths of the completed stays, and the ages of the open ones.

    A sum is completed unless its last visit, hence any, is open at T.
    """
    parts: dict[tuple[Value, int], dict[object, list[tuple[int, bool]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    open_slots = ranking.slots(StageKind.OPEN)
    aged_until = min(selection.as_of, now)
    for number, deal in enumerate(deals):
        for place, visit in enumerate(deal.visits):
            counted = visit.entered_at if population is VisitPopulation.ENTERED else visit.left_at
            if visit.slot not in open_slots or counted is None or not selection.covers(counted):
                continue
            # A clock that was set back makes nobody younger than nothing.
            lasted = max(microseconds((visit.left_at or aged_until) - visit.entered_at), 0)
            stay = number if reentry is VisitReentry.SUM else (number, place)
            for group in selection.groups_of(visit.bearer):
                parts[group, visit.slot][stay].append((lasted, visit.left_at is None))
    found: dict[tuple[Value, int], tuple[list[int], list[int]]] = {}
    for key, visits in parts.items():
        sums = [
            (sum(lasted for lasted, _ in each), any(is_open for _, is_open in each))
            for each in visits.values()
        ]
        ended = sorted(lasted for lasted, is_open in sums if not is_open)
        found[key] = ended, sorted(lasted for lasted, is_open in sums if is_open)
    return found
