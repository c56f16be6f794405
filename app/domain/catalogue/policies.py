"""The rules that many metrics share. Each is echoed in an answer's `policy`, defaults filled in."""

from typing import Final

from app.domain.catalogue.writing import PolicyDefinition, Text

FROM: Final = PolicyDefinition(
    "from",
    Text(
        "begin of the period, included: an instant, or a day, which begins at midnight in"
        " `timezone`; null: from the first on",
        "统计期起点（含）：可为时刻，或日期（自 `timezone` 的零点起）；null 表示从最早算起",
    ),
)
TO: Final = PolicyDefinition(
    "to",
    Text(
        "end of the period, not in it; null: there is none", "统计期终点（不含）；null 表示不设终点"
    ),
)
AS_OF: Final = PolicyDefinition(
    "as_of",
    Text(
        "T: only what had occurred before this instant counts; left out it is `known_at`, and"
        " without that the end of the present minute",
        "T：只计入该时刻之前发生的业务；省略时取 `known_at`，两者都省略时取当前分钟的末尾",
    ),
)
KNOWN_AT: Final = PolicyDefinition(
    "known_at",
    Text(
        "K: only what the service had recorded before this instant, and not voided before it,"
        " counts; left out, all that is recorded now",
        "K：只计入该时刻之前已录入、且当时未被作废的记录；省略时取目前已录入的全部",
    ),
)
TIMEZONE: Final = PolicyDefinition(
    "timezone",
    Text(
        "where days, weeks and months begin, an IANA name; left out, the pipeline's",
        "日、周、月以哪个时区为界（IANA 名称）；省略时取管道自己的时区",
    ),
)
REVISION: Final = PolicyDefinition(
    "revision",
    Text(
        "the definition of the pipeline that gives the order of the stages; left out, the one in"
        " force at T",
        "按管道的哪一版定义排列阶段；省略时取 T 时生效的那一版",
    ),
)
FILTERS: Final = PolicyDefinition(
    "filters",
    Text(
        "by dimension, the values of which one must be borne; all dimensions must pass; null stands"
        " for bearing none",
        "按维度筛选：同一维度满足任一取值，各维度须同时满足；null 表示未填写",
    ),
)
GROUP_BY: Final = PolicyDefinition(
    "group_by",
    Text(
        "the dimension by whose values `groups` repeats the figures; null: it does not",
        "按哪个维度在 `groups` 中分组列出同样的指标；null 表示不分组",
    ),
)

_WHOSE: Final = Text(
    "whose values filter and group: `current`, the deal's at T; `at_move`, those frozen at the"
    " move",
    "筛选与分组采用谁的取值：`current` 为商机在 T 时的取值，`at_move` 为流转当时冻结的取值",
)
CURRENT: Final = PolicyDefinition("attribution", _WHOSE, ("current", "at_move"))
CURRENT_ONLY: Final = PolicyDefinition("attribution", _WHOSE, ("current",))
AT_MOVE: Final = PolicyDefinition("attribution", _WHOSE, ("at_move", "current"))

SEEN: Final = (AS_OF, KNOWN_AT, TIMEZONE, REVISION, FILTERS, GROUP_BY)
"""What every metric echoes, besides its attribution."""
OF_A_PERIOD: Final = (FROM, TO, *SEEN)
"""What every metric over a period echoes, besides its attribution."""

SHARED: Final = frozenset(policy.name for policy in (*OF_A_PERIOD, CURRENT))
"""The names that mean the same everywhere, so that they need explaining only once."""

CLOSED: Final = Text(
    "closed at T, by a close that lies in the period: a deal reopened since has left it, so each"
    " deal is in one period at most",
    "T 时处于关闭状态，且最近一次关闭落在统计期内；之后又重新打开的商机不再计入，"
    "因此每个商机至多属于一个统计期",
)
"""What *closed in the period* means."""
