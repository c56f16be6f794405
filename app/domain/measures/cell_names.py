"""What the cells of each metric are called: `reached.quote`, `deals.quote.price`, `idle`.

A name is made of the answer's own field names and keys, parts joined by points: first the count,
then the stage and what else tells it apart. No key holds a point or a colon, so what has no key is
written with a colon and is never mistaken for one: `rank:4`, `:none`, `:handed_off`. A share's name
opens its `count`; with `.of` behind it, that of which it is a share.

Which deals or visits a cell holds is said in `cells`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from app.domain.funnel import FORWARD, Reentry, Skip
from app.domain.journey import Status, TransitionKind
from app.domain.measures.cells import (
    Cell,
    ClosedCell,
    CohortCell,
    Counted,
    Look,
    StandingCell,
    VisitCell,
)
from app.domain.measures.closings import OUTCOMES, DealPopulation
from app.domain.measures.ranking import Ranking
from app.domain.measures.snapshot import BUCKET_SHARES
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.domain.pipeline import StageKind

NONE: Final = ":none"
"""Where an answer has null for a key: losses of deals opened as lost, or without a reason."""
HANDED_OFF: Final = ":handed_off"
"""Where a visit led to when the deal was handed off."""

DEPARTURES: Final = frozenset({TransitionKind.WON, TransitionKind.LOST, TransitionKind.HANDED_OFF})
"""How a deal leaves the open stages."""

Bucket = tuple[datetime, datetime]
"""From the one instant to the other, which is not in it."""

_KEY: Final = re.compile("[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class CellNames:
    """The cells of one metric: each pattern of names with the cell that a name of it means.

    A part in angle brackets stands for what `_PLACES` says, `<bucket>` for one of `buckets`, by its
    place in the answer's list, from 0 on. The cell is made of what was read.
    """

    ranking: Ranking
    patterns: Mapping[str, Callable[..., Cell]]
    buckets: Sequence[Any] = ()

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises ValueError, saying what names there are."""
        said = name.split(".")
        for pattern, make in self.patterns.items():
            parts = pattern.split(".")
            if len(parts) == len(said):
                try:
                    read = [*self._read(parts, said)]
                except LookupError:
                    continue
                return make(*read)
        raise ValueError(f"one of {', '.join(self.patterns)}{self._where()}")

    def _read(self, parts: Iterable[str], said: Iterable[str]) -> Iterator[Any]:
        for part, text in zip(parts, said, strict=True):
            if part in _PLACES:
                yield _PLACES[part](self.ranking)[text]
            elif part == "<bucket>":
                yield {str(place): bucket for place, bucket in enumerate(self.buckets)}[text]
            elif part == "<reason>":
                yield _reason(text)
            elif part != text:
                raise LookupError(text)

    def _where(self) -> str:
        """What the parts in brackets can be."""
        asked = {part for pattern in self.patterns for part in pattern.split(".")}
        told = [
            f"; {part}: {', '.join(places(self.ranking))}"
            for part, places in _PLACES.items()
            if part in asked
        ]
        if "<bucket>" in asked:
            places = f"0 to {len(self.buckets) - 1}" if self.buckets else "there is none"
            told.append(f"; <bucket>: {places}")
        return "".join(told)


def funnel_cells(ranking: Ranking, skip: Skip, reentry: Reentry) -> CellNames:
    """The counts of the funnel; `<rank>` is a stage's key, or `rank:` and its number."""

    def itself(rank: int) -> int:
        """The mask of the stages that a rank is made of."""
        return ranking.won_mask if rank == ranking.won_rank else ranking.path[rank - 1].bit

    def reached(rank: int) -> Cell:
        return _deals(Look(at_least=rank))

    def entered(rank: int) -> Cell:
        return _deals(Look(at_least=rank, visited=itself(rank)))

    def implied(rank: int) -> Cell:
        return _deals(Look(at_least=rank, unvisited=itself(rank)))

    def stopped(*statuses: Status) -> Callable[[int], Cell]:
        return lambda rank: _deals(Look(at_least=rank, at_most=rank, statuses=frozenset(statuses)))

    def onward(rank: int) -> Cell:
        return reached(rank + 1)

    def decided(rank: int) -> Cell:
        stopped_here = Look(at_least=rank, at_most=rank, statuses=frozenset({Status.LOST}))
        return _deals(Look(at_least=rank + 1), stopped_here)

    def observed(rank: int) -> Cell:
        here = ranking.path[rank - 1]
        if rank + 1 == ranking.won_rank:
            return _deals(Look(at_least=rank + 1, visited=here.bit))
        return _deals(Look(stepped=(here.slot, ranking.path[rank].slot)))

    def visits(ended_by: frozenset[TransitionKind] | None) -> Callable[[int], Cell]:
        return lambda rank: VisitCell(
            slots=frozenset({ranking.path[rank - 1].slot}),
            counted=Counted.COHORT,
            ended_by=ended_by,
        )

    to_next: tuple[Callable[[int], Cell], Callable[[int], Cell]] = onward, reached
    if reentry is Reentry.EVERY:
        to_next = visits(frozenset(FORWARD)), visits(None)
    elif skip is Skip.OBSERVED:
        to_next = observed, entered
    won = ranking.won_rank
    return CellNames(
        ranking,
        {
            "deals": lambda: reached(1),
            "reached.<rank>": reached,
            "entered.<rank>": entered,
            "implied.<rank>": implied,
            "open_furthest.<rank>": stopped(Status.OPEN),
            "lost_furthest.<rank>": stopped(Status.LOST),
            "handed_off_furthest.<rank>": stopped(Status.HANDED_OFF),
            "ever_won": lambda: _deals(Look(visited=ranking.won_mask)),
            "won_undone": lambda: _deals(Look(visited=ranking.won_mask, at_most=won - 1)),
            **_share("conversion_to_next.<open rank>", *to_next),
            **_share("conversion_from_start.<rank>", reached, lambda _: reached(1)),
            **_share("conversion_to_won.<open rank>", lambda _: reached(won), reached),
            **_share("conversion_decided.<open rank>", onward, decided),
        },
    )


def time_in_stage_cells(
    ranking: Ranking, population: VisitPopulation, reentry: VisitReentry
) -> CellNames:
    """Visits of open stages; with `reentry=sum` those of a deal are one."""

    def visits(*, ended: bool | None) -> Callable[[int], Cell]:
        return lambda slot: VisitCell(
            slots=frozenset({slot}),
            counted=Counted(population.value),
            ended=ended,
            summed=reentry is VisitReentry.SUM,
        )

    return CellNames(
        ranking,
        {
            "completed.<open stage>": visits(ended=True),
            "open.<open stage>": visits(ended=False),
            "survival.<open stage>": visits(ended=None),
        },
    )


def cycle_time_cells(ranking: Ranking, population: DealPopulation) -> CellNames:
    """Deals closed in the period, or opened there, by outcome."""

    def closed(*statuses: Status) -> Callable[[], Cell]:
        return lambda: ClosedCell(population=population, statuses=frozenset(statuses))

    return CellNames(
        ranking,
        {"won": closed(Status.WON), "lost": closed(Status.LOST), "all": closed(*OUTCOMES)},
    )


def win_rate_cells(ranking: Ranking) -> CellNames:
    """Deals closed in the period: won, lost, and the share of the won in both."""
    by_outcome = cycle_time_cells(ranking, DealPopulation.CLOSED).patterns
    won, lost, both = (by_outcome[name] for name in ("won", "lost", "all"))
    return CellNames(ranking, {"won": won, "lost": lost, **_share("rate", won, both)})


def loss_reason_cells(ranking: Ranking) -> CellNames:
    """Deals lost in the period, by the stage in which they stood before, and why."""

    def lost(
        from_slots: frozenset[int | None] | None = None,
        reasons: frozenset[str | None] | None = None,
    ) -> Cell:
        return ClosedCell(
            population=DealPopulation.CLOSED,
            statuses=frozenset({Status.LOST}),
            from_slots=from_slots,
            reasons=reasons,
        )

    return CellNames(
        ranking,
        {
            "deals": lost,
            "deals.<from>": lambda slot: lost(frozenset({slot})),
            "deals.<from>.<reason>": lambda slot, why: lost(frozenset({slot}), frozenset({why})),
            "reasons.<reason>": lambda why: lost(reasons=frozenset({why})),
        },
    )


def snapshot_cells(ranking: Ranking) -> CellNames:
    """Open deals at T; `<bucket>` is one of a stage's age buckets."""

    def idle(slot: int | None = None) -> Cell:
        return StandingCell(slot=slot, idle=True)

    def unweighted(slot: int | None = None) -> Cell:
        return StandingCell(slot=slot, unweighted=True)

    return CellNames(
        ranking,
        {
            "deals": StandingCell,
            "deals.<open stage>": lambda slot: StandingCell(slot=slot),
            "idle": idle,
            "idle.<open stage>": idle,
            "unweighted": unweighted,
            "unweighted.<open stage>": unweighted,
            "age_buckets.<open stage>.<bucket>": lambda slot, bucket: StandingCell(
                slot=slot, bucket=bucket
            ),
        },
        buckets=range(len(BUCKET_SHARES) + 1),
    )


def flow_cells(ranking: Ranking) -> CellNames:
    """Visits of every stage: under way when the period began and ended, begun and ended in it."""

    def visits(counted: Counted) -> Callable[[int], Cell]:
        return lambda slot: VisitCell(slots=frozenset({slot}), counted=counted)

    def exits(*kinds: TransitionKind) -> Callable[[int], Cell]:
        return lambda slot: VisitCell(
            slots=frozenset({slot}), counted=Counted.LEFT, ended_by=frozenset(kinds)
        )

    kinds = TransitionKind
    return CellNames(
        ranking,
        {
            "open_at_start.<stage>": visits(Counted.AT_START),
            "entries.<stage>": visits(Counted.ENTERED),
            "exits.<stage>": visits(Counted.LEFT),
            "advanced.<stage>": exits(kinds.ADVANCED, kinds.SKIPPED),
            "regressed.<stage>": exits(kinds.REGRESSED),
            "sidestepped.<stage>": exits(kinds.SIDESTEPPED),
            "won.<stage>": exits(kinds.WON),
            "lost.<stage>": exits(kinds.LOST),
            "reopened.<stage>": exits(kinds.REOPENED),
            "handed_off.<stage>": exits(kinds.HANDED_OFF),
            "rearranged.<stage>": exits(kinds.REARRANGED),
            "open_at_end.<stage>": visits(Counted.AT_END),
            **_share("exit_forward_rate.<stage>", exits(*FORWARD), visits(Counted.LEFT)),
        },
    )


def matrix_cells(ranking: Ranking) -> CellNames:
    """Visits that ended in the period, by the stage and by where they led."""

    def exits(slot: int, to_slot: int | None) -> Cell:
        gone = frozenset({TransitionKind.HANDED_OFF}) if to_slot is None else None
        return VisitCell(
            slots=frozenset({slot}), counted=Counted.LEFT, to_slot=to_slot, ended_by=gone
        )

    def of(slot: int, _to_slot: int | None) -> Cell:
        return VisitCell(slots=frozenset({slot}), counted=Counted.LEFT)

    return CellNames(
        ranking,
        {"count.<stage>.<to>": exits, **_share("share.<stage>.<to>", exits, of)},
    )


def cumulative_flow_cells(ranking: Ranking, boundaries: Sequence[datetime]) -> CellNames:
    """Visits of open stages; `<bucket>` is what lies between two of the `boundaries`.

    An arrival is the visit that it began with, a departure the visit that it ended: a deal that
    arrives twice in a bucket is listed twice. One in progress is the visit under way.
    """
    everywhere = frozenset(ranking.slots(StageKind.OPEN))
    start = boundaries[0]

    def within(bucket: Bucket, counted: Counted, **more: Any) -> Cell:
        return VisitCell(slots=everywhere, counted=counted, within=bucket, **more)

    def of_stage(counted: Counted) -> Callable[[int, Bucket], Cell]:
        return lambda slot, bucket: VisitCell(
            slots=frozenset({slot}), counted=counted, within=bucket
        )

    return CellNames(
        ranking,
        {
            "in_progress_at_start": lambda: within((start, start), Counted.AT_START),
            "arrivals.<bucket>": lambda bucket: within(bucket, Counted.ENTERED, arriving=True),
            "departures.<bucket>": lambda bucket: within(bucket, Counted.LEFT, ended_by=DEPARTURES),
            "in_progress.<bucket>": lambda bucket: within(bucket, Counted.AT_END),
            "entries.<open stage>.<bucket>": of_stage(Counted.ENTERED),
            "in_progress.<open stage>.<bucket>": of_stage(Counted.AT_END),
        },
        buckets=[*pairwise(boundaries)],
    )


def _deals(*looks: Look) -> CohortCell:
    return CohortCell(looks)


def _share(
    name: str, count: Callable[..., Cell], of: Callable[..., Cell]
) -> dict[str, Callable[..., Cell]]:
    return {name: count, f"{name}.of": of}


def _stages(ranking: Ranking, *kinds: StageKind) -> dict[str, int | None]:
    """The slot of every stage of these kinds (of any) that the pipeline ever had, by its key."""
    found = (s for s in ranking.latest.stages if not kinds or s.kind in kinds)
    return {stage.key: stage.slot for stage in found}


def _open_ranks(ranking: Ranking) -> dict[str, int]:
    keys = {stage.key: rank for rank, stage in enumerate(ranking.path, start=1)}
    return {**keys, **{f"rank:{rank}": rank for rank in keys.values()}}


def _ranks(ranking: Ranking) -> dict[str, int]:
    """All ranks by the keys that the funnel shows: several won stages together have none."""
    rank = ranking.won_rank
    won = [
        stage.key
        for stage in ranking.pipeline.stages
        if stage.kind is StageKind.WON and stage.archived_at is None
    ]
    return {
        **_open_ranks(ranking),
        **({won[0]: rank} if len(won) == 1 else {}),
        f"rank:{rank}": rank,
    }


def _reason(text: str) -> str | None:
    """The log may bear reasons that no definition knows any more, so every key can be asked for."""
    if text == NONE:
        return None
    if not _KEY.fullmatch(text):
        raise LookupError(text)
    return text


_PLACES: Final[Mapping[str, Callable[[Ranking], Mapping[str, int | None]]]] = {
    "<rank>": _ranks,
    "<open rank>": _open_ranks,
    "<stage>": _stages,
    "<open stage>": lambda ranking: _stages(ranking, StageKind.OPEN),
    "<from>": lambda ranking: {**_stages(ranking), NONE: None},
    "<to>": lambda ranking: {**_stages(ranking), HANDED_OFF: None},
}
"""What a part in brackets can be, and what it then is, in every metric that has it."""
