"""Metrics through the HTTP API, beside DuckDB on the same data in this process' memory.

Ours is the whole answer over HTTP, key and workspace checked. DuckDB has two threads, and is asked
in turn with us: of the tables derived beforehand, and of the record alone. Both must give the same
figures before anything is timed. Alone first, then while deals are being moved through the API:
DuckDB stays with the history that it has loaded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from time import perf_counter
from uuid import UUID

from sqlalchemy import select

from app.domain.api_key import ApiKey
from app.storage.engine import Database
from app.storage.tables import opportunity
from bench import deal_metrics, visit_metrics
from bench.client import Client, GaveUp
from bench.duck import THREADS, Duck, Relations
from bench.load import Load, Sending, Taken
from bench.questions import Asked, Metric, differences
from bench.report import Report
from bench.stage import Stage, make_workspace, service, stage
from bench.world import World, load

METRICS = (*deal_metrics.METRICS, *visit_metrics.METRICS)
ROUNDS = 5
RAW_ROUNDS = 3
QUARTER = timedelta(days=91)
YEAR = timedelta(days=365)
DERIVED = "DuckDB, derived tables"
RAW = "DuckDB, raw log"
RAW_AIM = "≤ 1 ×, aim 0.2 ×"

CONNECTIONS = 8
PACE = 150.0
"""Moves a second while metrics are asked."""
SHORTEST = 10.0
LONGEST = 300.0
"""Seconds of moves, at least and at most."""
DEALS_MOVED = 4_000


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of asking a metric. The common ones are asked again while deals are moved."""

    name: str
    asked: Asked
    aim: str
    is_common: bool = False


def measure(report: Report, deals: int) -> None:
    """Compare every metric over a world of so many deals: alone, then while deals are moved."""
    with stage() as on:
        workspace, key = on.run(make_workspace)
        world = load(on, workspace, deals)
        report.add("deals folded", "/s", [world.whole.deals / world.folding])
        duck = Duck(on, workspace, world.pipeline, world.until)
        with service(on) as running:
            sides = _Sides(report, Client(running.url, key), duck)
            sides.compare_alone(world)
            sides.compare_moving(world, _sending(on, workspace, key, world, running.url))
        with service(on, SLUICE_WORKERS=str(THREADS)) as running:
            sides = _Sides(report, Client(running.url, key), duck)
            sending = _sending(on, workspace, key, world, running.url)
            sides.compare_moving(world, sending, f", {THREADS} workers")


def _sending(
    on: Stage, workspace: UUID, key: ApiKey, world: World, url: str
) -> Callable[[int], Sending]:
    """Begins to move one half of the deals that stand in the first stage, or the other."""
    first, second = world.pipeline.path[:2]
    found = on.run(partial(_standing, workspace=workspace, world=world, slot=first.slot))

    def sending(part: int) -> Sending:
        deals, stages = found[part::2], (second.key, first.key)
        run, connections = f"{deals[0]} at {url}", min(CONNECTIONS, len(deals))
        return Sending(Load(url, str(key), connections, LONGEST, deals, run, stages, PACE))

    return sending


def compare(report: Report, on: Stage, workspace: UUID, key: ApiKey, world: World) -> None:
    """Compare every metric over a world that is there already, and leave it as it is."""
    duck = Duck(on, workspace, world.pipeline, world.until)
    with service(on) as running:
        _Sides(report, Client(running.url, key), duck).compare_alone(world)


def variants(metric: Metric, world: World) -> Iterator[Variant]:
    """The ways in which a metric is asked."""
    everything = _all(world)
    quarter = replace(everything, since=world.until - QUARTER, until=world.until)
    if metric.has_period:
        yield Variant("quarter", quarter, "≤ 2 ×, 100 ms", is_common=True)
        yield Variant("quarter, by owner", replace(quarter, group_by="owner"), "≤ 6 ×")
    yield Variant("all history", everything, "≤ 2 ×, 300 ms", is_common=True)
    yield Variant("all, source = referral", replace(everything, source="referral"), "≤ 6 ×")
    yield Variant("all, by team", replace(everything, group_by="team"), "≤ 6 ×")
    yield Variant("all, by owner", replace(everything, group_by="owner"), "≤ 6 ×")


def _all(world: World) -> Asked:
    return Asked(pipeline=world.pipeline, as_of=world.until)


class _Sides:
    """Both sides of the comparison, and how many figures they have agreed upon."""

    def __init__(self, report: Report, client: Client, duck: Duck) -> None:
        self._report, self._client, self._duck = report, client, duck
        self._figures = 0

    def compare_alone(self, world: World) -> None:
        """Every metric in every way, while nothing else goes on."""
        self._warm_up(world)
        for metric in METRICS:
            for variant in variants(metric, world):
                self._compare(metric, variant)
            self._compare_past(metric, replace(_all(world), as_of=world.until - YEAR))
        self._unchanged(METRICS[0], _all(world))
        self._report.circumstances = {
            **self._report.circumstances,
            "deals": world.whole.deals,
            "transitions": world.whole.transitions,
            "in the pipeline asked about": f"{world.asked.deals} and {world.asked.transitions}",
            "figures compared": self._figures,
        }

    def _warm_up(self, world: World) -> None:
        """Have the service answer what is common, so that no question is the one asked first.

        DuckDB's process has worked through all of it when it made its tables.
        """
        for _ in range(1 + ROUNDS):
            for metric in METRICS:
                for variant in variants(metric, world):
                    if variant.is_common:
                        self._ours(metric, variant.asked)

    def _compare(self, metric: Metric, variant: Variant) -> None:
        """As a dashboard asks, without `as_of`; the figures are checked at the world's end."""
        asked = variant.asked
        raw = self._duck.raw(asked.as_of)
        name = f"{metric.path}, {variant.name}"
        if not self._check(name, metric, asked, self._duck.derived, raw):
            return
        rounds = [
            (self._ours(metric, asked), self._theirs(metric, asked, self._duck.derived))
            for _ in range(1 + ROUNDS)
        ][1:]  # the first has warmed them up
        ours, derived = zip(*rounds, strict=True)
        of_log = [self._theirs(metric, asked, raw) for _ in range(RAW_ROUNDS)]
        self._report.add(name, "ms", ours, derived, against=DERIVED, aim=variant.aim)
        self._report.add(name, "ms", ours, of_log, against=RAW, aim=RAW_AIM)

    def _compare_past(self, metric: Metric, asked: Asked) -> None:
        """As it was at `as_of`: no table that was derived for today says that."""
        raw = self._duck.raw(asked.as_of)
        name = f"{metric.path}, as of {asked.as_of:%Y-%m-%d}"
        if not self._check(name, metric, asked, raw):
            return
        self._report.add(
            name,
            "ms",
            [self._ours(metric, asked, in_the_past=True) for _ in range(RAW_ROUNDS)],
            [self._theirs(metric, asked, raw) for _ in range(RAW_ROUNDS)],
            against=RAW,
            aim=RAW_AIM,
        )

    def _unchanged(self, metric: Metric, asked: Asked) -> None:
        """An answer that the caller holds already."""
        self._client.get(metric.path_in(asked.pipeline))
        etag = self._client.etag
        assert etag is not None
        path = metric.path_in(asked.pipeline)
        times = [self._client.timed(path, If_None_Match=etag) for _ in range(50)]
        self._report.add("unchanged answer (304)", "ms", times, aim="≤ 3 ms, aim 1 ms")

    def compare_moving(
        self, world: World, sending: Callable[[int], Sending], how: str = ""
    ) -> None:
        """The common questions while deals are moved, those to us and those to DuckDB apart."""
        common = [
            (metric, variant)
            for metric in METRICS
            for variant in variants(metric, world)
            if variant.is_common
        ]
        derived = self._duck.derived
        for metric, variant in common:  # so that the columns are there
            self._ours(metric, variant.asked)
        ours, moved = _under(
            sending(0), [partial(self._ours, metric, variant.asked) for metric, variant in common]
        )
        theirs, moved_beside = _under(
            sending(1),
            [partial(self._theirs, metric, variant.asked, derived) for metric, variant in common],
        )
        for n, (metric, variant) in enumerate(common):
            name = f"{metric.path}, {variant.name}, deals moving{how}"
            self._report.add(name, "ms", ours[n], theirs[n], against=DERIVED)
        for name, unit, figure in (
            (f"moves meanwhile, of {PACE:.0f}/s sent{how}", "/s", "per_second"),
            (f"their p50{how}", "ms", "p50"),
            (f"their p99{how}", "ms", "p99"),
        ):
            values = ([getattr(taken, figure)] for taken in (moved, moved_beside))
            self._report.add(name, unit, *values, against="while DuckDB is asked")

    def _check(self, name: str, metric: Metric, asked: Asked, *relations: Relations) -> bool:
        """Whether we answer at all. Raises RuntimeError where DuckDB and we do not agree."""
        pipeline = asked.pipeline
        query = asked.query | {"as_of": asked.as_of.isoformat()}
        began = perf_counter()
        try:
            ours = metric.read(pipeline, self._client.get(metric.path_in(pipeline), query))
        except GaveUp:
            took = (perf_counter() - began) * 1000
            theirs = [self._theirs(metric, asked, relations[0])]
            self._report.add(f"{name}: NO ANSWER", "ms", [took], theirs, against="DuckDB")
            return False
        for of in relations:
            found = metric.found(pipeline, self._duck.rows(*metric.statements(asked, of)))
            if wrong := differences(ours, found):
                raise RuntimeError(
                    f"{name}: {len(wrong)} of {len(found)} figures differ from DuckDB's:"
                    f" {'; '.join(wrong[:5])}"
                )
        self._figures += len(ours)
        return True

    def _ours(self, metric: Metric, asked: Asked, *, in_the_past: bool = False) -> float:
        """An answer that is given up counts as long as that has taken."""
        more = {"as_of": asked.as_of.isoformat()} if in_the_past else {}
        began = perf_counter()
        try:
            return self._client.timed(metric.path_in(asked.pipeline), asked.query | more)
        except GaveUp:
            return (perf_counter() - began) * 1000

    def _theirs(self, metric: Metric, asked: Asked, of: Relations) -> float:
        return self._duck.timed(*metric.statements(asked, of))


def _under(
    sending: Sending, questions: Sequence[Callable[[], float]]
) -> tuple[list[list[float]], Taken]:
    """What each question took, round by round, and what became of the load."""
    began = perf_counter()
    try:
        rounds: list[list[float]] = []
        while len(rounds) < ROUNDS or perf_counter() < began + SHORTEST:
            rounds.append([ask() for ask in questions])
    finally:
        taken = sending.stopped()
    return [list(times) for times in zip(*rounds, strict=True)], taken


async def _standing(database: Database, workspace: UUID, world: World, slot: int) -> list[str]:
    """Open deals of the asked pipeline that stand there."""
    async with database.read(workspace) as connection:
        found = await connection.scalars(
            select(opportunity.c.opportunity_id)
            .where(opportunity.c.workspace_id == workspace)
            .where(opportunity.c.pipeline_id == world.pipeline.pipeline_id)
            .where(opportunity.c.slot == slot)
            .limit(DEALS_MOVED)
        )
        return [str(each) for each in found]
