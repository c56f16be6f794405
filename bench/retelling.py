"""Many deals out of few tales: each tale of the demo told again as somebody else's deal.

A retelling moves every instant of a tale a little, gives the deal to others, from another source
and of another size, and spreads what became of it besides its stage over its stays. Fifty sellers
in five teams, eight sources, two currencies. Nothing is written here.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from random import Random
from typing import Any, Final

from app.actions import specimen
from app.actions.specimen import Specimen, specimens
from app.domain.history import Change
from app.domain.journey import Facts, Transition, TransitionKind
from app.domain.pipeline import Pipeline

TEAMS: Final = ("north", "south", "overseas", "public", "partners")
SELLERS_PER_TEAM: Final = 10
SOURCES: Final = (
    *("inbound", "outbound", "referral", "event", "partner", "website", "campaign", "marketplace"),
)
SOURCE_SHARES: Final = (25, 20, 12, 10, 10, 9, 8, 6)
AMENDED_OPEN: Final = 0.05
AMENDED_CLOSED: Final = 0.03
"""Shares of the open and the closed deals of which a fact changes after their last move."""

_SEATS = {
    f"{name}-{n + 1}": (team, n)
    for team, (name, _) in enumerate(specimen.TEAMS)
    for n in range(specimen.SELLERS_PER_TEAM)
}
_TALES = 20_000
_SHIFT = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


def retellings(
    pipeline: Pipeline, count: int, *, since: datetime, until: datetime, random: Random
) -> Iterator[Specimen]:
    """So many deals opened in `[since, until)`, each as far as it has come by `until`.

    A tale is taken the more often the more moves it has, which makes five of them a deal.
    """
    tales = list(
        specimens(pipeline, min(count, _TALES), since=since + _SHIFT, until=until, random=random)
    )
    moves = list(accumulate(len(tale.log) for tale in tales))
    for _ in range(count):
        tale = random.choices(tales, cum_weights=moves)[0]
        yield _Retelling(until, random).of(tale)


class _Retelling:
    """Who sells it this time, what for, and how much earlier."""

    def __init__(self, until: datetime, random: Random) -> None:
        self._until, self._random = until, random
        # Earlier by any number of microseconds, as no two deals of a team share their instants.
        self._earlier = random.randrange(_SHIFT // _MICROSECOND) * _MICROSECOND
        self._percent = Decimal(random.randrange(50, 200)) / 100
        self._source = random.choices(SOURCES, SOURCE_SHARES)[0]
        self._team = random.randrange(len(TEAMS))
        self._seat = random.randrange(SELLERS_PER_TEAM)

    def of(self, tale: Specimen) -> Specimen:
        log = [self._move(move) for move in tale.log]
        changes = [self._change(change, tale, log) for change in tale.changes]
        return replace(
            tale,
            facts=self._facts(tale.facts),
            log=log,
            changes=[*changes, *self._afterwards(log[-1])],
        )

    def _move(self, move: Transition) -> Transition:
        return replace(
            move,
            occurred_at=move.occurred_at - self._earlier,
            entered_at=None if move.entered_at is None else move.entered_at - self._earlier,
            facts=self._facts(move.facts),
        )

    def _facts(self, facts: Facts) -> Facts:
        owner, team = self._seller(facts.owner)
        amount = facts.amount
        return replace(
            facts,
            amount=None if amount is None else amount * self._percent,
            owner=owner,
            team=team,
            source=self._source,
        )

    def _seller(self, known: str | None) -> tuple[str, str]:
        """Whoever sits where that seller sat, so many teams and seats further on."""
        assert known is not None
        team, seat = _SEATS[known]
        name = TEAMS[(team + self._team) % len(TEAMS)]
        return f"{name}-{(seat + self._seat) % SELLERS_PER_TEAM + 1}", name

    def _change(self, change: Change, tale: Specimen, log: list[Transition]) -> Change:
        """Sometime during the stay that the tale's move ended."""
        ended = next(n for n, move in enumerate(tale.log) if move.occurred_at == change.occurred_at)
        at = self._between(log[ended - 1].occurred_at, log[ended].occurred_at)
        return Change(change.name, self._told(change, "old"), self._told(change, "new"), at)

    def _told(self, change: Change, side: str) -> Any:
        value = getattr(change, side)
        return self._seller(value)[0] if change.name == "owner" else value * self._percent

    def _afterwards(self, last: Transition) -> Iterator[Change]:
        """What is put right once the deal has come where it stands."""
        is_closed = last.kind in (TransitionKind.WON, TransitionKind.LOST)
        if self._random.random() >= (AMENDED_CLOSED if is_closed else AMENDED_OPEN):
            return
        facts = last.facts
        assert facts.amount is not None
        name = self._random.choice(("amount", "amount", "owner", "source"))
        new = {
            "amount": facts.amount + 50,
            "owner": f"{facts.team}-{self._random.randrange(SELLERS_PER_TEAM) + 1}",
            "source": self._random.choice(SOURCES),
        }[name]
        if new != getattr(facts, name):
            at = self._between(last.occurred_at, self._until)
            yield Change(name, getattr(facts, name), new, at)

    def _between(self, start: datetime, end: datetime) -> datetime:
        """After the one and before the other, where there is any time between them."""
        return start + (end - start) * self._random.uniform(0.05, 0.95)
