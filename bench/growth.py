"""What a metric costs as history grows: the same questions in worlds of several sizes.

A quarter selects more of a larger world; a period chosen to select as many deals everywhere shows
what history alone costs. Each figure stands beside the smallest world's.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from bench.client import Client
from bench.metrics import METRICS, QUARTER
from bench.questions import Asked
from bench.report import Report
from bench.stage import make_workspace, service, stage
from bench.world import World, load

PARTS = (50, 5, 1)
"""The worlds: the largest one divided by these."""
ROUNDS = 7
MONTH = timedelta(days=30)


def measure(report: Report, deals: int) -> None:
    """Time each metric with a period in worlds of up to so many deals."""
    smallest: dict[tuple[str, str], list[float]] = {}
    chosen: int | None = None
    for part in PARTS:
        with stage() as on:
            workspace, key = on.run(make_workspace)
            world = load(on, workspace, deals // part)
            with service(on) as running:
                client = Client(running.url, key)
                quarter = _before(world, world.until, QUARTER)
                if chosen is None:
                    chosen = _selected(client, quarter)
                share = chosen / _selected(client, quarter)
                alike = _before(world, world.until - MONTH, QUARTER * share)
                for name, asked in (("quarter", quarter), ("as many deals", alike)):
                    selected = _selected(client, asked)
                    for metric in METRICS:
                        if not metric.has_period:
                            continue
                        path = metric.path_in(asked.pipeline)
                        times = [client.timed(path, asked.query) for _ in range(1 + ROUNDS)][1:]
                        report.add(
                            f"{metric.path}, {name}: {selected:,} of {world.whole.deals:,}",
                            "ms",
                            times,
                            smallest.setdefault((metric.path, name), times),
                            against="the smallest world",
                        )


def _before(world: World, end: datetime, span: timedelta) -> Asked:
    asked = Asked(pipeline=world.pipeline, as_of=world.until)
    return replace(asked, since=end - span, until=end)


def _selected(client: Client, asked: Asked) -> int:
    """Deals opened in the period."""
    funnel = client.get(METRICS[0].path_in(asked.pipeline), asked.query)
    return int(funnel["total"]["deals"])
