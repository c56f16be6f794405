"""The cohort funnel (metrics.md, section 1), defined in words."""

from typing import Final

from app.domain.catalogue.example import FOUR_DEALS
from app.domain.catalogue.parts import share
from app.domain.catalogue.policies import CURRENT, OF_A_PERIOD
from app.domain.catalogue.sources import WILSON
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    PolicyDefinition,
    Text,
    Unit,
    same,
    under,
)

AT_WON: Final = Text("at the won rank", "赢单位次上")
BELOW_WON: Final = Text("below the won rank", "赢单以外的位次上")

_COUNTS: Final = (
    FigureDefinition(
        "reached",
        Text("Reached", "到达数"),
        Text(
            "deals that came to rank j or further; at the won rank: that are won at T",
            "最远到达位次 ≥ j 的商机数；在赢单位次上为 T 时已赢单的商机数",
        ),
        Unit.DEALS,
    ),
    FigureDefinition(
        "entered",
        Text("Entered", "实际进入数"),
        Text(
            "of those reached, the ones that visited the stage itself",
            "到达者中真正进入过该阶段的商机数",
        ),
        Unit.DEALS,
    ),
    FigureDefinition(
        "implied",
        Text("Passed over", "跳过数"),
        same("reached − entered"),
        Unit.DEALS,
    ),
    FigureDefinition(
        "open_furthest",
        Text("Open, came just this far", "止步于此·进行中"),
        Text(
            "deals open at T whose furthest rank is j", "T 时仍进行中、最远到达位次恰为 j 的商机数"
        ),
        Unit.DEALS,
    ),
    FigureDefinition(
        "lost_furthest",
        Text("Lost, came just this far", "止步于此·已丢单"),
        Text("deals lost at T whose furthest rank is j", "T 时已丢单、最远到达位次恰为 j 的商机数"),
        Unit.DEALS,
    ),
    FigureDefinition(
        "handed_off_furthest",
        Text("Handed off, came just this far", "止步于此·已移交"),
        Text(
            "deals handed off to another pipeline whose furthest rank is j",
            "已移交其他管道、最远到达位次恰为 j 的商机数",
        ),
        Unit.DEALS,
    ),
    FigureDefinition(
        "ever_won",
        Text("Ever won", "曾经赢单数"),
        Text("deals that entered a won stage before T", "T 之前进入过赢单阶段的商机数"),
        Unit.DEALS,
        null_when=BELOW_WON,
    ),
    FigureDefinition(
        "won_undone",
        Text("No longer won", "赢单后撤回数"),
        same("ever_won − reached"),
        Unit.DEALS,
        null_when=BELOW_WON,
    ),
)


def _amount(count: FigureDefinition) -> FigureDefinition:
    return FigureDefinition(
        f"amount_{count.path}",
        Text(f"{count.title.en}: amount", f"{count.title.zh}·金额"),
        Text(
            f"sum of the amounts of the deals in {count.path}, by currency",
            f"{count.path} 所含商机的金额之和，按货币分列",
        ),
        Unit.MONEY,
        null_when=count.null_when,
    )


_RATES: Final = (
    share(
        "conversion_to_next",
        Text("Conversion to the next stage", "下一阶段转化率"),
        same("reached(j+1) / reached(j)"),
        null_when=AT_WON,
    ),
    share(
        "conversion_from_start",
        Text("Conversion from the start", "自首阶段转化率"),
        same("reached(j) / reached(1)"),
    ),
    share(
        "conversion_to_won",
        Text("Conversion to won", "至赢单转化率"),
        same("reached(k+1) / reached(j)"),
        null_when=AT_WON,
    ),
    share(
        "conversion_decided",
        Text("Conversion of the decided", "已决商机转化率"),
        same("reached(j+1) / (reached(j) − open_furthest(j) − handed_off_furthest(j))"),
        population=Text(
            "leaves out who is still undecided, or has left otherwise",
            "不含尚未见分晓的商机与已移交的商机",
        ),
        null_when=AT_WON,
    ),
    FigureDefinition(
        "benchmark",
        Text("Against the target", "与目标对比"),
        Text("the stage's `target_conversion`", "该阶段的 `target_conversion`"),
        Unit.RATE,
        null_when=Text(
            "the stage has no target, and at the won rank", "该阶段未设目标时，以及赢单位次上"
        ),
        parts=(
            FigureDefinition(
                "target", Text("Target", "目标"), same("target_conversion"), Unit.RATE
            ),
            FigureDefinition(
                "difference",
                Text("Above the target", "超出目标"),
                Text(
                    "the rate of conversion_to_next − target: above 0 it is reached",
                    "conversion_to_next 的比率 − target：大于 0 即达标",
                ),
                Unit.RATE,
                null_when=Text("there is no rate", "没有比率时"),
            ),
        ),
    ),
)

FUNNEL: Final = MetricDefinition(
    id="funnel",
    version=1,
    path="funnel",
    title=Text("Funnel", "漏斗"),
    question=Text(
        "Of the deals opened in the period, how many came how far, and where did the others stop?",
        "统计期内新开的商机，各有多少走到了哪一步？其余的停在了哪里？",
    ),
    population=Text(
        "the cohort: deals opened in the period, seen at T; for each rank j from 1 to k + 1",
        "同期群：统计期内新开的商机，以 T 时的状况为准；位次 j 取 1 至 k + 1",
    ),
    policies=(
        *OF_A_PERIOD,
        CURRENT,
        PolicyDefinition(
            "basis",
            Text("the funnel follows a cohort of deals", "漏斗跟踪的是一批商机（同期群）"),
            ("cohort",),
        ),
        PolicyDefinition(
            "skip",
            Text(
                "`implied`: a stage passed over counts as reached; `observed`: `conversion_to_next`"
                " is the share of those who entered j that entered j+1 itself after it",
                "`implied`：被跳过的阶段视为已到达；`observed`：`conversion_to_next`"
                " 改为进入过 j 的商机中、其后真正进入 j+1 的比例",
            ),
            ("implied", "observed"),
        ),
        PolicyDefinition(
            "reentry",
            Text(
                "`first`: each deal counts once; `every`: `conversion_to_next` is the share of the"
                " visits of j that ended forward (advanced, skipped or won), without an interval,"
                " because visits of one deal do not decide independently",
                "`first`：每个商机只计一次；`every`：`conversion_to_next` 改为 j 的全部停留中"
                "以前进（推进、跳级或赢单）告终的比例，不给区间，因为同一商机的多次停留并不相互独立",
            ),
            ("first", "every"),
        ),
    ),
    figures=(
        FigureDefinition(
            "deals",
            Text("Deals", "商机数"),
            Text("deals in the cohort: reached(1)", "同期群的商机数，即 reached(1)"),
            Unit.DEALS,
        ),
        *under("stages[]", *_COUNTS, *map(_amount, _COUNTS), *_RATES),
    ),
    balances=(
        same(
            "reached(j) = reached(j+1) + open_furthest(j) + lost_furthest(j)"
            " + handed_off_furthest(j)"
        ),
        same("reached(j) = entered(j) + implied(j)"),
    ),
    sources=(WILSON,),
    example=FOUR_DEALS,
)
