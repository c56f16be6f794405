"""What speed and conversion are worth: velocity and bottlenecks (section 5), defined in words."""

from typing import Final

from app.domain.catalogue.parts import share
from app.domain.catalogue.policies import CLOSED, CURRENT, OF_A_PERIOD
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    Text,
    Unit,
    same,
    under,
)

_ROUNDED: Final = Text(
    "Amounts are made of exact inputs and rounded once, to four places, ties to even.",
    "金额由精确的输入算出，只在最后舍入一次，保留四位小数，恰为一半时取偶。",
)
_WON_WITH_AMOUNT: Final = FigureDefinition(
    "won_with_amount",
    Text("Won with an amount", "有金额的赢单数"),
    Text("of the deals won, those that bear an amount", "赢单的商机中有金额的商机数"),
    Unit.DEALS,
)
_MEAN_WON_AMOUNT: Final = FigureDefinition(
    "mean_won_amount",
    Text("Mean won amount", "平均赢单金额"),
    Text("sum of their amounts / won_with_amount", "其金额之和 / won_with_amount"),
    Unit.MONEY,
    null_when=Text("no deal won bears an amount", "赢单的商机均无金额时"),
)
_NONE_COMPLETED: Final = Text("no stay was completed", "没有已结束的停留时")
_AN_INPUT_MISSING: Final = Text(
    "there is no mean won amount, or nobody reached the next rank",
    "没有平均赢单金额，或无人到达下一位次时",
)

VELOCITY: Final = MetricDefinition(
    id="velocity",
    version=1,
    path="velocity",
    title=Text("Velocity", "销售速度"),
    question=Text(
        "How much money does the pipeline bring in a day?",
        "这条管道平均每天带来多少成交金额？",
    ),
    population=Text(
        "for each currency, the deals in it that are open at T, and those won or lost in the"
        f" period: {CLOSED.en}",
        f"按货币分列：该货币下 T 时进行中的商机，以及统计期内赢单或丢单的商机：{CLOSED.zh}",
    ),
    policies=(*OF_A_PERIOD, CURRENT),
    figures=under(
        "currencies[]",
        FigureDefinition(
            "open_deals",
            Text("Open deals", "进行中商机数"),
            Text("deals open at T", "T 时进行中的商机数"),
            Unit.DEALS,
        ),
        share(
            "win_rate",
            Text("Win rate", "赢单率"),
            Text("won / (won + lost) of the closed", "关闭的商机中，赢单 /（赢单 + 丢单）"),
        ),
        _WON_WITH_AMOUNT,
        _MEAN_WON_AMOUNT,
        FigureDefinition(
            "mean_won_cycle_seconds",
            Text("Mean won cycle", "平均赢单周期"),
            Text("mean cycle time of the deals won", "赢单商机的平均销售周期"),
            Unit.SECONDS,
            null_when=Text("no deal was won", "没有赢单时"),
        ),
        FigureDefinition(
            "velocity_per_day",
            Text("Velocity", "销售速度"),
            Text(
                "open_deals × win_rate × mean_won_amount ÷ mean_won_cycle_seconds in days of 24"
                " hours",
                "open_deals × win_rate × mean_won_amount ÷ mean_won_cycle_seconds（折算为天，"
                "以 24 小时为一天）",
            ),
            Unit.MONEY_PER_DAY,
            null_when=Text(
                "an input is, or the won deals took no time", "任一输入为 null，或赢单用时为零时"
            ),
        ),
    ),
    notes=(
        Text(
            "The figures of a currency are those of the same question filtered to it, because"
            " amounts of two currencies are never mixed; null: deals without one.",
            "某一货币的数字，等同于以该货币为筛选条件提出同一问题所得，因为不同货币的金额绝不混算；"
            "null 表示没有货币的商机。",
        ),
        _ROUNDED,
    ),
)

BOTTLENECKS: Final = MetricDefinition(
    id="bottlenecks",
    version=1,
    path="bottlenecks",
    title=Text("Bottlenecks", "瓶颈"),
    question=Text(
        "Where would one more point of conversion, or a quartile of speed, bring the most?",
        "在哪个阶段把转化率提高一个百分点、或把停留缩短到前四分之一的水平，收益最大？",
    ),
    population=Text(
        "each ranked open stage j: by currency, the deals opened in the period, seen at T; and the"
        " visits entered in the period",
        "每个有位次的进行中阶段 j：按货币分列的、统计期内新开的商机（以 T 时的状况为准），"
        "以及统计期内进入的停留",
    ),
    policies=(*OF_A_PERIOD, CURRENT),
    figures=(
        *under(
            "stages[]",
            FigureDefinition(
                "entries",
                Text("Entries", "进入数"),
                Text("visits entered in the period", "统计期内进入的停留数"),
                Unit.VISITS,
            ),
            FigureDefinition(
                "completed",
                Text("Completed stays", "已结束的停留数"),
                Text("of those, the ones that had ended at T", "其中 T 时已结束的停留数"),
                Unit.VISITS,
            ),
            *(
                FigureDefinition(
                    f"p{percent}_seconds",
                    title,
                    Text(
                        f"the {percent} % quantile of the completed stays",
                        f"已结束停留的 {percent}% 分位数",
                    ),
                    Unit.SECONDS,
                    null_when=_NONE_COMPLETED,
                )
                for percent, title in (
                    (25, Text("Quick quarter", "较快的四分之一")),
                    (50, Text("Median", "中位数")),
                )
            ),
            FigureDefinition(
                "days_saved",
                Text("Days saved", "可节省天数"),
                Text(
                    "(p50_seconds − p25_seconds) × entries, in days of 24 hours",
                    "(p50_seconds − p25_seconds) × entries，以 24 小时为一天",
                ),
                Unit.DAYS,
                null_when=_NONE_COMPLETED,
            ),
            FigureDefinition(
                "place",
                Text("Place by days saved", "按可节省天数的名次"),
                Text(
                    "1 + the stages with more; equal ones share theirs",
                    "1 + 更多的阶段数；相等者并列",
                ),
                Unit.PLACE,
                null_when=_NONE_COMPLETED,
            ),
        ),
        *under(
            "stages[].worth[]",
            FigureDefinition(
                "reached",
                Text("Reached", "到达数"),
                Text(
                    "deals of the currency opened in the period that came to rank j or further",
                    "该货币下统计期内新开、最远到达位次 ≥ j 的商机数",
                ),
                Unit.DEALS,
            ),
            share(
                "next_conversion_to_won",
                Text("Conversion to won from the next stage", "下一阶段至赢单转化率"),
                same("conversion_to_won(j+1) = reached(k+1) / reached(j+1)"),
                null_when=Text(
                    "the next rank is the won one, whose own is 1",
                    "下一位次即赢单（其自身为 1）时",
                ),
            ),
            _WON_WITH_AMOUNT,
            _MEAN_WON_AMOUNT,
            FigureDefinition(
                "worth",
                Text("Worth of one more point", "提高一个百分点的价值"),
                same("0.01 × reached × next_conversion_to_won × mean_won_amount"),
                Unit.MONEY,
                null_when=_AN_INPUT_MISSING,
            ),
            FigureDefinition(
                "place",
                Text("Place by worth", "按价值的名次"),
                Text(
                    "1 + the stages worth more in the currency; equal ones share theirs",
                    "1 + 同一货币内价值更高的阶段数；相等者并列",
                ),
                Unit.PLACE,
                null_when=_AN_INPUT_MISSING,
            ),
        ),
    ),
    notes=(_ROUNDED,),
)
