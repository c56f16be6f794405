"""The snapshot (metrics.md, section 5): the open deals at T, in the stages where they stand.

Idle is told by crossing and rule alone, without holds: what the figure says of a past T must not
depend on who snoozed what. The age buckets of a stage end at quantiles of the visits that left it
in the year before T, whoever made them, so every group is measured by the same yardstick.

Nothing ages ahead of the clock: where T lies ahead of now (left out, it is the end of the present
minute), ages and idle are those of now.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from app.domain.durations import microseconds, quantile
from app.domain.idleness import crossing
from app.domain.journey import Status
from app.domain.measures.hindsight import Sighting, effective_probability
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection, Value
from app.domain.measures.sums import NO_AMOUNTS, NONE, Amounts, Count, added, one
from app.domain.pipeline import IdleClock, Stage, StageKind

BUCKET_SHARES: Final = (0.5, 0.7, 0.85, 0.95)
BUCKET_YEAR: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Standing:
    """The open deals that stand in one stage. Ages are microseconds.

    `weighted` sums amount × probability; `unweighted` counts the deals that have an amount but no
    probability, neither of their own nor of their stage. `buckets` counts deals by age: below the
    first of `boundaries`, from each to the next, from the last on; both are empty where no visit
    left the stage in the year before T.
    """

    count: Count = NONE
    weighted: Amounts = field(default_factory=lambda: NO_AMOUNTS)
    unweighted: int = 0
    median_age: float | None = None
    idle: int = 0
    boundaries: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()


def measure(
    ranking: Ranking, deals: Sequence[Sighting], selection: Selection, now: datetime
) -> Mapping[Value, Mapping[int, Standing]]:
    """By group and slot, for every slot in which open deals stand; `now` is the clock."""
    boundaries = bucket_boundaries(ranking, deals, selection.as_of)
    aged_until = min(selection.as_of, now)
    standing: dict[Value, dict[int, list[Sighting]]] = defaultdict(lambda: defaultdict(list))
    for deal in deals:
        if deal.status is Status.OPEN:
            for group in selection.groups_of(deal.bearer):
                standing[group][deal.slot].append(deal)
    return {
        group: {
            slot: _standing(ranking.stage(slot), found, aged_until, boundaries.get(slot, ()))
            for slot, found in by_slot.items()
        }
        for group, by_slot in standing.items()
    }


def bucket_boundaries(
    ranking: Ranking, deals: Iterable[Sighting], as_of: datetime
) -> Mapping[int, tuple[float, ...]]:
    """By slot: the ages at which its buckets end."""
    lasted: dict[int, list[int]] = defaultdict(list)
    for visit in (visit for deal in deals for visit in deal.visits):
        if visit.left_at is not None and visit.left_at >= as_of - BUCKET_YEAR:
            lasted[visit.slot].append(microseconds(visit.left_at - visit.entered_at))
    return {
        slot: tuple(quantile(sorted(lasted[slot]), share) for share in BUCKET_SHARES)
        for slot in ranking.slots(StageKind.OPEN)
        if slot in lasted
    }


def is_idle(stage: Stage, deal: Sighting, at: datetime) -> bool:
    """Whether the age has reached the stage's threshold at that instant."""
    started = deal.moved_at
    if stage.idle.clock is IdleClock.INACTIVITY:
        started = max(
            [
                started,
                *(d.occurred_at for d in deal.activities if d.kind in stage.idle.qualifying),
            ]
        )
    due = crossing(stage.idle, deal.facts.priority, started)
    return due is not None and due <= at


def _standing(
    stage: Stage, deals: Sequence[Sighting], at: datetime, boundaries: tuple[float, ...]
) -> Standing:
    count, weighted, unweighted = NONE, NO_AMOUNTS, 0
    for deal in deals:
        amount, currency = deal.facts.amount, deal.facts.currency
        count += one(amount, currency)
        if amount is None or currency is None:
            continue
        probability = effective_probability(deal.facts, stage.probability)
        if probability is None:
            unweighted += 1
        else:
            weighted = added(weighted, {currency: amount * probability})
    # A clock that was set back makes nobody younger than nothing.
    ages = sorted(max(microseconds(at - deal.entered_at), 0) for deal in deals)
    ends = [0.0, *boundaries, float("inf")]
    return Standing(
        count=count,
        weighted=weighted,
        unweighted=unweighted,
        median_age=quantile(ages, 0.5),
        idle=sum(is_idle(stage, deal, at) for deal in deals),
        boundaries=boundaries,
        buckets=tuple(sum(low <= age < high for age in ages) for low, high in pairwise(ends))
        if boundaries
        else (),
    )
