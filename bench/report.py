"""What a measurement says: figures beside their yardsticks, as a table and as JSON.

A ratio is ours to the yardstick's, of medians over interleaved rounds. Nothing here judges: a
figure beside its aim is for a person to read.
"""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure. `ours` and `yardstick` are medians, with every round's value behind them."""

    name: str
    unit: str
    ours: float
    yardstick: float | None = None
    against: str | None = None
    aim: str | None = None
    rounds: Sequence[float] = ()
    yardstick_rounds: Sequence[float] = ()

    @property
    def ratio(self) -> float | None:
        return None if not self.yardstick else self.ours / self.yardstick


@dataclass(slots=True)
class Report:
    """The figures of one measurement and the circumstances under which they were taken."""

    name: str
    circumstances: Mapping[str, object]
    figures: list[Figure] = field(default_factory=list)

    def add(
        self,
        name: str,
        unit: str,
        ours: Sequence[float],
        yardstick: Sequence[float] = (),
        *,
        against: str | None = None,
        aim: str | None = None,
    ) -> None:
        """Add the figure of these rounds, and say so: a large measurement takes its time."""
        figure = Figure(
            name=name,
            unit=unit,
            ours=median(ours),
            yardstick=median(yardstick) if yardstick else None,
            against=against,
            aim=aim,
            rounds=ours,
            yardstick_rounds=yardstick,
        )
        self.figures.append(figure)
        beside = "" if figure.ratio is None else f", {figure.ratio:.2f} × {against}"
        print(f"{name}: {_short(figure.ours)} {unit}{beside}", file=sys.stderr)

    def publish(self) -> None:
        """Print the table, and write the JSON into `bench/results/`."""
        facts = ", ".join(f"{name} {value}" for name, value in self.circumstances.items())
        table = Table(title=self.name, caption=facts, title_justify="left")
        for heading in ("figure", "ours", "yardstick", "ratio", "against", "aim"):
            right = heading in ("ours", "yardstick", "ratio")
            table.add_column(heading, justify="right" if right else "left")
        for figure in self.figures:
            table.add_row(
                figure.name,
                f"{_short(figure.ours)} {figure.unit}",
                "" if figure.yardstick is None else f"{_short(figure.yardstick)} {figure.unit}",
                "" if figure.ratio is None else f"{figure.ratio:.2f}",
                figure.against or "",
                figure.aim or "",
            )
        Console(width=None if os.isatty(1) else 140).print(table)
        RESULTS.mkdir(exist_ok=True)
        taken_at = datetime.now(UTC)
        written = {
            "name": self.name,
            "taken_at": taken_at.isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "circumstances": dict(self.circumstances),
            "figures": [asdict(figure) | {"ratio": figure.ratio} for figure in self.figures],
        }
        path = RESULTS / f"{self.name}-{taken_at:%Y%m%dT%H%M%SZ}.json"
        path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        print(f"written to {path}")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
