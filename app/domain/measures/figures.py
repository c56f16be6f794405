"""The figures that can be asked for one by one: what a trend follows, and a comparison compares.

One row a figure: its name, the metric whose figure it is, its unit, of which stages it is one, and
which part of the metric's result. What it says, its metric defines; how it is read from a result
of that is `readings`' business.
"""

from enum import Enum, StrEnum
from typing import Final, Self

from app.domain.measures.selection import Attribution


class Metric(StrEnum):
    """The metrics whose figures can be asked for one by one."""

    FUNNEL = "funnel"
    FLOW = "flow"
    MATRIX = "matrix"
    TIME_IN_STAGE = "time-in-stage"
    CYCLE_TIME = "cycle-time"
    CYCLE_CURVE = "cycle-time-curve"
    WIN_RATE = "win-rate"
    LOSS_REASONS = "loss-reasons"
    SNAPSHOT = "snapshot"
    VELOCITY = "velocity"
    BOTTLENECKS = "bottlenecks"


class FigureUnit(StrEnum):
    """What a figure is. Of money there is one sum a currency."""

    COUNT = "count"
    SHARE = "share"
    SECONDS = "seconds"
    DAYS = "days"
    MONEY = "money"
    MONEY_PER_DAY = "money_per_day"


class Stages(Enum):
    """Of which stages a figure is one. `OPEN_OR_ALL`, `LEFT_OR_ALL`: of one, or of all together.

    `LEFT_OR_ALL` is the stage that a deal was lost from, which may be none: opened as lost.
    """

    NONE = "none"
    PATH = "path"
    RANKED = "ranked"
    WON = "won"
    OPEN = "open"
    EVERY = "every"
    OPEN_OR_ALL = "open_or_all"
    LEFT_OR_ALL = "left_or_all"


_FUNNEL, _FLOW, _MATRIX = Metric.FUNNEL, Metric.FLOW, Metric.MATRIX
_STAYS, _CYCLE, _CURVE = Metric.TIME_IN_STAGE, Metric.CYCLE_TIME, Metric.CYCLE_CURVE
_WINS, _LOSSES, _SNAPSHOT = Metric.WIN_RATE, Metric.LOSS_REASONS, Metric.SNAPSHOT
_VELOCITY, _BOTTLENECKS = Metric.VELOCITY, Metric.BOTTLENECKS
_COUNT, _SHARE, _MONEY = FigureUnit.COUNT, FigureUnit.SHARE, FigureUnit.MONEY
_SECONDS, _DAYS, _A_DAY = FigureUnit.SECONDS, FigureUnit.DAYS, FigureUnit.MONEY_PER_DAY


class Figure(StrEnum):
    """The figures by name, metric by metric; each is that of its metric's usual policies."""

    metric: Metric
    unit: FigureUnit
    stages: Stages
    part: str

    def __new__(
        cls, name: str, metric: Metric, unit: FigureUnit, stages: Stages, part: str
    ) -> Self:
        figure = str.__new__(cls, name)
        figure._value_ = name
        figure.metric, figure.unit, figure.stages, figure.part = metric, unit, stages, part
        return figure

    OPENED = "opened", _FUNNEL, _COUNT, Stages.NONE, "reached"
    OPENED_AMOUNT = "opened_amount", _FUNNEL, _MONEY, Stages.NONE, "reached"
    REACHED = "reached", _FUNNEL, _COUNT, Stages.RANKED, "reached"
    REACHED_AMOUNT = "reached_amount", _FUNNEL, _MONEY, Stages.RANKED, "reached"
    ENTERED = "entered", _FUNNEL, _COUNT, Stages.RANKED, "entered"
    ENTERED_AMOUNT = "entered_amount", _FUNNEL, _MONEY, Stages.RANKED, "entered"
    IMPLIED = "implied", _FUNNEL, _COUNT, Stages.RANKED, "implied"
    IMPLIED_AMOUNT = "implied_amount", _FUNNEL, _MONEY, Stages.RANKED, "implied"
    OPEN_FURTHEST = "open_furthest", _FUNNEL, _COUNT, Stages.RANKED, "open_furthest"
    OPEN_FURTHEST_AMOUNT = (
        *("open_furthest_amount", _FUNNEL, _MONEY, Stages.RANKED, "open_furthest"),
    )
    LOST_FURTHEST = "lost_furthest", _FUNNEL, _COUNT, Stages.RANKED, "lost_furthest"
    LOST_FURTHEST_AMOUNT = (
        *("lost_furthest_amount", _FUNNEL, _MONEY, Stages.RANKED, "lost_furthest"),
    )
    HANDED_OFF_FURTHEST = (
        *("handed_off_furthest", _FUNNEL, _COUNT, Stages.RANKED, "handed_off_furthest"),
    )
    HANDED_OFF_FURTHEST_AMOUNT = (
        *("handed_off_furthest_amount", _FUNNEL, _MONEY, Stages.RANKED, "handed_off_furthest"),
    )
    EVER_WON = "ever_won", _FUNNEL, _COUNT, Stages.WON, "ever_won"
    EVER_WON_AMOUNT = "ever_won_amount", _FUNNEL, _MONEY, Stages.WON, "ever_won"
    WON_UNDONE = "won_undone", _FUNNEL, _COUNT, Stages.WON, "won_undone"
    WON_UNDONE_AMOUNT = "won_undone_amount", _FUNNEL, _MONEY, Stages.WON, "won_undone"
    CONVERSION_TO_NEXT = "conversion_to_next", _FUNNEL, _SHARE, Stages.PATH, "to_next"
    CONVERSION_FROM_START = "conversion_from_start", _FUNNEL, _SHARE, Stages.RANKED, "from_start"
    CONVERSION_TO_WON = "conversion_to_won", _FUNNEL, _SHARE, Stages.PATH, "to_won"
    CONVERSION_DECIDED = "conversion_decided", _FUNNEL, _SHARE, Stages.PATH, "decided"

    OPEN_AT_START = "open_at_start", _FLOW, _COUNT, Stages.EVERY, "open_at_start"
    ENTRIES = "entries", _FLOW, _COUNT, Stages.EVERY, "entries"
    EXITS = "exits", _FLOW, _COUNT, Stages.EVERY, "left"
    EXITS_ADVANCED = "exits_advanced", _FLOW, _COUNT, Stages.EVERY, "exits.advanced"
    EXITS_REGRESSED = "exits_regressed", _FLOW, _COUNT, Stages.EVERY, "exits.regressed"
    EXITS_SIDESTEPPED = "exits_sidestepped", _FLOW, _COUNT, Stages.EVERY, "exits.sidestepped"
    EXITS_WON = "exits_won", _FLOW, _COUNT, Stages.EVERY, "exits.won"
    EXITS_LOST = "exits_lost", _FLOW, _COUNT, Stages.EVERY, "exits.lost"
    EXITS_REOPENED = "exits_reopened", _FLOW, _COUNT, Stages.EVERY, "exits.reopened"
    EXITS_HANDED_OFF = "exits_handed_off", _FLOW, _COUNT, Stages.EVERY, "exits.handed_off"
    EXITS_REARRANGED = "exits_rearranged", _FLOW, _COUNT, Stages.EVERY, "exits.rearranged"
    OPEN_AT_END = "open_at_end", _FLOW, _COUNT, Stages.EVERY, "open_at_end"
    EXIT_FORWARD_RATE = "exit_forward_rate", _FLOW, _SHARE, Stages.EVERY, "forward"

    MOVES = "moves", _MATRIX, _COUNT, Stages.EVERY, "count"
    MOVES_SHARE = "moves_share", _MATRIX, _SHARE, Stages.EVERY, "share"
    MOVES_DWELL_P50 = "moves_dwell_p50", _MATRIX, _SECONDS, Stages.EVERY, "dwell.p50"

    TIME_IN_STAGE_COUNT = "time_in_stage_count", _STAYS, _COUNT, Stages.OPEN, "completed.count"
    TIME_IN_STAGE_MEAN = "time_in_stage_mean", _STAYS, _SECONDS, Stages.OPEN, "completed.mean"
    TIME_IN_STAGE_P25 = "time_in_stage_p25", _STAYS, _SECONDS, Stages.OPEN, "completed.p25"
    TIME_IN_STAGE_P50 = "time_in_stage_p50", _STAYS, _SECONDS, Stages.OPEN, "completed.p50"
    TIME_IN_STAGE_P75 = "time_in_stage_p75", _STAYS, _SECONDS, Stages.OPEN, "completed.p75"
    TIME_IN_STAGE_P90 = "time_in_stage_p90", _STAYS, _SECONDS, Stages.OPEN, "completed.p90"
    TIME_IN_STAGE_P95 = "time_in_stage_p95", _STAYS, _SECONDS, Stages.OPEN, "completed.p95"
    TIME_IN_STAGE_MAX = "time_in_stage_max", _STAYS, _SECONDS, Stages.OPEN, "completed.longest"
    OPEN_COUNT = "open_count", _STAYS, _COUNT, Stages.OPEN, "open.count"
    OPEN_MEAN = "open_mean", _STAYS, _SECONDS, Stages.OPEN, "open.mean"
    OPEN_P25 = "open_p25", _STAYS, _SECONDS, Stages.OPEN, "open.p25"
    OPEN_P50 = "open_p50", _STAYS, _SECONDS, Stages.OPEN, "open.p50"
    OPEN_P75 = "open_p75", _STAYS, _SECONDS, Stages.OPEN, "open.p75"
    OPEN_P90 = "open_p90", _STAYS, _SECONDS, Stages.OPEN, "open.p90"
    OPEN_P95 = "open_p95", _STAYS, _SECONDS, Stages.OPEN, "open.p95"
    OPEN_MAX = "open_max", _STAYS, _SECONDS, Stages.OPEN, "open.longest"
    SURVIVAL_P50 = "survival_p50", _STAYS, _SECONDS, Stages.OPEN, "survival.p50"
    SURVIVAL_P75 = "survival_p75", _STAYS, _SECONDS, Stages.OPEN, "survival.p75"
    SURVIVAL_P90 = "survival_p90", _STAYS, _SECONDS, Stages.OPEN, "survival.p90"
    SURVIVAL_P95 = "survival_p95", _STAYS, _SECONDS, Stages.OPEN, "survival.p95"

    CYCLE_TIME_COUNT = "cycle_time_count", _CYCLE, _COUNT, Stages.NONE, "completed.count"
    CYCLE_TIME_MEAN = "cycle_time_mean", _CYCLE, _SECONDS, Stages.NONE, "completed.mean"
    CYCLE_TIME_P25 = "cycle_time_p25", _CYCLE, _SECONDS, Stages.NONE, "completed.p25"
    CYCLE_TIME_P50 = "cycle_time_p50", _CYCLE, _SECONDS, Stages.NONE, "completed.p50"
    CYCLE_TIME_P75 = "cycle_time_p75", _CYCLE, _SECONDS, Stages.NONE, "completed.p75"
    CYCLE_TIME_P90 = "cycle_time_p90", _CYCLE, _SECONDS, Stages.NONE, "completed.p90"
    CYCLE_TIME_P95 = "cycle_time_p95", _CYCLE, _SECONDS, Stages.NONE, "completed.p95"
    CYCLE_TIME_MAX = "cycle_time_max", _CYCLE, _SECONDS, Stages.NONE, "completed.longest"

    TIME_TO_WIN_P50 = "time_to_win_p50", _CURVE, _SECONDS, Stages.NONE, "time_to_win.p50"
    TIME_TO_WIN_P75 = "time_to_win_p75", _CURVE, _SECONDS, Stages.NONE, "time_to_win.p75"
    TIME_TO_WIN_P90 = "time_to_win_p90", _CURVE, _SECONDS, Stages.NONE, "time_to_win.p90"
    TIME_TO_WIN_P95 = "time_to_win_p95", _CURVE, _SECONDS, Stages.NONE, "time_to_win.p95"

    WIN_RATE = "win_rate", _WINS, _SHARE, Stages.NONE, "by_count"
    WIN_RATE_BY_AMOUNT = "win_rate_by_amount", _WINS, _SHARE, Stages.NONE, "by_amount"
    WON = "won", _WINS, _COUNT, Stages.NONE, "won"
    WON_AMOUNT = "won_amount", _WINS, _MONEY, Stages.NONE, "won"
    LOST = "lost", _WINS, _COUNT, Stages.NONE, "lost"
    LOST_AMOUNT = "lost_amount", _WINS, _MONEY, Stages.NONE, "lost"

    LOSSES = "losses", _LOSSES, _COUNT, Stages.LEFT_OR_ALL, "count"
    LOSSES_AMOUNT = "losses_amount", _LOSSES, _MONEY, Stages.LEFT_OR_ALL, "count"
    LOSSES_SHARE = "losses_share", _LOSSES, _SHARE, Stages.LEFT_OR_ALL, "share"

    STANDING = "standing", _SNAPSHOT, _COUNT, Stages.OPEN_OR_ALL, "count"
    STANDING_AMOUNT = "standing_amount", _SNAPSHOT, _MONEY, Stages.OPEN_OR_ALL, "count"
    WEIGHTED_AMOUNT = "weighted_amount", _SNAPSHOT, _MONEY, Stages.OPEN_OR_ALL, "weighted"
    UNWEIGHTED = "unweighted", _SNAPSHOT, _COUNT, Stages.OPEN_OR_ALL, "unweighted"
    MEDIAN_AGE = "median_age", _SNAPSHOT, _SECONDS, Stages.OPEN, "median_age"
    IDLE = "idle", _SNAPSHOT, _COUNT, Stages.OPEN_OR_ALL, "idle"

    VELOCITY = "velocity", _VELOCITY, _A_DAY, Stages.NONE, "per_day"
    MEAN_WON_AMOUNT = "mean_won_amount", _VELOCITY, _MONEY, Stages.NONE, "mean_won_amount"

    CONVERSION_WORTH = "conversion_worth", _BOTTLENECKS, _MONEY, Stages.PATH, "worth"
    COHORT_MEAN_WON_AMOUNT = (
        *("cohort_mean_won_amount", _BOTTLENECKS, _MONEY, Stages.NONE, "mean_won_amount"),
    )
    DAYS_SAVED = "days_saved", _BOTTLENECKS, _DAYS, Stages.PATH, "days_saved"

    @property
    def attribution(self) -> Attribution:
        """The usual one: visits bear what was frozen when they ended, deals what they bear at T."""
        return Attribution.AT_MOVE if self.metric in _OF_VISITS else Attribution.CURRENT

    @property
    def takes(self) -> frozenset[str]:
        """The parameters that say of what it is one."""
        stage = frozenset() if self.stages is Stages.NONE else {"stage"}
        return _PARAMETERS.get(self.metric, frozenset()) | stage

    @property
    def needs(self) -> frozenset[str]:
        """Those of them that cannot be left out."""
        if self.stages in (Stages.OPEN_OR_ALL, Stages.LEFT_OR_ALL):
            return frozenset()
        return self.takes - {"outcome"}

    @property
    def is_of_instant(self) -> bool:
        """Whether it tells of the deals open at T: of a period it is then that of the end."""
        return self.metric is Metric.SNAPSHOT or self is Figure.VELOCITY

    @property
    def ages(self) -> bool:
        """Whether what is still under way is in it, so that it changes though nothing happens."""
        return self.metric is Metric.SNAPSHOT or self.source in ("open", "survival", "time_to_win")

    @property
    def has_shift(self) -> bool:
        """Whether it tells where a sample of lengths lies, all of them over: then a shift does too.

        The longest alone tells nothing of that.
        """
        is_length = self.unit is FigureUnit.SECONDS and not self.ages
        return is_length and self.field != "longest"

    @property
    def adds_up(self) -> bool:
        """Of money: whether it is a sum, which of a currency that it does not show is nothing.

        Otherwise such a currency has no figure at all.
        """
        return self.metric not in (Metric.VELOCITY, Metric.BOTTLENECKS)

    @property
    def source(self) -> str:
        """Of lengths: of which ones it is a figure."""
        return self.part.partition(".")[0]

    @property
    def field(self) -> str:
        """The last name of its part."""
        return self.part.rpartition(".")[2]


_OF_VISITS: Final = frozenset({Metric.FLOW, Metric.MATRIX, Metric.TIME_IN_STAGE})
_PARAMETERS: Final = {
    Metric.MATRIX: frozenset({"to_stage"}),
    Metric.CYCLE_TIME: frozenset({"outcome"}),
    Metric.LOSS_REASONS: frozenset({"reason"}),
}
