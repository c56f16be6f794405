"""The two curves that a front end plots: leaving a stage, and closing a deal (sections 3 and 4)."""

from typing import Final

from app.domain.catalogue.parts import estimate
from app.domain.catalogue.policies import AT_MOVE, CURRENT, OF_A_PERIOD
from app.domain.catalogue.sources import AALEN_JOHANSEN, KAPLAN_MEIER
from app.domain.catalogue.stage_time import KAPLAN_MEIER_OF_STAYS, REENTRY
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    PolicyDefinition,
    Text,
    Unit,
    same,
    under,
)
from app.domain.durations import DRAWN

_THINNED: Final = Text(
    f"At most {DRAWN} points, chosen so that no quantile moves; between two points the curve is"
    " level.",
    f"至多 {DRAWN} 个点，抽稀时保证任何分位数不变；相邻两点之间曲线为水平。",
)

_AT: Final = (
    FigureDefinition(
        "seconds",
        Text("After", "经过时间"),
        Text("the length of time that the point is at", "该点所在的时长"),
        Unit.SECONDS,
    ),
    FigureDefinition(
        "at_risk",
        Text("At risk", "风险集数量"),
        Text(
            "cases that have lasted longer, or are still running there",
            "持续更久、或此时仍未结束的样本数",
        ),
        Unit.CASES,
    ),
)

STAGE_CURVE: Final = MetricDefinition(
    id="time-in-stage-curve",
    version=1,
    path="time-in-stage/curve",
    root=None,
    title=Text("Curve of time in stage", "阶段停留生存曲线"),
    question=Text(
        "What part of the deals is still in the stage after so many days?",
        "过了若干天，还有多大比例的商机停在该阶段？",
    ),
    population=Text(
        "visits of one open stage that were entered in the period, those under way right-censored",
        "统计期内进入某一进行中阶段的停留，尚未结束的右删失",
    ),
    policies=(
        *OF_A_PERIOD,
        AT_MOVE,
        REENTRY,
        PolicyDefinition("stage", Text("the stage whose curve it is", "曲线所属的阶段")),
    ),
    figures=(
        FigureDefinition(
            "completed",
            Text("Completed stays", "已结束的停留数"),
            Text("visits that had ended at T", "T 时已结束的停留数"),
            Unit.VISITS,
        ),
        FigureDefinition(
            "open",
            Text("Open stays", "未结束的停留数"),
            Text("visits under way at T", "T 时尚未结束的停留数"),
            Unit.VISITS,
        ),
        estimate("quantiles", Text("Quantiles", "分位数"), KAPLAN_MEIER_OF_STAYS),
        *under(
            "points[]",
            *_AT,
            FigureDefinition(
                "survival",
                Text("Still there", "留存比例"),
                Text(
                    "Kaplan–Meier: the product over all t ≤ seconds of 1 − left(t) / at risk(t)",
                    "卡普兰-迈耶估计：对所有 t ≤ seconds 连乘 1 − 离开数(t) / 风险集数量(t)",
                ),
                Unit.RATE,
            ),
            *(
                FigureDefinition(
                    name,
                    title,
                    Text(
                        "end of the 95 % interval by Greenwood's formula, log(−log)-transformed",
                        "95% 置信区间端点：Greenwood 公式，经 log(−log) 变换",
                    ),
                    Unit.RATE,
                    null_when=Text("`survival` is 0 or 1", "`survival` 为 0 或 1 时"),
                )
                for name, title in (
                    ("low", Text("Lower bound", "区间下限")),
                    ("high", Text("Upper bound", "区间上限")),
                )
            ),
        ),
    ),
    notes=(_THINNED,),
    sources=(KAPLAN_MEIER,),
)

CYCLE_CURVE: Final = MetricDefinition(
    id="cycle-time-curve",
    version=1,
    path="cycle-time/curve",
    root=None,
    title=Text("Curve of cycle time", "赢单时间累积曲线"),
    question=Text(
        "What part of the deals is won, lost or handed off so many days after being opened?",
        "打开之后过了若干天，赢单、丢单、移交的商机各占多大比例？",
    ),
    population=Text(
        "deals opened in the period, as they stand at T: won, lost and handed off as the causes"
        " that compete, those still open right-censored",
        "统计期内打开的商机，以 T 时的状况为准：赢单、丢单、移交为竞争事件，仍在进行中的右删失",
    ),
    policies=(*OF_A_PERIOD, CURRENT),
    figures=(
        *(
            FigureDefinition(
                status,
                title,
                Text(f"deals that are {en} at T", f"T 时{zh}的商机数"),
                Unit.DEALS,
            )
            for status, title, en, zh in (
                ("won", Text("Won", "赢单数"), "won", "已赢单"),
                ("lost", Text("Lost", "丢单数"), "lost", "已丢单"),
                ("handed_off", Text("Handed off", "移交数"), "handed off", "已移交"),
                ("open", Text("Open", "进行中商机数"), "open", "进行中"),
            )
        ),
        estimate(
            "time_to_win",
            Text("Time to win", "赢单用时"),
            Text(
                "when that share of all deals has been won, by the incidence of winning",
                "按赢单的累积发生率，全部商机中赢单比例达到该值的时间",
            ),
        ),
        *under(
            "points[]",
            *_AT,
            FigureDefinition(
                "survival",
                Text("Still open", "仍在进行的比例"),
                Text("1 − won − lost − handed_off", "1 − won − lost − handed_off"),
                Unit.RATE,
            ),
            *(
                FigureDefinition(
                    cause,
                    title,
                    Text(
                        "Aalen–Johansen: the sum over all t ≤ seconds of still open(before t) ×"
                        " so ended(t) / at risk(t)",
                        "奥伦-约翰森估计：对所有 t ≤ seconds 求和，仍在进行的比例(t 之前)"
                        " × 以此告终数(t) / 风险集数量(t)",
                    ),
                    Unit.RATE,
                )
                for cause, title in (
                    ("won", Text("Won by then", "至此已赢单的比例")),
                    ("lost", Text("Lost by then", "至此已丢单的比例")),
                    ("handed_off", Text("Handed off by then", "至此已移交的比例")),
                )
            ),
        ),
    ),
    balances=(same("survival + won + lost + handed_off = 1"),),
    notes=(
        Text(
            "Losing competes with winning: one minus Kaplan–Meier would count the lost as if they"
            " could still be won, and promise too many wins.",
            "丢单与赢单互为竞争：用 1 减去卡普兰-迈耶估计会把已丢的商机当作仍可能赢下，"
            "从而高估赢单。",
        ),
        _THINNED,
    ),
    sources=(AALEN_JOHANSEN,),
)
