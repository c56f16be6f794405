"""One figure through time: the trend (section 5), in words; and how one figure is asked for."""

from typing import Final

from app.domain.catalogue.policies import CURRENT, OF_A_PERIOD
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    PolicyDefinition,
    Text,
    Unit,
    under,
)
from app.domain.measures.calendar import MOST_BUCKETS
from app.domain.measures.readings import Figure

BY: Final = PolicyDefinition(
    "by",
    Text(
        "what a bucket spans: days, ISO weeks (from Monday), months and quarters begin at midnight"
        " in `timezone`, so that a day may have 23 or 25 hours; the first and the last bucket are"
        f" cut to the period, and there are at most {MOST_BUCKETS}",
        "每个区间的跨度：日、ISO 周（周一起）、月、季均自 `timezone` 的零点起，"
        "因此遇夏令时切换，一天可能是 23 或 25 小时；首末区间按统计期截断，"
        f"区间至多 {MOST_BUCKETS} 个",
    ),
    ("month", "day", "week", "quarter"),
)
FIGURE: Final = PolicyDefinition(
    "figure",
    Text(
        "the figure, by the name under which it can be asked for: those of the funnel and of the"
        " win rate by their own, `opened` for the funnel's `deals`, `time_in_stage_*` for the"
        " completed stays, `cycle_time_*` for an outcome's cycle; each by its metric's usual rules",
        "所问数字的名称：漏斗与赢单率沿用各自的名称，`opened` 即漏斗的 `deals`，"
        "`time_in_stage_*` 为已结束的停留，`cycle_time_*` 为某一结果的周期；"
        "均按其所属指标的默认口径",
    ),
    tuple(figure.value for figure in Figure),
)
STAGE: Final = PolicyDefinition(
    "stage",
    Text(
        "the key of the stage, where the figure is one of a stage; null: it is none",
        "若为阶段级数字，指明阶段的 key；null 表示不是",
    ),
)
OUTCOME: Final = PolicyDefinition(
    "outcome",
    Text(
        "all, won or lost, where the figure is one of an outcome; null: it is none",
        "若数字按结果区分，指明全部、赢单或丢单；null 表示不区分",
    ),
    ("all", "won", "lost"),
)

READING: Final = (
    FigureDefinition(
        "value",
        Text("Value", "数值"),
        Text(
            "what the figure says: a number, a rate, or seconds, as `unit` tells",
            "该数字的值：计数、比率或秒数，由 `unit` 说明",
        ),
        Unit.AS_ASKED,
        null_when=Text("the figure is, or is money", "该数字本身为 null，或为金额时"),
    ),
    FigureDefinition(
        "amount",
        Text("Amount", "金额"),
        Text("what a figure of money says, by currency", "金额类数字的值，按货币分列"),
        Unit.MONEY,
        null_when=Text("the figure is no money", "该数字不是金额时"),
    ),
    FigureDefinition(
        "count",
        Text("Count behind it", "其背后的计数"),
        Text(
            "the cases behind it; of a rate, its numerator",
            "所依据的样本数；若为比率则为分子",
        ),
        Unit.CASES,
    ),
    FigureDefinition(
        "of",
        Text("Out of how many", "分母"),
        Text("the denominator of a rate", "比率的分母"),
        Unit.CASES,
        null_when=Text("the figure is no rate", "该数字不是比率时"),
    ),
    FigureDefinition(
        "low",
        Text("Lower bound", "区间下限"),
        Text("lower end of a rate's Wilson 95 % interval", "比率的 Wilson 95% 置信区间下限"),
        Unit.RATE,
        null_when=Text("the figure has no interval", "该数字没有区间时"),
    ),
    FigureDefinition(
        "high",
        Text("Upper bound", "区间上限"),
        Text("upper end of a rate's Wilson 95 % interval", "比率的 Wilson 95% 置信区间上限"),
        Unit.RATE,
        null_when=Text("the figure has no interval", "该数字没有区间时"),
    ),
)
"""One figure of one metric, with the cases behind it."""

TREND: Final = MetricDefinition(
    id="trend",
    version=1,
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
    policies=(*OF_A_PERIOD, CURRENT, FIGURE, BY, STAGE, OUTCOME),
    figures=under("points[]", *READING),
    balances=(
        Text(
            "a point says what the same question says with the bucket as its period",
            "每个点的数字，等于以该区间为统计期提出同一问题所得",
        ),
    ),
    notes=(
        Text(
            "`attribution` defaults to that of the figure's metric. A trend has no groups: filter"
            " by one at a time.",
            "`attribution` 默认与该数字所属指标相同。趋势不分组：请逐个筛选。",
        ),
    ),
)
