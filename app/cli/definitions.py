"""`sluice metric-definitions`: the page on metrics, written from the catalogue.

What is said stands in `domain.catalogue`; here is only how a page is laid out. docs/metrics.md and
docs/metrics.zh.md are what this prints, and a test fails when they are not.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Annotated, Final

import typer

from app.domain.catalogue import CATALOGUE
from app.domain.catalogue.notions import NOTIONS
from app.domain.catalogue.parts import DURATION_PARTS, ESTIMATE_PARTS, LABELS, SHARE_PARTS
from app.domain.catalogue.policies import AT_MOVE, SHARED
from app.domain.catalogue.writing import (
    UNITS,
    FigureDefinition,
    Language,
    MetricDefinition,
    Text,
    Unit,
)

_GENERATED: Final = "<!-- Made by `sluice metric-definitions` from app/domain/catalogue. -->"
_TITLE: Final = Text("Metrics", "指标口径")
_INTRODUCTION: Final = Text(
    "What every figure means, to the digit. The definitions stand in code a second time, in plain"
    " Python (`app/domain/funnel.py`, `app/domain/measures/`); the database counts the same sets,"
    " and property tests hold the two together on random pasts. The same page"
    " [in Chinese](metrics.zh.md).",
    "每个数字的确切含义。这些定义在代码中另有一份纯 Python 的写法（`app/domain/funnel.py`、"
    "`app/domain/measures/`）；数据库统计的是同样的集合，属性测试用随机生成的历史保证两者一致。"
    "本页另有[英文版](metrics.md)。",
)
_SHARED: Final = Text("What all figures share", "所有数字的共同约定")
_PARTS: Final = Text("Shares and lengths", "占比与时长")
_OF_A_SHARE: Final = Text(
    "A figure whose unit is *share* is an object:", "单位为*占比*的数字是一个对象："
)
_OF_A_SUMMARY: Final = Text(
    "A *summary* of lengths is an object as well:", "时长的*汇总*也是一个对象："
)
_OF_AN_ESTIMATE: Final = Text(
    "So is an *estimate* from lengths of which some are still running:",
    "由部分尚未结束的时长所作的*估计*也是一个对象：",
)
_LABELS: Final = Text(
    "Fields beside the figures that say what they are about:",
    "数字旁边说明其所指的字段：",
)
_SUMMARY: Final = Text("seconds, a *summary*", "秒，*汇总*")
_ESTIMATE: Final = Text("seconds, an *estimate*", "秒，*估计*")
_USUAL: Final = {
    SHARE_PARTS: UNITS[Unit.SHARE],
    DURATION_PARTS: _SUMMARY,
    ESTIMATE_PARTS: _ESTIMATE,
}
"""What objects that stand in many answers are called; their parts are explained once."""
_HEAD: Final = Text("| field | what it is | formula | unit |", "| 字段 | 名称 | 公式 | 单位 |")
_COUNTED: Final = Text("**Counted**", "**统计对象**")
_IN: Final = Text("In `{}`:", "`{}` 中：")
_NULL: Final = Text("null: {}", "以下情况为 null：{}")
_AT_MOVE: Final = Text("`attribution` defaults to `at_move`.", "`attribution` 默认为 `at_move`。")
_ALWAYS: Final = Text("Always:", "恒有：")
_EXAMPLE: Final = Text("A worked example", "算例")
_SOURCES: Final = Text("From: {}.", "出处：{}。")
_STOP: Final = Text(".", "。")
_COLON: Final = Text(": ", "：")
_AND: Final = Text("; ", "；")
_VERSION: Final = Text("definition {} in version {}", "定义 {}，第 {} 版")


def metric_definitions(
    *,
    language: Annotated[Language, typer.Option(help="Of the page.")] = "en",
) -> None:
    """Print the page that says what every figure means."""
    typer.echo(page(language), nl=False)


def page(language: Language) -> str:
    """The whole page, in Markdown."""
    stop, colon = _STOP.of(language), _COLON.of(language)
    blocks = [
        _GENERATED,
        f"# {_TITLE.of(language)}",
        _INTRODUCTION.of(language),
        f"## {_SHARED.of(language)}",
        "\n".join(
            f"- **{notion.title.of(language)}{stop}** {notion.meaning.of(language)}"
            for notion in NOTIONS
        ),
        f"## {_PARTS.of(language)}",
        _OF_A_SHARE.of(language),
        _table(SHARE_PARTS, language),
        _OF_A_SUMMARY.of(language),
        _table(DURATION_PARTS, language),
        _OF_AN_ESTIMATE.of(language),
        _table(ESTIMATE_PARTS, language),
        _LABELS.of(language),
        "\n".join(f"- `{name}`{colon}{meaning.of(language)}" for name, meaning in LABELS.items()),
    ]
    for metric in CATALOGUE:
        blocks += _section(metric, language)
    return "\n\n".join(blocks) + "\n"


def _section(metric: MetricDefinition, language: Language) -> Iterator[str]:
    stop, colon = _STOP.of(language), _COLON.of(language)
    yield f"## {metric.title.of(language)}"
    version = _VERSION.of(language).format(f"`{metric.id}`", metric.version)
    yield f"`GET /v1/pipelines/{{pipeline}}/metrics/{metric.path}`{colon}{version}"
    yield f"*{metric.question.of(language)}*"
    yield f"{_COUNTED.of(language)}{colon}{metric.population.of(language)}{stop}"
    own = [policy for policy in metric.policies if policy.name not in SHARED]
    if own:
        yield "\n".join(f"- `{policy.name}`{colon}{policy.meaning.of(language)}" for policy in own)
    if AT_MOVE in metric.policies:
        yield _AT_MOVE.of(language)
    # Tables by place, in the order in which the places first appear.
    places = list(dict.fromkeys(figure.place for figure in metric.figures))
    ordered = sorted(metric.figures, key=lambda figure: places.index(figure.place))
    for place, figures in groupby(ordered, key=lambda figure: figure.place):
        if place:
            yield _IN.of(language).format(place)
        yield _table(figures, language)
    if metric.balances:
        equations = (f"- {balance.of(language)}" for balance in metric.balances)
        yield "\n".join((_ALWAYS.of(language), "", *equations))
    yield from (note.of(language) for note in metric.notes)
    if metric.example:
        yield f"### {_EXAMPLE.of(language)}"
        yield metric.example.of(language)
    if metric.sources:
        yield _SOURCES.of(language).format("; ".join(metric.sources))


def _table(figures: Iterable[FigureDefinition], language: Language) -> str:
    rows = (row for figure in figures for row in _rows(figure, language, figure.name))
    return "\n".join((_HEAD.of(language), "|---|---|---|---|", *rows))


def _rows(figure: FigureDefinition, language: Language, name: str) -> Iterator[str]:
    """The figure's own row, and those of its parts where they are not the usual ones."""
    said = [figure.formula.of(language)]
    if figure.population:
        said.append(figure.population.of(language))
    if figure.null_when:
        said.append(_NULL.of(language).format(figure.null_when.of(language)))
    unit = _USUAL.get(figure.parts, UNITS[figure.unit]).of(language)
    formula = _AND.of(language).join(said)
    yield f"| `{name}` | {figure.title.of(language)} | {formula} | {unit} |"
    if figure.parts not in _USUAL:
        for part in figure.parts:
            yield from _rows(part, language, f"{name}.{part.name}")
