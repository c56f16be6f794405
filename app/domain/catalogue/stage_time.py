"""Time in stage (section 3) and its survival curve, defined in words."""

from typing import Final

from app.domain.catalogue.parts import durations, estimate
from app.domain.catalogue.policies import AT_MOVE, OF_A_PERIOD
from app.domain.catalogue.sources import HYNDMAN_FAN, KAPLAN_MEIER
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    PolicyDefinition,
    Text,
    Unit,
    same,
    under,
)

POPULATION: Final = PolicyDefinition(
    "population",
    Text(
        "`entered`: the visits entered in the period; `left`: those that ended in it",
        "`entered`：统计期内进入的停留；`left`：统计期内结束的停留",
    ),
    ("entered", "left"),
)
REENTRY: Final = PolicyDefinition(
    "reentry",
    Text(
        "`every`: each visit by itself; `sum`: the visits of a deal in a stage added up, and the"
        " sum is open where the last of them is",
        "`every`：每次停留单独计；`sum`：同一商机在同一阶段的多次停留合并相加，"
        "最后一次尚未结束则合计视为未结束",
    ),
    ("every", "sum"),
)
VISITS: Final = Text(
    "visits of open stages, off-path ones too, entered in the period or with `population=left`"
    " ended there",
    "进行中阶段（含主路径之外的阶段）的停留：统计期内进入的；`population=left` 时为统计期内结束的",
)

KAPLAN_MEIER_OF_STAYS: Final = Text(
    "Kaplan–Meier over all visits, those under way right-censored at their age; event = leaving,"
    " for whatever reason; quantile p = the smallest t with S(t) ≤ 1 − p; a leaving comes before a"
    " censoring at the same t",
    "对全部停留作卡普兰-迈耶估计，未结束的按其时长右删失；事件 = 离开（不论缘由）；"
    "p 分位数 = 使 S(t) ≤ 1 − p 的最小 t；同一 t 上先计离开、后计删失",
)

TIME_IN_STAGE: Final = MetricDefinition(
    id="time-in-stage",
    version=1,
    path="time-in-stage",
    title=Text("Time in stage", "阶段停留时间"),
    question=Text(
        "How long do deals stay in each stage, those that are still there included?",
        "商机在每个阶段停留多久？仍停在那里的也算上。",
    ),
    population=VISITS,
    policies=(*OF_A_PERIOD, AT_MOVE, POPULATION, REENTRY),
    figures=under(
        "stages[]",
        durations(
            "completed",
            Text("Completed stays", "已结束的停留"),
            Text("left_at − entered_at", "left_at − entered_at"),
            population=Text("visits that had ended at T", "T 时已结束的停留"),
        ),
        durations(
            "open",
            Text("Age of the open stays", "未结束停留的时长"),
            Text("T − entered_at", "T − entered_at"),
            population=Text("visits under way at T", "T 时尚未结束的停留"),
        ),
        estimate(
            "survival",
            Text("Estimate with the open ones", "计入未结束停留的估计"),
            KAPLAN_MEIER_OF_STAYS,
        ),
        FigureDefinition(
            "benchmark",
            Text("Against the target", "与目标对比"),
            Text("the stage's `target_dwell`", "该阶段的 `target_dwell`"),
            Unit.SECONDS,
            null_when=Text("the stage has no target", "该阶段未设目标时"),
            parts=(
                FigureDefinition(
                    "target_seconds",
                    Text("Target", "目标"),
                    same("target_dwell"),
                    Unit.SECONDS,
                ),
                FigureDefinition(
                    "difference_seconds",
                    Text("Above the target", "超出目标"),
                    Text(
                        "p50_seconds of `completed` − target_seconds: below 0 it is reached",
                        "`completed` 的 p50_seconds − target_seconds：小于 0 即达标",
                    ),
                    Unit.SECONDS,
                    null_when=Text("no stay was completed", "没有已结束的停留时"),
                ),
            ),
        ),
    ),
    notes=(
        Text(
            "Leaving out the visits under way makes slow stages look fast: the slow ones are those"
            " that have not ended. So they stand beside the completed ones, and `survival` puts"
            " both together. `population=left` chooses visits because they have ended, so there it"
            " says nothing.",
            "不计未结束的停留会让慢的阶段显得很快：迟迟没有结束的恰恰是慢的那些。"
            "因此二者并列给出，`survival` 再把二者合在一起估计。"
            "`population=left` 选取的都是已结束的停留，因此不给该估计。",
        ),
    ),
    sources=(KAPLAN_MEIER, HYNDMAN_FAN),
)
