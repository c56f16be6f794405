"""What all figures share: the notions that the definitions of the metrics take for granted."""

from dataclasses import dataclass
from typing import Final

from app.domain.catalogue.writing import Text
from app.domain.intervals import MIN_CASES


@dataclass(frozen=True, slots=True)
class Notion:
    """A word of the definitions and what it means, in Markdown."""

    title: Text
    meaning: Text


NOTIONS: Final = (
    Notion(
        Text("T", "T（业务时点）"),
        Text(
            "`as_of`: only what had occurred before it counts. Left out, T is `known_at`, and"
            " without that the end of the present minute, so that a move shows in the very next"
            " answer.",
            "`as_of`：只计入在此之前发生的业务。省略时取 `known_at`；两者都省略时取当前分钟的"
            "末尾，因此一次流转会立即出现在下一次回答中。",
        ),
    ),
    Notion(
        Text("K", "K（知悉时点）"),
        Text(
            "`known_at`: only what the service had *recorded* before it, and not voided before"
            " it, counts; changes of a deal's facts too. So last Monday's report can be had again"
            " to the digit, but for deals erased since. T tells when things happened, K what was"
            " known of them.",
            "`known_at`：只计入在此之前*已录入*且当时未被作废的记录，商机信息的变更同理。"
            "因此上周一的报表可以一位不差地重现（此后被彻底删除的商机除外）。"
            "T 管事情何时发生，K 管当时知道什么。",
        ),
    ),
    Notion(
        Text("Periods", "统计期"),
        Text(
            "All are half-open, `[from, to)`. A day begins at midnight in `timezone` (default: the"
            " pipeline's); an instant is an instant. Left out, an end is open.",
            "一律左闭右开 `[from, to)`。日期自 `timezone`（默认为管道的时区）的零点起；"
            "时刻即该时刻。省略一端即该端不设限。",
        ),
    ),
    Notion(
        Text("Ranks", "位次"),
        Text(
            "Open stages on the path have the ranks 1 to k in the revision in force at T"
            " (`revision=n` asks for another), all won stages together k + 1. A stage that this"
            " revision does not have in its order counts with the rank of its heir: the first part"
            " of its split, what it was merged into, else the nearest ranked stage before it, else"
            " 1. A T before the pipeline's first move was recorded takes the revision in force at"
            " that recording, because imported history is older than the pipeline.",
            "主路径上的进行中阶段按 T 时生效的定义版本（`revision=n` 可另行指定）排为 1 至 k，"
            "所有赢单阶段合为 k + 1。该版本顺序中没有的阶段，按其继承者的位次计：拆分后的第一部分、"
            "合并后的阶段，否则为其之前最近的有位次阶段，再否则为 1。"
            "若 T 早于管道第一条记录的录入，则取那次录入时生效的版本，因为导入的历史早于管道本身。",
        ),
    ),
    Notion(
        Text("How far a deal came", "商机走到哪一步"),
        Text(
            "The highest rank r that it visited before T, at least 1; k + 1 if and only if it *is*"
            " won at T. A skipped stage counts as reached, a move back lowers nothing.",
            "T 之前到访过的最高位次 r，至少为 1；当且仅当 T 时*确为*赢单才是 k + 1。"
            "跳过的阶段视为已到达，回退不会降低它。",
        ),
    ),
    Notion(
        Text("A deal's facts at T", "商机在 T 时的信息"),
        Text(
            "Those in force then; of a deal closed at T, those frozen at its close.",
            "当时有效的信息；T 时已关闭的商机，取其关闭时冻结的信息。",
        ),
    ),
    Notion(
        Text("Visits", "停留"),
        Text(
            "A visit is one unbroken stay of a deal in a stage, `[entered_at, left_at)`; without an"
            " end it is open. Voided transitions do not exist.",
            "一次停留是商机在一个阶段内的一段连续时间 `[entered_at, left_at)`，没有终点即尚未结束。"
            "被作废的流转视为不存在。",
        ),
    ),
    Notion(
        Text("Ages", "时长的计算时刻"),
        Text(
            "The age of a visit under way is T − entered_at. Where T lies ahead of the clock, as it"
            " does when it is left out, ages, censoring and idle are those of this very moment:"
            " nobody is idle before the time.",
            "未结束停留的时长为 T − entered_at。当 T 晚于时钟（省略 T 时即如此），"
            "时长、删失与停滞以此刻为准：没有人会提前停滞。",
        ),
    ),
    Notion(
        Text("Counts, rates, amounts, lengths", "计数、比率、金额、时长"),
        Text(
            "Integer counts stand beside every rate, a rate without a denominator is `null`, no"
            " rate exceeds 1, amounts are exact sums by currency, durations are seconds. `low` and"
            " `high` bound a rate's 95 % interval (Wilson); where one deal may count several times"
            " there is none, because its visits do not decide independently.",
            "每个比率旁都有整数计数；没有分母的比率为 `null`；比率不会超过 1；金额为精确之和，"
            "按货币分列；时长以秒计。`low` 与 `high` 为比率的 95% 置信区间（Wilson）；"
            "若同一商机可能多次计入则不给区间，因为它的多次停留并不相互独立。",
        ),
    ),
    Notion(
        Text("Too few cases", "样本不足"),
        Text(
            "An estimate that would be a guess is null and says why: `too_few_cases` where a curve"
            f" has fewer than {MIN_CASES} ends or a sample fewer than {MIN_CASES} lengths,"
            " `not_reached` where a curve does not come as far as the quantile lies, `ended_only`"
            " where all lengths were chosen because they have ended."
            f" {MIN_CASES} is the least number of lengths from which a 95 % interval of the median"
            " exists without assuming a shape.",
            "只能靠猜的估计一律为 null 并说明缘由：`too_few_cases` 表示曲线上的终点不足"
            f" {MIN_CASES} 个，或样本不足 {MIN_CASES} 个；`not_reached` 表示曲线尚未到达该分位数"
            "所在的水平；`ended_only` 表示所选样本全是已结束的。"
            f"{MIN_CASES} 是不假定分布形状而能给出中位数 95% 置信区间的最小样本数。",
        ),
    ),
    Notion(
        Text("Policy and definition", "口径与定义"),
        Text(
            "Every answer begins with its `definition`, `{id, version}`, and its `policy`: what was"
            " asked, every default filled in. `GET /v1/metric-definitions` gives what this page"
            " says as data.",
            "每个回答都以 `definition`（`{id, version}`）和 `policy`（所问的口径，默认值均已补全）"
            "开头。`GET /v1/metric-definitions` 以数据形式给出本页内容。",
        ),
    ),
    Notion(
        Text("Filters and groups", "筛选与分组"),
        Text(
            "Filters are `owner`, `team`, `source`, `priority`, `tag`, `currency`, `opened_month`"
            " (`YYYY-MM`) and `attributes.<name>`. All must pass; the same one several times takes"
            " any of its values; an empty value asks for deals without one. `group_by` takes the"
            " same names. A group's figures are those of the same question with that filter, and"
            " the group `null` is of those that bear none; a deal with two tags is in two groups.",
            "可筛选 `owner`、`team`、`source`、`priority`、`tag`、`currency`、`opened_month`"
            "（`YYYY-MM`）与 `attributes.<name>`。各条件须同时满足；同一条件给出多次表示任一取值"
            "即可；空值表示未填写的商机。`group_by` 使用同样的名称。某一分组的数字，"
            "等同于以该值为筛选条件提出同一问题；`null` 组为未填写者；有两个标签的商机计入两个组。",
        ),
    ),
    Notion(
        Text("Attribution", "归属"),
        Text(
            "`current` filters and groups by the deal's values at T, `at_move` by those frozen at"
            " the move: of a completed visit, the move that ended it; of a deal, the last move"
            " before T; of an open visit, what the deal bears at T. Figures about visits and moves"
            " (time in stage, flow, matrix) default to `at_move`, those about deals to `current`."
            " Moves do not freeze tags and attributes, so `at_move` on them is refused.",
            "`current` 按商机在 T 时的取值筛选与分组，`at_move` 按流转时冻结的取值：已结束的停留"
            "取结束它的那次流转，商机取 T 之前的最后一次流转，未结束的停留取商机在 T 时的取值。"
            "关于停留与流转的指标（阶段停留时间、阶段流量、流转矩阵）默认 `at_move`，"
            "关于商机的指标默认 `current`。流转不冻结标签与自定义属性，"
            "因此对它们使用 `at_move` 会被拒绝。",
        ),
    ),
    Notion(
        Text("The deals behind a count", "计数背后的明细"),
        Text(
            "`GET …/metrics/{metric}/deals` with the same parameters and `cell=` lists what a count"
            " counts, one item for each deal or visit, by cursor. A cell is called by the answer's"
            " own names: the count, then the stage's key and what else tells it apart, joined by"
            " points, like `reached.quote` or `deals.quote.price`. A bucket is its place in the"
            " list, from 0 on: `age_buckets.quote.2`, `arrivals.0`. What has no key is written with"
            " a colon: `rank:4`, `:none`, `:handed_off`. A share's name opens its `count`; with"
            " `.of` behind it, that of which it is a share. The number and the list always agree."
            " Funnel, flow, matrix, cumulative flow, time in stage, cycle time, win rate, loss"
            " reasons and snapshot have lists; velocity, bottlenecks, trend and compare count what"
            " those count, and open there with the same filters.",
            "`GET …/metrics/{metric}/deals` 使用同样的参数再加 `cell=`，按游标逐条列出某个计数所含"
            "的商机或停留。单元格沿用回答中的名称：先是计数名，再是阶段的 key 及其他区分项，以点号"
            "相连，如 `reached.quote`、`deals.quote.price`。区间以其在列表中的位置书写，从 0 起："
            "`age_buckets.quote.2`、`arrivals.0`。没有 key 的以冒号书写：`rank:4`、"
            "`:none`、`:handed_off`。占比的名称打开其 `count`，后加 `.of` 则打开其分母。"
            "数字与明细始终一致。漏斗、阶段流量、流转矩阵、累积流量、阶段停留时间、销售周期、赢单率、"
            "丢单原因与时点快照均有明细；销售速度、瓶颈、趋势与对比所计之数与之相同，可用同样的筛选在那里打开。",
        ),
    ),
    Notion(
        Text("ETag", "ETag"),
        Text(
            "It changes when the pipeline's data or definition does, and for answers that age by"
            " themselves, like time in stage, the curves and the snapshot, with the minute. It is"
            " weak (`W/…`) where T moves with the clock, strong where `as_of` fixes it. Send it in"
            " `If-None-Match` for a 304.",
            "管道的数据或定义变化时随之变化；会自行随时间变化的回答（如阶段停留时间、曲线、时点快照）"
            "每分钟变化一次。T 随时钟推移时为弱标签（`W/…`），由 `as_of` 固定时为强标签。"
            "在 `If-None-Match` 中带上它，未变则得到 304。",
        ),
    ),
    Notion(
        Text("Unknown parameters", "未知参数"),
        Text(
            "A parameter that a metric does not know is a 422, never ignored.",
            "指标不认识的参数返回 422，绝不会被忽略。",
        ),
    ),
)
