"""One figure held against itself: two periods or two groups (section 5), defined in words."""

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
from app.domain.catalogue.sources import HODGES_LEHMANN, HOLLANDER_WOLFE, NEWCOMBE
from app.domain.catalogue.writing import FigureDefinition, MetricDefinition, Text, Unit, under

_NO_INTERVAL: Final = Text("`reason` says why", "缘由见 `reason`")

_DIFFERENCE: Final = (
    FigureDefinition(
        "value",
        Text("Difference", "差值"),
        Text(
            "value − against; of lengths that are over, but for the longest, Hodges and Lehmann's"
            " shift: the median of all differences between a length of the one and one of the"
            " other",
            "value − against；已结束的时长（最长值除外）则为 Hodges–Lehmann 位移："
            "两侧时长两两之差的中位数",
        ),
        Unit.AS_ASKED,
        null_when=Text(
            "a reading is, there are too few lengths, or it is money",
            "任一侧为 null、时长样本不足，或为金额时",
        ),
    ),
    FigureDefinition(
        "amount",
        Text("Difference of money", "金额差值"),
        Text(
            "amount − against, in each currency; of means, worths and velocities in those that both"
            " sides have",
            "各货币内的金额之差；均值、价值与速度仅列出两侧都有的货币",
        ),
        Unit.MONEY,
        null_when=Text("the figure is no money", "该数字不是金额时"),
    ),
    FigureDefinition(
        "low",
        Text("Lower bound", "区间下限"),
        Text(
            "lower end of the 95 % interval: Newcombe's of rates, Moses's of lengths",
            "95% 置信区间下限：比率用 Newcombe 法，时长用 Moses 法",
        ),
        Unit.AS_ASKED,
        null_when=_NO_INTERVAL,
    ),
    FigureDefinition(
        "high",
        Text("Upper bound", "区间上限"),
        Text(
            "upper end of the 95 % interval: Newcombe's of rates, Moses's of lengths",
            "95% 置信区间上限：比率用 Newcombe 法，时长用 Moses 法",
        ),
        Unit.AS_ASKED,
        null_when=_NO_INTERVAL,
    ),
)

COMPARE: Final = MetricDefinition(
    id="compare",
    version=2,
    path="compare",
    root=None,
    title=Text("Comparison", "对比"),
    question=Text(
        "Is the figure of one period, or of one group, really another than that of the other?",
        "两个时期或两个分组的同一项数字，差异是否真实存在？",
    ),
    population=Text(
        "that of the figure asked for, once on each side: the period `from`, `to` and that from"
        " `against_from` to `against_to`, or in one period the groups `group` and `against` of"
        " `group_by`",
        "与所问数字相同，两侧各取一次：统计期 `from`、`to` 与 `against_from`、`against_to`，"
        "或同一统计期内 `group_by` 的两个分组 `group` 与 `against`",
    ),
    policies=(*OF_A_PERIOD, CURRENT, FIGURE, STAGE, TO_STAGE, OUTCOME, REASON),
    figures=(
        *under("value", *READING),
        *under("against", *READING),
        *under("difference", *_DIFFERENCE),
    ),
    notes=(
        *FIGURES,
        AT_THE_END,
        Text(
            "`method` is `newcombe`, `hodges_lehmann`, or `subtraction`, which has no interval."
            " `reason` says why there is none: `too_few_cases`, `no_interval` (none is meant for"
            " counts and money, for shares of what does not decide independently, for the longest,"
            " for the days saved, nor for ages and estimates in which some are still under way),"
            " `shared_cases` (a deal may bear both tags, and an interval assumes"
            " that none does). Of lengths, the shift is by how much the whole lies higher,"
            " whichever quantile was asked for.",
            "`method` 为 `newcombe`、`hodges_lehmann` 或不带区间的 `subtraction`。`reason` 说明为何"
            "没有区间：`too_few_cases`（样本不足）、`no_interval`（计数与金额、样本并不独立的比率、最长值、"
            "可节省天数，以及仍有未结束者的时长与估计值，本不设区间）、"
            "`shared_cases`（同一商机可能同时带有两个标签，而区间要求两侧互不重叠）。"
            "时长的位移说明整体高出多少，与所问的是哪个分位数无关。",
        ),
        Text(
            "`attribution` defaults to that of the figure's metric. An interval takes its cases for"
            " independent. Visits of one deal are not quite: of stages that deals return to often,"
            " that of stays is somewhat too narrow.",
            "`attribution` 默认与该数字所属指标相同。区间以各样本相互独立为前提；同一商机的多次停留"
            "并不完全独立，因此对商机常常返回的阶段，停留时长的区间略偏窄。",
        ),
        Text(
            "The two periods may not overlap: what lies in both would be compared with itself.",
            "两个统计期不得重叠：否则重叠部分是在与自身比较。",
        ),
    ),
    sources=(NEWCOMBE, HODGES_LEHMANN, HOLLANDER_WOLFE),
)
