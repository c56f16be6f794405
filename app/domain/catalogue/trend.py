"""One figure through time: the trend (section 5), in words."""

from typing import Final

from app.domain.catalogue.figures import (
    AT_THE_END,
    FIGURE,
    FIGURES,
    OUTCOME,
    READING,
    REASON,
    STAGE,
    TO_STAGE,
)
from app.domain.catalogue.policies import CURRENT, OF_A_PERIOD
from app.domain.catalogue.writing import MetricDefinition, PolicyDefinition, Text, under
from app.domain.measures.calendar import MOST_BUCKETS, MOST_INSTANTS

BY: Final = PolicyDefinition(
    "by",
    Text(
        "what a bucket spans: days, ISO weeks (from Monday), months and quarters begin at midnight"
        " in `timezone`, so that a day may have 23 or 25 hours; the first and the last bucket are"
        f" cut to the period, and there are at most {MOST_BUCKETS}, of a figure of an instant"
        f" {MOST_INSTANTS}",
        "每个区间的跨度：日、ISO 周（周一起）、月、季均自 `timezone` 的零点起，"
        "因此遇夏令时切换，一天可能是 23 或 25 小时；首末区间按统计期截断，"
        f"区间至多 {MOST_BUCKETS} 个，时点类数字至多 {MOST_INSTANTS} 个",
    ),
    ("month", "day", "week", "quarter"),
)

TREND: Final = MetricDefinition(
    id="trend",
    version=2,
    path="trend",
    title=Text("Trend", "趋势"),
    question=Text(
        "How did one figure develop, day by day, week by week, month by month?",
        "某项数字逐日、逐周、逐月如何变化？",
    ),
    population=Text(
        "that of the figure asked for, with each bucket as the period",
        "与所问数字相同，以每个区间为其统计期",
    ),
    policies=(*OF_A_PERIOD, CURRENT, FIGURE, BY, STAGE, TO_STAGE, OUTCOME, REASON),
    figures=under("points[]", *READING),
    balances=(
        Text(
            "a point says what the same question says with the bucket as its period",
            "每个点的数字，等于以该区间为统计期提出同一问题所得",
        ),
    ),
    notes=(
        *FIGURES,
        AT_THE_END,
        Text(
            "`attribution` defaults to that of the figure's metric. A trend has no groups: filter"
            " by one at a time.",
            "`attribution` 默认与该数字所属指标相同。趋势不分组：请逐个筛选。",
        ),
    ),
)
