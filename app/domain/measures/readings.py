"""One figure of one metric: what a trend follows from bucket to bucket, and a comparison compares.

`Figure` lists the scalar figures that can be asked for by name. What each of them is, its metric
defines; here is only which part of the metric's result it is, how many cases stand behind it, and
what it needs to be told: a stage, or an outcome.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from app.domain import funnel
from app.domain.durations import NOTHING, Summary, summary
from app.domain.errors import Breach, Invalid
from app.domain.funnel import Rank
from app.domain.intervals import Proportion
from app.domain.measures import closings, flow, stage_time
from app.domain.measures.closings import DealPopulation, Outcome, WinRate
from app.domain.measures.flow import StageFlow
from app.domain.measures.hindsight import Sighting
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Selection, Value
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.measures.sums import Amounts
from app.domain.pipeline import Stage, StageKind


class Metric(StrEnum):
    """The metrics whose figures can be asked for one by one."""

    FUNNEL = "funnel"
    FLOW = "flow"
    TIME_IN_STAGE = "time-in-stage"
    CYCLE_TIME = "cycle-time"
    WIN_RATE = "win-rate"


class FigureUnit(StrEnum):
    """What a figure is. Of money there is one sum a currency."""

    COUNT = "count"
    SHARE = "share"
    SECONDS = "seconds"
    MONEY = "money"


class Figure(StrEnum):
    """The figures by name, metric by metric; each is that of its metric's usual policies."""

    OPENED = "opened"
    REACHED = "reached"
    ENTERED = "entered"
    CONVERSION_TO_NEXT = "conversion_to_next"
    CONVERSION_FROM_START = "conversion_from_start"
    CONVERSION_TO_WON = "conversion_to_won"
    CONVERSION_DECIDED = "conversion_decided"
    ENTRIES = "entries"
    EXITS = "exits"
    OPEN_AT_END = "open_at_end"
    EXIT_FORWARD_RATE = "exit_forward_rate"
    TIME_IN_STAGE_MEAN = "time_in_stage_mean"
    TIME_IN_STAGE_P50 = "time_in_stage_p50"
    TIME_IN_STAGE_P75 = "time_in_stage_p75"
    TIME_IN_STAGE_P90 = "time_in_stage_p90"
    TIME_IN_STAGE_P95 = "time_in_stage_p95"
    CYCLE_TIME_MEAN = "cycle_time_mean"
    CYCLE_TIME_P50 = "cycle_time_p50"
    CYCLE_TIME_P75 = "cycle_time_p75"
    CYCLE_TIME_P90 = "cycle_time_p90"
    CYCLE_TIME_P95 = "cycle_time_p95"
    WIN_RATE = "win_rate"
    WON = "won"
    LOST = "lost"
    WON_AMOUNT = "won_amount"
    LOST_AMOUNT = "lost_amount"

    @property
    def metric(self) -> Metric:
        return _METRICS[self]

    @property
    def unit(self) -> FigureUnit:
        return _UNITS[self]

    @property
    def attribution(self) -> Attribution:
        """The usual one: visits bear what was frozen when they ended, deals what they bear at T."""
        of_visits = self.metric in (Metric.FLOW, Metric.TIME_IN_STAGE)
        return Attribution.AT_MOVE if of_visits else Attribution.CURRENT

    @property
    def asks_stage(self) -> bool:
        """Whether it is a figure of one stage."""
        of_deals = self.metric in (Metric.CYCLE_TIME, Metric.WIN_RATE)
        return not of_deals and self is not Figure.OPENED

    @property
    def asks_outcome(self) -> bool:
        """Whether it is a figure of one outcome."""
        return self.metric is Metric.CYCLE_TIME


_CONVERSIONS: Final[Mapping[Figure, str]] = MappingProxyType(
    {
        Figure.CONVERSION_TO_NEXT: "to_next",
        Figure.CONVERSION_FROM_START: "from_start",
        Figure.CONVERSION_TO_WON: "to_won",
        Figure.CONVERSION_DECIDED: "decided",
    }
)
_METRICS: Final[Mapping[Figure, Metric]] = MappingProxyType(
    {
        **dict.fromkeys((Figure.OPENED, Figure.REACHED, Figure.ENTERED), Metric.FUNNEL),
        **dict.fromkeys(_CONVERSIONS, Metric.FUNNEL),
        **{f: Metric.TIME_IN_STAGE for f in Figure if f.value.startswith("time_in_stage_")},
        **{f: Metric.CYCLE_TIME for f in Figure if f.value.startswith("cycle_time_")},
        **dict.fromkeys(
            (Figure.WIN_RATE, Figure.WON, Figure.LOST, Figure.WON_AMOUNT, Figure.LOST_AMOUNT),
            Metric.WIN_RATE,
        ),
        **dict.fromkeys(
            (Figure.ENTRIES, Figure.EXITS, Figure.OPEN_AT_END, Figure.EXIT_FORWARD_RATE),
            Metric.FLOW,
        ),
    }
)
_ONWARD: Final = frozenset(_CONVERSIONS) - {Figure.CONVERSION_FROM_START}
"""What a rank has only where another follows it."""

_UNITS: Final[Mapping[Figure, FigureUnit]] = MappingProxyType(
    {
        **dict.fromkeys(
            (*_CONVERSIONS, Figure.EXIT_FORWARD_RATE, Figure.WIN_RATE), FigureUnit.SHARE
        ),
        **dict.fromkeys((Figure.OPENED, Figure.REACHED, Figure.ENTERED), FigureUnit.COUNT),
        **dict.fromkeys((Figure.ENTRIES, Figure.EXITS, Figure.OPEN_AT_END), FigureUnit.COUNT),
        **dict.fromkeys((Figure.WON, Figure.LOST), FigureUnit.COUNT),
        **dict.fromkeys((Figure.WON_AMOUNT, Figure.LOST_AMOUNT), FigureUnit.MONEY),
        **{
            figure: FigureUnit.SECONDS
            for figure, metric in _METRICS.items()
            if metric in (Metric.TIME_IN_STAGE, Metric.CYCLE_TIME)
        },
    }
)


@dataclass(frozen=True, slots=True)
class Subject:
    """Which figure, and of what: of a stage, of an outcome, or of all that is selected."""

    figure: Figure
    stage: Stage | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a figure says: a count, a rate or a length in microseconds is a `value`.

    `count` is the number of cases behind it; of a rate that is its numerator, and `share` tells the
    rest. Money is `amounts`, and `count` the deals that it is of.
    """

    value: float | None
    count: int
    share: Proportion | None = None
    amounts: Amounts | None = None


def subject(
    figure: Figure, ranking: Ranking, *, stage: str | None, outcome: Outcome | None
) -> Subject:
    """What is asked for, the stage by its key. Raises Invalid where the figure has no such part."""
    breaches = []
    found: Stage | None = None
    if figure.asks_outcome:
        outcome = outcome or Outcome.ALL
    elif outcome is not None:
        detail = f"{figure} is no figure of an outcome."
        breaches.append(Breach("?outcome", "unknown_field", detail))
    if not figure.asks_stage:
        if stage is not None:
            detail = f"{figure} is no figure of a stage."
            breaches.append(Breach("?stage", "unknown_field", detail))
    elif stage is None:
        breaches.append(Breach("?stage", "required", f"Of which stage is {figure} asked for?"))
    else:
        having = {each.key: each for each in _stages(figure, ranking)}
        found = having.get(stage)
        if stage not in ranking.latest.by_key:
            breaches.append(Breach("?stage", "unknown_stage", "The pipeline has no such stage."))
        elif found is None:
            detail = f"{figure} is a figure of these stages: {', '.join(having)}."
            breaches.append(Breach("?stage", "not_one_of", detail))
    if breaches:
        places = ", ".join(breach.pointer for breach in breaches)
        raise Invalid(f"See errors: {places}.", breaches)
    return Subject(figure, found, outcome)


def measure(
    asked: Subject, ranking: Ranking, deals: Sequence[Sighting], selection: Selection
) -> Mapping[Value, Reading]:
    """The figure by group, as its metric defines it."""
    match asked.figure.metric:
        case Metric.FUNNEL:
            cohorts = funnel.cohort(deals, selection).items()
            ranks = {g: funnel.measure(ranking, funnel.tallies(found)) for g, found in cohorts}
            return {group: of_funnel(asked, ranking, found) for group, found in ranks.items()}
        case Metric.FLOW:
            flows = flow.measure(deals, selection)
            return {group: of_flow(asked, found) for group, found in flows.items()}
        case Metric.TIME_IN_STAGE:
            stays = _completed_stays(asked, ranking, deals, selection).items()
            return {group: of_lengths(asked, summary(found)) for group, found in stays}
        case Metric.CYCLE_TIME:
            cycles = closings.cycle_times(deals, selection, DealPopulation.CLOSED)
            outcome = asked.outcome or Outcome.ALL
            return {group: of_lengths(asked, found[outcome]) for group, found in cycles.items()}
        case Metric.WIN_RATE:
            wins = closings.win_rates(deals, selection)
            return {group: of_closings(asked, found) for group, found in wins.items()}


def nothing(asked: Subject, ranking: Ranking) -> Reading:
    """What the figure says where nothing is selected."""
    match asked.figure.metric:
        case Metric.FUNNEL:
            return of_funnel(asked, ranking, funnel.measure(ranking, ()))
        case Metric.FLOW:
            return of_flow(asked, {})
        case Metric.TIME_IN_STAGE | Metric.CYCLE_TIME:
            return of_lengths(asked, NOTHING)
        case Metric.WIN_RATE:
            return of_closings(asked, WinRate())


def of_funnel(asked: Subject, ranking: Ranking, ranks: Sequence[Rank]) -> Reading:
    """A figure of the funnel. Any won stage stands for the won rank, which all of them share."""
    place = ranking.place(asked.stage) if asked.stage else 1
    assert place is not None, "a subject's stage is ranked"
    here = ranks[place - 1]
    if asked.figure in _CONVERSIONS:
        return _rate(getattr(here, _CONVERSIONS[asked.figure]))
    return _number((here.entered if asked.figure is Figure.ENTERED else here.reached).deals)


def of_flow(asked: Subject, flows: Mapping[int, StageFlow]) -> Reading:
    """A figure of the visits of a stage."""
    assert asked.stage is not None, "a subject has the stage that its figure asks for"
    found = flows.get(asked.stage.slot, StageFlow())
    match asked.figure:
        case Figure.ENTRIES:
            return _number(found.entries)
        case Figure.EXITS:
            return _number(found.left)
        case Figure.OPEN_AT_END:
            return _number(found.open_at_end)
        case _:
            return _rate(found.forward)


def of_lengths(asked: Subject, lengths: Summary) -> Reading:
    """A figure of durations: the part of the summary that its name ends in."""
    return Reading(getattr(lengths, asked.figure.value.rpartition("_")[2]), lengths.count)


def of_closings(asked: Subject, found: WinRate) -> Reading:
    """A figure of the deals closed in the period."""
    if asked.figure is Figure.WIN_RATE:
        return _rate(found.by_count)
    count = found.won if asked.figure in (Figure.WON, Figure.WON_AMOUNT) else found.lost
    if asked.figure.unit is FigureUnit.MONEY:
        return Reading(None, count.deals, amounts=count.amounts)
    return _number(count.deals)


def _completed_stays(
    asked: Subject, ranking: Ranking, deals: Sequence[Sighting], selection: Selection
) -> Mapping[Value, Sequence[int]]:
    assert asked.stage is not None, "a subject has the stage that its figure asks for"
    every = stage_time.stays(
        *(ranking, deals, selection, VisitPopulation.ENTERED, VisitReentry.EVERY),
        now=selection.as_of,  # what has ended does not age
    )
    return {group: ended for (group, slot), (ended, _) in every.items() if slot == asked.stage.slot}


def _stages(figure: Figure, ranking: Ranking) -> list[Stage]:
    """The stages that have such a figure."""
    if figure.metric is Metric.FLOW:
        return [ranking.stage(stage.slot) for stage in ranking.latest.stages]
    if figure.metric is Metric.TIME_IN_STAGE:
        return [ranking.stage(slot) for slot in ranking.slots(StageKind.OPEN)]
    won = [ranking.stage(slot) for slot in ranking.slots(StageKind.WON)]
    return [*ranking.path, *(() if figure in _ONWARD else won)]


def _number(count: int) -> Reading:
    return Reading(count, count)


def _rate(share: Proportion) -> Reading:
    return Reading(share.rate, share.count, share)
