"""`goes_idle_at` is exact after whatever has happened to a deal: the API against a plain model.

The model knows the standing moves, the activities, the priority and the snooze, and works the
instant out from the words of domain.md; the service has kept it along the way.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from app.storage.engine import Database
from tests.factories import keep_pipeline, open_deal, sales_pipeline

DAY = timedelta(days=1)
STEPS = 40
RULES = {
    "lead": IdleRule(
        clock=IdleClock.INACTIVITY,
        after=Period(days=20),
        after_by_priority={"high": Period(days=10), "low": None},
        qualifying=("call",),
    ),
    "offer": IdleRule(after=Period(days=15), after_by_priority={"high": Period(days=5)}),
    "talks": IdleRule(
        clock=IdleClock.INACTIVITY, after=Period(days=3), qualifying=("call", "meeting")
    ),
}
"""`parked` has none; a deal there never goes idle."""


@dataclass
class Model:
    """What a deal has been through."""

    moves: list[tuple[str, datetime, bool]] = field(default_factory=list)
    """Stage, instant, and whether the deal was flagged or snoozed before the move."""
    done: list[tuple[str, datetime]] = field(default_factory=list)
    priority: str | None = None
    rule_since: datetime | None = None
    snoozed_until: datetime | None = None

    @property
    def stage(self) -> str:
        return self.moves[-1][0]

    @property
    def started_at(self) -> datetime:
        rule = RULES.get(self.stage, IdleRule())
        counting = rule.qualifying if rule.clock is IdleClock.INACTIVITY else ()
        return max([self.moves[-1][1], *(at for kind, at in self.done if kind in counting)])

    def threshold(self, priority: str | None) -> timedelta | None:
        rule = RULES.get(self.stage, IdleRule())
        after = rule.after_by_priority.get(priority or "", rule.after)
        return None if after is None else after.length

    @property
    def goes_idle_at(self) -> datetime | None:
        threshold = self.threshold(self.priority)
        if self.stage in {"won", "lost"} or threshold is None:
            return None
        held = [self.started_at + threshold]
        held += [at for at in (self.rule_since, self.snoozed_until) if at is not None]
        return max(held)

    def judge_snooze(self) -> None:
        """A snooze ends with the flag that it puts aside: where that is due no more."""
        snoozed_until, self.snoozed_until = self.snoozed_until, None
        due = self.goes_idle_at
        if due is not None and due <= datetime.now(UTC):
            self.snoozed_until = snoozed_until


class Walk:
    """One deal, led about by chance through the API, with its model beside it."""

    def __init__(self, client: httpx.AsyncClient, deal: dict[str, Any], seed: int) -> None:
        self.client = client
        self.url = f"/v1/opportunities/{deal['id']}"
        self.chance = random.Random(seed)
        self.model = Model([(deal["stage"], instant(deal["opened_at"]), False)])
        self.transitions: list[str] = []

    async def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def deal(self) -> dict[str, Any]:
        return (await self.client.get(self.url)).json()

    async def move(self) -> None:
        """Somewhere else, at an instant between the last move and now."""
        before = (await self.deal())["idle"]
        stages = {"lead", "offer", "talks", "parked", "won", "lost"} - {self.model.stage}
        if self.model.stage in {"won", "lost"}:
            stages -= {"won", "lost"}
        target = self.chance.choice(sorted(stages))
        last = self.model.moves[-1][1]
        at = last + (datetime.now(UTC) - last) * self.chance.random()
        body = {"to_stage": target, "occurred_at": at.isoformat()}
        moved = await self.post(
            f"{self.url}/transitions",
            {**body, "loss_reason": "price"} if target == "lost" else body,
        )
        self.transitions.append(moved["transition"]["id"])
        occurred_at = instant(moved["transition"]["occurred_at"])
        self.model.moves.append((target, occurred_at, before["flag_id"] is not None))
        self.model.snoozed_until = None

    async def void(self) -> None:
        """Take back the last move; one that ended an episode is another test's matter."""
        if len(self.model.moves) > 1 and not self.model.moves[-1][2]:
            await self.post(f"/v1/transitions/{self.transitions.pop()}/void", {"reason": "a slip"})
            restarted = self.model.started_at
            self.model.moves.pop()
            if self.model.started_at != restarted:
                self.model.snoozed_until = None
            self.model.judge_snooze()

    async def act(self) -> None:
        kind = self.chance.choice(["call", "meeting", "note"])
        at = datetime.now(UTC) - 40 * DAY * self.chance.random()
        done = await self.post(
            f"{self.url}/activities", {"kind": kind, "occurred_at": at.isoformat()}
        )
        before = self.model.started_at
        self.model.done.append((kind, instant(done["occurred_at"])))
        if self.model.started_at != before:
            self.model.snoozed_until = None

    async def prioritise(self) -> None:
        priority = self.chance.choice(["high", "low", "some", None])
        answer = await self.client.patch(
            self.url, json={"priority": priority}, headers={"If-Match": "*"}
        )
        assert answer.status_code == 200, answer.text
        if self.model.threshold(priority) != self.model.threshold(self.model.priority):
            self.model.rule_since = instant(answer.json()["updated_at"])
        self.model.priority = priority
        self.model.judge_snooze()

    async def scan_and_snooze(self) -> None:
        """Afterwards the deal has an open flag if and only if it is due."""
        await self.post("/v1/idle-scans")
        deal = await self.deal()
        due, now = self.model.goes_idle_at, datetime.now(UTC)
        assert (deal["idle"]["flagged_at"] is not None) == (due is not None and due <= now)
        if deal["idle"]["flag_id"] is not None and self.chance.random() < 0.5:
            until = now + 5 * DAY * (0.1 + self.chance.random())
            await self.post(
                f"/v1/idle-flags/{deal['idle']['flag_id']}/snooze",
                {"until": until.isoformat(), "reason": "later"},
            )
            self.model.snoozed_until = until


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("seed", range(8))
async def test_after_anything_that_happens_the_clock_is_what_the_definition_says(
    database: Database, principal: Principal, client: httpx.AsyncClient, seed: int
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline(**RULES))
    opened_at = datetime.now(UTC) - 60 * DAY
    walk = Walk(client, await open_deal(client, opened_at=opened_at.isoformat()), seed)
    turns = [walk.move, walk.move, walk.void, walk.act, walk.act, walk.prioritise]
    turns.append(walk.scan_and_snooze)
    for _ in range(STEPS):
        turn = walk.chance.choice(turns)
        await turn()
        idle = (await walk.deal())["idle"]
        expected = walk.model.goes_idle_at
        assert instant(idle["clock_started_at"]) == walk.model.started_at, turn
        assert (idle["goes_idle_at"] and instant(idle["goes_idle_at"])) == expected, turn
