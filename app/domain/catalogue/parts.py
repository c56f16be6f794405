"""Figures that stand in many answers in the same form: deals with amounts, shares, lengths of time.

And the labels: fields that say what a figure is about, and are none themselves.
"""

from typing import Final

from app.domain.catalogue.writing import FigureDefinition, Text, Unit, same

NO_CASES: Final = Text("there are none", "没有样本时")
NO_DENOMINATOR: Final = Text("`of` is 0", "`of` 为 0 时")

SHARE_PARTS: Final = (
    FigureDefinition("count", Text("How many", "分子"), same("count"), Unit.CASES),
    FigureDefinition("of", Text("Out of how many", "分母"), same("of"), Unit.CASES),
    FigureDefinition(
        "rate",
        Text("Rate", "比率"),
        same("count / of"),
        Unit.RATE,
        null_when=NO_DENOMINATOR,
    ),
    FigureDefinition(
        "low",
        Text("Lower bound", "区间下限"),
        Text("lower end of the Wilson 95 % interval", "Wilson 95% 置信区间的下限"),
        Unit.RATE,
        null_when=Text(
            "there is no rate, or its cases do not decide independently",
            "没有比率，或各样本并非相互独立时",
        ),
    ),
    FigureDefinition(
        "high",
        Text("Upper bound", "区间上限"),
        Text("upper end of the Wilson 95 % interval", "Wilson 95% 置信区间的上限"),
        Unit.RATE,
        null_when=Text("as `low`", "同 `low`"),
    ),
)


def quantile(percent: int) -> FigureDefinition:
    """The length that so many per cent of the cases do not exceed."""
    return FigureDefinition(
        f"p{percent}_seconds",
        Text("Median", "中位数") if percent == 50 else same(f"p{percent}"),
        Text(
            f"the {percent} % quantile, interpolated linearly between order statistics (numpy's"
            " default)",
            f"{percent}% 分位数，在次序统计量之间线性插值（numpy 的默认算法）",
        ),
        Unit.SECONDS,
        null_when=NO_CASES,
    )


DURATION_PARTS: Final = (
    FigureDefinition("count", Text("Cases", "样本数"), Text("how many", "个数"), Unit.CASES),
    FigureDefinition(
        "mean_seconds",
        Text("Mean", "平均值"),
        Text("sum / count", "总和 / count"),
        Unit.SECONDS,
        null_when=NO_CASES,
    ),
    *map(quantile, (25, 50, 75, 90, 95)),
    FigureDefinition(
        "max_seconds",
        Text("Longest", "最大值"),
        Text("the longest", "最长的一个"),
        Unit.SECONDS,
        null_when=NO_CASES,
    ),
)

ESTIMATE_PARTS: Final = (
    FigureDefinition(
        "cases",
        Text("Cases", "样本数"),
        Text("how many, ended and still running", "个数，已结束与未结束的都算"),
        Unit.CASES,
    ),
    *(
        FigureDefinition(
            f"p{percent}_seconds",
            Text("Median", "中位数") if percent == 50 else same(f"p{percent}"),
            Text(
                f"the smallest t by which {percent} % have ended, by the curve",
                f"按曲线，使结束比例达到 {percent}% 的最小 t",
            ),
            Unit.SECONDS,
            null_when=Text("`reason` says why", "缘由见 `reason`"),
        )
        for percent in (50, 75, 90, 95)
    ),
)


def share(
    path: str,
    title: Text,
    formula: Text,
    *,
    population: Text | None = None,
    null_when: Text | None = None,
) -> FigureDefinition:
    """So many of so many, with the rate and its interval."""
    return FigureDefinition(path, title, formula, Unit.SHARE, population, null_when, SHARE_PARTS)


def durations(
    path: str, title: Text, formula: Text, *, population: Text | None = None
) -> FigureDefinition:
    """Lengths of time, summarised."""
    return FigureDefinition(path, title, formula, Unit.SECONDS, population, None, DURATION_PARTS)


def estimate(path: str, title: Text, formula: Text) -> FigureDefinition:
    """Quantiles of lengths of which some are still running."""
    return FigureDefinition(path, title, formula, Unit.SECONDS, parts=ESTIMATE_PARTS)


LABELS: Final = {
    "key": Text("the stage's key", "阶段的 key"),
    "name": Text("what the definition calls it", "定义中的名称"),
    "rank": Text(
        "its place in the order; null where it has none", "在排序中的位次；无位次时为 null"
    ),
    "kind": Text("`open`, `won` or `lost`", "`open`、`won` 或 `lost`"),
    "from_stage": Text("the key of the stage that was left", "所离开阶段的 key"),
    "to_stage": Text(
        "the key of the stage that was entered; null: handed off",
        "所进入阶段的 key；null 表示移交",
    ),
    "off_path": Text("whether the stage stands beside the order", "该阶段是否在主路径之外"),
    "reason": Text(
        "the key of a loss reason, or why a figure is null", "丢单原因的 key，或某项为 null 的缘由"
    ),
    "currency": Text("ISO 4217", "ISO 4217 货币代码"),
    "value": Text(
        "the group's value; null: of those that bear none", "分组的取值；null 表示未填写"
    ),
    "group": Text("which of the two groups; null: of none", "两个分组中的哪一个；null 表示无"),
    "unit": Text(
        "what a figure asked for is: a count, a share, seconds, money",
        "所问数字的类型：计数、占比、秒数、金额",
    ),
    "method": Text("how a difference was found", "差值的算法"),
    "from": Text("begin, included", "起点（含）"),
    "to": Text("end, excluded", "终点（不含）"),
}
"""Fields that tell what the figures beside them are about."""
