"""The catalogue: what every metric and every figure of it means, as data, in two languages.

From here come `GET /v1/metric-definitions`, the `definition` that every answer bears, and the pages
docs/metrics.md and docs/metrics.zh.md; tests hold it against the answers' own schemas.
"""

from types import MappingProxyType
from typing import Final

from app.domain.catalogue.closings import CYCLE_TIME, LOSS_REASONS, WIN_RATE
from app.domain.catalogue.comparison import COMPARE
from app.domain.catalogue.cumulative_flow import CUMULATIVE_FLOW
from app.domain.catalogue.curves import CYCLE_CURVE, STAGE_CURVE
from app.domain.catalogue.flow import FLOW, MATRIX
from app.domain.catalogue.funnel import FUNNEL
from app.domain.catalogue.snapshot import SNAPSHOT
from app.domain.catalogue.stage_time import TIME_IN_STAGE
from app.domain.catalogue.trend import TREND
from app.domain.catalogue.worth import BOTTLENECKS, VELOCITY
from app.domain.catalogue.writing import MetricDefinition
from app.domain.errors import NotFound

CATALOGUE: Final = (
    FUNNEL,
    FLOW,
    MATRIX,
    TIME_IN_STAGE,
    STAGE_CURVE,
    CYCLE_TIME,
    CYCLE_CURVE,
    WIN_RATE,
    LOSS_REASONS,
    SNAPSHOT,
    VELOCITY,
    BOTTLENECKS,
    TREND,
    CUMULATIVE_FLOW,
    COMPARE,
)
"""Every metric, in the order in which one reads about them."""

_BY_ID: Final = MappingProxyType({metric.id: metric for metric in CATALOGUE})


def definition(metric: str) -> MetricDefinition:
    """The definition of the metric of this id. Raises NotFound."""
    found = _BY_ID.get(metric)
    if found is None:
        raise NotFound(f"No metric is called {metric[:100]!r}: {', '.join(_BY_ID)}.")
    return found
