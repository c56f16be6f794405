"""Cumulative flow: arrivals, work in progress and departures by bucket, and Little's law.

A deal is *in process* while it stands in open stages. Its unbroken time there is a **stay**: it
begins with an arrival from outside (the deal was opened, handed in among that, or reopened) and
ends with a departure (won, lost or handed off). One who returns begins another stay.

Little's law, L = λ·W (Little, A Proof for the Queuing Formula: L = λW, Operations Research 9,
1961), speaks of long-run averages. Over a finite period of length P two things can be meant by it
(Little and Graves, Little's Law, in: Building Intuition, Springer 2008):

- *An identity.* L·P = the time that all stays together spent within the period. So with
  λ = (stays there at the start + arrivals) / P and W = that time per such stay, L = λ·W whatever
  happens: it checks nothing but the counting.
- *An estimate.* λ = departures / P and W = the mean length of the stays that ended in the period,
  whole, as one sees it from those who leave. It meets L where as many come as go and the ages of
  what is in process stay as they are; where work piles up, L lies above it.

Both sides of the second are shown, with their ratio: 1 where the process is in balance, below it
where work piles up or grows old, above it where a backlog is worked off.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from app.domain.durations import microseconds
from app.domain.measures.calendar import By, buckets
from app.domain.measures.flow import is_under_way
from app.domain.measures.hindsight import SeenVisit, Sighting
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection, Value
from app.domain.pipeline import StageKind

_DAY = microseconds(timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Bucket:
    """Between two boundaries: who came, who left, and who is in process at the second.

    `entries` and `standing` tell it by slot: visits entered, and deals that stand there.
    """

    arrivals: int
    departures: int
    entries: Mapping[int, int]
    standing: Mapping[int, int]

    @property
    def in_progress(self) -> int:
        return sum(self.standing.values())


@dataclass(frozen=True, slots=True)
class CumulativeFlow:
    """The buckets between `boundaries`, one fewer than these, and what Little's law asks for.

    In microseconds: `time_in_process` is what all stays spent within the period, `stays_ended` the
    whole lengths of those that ended in it.
    """

    boundaries: Sequence[datetime]
    in_progress_at_start: int
    buckets: Sequence[Bucket]
    time_in_process: int
    stays_ended: int

    @property
    def length(self) -> int:
        """Microseconds."""
        return microseconds(self.boundaries[-1] - self.boundaries[0])

    @property
    def arrivals(self) -> int:
        return sum(bucket.arrivals for bucket in self.buckets)

    @property
    def departures(self) -> int:
        return sum(bucket.departures for bucket in self.buckets)

    @property
    def average_in_progress(self) -> float | None:
        """L: in process on average over time. None for an empty period, as all that follows."""
        return self.time_in_process / self.length if self.length else None

    @property
    def arrivals_per_day(self) -> float | None:
        return self.arrivals * _DAY / self.length if self.length else None

    @property
    def departures_per_day(self) -> float | None:
        """λ."""
        return self.departures * _DAY / self.length if self.length else None

    @property
    def mean_stay(self) -> float | None:
        """W: microseconds; None where no stay ended."""
        return self.stays_ended / self.departures if self.departures else None

    @property
    def expected_in_progress(self) -> float | None:
        """λ·W; None where no stay ended."""
        return self.stays_ended / self.length if self.departures else None

    @property
    def ratio(self) -> float | None:
        """λ·W / L; None where there is no λ·W, or nothing was in process for any time."""
        if not self.departures or not self.time_in_process:
            return None
        return self.stays_ended / self.time_in_process


def boundaries(selection: Selection, by: By) -> tuple[datetime, ...]:
    """The boundaries of the buckets, cut at T. Raises Invalid where there are too many."""
    assert selection.start is not None, "a cumulative flow begins somewhere"
    end = min(selection.end or selection.as_of, selection.as_of)
    return buckets(selection.start, end, by, selection.timezone)


def measure(
    ranking: Ranking, deals: Iterable[Sighting], selection: Selection, by: By
) -> Mapping[Value, CumulativeFlow]:
    """By group, of the deals that were in process at some time in the period."""
    bounds = boundaries(selection, by)
    open_slots = ranking.slots(StageKind.OPEN)
    stays: dict[Value, list[Sequence[SeenVisit]]] = defaultdict(list)
    for deal in deals:
        for stay in stays_of(deal, open_slots):
            is_there = any(is_under_way(visit, bounds[0]) for visit in stay)
            if is_there or bounds[0] <= stay[0].entered_at < bounds[-1]:
                for group in selection.groups_of(deal.bearer):
                    stays[group].append(stay)
    return {group: _measured(found, bounds) for group, found in stays.items()}


def nothing(bounds: Sequence[datetime]) -> CumulativeFlow:
    """The flow of no deals."""
    return _measured((), bounds)


def stays_of(deal: Sighting, open_slots: Container[int]) -> Iterator[Sequence[SeenVisit]]:
    """The deal's visits in open stages, those of each stay together."""
    for is_open, visits in groupby(deal.visits, key=lambda visit: visit.slot in open_slots):
        if is_open:
            yield tuple(visits)


def _measured(stays: Sequence[Sequence[SeenVisit]], bounds: Sequence[datetime]) -> CumulativeFlow:
    visits = [visit for stay in stays for visit in stay]
    start, end = bounds[0], bounds[-1]
    ended = [
        (stay[0].entered_at, stay[-1].left_at) for stay in stays if stay[-1].left_at is not None
    ]
    return CumulativeFlow(
        boundaries=bounds,
        in_progress_at_start=sum(is_under_way(visit, start) for visit in visits),
        buckets=[
            Bucket(
                arrivals=sum(since <= stay[0].entered_at < until for stay in stays),
                departures=sum(since <= departed < until for _, departed in ended),
                entries=Counter(v.slot for v in visits if since <= v.entered_at < until),
                standing=Counter(visit.slot for visit in visits if is_under_way(visit, until)),
            )
            for since, until in pairwise(bounds)
        ],
        time_in_process=sum(
            microseconds(min(visit.left_at or end, end) - max(visit.entered_at, start))
            for visit in visits
            if visit.entered_at < end and (visit.left_at is None or visit.left_at > start)
        ),
        stays_ended=sum(
            microseconds(departed - arrived)
            for arrived, departed in ended
            if start <= departed < end
        ),
    )
