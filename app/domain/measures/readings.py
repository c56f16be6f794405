"""How one figure is read from the result of its metric: a value, and the cases behind it.

What each figure is, its metric defines. `measure` asks that in plain Python, the database is asked
by `storage.queries.series`, and either `read`s what it has found.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from app.domain import funnel
from app.domain.durations import Quantiles, Summary
from app.domain.funnel import Rank
from app.domain.intervals import Proportion
from app.domain.measures import (
    bottlenecks,
    closings,
    curves,
    flow,
    snapshot,
    stage_time,
    velocity,
)
from app.domain.measures.bottlenecks import Inputs
from app.domain.measures.closings import DealPopulation, Losses, Outcome, WinRate
from app.domain.measures.figures import Figure, FigureUnit, Metric
from app.domain.measures.flow import EXITS, Cell, Move, StageFlow
from app.domain.measures.hindsight import Sighting
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection, Value
from app.domain.measures.snapshot import Standing
from app.domain.measures.stage_time import StageTime, VisitPopulation, VisitReentry
from app.domain.measures.subjects import Subject
from app.domain.measures.sums import NO_AMOUNTS, Amounts, Count, added, total
from app.domain.measures.velocity import Velocity

Part: TypeAlias = Proportion | Count | Amounts | float | None
"""What a figure can be in a result."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a figure says: a count, a rate, days, or a length in microseconds is a `value`.

    `count` is the number of cases behind it; of a rate that is its numerator, and `share` tells the
    rest. Money is `amounts`, and `count` the deals that it is of.
    """

    value: float | None
    count: int
    share: Proportion | None = None
    amounts: Amounts | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Deals as they were at T, and what is selected of them; `now` is the clock."""

    ranking: Ranking
    deals: Sequence[Sighting]
    selection: Selection
    now: datetime


def measure(asked: Subject, seen: Seen) -> Mapping[Value, Reading]:
    """The figure by group, as its metric defines it."""
    found = _READERS[asked.figure.metric].measure(asked, seen)
    return {group: read(asked, seen.ranking, of) for group, of in found.items()}


def read(asked: Subject, ranking: Ranking, found: Any) -> Reading:
    """The figure in what its metric has found of one group.

    That is a funnel's ranks, a flow or a snapshot by slot, a matrix by move, a velocity by
    currency, the rows of losses, a win rate, what bottlenecks are made of; and of lengths of time
    the summary, or the estimate, of those that are the figure's `source`.
    """
    return _READERS[asked.figure.metric].read(asked, ranking, found)


def nothing(asked: Subject, ranking: Ranking) -> Reading:
    """What the figure says where nothing is selected."""
    return read(asked, ranking, _READERS[asked.figure.metric].nothing(asked, ranking))


def _of_funnel(asked: Subject, ranking: Ranking, ranks: Sequence[Rank]) -> Reading:
    """Any won stage stands for the won rank, which all of them share."""
    place = ranking.place(asked.stage) if asked.stage else 1
    assert place is not None, "a subject's stage is ranked"
    return _told(getattr(ranks[place - 1], asked.figure.part), asked.figure)


def _of_flow(asked: Subject, _: Ranking, flows: Mapping[int, StageFlow]) -> Reading:
    found = flows.get(asked.slot, StageFlow())
    kinds = {f"exits.{kind}": found.exits.get(kind, 0) for kind in EXITS}
    part = asked.figure.part
    return _told(kinds[part] if part in kinds else getattr(found, part), asked.figure)


def _of_moves(asked: Subject, _: Ranking, moves: Mapping[Move, Cell]) -> Reading:
    cell = moves.get(asked.move)
    count, dwell = (0, None) if cell is None else (cell.count, cell.median_dwell)
    exits = sum(each.count for (slot, _), each in moves.items() if slot == asked.slot)
    share = Proportion(count, exits, independent=False)
    parts: Mapping[str, Part] = {"count": count, "share": share, "dwell.p50": dwell}
    return _told(parts[asked.figure.part], asked.figure, count)


def _of_lengths(asked: Subject, _: Ranking, found: Summary | Quantiles) -> Reading:
    cases = found.count if isinstance(found, Summary) else found.cases
    return _told(getattr(found, asked.figure.field), asked.figure, cases)


def _of_wins(asked: Subject, _: Ranking, found: WinRate) -> Reading:
    return _told(getattr(found, asked.figure.part), asked.figure, found.by_count.of)


def _of_losses(asked: Subject, _: Ranking, rows: Sequence[Losses]) -> Reading:
    """A reason's share is of the losses from where it is asked; a stage's own is of all."""
    there = [row for row in rows if asked.from_slots is None or row.from_slot in asked.from_slots]
    these = [row for row in there if asked.reasons is None or row.reason in asked.reasons]
    count = total(row.count for row in these)
    whole = sum(row.count.deals for row in (rows if asked.reasons is None else there))
    parts: Mapping[str, Part] = {"count": count, "share": Proportion(count.deals, whole)}
    return _told(parts[asked.figure.part], asked.figure)


def _of_standing(asked: Subject, _: Ranking, standings: Mapping[int, Standing]) -> Reading:
    slots = standings if asked.stage is None else {asked.stage.slot} & standings.keys()
    here = _together([standings[slot] for slot in slots])
    return _told(getattr(here, asked.figure.part), asked.figure, here.count.deals)


def _together(standings: Sequence[Standing]) -> Standing:
    """All of them; only one by itself has a median."""
    weighted = NO_AMOUNTS
    for standing in standings:
        weighted = added(weighted, standing.weighted)
    return Standing(
        count=total(standing.count for standing in standings),
        weighted=weighted,
        unweighted=sum(standing.unweighted for standing in standings),
        median_age=standings[0].median_age if len(standings) == 1 else None,
        idle=sum(standing.idle for standing in standings),
    )


def _of_velocity(asked: Subject, _: Ranking, found: Mapping[Value, Velocity]) -> Reading:
    rows = {
        "per_day": [(code, each.per_day, each.open_deals) for code, each in found.items()],
        "mean_won_amount": [
            (code, each.mean_won_amount, each.priced) for code, each in found.items()
        ],
    }
    return _priced(rows[asked.figure.part])


def _of_bottlenecks(asked: Subject, ranking: Ranking, found: Inputs) -> Reading:
    stages = bottlenecks.bottlenecks(ranking, found)
    # What the cohort's won deals came to is the same wherever it is shown.
    here = next(each for each in stages if asked.stage is None or each.stage.slot == asked.slot)
    rows = {
        "worth": [(row.currency, row.worth, row.reached) for row in here.worth],
        "mean_won_amount": [(row.currency, row.mean_won_amount, row.priced) for row in here.worth],
    }
    if asked.figure is Figure.DAYS_SAVED:
        return _told(here.days_saved, asked.figure, here.entries)
    return _priced(rows[asked.figure.part])


def _told(part: Part, figure: Figure, cases: int = 0) -> Reading:
    """What a part of a result says; `cases` are behind it where it does not tell that itself."""
    match part:
        case Proportion():
            return Reading(part.rate, part.count, part)
        case Count() if figure.unit is FigureUnit.MONEY:
            return Reading(None, part.deals, amounts=part.amounts)
        case Count():
            return Reading(part.deals, part.deals)
        case int() if figure.unit is FigureUnit.COUNT:
            return Reading(part, part)
        case Mapping():
            return Reading(None, cases, amounts=part)
        case _:
            return Reading(part, cases)


def _priced(rows: Iterable[tuple[Value, Decimal | None, int]]) -> Reading:
    """Money that is no sum: each currency that has any, and the deals that it was made of."""
    known = [
        (currency, amount, deals)
        for currency, amount, deals in rows
        if currency is not None and amount is not None
    ]
    amounts = {currency: amount for currency, amount, _ in sorted(known)}
    return Reading(None, sum(deals for _, _, deals in known), amounts=amounts)


def _funnels(_: Subject, seen: Seen) -> Mapping[Value, Sequence[Rank]]:
    return {
        group: funnel.measure(seen.ranking, funnel.tallies(found))
        for group, found in funnel.cohort(seen.deals, seen.selection).items()
    }


def _stays(asked: Subject, seen: Seen) -> Mapping[Value, Summary | Quantiles]:
    every = stage_time.measure(
        *(seen.ranking, seen.deals, seen.selection),
        *(VisitPopulation.ENTERED, VisitReentry.EVERY, seen.now),
    )
    none = StageTime()
    return {
        group: getattr(times.get(asked.slot, none), asked.figure.source)
        for group, times in every.items()
    }


def _cycles(asked: Subject, seen: Seen) -> Mapping[Value, Summary]:
    every = closings.cycle_times(seen.deals, seen.selection, DealPopulation.CLOSED)
    return {group: found[asked.outcome or Outcome.ALL] for group, found in every.items()}


def _times_to_win(_: Subject, seen: Seen) -> Mapping[Value, Quantiles]:
    every = curves.cycles(seen.deals, seen.selection, seen.now)
    return {group: curves.time_to_win(*lengths) for group, lengths in every.items()}


def _inputs(_: Subject, seen: Seen) -> Mapping[Value, Inputs]:
    return bottlenecks.inputs(seen.ranking, seen.deals, seen.selection, seen.now)


@dataclass(frozen=True, slots=True)
class _Reader:
    """How the figures of a metric are read, from what its definition makes of deals.

    `nothing` is what that makes of none.
    """

    measure: Callable[[Subject, Seen], Mapping[Value, Any]]
    nothing: Callable[[Subject, Ranking], Any]
    read: Callable[[Subject, Ranking, Any], Reading]


_READERS: Final[Mapping[Metric, _Reader]] = MappingProxyType(
    {
        Metric.FUNNEL: _Reader(
            _funnels, lambda _, ranking: funnel.measure(ranking, ()), _of_funnel
        ),
        Metric.FLOW: _Reader(
            lambda _, seen: flow.measure(seen.deals, seen.selection), lambda *_: {}, _of_flow
        ),
        Metric.MATRIX: _Reader(
            lambda _, seen: flow.moves(seen.deals, seen.selection), lambda *_: {}, _of_moves
        ),
        Metric.TIME_IN_STAGE: _Reader(
            _stays, lambda asked, _: getattr(StageTime(), asked.figure.source), _of_lengths
        ),
        Metric.CYCLE_TIME: _Reader(_cycles, lambda *_: Summary(), _of_lengths),
        Metric.CYCLE_CURVE: _Reader(_times_to_win, lambda *_: Quantiles(), _of_lengths),
        Metric.WIN_RATE: _Reader(
            lambda _, seen: closings.win_rates(seen.deals, seen.selection),
            lambda *_: WinRate(),
            _of_wins,
        ),
        Metric.LOSS_REASONS: _Reader(
            lambda _, seen: closings.losses(seen.deals, seen.selection), lambda *_: [], _of_losses
        ),
        Metric.SNAPSHOT: _Reader(
            lambda _, seen: snapshot.measure(seen.ranking, seen.deals, seen.selection, seen.now),
            lambda *_: {},
            _of_standing,
        ),
        Metric.VELOCITY: _Reader(
            lambda _, seen: velocity.velocities(seen.deals, seen.selection),
            lambda *_: {},
            _of_velocity,
        ),
        Metric.BOTTLENECKS: _Reader(_inputs, lambda *_: Inputs(), _of_bottlenecks),
    }
)
