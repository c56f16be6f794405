"""The table of error codes is a contract: complete, and the same wherever it is shown."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.errors import SluiceError
from app.http.codes import ADVICE, BREACHES, CODES

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


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_documented_as_the_table_has_it(code: str) -> None:
    row = CODES[code]
    line = f"| `{code}` | {row.status} | {row.title} | {row.advice} |"
    assert line in DOCUMENT.read_text().splitlines()


def test_nothing_is_documented_that_does_not_exist() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted([*CODES, *BREACHES])
