"""The cohort funnel (metrics.md, section 1): from deals seen at T to counts, from counts to rates.

`tallies` and the two `steps` say in plain Python what is counted; the database counts the same
sets (`storage.queries.funnel`), and `measure` makes the funnel of either. A tally is all deals
that look alike to the funnel, so a million deals are a few hundred tallies.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from app.domain.intervals import Proportion
from app.domain.journey import Status, TransitionKind
from app.domain.measures.hindsight import Sighting
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection, Value
from app.domain.measures.sums import NONE, Count, one, total

FORWARD = (TransitionKind.ADVANCED, TransitionKind.SKIPPED, TransitionKind.WON)
"""The moves that end a visit forward: advanced, skipped included, and won."""


class Skip(StrEnum):
    """Whether a stage that was passed over counts as reached in `conversion_to_next`."""

    IMPLIED = "implied"
    OBSERVED = "observed"


class Reentry(StrEnum):
    """Whether `conversion_to_next` counts each deal once, or each of its visits."""

    FIRST = "first"
    EVERY = "every"


@dataclass(frozen=True, slots=True)
class Tally:
    """Deals of one status and one reach mask, which is all that a funnel asks of a deal."""

    status: Status
    reach_mask: int
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One row of the funnel. The won rank alone has `ever_won` and `won_undone`.

    Conversions are None where they mean nothing: from the won rank on.
    """

    rank: int
    reached: Count
    entered: Count
    implied: Count
    open_furthest: Count
    lost_furthest: Count
    handed_off_furthest: Count
    ever_won: Count | None
    won_undone: Count | None
    to_next: Proportion | None
    from_start: Proportion
    to_won: Proportion | None
    decided: Proportion | None


def cohort(sightings: Iterable[Sighting], selection: Selection) -> Mapping[Value, list[Sighting]]:
    """The deals opened in the period that pass the filters, by group."""
    found: dict[Value, list[Sighting]] = defaultdict(list)
    for deal in sightings:
        if selection.covers(deal.opened_at):
            for group in selection.groups_of(deal.bearer):
                found[group].append(deal)
    return found


def tallies(deals: Iterable[Sighting]) -> list[Tally]:
    """The cohort's deals, those alike together."""
    found: dict[tuple[Status, int], Count] = {}
    for deal in deals:
        alike = deal.status, deal.reach_mask
        counted = one(deal.facts.amount, deal.facts.currency)
        found[alike] = found.get(alike, NONE) + counted
    return [Tally(status, mask, count) for (status, mask), count in found.items()]


def observed_steps(ranking: Ranking, deals: Iterable[Sighting]) -> Mapping[int, int]:
    """By rank below the last open one: deals that entered it, and after that the next itself."""
    found: Counter[int] = Counter()
    for deal in deals:
        stays = [visit.slot for visit in deal.visits]
        for rank, (here, following) in enumerate(pairwise(ranking.path), start=1):
            if here.slot in stays and following.slot in stays[stays.index(here.slot) + 1 :]:
                found[rank] += 1
    return found


def visit_steps(ranking: Ranking, deals: Iterable[Sighting]) -> Mapping[int, Proportion]:
    """By open rank: visits of its stage that ended forward, of all visits of it."""
    rank_of = {stage.slot: rank for rank, stage in enumerate(ranking.path, start=1)}
    ended: Counter[int] = Counter()
    stays: Counter[int] = Counter()
    for visit in (visit for deal in deals for visit in deal.visits):
        rank = rank_of.get(visit.slot)
        if rank is not None:
            stays[rank] += 1
            ended[rank] += visit.ended_by in FORWARD
    return {rank: Proportion(ended[rank], of, independent=False) for rank, of in stays.items()}


def measure(
    ranking: Ranking,
    cohort: Iterable[Tally],
    *,
    observed: Mapping[int, int] | None = None,
    visits: Mapping[int, Proportion] | None = None,
) -> tuple[Rank, ...]:
    """The funnel of a cohort, rank 1 to k + 1.

    `conversion_to_next` is that of `skip=implied` unless `observed` steps are given, or of
    `reentry=every` where `visits` are.
    """
    counts = _counts(ranking, cohort)
    won_rank = ranking.won_rank
    reached = {rank: counts[rank]["reached"].deals for rank in range(1, won_rank + 1)}

    def to_next(rank: int) -> Proportion:
        if visits is not None:
            return visits.get(rank, Proportion(0, 0, independent=False))
        if observed is None:
            return Proportion(reached[rank + 1], reached[rank])
        last = rank + 1 == won_rank
        onward = counts[rank]["won_after"].deals if last else observed.get(rank, 0)
        return Proportion(onward, counts[rank]["entered"].deals)

    def decided(rank: int) -> Proportion:
        left = counts[rank]["open_furthest"].deals + counts[rank]["handed_off_furthest"].deals
        return Proportion(reached[rank + 1], reached[rank] - left)

    return tuple(
        Rank(
            rank=rank,
            reached=counts[rank]["reached"],
            entered=counts[rank]["entered"],
            implied=counts[rank]["implied"],
            open_furthest=counts[rank]["open_furthest"],
            lost_furthest=counts[rank]["lost_furthest"],
            handed_off_furthest=counts[rank]["handed_off_furthest"],
            ever_won=counts[rank]["ever_won"] if rank == won_rank else None,
            won_undone=counts[rank]["won_undone"] if rank == won_rank else None,
            to_next=to_next(rank) if rank < won_rank else None,
            from_start=Proportion(reached[rank], reached[1]),
            to_won=Proportion(reached[won_rank], reached[rank]) if rank < won_rank else None,
            decided=decided(rank) if rank < won_rank else None,
        )
        for rank in range(1, won_rank + 1)
    )


def _counts(ranking: Ranking, cohort: Iterable[Tally]) -> Mapping[int, Mapping[str, Count]]:
    """What each rank counts, by the name of the count."""
    found: dict[int, dict[str, list[Count]]] = defaultdict(lambda: defaultdict(list))
    won_rank, bits = ranking.won_rank, [stage.bit for stage in ranking.path]
    for tally in cohort:
        furthest = ranking.furthest(tally.status, tally.reach_mask)
        won = tally.status is Status.WON
        for rank, bit in enumerate(bits[:furthest], start=1):
            found[rank]["entered" if tally.reach_mask & bit else "implied"].append(tally.count)
        if won:
            found[won_rank]["entered"].append(tally.count)
            if tally.reach_mask & bits[-1]:
                found[won_rank - 1]["won_after"].append(tally.count)
        else:
            found[furthest][f"{tally.status.value}_furthest"].append(tally.count)
        if tally.reach_mask & ranking.won_mask:
            found[won_rank]["ever_won"].append(tally.count)
            if not won:
                found[won_rank]["won_undone"].append(tally.count)
    counts: dict[int, dict[str, Count]] = defaultdict(lambda: defaultdict(lambda: NONE))
    for rank, named in found.items():
        counts[rank].update((name, total(each)) for name, each in named.items())
        counts[rank]["reached"] = counts[rank]["entered"] + counts[rank]["implied"]
    return counts
