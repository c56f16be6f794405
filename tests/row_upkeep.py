"""Everything that may be written of deals, by chance and through the API, and what is kept of it.

`Callers` write: they open, amend, move (also in the past), undo, hand off, archive stages and
import files that say more of deals, or other things. `kept` reads back what the database then holds
of each deal, as `hindsight.seen` takes it. Whether the two tell the same is not this module's
business.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import httpx
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.measures.hindsight import DealHistory, FactChange, Logged
from app.domain.pipeline import LossReason, Pipeline, StageKind
from app.storage.engine import Database
from app.storage.ids import new_id
from app.storage.opportunities import facts_of
from app.storage.transitions import entry_of
from tests.deals import DEALS, listed, read
from tests.factories import keep_pipeline, sales_pipeline, stage
from tests.integration.test_imports import imported
from tests.logs import whole_log

OPEN: Final = ("lead", "offer", "talks", "parked")
LOST: Final = ("lost", "declined")
STAGES: Final = (*OPEN, "won", "renewed", *LOST)
SAME_OUTCOME: Final = {"won": "renewed", "renewed": "won", "lost": "declined", "declined": "lost"}

FACTS: Final[dict[str, tuple[Any, ...]]] = {
    "amount": (
        None,
        {"amount": "10", "currency": "EUR"},
        {"amount": "20.5", "currency": "USD"},
    ),
    "probability": (None, 0.5),
    "owner": ("ada", "ben", None),
    "team": ("north", None),
    "source": ("web", None),
    "priority": ("high", "low", None),
    "tags": ([], ["hot"], ["hot", "new"]),
    "attributes": tuple({"region": region} for region in ("east", "west", "", None, True, 7)),
}
MAPPING: Final = {
    "shape": "long",
    "deal": "deal",
    "stage": "stage",
    "occurred_at": "at",
    "facts": {
        "amount": "amount",
        "owner": "owner",
        "tags": {"column": "tags", "separator": ";"},
        "attributes": {"region": "region"},
    },
    "constants": {"currency": "EUR"},
}
HEAD: Final = "deal,stage,at,amount,owner,tags,region\n"


class Row(NamedTuple):
    """A row of a file, without what it says of the deal's facts."""

    stage: str
    at: datetime


class Callers:
    """Those who write of the deals of `sales`; `diary` holds what they sent and were answered.

    `last_rows` are the last that files have told, or would go on from; `told` are the deals of the
    last file.
    """

    def __init__(self, client: httpx.AsyncClient, database: Database, chance: Random) -> None:
        self.client, self.database, self.chance = client, database, chance
        self.begun = datetime.now(UTC) - timedelta(days=20)
        self.diary: list[str] = []
        self.deals: list[str] = []
        self.last_rows = {name: Row("won", self.begun) for name in ("D1", "D2", "D3", "D4")}
        self.told = ["D1"]
        # Some runs are mostly of files, others of moves or amendments: where all are mixed, each
        # soon puts right, or forbids, what another has led to.
        self.habits = {
            way: rarely * chance.choice((1, 4, 16))
            for way, rarely in (
                (self.move, 2),
                (self.amend, 2),
                (self.send_file, 2),
                (self.open, 1),
                (self.undo, 1),
                (self.hand_off, 0.25),
                (self.archive, 0.25),
            )
        }

    async def write(self, times: int) -> None:
        ways = [*self.habits]
        for way in self.chance.choices(ways, [self.habits[way] for way in ways], k=times):
            await way()

    async def open(self) -> None:
        name = f"L{len(self.last_rows)}"
        facts = {fact: value for fact, value in self._facts().items() if value is not None}
        body = {"pipeline": "sales", "name": "A deal", "external_id": name, **facts}
        await self._send("POST", DEALS, {**body, "opened_at": self.begun.isoformat()})
        self.last_rows[name] = Row("lead", self.begun)
        await self._look_about()

    async def move(self) -> None:
        """Now, or at an instant since the last move; at that very instant too."""
        path, body = self._deal(), {"to_stage": self.chance.choice(STAGES)}
        if body["to_stage"] in LOST:
            body["loss_reason"] = "price"
        if self.chance.random() < 0.8:
            deal = await read(self.client, path.removeprefix(f"{DEALS}/"))
            entered = datetime.fromisoformat(deal["stage_entered_at"])
            since = (datetime.now(UTC) - entered) * self.chance.choice((0, self.chance.random()))
            body["occurred_at"] = (entered + since).isoformat()
        await self._send("POST", f"{path}/transitions", body)

    async def amend(self) -> None:
        await self._send("PATCH", self._deal(), self._facts())

    async def undo(self) -> None:
        log = await whole_log(self.client, self._deal().removeprefix(f"{DEALS}/"))
        last = [row["id"] for row in log if row["voided"] is None][-1]
        await self._send("POST", f"/v1/transitions/{last}/void", {"reason": "a slip"})

    async def hand_off(self) -> None:
        await self._send("POST", f"{self._deal()}/hand-off", {"pipeline": "renewals"})

    async def archive(self) -> None:
        old, heir = self.chance.sample(OPEN, 2)
        path = f"/v1/pipelines/sales/stages/{old}/archive"
        await self._send("POST", path, {"move_open_to": heir})

    async def send_file(self) -> None:
        """Some rows of some deals, known or not; often of those of which the last file told."""
        if self.chance.random() < 0.5:
            self.told = self.chance.sample([*self.last_rows], self.chance.choice((1, 2)))
        rows = [
            self._row(name) for name in self.told for _ in range(self.chance.choice((1, 1, 1, 3)))
        ]
        conflicts = self.chance.choice(("reject", "rewrite"))
        content = HEAD + "".join(f"{row}\n" for row in rows)
        job = await imported(self.client, self.database, content, MAPPING, on_conflict=conflicts)
        assert job["state"] == "completed", job
        self.diary.append(f"import, on_conflict={conflicts}: {'  '.join(rows)}")
        await self._look_about()

    def _row(self, name: str) -> str:
        """A row that goes on from the deal's last one, goes back, or tells of a close once more.

        The last is no move, but what it says of the deal was so at the close.
        """
        before = self.last_rows[name]
        if before.stage in SAME_OUTCOME and self.chance.random() < 0.6:
            row = Row(SAME_OUTCOME[before.stage], before.at)
        else:
            later = timedelta(hours=self.chance.choice((0, 1, 5)))
            row = Row(self.chance.choice(STAGES), before.at + later)
        self.last_rows[name] = row
        at = row.at
        if self.chance.random() < 0.1:
            at -= timedelta(hours=self.chance.choice((1, 3, 6)))
        said = (
            ("", "", "5", "7"),
            ("", "", "ada", "ben"),
            ("", "", "hot", "new"),
            ("", "", "east", "west"),
        )
        facts = [self.chance.choice(values) for values in said]
        return ",".join([name, row.stage, at.isoformat(), *facts])

    def _deal(self) -> str:
        return f"{DEALS}/{self.chance.choice(self.deals)}"

    def _facts(self) -> dict[str, Any]:
        told = [name for name in FACTS if self.chance.random() < 0.35]
        return {name: self.chance.choice(FACTS[name]) for name in told}

    async def _send(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Refusals are answers too: most callers do not know how the deal stands."""
        answer = await self.client.request(method, path, json=body, headers={"If-Match": "*"})
        self.diary.append(f"{answer.status_code} {method} {path} {json.dumps(body)}")
        assert answer.status_code in {200, 201, 409, 422}, f"{self.diary[-1]}: {answer.text}"

    async def _look_about(self) -> None:
        self.deals = sorted(await listed(self.client, pipeline="sales", limit=200))


async def keep_pipelines(database: Database, workspace: UUID) -> None:
    """`sales`, where callers write, and `renewals`, to which they hand off."""
    drawn = sales_pipeline()
    more = (stage("renewed", 7, StageKind.WON), stage("declined", 8, StageKind.LOST))
    # As a caller may write them, so that a stage can be archived.
    reasons = (LossReason("price", "Price"),)
    stages = (
        replace(each, loss_reasons=reasons) if each.kind is StageKind.LOST else each
        for each in (*drawn.stages, *more)
    )
    sales = replace(drawn, stages=tuple(stages))
    renewals = replace(sales, pipeline_id=new_id(), key="renewals")
    for pipeline in (sales, renewals):
        await keep_pipeline(database, workspace, pipeline)


async def kept(
    connection: AsyncConnection, workspace: UUID, pipeline: Pipeline
) -> dict[UUID, DealHistory]:
    """All that the database holds of the pipeline's deals, but for their activities."""
    whose = {"workspace": workspace, "pipeline": pipeline.pipeline_id}

    async def rows(table: str, order: str) -> dict[UUID, list[RowMapping]]:
        found = await connection.execute(
            text(
                f"SELECT * FROM {table} WHERE workspace_id = :workspace"
                f" AND pipeline_id = :pipeline ORDER BY {order}"
            ),
            whose,
        )
        by_deal: dict[UUID, list[RowMapping]] = defaultdict(list)
        for row in found.mappings():
            by_deal[row["opportunity_id"]].append(row)
        return by_deal

    deals = await rows("opportunity", "opportunity_id")
    logs = await rows("transition", "seq")
    changes = await rows("opportunity_change", "occurred_at, change_id")
    return {
        deal_id: DealHistory(
            log=[_logged(row) for row in logs[deal_id]],
            facts=facts_of(deal),
            tags=tuple(deal["tags"]),
            attributes=deal["attributes"],
            changes=[_changed(row) for row in changes[deal_id]],
        )
        for deal_id, (deal,) in deals.items()
    }


async def folded(connection: AsyncConnection, workspace: UUID) -> dict[UUID, Any]:
    """The row, the log and the changes of each deal that its segment answers for."""
    found = await connection.execute(
        text("""
            SELECT o.opportunity_id, to_jsonb(o) - '{segment_id, segment_position}'::text[] AS row,
                   (SELECT jsonb_agg(t ORDER BY t.seq) FROM transition AS t
                    WHERE t.workspace_id = :workspace AND t.opportunity_id = o.opportunity_id),
                   (SELECT jsonb_agg(c ORDER BY c.change_id, c.field)
                    FROM opportunity_change AS c
                    WHERE c.workspace_id = :workspace AND c.opportunity_id = o.opportunity_id)
            FROM opportunity AS o
            WHERE o.workspace_id = :workspace AND o.segment_version = o.version
            """),
        {"workspace": workspace},
    )
    return {deal_id: told for deal_id, *told in found}


def _logged(row: RowMapping) -> Logged:
    return Logged(entry_of(row).transition, row["recorded_at"], row["voided_at"])


def _changed(row: RowMapping) -> FactChange:
    """The old value as the domain has it; the log keeps it as JSON."""
    old = row["old"]
    if row["field"] in {"amount", "probability"} and old is not None:
        old = Decimal(str(old))
    if row["field"] == "tags" and old is not None:
        old = tuple(old)
    return FactChange(row["field"], old, row["occurred_at"], row["recorded_at"])


@dataclass(frozen=True)
class Instants:
    """When something occurred and when something was recorded, and just after."""

    occurred: Sequence[datetime]
    recorded: Sequence[datetime]

    @classmethod
    def of(cls, deals: Sequence[DealHistory]) -> "Instants":
        return cls(
            _and_just_after(instant for deal in deals for instant in _occurred(deal)),
            _and_just_after(instant for deal in deals for instant in _recorded(deal)),
        )


def _occurred(deal: DealHistory) -> Iterator[datetime]:
    yield from (entry.move.occurred_at for entry in deal.log)
    yield from (change.occurred_at for change in deal.changes)


def _recorded(deal: DealHistory) -> Iterator[datetime]:
    yield from (entry.recorded_at for entry in deal.log)
    yield from (entry.voided_at for entry in deal.log if entry.voided_at is not None)
    yield from (change.recorded_at for change in deal.changes)


def _and_just_after(instants: Iterator[datetime]) -> list[datetime]:
    at = set(instants)
    return sorted(at | {instant + timedelta(microseconds=1) for instant in at})
