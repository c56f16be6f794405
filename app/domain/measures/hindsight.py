"""A deal as it was at an instant T: what figures are made of.

`seen` replays a deal's standing log up to T and takes its facts back to what they were
(metrics.md, Notation and sections 6 and 7). It is the definition; `storage.queries.population`
says the same in SQL, mostly from the deal's row, and property tests hold the two together.
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
from app.domain.measures.selection import Attribution, Bearer
from app.domain.pipeline import Pipeline

_FROZEN = ("amount", "currency", "probability", "owner", "team", "source", "priority")


@dataclass(frozen=True, slots=True)
class FactChange:
    """A fact, named as in the change log, was `old` until `occurred_at`."""

    field: str
    old: Any
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DealHistory:
    """All that is known of one deal.

    `transitions` stand, in the order of their seq; `facts`, `tags` and `attributes` are those of
    now; `changes` are in the order in which they occurred; `activities` are kind and instant.
    """

    transitions: Sequence[Transition]
    facts: Facts
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    changes: Sequence[FactChange] = ()
    activities: Sequence[tuple[str, datetime]] = ()


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
    activities: Sequence[tuple[str, datetime]]


def seen(
    pipeline: Pipeline, deal: DealHistory, as_of: datetime, attribution: Attribution
) -> Sighting | None:
    """The deal at `as_of`; None where it had not been opened before. `pipeline` is the latest."""
    log = [move for move in deal.transitions if move.occurred_at < as_of]
    if not log:
        return None
    here = journey.position(pipeline, log)
    moves = [move for move in log if not _is_link(move)]
    last = moves[-1]
    closed = here.status is not Status.OPEN
    undone = _undone(deal.changes, here.closed_at if closed else as_of, inclusive=not closed)
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
    by_move = attribution is Attribution.AT_MOVE
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
        activities=[(kind, at) for kind, at in deal.activities if at < as_of],
    )


def effective_probability(facts: Facts, declared: Decimal | None) -> Decimal | None:
    """An open deal's own probability, else what its stage declares."""
    return declared if facts.probability is None else facts.probability


def _is_link(move: Transition) -> bool:
    """A hand-off from a closed stage moves nothing: won stays won."""
    return move.kind is TransitionKind.HANDED_OFF and move.entered_at is None


def _undone(
    changes: Sequence[FactChange], since: datetime | None, *, inclusive: bool
) -> Mapping[str, Any]:
    """Each fact's value before its first change from `since` on.

    A change at T itself has not occurred before T. One at the very instant of the close came with
    it: imported rows state facts and moves together.
    """
    before: dict[str, Any] = {}
    for change in changes:
        assert since is not None  # a closed deal has a close
        if change.occurred_at > since or (inclusive and change.occurred_at == since):
            before.setdefault(change.field, change.old)
    return before


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
