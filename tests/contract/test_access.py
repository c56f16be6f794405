"""What docs/access.md says of scopes and row scopes is what there is."""

import re
from pathlib import Path

import pytest

from app.domain.access import RowScope, Scope

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()


@pytest.mark.parametrize(("heading", "words"), [("Scopes", Scope), ("Row scopes", RowScope)])
def test_the_page_lists_each_word_once_and_in_order(
    heading: str, words: type[Scope] | type[RowScope]
) -> None:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `([a-z:-]+)` \|", section, re.MULTILINE)
    assert told == [word.value for word in words]
