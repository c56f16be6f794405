"""Durable moves over the whole HTTP API, beside a bare handler with the same statement.

Both run on one durable cluster, each as a uvicorn process of its own with ten connections to the
database, and take turns; callers are a third process. All share the machine's cores: the ratio is
what counts.
"""

from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from app.domain import opportunity
from app.domain.definition import begin
from app.domain.journey import Facts
from app.domain.pipeline import Pipeline
from app.domain.templates import templates
from app.domain.transition import decide_opening
from app.storage import bulk, opportunities, pipelines
from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id
from bench.load import STAGES, Load, Taken, take
from bench.report import Report
from bench.stage import bare_service, make_workspace, service, stage

CONNECTIONS = (16, 64)
ROUNDS = 2
SECONDS = 1.5
DEALS_PER_CONNECTION = 8


def measure(report: Report) -> None:
    """Throughput and latency at each number of connections."""
    with stage() as on:
        workspace, key = on.run(make_workspace)
        bare, _ = on.run(make_workspace)
        pipelines_by_workspace = {
            each: on.run(partial(_pipeline, workspace=each)) for each in (workspace, bare)
        }
        with service(on) as url, bare_service(on, bare) as bare_url:

            def one(where: str, in_workspace: UUID, connections: int, seconds: float) -> Taken:
                pipeline, count = (
                    pipelines_by_workspace[in_workspace],
                    connections * DEALS_PER_CONNECTION,
                )
                deals = on.run(lambda db: _deals(db, in_workspace, pipeline, count))
                load = Load(where, str(key), connections, seconds, deals, run=deals[0])
                return take(load)

            for connections in CONNECTIONS:
                ours: list[Taken] = []
                theirs: list[Taken] = []
                for number in range(-1, ROUNDS):  # the first warms both up
                    seconds = SECONDS if number >= 0 else 1.0
                    turn = [(ours, url, workspace), (theirs, bare_url, bare)]
                    for taken, where, in_workspace in turn if number % 2 else reversed(turn):
                        sample = one(where, in_workspace, connections, seconds)
                        if number >= 0:
                            taken.append(sample)
                _tell(report, connections, ours, theirs)


def _tell(report: Report, connections: int, ours: list[Taken], theirs: list[Taken]) -> None:
    against = "bare FastAPI + asyncpg"
    for name, unit, figure, aim in (
        ("moves", "/s", "per_second", "≥ 0.5 ×, aim 1 ×"),
        ("p50", "ms", "p50", None),
        ("p99", "ms", "p99", "≤ 3 ×"),
        ("callers' share of a core", "", "cpu", None),
    ):
        report.add(
            f"{name}, {connections} connections",
            unit,
            [getattr(taken, figure) for taken in ours],
            [getattr(taken, figure) for taken in theirs],
            against=against,
            aim=aim,
        )


async def _pipeline(database: Database, workspace: UUID) -> Pipeline:
    """A pipeline between whose first two stages deals go back and forth."""
    now = datetime.now(UTC)
    template = next(t for t in templates("en") if {s.key for s in t.stages} >= set(STAGES))
    pipeline = begin(template.definition("moves"), new_id(), now)

    async def work(connection: Connection) -> None:
        await pipelines.save(connection, workspace, pipeline, actor="bench", instant=now)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)
    return pipeline


async def _deals(database: Database, workspace: UUID, pipeline: Pipeline, count: int) -> list[str]:
    """New deals in the first stage."""
    now = datetime.now(UTC)
    facts = Facts(owner="north-1", team="north", source="inbound", priority="normal")
    opening = decide_opening(pipeline, None, None, facts, now)
    deals = [
        opportunity.opened(
            pipeline, opening, now, opportunity_id=new_id(), name=f"Deal {n}", facts=facts
        )
        for n in range(count)
    ]

    async def work(connection: Connection) -> None:
        await bulk.execute(connection, [opportunities.insert(workspace, deal) for deal in deals])

    await database.write(workspace, work)
    return [str(deal.opportunity_id) for deal in deals]
