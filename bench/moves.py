"""Durable moves over the whole HTTP API, beside a bare handler with the same statement.

Both run on one durable cluster, each as a uvicorn process of its own with ten connections to the
database, and take turns; callers are a third process. All share the machine's cores: the ratio is
what counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from app.domain import opportunity
from app.domain.api_key import ApiKey
from app.domain.definition import begin
from app.domain.journey import Facts
from app.domain.pipeline import Pipeline
from app.domain.templates import templates
from app.domain.transition import decide_opening
from app.storage import bulk, opportunities, pipelines
from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id
from bench import cpu
from bench.load import STAGES, Load, take
from bench.report import Report
from bench.stage import Running, Stage, bare_service, make_workspace, service, stage

CONNECTIONS = (16, 64)
ROUNDS = 5
SECONDS = 3.0
WARM_UP = 1.0
DEALS_PER_CONNECTION = 8


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two that take turns."""

    server: Running
    workspace: UUID
    pipeline: Pipeline
    rounds: list["_Round"]


@dataclass(frozen=True, slots=True)
class _Round:
    """What callers saw, and what a move cost in processor time."""

    per_second: float
    p50: float
    p99: float
    server_cpu: float
    database_cpu: float
    callers_cpu: float


FIGURES = (
    ("moves", "/s", "per_second", "≥ 0.5 ×, aim 1 ×"),
    ("p50", "ms", "p50", None),
    ("p99", "ms", "p99", "≤ 3 ×"),
    ("CPU of the service a move", "µs", "server_cpu", None),
    ("CPU of PostgreSQL a move", "µs", "database_cpu", None),
    ("callers' share of a core", "", "callers_cpu", None),
)


def measure(report: Report) -> None:
    """Throughput and latency at each number of connections."""
    with stage() as on:
        workspace, key = on.run(make_workspace)
        other, _ = on.run(make_workspace)
        with service(on) as sluice, bare_service(on, other) as bare:
            sides = [
                _Side(server, each, on.run(partial(_pipeline, workspace=each)), [])
                for server, each in ((sluice, workspace), (bare, other))
            ]
            for connections in CONNECTIONS:
                for side in sides:
                    _round(on, side, key, connections, WARM_UP)
                for number in range(ROUNDS):
                    for side in sides if number % 2 else reversed(sides):
                        side.rounds.append(_round(on, side, key, connections, SECONDS))
                _tell(report, connections, *(side.rounds for side in sides))
                for side in sides:
                    side.rounds.clear()


def _round(on: Stage, side: _Side, key: ApiKey, connections: int, seconds: float) -> _Round:
    count = connections * DEALS_PER_CONNECTION
    deals = on.run(partial(_deals, workspace=side.workspace, pipeline=side.pipeline, count=count))
    load = Load(side.server.url, str(key), connections, seconds, deals, run=deals[0])
    server, database = cpu.seconds(side.server.pid), cpu.seconds_of_server(on.data)
    taken = take(load)
    moves = taken.statuses["201"]
    return _Round(
        taken.per_second,
        taken.p50,
        taken.p99,
        server_cpu=(cpu.seconds(side.server.pid) - server) / moves * 1e6,
        database_cpu=(cpu.seconds_of_server(on.data) - database) / moves * 1e6,
        callers_cpu=taken.cpu,
    )


def _tell(
    report: Report, connections: int, ours: Sequence[_Round], theirs: Sequence[_Round]
) -> None:
    for name, unit, figure, aim in FIGURES:
        report.add(
            f"{name}, {connections} connections",
            unit,
            [getattr(taken, figure) for taken in ours],
            [getattr(taken, figure) for taken in theirs],
            against="bare FastAPI + asyncpg",
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
    opening = decide_opening(pipeline, None, None, {}, facts, now)
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
