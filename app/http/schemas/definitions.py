"""What the metrics mean, as callers see it; and the reference to it that every answer bears."""

from typing import Any, Final, Self

from pydantic import ConfigDict, Field

from app.domain import catalogue
from app.domain.catalogue import writing
from app.domain.catalogue.writing import Unit
from app.http.schemas.common import Page, Response

_TEXT: Final[dict[str, Any]] = {"en": "Win rate", "zh": "赢单率"}
_FORMULA: Final[dict[str, Any]] = {"en": "won / (won + lost)", "zh": "won / (won + lost)"}
_PART: Final[dict[str, Any]] = {
    "name": "rate",
    "title": {"en": "Rate", "zh": "比率"},
    "formula": {"en": "count / of", "zh": "count / of"},
    "unit": "rate",
    "null_when": {"en": "`of` is 0", "zh": "`of` 为 0 时"},
}
_FIGURE: Final[dict[str, Any]] = {
    "name": "rate",
    "path": "rate",
    "title": _TEXT,
    "formula": _FORMULA,
    "unit": "share",
    "population": None,
    "null_when": None,
    "parts": [_PART],
}
_POLICY: Final[dict[str, Any]] = {
    "name": "population",
    "meaning": {"en": "the deals closed in the period", "zh": "统计期内关闭的商机"},
    "values": ["closed"],
}
_METRIC: Final[dict[str, Any]] = {
    "id": "win-rate",
    "version": 1,
    "path": "/v1/pipelines/{pipeline}/metrics/win-rate",
    "root": "total",
    "title": _TEXT,
    "question": {"en": "How many did we win?", "zh": "我们赢下了多少？"},
    "population": {"en": "deals closed in the period", "zh": "统计期内关闭的商机"},
    "policies": [_POLICY],
    "figures": [_FIGURE],
    "balances": [],
    "notes": [],
    "sources": [],
}


def _example(shown: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [shown]})


class DefinitionRef(Response):
    """By which definition an answer was made; figures of one version mean the same."""

    model_config = _example({"id": "win-rate", "version": 1})

    id: str = Field(description="The metric, as in `GET /v1/metric-definitions/{metric}`.")
    version: int = Field(description="Rises whenever a figure comes to mean something else.")

    @classmethod
    def of(cls, metric: str) -> Self:
        """The present definition of the metric of this id. Raises NotFound."""
        defined = catalogue.definition(metric)
        return cls(id=defined.id, version=defined.version)


def defined(metric: str) -> dict[str, Any]:
    """That reference as an example shows it."""
    return DefinitionRef.of(metric).model_dump()


class Bilingual(Response):
    """The same in English and in Chinese; field names stand in both as they are in answers."""

    model_config = _example(_TEXT)

    en: str
    zh: str

    @classmethod
    def of(cls, text: writing.Text) -> Self:
        return cls(en=text.en, zh=text.zh)


class FigurePart(Response):
    """One field of a figure that is an object."""

    model_config = _example(_PART)

    name: str
    title: Bilingual
    formula: Bilingual
    unit: Unit
    null_when: Bilingual | None

    @classmethod
    def of(cls, part: writing.FigureDefinition) -> Self:
        return cls(
            name=part.name,
            title=Bilingual.of(part.title),
            formula=Bilingual.of(part.formula),
            unit=part.unit,
            null_when=part.null_when and Bilingual.of(part.null_when),
        )


class FigureDefinition(Response):
    """What one figure of an answer is."""

    model_config = _example(_FIGURE)

    name: str = Field(description="The field's name in the answer.")
    path: str = Field(
        description="Where it stands below the metric's `root`; `[]` follows the names of lists."
    )
    title: Bilingual
    formula: Bilingual
    unit: Unit = Field(
        description="`share`: an object of counts, rate and interval; `rate`: a number from 0 to 1;"
        " `money`: exact, by currency; `as_asked`: that of the figure asked for."
    )
    population: Bilingual | None = Field(description="Null: the metric's.")
    null_when: Bilingual | None = Field(description="Null: it is never null.")
    parts: list[FigurePart] = Field(description="Its fields, where it is an object.")

    @classmethod
    def of(cls, figure: writing.FigureDefinition) -> Self:
        return cls(
            name=figure.name,
            path=figure.path,
            title=Bilingual.of(figure.title),
            formula=Bilingual.of(figure.formula),
            unit=figure.unit,
            population=figure.population and Bilingual.of(figure.population),
            null_when=figure.null_when and Bilingual.of(figure.null_when),
            parts=[FigurePart.of(part) for part in figure.parts],
        )


class PolicyDefinition(Response):
    """What one field of an answer's `policy` means."""

    model_config = _example(_POLICY)

    name: str
    meaning: Bilingual
    values: list[str] = Field(
        description="What it can be, the default first; empty where that is no choice among few."
    )

    @classmethod
    def of(cls, policy: writing.PolicyDefinition) -> Self:
        return cls(
            name=policy.name, meaning=Bilingual.of(policy.meaning), values=list(policy.values)
        )


class MetricDefinition(Response):
    """What one metric says: of whom, by what rules, figure by figure."""

    model_config = _example(_METRIC)

    id: str
    version: int = Field(description="Rises whenever a figure comes to mean something else.")
    path: str = Field(description="Where it is asked for.")
    root: str | None = Field(
        description="The field of its answer that holds the figures; null: the answer itself does."
    )
    title: Bilingual
    question: Bilingual = Field(description="What it answers.")
    population: Bilingual = Field(description="What is counted.")
    policies: list[PolicyDefinition]
    figures: list[FigureDefinition]
    balances: list[Bilingual] = Field(description="Equations that every answer satisfies.")
    notes: list[Bilingual]
    sources: list[str] = Field(description="What its methods are taken from.")

    @classmethod
    def of(cls, metric: writing.MetricDefinition) -> Self:
        return cls(
            id=metric.id,
            version=metric.version,
            path=f"/v1/pipelines/{{pipeline}}/metrics/{metric.path}",
            root=metric.root,
            title=Bilingual.of(metric.title),
            question=Bilingual.of(metric.question),
            population=Bilingual.of(metric.population),
            policies=[PolicyDefinition.of(policy) for policy in metric.policies],
            figures=[FigureDefinition.of(figure) for figure in metric.figures],
            balances=[Bilingual.of(balance) for balance in metric.balances],
            notes=[Bilingual.of(note) for note in metric.notes],
            sources=list(metric.sources),
        )


class MetricDefinitionList(Page[MetricDefinition]):
    """The definitions of all metrics, on one page."""

    model_config = _example({"items": [_METRIC], "page": {"next_cursor": None}})
