"""The guide names all that a caller may meet, its links lead somewhere, and its examples are true.

By rule: whoever adds a code, a setting, a scope, an event or an operation is told here that the
pages do not know it yet.
"""

import json
import re
from itertools import pairwise
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from app.cli import reference
from app.domain.access import RowScope, Scope
from app.http import openapi
from app.http.codes import BREACHES, CODES
from app.http.guide import FOLDER, INDEX, PAGES, files, headings, led, mappings
from app.http.schemas.events import EVENTS, EventName
from app.main import create_app
from app.settings import Settings, load_settings, variable
from tests.guide import Command, Fence, curls, everything, fences, links, text, tokens, unassigned

METHODS = ("get", "put", "post", "delete", "patch")
VALUED = {"-X", "-H", "-d", "-F", "-o", "--request", "--header", "--data"}
"""Options of curl that take the next word."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(openapi.text(create_app(load_settings())))  # type: ignore[no-any-return]


TYPES = {get_args(event.model_fields["type"].annotation)[0] for event in EVENTS}
SUBJECTS = {
    "error codes": {*CODES, *BREACHES},
    "settings": {variable(name) for name in Settings.model_fields},
    "scopes": {scope.value for scope in Scope},
    "row scopes": {scope.value for scope in RowScope},
    "events": {*TYPES, *get_args(EventName)},
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_word_that_a_caller_may_meet_is_named_in_some_page(subject: str) -> None:
    said = everything()
    assert [word for word in sorted(SUBJECTS[subject]) if f"`{word}`" not in said] == []


def test_every_operation_is_named_with_its_method_and_path(document: dict[str, Any]) -> None:
    said = everything()
    operations = [
        f"`{method.upper()} {path}`"
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    assert [each for each in operations if each not in said] == []


def test_the_reference_is_what_the_code_makes_of_it(document: dict[str, Any]) -> None:
    assert text("reference") == reference.page(document), "run `make docs`"


def test_the_index_leads_to_every_page() -> None:
    assert {f"{name}.md" for name in PAGES[1:]} <= set(links(INDEX))


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page: str) -> None:
    for link in links(page):
        if urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition("#")
        target = FOLDER / path if path else FOLDER / f"{page}.md"
        assert target.exists(), link
        if anchor:
            assert anchor in {slug for _, slug in headings(tokens(target))}, link


@pytest.mark.parametrize("page", PAGES)
def test_no_link_leads_to_what_is_not_served(page: str) -> None:
    assert [link for link in links(page) if led(link) is None] == []


def test_every_file_that_is_given_out_is_led_to_from_a_page() -> None:
    led_to = {led(link) for page in PAGES for link in links(page)}
    assert {f"imports/{name}" for name in mappings()} < files()
    assert {f"/docs/guide/{name}" for name in files()} <= led_to


@pytest.mark.parametrize("block", [*fences("json")], ids=str)
def test_every_json_example_is_json_and_what_its_schema_says(
    block: Fence, document: dict[str, Any]
) -> None:
    """The name of a schema may stand behind the fence; `, …` stands for more of the same."""
    example = json.loads(block.code.replace(", …", ""))
    schema = block.info.removeprefix("json").strip()
    if schema:
        check(example, {"$ref": f"#/components/schemas/{schema}"}, document)


@pytest.mark.parametrize("command", [*curls()], ids=str)
def test_every_curl_asks_for_what_there_is_with_a_body_that_is_taken(
    command: Command, document: dict[str, Any]
) -> None:
    words = command.words
    options = [(a, b) for a, b in pairwise(words) if a in VALUED]
    values = [at + 1 for at, word in enumerate(words) if word in VALUED]
    (url,) = (
        word
        for at, word in enumerate(words)
        if at and at not in values and word.startswith("$BASE/")
    )
    bodies = [body for option, body in options if option in {"-d", "--data"}]
    form = any(option == "-F" for option, _ in options)
    said = dict(options).get("-X") or dict(options).get("--request")
    method = (said or ("POST" if bodies or form else "GET")).lower()
    path, _, query = url.removeprefix("$BASE").partition("?")
    if path in {"/openapi.json", "/openapi-client.json"}:
        return
    if path.startswith("/docs"):
        assert led(f"{path.removeprefix('/docs/guide/')}")
        return
    operation = operation_of(document, method, path)
    known = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
    assert {part.partition("=")[0] for part in query.split("&") if part} <= known
    for body in bodies:
        content = operation["requestBody"]["content"]["application/json"]
        check(json.loads(body), content["schema"], document)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_a_command_is_assigned_on_its_page_or_at_the_guides_beginning(
    page: str,
) -> None:
    beginning = next(fences("sh")).code
    assert unassigned(beginning) == set()
    commands = [each.code for each in fences("sh") if each.page == page]
    assert unassigned("\n".join([beginning, *commands])) == set()


def test_every_variable_of_the_readmes_commands_is_assigned_before() -> None:
    readme = (FOLDER.parent / "README.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert unassigned("\n".join(commands)) == set()


def test_no_command_stands_where_nothing_looks_at_it() -> None:
    assert [str(each) for each in fences("", "bash", "shell") if "curl " in each.code] == []


def operation_of(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """The operation that a path, variables of a shell in it, is of; literal paths go first."""
    for template in sorted(document["paths"], key=lambda each: each.count("{")):
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", template))
        if re.fullmatch(pattern, path) and method in document["paths"][template]:
            return document["paths"][template][method]  # type: ignore[no-any-return]
    raise AssertionError(f"there is no {method.upper()} {path}")


def check(example: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(example)] == []
