"""The catalogue says what the answers hold: every figure, every rule, every null, in two languages.

The answers are known by their own schemas, and those by the application's OpenAPI document.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.cli.definitions import page
from app.domain.catalogue import CATALOGUE, definition
from app.domain.catalogue.notions import NOTIONS
from app.domain.catalogue.parts import LABELS
from app.domain.catalogue.writing import (
    UNITS,
    FigureDefinition,
    Language,
    MetricDefinition,
    Text,
    Unit,
)
from app.domain.errors import NotFound
from app.http import openapi
from app.http.schemas.definitions import DefinitionRef
from app.main import create_app
from app.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
METRICS = "/v1/pipelines/{pipeline}/metrics/"
EVERY_METRIC = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.id)
MONEY = "MoneySum"

Schema = dict[str, Any]


@cache
def document() -> Schema:
    return openapi.document(create_app(Settings(database_url="postgresql://localhost/sluice")))


def resolved(schema: Schema) -> tuple[Schema, bool, str]:
    """The schema itself, whether it may be null, and the name of its component."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
    assert len(kinds) == 1, schema
    nullable = "anyOf" in schema
    name = str(kinds[0].get("$ref", "")).rpartition("/")[2]
    return (document()["components"]["schemas"][name] if name else kinds[0]), nullable, name


def operation(metric: MetricDefinition) -> Schema:
    described: Schema = document()["paths"][METRICS + metric.path]["get"]
    return described


def answer(metric: MetricDefinition) -> Schema:
    success = operation(metric)["responses"]["200"]
    schema, _, _ = resolved(success["content"]["application/json"]["schema"])
    return schema


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, bool, bool]]:
    """Every field below: its path, whether it may be null, whether it is a value by itself."""
    for name, field in schema["properties"].items():
        here = f"{path}.{name}" if path else name
        inner, nullable, component = resolved(field)
        if inner.get("type") == "array":
            inner, _, component = resolved(inner["items"])
            if component != MONEY:
                assert "properties" in inner, f"{here} lists values without a name"
                yield here, nullable, False
                yield from fields(inner, f"{here}[]")
                continue
        is_value = component == MONEY or "properties" not in inner
        yield here, nullable, is_value
        if not is_value:
            yield from fields(inner, here)


def choices(schema: Schema | None) -> set[str]:
    """What a field or a parameter can be, where that is one of a few."""
    if schema is None or {"type", "anyOf"} <= set(schema):  # text, in one format or another
        return set()
    inner, _, _ = resolved(schema)
    return set(inner.get("enum", [inner["const"]] if "const" in inner else []))


def figures_of(metric: MetricDefinition) -> list[tuple[str, bool, bool]]:
    root = answer(metric)
    if metric.root is None:
        about = {"definition", "policy", "groups"}
        shown = {name: field for name, field in root["properties"].items() if name not in about}
        root = {"properties": shown}
    else:
        root, _, _ = resolved(root["properties"][metric.root])
    return list(fields(root))


def defined(figure: FigureDefinition, place: str = "") -> Iterator[tuple[str, FigureDefinition]]:
    path = f"{place}.{figure.path}" if place else figure.path
    yield path, figure
    for part in figure.parts:
        yield from defined(part, path)


def all_defined(metric: MetricDefinition) -> dict[str, FigureDefinition]:
    return dict(pair for figure in metric.figures for pair in defined(figure))


def texts(metric: MetricDefinition) -> Iterator[Text]:
    yield from (metric.title, metric.question, metric.population)
    yield from (policy.meaning for policy in metric.policies)
    yield from (*metric.balances, *metric.notes)
    for figure in all_defined(metric).values():
        yield from filter(None, (figure.title, figure.formula, figure.population, figure.null_when))


def test_every_metric_that_can_be_asked_for_is_defined_and_no_other() -> None:
    asked = {path.removeprefix(METRICS) for path in document()["paths"] if path.startswith(METRICS)}
    lists = {path for path in asked if path.endswith("/deals")}  # behind a count
    assert {metric.path for metric in CATALOGUE} == asked - lists


def test_a_metric_is_known_by_its_path() -> None:
    assert [metric.id for metric in CATALOGUE] == [
        metric.path.replace("/", "-") for metric in CATALOGUE
    ]
    assert all(definition(metric.id) is metric for metric in CATALOGUE)


def test_an_unknown_metric_has_no_definition() -> None:
    with pytest.raises(NotFound):
        definition("turnover")


def test_an_answer_refers_to_its_definition_by_id_and_version() -> None:
    funnel = definition("funnel")
    assert DefinitionRef.of("funnel") == DefinitionRef(id="funnel", version=funnel.version)


@EVERY_METRIC
def test_every_figure_of_an_answer_is_defined_and_no_other(metric: MetricDefinition) -> None:
    written = [leaf for figure in metric.figures for leaf in figure.leaves()]
    assert len(written) == len(set(written))
    shown = {path for path, _, is_value in figures_of(metric) if is_value}
    undefined = shown - set(written)
    labels = {leaf for leaf in undefined if leaf.rpartition(".")[2] in LABELS}
    assert undefined - labels == set()
    assert set(written) - shown == set()


@EVERY_METRIC
def test_a_figure_that_may_be_null_says_when(metric: MetricDefinition) -> None:
    nullable = {path: may for path, may, _ in figures_of(metric)}
    said = {path: figure.null_when is not None for path, figure in all_defined(metric).items()}
    assert said == {path: nullable[path] for path in said}


@EVERY_METRIC
def test_every_rule_of_a_policy_is_explained_with_its_choices(metric: MetricDefinition) -> None:
    policy, _, _ = resolved(answer(metric)["properties"]["policy"])
    asked = {
        parameter["name"]: parameter["schema"] for parameter in operation(metric)["parameters"]
    }
    assert {rule.name for rule in metric.policies} == set(policy["properties"])
    for rule in metric.policies:
        echoed, parameter = choices(policy["properties"][rule.name]), choices(asked.get(rule.name))
        assert bool(rule.values) == bool(echoed), rule.name
        assert set(rule.values) <= echoed, rule.name
        # What a metric takes only one way is echoed, though it cannot be asked for.
        assert not parameter or set(rule.values) == parameter & echoed, rule.name


@EVERY_METRIC
def test_a_formula_names_only_figures_that_are_defined(metric: MetricDefinition) -> None:
    known = {figure.name for each in CATALOGUE for figure in all_defined(each).values()}
    known |= {"entered_at", "left_at", "from_stage", "target_conversion", "target_dwell"}
    for figure in all_defined(metric).values():
        named = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", figure.formula.en))
        assert named <= known, figure.path


@EVERY_METRIC
def test_every_text_is_written_in_both_languages_and_names_the_same_fields(
    metric: MetricDefinition,
) -> None:
    for text in texts(metric):
        assert text.en.strip() == text.en, text
        assert text.zh.strip() == text.zh, text
        assert not _han(text.en), text
        assert _han(text.zh) or text.zh == text.en, text  # a formula
        assert _fields(text.en) == _fields(text.zh), text
    for text in (metric.title, metric.question, metric.population):
        assert _han(text.zh), text


def test_the_notions_are_written_in_both_languages_and_name_the_same_fields() -> None:
    for notion in NOTIONS:
        assert _han(notion.meaning.zh), notion
        assert not _han(notion.title.en + notion.meaning.en), notion
        assert _fields(notion.meaning.en) == _fields(notion.meaning.zh), notion


def test_every_unit_has_a_name_and_a_use() -> None:
    used = {figure.unit for metric in CATALOGUE for figure in all_defined(metric).values()}
    assert set(UNITS) == set(Unit) == used


@pytest.mark.parametrize(("language", "name"), [("en", "metrics.md"), ("zh", "metrics.zh.md")])
def test_the_committed_page_is_what_the_catalogue_says(language: Language, name: str) -> None:
    said = f"write it anew: `sluice metric-definitions --language {language} > docs/{name}`"
    assert (DOCS / name).read_text(encoding="utf-8") == page(language), said


def _han(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def _fields(text: str) -> set[str]:
    return set(re.findall(r"`[^`]+`", text))
