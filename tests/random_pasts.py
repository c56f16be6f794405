"""Random pasts: deals whose logs skip, go back, reopen, leave the path, are handed off and voided.

`pasts` is a hypothesis strategy of whole pasts of one pipeline. Moves and changes of facts happen
on a coarse grid of hours, so that many bear the same instant; a move may be recorded later than it
occurred, as a backdated one is.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st

from app.domain import journey
from app.domain.journey import Facts, Transition, TransitionKind
from app.domain.measures.hindsight import DealHistory, Deed, FactChange, Logged
from app.domain.pipeline import Pipeline
from app.domain.transition import frozen
from tests.past_deals import BEGIN, LAST, STEP, Past, PastDeal, at, moving, opening, revisions

OWNERS = ("ada", "ben", None)
REGIONS: tuple[Any, ...] = ("north", "south", "", None, True, 7)
TAGS: tuple[tuple[str, ...], ...] = ((), ("hot",), ("hot", "new"), ("new", "new"))


_amounts = st.sampled_from((None, Decimal("0.0000"), Decimal("10.5000"), Decimal("99.9900")))
_facts = st.builds(
    lambda amount, currency, **rest: Facts(
        amount=amount, currency=currency if amount is None else currency or "EUR", **rest
    ),
    amount=_amounts,
    currency=st.sampled_from(("EUR", "JPY", None)),
    probability=st.sampled_from((None, Decimal("0.5000"))),
    owner=st.sampled_from(OWNERS),
    team=st.sampled_from(("x", None)),
    source=st.sampled_from(("web", "fair", None)),
    priority=st.sampled_from(("high", "low", None)),
)
_changes = st.one_of(
    st.tuples(st.just("amount"), _amounts),
    st.tuples(st.just("currency"), st.sampled_from(("EUR", "JPY", None))),
    st.tuples(st.just("probability"), st.sampled_from((None, Decimal("0.5000")))),
    st.tuples(st.just("owner"), st.sampled_from(OWNERS)),
    st.tuples(st.just("priority"), st.sampled_from(("high", "low", None))),
    st.tuples(st.just("tags"), st.sampled_from(TAGS)),
    st.tuples(st.just("attributes"), st.sampled_from(REGIONS).map(lambda r: {"region": r})),
)


@st.composite
def pasts(draw: st.DrawFn, most: int = 6) -> Past:
    """A pipeline's whole past: its three revisions and up to `most` deals."""
    defined = revisions()
    count = draw(st.integers(0, most))
    return Past(defined, [draw(_past_deals(defined[-1])) for _ in range(count)])


@st.composite
def _past_deals(draw: st.DrawFn, pipeline: Pipeline) -> PastDeal:
    tale = _Tale(draw, pipeline)
    for event in draw(st.lists(st.sampled_from("mmmmmrrhhvuwcccct"), max_size=9)):
        tale.recorded = min(LAST, tale.recorded + draw(st.sampled_from((0, 0, 1, 2))))
        if event == "c":
            tale.change(*draw(_changes))
        elif event == "t":
            called = at(tale.recorded)
            tale.calls.append(Deed(draw(st.sampled_from(("call", "note"))), called, called))
        elif event == "u":
            tale.undo()
        elif event == "w":
            tale.rewrite()
        elif tale.here.status is not journey.Status.HANDED_OFF:
            tale.move(event)
    return tale.told()


class _Tale:
    """One deal while its past is made up; hours of the grid, `recorded` never before `occurred`."""

    def __init__(self, draw: st.DrawFn, pipeline: Pipeline) -> None:
        self.draw, self.pipeline = draw, pipeline
        self.slots = [stage.slot for stage in pipeline.stages]
        self.facts: Facts = draw(_facts)
        self.others: dict[str, Any] = {
            "tags": draw(st.sampled_from(TAGS)),
            "attributes": {"region": draw(st.sampled_from(REGIONS))},
        }
        self.occurred = self.recorded = draw(st.integers(0, LAST // 2))
        self.seq = 1
        self.log: list[Logged] = []
        self.open()
        self.changes: list[tuple[FactChange, Any]] = []
        self.calls: list[Deed] = []

    def open(self) -> None:
        target = self.pipeline.by_slot[self.draw(st.sampled_from(self.slots))]
        move = replace(opening(target, at(self.occurred), self.facts), seq=self.seq)
        self.log.append(Logged(move, at(self.recorded)))
        self.here = journey.opening(self.pipeline, move)

    def undo(self) -> None:
        """The last standing move is voided, unless it is the opening."""
        standing = [n for n, entry in enumerate(self.log) if entry.voided_at is None]
        if len(standing) > 1:
            self.void(standing[-1])
            self.here = journey.position(self.pipeline, self.standing())
            self.occurred = (self.here.stage_entered_at - BEGIN) // STEP

    def rewrite(self) -> None:
        """All of it is voided and the deal opened anew, as an import may do."""
        for number, entry in enumerate(self.log):
            if entry.voided_at is None:
                self.void(number)
        self.occurred = self.draw(st.integers(0, self.recorded))
        self.seq += 1
        self.open()

    def void(self, number: int) -> None:
        self.log[number] = replace(self.log[number], voided_at=at(self.recorded))

    def standing(self) -> list[Transition]:
        return [entry.move for entry in self.log if entry.voided_at is None]

    def change(self, name: str, new: Any) -> None:
        """A fact becomes another, unless that would leave an amount without its currency."""
        old = self.others[name] if name in self.others else getattr(self.facts, name)
        if name in self.others:
            self.others[name] = new
        else:
            facts = replace(self.facts, **{name: new})
            if facts.amount is not None and facts.currency is None:
                return
            self.facts = facts
        if old != new:
            now = at(self.recorded)
            self.changes.append((FactChange(name, old, now, now), new))

    def move(self, event: str) -> None:
        """`h` hands off, `r` rearranges where that can be, `v` is voided at last; others move."""
        self.occurred = self.draw(st.integers(self.occurred, self.recorded))
        self.seq += 1
        move = self._handed_off() if event == "h" else self._moved(rearranged=event == "r")
        self.log.append(Logged(move, at(self.recorded)))
        self.here = journey.after(self.pipeline, self.here, move)
        if event == "v":
            self.recorded = min(LAST, self.recorded + self.draw(st.integers(0, 2)))
            self.undo()

    def _moved(self, *, rearranged: bool) -> Transition:
        to_slot = self.draw(st.sampled_from([s for s in self.slots if s != self.here.slot]))
        reason = self.draw(st.sampled_from(("price", "unknown")))
        move = moving(
            self.pipeline, self.here, to_slot, at(self.occurred), self.facts, self.seq, reason
        )
        both_open = self.pipeline.by_slot[to_slot].is_open and self.here.closed_at is None
        return replace(move, kind=TransitionKind.REARRANGED) if rearranged and both_open else move

    def _handed_off(self) -> Transition:
        is_open = self.here.status is journey.Status.OPEN
        return Transition(
            seq=self.seq,
            kind=TransitionKind.HANDED_OFF,
            from_slot=self.here.slot,
            entered_at=self.here.stage_entered_at if is_open else None,
            to_slot=self.here.slot,
            occurred_at=at(self.occurred),
            facts=frozen(self.facts, self.pipeline.by_slot[self.here.slot]),
        )

    def told(self) -> PastDeal:
        history = DealHistory(
            log=self.log,
            facts=self.facts,
            **self.others,
            changes=[change for change, _ in self.changes],
            activities=self.calls,
        )
        return PastDeal(uuid4(), history, self.changes)
