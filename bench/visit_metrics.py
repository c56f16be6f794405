"""The metrics of visits, as DuckDB is asked them: time in stage, flow and matrix."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.domain.pipeline import Pipeline, StageKind
from bench.duck import Relations, instant, slots
from bench.questions import SUMMARY, Asked, Figures, Metric, lengths, summary


def _time_in_stage(asked: Asked, of: Relations, group: str) -> str:
    # Nobody asks what a visit bears where nothing is filtered or grouped.
    deals = of.deals if asked.source or asked.group_by else of.closed
    return f"""
        SELECT {group}, slot, 'completed', {SUMMARY.format("lasted")} FROM {of.visits}
        WHERE slot IN {slots(asked.pipeline, StageKind.OPEN)} AND {asked.within("entered_at")}
        GROUP BY ALL
        UNION ALL
        SELECT {group}, slot, 'open', {SUMMARY.format("age")}
        FROM (SELECT *, epoch_us({instant(asked.as_of)}) - epoch_us(entered_at) AS age
              FROM {deals} WHERE status = 'open' AND {asked.within("entered_at")})
        GROUP BY ALL"""


def _time_in_stage_found(pipeline: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = {}
    for group, slot, part, *lasted in rows:
        figures |= summary((group, pipeline.by_slot[slot].key, part), tuple(lasted))
    return figures


def _time_in_stage_told(
    _: Pipeline, group: object, told: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    for stage in told["stages"]:
        for part in ("completed", "open"):
            yield from lengths((group, stage["key"], part), stage[part])


def _flow(asked: Asked, of: Relations, group: str) -> str:
    deals = of.deals if asked.source or asked.group_by else of.closed
    at_start = f"NOT {asked.after_start('entered_at')}"
    return f"""
        SELECT {group}, slot, if(kind = 'skipped', 'advanced', kind) AS way_out, count(*),
               count(*) FILTER ({at_start}), count(*) FILTER ({asked.before_end("left_at")})
        FROM (SELECT slot, entered_at, left_at, kind, owner, team, source FROM {of.visits}
              WHERE {asked.after_start("left_at")}
              UNION ALL
              SELECT slot, entered_at, NULL, NULL, owner, team, source FROM {deals})
        WHERE {asked.before_end("entered_at")} AND {asked.passes} GROUP BY ALL"""


def _flow_found(pipeline: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = defaultdict(int)
    for group, slot, way_out, visits, at_start, ended in rows:
        key = group, pipeline.by_slot[slot].key
        figures[*key, "open_at_start"] += at_start
        figures[*key, "entries"] += visits - at_start
        figures[*key, "open_at_end"] += visits - ended
        if ended:
            figures[*key, way_out] += ended
    return dict(figures)


def _flow_told(_: Pipeline, group: object, told: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    exits = ("advanced", "regressed", "sidestepped", "won", "lost", "reopened")
    for stage in told["stages"]:
        for name in ("open_at_start", "entries", *exits, "open_at_end"):
            yield (group, stage["key"], name), stage[name]


def _matrix(asked: Asked, of: Relations, group: str) -> str:
    return f"""
        SELECT {group}, slot, to_slot, count(*), quantile_cont(lasted, 0.5) FROM {of.visits}
        WHERE {asked.within("left_at")} GROUP BY ALL"""


def _matrix_found(pipeline: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = {}
    for group, slot, to_slot, count, median in rows:
        key = group, pipeline.by_slot[slot].key, pipeline.by_slot[to_slot].key
        figures[*key, "count"], figures[*key, "median"] = count, float(median)
    return figures


def _matrix_told(_: Pipeline, group: object, told: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for cell in told["cells"]:
        key = group, cell["from_stage"], cell["to_stage"]
        yield (*key, "count"), cell["count"]
        yield (*key, "median"), cell["median_dwell_seconds"] * 1e6


METRICS = (
    Metric("time-in-stage", _time_in_stage, _time_in_stage_found, _time_in_stage_told),
    Metric("flow", _flow, _flow_found, _flow_told),
    Metric("matrix", _matrix, _matrix_found, _matrix_told),
)
