"""Curves: how long until a stage is left, and until a deal is won (metrics.md, sections 3 and 4).

What has not ended by T, or by now where T lies ahead of the clock, is censored there: leaving it
out would make slow stages look fast and long deals short.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.domain.durations import (
    CompetingPoint,
    Point,
    Quantiles,
    incidence_curve,
    incidence_quantiles,
    microseconds,
    survival_curve,
    survival_quantiles,
)
from app.domain.journey import Status
from app.domain.measures.hindsight import Sighting
from app.domain.measures.selection import Selection, Value

CAUSES: Final = (Status.WON, Status.LOST, Status.HANDED_OFF)
"""How a deal ends; losing and being handed off compete with winning."""


@dataclass(frozen=True, slots=True)
class StageCurve:
    """The Kaplan-Meier curve of the stays in one stage, and how many of them have ended or not."""

    ended: int
    running: int
    quantiles: Quantiles
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class CycleCurve:
    """The Aalen-Johansen curves of how deals ended, with how many did, and how many have not."""

    ended: Mapping[Status, int]
    running: int
    time_to_win: Quantiles
    points: Sequence[CompetingPoint[Status]]


def stage_curve(ended: Sequence[int], running: Sequence[int]) -> StageCurve:
    """The curve of stays of these lengths, and of these ages, in microseconds."""
    return StageCurve(
        len(ended),
        len(running),
        survival_quantiles(ended, running),
        survival_curve(ended, running),
    )


def cycle_curve(ended: Mapping[Status, Sequence[int]], running: Sequence[int]) -> CycleCurve:
    """The curves of deals that ended after these lengths, or have run so long, in microseconds."""
    of_all = {cause: ended.get(cause, ()) for cause in CAUSES}
    return CycleCurve(
        {cause: len(lengths) for cause, lengths in of_all.items()},
        len(running),
        time_to_win(ended, running),
        incidence_curve(of_all, running, Status.WON),
    )


def time_to_win(ended: Mapping[Status, Sequence[int]], running: Sequence[int]) -> Quantiles:
    """When what share of all deals had been won, in the unit of the lengths."""
    of_all = {cause: ended.get(cause, ()) for cause in CAUSES}
    return incidence_quantiles(of_all, running, Status.WON)


def cycles(
    deals: Iterable[Sighting], selection: Selection, now: datetime
) -> Mapping[Value, tuple[Mapping[Status, list[int]], list[int]]]:
    """By group: how long the deals opened in the period ran, by how they ended; and those open.

    Time spent closed is not in it. `now` is the clock.
    """
    found: dict[Value, tuple[dict[Status, list[int]], list[int]]] = defaultdict(
        lambda: (defaultdict(list), [])
    )
    aged_until = min(selection.as_of, now)
    for deal in deals:
        if not selection.covers(deal.opened_at):
            continue
        for group in selection.groups_of(deal.bearer):
            ended, running = found[group]
            if deal.status is not Status.OPEN:
                ended[deal.status].append(deal.open_time)
            else:
                age = max(microseconds(aged_until - deal.entered_at), 0)
                running.append(deal.open_time + age)
    return found
