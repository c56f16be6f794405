"""Bottlenecks (metrics.md, section 5): what a little more at each stage would be worth.

One more point of conversion at rank j, in a currency: 0.01 × reached(j) × conversion_to_won(j + 1)
× mean won amount, of the cohort's deals of that currency. A quartile of speed: (p50 − p25 of the
completed stays) × entries, in days. Stages are ranked by each, the largest first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

from app.domain.durations import Summary
from app.domain.funnel import Rank, Tally, cohort, measure, tallies
from app.domain.intervals import Proportion
from app.domain.journey import Status
from app.domain.measures import stage_time
from app.domain.measures.hindsight import Sighting
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection, Value
from app.domain.measures.stage_time import StageTime, VisitPopulation, VisitReentry
from app.domain.measures.velocity import DAY, rounded
from app.domain.pipeline import Stage

F = TypeVar("F", Decimal, float)


@dataclass(frozen=True, slots=True)
class Cohort:
    """Deals of one currency that were opened in the period; `priced`: won, and bear an amount."""

    tallies: Sequence[Tally] = ()
    priced: int = 0

    def mean_won_amount(self, currency: Value) -> Fraction | None:
        """Of the won deals that bear an amount."""
        if not self.priced or currency is None:
            return None
        won = (tally.count for tally in self.tallies if tally.status is Status.WON)
        return Fraction(sum(count.amounts.get(currency, Decimal(0)) for count in won)) / self.priced


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What one more point of conversion at a stage would be worth in one currency.

    `onward` is the conversion to won of the next rank, the won rank's own being 1. `worth` is None
    where an input is, and then has no `place`.
    """

    currency: Value
    reached: int
    onward: Proportion | None
    priced: int
    mean_won_amount: Decimal | None
    worth: Decimal | None
    place: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """One stage of the path; `days_saved` is None where no stay in it was completed."""

    stage: Stage
    worth: Sequence[Worth]
    entries: int
    completed: Summary
    days_saved: float | None
    place: int | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What bottlenecks are made of: the cohort by currency, and time in stage by slot."""

    cohorts: Mapping[Value, Cohort] = field(default_factory=dict)
    times: Mapping[int, StageTime] = field(default_factory=dict)


def inputs(
    ranking: Ranking, deals: Sequence[Sighting], selection: Selection, now: datetime
) -> Mapping[Value, Inputs]:
    """By group; `now` is the clock."""
    times = stage_time.measure(
        ranking, deals, selection, VisitPopulation.ENTERED, VisitReentry.EVERY, now
    )
    cohorts = {group: _by_currency(opened) for group, opened in cohort(deals, selection).items()}
    return {
        group: Inputs(cohorts.get(group, {}), times.get(group, {})) for group in {*cohorts, *times}
    }


def bottlenecks(ranking: Ranking, found: Inputs) -> list[Bottleneck]:
    """The stages of the path, in its order."""
    saved = [_days_saved(found.times.get(stage.slot, _NO_TIME)) for stage in ranking.path]
    saved_places = places(saved)
    worths = [
        _worths(ranking, currency, found.cohorts[currency])
        for currency in sorted(found.cohorts, key=lambda code: (code is None, code or ""))
    ]
    return [
        Bottleneck(
            stage=stage,
            worth=[by_rank[number] for by_rank in worths],
            entries=_entries(found.times.get(stage.slot, _NO_TIME)),
            completed=found.times.get(stage.slot, _NO_TIME).completed,
            days_saved=saved[number],
            place=saved_places[number],
        )
        for number, stage in enumerate(ranking.path)
    ]


def places(figures: Sequence[F | None]) -> list[int | None]:
    """The place of each by size, 1 for the largest; equals share theirs, None has none."""
    known = [figure for figure in figures if figure is not None]
    return [
        None if figure is None else 1 + sum(other > figure for other in known) for figure in figures
    ]


_NO_TIME = StageTime()


def _by_currency(deals: Iterable[Sighting]) -> Mapping[Value, Cohort]:
    borne: dict[Value, list[Sighting]] = defaultdict(list)
    for deal in deals:
        borne[deal.bearer.currency].append(deal)
    return {
        currency: Cohort(
            tallies(found),
            sum(deal.status is Status.WON and deal.facts.amount is not None for deal in found),
        )
        for currency, found in borne.items()
    }


def _worths(ranking: Ranking, currency: Value, opened: Cohort) -> list[Worth]:
    """One a rank of the path."""
    ranks = measure(ranking, opened.tallies)
    mean = opened.mean_won_amount(currency)
    worths = [_worth(here, following, mean) for here, following in pairwise(ranks)]
    return [
        Worth(
            currency=currency,
            reached=here.reached.deals,
            onward=following.to_won,
            priced=opened.priced,
            mean_won_amount=None if mean is None else rounded(mean),
            worth=worth,
            place=place,
        )
        for (here, following), worth, place in zip(
            pairwise(ranks), worths, places(worths), strict=True
        )
    ]


def _worth(here: Rank, following: Rank, mean: Fraction | None) -> Decimal | None:
    """A mean is of won deals, and those have reached every rank: none is converted to by none."""
    onward = following.to_won
    if mean is None:
        return None
    converted = Fraction(1) if onward is None else Fraction(onward.count, onward.of)
    return rounded(Fraction(here.reached.deals, 100) * converted * mean)


def _entries(time: StageTime) -> int:
    """Each visit entered in the period has ended, or is under way."""
    return time.completed.count + time.open.count


def _days_saved(time: StageTime) -> float | None:
    p25, p50 = time.completed.p25, time.completed.p50
    if p25 is None or p50 is None:
        return None
    return (p50 - p25) * _entries(time) / DAY
