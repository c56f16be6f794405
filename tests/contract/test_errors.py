"""The table of error codes is a contract: complete, and the same wherever it is shown."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.errors import SluiceError
from app.domain.pipeline import StageKind
from app.http import problems
from app.http.codes import ADVICE, BREACHES, CODES

APP = Path(__file__).parents[2] / "app"
DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"


def kinds_of(branch: type[SluiceError]) -> Iterator[type[SluiceError]]:
    for kind in branch.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def test_every_refusal_has_a_code_of_its_own_that_the_table_knows() -> None:
    codes = [kind.code for kind in kinds_of(SluiceError)]
    assert len(codes) == len(set(codes))
    assert set(codes) <= set(CODES)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", code) for code in CODES)


def test_every_code_says_what_to_do_and_no_advice_is_for_a_code_that_is_gone() -> None:
    assert set(ADVICE) == set(CODES)


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Every call of what bears this name, a method too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if name in (getattr(called, "id", None), getattr(called, "attr", None)):
                yield node


def said(argument: ast.expr, tree: ast.AST) -> set[str] | None:
    """The codes that an argument can be; None: those of another breach, or of the framework's."""
    match argument:
        case ast.Constant(value=str(code)):
            return {code}
        case ast.IfExp(body=one, orelse=other):
            return (said(one, tree) or set()) | (said(other, tree) or set())
        case ast.JoinedStr():
            assert ast.unparse(argument) == "f'no_{kind.value}_stage'"
            return {f"no_{kind.value}_stage" for kind in StageKind}
        case ast.Name(id=name):  # what a function is given, whatever it is called with
            (given,) = (
                (function.name, [each.arg for each in function.args.args].index(name))
                for function in ast.walk(tree)
                if isinstance(function, ast.FunctionDef) and argument in ast.walk(function)
            )
            codes = [said(call.args[given[1]], tree) for call in calls(tree, given[0])]
            assert codes
            return set().union(*(each or set() for each in codes))
        case _:
            return None


def breaches_of_the_code() -> dict[str, set[str]]:
    """The codes that each module makes entries of `errors` with."""
    found: dict[str, set[str]] = {}
    passing_on = set()
    for path in sorted(APP.rglob("*.py")):
        module, tree = path.relative_to(APP).as_posix(), ast.parse(path.read_text())
        made = [(call, 1) for call in calls(tree, "Breach") if len(call.args) > 1]
        if module != "settings.py":  # what is wrong with a setting is no answer to a request
            made += [(call, 0) for call in calls(tree, "PydanticCustomError")]
        for call, at in made:
            codes = said(call.args[at], tree)
            if codes is None:
                passing_on.add(module)
            else:
                found.setdefault(module, set()).update(codes)
    assert passing_on == {"http/problems.py"}
    return found


def test_every_entry_of_errors_that_the_code_makes_has_a_code_of_the_table() -> None:
    found = breaches_of_the_code()
    assert found["domain/webhook_target.py"] >= {"not_public", "unresolvable", "wrong_format"}
    unknown = {module: codes - set(BREACHES) for module, codes in found.items()}
    assert {module: codes for module, codes in unknown.items() if codes} == {}


def test_the_table_has_no_code_that_nothing_makes() -> None:
    made = set().union(*breaches_of_the_code().values(), problems.BREACH_OF_TYPE.values())
    assert set(BREACHES) - made == set()


@pytest.mark.parametrize("code", sorted(BREACHES))
def test_every_code_of_an_entry_is_documented_as_the_table_has_it(code: str) -> None:
    assert f"| `{code}` | {BREACHES[code]} |" in DOCUMENT.read_text().splitlines()


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_documented_as_the_table_has_it(code: str) -> None:
    row = CODES[code]
    line = f"| `{code}` | {row.status} | {row.title} | {row.advice} |"
    assert line in DOCUMENT.read_text().splitlines()


def test_nothing_is_documented_that_does_not_exist() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted([*CODES, *BREACHES])
