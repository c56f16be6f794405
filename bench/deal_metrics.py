"""The metrics of deals, as DuckDB is asked them: funnel, closings and snapshot."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from app.domain.measures.snapshot import BUCKET_SHARES, BUCKET_YEAR
from app.domain.pipeline import Pipeline, Stage, StageKind
from bench.duck import Relations, instant, slots
from bench.questions import SUMMARY, Asked, Figures, Metric, lengths, money, summary


def _funnel(asked: Asked, of: Relations, group: str) -> str:
    return f"""
        SELECT {group}, status, reach_mask, currency, count(*), sum(amount) FROM {of.deals}
        WHERE {asked.within("opened_at")} GROUP BY ALL"""


def _funnel_found(pipeline: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = defaultdict(int)
    for group, status, mask, currency, deals, amount in rows:
        visited = [rank for rank, stage in enumerate(pipeline.path, start=1) if mask & stage.bit]
        furthest = pipeline.won_rank if status == "won" else max(visited, default=1)
        counted = [(rank, "reached") for rank in range(1, furthest + 1)]
        counted += [(rank, "entered") for rank in visited]
        counted += [(furthest, "entered" if status == "won" else f"{status}_furthest")]
        if mask & _bits(pipeline, StageKind.WON):
            counted += [(pipeline.won_rank, "ever_won")]
        for rank, name in counted:
            figures[group, rank, name] += deals
            figures[group, rank, name, currency] += amount
    return dict(figures)


def _bits(pipeline: Pipeline, kind: StageKind) -> int:
    return sum(stage.bit for stage in pipeline.stages if stage.kind is kind)


def _funnel_told(_: Pipeline, group: object, told: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for stage in told["stages"]:
        for name in ("reached", "entered", "open_furthest", "lost_furthest", "ever_won"):
            if stage[name] is not None:
                yield (group, stage["rank"], name), stage[name]
                for currency, amount in money(stage[f"amount_{name}"]):
                    yield (group, stage["rank"], name, currency), amount


def _cycle_time(asked: Asked, of: Relations, group: str) -> str:
    return f"""
        SELECT g, status, {SUMMARY.format("open_time")}
        FROM (SELECT {group} AS g, status, open_time FROM {of.closed}
              WHERE closed_at IS NOT NULL AND {asked.within("closed_at")})
        GROUP BY GROUPING SETS ((g), (g, status))"""


def _cycle_time_found(_: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = {}
    for group, status, *lasted in rows:
        figures |= summary((group, status or "all"), tuple(lasted))
    return figures


def _cycle_time_told(
    _: Pipeline, group: object, told: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    for outcome in ("won", "lost", "all"):
        yield from lengths((group, outcome), told[outcome])


def _win_rate(asked: Asked, of: Relations, group: str) -> str:
    return f"""
        SELECT {group}, status, currency, count(*), sum(amount) FROM {of.closed}
        WHERE closed_at IS NOT NULL AND {asked.within("closed_at")} GROUP BY ALL"""


def _win_rate_found(_: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = defaultdict(int)
    for group, status, currency, deals, amount in rows:
        figures[group, status] += deals
        figures[group, status, currency] += amount
    return dict(figures)


def _win_rate_told(
    _: Pipeline, group: object, told: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    for status in ("won", "lost"):
        yield (group, status), told[status]
        for currency, amount in money(each[status] for each in told["by_amount"]):
            yield (group, status, currency), amount


def _loss_reasons(asked: Asked, of: Relations, group: str) -> str:
    return f"""
        SELECT {group}, lost_from, loss_reason, currency, count(*), sum(amount) FROM {of.closed}
        WHERE status = 'lost' AND {asked.within("closed_at")} GROUP BY ALL"""


def _loss_reasons_found(pipeline: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = defaultdict(int)
    for group, slot, reason, currency, deals, amount in rows:
        figures[group, pipeline.by_slot[slot].key, reason] += deals
        figures[group, pipeline.by_slot[slot].key, reason, currency] += amount
    return dict(figures)


def _loss_reasons_told(
    _: Pipeline, group: object, told: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    for stage in told["stages"]:
        for reason in stage["reasons"]:
            key = group, stage["key"], reason["reason"]
            yield key, reason["deals"]
            for currency, amount in money(reason["amount"]):
                yield (*key, currency), amount


def _snapshot(asked: Asked, of: Relations, group: str) -> str:
    open_stages = [stage for stage in asked.pipeline.stages if stage.is_open]
    at = instant(asked.as_of)
    chance = " ".join(f"WHEN {s.slot} THEN {s.probability or 0}" for s in open_stages)
    after = " ".join(_thresholds(open_stages))
    buckets = ", ".join(
        f"count(*) FILTER (age >= coalesce(ends[{n}], 0) AND age < coalesce(ends[{n + 1}], 9e18))"
        for n in range(len(BUCKET_SHARES) + 1)
    )
    return f"""
        WITH ended AS (
            SELECT slot, quantile_cont(lasted, {list(BUCKET_SHARES)}) AS ends FROM {of.visits}
            WHERE slot IN {slots(asked.pipeline, StageKind.OPEN)}
              AND left_at >= {instant(asked.as_of - BUCKET_YEAR)}
            GROUP BY slot
        ), standing AS (
            SELECT {group} AS g, slot, currency, amount,
                   amount * CASE slot {chance} END AS weighted,
                   epoch_us({at}) - epoch_us(entered_at) AS age, CASE {after} END AS after, ends
            FROM {of.deals} JOIN ended USING (slot) WHERE status = 'open' AND {asked.passes}
        )
        SELECT g, slot, currency, count(*), sum(amount), sum(weighted),
               count(*) FILTER (age >= after), quantile_cont(age, 0.5), {buckets}
        FROM standing GROUP BY GROUPING SETS ((g, slot), (g, slot, currency))"""


def _thresholds(stages: Iterable[Stage]) -> Iterator[str]:
    for stage in stages:
        rules = [*stage.idle.after_by_priority.items(), (None, stage.idle.after)]
        for priority, after in rules:
            if after is not None:
                condition = "" if priority is None else f" AND priority = '{priority}'"
                length = after.length // timedelta(microseconds=1)
                yield f"WHEN slot = {stage.slot}{condition} THEN {length}"


def _snapshot_found(pipeline: Pipeline, rows: Iterable[tuple[Any, ...]]) -> Figures:
    figures: Figures = {}
    for group, slot, currency, deals, amount, weighted, idle, median, *buckets in rows:
        key = group, pipeline.by_slot[slot].key
        if currency is not None:
            figures[*key, "amount", currency] = amount
            figures[*key, "weighted_amount", currency] = weighted
            continue
        figures[*key, "deals"], figures[*key, "idle"] = deals, idle
        figures[*key, "median"] = float(median)
        figures |= {(*key, "bucket", n): count for n, count in enumerate(buckets)}
    return figures


def _snapshot_told(
    _: Pipeline, group: object, told: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    for stage in told["stages"]:
        key = group, stage["key"]
        for name in ("amount", "weighted_amount"):
            yield from (((*key, name, currency), sum_) for currency, sum_ in money(stage[name]))
        if stage["deals"]:
            yield (*key, "deals"), stage["deals"]
            yield (*key, "idle"), stage["idle"]
            yield (*key, "median"), stage["median_age_seconds"] * 1e6
            for n, bucket in enumerate(stage["age_buckets"] or ()):
                yield (*key, "bucket", n), bucket["deals"]


METRICS = (
    Metric("funnel", _funnel, _funnel_found, _funnel_told),
    Metric("cycle-time", _cycle_time, _cycle_time_found, _cycle_time_told),
    Metric("win-rate", _win_rate, _win_rate_found, _win_rate_told),
    Metric("loss-reasons", _loss_reasons, _loss_reasons_found, _loss_reasons_told),
    Metric("snapshot", _snapshot, _snapshot_found, _snapshot_told, has_period=False),
)
