"""After any writes, deals read mostly from their rows are what their logs tell, at any T and K.

`population.deals` trusts what each write keeps in the deal's row; `hindsight.seen` reads the log
and the changes alone. Elsewhere rows are made for the log that is drawn (`tests.past_deals`): here
they are as the actions have left them.

And none of them forgets to make the next version of the row, by which segments know what has been
written since they were made.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.actions.fold_deals import fold_deals
from app.domain.access import WHOLE
from app.domain.journey import Status
from app.domain.measures.hindsight import DealHistory, Sighting, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Dimension, Selection
from app.domain.pipeline import Pipeline
from app.storage import pipelines
from app.storage.driver import Record
from app.storage.engine import Database
from app.storage.queries.population import BORNE, deals
from app.storage.queries.question import Asked, Question
from tests.row_upkeep import Callers, Instants, folded, keep_pipelines, kept

SEEDS = range(12)
ROUNDS, WRITES, LOOKS = 6, 10, 10
"""Often, because a later write may put right what an earlier one has left wrong."""
POSITION = ("slot", "opened_at", "entered_at", "moved_at", "closed_at", "reach_mask", "open_time")


@dataclass(frozen=True)
class Look:
    """How the deals are looked at; without `facts`, only where they stood."""

    selection: Selection
    facts: bool

    @property
    def by_move(self) -> bool:
        return self.selection.attribution is Attribution.AT_MOVE

    def expected(self, deal: Sighting) -> dict[str, Any]:
        """What the columns of `population.deals` mean."""
        told = {"status": deal.status.value, **{name: getattr(deal, name) for name in POSITION}}
        if self.facts:
            told |= {name: getattr(deal.facts, name) for name in ("amount", "currency", "priority")}
            told |= {f"by_{name}": getattr(deal.bearer, name) for name in BORNE}
        if self.facts and deal.status is Status.OPEN:
            told["probability"] = deal.facts.probability
        if self.facts and not self.by_move:  # no move freezes these
            told |= {"tags": [*deal.bearer.tags], "attributes": dict(deal.bearer.attributes)}
        return told

    def __str__(self) -> str:
        asked = self.selection
        return f"T = {asked.as_of}, K = {asked.known_at}, attribution = {asked.attribution}"


def looks(instants: Instants, now: datetime, chance: Random) -> Iterator[Look]:
    """At this time and with all that is known; then at and just after anything that happened."""
    yield Look(Selection(as_of=now, group_by=Dimension("tag")), facts=True)
    for _ in range(LOOKS):
        attribution = chance.choice((Attribution.CURRENT, Attribution.CURRENT, Attribution.AT_MOVE))
        facts = attribution is Attribution.AT_MOVE or chance.random() < 0.8
        selection = Selection(
            as_of=chance.choice((now, *instants.occurred)),
            known_at=chance.choice(instants.recorded) if chance.random() < 0.5 else None,
            group_by=Dimension("owner") if facts else None,
            attribution=attribution,
        )
        yield Look(selection, facts)


async def found(connection: AsyncConnection, asked: Asked, look: Look) -> dict[UUID, Record]:
    question = Question(asked, grouped=True)
    relation = deals(question, facts=look.facts, by_move=look.by_move)
    rows = await question.rows(connection, f"{relation} SELECT * FROM deals AS d")
    by_deal = {row.opportunity_id: row for row in rows}
    assert len(by_deal) == len(rows), f"{look}: a deal is there twice"
    return by_deal


def differences(
    pipeline: Pipeline,
    histories: Mapping[UUID, DealHistory],
    rows: Mapping[UUID, Record],
    look: Look,
) -> Iterator[tuple[UUID, str]]:
    """The deals of which relation and definition say different things, with what they say."""
    for deal_id, history in histories.items():
        deal, row = seen(pipeline, history, look.selection), rows.get(deal_id)
        if deal is None or row is None:
            if deal is not None or row is not None:
                yield deal_id, f"{look}: expected {deal}, found {row}"
            continue
        for column, expected in look.expected(deal).items():
            value = getattr(row, column)
            if (value or {} if column == "attributes" else value) != expected:
                yield deal_id, f"{look}: {column}: expected {expected!r}, found {value!r}"


def tale(deal_id: UUID, history: DealHistory, diary: Sequence[str]) -> str:
    """All that is known of the deal, and all that was sent."""
    log = [
        f"{entry.move.seq} {entry.move.kind} into slot {entry.move.to_slot} at"
        f" {entry.move.occurred_at}, recorded {entry.recorded_at}, voided {entry.voided_at}"
        for entry in history.log
    ]
    changes = [
        f"{change.field} was {change.old!r} until {change.occurred_at}, recorded"
        f" {change.recorded_at}"
        for change in history.changes
    ]
    return "\n".join([f"The deal {deal_id}:", *log, *changes, "What was sent:", *diary])


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_written_the_rows_of_deals_tell_what_their_logs_do(
    client: httpx.AsyncClient, database: Database, workspace: UUID, seed: int
) -> None:
    chance = Random(seed)
    await keep_pipelines(database, workspace)
    callers = Callers(client, database, chance)
    await callers.open()
    for _ in range(ROUNDS):
        await callers.write(WRITES)
        async with database.read(workspace) as connection:
            await assert_agree(connection, workspace, callers)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_written_of_a_deal_it_is_folded_no_more(
    client: httpx.AsyncClient, database: Database, workspace: UUID, seed: int
) -> None:
    await keep_pipelines(database, workspace)
    callers = Callers(client, database, Random(seed))
    await callers.open()
    written = 0
    for _ in range(ROUNDS):
        await callers.write(WRITES)
        for pipeline in ("sales", "renewals"):
            await fold_deals(database, workspace, pipeline, enough=1)
        async with database.read(workspace) as connection:
            before = await folded(connection, workspace)
        await callers.write(WRITES)
        async with database.read(workspace) as connection:
            still = await folded(connection, workspace)
        assert still == {deal_id: before[deal_id] for deal_id in still}, "\n".join(callers.diary)
        written += len(before) - len(still)
    assert written, "no deal was both folded and written"


async def assert_agree(connection: AsyncConnection, workspace: UUID, callers: Callers) -> None:
    revision = await pipelines.read_current_revision(connection, workspace, "sales")
    pipeline = revision.pipeline
    histories = await kept(connection, workspace, pipeline)
    now = datetime.now(UTC) + timedelta(seconds=1)
    for look in looks(Instants.of([*histories.values()]), now, callers.chance):
        asked = Asked(workspace, WHOLE, Ranking(pipeline, pipeline), look.selection, now)
        rows = await found(connection, asked, look)
        assert rows.keys() <= histories.keys()
        for deal_id, difference in differences(pipeline, histories, rows, look):
            told = tale(deal_id, histories[deal_id], callers.diary)
            pytest.fail(f"{difference}\n{told}")
