"""`python -m bench [NAME …]`: measure, print tables, write JSON.

SIZE in the environment says over how many deals metrics are measured, and up to how many their
growth is; an import takes a fifth. Growth is measured when it is named: it loads three worlds.
"""

import os
import sys
from collections.abc import Callable, Mapping

from bench import growth, idle, imports, metrics, moves, start, stream, webhooks
from bench.report import Report

SIZE = int(os.environ.get("SIZE") or 100_000)

MEASUREMENTS: Mapping[str, Callable[[Report], None]] = {
    "moves": moves.measure,
    "metrics": lambda report: metrics.measure(report, SIZE),
    "idle": idle.measure,
    "stream": stream.measure,
    "webhooks": webhooks.measure,
    "import": lambda report: imports.measure(report, SIZE // 5),
    "start": start.measure,
    "growth": lambda report: growth.measure(report, SIZE),
}
USUAL = [name for name in MEASUREMENTS if name != "growth"]


def main(names: list[str]) -> None:
    """Take the measurements named, or the usual ones."""
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        known = ", ".join(MEASUREMENTS)
        sys.exit(f"There is no measurement {', '.join(sorted(unknown))}. Known are {known}.")
    for name in names or USUAL:
        report = Report(name, {"load before": f"{os.getloadavg()[0]:.1f}"})
        MEASUREMENTS[name](report)
        report.publish()


if __name__ == "__main__":
    main(sys.argv[1:])
