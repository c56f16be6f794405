"""What a client found in the kept contract it finds still, or CHANGELOG.md says that it does not.

docs/contract/openapi.kept.json is the contract that clients were last promised, without its words.
`make contract` writes it anew, which a release does; what history knows of it is compared too, so
that keeping a broken contract does not pass for keeping the promise. docs/decisions/contract.md.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.http import openapi
from app.main import create_app
from app.settings import load_settings
from tests.breakage import Breakage, bare, breakages

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "contract" / "openapi.kept.json"
CHANGELOG = ROOT / "CHANGELOG.md"
DECLARED = re.compile(r"^- \*\*Breaking\*\* ((?:`[^`]+`(?:, )?)+): \S", re.MULTILINE)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(openapi.text(create_app(load_settings())))  # type: ignore[no-any-return]


def undeclared(found: list[Breakage], changes: str) -> list[str]:
    """What breaks and is not named; each as the line that would declare it.

    A name that ends in `*` declares every place that begins so.
    """
    named = [place for names in DECLARED.findall(changes) for place in re.findall("`(.+?)`", names)]
    exact = set(named)
    begun = tuple(place[:-1] for place in named if place.endswith("*"))
    return [
        str(each)
        for each in found
        if each.place not in exact and not (begun and each.place.startswith(begun))
    ]


def unreleased(changelog: str) -> str:
    return changelog.split("\n## [Unreleased]", 1)[1].split("\n## ", 1)[0]


def test_what_breaks_the_kept_contract_is_declared_under_unreleased(
    document: dict[str, Any],
) -> None:
    found = breakages(json.loads(KEPT.read_text()), document)
    lines = undeclared(found, unreleased(CHANGELOG.read_text()))
    assert lines == [], "clients break: mend it, or write these lines under Unreleased"


def test_a_contract_that_was_kept_anew_broke_nothing_but_what_is_declared() -> None:
    lines = [
        line
        for old, new in pairwise(kept_contracts())
        for line in undeclared(breakages(old, new), CHANGELOG.read_text())
    ]
    assert lines == [], "a kept contract was replaced by one that breaks clients"


def kept_contracts() -> Iterator[dict[str, Any]]:
    """Every contract that the main line of history has kept, the present file last."""
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("this clone has no history")
    path = KEPT.relative_to(ROOT).as_posix()
    for commit in git("log", "--first-parent", "--reverse", "--format=%H", "--", path).split():
        yield json.loads(git("show", f"{commit}:{path}"))
    yield json.loads(KEPT.read_text())


def git(*arguments: str) -> str:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        command = ["git", "-C", ROOT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=ours, check=False)
    except FileNotFoundError:
        pytest.skip("there is no git here")
    if done.returncode != 0:
        pytest.skip(f"no history can be read here: {done.stderr.strip()}")
    return done.stdout


def test_the_kept_contract_is_one_that_this_service_could_have_written(
    document: dict[str, Any],
) -> None:
    kept = json.loads(KEPT.read_text())
    assert kept == bare(kept)
    assert breakages(document, bare(document)) == []
    assert set(kept) <= set(bare(document))


def test_a_declaration_names_places_and_says_what_has_changed() -> None:
    found = [Breakage("GET /v1/me", "the operation is gone"), Breakage("Deal.name", "is gone")]
    lines = [str(each) for each in found]
    assert undeclared(found, "") == lines
    assert undeclared(found, "\n".join(lines)) == []
    assert undeclared(found, "- **Breaking** `GET /v1/me`, `Deal.name`: both are gone.") == []
    assert undeclared(found, "- **Breaking** `GET /v1/*`: gone.") == lines[1:]
    assert undeclared(found, "- **Breaking** `Deal`: all of it.") == lines
    assert undeclared(found, "- **Breaking** `GET /v1/me`:\n- `Deal.name`: gone.") == lines
    log = "# Changelog\n\n## [Unreleased]\n\nnew\n\n## [0.1.0] - 2026-03-01\n\nold\n"
    assert unreleased(log).strip() == "new"
