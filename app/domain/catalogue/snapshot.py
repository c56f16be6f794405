"""The snapshot: the open deals at one instant (section 5), defined in words."""

from typing import Final

from app.domain.catalogue.policies import CURRENT, SEEN
from app.domain.catalogue.writing import FigureDefinition, MetricDefinition, Text, Unit, under

_DEALS: Final = FigureDefinition(
    "deals",
    Text("Open deals", "进行中商机数"),
    Text("deals open at T", "T 时进行中的商机数"),
    Unit.DEALS,
)
_AMOUNT: Final = FigureDefinition(
    "amount",
    Text("Amount", "金额"),
    Text("sum of their amounts, by currency", "其金额之和，按货币分列"),
    Unit.MONEY,
)
_WEIGHTED: Final = FigureDefinition(
    "weighted_amount",
    Text("Weighted amount", "加权金额"),
    Text(
        "sum of amount × probability, by currency: the deal's own probability, else what its stage"
        " declares",
        "Σ 金额 × 赢单概率，按货币分列；概率取商机自身的，未填写则取其阶段声明的",
    ),
    Unit.MONEY,
)
_UNWEIGHTED: Final = FigureDefinition(
    "unweighted",
    Text("Without a probability", "无概率商机数"),
    Text(
        "deals with an amount for which neither they nor their stage have a probability: they are"
        " not in `weighted_amount`",
        "有金额、但自身与所在阶段均无概率的商机数；未计入 `weighted_amount`",
    ),
    Unit.DEALS,
)
_IDLE: Final = FigureDefinition(
    "idle",
    Text("Idle", "停滞商机数"),
    Text(
        "deals whose age has reached the stage's threshold, by threshold alone: holds and snoozes"
        " do not count, so that the figure of a past T stays what it was",
        "时长已达到阶段停滞阈值的商机数；只看阈值，不考虑延期与暂缓提醒，"
        "使过去某一 T 的数字始终不变",
    ),
    Unit.DEALS,
)
_TOTALS: Final = (_DEALS, _AMOUNT, _WEIGHTED, _UNWEIGHTED, _IDLE)

SNAPSHOT: Final = MetricDefinition(
    id="snapshot",
    version=1,
    path="snapshot",
    title=Text("Snapshot", "时点快照"),
    question=Text(
        "Where do the open deals stand right now, worth what, for how long, and which went quiet?",
        "此刻进行中的商机停在哪里、值多少钱、停了多久、哪些已经停滞？",
    ),
    population=Text(
        "deals open at T, by the stage in which they stand (not by how far they came: that is the"
        " funnel)",
        "T 时进行中的商机，按当前所在阶段统计（不是按曾到达的最远阶段，那是漏斗）",
    ),
    policies=(*SEEN, CURRENT),
    figures=(
        *_TOTALS,
        *under(
            "stages[]",
            *_TOTALS,
            FigureDefinition(
                "median_age_seconds",
                Text("Median age in the stage", "在阶段内的时长中位数"),
                Text("median of T − entered_at", "T − entered_at 的中位数"),
                Unit.SECONDS,
                null_when=Text("no open deal stands there", "该阶段没有进行中的商机时"),
            ),
        ),
        *under(
            "stages[].age_buckets[]",
            FigureDefinition(
                "from_seconds",
                Text("Begin of the bucket", "时长区间下界"),
                Text(
                    "0, then p50, p70, p85 and p95, included", "依次为 0、p50、p70、p85、p95（含）"
                ),
                Unit.SECONDS,
            ),
            FigureDefinition(
                "to_seconds",
                Text("End of the bucket", "时长区间上界"),
                Text("p50, p70, p85 and p95, excluded", "依次为 p50、p70、p85、p95（不含）"),
                Unit.SECONDS,
                null_when=Text("in the last bucket", "最后一个区间"),
            ),
            FigureDefinition(
                "deals",
                Text("Deals of that age", "该时长区间的商机数"),
                Text(
                    "open deals whose age lies in the bucket",
                    "在阶段内时长落入该区间的进行中商机数",
                ),
                Unit.DEALS,
            ),
        ),
    ),
    notes=(
        Text(
            "`age_buckets` are bounded by the p50, p70, p85 and p95 of all visits that left the"
            " stage in the 365 days before T, and null where there were none. The bounds take no"
            " filter: every group is measured by the same yardstick.",
            "`age_buckets` 以 T 之前 365 天内离开该阶段的全部停留的 p50、p70、p85、p95 为界，"
            "没有这样的停留时为 null。界限不受筛选影响：每个分组都用同一把尺子衡量。",
        ),
    ),
    balances=(
        Text(
            "`deals`, `amount`, `unweighted` and `idle` are the sums of those of the stages; the"
            " buckets of a stage add up to its deals",
            "`deals`、`amount`、`unweighted`、`idle` 均等于各阶段之和；"
            "一个阶段的各时长区间之和等于其商机数",
        ),
    ),
)
