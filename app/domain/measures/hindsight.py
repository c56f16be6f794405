"""A deal as it was at an instant T: what figures are made of.

`seen` replays a deal's standing log up to T, as far as it was known at K, and takes its facts
back to what they were (metrics.md, Notation and sections 6 and 7). It is the definition;
`storage.queries.population` says the same in SQL, mostly from the deal's row, and property tests
hold the two together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from app.domain import journey
from app.domain.durations import microseconds
from app.domain.journey import Facts, Status, Transition, TransitionKind
from app.domain.measures.selection import Attribution, Bearer, Selection
from app.domain.pipeline import Pipeline

_FROZEN = ("amount", "currency", "probability", "owner", "team", "source", "priority")


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the log: the move, when it was recorded, and when it was voided."""

    move: Transition
    recorded_at: datetime
    voided_at: datetime | None = None

    def stands(self, known_at: datetime | None) -> bool:
        """Whether it stood at that instant; None: whether it stands now."""
        if known_at is None:
            return self.voided_at is None
        unvoided = self.voided_at is None or self.voided_at >= known_at
        return self.recorded_at < known_at and unvoided


@dataclass(frozen=True, slots=True)
class FactChange:
    """A fact, named as in the change log, was `old` until `occurred_at`."""

    field: str
    old: Any
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Deed:
    """An activity, as far as an idle clock looks at it."""

    kind: str
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DealHistory:
    """All that is known of one deal.

    `log` is in the order of seq, voided moves included; `facts`, `tags` and `attributes` are those
    of now; `changes` are in the order in which they occurred, and were recorded.
    """

    log: Sequence[Logged]
    facts: Facts
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    changes: Sequence[FactChange] = ()
    activities: Sequence[Deed] = ()

    def standing(self, known_at: datetime | None = None) -> list[Transition]:
        """The moves that stand now, or that stood at `known_at`."""
        return [entry.move for entry in self.log if entry.stands(known_at)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenVisit:
    """A visit as it was at T: `left_at` None: still under way. It bears what `bearer` says."""

    slot: int
    entered_at: datetime
    left_at: datetime | None
    ended_by: TransitionKind | None
    bearer: Bearer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One deal at T. `open_time` is what it had spent in open stages, in microseconds.

    `facts` are those in force at T, of a closed deal those frozen at its close; `bearer` is what
    filters and groups look at. `last` is the move that brought it where it stands.
    """

    status: Status
    slot: int
    opened_at: datetime
    entered_at: datetime
    moved_at: datetime
    closed_at: datetime | None
    reach_mask: int
    open_time: int
    facts: Facts
    bearer: Bearer
    last: Transition
    visits: Sequence[SeenVisit]
    activities: Sequence[Deed]


def seen(pipeline: Pipeline, deal: DealHistory, selection: Selection) -> Sighting | None:
    """The deal at T; None where it had not been opened before. `pipeline` is the latest."""
    as_of, known_at = selection.as_of, selection.known_at
    log = [move for move in deal.standing(known_at) if move.occurred_at < as_of]
    if not log:
        return None
    here = journey.position(pipeline, log)
    moves = [move for move in log if not journey.is_link(move)]
    last = moves[-1]
    closed = here.status is not Status.OPEN
    undone = {
        change.field: change.old
        for change in reversed(deal.changes)
        if _is_undone(change, as_of, here.closed_at) or not _is_known(change, known_at)
    }
    facts = last.facts
    if not closed:
        facts = replace(deal.facts, **{k: v for k, v in undone.items() if k in _FROZEN})
    current = Bearer(
        **_bearing(facts),
        tags=tuple(undone.get("tags", deal.tags) or ()),
        attributes=undone.get("attributes", deal.attributes) or {},
        opened_at=here.opened_at,
    )
    frozen = Bearer(**_bearing(last.facts), opened_at=here.opened_at)
    by_move = selection.attribution is Attribution.AT_MOVE
    return Sighting(
        status=here.status,
        slot=here.slot,
        opened_at=here.opened_at,
        entered_at=here.stage_entered_at,
        moved_at=here.moved_at,
        closed_at=here.closed_at,
        reach_mask=here.reach_mask,
        open_time=sum(
            microseconds(spent)
            for slot, spent in here.dwell.items()
            if pipeline.by_slot[slot].is_open
        ),
        facts=facts,
        bearer=frozen if by_move else current,
        last=last,
        visits=tuple(_visits(moves, current, by_move=by_move)),
        activities=[
            deed
            for deed in deal.activities
            if deed.occurred_at < as_of and _is_known(deed, known_at)
        ],
    )


def effective_probability(facts: Facts, declared: Decimal | None) -> Decimal | None:
    """An open deal's own probability, else what its stage declares."""
    return declared if facts.probability is None else facts.probability


def _is_undone(change: FactChange, as_of: datetime, closed_at: datetime | None) -> bool:
    """Whether the fact was still the old one.

    A change at T itself has not occurred before T. One at the very instant of the close came with
    it: imported rows state facts and moves together.
    """
    return change.occurred_at >= as_of if closed_at is None else change.occurred_at > closed_at


def _is_known(happened: FactChange | Deed, known_at: datetime | None) -> bool:
    return known_at is None or happened.recorded_at < known_at


def _bearing(facts: Facts) -> dict[str, Any]:
    return {
        name: getattr(facts, name) for name in ("owner", "team", "source", "priority", "currency")
    }


def _visits(moves: Sequence[Transition], current: Bearer, *, by_move: bool) -> Iterator[SeenVisit]:
    """The stays, each with what it bears: what was frozen when it ended, or the deal's values."""
    for visit, end in zip_longest(journey.visits(moves), moves[1:]):
        if visit is None:
            return  # handed off: that move ended the last visit, and there is none under way
        frozen = by_move and end is not None
        yield SeenVisit(
            slot=visit.slot,
            entered_at=visit.entered_at,
            left_at=visit.left_at,
            ended_by=visit.ended_by,
            bearer=Bearer(**_bearing(end.facts), opened_at=current.opened_at)
            if frozen
            else current,
        )
