"""Questions that count in columns take turns: one of them at a time holds any."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from app.domain.access import WHOLE
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Selection
from app.storage.engine import Database
from app.storage.queries.question import Asked, Question
from app.storage.segments import reading
from tests.segments import DEAL_COUNT, fold, keep_sales, open_six, rows


class Known(dict[Any, Any]):
    """What a question was told by the database, and whether it has been told anything."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()

    def __setitem__(self, place: Any, told: Any) -> None:
        super().__setitem__(place, told)
        self.told.set()


async def test_a_question_asks_the_database_at_once_and_waits_for_columns_that_others_hold(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    sales = await keep_sales(database, workspace)
    await open_six(client)
    assert await fold(database, workspace) == DEAL_COUNT
    now = datetime.now(UTC)
    told: list[str] = []
    holding, counted, known = asyncio.Event(), asyncio.Event(), Known()

    async def count(name: str, known: Known) -> None:
        selection, ranking = Selection(as_of=now), Ranking(sales, sales)
        asked = Asked(workspace, WHOLE, ranking, selection, now, known=known)
        async with database.read(workspace) as connection:
            question = Question(asked, grouped=False)
            async with reading.deals(connection, question, ["status"]) as held:
                assert held is not None
                told.append(f"{name} holds {sum(frame.size for frame in held.chosen())}")
                holding.set()
                await counted.wait()
            told.append(f"{name} is done")

    async with asyncio.timeout(30), asyncio.TaskGroup() as both:
        both.create_task(count("the first", Known()))
        await holding.wait()
        both.create_task(count("the second", known))
        await known.told.wait()
        await rows(database, workspace, "SELECT 1")  # in which it could have gone on
        assert told == ["the first holds 6"]
        counted.set()
    assert told == [
        "the first holds 6",
        "the first is done",
        "the second holds 6",
        "the second is done",
    ]
