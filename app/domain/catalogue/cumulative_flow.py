"""Cumulative flow and Little's law (section 5), defined in words."""

from typing import Final

from app.domain.catalogue.policies import CURRENT_ONLY, OF_A_PERIOD
from app.domain.catalogue.sources import LITTLE, LITTLE_GRAVES
from app.domain.catalogue.trend import BY
from app.domain.catalogue.writing import (
    FigureDefinition,
    MetricDefinition,
    Text,
    Unit,
    same,
    under,
)

_EMPTY: Final = Text("the period is empty", "统计期长度为零时")
_NONE_ENDED: Final = Text("no stay ended in the period", "统计期内没有结束的在途时段时")

_ARRIVALS: Final = FigureDefinition(
    "arrivals",
    Text("Arrivals", "到达数"),
    Text(
        "stays that began: deals opened (handed in among them) or reopened into an open stage",
        "开始的在途时段数：新开（含接收移交）或重新打开、进入进行中阶段",
    ),
    Unit.DEALS,
)
_DEPARTURES: Final = FigureDefinition(
    "departures",
    Text("Departures", "离去数"),
    Text(
        "stays that ended: won, lost or handed off out of an open stage",
        "结束的在途时段数：由进行中阶段赢单、丢单或移交",
    ),
    Unit.DEALS,
)

_LITTLE: Final = (
    FigureDefinition(
        "time_in_process_seconds",
        Text("Time in process", "在途总时长"),
        Text(
            "what all stays together spent within the period",
            "全部在途时段落在统计期内的时间之和",
        ),
        Unit.SECONDS,
    ),
    FigureDefinition(
        "period_seconds",
        Text("Length of the period", "统计期长度"),
        Text("`to`, at most T, − `from`", "`to`（不晚于 T）− `from`"),
        Unit.SECONDS,
    ),
    FigureDefinition(
        "average_in_progress",
        Text("Average in progress, L", "平均在途数 L"),
        same("time_in_process_seconds / period_seconds"),
        Unit.AVERAGE,
        null_when=_EMPTY,
    ),
    FigureDefinition(
        "arrival_rate_per_day",
        Text("Arrivals a day", "日均到达数"),
        Text("arrivals / days of 24 hours", "到达数 / 以 24 小时为一天的天数"),
        Unit.DEALS_PER_DAY,
        null_when=_EMPTY,
    ),
    FigureDefinition(
        "departure_rate_per_day",
        Text("Departures a day, λ", "日均离去数 λ"),
        Text("departures / days of 24 hours", "离去数 / 以 24 小时为一天的天数"),
        Unit.DEALS_PER_DAY,
        null_when=_EMPTY,
    ),
    FigureDefinition(
        "mean_time_in_process_seconds",
        Text("Mean time in process, W", "平均在途时长 W"),
        Text(
            "mean whole length of the stays that ended in the period",
            "统计期内结束的在途时段的完整时长平均值",
        ),
        Unit.SECONDS,
        null_when=_NONE_ENDED,
    ),
    FigureDefinition(
        "expected_in_progress",
        Text("Expected in progress, λ·W", "期望在途数 λ·W"),
        Text(
            "departure_rate_per_day × mean_time_in_process_seconds, in days",
            "departure_rate_per_day × mean_time_in_process_seconds（折算为天）",
        ),
        Unit.AVERAGE,
        null_when=_NONE_ENDED,
    ),
    FigureDefinition(
        "ratio",
        Text("Balance of the process", "流程平衡度"),
        same("expected_in_progress / average_in_progress"),
        Unit.QUOTIENT,
        null_when=Text(
            "no stay ended in the period, or nothing was in process",
            "统计期内没有结束的在途时段，或始终没有在途商机时",
        ),
    ),
)

CUMULATIVE_FLOW: Final = MetricDefinition(
    id="cumulative-flow",
    version=1,
    path="cumulative-flow",
    title=Text("Cumulative flow", "累积流量"),
    question=Text(
        "How many deals came in, how many went out, and how much is piling up, and where?",
        "进来了多少商机，出去了多少，积压了多少、积压在哪里？",
    ),
    population=Text(
        "stays of deals in process: the unbroken time of a deal in open stages, from its arrival"
        " from outside to its departure; who returns begins another stay",
        "商机的在途时段：商机自外部到达起、至离去止，连续处于进行中阶段的时间；"
        "去而复返者另计一个时段",
    ),
    policies=(*OF_A_PERIOD, CURRENT_ONLY, BY),
    figures=(
        FigureDefinition(
            "in_progress_at_start",
            Text("In progress at the start", "期初在途数"),
            Text("deals in process when the period begins", "统计期开始时在途的商机数"),
            Unit.DEALS,
        ),
        *under("little", *_LITTLE),
        *under(
            "buckets[]",
            _ARRIVALS,
            _DEPARTURES,
            FigureDefinition(
                "in_progress",
                Text("In progress at the end", "期末在途数"),
                Text("deals in process at the bucket's end", "区间末尾在途的商机数"),
                Unit.DEALS,
            ),
        ),
        *under(
            "buckets[].stages[]",
            FigureDefinition(
                "entries",
                Text("Entries", "进入数"),
                Text("visits of the stage entered in the bucket", "区间内进入该阶段的停留数"),
                Unit.VISITS,
            ),
            FigureDefinition(
                "in_progress",
                Text("In progress at the end", "期末在途数"),
                Text("deals that stand in it at the bucket's end", "区间末尾停在该阶段的商机数"),
                Unit.DEALS,
            ),
        ),
    ),
    balances=(
        Text(
            "in_progress(end) = in_progress(start) + arrivals − departures, bucket by bucket",
            "逐区间有 in_progress(end) = in_progress(start) + arrivals − departures",
        ),
        Text(
            "the stages' `in_progress` add up to the bucket's",
            "各阶段的 `in_progress` 之和等于该区间的 `in_progress`",
        ),
    ),
    notes=(
        Text(
            "Little's law, L = λ·W, speaks of long-run averages. With W as the time per stay within"
            " the period, and λ as the stays there at its start and its arrivals by its length, it"
            " is an identity and checks nothing but the counting. Here λ and W are taken from those"
            " who leave: an estimate, which meets L where as many come as go and the ages of what"
            " is in process stay as they are. `ratio` is 1 where the process is in balance, below 1"
            " where work piles up or grows old, above 1 where a backlog is worked off.",
            "利特尔法则 L = λ·W 说的是长期平均。若 W 取每个时段落在统计期内的时间、λ 取期初在途数与"
            "到达数之和除以统计期长度，它就是恒等式，只能核对计数本身。此处 λ 与 W 取自离去者，"
            "是一种估计：进出持平、在途商机的时长分布稳定时才与 L 相等。`ratio` 等于 1 表示流程"
            "平衡，小于 1 表示积压增加或在途变老，大于 1 表示正在消化积压。",
        ),
    ),
    sources=(LITTLE, LITTLE_GRAVES),
)
