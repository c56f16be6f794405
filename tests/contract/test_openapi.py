"""The committed openapi.json is what the code describes, and fit for every client generator."""

import json
import re
from collections.abc import Iterator
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from app.domain.access import Scope
from app.http import openapi
from app.http.links import SOURCES
from app.main import create_app
from app.settings import load_settings

COMMITTED = Path(__file__).parents[2] / "openapi.json"


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(load_settings())


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return json.loads(openapi.text(app))  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_the_committed_description_is_the_present_one(app: FastAPI) -> None:
    assert COMMITTED.read_text() == openapi.text(app), "run `make openapi` and commit the result"


def test_the_description_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    openapi_spec_validator.validate(document)


def test_every_operation_has_a_known_tag_a_camel_case_id_and_a_summary(
    document: dict[str, Any],
) -> None:
    known = {tag["name"] for tag in document["tags"]}
    seen: set[str] = set()
    for name, operation in operations(document):
        assert len(operation["tags"]) == 1, name
        assert set(operation["tags"]) <= known, name
        assert re.fullmatch("[a-z]+([A-Z][a-z0-9]*)*", operation["operationId"]), name
        assert operation["operationId"] not in seen, name
        seen.add(operation["operationId"])
        assert operation["summary"], name


def test_every_operation_declares_problems_as_its_only_errors(document: dict[str, Any]) -> None:
    problems = document["components"]["responses"]
    for name, operation in operations(document):
        errors = {s: r for s, r in operation["responses"].items() if int(s) >= 400}
        assert {"400", "500", "503"} <= set(errors), name
        for status, response in errors.items():
            component = problems[response["$ref"].rpartition("/")[2]]
            assert list(component["content"]) == ["application/problem+json"], (name, status)


def test_every_operation_of_the_api_needs_a_credential(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"][openapi.SECURITY_SCHEME]
    assert scheme["scheme"] == "bearer"
    for name, operation in operations(document):
        if " /v1/" in name:
            assert [list(need) for need in operation["security"]] == [[openapi.SECURITY_SCHEME]], (
                name
            )
            assert {"401", "403"} <= set(operation["responses"]), name


def test_every_scope_that_an_operation_needs_is_one_that_a_key_can_have(
    document: dict[str, Any],
) -> None:
    known = {scope.value for scope in Scope}
    for name, operation in operations(document):
        for need in operation["security"]:
            assert set(need[openapi.SECURITY_SCHEME]) <= known, name


def test_a_path_that_two_templates_fit_has_each_method_once(document: dict[str, Any]) -> None:
    paths = document["paths"]
    for one, other in combinations(paths, 2):
        parts = list(zip_longest(one.split("/"), other.split("/")))
        if all(a and b and ("{" in a or "{" in b or a == b) for a, b in parts[1:]):
            fixed = any("{" not in path for path in (one, other))  # tried first, as OpenAPI says
            assert fixed or not set(paths[one]) & set(paths[other]), (one, other)


def test_no_schema_is_made_by_the_framework_or_split_in_two(document: dict[str, Any]) -> None:
    names = set(document["components"]["schemas"])
    assert not names & {"HTTPValidationError", "ValidationError"}
    for name in names:
        assert re.fullmatch("[A-Z][A-Za-z0-9]*", name), name
        assert not name.endswith(("Input", "Output")), name


def test_every_object_has_examples_that_its_own_schema_accepts(document: dict[str, Any]) -> None:
    components = {"components": document["components"]}
    for name, schema in document["components"]["schemas"].items():
        if schema.get("type") != "object":
            continue
        assert schema.get("examples"), name
        validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", **components})
        for example in schema["examples"]:
            assert [error.message for error in validator.iter_errors(example)] == [], name


def test_every_discriminator_is_required_of_each_member(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in _walk(document):
        discriminator = schema.get("discriminator")
        if isinstance(discriminator, dict) and "mapping" in discriminator:
            for reference in discriminator["mapping"].values():
                member = schemas[reference.rpartition("/")[2]]
                assert discriminator["propertyName"] in member["required"], reference


def test_every_string_list_and_map_that_a_request_may_bear_is_capped(
    document: dict[str, Any],
) -> None:
    bodies = [
        content["schema"]
        for _, operation in operations(document)
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
        if media == "application/json"
    ]
    uncapped = {name for body in bodies for name in _uncapped(body, document, "")}
    assert uncapped == set()


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from _walk(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _walk(inner)


def _uncapped(
    schema: dict[str, Any], document: dict[str, Any], place: str, seen: frozenset[str] = frozenset()
) -> Iterator[str]:
    """The places where a request could grow without end but for the limit of a whole body."""
    if schema.get("readOnly"):
        return  # passed over: nothing of it is kept
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            inner = document["components"]["schemas"][name]
            yield from _uncapped(inner, document, name, seen | {name})
        return
    for union in ("anyOf", "oneOf"):
        for member in schema.get(union, ()):
            yield from _uncapped(member, document, place, seen)
    bounds = {"string": "maxLength", "array": "maxItems"}
    kind = schema.get("type")
    bounded = {"enum", "const", "pattern", "format", bounds.get(str(kind))} & set(schema)
    if kind in bounds and not bounded:
        yield place
    if kind == "object" and "properties" not in schema and "maxProperties" not in schema:
        yield place
    if "items" in schema:
        yield from _uncapped(schema["items"], document, f"{place}[]", seen)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _uncapped(schema["additionalProperties"], document, f"{place}{{}}", seen)
    for field, inner in schema.get("properties", {}).items():
        yield from _uncapped(inner, document, f"{place}.{field}", seen)


def test_every_path_with_an_id_is_led_to_by_a_link(document: Any) -> None:
    operations = {
        operation["operationId"]: (path, operation)
        for path, item in document["paths"].items()
        for operation in item.values()
    }
    assert {source.operation for source in SOURCES} <= set(operations)
    named = {name for name, (path, _) in operations.items() if "{" in path}
    linked = {
        link["operationId"]
        for _, operation in operations.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert named <= linked
