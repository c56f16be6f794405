"""How the definitions of metrics are written down: what a metric is, what a figure of it is.

Data only, every text in English and in Chinese side by side. What the texts say is computed by
`domain.funnel` and `domain.measures`; nothing here computes anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Text:
    """The same in English and in Chinese."""

    en: str
    zh: str

    def of(self, language: Language) -> str:
        return self.en if language == "en" else self.zh


def same(text: str) -> Text:
    """A formula, which reads alike in both languages."""
    return Text(text, text)


class Unit(StrEnum):
    """What a figure is counted or measured in."""

    DEALS = "deals"
    VISITS = "visits"
    MOVES = "moves"
    CASES = "cases"
    AVERAGE = "average"
    SHARE = "share"
    RATE = "rate"
    QUOTIENT = "quotient"
    SECONDS = "seconds"
    DAYS = "days"
    DEALS_PER_DAY = "deals_per_day"
    MONEY = "money"
    MONEY_PER_DAY = "money_per_day"
    PLACE = "place"
    AS_ASKED = "as_asked"


UNITS: Final = MappingProxyType(
    {
        Unit.DEALS: Text("deals", "商机"),
        Unit.VISITS: Text("visits", "停留"),
        Unit.MOVES: Text("moves", "流转"),
        Unit.CASES: Text("cases", "样本"),
        Unit.AVERAGE: Text("deals on average", "平均商机数"),
        Unit.SHARE: Text("share", "占比"),
        Unit.RATE: Text("0…1", "0…1"),
        Unit.QUOTIENT: Text("quotient", "比值"),
        Unit.SECONDS: Text("seconds", "秒"),
        Unit.DAYS: Text("days", "天"),
        Unit.DEALS_PER_DAY: Text("deals a day", "商机/天"),
        Unit.MONEY: Text("money", "金额"),
        Unit.MONEY_PER_DAY: Text("money a day", "金额/天"),
        Unit.PLACE: Text("place", "名次"),
        Unit.AS_ASKED: Text("the figure's", "同所问数字"),
    }
)
"""What people call the units."""


@dataclass(frozen=True, slots=True)
class PolicyDefinition:
    """One rule by which figures are made: a field of an answer's `policy`.

    `values` are those that it can have, the default first; empty where they are not few.
    """

    name: str
    meaning: Text
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FigureDefinition:
    """One figure of an answer.

    `path` is where it stands: field names from the top of the figures, with `[]` after those of
    lists. `parts` are the fields of a figure that is an object, like a share with its counts; their
    paths are relative to it. `population` stands only where it is not simply the metric's.
    """

    path: str
    title: Text
    formula: Text
    unit: Unit
    population: Text | None = None
    null_when: Text | None = None
    parts: tuple["FigureDefinition", ...] = ()

    @property
    def name(self) -> str:
        """The field's name in the answer."""
        return self.path.rpartition(".")[2].removesuffix("[]")

    @property
    def place(self) -> str:
        """What the figure is a field of: the path before its name, empty at the top."""
        return self.path.rpartition(".")[0]

    def leaves(self) -> Iterator[str]:
        """The paths of the values that it consists of: its own, or those of its parts."""
        for part in self.parts:
            yield from (f"{self.path}.{leaf}" for leaf in part.leaves())
        if not self.parts:
            yield self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """What one metric says, of whom, by what rules.

    `version` rises whenever a figure comes to mean something else, so that two answers of one
    version can be compared. `path` is the metric's below `/v1/pipelines/{pipeline}/metrics/`, and
    `root` the field of its answer that holds the figures; None: the answer itself does. `balances`
    are equations that every answer satisfies, `sources` what a method is taken from, `example` is
    one worked out in Markdown.
    """

    id: str
    version: int
    path: str
    root: str | None = "total"
    title: Text
    question: Text
    population: Text
    policies: tuple[PolicyDefinition, ...]
    figures: tuple[FigureDefinition, ...]
    balances: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()
    sources: tuple[str, ...] = ()
    example: Text | None = None


def under(place: str, *figures: FigureDefinition) -> tuple[FigureDefinition, ...]:
    """The figures, each at that place: `under("stages[]", …)` are those of every stage."""
    return tuple(replace(figure, path=f"{place}.{figure.path}") for figure in figures)
