"""What moved in a period: the flow through each stage and the matrix of moves (section 2)."""

from typing import Final

from app.domain.catalogue.parts import share
from app.domain.catalogue.policies import AT_MOVE, OF_A_PERIOD
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    PolicyDefinition,
    Text,
    Unit,
    same,
    under,
)

_BASIS: Final = PolicyDefinition(
    "basis",
    Text("what moved within the period counts, not a cohort", "统计期内的流动，而非某一批商机"),
    ("period",),
)


def _exits(kind: str, title: Text, what: Text) -> FigureDefinition:
    return FigureDefinition(kind, title, what, Unit.VISITS)


_COUNTS: Final = (
    FigureDefinition(
        "open_at_start",
        Text("There at the start", "期初在场"),
        Text(
            "visits entered before `from` and not left before it; 0 where `from` is null",
            "`from` 之前进入且此前未离开的停留数；`from` 为 null 时为 0",
        ),
        Unit.VISITS,
    ),
    FigureDefinition(
        "entries",
        Text("Entries", "进入数"),
        Text(
            "visits entered in the period: openings, reopenings and hand-ins among them",
            "统计期内进入的停留数，含新开、重新打开与接收移交",
        ),
        Unit.VISITS,
    ),
    FigureDefinition(
        "exits",
        Text("Exits", "离开数"),
        Text(
            "visits left in the period: the sum of the eight kinds below",
            "统计期内结束的停留数，即下列八种离开方式之和",
        ),
        Unit.VISITS,
    ),
    _exits(
        "advanced",
        Text("Advanced", "推进"),
        Text("left for a later stage, skipping included", "去往更靠后的阶段（含跳级）"),
    ),
    _exits(
        "regressed",
        Text("Moved back", "回退"),
        Text("left for an earlier stage", "退回更靠前的阶段"),
    ),
    _exits(
        "sidestepped",
        Text("Moved aside", "旁置"),
        Text("left into or out of an off-path stage", "进入或离开主路径之外的阶段"),
    ),
    _exits("won", Text("Won", "赢单"), Text("left by winning", "以赢单离开")),
    _exits("lost", Text("Lost", "丢单"), Text("left by losing", "以丢单离开")),
    _exits(
        "reopened",
        Text("Reopened", "重新打开"),
        Text("left a closed stage for an open one", "由关闭阶段重新打开"),
    ),
    _exits(
        "handed_off",
        Text("Handed off", "移交"),
        Text("left for another pipeline", "移交到其他管道"),
    ),
    _exits(
        "rearranged",
        Text("Rearranged", "随阶段调整迁移"),
        Text(
            "moved because a stage was archived, split or merged",
            "因阶段归档、拆分或合并而迁移",
        ),
    ),
    FigureDefinition(
        "open_at_end",
        Text("There at the end", "期末在场"),
        Text(
            "visits entered before `to` and not left before it, as seen at T",
            "以 T 时所见，`to` 之前进入且此前未离开的停留数",
        ),
        Unit.VISITS,
    ),
    share(
        "exit_forward_rate",
        Text("Exits forward", "前进离开率"),
        Text(
            "(advanced + won) / exits; no interval, because visits of one deal do not decide"
            " independently",
            "(advanced + won) / exits；同一商机的多次停留并不相互独立，故不给区间",
        ),
    ),
)

FLOW: Final = MetricDefinition(
    id="flow",
    version=1,
    path="flow",
    title=Text("Flow", "阶段流量"),
    question=Text(
        "What came into each stage in the period, what went out of it, and where to?",
        "统计期内，每个阶段进来了多少、出去了多少、以什么方式出去？",
    ),
    population=Text(
        "visits of every stage, closed ones too (those end by being reopened, or by the other"
        " outcome)",
        "所有阶段的停留，关闭阶段也在内（其离开方式为重新打开，或改判为另一种结果）",
    ),
    policies=(*OF_A_PERIOD, AT_MOVE, _BASIS),
    figures=under("stages[]", *_COUNTS),
    balances=(
        same("open_at_end = open_at_start + entries − exits"),
        same(
            "exits = advanced + regressed + sidestepped + won + lost + reopened + handed_off"
            " + rearranged"
        ),
    ),
    notes=(
        Text(
            "A visit bears in all its counts what was frozen when it ended, and while it is open"
            " what the deal bears at T: so the balance holds in every group too.",
            "一次停留在各项计数中都采用其结束时冻结的取值，尚未结束的采用商机在 T 时的取值，"
            "因此平衡式在每个分组内同样成立。",
        ),
    ),
)

MATRIX: Final = MetricDefinition(
    id="matrix",
    version=1,
    path="matrix",
    title=Text("Matrix of moves", "流转矩阵"),
    question=Text(
        "From which stage did deals move to which, how often, and after how long?",
        "商机从哪个阶段去往哪个阶段？多少次？停留了多久才走？",
    ),
    population=Text(
        "the exits of the flow: visits left in the period, one cell for each pair of stages between"
        " which there was a move; to null: handed off",
        "即阶段流量中的离开：统计期内结束的停留；每一对发生过流转的阶段为一格，"
        "去向为 null 表示移交",
    ),
    policies=(*OF_A_PERIOD, AT_MOVE, _BASIS),
    figures=under(
        "cells[]",
        FigureDefinition(
            "count",
            Text("Moves", "流转次数"),
            Text(
                "exits from the one stage to the other",
                "由该阶段流向另一阶段的次数",
            ),
            Unit.MOVES,
        ),
        share(
            "share",
            Text("Share of exits", "离开占比"),
            Text(
                "count / exits of `from_stage` in the period; no interval",
                "count / 统计期内 `from_stage` 的离开数；不给区间",
            ),
        ),
        FigureDefinition(
            "median_dwell_seconds",
            Text("Median stay before the move", "流转前停留时间中位数"),
            Text("median of left_at − entered_at", "left_at − entered_at 的中位数"),
            Unit.SECONDS,
        ),
    ),
    balances=(
        Text(
            "the counts of a row add up to the flow's `exits` of that stage",
            "同一行各格之和等于阶段流量中该阶段的 `exits`",
        ),
    ),
)
