"""Common metrics through the HTTP API, beside DuckDB on the same data in the same process' memory.

DuckDB, with two threads, answers what the metric's core asks, without interval, policy or JSON: on
the derived tables (the deal's row with its mask, visits with their ends), and again from nothing
but the log. Ours is the whole answer over HTTP, key and workspace checked.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from uuid import UUID

import asyncpg
import duckdb

from app.actions.load_demo import KEY
from app.domain.pipeline import StageKind
from app.storage.engine import connect_arguments
from bench.client import Client
from bench.report import Report
from bench.stage import Stage, make_workspace, service, stage
from bench.world import World, load

ROUNDS = 7
THREADS = 2
_DEALS = (
    "opportunity_id, status, slot, stage_entered_at, opened_at, closed_at, reach_mask, amount,"
    " currency, owner, team, source"
)
_LOG = (
    "opportunity_id, seq, kind, from_slot, entered_at, to_slot, occurred_at, amount, currency,"
    " probability, owner, team, source"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One metric: our path, and DuckDB's statements for the derived tables and for the log.

    `{group}` is the column grouped by or a constant, `{where}` a further condition.
    """

    path: str
    derived: str
    raw: str


def measure(report: Report, deals: int) -> None:
    """Time each metric over a quarter and over all history, plain, filtered and grouped."""
    with stage() as on:
        workspace, key = on.run(make_workspace)
        world = load(on, workspace, deals)
        report.circumstances = {
            **report.circumstances,
            "deals": world.deals,
            "transitions": world.transitions,
        }
        duck = _duck(on, workspace)
        with service(on) as running:
            client = Client(running.url, key)
            for asked in _questions(world):
                _compare(report, client, duck, asked, world)
            _unchanged(report, client)


def _compare(
    report: Report,
    client: Client,
    duck: duckdb.DuckDBPyConnection,
    asked: Asked,
    world: World,
) -> None:
    path = f"/v1/pipelines/{KEY}/metrics/{asked.path}"
    quarter = world.until - timedelta(days=91)
    for label, since, more, group, where, aim in (
        ("quarter", quarter, {}, "0", "true", "≤ 2 ×, 100 ms"),
        ("all history", world.since, {}, "0", "true", "≤ 2 ×, 300 ms"),
        ("all, source = referral", world.since, {"source": "referral"}, "0", None, "≤ 6 ×"),
        ("all, by team", world.since, {"group_by": "team"}, "team", "true", "≤ 6 ×"),
    ):
        query: Mapping[str, str] = more
        if asked.path == "snapshot":
            if label == "quarter":
                continue
        else:
            query = {"from": f"{since:%Y-%m-%d}", "to": f"{world.until:%Y-%m-%d}", **more}
        words = {
            "group": group,
            "where": where or "source = 'referral'",
            "since": f"TIMESTAMPTZ '{since:%Y-%m-%d}'",
            "until": f"TIMESTAMPTZ '{world.until:%Y-%m-%d}'",
            "now": f"TIMESTAMPTZ '{world.until.isoformat()}'",
        }
        ours: list[float] = []
        derived: list[float] = []
        raw: list[float] = []
        for number in range(-1, ROUNDS):  # the first warms all of them up
            sample = client.timed(path, query)
            others = [_timed(duck, each.format(**words)) for each in (asked.derived, asked.raw)]
            if number >= 0:
                ours.append(sample)
                derived.append(others[0])
                raw.append(others[1])
        name = f"{asked.path}, {label}"
        report.add(name, "ms", ours, derived, against="DuckDB, derived tables", aim=aim)
        report.add(name, "ms", ours, raw, against="DuckDB, raw log", aim="≤ 1 ×")


def _unchanged(report: Report, client: Client) -> None:
    path = f"/v1/pipelines/{KEY}/metrics/funnel"
    client.get(path)
    etag = client.etag
    assert etag is not None
    times = [client.timed(path, If_None_Match=etag) for _ in range(50)]
    report.add("unchanged answer (304)", "ms", times, aim="≤ 3 ms, aim 1 ms")


def _duck(on: Stage, workspace: UUID) -> duckdb.DuckDBPyConnection:
    """DuckDB with the workspace's deals and log in its memory."""
    files = {name: on.folder / f"{name}.csv" for name in ("deals", "log")}

    async def export() -> None:
        connection = await asyncpg.connect(**connect_arguments(on.owner_url))
        for name, columns, table in (
            ("deals", _DEALS, "opportunity"),
            ("log", _LOG, "transition"),
        ):
            await connection.copy_from_query(
                f"SELECT {columns} FROM {table} WHERE workspace_id = $1",
                workspace,
                output=files[name],
                format="csv",
                header=True,
            )
        await connection.close()

    asyncio.run(export())
    duck = duckdb.connect(":memory:")
    duck.execute(f"SET threads = {THREADS}")
    duck.execute("SET TimeZone = 'UTC'")
    for name, file in files.items():
        duck.execute(f"CREATE TABLE {name} AS SELECT * FROM read_csv('{file}')")
        file.unlink()
    return duck


def _timed(duck: duckdb.DuckDBPyConnection, sql: str) -> float:
    began = perf_counter()
    duck.execute(sql).fetchall()
    return (perf_counter() - began) * 1000


def _questions(world: World) -> list[Asked]:
    stages = world.pipeline.stages
    path = world.pipeline.path
    words = {
        "won": ", ".join(str(s.slot) for s in stages if s.kind is StageKind.WON),
        "open": ", ".join(str(s.slot) for s in stages if s.is_open),
        "won_rank": world.pipeline.won_rank,
        "rank": " ".join(
            f"WHEN reach_mask & {stage.bit} > 0 THEN {rank}"
            for rank, stage in reversed([*enumerate(path, start=1)])
        ),
        "rank_of_slot": " ".join(
            f"WHEN {stage.slot} THEN {rank}" for rank, stage in enumerate(path, start=1)
        ),
        "chance": " ".join(f"WHEN {s.slot} THEN {s.probability or 0}" for s in stages if s.is_open),
        "figures": "count(*), avg(t), max(t), quantile_cont(t, [0.5, 0.75, 0.9, 0.95])",
    }
    words["last"] = LAST % words
    return [Asked(name, derived % words, raw % words) for name, derived, raw in QUESTIONS]


# Of each deal: how far its log has brought it.
LAST = """
SELECT opportunity_id, min(occurred_at) AS opened_at, max(occurred_at) AS moved_at,
       max(CASE to_slot %(rank_of_slot)s ELSE 1 END) AS furthest,
       arg_max(to_slot, seq) AS slot, arg_max(kind, seq) AS kind,
       arg_max(amount, seq) AS amount, arg_max(currency, seq) AS currency,
       arg_max(team, seq) AS team, arg_max(source, seq) AS source
FROM log GROUP BY opportunity_id
"""

# Name, statement over the derived tables, statement over the log alone.
QUESTIONS = (
    (
        "funnel",
        """
        SELECT {group}, status, currency,
               CASE WHEN status = 'won' THEN %(won_rank)s %(rank)s ELSE 1 END AS r,
               count(*), sum(amount)
        FROM deals WHERE opened_at >= {since} AND opened_at < {until} AND {where} GROUP BY ALL
        """,
        """
        SELECT {group}, slot IN (%(won)s), kind, currency, furthest, count(*), sum(amount)
        FROM (%(last)s) WHERE opened_at >= {since} AND opened_at < {until} AND {where} GROUP BY ALL
        """,
    ),
    (
        "time-in-stage",
        """
        SELECT {group}, from_slot, true, %(figures)s
        FROM (SELECT *, epoch(occurred_at) - epoch(entered_at) AS t FROM log
              WHERE from_slot IN (%(open)s) AND entered_at >= {since} AND entered_at < {until}
                AND {where})
        GROUP BY ALL
        UNION ALL
        SELECT {group}, slot, false, %(figures)s
        FROM (SELECT *, epoch({now}) - epoch(stage_entered_at) AS t FROM deals
              WHERE status = 'open' AND stage_entered_at >= {since} AND stage_entered_at < {until}
                AND {where})
        GROUP BY ALL
        """,
        """
        WITH visits AS (
            SELECT *, lead(occurred_at) OVER (PARTITION BY opportunity_id ORDER BY seq) AS left_at
            FROM log
        )
        SELECT {group}, to_slot, left_at IS NULL, %(figures)s
        FROM (SELECT *, epoch(coalesce(left_at, {now})) - epoch(occurred_at) AS t FROM visits
              WHERE to_slot IN (%(open)s) AND occurred_at >= {since} AND occurred_at < {until}
                AND {where})
        GROUP BY ALL
        """,
    ),
    (
        "cycle-time",
        """
        SELECT {group}, status, %(figures)s
        FROM (SELECT *, epoch(closed_at) - epoch(opened_at) AS t FROM deals
              WHERE closed_at >= {since} AND closed_at < {until} AND {where})
        GROUP BY GROUPING SETS ((1, 2), (1))
        """,
        """
        SELECT {group}, kind, %(figures)s
        FROM (SELECT *, epoch(moved_at) - epoch(opened_at) AS t FROM (%(last)s)
              WHERE kind IN ('won', 'lost') AND moved_at >= {since} AND moved_at < {until}
                AND {where})
        GROUP BY GROUPING SETS ((1, 2), (1))
        """,
    ),
    (
        "win-rate",
        """
        SELECT {group}, status, currency, count(*), sum(amount) FROM deals
        WHERE closed_at >= {since} AND closed_at < {until} AND {where} GROUP BY ALL
        """,
        """
        SELECT {group}, kind, currency, count(*), sum(amount) FROM (%(last)s)
        WHERE kind IN ('won', 'lost') AND moved_at >= {since} AND moved_at < {until} AND {where}
        GROUP BY ALL
        """,
    ),
    (
        "snapshot",
        """
        SELECT {group}, slot, currency, count(*), sum(amount),
               sum(amount * CASE slot %(chance)s END),
               median(epoch({now}) - epoch(stage_entered_at))
        FROM deals WHERE status = 'open' AND {where} GROUP BY ALL
        """,
        """
        SELECT {group}, slot, currency, count(*), sum(amount),
               sum(amount * CASE slot %(chance)s END), median(epoch({now}) - epoch(moved_at))
        FROM (%(last)s) WHERE slot IN (%(open)s) AND {where} GROUP BY ALL
        """,
    ),
)
