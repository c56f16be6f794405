"""What closed deals came to: cycle time, win rate, loss reasons (sections 4 and 5), in words."""

from typing import Final

from app.domain.catalogue.parts import durations, share
from app.domain.catalogue.policies import CLOSED, CURRENT, OF_A_PERIOD
from app.domain.catalogue.sources import HYNDMAN_FAN, WILSON
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    PolicyDefinition,
    Text,
    Unit,
    same,
    under,
)

_OF_CLOSED: Final = PolicyDefinition(
    "population",
    Text("the deals closed in the period", "统计期内关闭的商机"),
    ("closed",),
)
_CYCLE: Final = Text(
    "last close − first opening, without the time spent closed",
    "最近一次关闭 − 首次打开，扣除期间处于关闭状态的时间",
)

CYCLE_TIME: Final = MetricDefinition(
    id="cycle-time",
    version=1,
    path="cycle-time",
    title=Text("Cycle time", "销售周期"),
    question=Text(
        "How long did it take from opening a deal to winning or losing it?",
        "商机从打开到赢单或丢单，用了多长时间？",
    ),
    population=Text(f"deals won or lost: {CLOSED.en}", f"赢单或丢单的商机：{CLOSED.zh}"),
    policies=(
        *OF_A_PERIOD,
        CURRENT,
        PolicyDefinition(
            "population",
            Text(
                "`closed`: the deals closed in the period; `opened`: those opened in it that are"
                " closed at T",
                "`closed`：统计期内关闭的商机；`opened`：统计期内打开、且 T 时已关闭的商机",
            ),
            ("closed", "opened"),
        ),
    ),
    figures=(
        durations("won", Text("Cycle of the won", "赢单周期"), _CYCLE),
        durations("lost", Text("Cycle of the lost", "丢单周期"), _CYCLE),
        durations("all", Text("Cycle of all closed", "全部关闭商机的周期"), _CYCLE),
    ),
    balances=(same("all.count = won.count + lost.count"),),
    notes=(
        Text(
            "A deal handed off is neither won nor lost. The close of a deal that was reopened still"
            " stands in the flow, and `as_of` the end of that period shows it here.",
            "移交的商机既非赢单也非丢单。重新打开的商机，其原先的关闭仍保留在阶段流量中；"
            "把 `as_of` 设为当期期末即可在此看到。",
        ),
    ),
    sources=(HYNDMAN_FAN,),
)

WIN_RATE: Final = MetricDefinition(
    id="win-rate",
    version=1,
    path="win-rate",
    title=Text("Win rate", "赢单率"),
    question=Text(
        "Of the deals that were decided in the period, how many did we win, and how much money?",
        "统计期内见分晓的商机，我们赢下了多少单、多少金额？",
    ),
    population=Text(f"deals won or lost: {CLOSED.en}", f"赢单或丢单的商机：{CLOSED.zh}"),
    policies=(*OF_A_PERIOD, CURRENT, _OF_CLOSED),
    figures=(
        FigureDefinition(
            "won", Text("Won", "赢单数"), Text("deals won", "赢单的商机数"), Unit.DEALS
        ),
        FigureDefinition(
            "lost", Text("Lost", "丢单数"), Text("deals lost", "丢单的商机数"), Unit.DEALS
        ),
        share("rate", Text("Win rate", "赢单率"), same("won / (won + lost)")),
        *under(
            "by_amount[]",
            FigureDefinition(
                "won",
                Text("Amount won", "赢单金额"),
                Text("sum of the amounts of the deals won", "赢单商机的金额之和"),
                Unit.MONEY,
            ),
            FigureDefinition(
                "lost",
                Text("Amount lost", "丢单金额"),
                Text("sum of the amounts of the deals lost", "丢单商机的金额之和"),
                Unit.MONEY,
            ),
            FigureDefinition(
                "rate",
                Text("Win rate by amount", "金额赢单率"),
                Text(
                    "won / (won + lost) in one currency; no interval",
                    "同一货币内 won / (won + lost)；不给区间",
                ),
                Unit.RATE,
                null_when=Text("both are zero", "两者皆为零时"),
            ),
        ),
    ),
    sources=(WILSON,),
)

_LOST: Final = (
    FigureDefinition(
        "deals",
        Text("Deals lost", "丢单数"),
        Text("how many were lost", "丢单的商机数"),
        Unit.DEALS,
    ),
    FigureDefinition(
        "amount",
        Text("Amount lost", "丢单金额"),
        Text("sum of their amounts, by currency", "其金额之和，按货币分列"),
        Unit.MONEY,
    ),
)
_OF_REASONS: Final = share(
    "share",
    Text("Share of the reason", "原因占比"),
    Text("deals / all losses that it is listed among", "deals / 所列范围内的全部丢单数"),
)

LOSS_REASONS: Final = MetricDefinition(
    id="loss-reasons",
    version=1,
    path="loss-reasons",
    title=Text("Loss reasons", "丢单原因"),
    question=Text(
        "Why did we lose deals in the period, and from which stages?",
        "统计期内为什么丢单？是从哪些阶段丢掉的？",
    ),
    population=Text(f"deals lost: {CLOSED.en}", f"丢单的商机：{CLOSED.zh}"),
    policies=(*OF_A_PERIOD, CURRENT, _OF_CLOSED),
    figures=(
        *_LOST,
        *under("reasons[]", *_LOST, _OF_REASONS),
        *under(
            "stages[]",
            *_LOST,
            share(
                "share",
                Text("Share of the stage", "阶段占比"),
                Text("deals / all deals lost", "deals / 全部丢单数"),
            ),
        ),
        *under("stages[].reasons[]", *_LOST, _OF_REASONS),
    ),
    balances=(
        Text(
            "the reasons add up to the whole, the stages too, and the reasons of a stage to it",
            "各原因之和等于总数，各阶段之和也等于总数，某阶段内各原因之和等于该阶段",
        ),
    ),
    notes=(
        Text(
            "A stage is the one in which the deal stood before it was lost; null: it was opened as"
            " lost. A reason without a `name` is one that the definition no longer has.",
            "阶段指商机丢单之前所在的阶段；null 表示商机一打开即为丢单。"
            "没有 `name` 的原因，是当前定义中已不存在的原因。",
        ),
    ),
)
