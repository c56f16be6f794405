"""DuckDB with the workspace's history in its memory: the yardstick of the metrics.

It is given what was recorded and nothing else: the log, and the facts that were changed. From these
it derives, when it is loaded, the tables that an analyst would keep: `deals` (each as it counts at
the world's end: facts as they are, or frozen at its close) and `visits` (the completed ones). A
metric is asked of these, or of the record alone, by one statement (`bench.questions`) over either.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import asyncpg
import duckdb

from app.domain.pipeline import Pipeline, StageKind
from app.storage.engine import connect_arguments
from bench.stage import Stage
from bench.world import KEYS

THREADS: Final = 2

_LOG: Final = {
    "deal": "UUID",
    "pipeline": "VARCHAR",
    "seq": "INTEGER",
    "kind": "VARCHAR",
    "from_slot": "TINYINT",
    "to_slot": "TINYINT",
    "occurred_at": "TIMESTAMPTZ",
    "loss_reason": "VARCHAR",
    "amount": "DECIMAL(19, 4)",
    "currency": "VARCHAR",
    "owner": "VARCHAR",
    "team": "VARCHAR",
    "source": "VARCHAR",
    "priority": "VARCHAR",
}
_CHANGES: Final = {
    "deal": "UUID",
    "pipeline": "VARCHAR",
    "field": "VARCHAR",
    "new": "VARCHAR",
    "occurred_at": "TIMESTAMPTZ",
}
_EXPORTS: Final = (
    (
        "log",
        _LOG,
        """
        SELECT t.opportunity_id, p.key, t.seq, t.kind, t.from_slot, t.to_slot, t.occurred_at,
               t.loss_reason, t.amount, t.currency, t.owner, t.team, t.source, t.priority
        FROM transition AS t JOIN pipeline AS p USING (workspace_id, pipeline_id)
        WHERE t.workspace_id = $1
        """,
    ),
    (
        "changes",
        _CHANGES,
        """
        SELECT c.opportunity_id, p.key, c.field, c.new #>> '{}', c.occurred_at
        FROM opportunity_change AS c JOIN pipeline AS p USING (workspace_id, pipeline_id)
        WHERE c.workspace_id = $1
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class Relations:
    """What a statement is asked of, each an SQL relation of one pipeline at one instant.

    `deals` bear their facts at that instant; `closed` may lack the amendments of open deals;
    `visits` are the completed ones, bearing what was frozen when they ended.
    """

    deals: str
    closed: str
    visits: str


class Duck:
    """The database. `pipeline` says what a slot means; all of the workspace's share its make."""

    def __init__(self, on: Stage, workspace: UUID, pipeline: Pipeline, until: datetime) -> None:
        self._pipeline = pipeline
        self._duck = duckdb.connect(":memory:")
        self._duck.execute(f"SET threads = {THREADS}")
        self._duck.execute("SET TimeZone = 'UTC'")
        for name, columns, query in _EXPORTS:
            file = on.folder / f"{name}.csv"
            asyncio.run(_export(on, query, workspace, str(file)))
            self._duck.execute(
                f"CREATE TABLE {name} AS FROM read_csv('{file}', header = false,"
                f" columns = {columns})"
            )
            file.unlink()
        for name in ("deals", "visits"):
            each = (getattr(self.raw(until, key), name) for key in KEYS)
            self._duck.execute(f"CREATE TABLE {name} AS {' UNION ALL '.join(each)}")

    @property
    def derived(self) -> Relations:
        """The tables as they were derived, at the world's end."""
        key = self._pipeline.key
        deals = f"(SELECT * FROM deals WHERE pipeline = '{key}')"
        return Relations(deals, deals, f"(SELECT * FROM visits WHERE pipeline = '{key}')")

    def raw(self, as_of: datetime, key: str | None = None) -> Relations:
        """The record up to that instant."""
        of = f"pipeline = '{key or self._pipeline.key}' AND occurred_at < {instant(as_of)}"
        closed = self._past(of)
        return Relations(_amended(closed, of), closed, _visits(of))

    def rows(self, *statements: str) -> list[tuple[Any, ...]]:
        """The rows of all these statements."""
        return [row for sql in statements for row in self._duck.execute(sql).fetchall()]

    def timed(self, *statements: str) -> float:
        """Milliseconds until all of them have been answered."""
        began = perf_counter()
        self.rows(*statements)
        return (perf_counter() - began) * 1000

    def _past(self, of: str) -> str:
        """How far has the log brought each deal? Facts are those frozen at its last move."""
        open_slots = slots(self._pipeline, StageKind.OPEN)
        won = slots(self._pipeline, StageKind.WON)
        frozen = ("amount", "currency", "owner", "team", "source", "priority")
        return f"""(
            SELECT *, CASE WHEN slot IN {open_slots} THEN 'open'
                           WHEN slot IN {won} THEN 'won' ELSE 'lost' END AS status,
                   CASE WHEN slot NOT IN {open_slots} THEN entered_at END AS closed_at
            FROM (
                SELECT deal, any_value(pipeline) AS pipeline, min(occurred_at) AS opened_at,
                       max(occurred_at) AS entered_at, arg_max(to_slot, seq) AS slot,
                       bit_or(1::BIGINT << (to_slot - 1)) AS reach_mask,
                       -- Of a closed deal: from each opening to the next close.
                       sum(CASE WHEN to_slot IN {open_slots}
                                THEN if(coalesce(from_slot, 0) IN {open_slots}, 0, -1)
                                ELSE if(coalesce(from_slot, 0) IN {open_slots}, 1, 0) END
                           * epoch_us(occurred_at))::BIGINT AS open_time,
                       arg_max(from_slot, seq) AS lost_from,
                       arg_max(loss_reason, seq) AS loss_reason,
                       {", ".join(f"arg_max({name}, seq) AS {name}" for name in frozen)}
                FROM log WHERE {of} GROUP BY deal
            ))"""


def slots(pipeline: Pipeline, kind: StageKind) -> str:
    """The stages of that kind, as an SQL list."""
    return f"({', '.join(str(stage.slot) for stage in pipeline.stages if stage.kind is kind)})"


def instant(at: datetime) -> str:
    """The instant as an SQL literal."""
    return f"TIMESTAMPTZ '{at.isoformat()}'"


def _amended(past: str, of: str) -> str:
    """The same deals with what has changed about the open ones since their last move."""
    # What an amendment may change in this world: a new field would show as a wrong answer.
    kinds = {"amount": "DECIMAL(19, 4)", "owner": "VARCHAR", "source": "VARCHAR"}
    latest = ", ".join(
        f"arg_max(new, occurred_at) FILTER (field = '{name}') AS {name},"
        f" max(occurred_at) FILTER (field = '{name}') AS {name}_at"
        for name in kinds
    )
    replaced = ", ".join(
        f"if(p.status = 'open' AND c.{name}_at > p.entered_at, c.{name}::{kind}, p.{name})"
        f" AS {name}"
        for name, kind in kinds.items()
    )
    return f"""(
        SELECT p.* REPLACE ({replaced}) FROM {past} AS p
        LEFT JOIN (SELECT deal, {latest} FROM changes WHERE {of} GROUP BY deal) AS c
        USING (deal))"""


def _visits(of: str) -> str:
    return f"""(
        SELECT deal, pipeline, slot, entered_at, left_at,
               epoch_us(left_at) - epoch_us(entered_at) AS lasted, kind, to_slot,
               owner, team, source
        FROM (
            SELECT *, from_slot AS slot, occurred_at AS left_at,
                   lag(occurred_at) OVER (PARTITION BY deal ORDER BY seq) AS entered_at
            FROM log WHERE {of}
        ) WHERE slot IS NOT NULL)"""


async def _export(on: Stage, query: str, workspace: UUID, file: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(on.owner_url))
    try:
        await connection.copy_from_query(query, workspace, output=file, format="csv")
    finally:
        await connection.close()
