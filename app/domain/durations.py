"""What a list of lengths of time comes to: its mean, its quantiles, its longest; and, where some
are still running, how many last beyond a length and how many have ended there by which cause.

The unit is the caller's. Measured lengths are handed about in whole microseconds, which a double
holds exactly for 285 years, so that a definition in Python and the database agree to the digit.

Kaplan-Meier and Aalen-Johansen are computed without the lengths. Put all in ascending order, the
ended before the censored (still running) at the same length, and number them from 1. Then the
places of the censored tell the whole curve: an end takes from it what it weighs, 1/n at first, and
each censored one hands its own weight on in equal parts to all that stand after it (Efron, The Two
Sample Problem with Censored Data, 5th Berkeley Symposium 4, 1967). So whoever holds the lengths,
a list or a database, is asked twice and briefly: for the places, and then for the few lengths that
an answer shows. Ends are named by their ordinal: the m-th shortest of those that have ended.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate, chain
from operator import mul
from typing import Final, Generic, TypeVar

from app.domain.intervals import MIN_CASES, Z_95, Interval, Silence

QUANTILES: Final = (0.5, 0.75, 0.9, 0.95)
"""The shares that every summary names."""

DRAWN: Final = 200
"""The most points that a curve is drawn with."""

_MICROSECOND: Final = timedelta(microseconds=1)
_ROUNDING: Final = 1e-9
"""A level missed by less than this part of it is met: 9 ended out of 10 are 90 %, though 1 - 0.9 is
less than 0.1 in doubles. One end moves a curve of a million by a thousand times as much."""

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Summary:
    """How many lengths there are, and what they come to; all None where there are none."""

    count: int = 0
    mean: float | None = None
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p95: float | None = None
    longest: float | None = None


NOTHING: Final = Summary()


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Where a curve passes QUANTILES, in the unit of the lengths; `reason` says why any is None.

    `cases` counts the running ones too.
    """

    cases: int = 0
    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p95: float | None = None
    reason: Silence | None = Silence.TOO_FEW_CASES


TOO_FEW: Final = Quantiles()


@dataclass(frozen=True, slots=True)
class Point:
    """`survival` is the share that lasts longer than `length`; its 95 % interval.

    `at_risk` have gone past `length` or are still running there. No interval where the survival is
    1 or 0: Greenwood's formula has nothing to say about those.
    """

    length: float
    at_risk: int
    survival: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class CompetingPoint(Generic[C]):
    """The share that lasts longer than `length`, and by cause the share that has ended by then."""

    length: float
    at_risk: int
    survival: float
    incidence: Mapping[C, float]


def microseconds(length: timedelta) -> int:
    """The length in whole microseconds, exactly."""
    return length // _MICROSECOND


def summary(lengths: Iterable[int]) -> Summary:
    """The summary of the lengths, in their own unit."""
    ordered = sorted(lengths)
    return summed_up(ordered, sum(ordered))


def summed_up(ordered: Sequence[int], total: int) -> Summary:
    """The summary of ascending lengths, given their sum."""
    count = len(ordered)
    if not count:
        return NOTHING
    p25, p50, p75, p90, p95 = (quantile(ordered, share) for share in (0.25, *QUANTILES))
    return Summary(count, total / count, p25, p50, p75, p90, p95, float(ordered[-1]))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics: numpy's default, type 7 of Hyndman & Fan.

    (Sample Quantiles in Statistical Packages, The American Statistician 50, 1996.) `ordered` is
    ascending and not empty, `share` any from 0 to 1. The arithmetic is PostgreSQL's
    `percentile_cont`, step by step, so that a length that meets a quantile exactly does so in both.
    """
    place = share * (len(ordered) - 1)
    below, above = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return below + (place - math.floor(place)) * (above - below)


@dataclass(frozen=True, slots=True)
class Risk:
    """Kaplan and Meier's product-limit estimate (JASA 53, 1958) of `total` lengths.

    `censored` are the places, ascending and from 1, of the lengths still running; `before` says how
    many ended ones stand before each of them, `weights` what an end takes from the curve, times
    `total`, after so many of them. Everything else is told by how many have ended: `survival(m)` is
    the share that outlasts the m-th end.
    """

    total: int
    censored: Sequence[int]
    before: Sequence[int]
    weights: Sequence[float]

    @property
    def ends(self) -> int:
        return self.total - len(self.censored)

    def place(self, end: int) -> int:
        """The place of the m-th end among all."""
        return end + bisect_left(self.before, end)

    def ends_by(self, place: int) -> int:
        """How many of the lengths up to and at a place have ended."""
        return place - bisect_right(self.censored, place)

    def survival(self, ends: int) -> float:
        """The share that lasts longer, after so many have ended: at first 1.

        One division, and so exact, as long as none is censored.
        """
        passed = bisect_left(self.before, ends)
        return self.weights[passed] * (self.total - ends - passed) / self.total if ends else 1.0

    def end_at(self, share: float) -> int | None:
        """The first end at which survival is at most 1 - share; None where it stays above."""
        level = (1 - share) * (1 + _ROUNDING)
        return _first(self.ends, lambda end: self.survival(end) <= level)

    def quantile_ends(self) -> tuple[int | None, ...]:
        """The ends at QUANTILES; none where too few have ended."""
        return _quantile_ends(self.ends, self.end_at)

    def quantiles(self, length_of: Callable[[int], float]) -> Quantiles:
        """The quantiles, given the length of each of `quantile_ends`."""
        return _quantiles(self.total, self.ends, self.quantile_ends(), length_of)

    def drawn(self, limit: int = DRAWN) -> tuple[int, ...]:
        """The ends to draw the curve by: evenly spaced levels, the last, and every quantile's.

        So no quantile read off the drawn curve differs from the whole one's.
        """
        if self.ends <= limit:
            return tuple(range(1, self.ends + 1))
        kept = {end for share in QUANTILES if (end := self.end_at(share))} | {self.ends}
        steps = limit + 1 - len(kept)
        fall = 1 - self.survival(self.ends)
        levels = (self.end_at(fall * step / steps) for step in range(1, steps))
        return tuple(sorted(kept.union(end for end in levels if end)))

    def points(self, rows: Iterable[tuple[float, int]]) -> list[Point]:
        """The points at lengths, each given with how many have ended by that length, its ties in.

        The interval is Greenwood's (1926), log(-log)-transformed so that it stays within 0…1
        (Kalbfleisch & Prentice, The Statistical Analysis of Failure Time Data, 2nd ed., 1.4).
        """
        # The sum of d/(n·(n-d)) telescopes between two censored: 1/(n-d) - 1/n for all d of them.
        found: list[Point] = []
        variance, passed, begin = 0.0, 0, 0  # begin: place at which the last censored stood
        for length, ends in sorted(set(rows)):
            while passed < len(self.before) and self.before[passed] < ends:
                place = self.censored[passed]
                variance += _spread(self.total - begin, place - 1 - begin)
                passed, begin = passed + 1, place
            at_risk, survival = self.total - ends - passed, self.survival(ends)
            interval = None
            if ends and at_risk:
                here = variance + _spread(self.total - begin, ends + passed - begin)
                interval = _log_log(survival, here)
            found.append(Point(length, at_risk, survival, interval))
        return found


def risk_of(total: int, censored: Sequence[int] = ()) -> Risk:
    """The estimate of so many lengths whose censored stand at these places."""
    before = (place - nth for nth, place in enumerate(censored, 1))
    behind = (total - place for place in censored)
    handed_on = ((n + 1) / n for n in behind if n)  # the very last has no one to hand it to
    return Risk(total, censored, (*before,), (*accumulate(handed_on, mul, initial=1.0),))


@dataclass(frozen=True, slots=True)
class Incidence:
    """Aalen and Johansen's cumulative incidence of one cause (Scand. J. Statistics 5, 1978).

    `before` says how many have ended by this cause before each of the risk's censored, and as its
    last item how many in all. `share(m)` is the share ended by this cause after its m-th end; one
    minus Kaplan-Meier would count those taken by another cause as still to come.
    """

    risk: Risk
    before: Sequence[int]
    _sums: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        marks = (0, *self.before)
        taken = (
            weight * (until - since)
            for weight, since, until in zip(self.risk.weights, marks, marks[1:], strict=False)
        )
        object.__setattr__(self, "_sums", tuple(accumulate(taken, initial=0.0)))

    @property
    def ends(self) -> int:
        """How many have ended by this cause."""
        return self.before[-1]

    def share(self, ends: int) -> float:
        """The share ended by this cause, after so many ends by it."""
        if not ends:
            return 0.0
        passed = bisect_left(self.before, ends, hi=len(self.before) - 1)
        since = self.before[passed - 1] if passed else 0
        return (self._sums[passed] + self.risk.weights[passed] * (ends - since)) / self.risk.total

    def end_at(self, share: float) -> int | None:
        """The first end by this cause at which its incidence is at least the share, or None."""
        level = share * (1 - _ROUNDING)
        return _first(self.ends, lambda end: self.share(end) >= level)

    def quantile_ends(self) -> tuple[int | None, ...]:
        """The ends by this cause at QUANTILES; none where too few have ended by it."""
        return _quantile_ends(self.ends, self.end_at)

    def quantiles(self, length_of: Callable[[int], float]) -> Quantiles:
        """The quantiles, given the length of each of `quantile_ends`."""
        return _quantiles(self.risk.total, self.ends, self.quantile_ends(), length_of)

    def drawn(self, limit: int = DRAWN) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ends to draw the curves by: ordinals among all ends, then among this cause's own."""
        own = tuple(sorted({end for share in QUANTILES if (end := self.end_at(share))}))
        return self.risk.drawn(limit - len(own)), own


def competing_points(
    causes: Mapping[C, Incidence], rows: Iterable[tuple[float, Mapping[C, int]]]
) -> list[CompetingPoint[C]]:
    """The points at lengths, each given with how many have ended by then of every cause, ties in.

    The causes share one risk, and there is at least one.
    """
    risk = next(iter(causes.values())).risk
    found: dict[float, CompetingPoint[C]] = {}
    for length, ended in rows:
        ends = sum(ended.values())
        shares = {cause: curve.share(ended[cause]) for cause, curve in causes.items()}
        at_risk = risk.total - (risk.place(ends) if ends else 0)
        found[length] = CompetingPoint(length, at_risk, risk.survival(ends), shares)
    return [found[length] for length in sorted(found)]


def survival_quantiles(ended: Iterable[float], running: Iterable[float]) -> Quantiles:
    """Kaplan-Meier quantiles of lengths at hand: the definition, in the lengths' own unit."""
    ordered = sorted(ended)
    return _risk(ordered, sorted(running)).quantiles(lambda end: ordered[end - 1])


def survival_curve(ended: Iterable[float], running: Iterable[float]) -> list[Point]:
    """The Kaplan-Meier curve of lengths at hand, drawn with at most DRAWN points."""
    ordered = sorted(ended)
    risk = _risk(ordered, sorted(running))
    lengths = (ordered[end - 1] for end in risk.drawn())
    return risk.points((length, bisect_right(ordered, length)) for length in lengths)


def incidence_quantiles(
    ended: Mapping[C, Iterable[float]], running: Iterable[float], cause: C
) -> Quantiles:
    """Aalen-Johansen quantiles of one cause among those that `ended` names, of lengths at hand."""
    ordered = {each: sorted(lengths) for each, lengths in ended.items()}
    incidence = _incidences(ordered, sorted(running))[cause]
    return incidence.quantiles(lambda end: ordered[cause][end - 1])


def incidence_curve(
    ended: Mapping[C, Iterable[float]], running: Iterable[float], cause: C
) -> list[CompetingPoint[C]]:
    """The Aalen-Johansen curves of all causes, drawn so that one cause's quantiles stay."""
    ordered = {each: sorted(lengths) for each, lengths in ended.items()}
    incidences = _incidences(ordered, sorted(running))
    of_all, own = incidences[cause].drawn()
    every = sorted(chain.from_iterable(ordered.values()))
    lengths = {*(every[end - 1] for end in of_all), *(ordered[cause][end - 1] for end in own)}
    counts = (
        (length, {each: bisect_right(of, length) for each, of in ordered.items()})
        for length in lengths
    )
    return competing_points(incidences, counts)


def _risk(ended: Sequence[float], running: Sequence[float]) -> Risk:
    places = (bisect_right(ended, length) + nth for nth, length in enumerate(running, 1))
    return risk_of(len(ended) + len(running), tuple(places))


def _incidences(ended: Mapping[C, Sequence[float]], running: Sequence[float]) -> dict[C, Incidence]:
    risk = _risk(sorted(chain.from_iterable(ended.values())), running)
    return {
        cause: Incidence(risk, (*(bisect_right(of, length) for length in running), len(of)))
        for cause, of in ended.items()
    }


def _first(ends: int, reached: Callable[[int], bool]) -> int | None:
    end = bisect_left(range(1, ends + 1), x=True, key=reached) + 1
    return end if end <= ends else None


def _quantile_ends(ends: int, end_at: Callable[[float], int | None]) -> tuple[int | None, ...]:
    enough = ends >= MIN_CASES
    return tuple(end_at(share) if enough else None for share in QUANTILES)


def _quantiles(
    cases: int, ends: int, marks: Iterable[int | None], length_of: Callable[[int], float]
) -> Quantiles:
    if ends < MIN_CASES:
        return Quantiles(cases)
    p50, p75, p90, p95 = (None if end is None else length_of(end) for end in marks)
    return Quantiles(cases, p50, p75, p90, p95, Silence.NOT_REACHED if p95 is None else None)


def _spread(at_risk: int, ends: int) -> float:
    return ends / (at_risk * (at_risk - ends)) if ends else 0.0


def _log_log(survival: float, variance: float) -> Interval:
    log = math.log(survival)
    reach = math.exp(Z_95 * math.sqrt(variance) / -log)
    return Interval(survival**reach, survival ** (1 / reach))
