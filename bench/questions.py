"""How both sides are asked about a metric, and when their answers are the same.

A statement asks DuckDB for the metric's core: the sets and their counts, sums and quantiles,
without intervals, policy or JSON (`bench.deal_metrics`, `bench.visit_metrics`). What it finds and
what our answer says are read as `Figures`, which must agree before anything is timed: counts and
money exactly, lengths of time to the microsecond.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from app.domain.pipeline import Pipeline
from bench.duck import Relations, instant

Figures: TypeAlias = dict[tuple[object, ...], Decimal | int | float]
"""By group (None: the whole), then whatever names a figure. A float is in microseconds."""

_MICROSECOND = 1.0
SUMMARY = "count(*), avg({0}), quantile_cont({0}, [0.5, 0.75, 0.9, 0.95]), max({0})"
LENGTHS = ("mean", "p50", "p75", "p90", "p95", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question, as both are asked it. Without `since` and `until`: all history."""

    pipeline: Pipeline
    as_of: datetime
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    group_by: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """As our query parameters, but for `as_of`."""
        said = {
            "from": self.since,
            "to": self.until,
            "source": self.source,
            "group_by": self.group_by,
        }
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in said.items()
            if value is not None
        }

    @property
    def passes(self) -> str:
        """The filter as an SQL condition."""
        return "true" if self.source is None else f"source = '{self.source}'"

    def after_start(self, column: str) -> str:
        """Whether the instant does not lie before the period, in SQL."""
        return "true" if self.since is None else f"{column} >= {instant(self.since)}"

    def before_end(self, column: str) -> str:
        """Whether the instant, where there is any, lies before the period's end, in SQL."""
        end = f"{column} IS NOT NULL" if self.until is None else f"{column} < {instant(self.until)}"
        return f"({end})"

    def within(self, column: str) -> str:
        """The period and the filter as an SQL condition."""
        return f"{self.after_start(column)} AND {self.before_end(column)} AND {self.passes}"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its path, DuckDB's statement, how its rows are read, how our figures are.

    `statement` takes the question, the relations and the group's expression.
    """

    path: str
    statement: Callable[[Asked, Relations, str], str]
    found: Callable[[Pipeline, Iterable[tuple[Any, ...]]], Figures]
    told: Callable[[Pipeline, object, Mapping[str, Any]], Iterator[tuple[tuple[object, ...], Any]]]
    has_period: bool = True

    def path_in(self, pipeline: Pipeline) -> str:
        """Where we answer."""
        return f"/v1/pipelines/{pipeline.key}/metrics/{self.path}"

    def statements(self, asked: Asked, of: Relations) -> list[str]:
        """The whole, and then its groups where there are any: our answer has both."""
        whole = self.statement(asked, of, "NULL::VARCHAR")
        return (
            [whole]
            if asked.group_by is None
            else [whole, self.statement(asked, of, asked.group_by)]
        )

    def read(self, pipeline: Pipeline, answer: Mapping[str, Any]) -> Figures:
        """Our answer."""
        told = list(self.told(pipeline, None, answer["total"]))
        for group in answer["groups"] or ():
            told += self.told(pipeline, group["value"], group)
        return dict(told)


def differences(ours: Figures, theirs: Figures) -> list[str]:
    """Where two answers disagree: a figure that is not there is 0."""
    return [
        f"{key}: {ours.get(key, 0)}, not {theirs.get(key, 0)}"
        for key in sorted({*ours, *theirs}, key=repr)
        if not _same(ours.get(key, 0), theirs.get(key, 0))
    ]


def _same(ours: Decimal | float, theirs: Decimal | float) -> bool:
    if isinstance(ours, float) or isinstance(theirs, float):
        return abs(float(ours) - float(theirs)) <= _MICROSECOND
    return ours == theirs


def money(sums: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, Decimal]]:
    return ((each["currency"], Decimal(each["amount"])) for each in sums)


def lengths(key: tuple[object, ...], told: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    yield (*key, "count"), told["count"]
    if told["count"]:
        for name in LENGTHS:
            yield (*key, name), float(told[f"{name}_seconds"] * 1e6)


def summary(key: tuple[object, ...], row: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    count, mean, quantiles, longest = row
    if count:
        yield (*key, "count"), count
        for name, value in zip(LENGTHS, (mean, *quantiles, longest), strict=True):
            yield (*key, name), float(value)
