"""Believable deals: a year of a sales team that never was, for the demo, benchmarks and tests.

Pure: the same pipeline, span and seed tell the same tales. What a pipeline allows is asked of
`domain.transition`, so no tale has a move that the pipeline would refuse; how likely each move is,
and how long a deal stays, is this module's own: sellers are slow and fast, sources good and bad,
business has its seasons, some deals are forgotten, won back, or lost after all.

Nothing is written here, and nobody in it exists.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from math import log
from random import Random
from types import MappingProxyType
from typing import Any

from app.domain import journey
from app.domain.errors import SluiceError
from app.domain.history import Change
from app.domain.journey import Facts, Position, Transition, TransitionKind
from app.domain.pipeline import UNKNOWN_LOSS_REASON, Pipeline, Stage, StageKind
from app.domain.transition import check_route, frozen

TENDENCY: Mapping[TransitionKind, float] = MappingProxyType(
    {
        TransitionKind.ADVANCED: 66.0,
        TransitionKind.SKIPPED: 7.0,
        TransitionKind.REGRESSED: 4.0,
        TransitionKind.SIDESTEPPED: 4.0,
        TransitionKind.WON: 66.0,
        TransitionKind.LOST: 19.0,
        TransitionKind.REOPENED: 10.0,
    }
)
"""How a deal leaves a stage, as weights beside each other."""
EACH_FURTHER = 0.08
"""What is left of a weight for each rank that a move goes further than the next one."""

RESTLESS: Mapping[StageKind, float] = MappingProxyType(
    {StageKind.OPEN: 1.0, StageKind.WON: 0.01, StageKind.LOST: 0.05}
)
"""How likely a deal ever leaves a stage of the kind; one in a hundred is won and lost again."""

SEASON = (0.9, 1.0, 1.25, 1.0, 1.0, 1.2, 0.8, 0.55, 1.15, 1.05, 1.15, 0.7)
"""New deals by month, January first: quarters end busily, August and December are quiet."""
WEEK = (1.0, 1.2, 1.15, 1.1, 0.8, 0.04, 0.02)

FORGOTTEN, SLUGGISH = 0.012, 0.04
"""Shares of stays: those that never end, and those that take several times as long."""
REPRICED, HANDED_ON = 0.1, 0.02
"""Shares of moves with which the amount changes, or another seller takes the deal."""

TEAMS = (("north", "EUR"), ("south", "EUR"), ("overseas", "USD"))
SELLERS_PER_TEAM = 4
SOURCES = (  # name, how much more likely its deals go on, how much larger they are
    ("inbound", 1.1, 0.9),
    ("outbound", 0.75, 1.1),
    ("referral", 1.9, 1.2),
    ("event", 0.85, 0.8),
    ("partner", 1.4, 1.7),
)
SOURCE_SHARES = (34, 27, 15, 14, 10)
PRIORITIES, PRIORITY_SHARES = ("high", "normal", "low"), (18, 62, 20)
REGIONS = ("EMEA", "AMER", "APAC")
TAGS = ("renewal", "upsell", "tender", "strategic")
_WHO = (
    *("Amber", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Indigo"),
    *("Juniper", "Kestrel", "Lagoon", "Meridian", "Nimbus", "Orchard", "Pewter", "Quarry"),
)
_TRADE = ("Freight", "Foods", "Optics", "Clinics", "Energy", "Textiles", "Print", "Robotics")
_WHAT = ("pilot", "rollout", "annual licence", "extension", "migration", "support contract")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """One deal: what it was at its opening, its log, and how its facts changed on the way.

    A change bears the instant of the move before which it was made.
    """

    name: str
    facts: Facts
    tags: tuple[str, ...]
    attributes: Mapping[str, Any]
    expected_close_on: date
    log: Sequence[Transition]
    changes: Sequence[Change]


def specimens(
    pipeline: Pipeline, count: int, *, since: datetime, until: datetime, random: Random
) -> Iterator[Specimen]:
    """So many deals opened in `[since, until)`, each as far as it has come by `until`."""
    calendar = _Calendar(since, until)
    team = _Team(random)
    roads = _Roads(pipeline, random)
    for _ in range(count):
        yield _Tale(roads, team, calendar.opening(random), until, random).told()


@dataclass(frozen=True, slots=True)
class _Seller:
    name: str
    team: str
    currency: str
    pace: float
    """How long a stay takes beside the average one."""
    favour: float
    """How much more likely a deal goes on than the average one."""


class _Team:
    """Who sells."""

    def __init__(self, random: Random) -> None:
        self.sellers = [
            _Seller(
                f"{team}-{n}",
                team,
                currency,
                pace=random.lognormvariate(0, 0.35),
                favour=random.lognormvariate(0, 0.3),
            )
            for team, currency in TEAMS
            for n in range(1, SELLERS_PER_TEAM + 1)
        ]
        # The first of a team have been there longest, and have the most to do.
        loads = (1 / (1 + n % SELLERS_PER_TEAM) for n in range(len(self.sellers)))
        self._loads = list(accumulate(loads))

    def anyone(self, random: Random) -> _Seller:
        return random.choices(self.sellers, cum_weights=self._loads)[0]

    def colleague(self, seller: _Seller, random: Random) -> _Seller:
        return random.choice([s for s in self.sellers if s.team == seller.team and s is not seller])


class _Calendar:
    """When deals open: by season, mostly on working days, a little more often each month."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self._days = [since + timedelta(days=n) for n in range((until - since).days)] or [since]
        growth = 1 + 0.5 / len(self._days)
        self._weights = list(
            accumulate(
                SEASON[day.month - 1] * WEEK[day.weekday()] * growth**n
                for n, day in enumerate(self._days)
            )
        )
        self._latest = until - timedelta(seconds=1)

    def opening(self, random: Random) -> datetime:
        day = random.choices(self._days, cum_weights=self._weights)[0]
        return min(day + timedelta(seconds=random.randrange(86_400)), self._latest)


@dataclass(frozen=True, slots=True)
class _Crossroads:
    """Where a deal may go from where it stands, and how likely; losing is weighed apart."""

    onward: Sequence[Stage]
    weights: Sequence[float]
    lost: Sequence[Stage]
    loss: float


@dataclass(slots=True)
class _Roads:
    """The moves of a pipeline with their weights, and how long its stages usually take."""

    pipeline: Pipeline
    random: Random
    _stays: dict[int, float] = field(default_factory=dict)
    _crossroads: dict[tuple[int, int], _Crossroads] = field(default_factory=dict)

    def usual_stay(self, stage: Stage) -> float:
        """The median stay in seconds: somewhat less than what the stage is meant to take."""
        if stage.slot not in self._stays:
            target = stage.target_dwell
            days = self.random.uniform(4, 12) if target is None else target.length.days * 0.6
            self._stays[stage.slot] = max(days, 0.5) * 86_400
        return self._stays[stage.slot]

    def from_(self, position: Position, rank: int) -> _Crossroads:
        """`rank` is that of the last stage on the path where the deal stood."""
        place = position.slot, rank
        if place not in self._crossroads:
            self._crossroads[place] = self._weighed(position, rank)
        return self._crossroads[place]

    def _weighed(self, position: Position, rank: int) -> _Crossroads:
        origin = self.pipeline.by_slot[position.slot]
        onward: list[tuple[Stage, float]] = []
        lost: list[tuple[Stage, float]] = []
        for stage in self.pipeline.stages:
            try:
                check_route(self.pipeline, position, origin, stage)
            except SluiceError:
                continue
            kind = journey.kind_of_move(self.pipeline, origin, stage)
            distance = abs((self.pipeline.rank(stage) or rank) - rank)
            nearest = 2 if kind is TransitionKind.SKIPPED else 1
            weight = TENDENCY[kind] * EACH_FURTHER ** max(0, distance - nearest)
            (lost if stage.kind is StageKind.LOST else onward).append((stage, weight))
        return _Crossroads(
            [stage for stage, _ in onward],
            list(accumulate(weight for _, weight in onward)),
            [stage for stage, _ in lost],
            sum(weight for _, weight in lost),
        )


class _Tale:
    """One deal while its story is told."""

    def __init__(
        self, roads: _Roads, team: _Team, opened_at: datetime, until: datetime, random: Random
    ) -> None:
        self.roads, self.team, self.until, self.random = roads, team, until, random
        self.pipeline = roads.pipeline
        self.seller = team.anyone(random)
        source, self.favour, size = random.choices(SOURCES, SOURCE_SHARES)[0]
        self.facts = Facts(
            amount=_rounded(random.lognormvariate(log(9_000 * size), 0.9)),
            currency=self.seller.currency,
            owner=self.seller.name,
            team=self.seller.team,
            source=source,
            priority=random.choices(PRIORITIES, PRIORITY_SHARES)[0],
        )
        self.born = self.facts
        # Large deals take longer: ten times the amount, half as long again.
        amount = self.facts.amount
        assert amount is not None
        self.size = (float(amount) / 9_000) ** 0.18
        self.changes: list[Change] = []
        first = self.pipeline.path[0]
        opening = Transition(
            seq=1,
            kind=TransitionKind.OPENED,
            from_slot=None,
            entered_at=None,
            to_slot=first.slot,
            occurred_at=opened_at,
            facts=frozen(self.facts, first),
        )
        self.log = [opening]
        self.position = journey.opening(self.pipeline, opening)
        self.rank = 1

    def told(self) -> Specimen:
        while self._goes_on():
            pass
        random = self.random
        opened_on = self.position.opened_at.date()
        return Specimen(
            name=f"{random.choice(_WHO)} {random.choice(_TRADE)}: {random.choice(_WHAT)}",
            facts=self.born,
            tags=(random.choice(TAGS),) if random.random() < 0.4 else (),
            attributes={"region": random.choice(REGIONS), "seats": random.randrange(5, 500, 5)},
            expected_close_on=opened_on + timedelta(days=random.randrange(30, 120)),
            log=self.log,
            changes=self.changes,
        )

    def _goes_on(self) -> bool:
        """Tell one more move; False where the deal rests, or the time is over."""
        origin = self.pipeline.by_slot[self.position.slot]
        if self.random.random() >= RESTLESS[origin.kind]:
            return False
        leaves_at = self._leaves(origin)
        target = self._target() if leaves_at < self.until else None
        if target is None:
            return False
        self._live(leaves_at)
        move = Transition(
            seq=self.position.seq + 1,
            kind=journey.kind_of_move(self.pipeline, origin, target),
            from_slot=origin.slot,
            entered_at=self.position.stage_entered_at,
            to_slot=target.slot,
            occurred_at=leaves_at,
            facts=frozen(self.facts, target),
            loss_reason=self._reason(target),
        )
        self.log.append(move)
        self.position = journey.after(self.pipeline, self.position, move)
        if target.is_open:
            self.rank = self.pipeline.rank(target) or self.rank
        return True

    def _leaves(self, origin: Stage) -> datetime:
        chance = self.random.random()
        if chance < FORGOTTEN and origin.is_open:
            return self.until
        stay = self.roads.usual_stay(origin) * self.seller.pace * self.size
        if chance > 1 - SLUGGISH:
            stay *= 5
        seconds = int(stay * self.random.lognormvariate(0, 0.7))
        leaves = self.position.stage_entered_at + timedelta(seconds=seconds)
        weekend = leaves.weekday() - 4
        return leaves + timedelta(days=3 - weekend) if weekend > 0 else leaves

    def _target(self) -> Stage | None:
        roads = self.roads.from_(self.position, self.rank)
        onward = (roads.weights[-1] if roads.weights else 0) * self.seller.favour * self.favour
        if not onward + roads.loss:
            return None
        if self.random.random() * (onward + roads.loss) < roads.loss:
            return self.random.choice(roads.lost)
        return self.random.choices(roads.onward, cum_weights=roads.weights)[0]

    def _live(self, at: datetime) -> None:
        """What becomes of the deal besides its stage."""
        if self.random.random() < REPRICED and self.facts.amount is not None:
            amount = _rounded(float(self.facts.amount) * self.random.uniform(0.7, 1.15))
            self._change("amount", amount, at)
        if self.random.random() < HANDED_ON:
            self.seller = self.team.colleague(self.seller, self.random)
            self._change("owner", self.seller.name, at)

    def _change(self, name: str, new: Any, at: datetime) -> None:
        old = getattr(self.facts, name)
        if new != old:
            self.facts = replace(self.facts, **{name: new})
            self.changes.append(Change(name, old, new, at))

    def _reason(self, target: Stage) -> str | None:
        """The first reasons of a list are the frequent ones."""
        known = [r.key for r in target.loss_reasons if r.key != UNKNOWN_LOSS_REASON]
        if target.kind is not StageKind.LOST:
            return None
        weights = [1 / n for n in range(2, len(known) + 2)]
        return self.random.choices(known, weights)[0] if known else UNKNOWN_LOSS_REASON


def _rounded(amount: float) -> Decimal:
    return Decimal(max(500, round(amount / 50) * 50))
