"""A small past that can be reckoned by hand: six deals of January 2024, in euros, yen and neither.

And how metrics are asked about it over HTTP.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx

from app.domain.definition import Definition, begin
from app.domain.pipeline import Flow, LossReason, Pipeline, StageKind
from app.storage.engine import Database
from tests.factories import stage
from tests.past_deals import PastDeal, define, insert, past_deal

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday, one hour old in Berlin."""
DAY = 86_400


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


async def define_sales(database: Database, workspace: UUID) -> Pipeline:
    """lead → offer → won or lost, with a stage beside the path; its days begin in Berlin."""
    lost = stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Too dear"),))
    parked = stage("parked", 0, off_path=True)
    won = stage("won", 0, StageKind.WON)
    pipeline = begin(
        Definition(
            key="sales",
            name="Sales",
            flow=Flow.FREE,
            stages=(stage("lead", 0), stage("offer", 0), parked, won, lost),
            timezone="Europe/Berlin",
        ),
        uuid4(),
        day(0),
    )
    await define(database, workspace, pipeline, day(0))
    return pipeline


def deal(pipeline: Pipeline, *stays: tuple[str, float], **facts: Any) -> PastDeal:
    return past_deal(pipeline, [(key, day(number)) for key, number in stays], **facts)


async def insert_january(database: Database, workspace: UUID, sales: Pipeline) -> None:
    """Three deals won, one lost, two open."""
    deals = [
        deal(sales, ("lead", 1), ("offer", 3), ("won", 5), amount=Decimal(100), currency="EUR"),
        deal(sales, ("lead", 1), ("offer", 5), ("won", 9), amount=Decimal(300), currency="EUR"),
        deal(sales, ("lead", 2), ("offer", 4), ("lost", 8), amount=Decimal(50), currency="EUR"),
        deal(sales, ("lead", 2), amount=Decimal(70), currency="EUR", owner="ada"),
        deal(sales, ("offer", 9), owner="ben"),
        deal(sales, ("lead", 10), ("won", 20), amount=Decimal(1000), currency="JPY"),
    ]
    await insert(database, workspace, sales, deals)


async def asked(client: httpx.AsyncClient, metric: str, **parameters: Any) -> Any:
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, metric: str, **parameters: Any) -> Any:
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric}", params=parameters)
    assert answer.status_code == 422, answer.text
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]
