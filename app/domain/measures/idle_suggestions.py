"""What should an idle threshold be? Told by how long deals stayed that were won, and lost, since.

Of a stage, a deal that is won or lost at T counts once: by its longest completed visit there that
was entered in the period. Visits that a rearranged definition began or ended are left out; their
length tells of the definition. One length a deal, because visits of one deal do not decide by
themselves, and an interval would promise too much.

Lengths are elapsed time since the stage was entered, so what is suggested is a rule for the clock
`stage_age` in `elapsed` time, whatever the stage uses now.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.durations import microseconds, quantile
from app.domain.intervals import MIN_CASES, Interval, Silence
from app.domain.journey import Status
from app.domain.measures.hindsight import Sighting
from app.domain.measures.idle_replay import ClockedVisit, clocked, crossed
from app.domain.measures.selection import Selection
from app.domain.period import LONGEST, Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline

PERIOD: Final = timedelta(days=365)
"""What is looked at unless a period is named: every season once."""

SHARE: Final = 0.85
"""A threshold that this share of the won deals never reached."""

MIN_WON: Final = 23
"""No suggestion from fewer won deals. The 95 % interval of the 85th percentile that assumes no
shape has an upper end in the sample only where 0.85^n <= 0.025, and that begins with n = 23."""

LOAD_WEEKS: Final = 12
LOAD: Final = timedelta(weeks=LOAD_WEEKS)
"""The weeks before now for which the load is told: a quarter of a year."""

_TAIL: Final = 0.025
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Halving:
    """Where the chance to win has halved: after `after` microseconds, `still` deals of those in the
    stage were there yet, and `still_won` of these were won. None for a `reason`.
    """

    after: int | None = None
    still: int | None = None
    still_won: int | None = None
    reason: Silence | None = Silence.TOO_FEW_CASES


@dataclass(frozen=True, slots=True)
class Load:
    """What the suggested rule would ask of people: flags opened in LOAD_WEEKS, idle deals now."""

    flags: int
    idle_now: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What is suggested for a stage. `won` and `lost` are the deals behind it.

    `p85` and `interval` are microseconds; `rule` and `load` are None where `reason` says why.
    """

    won: int = 0
    lost: int = 0
    p85: float | None = None
    interval: Interval | None = None
    reason: Silence | None = Silence.TOO_FEW_CASES
    halving: Halving = Halving()
    rule: IdleRule | None = None
    load: Load | None = None


@dataclass(frozen=True, slots=True)
class Stays:
    """The longest stays in one stage, in microseconds: of the deals won, and of those lost."""

    won: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


def measure(
    pipeline: Pipeline, deals: Sequence[Sighting], selection: Selection, now: datetime
) -> dict[int, Suggestion]:
    """By the slot of every open stage in use; the selection's period is the one of the stays."""
    until = min(selection.as_of, now)
    visits = [clocked(pipeline, deal, until) for deal in deals]
    stays = _stays(deals, visits, selection)
    found = {}
    for stage in pipeline.stages:
        if stage.is_open and stage.archived_at is None:
            here = stays[stage.slot]
            suggestion = suggest(sorted(here.won), len(here.lost), stage.idle)
            rule = suggestion.rule
            found[stage.slot] = replace(
                suggestion,
                halving=halved(here.won, here.lost),
                load=None if rule is None else _load(rule, stage.slot, visits, until),
            )
    return found


def suggest(won: Sequence[int], lost: int, present: IdleRule) -> Suggestion:
    """The threshold and its interval, from the ascending stays of won deals.

    The halving and the load are for the caller to add.
    """
    ranks = quantile_ranks(len(won), SHARE)
    if ranks is None:
        return Suggestion(len(won), lost)
    low, high = (float(won[rank - 1]) for rank in ranks)
    p85 = quantile(won, SHARE)
    return Suggestion(
        won=len(won),
        lost=lost,
        p85=p85,
        interval=Interval(low, high),
        reason=None,
        rule=suggested(present, rounded_up(p85)),
    )


def suggested(present: IdleRule, after: Period) -> IdleRule:
    """The stage's rule with that threshold; its exceptions by priority stay."""
    return replace(
        present, clock=IdleClock.STAGE_AGE, after=after, elapsed=True, calendar=None, since=None
    )


def halved(won: Sequence[int], lost: Sequence[int]) -> Halving:
    """The shortest stay beyond which the share of the won is at most half of what it was at first.

    Nothing is said from fewer than MIN_CASES won deals, nor by fewer than that which stayed longer.
    """
    ordered, all_stays = sorted(won), sorted([*won, *lost])
    if len(won) < MIN_CASES:
        return Halving()
    for after in all_stays:
        still = len(all_stays) - bisect_right(all_stays, after)
        still_won = len(won) - bisect_right(ordered, after)
        if still < MIN_CASES:
            break
        if has_halved(still_won, still, len(won), len(all_stays)):
            return Halving(after, still, still_won, None)
    return Halving(reason=Silence.NOT_REACHED)


def has_halved(still_won: int, still: int, won: int, deals: int) -> bool:
    """still_won / still <= won / deals / 2, exactly."""
    return 2 * still_won * deals <= won * still


def quantile_ranks(cases: int, share: float) -> tuple[int, int] | None:
    """The ranks, from 1, of the order statistics between which the quantile lies with 95 %.

    None where the sample is too small for both to exist. Conover, Practical Nonparametric
    Statistics, 3rd ed. (1999), 3.2: how many of the cases lie below the quantile is binomial, and
    at most 2.5 % is left on either side. It assumes nothing about the shape.
    """
    low = _most_below(cases, share)
    above = _most_below(cases, 1 - share)
    return None if low is None or above is None else (low, cases + 1 - above)


def _most_below(cases: int, share: float) -> int | None:
    """The highest rank that lies above the quantile with at most 2.5 %; None: not even the first.

    P(the r-th of n lies above the quantile) = P(Binomial(n, share) < r).
    """
    spread = math.sqrt(cases * share * (1 - share))
    first = max(0, math.floor(cases * share - 12 * spread - 12))  # less is below 1e-30 in all
    passed, rank = 0.0, first
    while rank < cases:
        passed += math.exp(_log_binomial(cases, rank, share))
        if passed > _TAIL:
            break
        rank += 1
    return rank or None


def _log_binomial(cases: int, hits: int, share: float) -> float:
    ways = math.lgamma(cases + 1) - math.lgamma(hits + 1) - math.lgamma(cases - hits + 1)
    return ways + hits * math.log(share) + (cases - hits) * math.log1p(-share)


def rounded_up(stay: float) -> Period:
    """The next whole days, or hours where that is less than a day: what people set as a threshold.

    `stay` is microseconds. Never nothing, and never longer than a definition may say.
    """
    hours = max(1, math.ceil(stay / (_HOUR / _MICROSECOND)))
    if hours < 24:
        return Period(seconds=hours * 3600)
    return Period(days=min(math.ceil(stay / (_DAY / _MICROSECOND)), LONGEST // _DAY))


def _stays(
    deals: Sequence[Sighting], visits: Sequence[Sequence[ClockedVisit]], selection: Selection
) -> dict[int, Stays]:
    found: dict[int, Stays] = defaultdict(Stays)
    for deal, own in zip(deals, visits, strict=True):
        longest: dict[int, int] = {}
        for visit in own:
            if visit.under_way or visit.rearranged or not selection.covers(visit.entered_at):
                continue
            stayed = microseconds(visit.ended_at - visit.entered_at)
            longest[visit.slot] = max(stayed, longest.get(visit.slot, 0))
        for slot, stayed in longest.items():
            if deal.status is Status.WON:
                found[slot].won.append(stayed)
            elif deal.status is Status.LOST:
                found[slot].lost.append(stayed)
    return found


def _load(
    rule: IdleRule, slot: int, visits: Sequence[Sequence[ClockedVisit]], until: datetime
) -> Load:
    """By the clock alone, of this stage alone: whatever the rules of the others are."""
    flags = idle_now = 0
    for own in visits:
        opened: dict[datetime, datetime] = {}
        for visit in own:
            if visit.slot != slot:
                continue
            for episode in crossed(rule, visit, ()):
                idle_now += visit.under_way
                opened.setdefault(episode.clock_started_at, episode.opened_at)
        flags += sum(until - LOAD <= at <= until for at in opened.values())
    return Load(flags, idle_now)
