"""How one figure is asked for, and what is told of it: what trend and compare have in common."""

from typing import Final

from app.domain.catalogue.writing import FigureDefinition, PolicyDefinition, Text, Unit
from app.domain.measures.figures import Figure, Metric

FIGURE: Final = PolicyDefinition(
    "figure",
    Text(
        "the figure, by the name under which it can be asked for; the notes below say which is"
        " whose. Each goes by its metric's usual rules",
        "所问数字的名称，各名称归属哪一指标见下方说明；均按其所属指标的默认口径",
    ),
    tuple(figure.value for figure in Figure),
)
STAGE: Final = PolicyDefinition(
    "stage",
    Text(
        "the key of the stage, where the figure is one of a stage; of losses the stage lost from,"
        " `:none` being that of deals opened as lost; null: it is of none, or of all together",
        "若为阶段级数字，指明阶段的 key；丢单类数字指丢单之前所在的阶段，"
        "`:none` 为一打开即丢单的商机；null 表示不分阶段或全部阶段合计",
    ),
)
TO_STAGE: Final = PolicyDefinition(
    "to_stage",
    Text(
        "of moves, the key of the stage that they lead to, or `:handed_off`; null: it is no figure"
        " of moves",
        "流转类数字所去往的阶段的 key，或 `:handed_off`（移交）；null 表示不是流转类数字",
    ),
)
REASON: Final = PolicyDefinition(
    "reason",
    Text(
        "of losses, the key of the reason that counts, or `:none`: without one; null: all do, or it"
        " is no figure of losses",
        "丢单类数字所计的原因的 key，或 `:none`（无原因）；null 表示全部原因，或不是丢单类数字",
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
            "what the figure says: a number, a rate, seconds or days, as `unit` tells",
            "该数字的值：计数、比率、秒数或天数，由 `unit` 说明",
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
        null_when=Text("the figure is no rate of cases", "该数字不是样本数之比时"),
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

_FAMILIES: Final = (
    (Metric.FUNNEL, Text("the funnel", "漏斗")),
    (Metric.FLOW, Text("the flow", "阶段流量")),
    (Metric.MATRIX, Text("the matrix of moves", "流转矩阵")),
    (Metric.TIME_IN_STAGE, Text("time in stage", "阶段停留时间")),
    (Metric.CYCLE_TIME, Text("cycle time", "销售周期")),
    (Metric.CYCLE_CURVE, Text("the curve of cycle time", "赢单时间累积曲线")),
    (Metric.WIN_RATE, Text("the win rate", "赢单率")),
    (Metric.LOSS_REASONS, Text("loss reasons", "丢单原因")),
    (Metric.SNAPSHOT, Text("the snapshot", "时点快照")),
    (Metric.VELOCITY, Text("velocity", "销售速度")),
    (Metric.BOTTLENECKS, Text("bottlenecks", "瓶颈")),
)


def _of_metric(metric: Metric, title: Text) -> Text:
    names = [f"`{figure.value}`" for figure in Figure if figure.metric is metric]
    return Text(f"Of {title.en}: {', '.join(names)}.", f"{title.zh}：{'、'.join(names)}。")


FIGURES: Final = (
    *(_of_metric(metric, title) for metric, title in _FAMILIES),
    Text(
        "`opened` is the funnel's `deals`. `time_in_stage_*` are of the completed stays, `open_*`"
        " of those still open, `survival_*` the Kaplan–Meier quantiles of both; `cycle_time_*` are"
        " of an outcome. `moves_*` are of the moves from `stage` to `to_stage`. `losses_share` is"
        " the reason's share of the losses from `stage`, or without a reason the stage's share of"
        " all. `mean_won_amount` is of the deals closed in the period, `cohort_mean_won_amount` of"
        " those opened there. Ages and estimates are null as in their metric.",
        "`opened` 即漏斗的 `deals`。`time_in_stage_*` 为已结束的停留，`open_*` 为尚未结束的停留，"
        "`survival_*` 为两者合并的卡普兰-迈耶分位数；`cycle_time_*` 按结果区分。"
        "`moves_*` 为由 `stage` 去往 `to_stage` 的流转。`losses_share` 为该原因占自 `stage` 丢单的"
        "比例，未指明原因时为该阶段占全部丢单的比例。`mean_won_amount` 为统计期内关闭的商机，"
        "`cohort_mean_won_amount` 为统计期内打开的商机。时长与估计值何时为 null，与其指标相同。",
    ),
    Text(
        "Not by name: age buckets, points of curves and cumulative flow, which are lists by"
        " themselves; benchmarks, which are a figure less the target of its stage; a place among"
        " stages, which is none of one stage alone. The counts of a curve are those of the funnel,"
        " and what bottlenecks and velocity say of a single currency are figures of other metrics,"
        " filtered to it.",
        "以下不能按名称单独询问：时长区间、曲线上的点与累积流量，它们本身就是列表；对标差值，"
        "即数字与阶段目标之差；阶段之间的名次，它不属于单个阶段。曲线的计数即漏斗的计数；"
        "瓶颈与销售速度中按单一货币列出的输入，等于其他指标按该货币筛选的数字。",
    ),
    Text(
        "`win_rate_by_amount` needs one `currency`, because amounts of two have no rate; it has no"
        " interval, and the deals closed for its `count`. That of `velocity` is the open deals, of"
        " a mean the won ones with an amount, of `conversion_worth` the deals that reached the"
        " stage, of `days_saved` the entries.",
        "`win_rate_by_amount` 须指定一种 `currency`，因为不同货币的金额之间没有比率；不给区间，"
        "其 `count` 为关闭的商机数。`velocity` 的计数为进行中的商机数，均值的为有金额的赢单商机数，"
        "`conversion_worth` 的为到达该阶段的商机数，`days_saved` 的为进入数。",
    ),
)
"""What the figures are that `FIGURE` names, metric by metric."""

AT_THE_END: Final = Text(
    "The snapshot's figures and `velocity` tell of an instant: of the end of the period, or T where"
    " that is earlier. They are those of the same question with that instant as its `as_of`;"
    " `known_at` and `revision` stay.",
    "时点快照的数字与 `velocity` 说明的是一个时刻：统计期的期末，若 T 更早则为 T。"
    "其数值等于以该时刻为 `as_of` 提出同一问题所得；`known_at` 与 `revision` 不变。",
)
"""Which instant a figure of an instant is of, when it is asked of a period."""
