"""What other people's linters say of the description, and our conventions as rules of theirs.

The rules are in tests/clients, each that is switched off with its reason. A warning is an error.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.http import openapi
from app.main import create_app
from app.settings import load_settings

CLIENTS = Path(__file__).parents[1] / "clients"
TOOLS = CLIENTS / "node_modules" / ".bin"
RULES = CLIENTS / "spectral.yaml"

# No word of it leaves this machine.
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "DO_NOT_TRACK": "1"}

pytestmark = [
    pytest.mark.skipif(not TOOLS.exists(), reason="`make clients` found no Node.js"),
    pytest.mark.xdist_group("clients"),
]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the description, and with what generators of clients are given."""
    folder = tmp_path_factory.mktemp("described")
    document = json.loads(openapi.text(create_app(load_settings())))
    write(folder / "openapi.json", document)
    del document["webhooks"]
    write(folder / "openapi-client.json", document)
    return folder


def write(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document))


def told(tool: str, *arguments: str | Path) -> tuple[int, Any]:
    """The status that a linter leaves with, and what it found."""
    done = subprocess.run(
        [TOOLS / tool, "lint", *arguments],
        cwd=CLIENTS,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def spectral(*files: Path) -> tuple[int, Any]:
    severe = ("--fail-severity", "hint", "--format", "json", "--quiet", "--ruleset", RULES)
    return told("spectral", *files, *severe)


@pytest.mark.parametrize("file", ["openapi.json", "openapi-client.json"])
def test_redocly_finds_nothing(described: Path, file: str) -> None:
    limit = ("--max-problems", "1000", "--format", "json", "--config", CLIENTS / "redocly.yaml")
    status, found = told("redocly", described / file, *limit)
    assert [(each["ruleId"], each["message"]) for each in found["problems"]] == []
    assert (status, found["totals"]["ignored"]) == (0, 0)


def test_spectral_finds_nothing(described: Path) -> None:
    status, found = spectral(described / "openapi.json", described / "openapi-client.json")
    assert [(each["code"], each["path"], each["message"]) for each in found] == []
    assert status == 0


def test_each_rule_of_our_own_finds_what_it_is_for(tmp_path: Path) -> None:
    described = {"type": "object", "examples": [{}]}
    answer = {
        "201": {"content": {"application/json": {"schema": {"type": "array"}}}},
        "400": {"content": {"application/json": {}}},
    }
    body = {"content": {"application/json": {"schema": described}}}
    parameter = {"name": "dealId", "in": "query", "schema": {"type": "string"}}
    operation = {"operationId": "make_deal", "tags": [], "responses": answer}
    properties = {"closedAt": {"anyOf": [{"format": "date"}, {"format": "date-time"}]}}
    breaking = {
        "openapi": "3.1.0",
        "info": {"title": "Breaks every rule", "version": "1"},
        "paths": {
            "/v1/badDeals": {
                "post": {**operation, "parameters": [parameter], "requestBody": body},
                "patch": {**operation, "parameters": [parameter]},
            }
        },
        "components": {
            "schemas": {
                "bad_deal": {"type": "object", "properties": properties, "examples": []},
                "DealPage": {**described, "properties": {"deals": {}}},
            }
        },
    }
    write(tmp_path / "openapi.json", breaking)
    ours = set(re.findall(r"^  (sluice-[a-z-]+):", RULES.read_text(), re.MULTILINE))
    _, found = spectral(tmp_path / "openapi.json")
    assert {each["code"] for each in found if each["code"].startswith("sluice-")} == ours


@pytest.mark.parametrize("rules", ["spectral.yaml", "redocly.yaml"])
def test_a_rule_that_is_switched_off_has_its_reason_beside_it(rules: str) -> None:
    lines = (CLIENTS / rules).read_text().splitlines()
    off = [number for number, line in enumerate(lines) if re.search(r": off\b", line)]
    assert off
    for number in off:
        # One reason may be for several rules that stand together.
        above = next(line for line in reversed(lines[:number]) if not line.endswith(": off"))
        assert above.strip().startswith("#") or "#" in lines[number], lines[number]
