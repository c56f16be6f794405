"""The pages for callers, as tests read them: their text, links, examples and commands."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.http.guide import FOLDER, PAGES

_TEXTS = {name: (FOLDER / f"{name}.md").read_text() for name in PAGES}


def text(name: str) -> str:
    """A page as it is written."""
    return _TEXTS[name]


def everything() -> str:
    """All pages."""
    return "\n".join(_TEXTS.values())


def tokens(page: str | Path) -> list[Token]:
    """A page's parts: by its name, or any Markdown file."""
    written = _TEXTS[page] if isinstance(page, str) else page.read_text()
    return MarkdownIt("commonmark").enable("table").parse(written)


@dataclass(frozen=True, slots=True)
class Fence:
    """A block of code: what the words behind its fence say, and what stands in it."""

    page: str
    line: int
    info: str
    code: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.page}.md:{self.line}"


def fences(*languages: str) -> Iterator[Fence]:
    """The blocks of these languages in all pages."""
    for page in PAGES:
        for token in tokens(page):
            if token.type == "fence" and token.info.split(" ")[0] in languages:
                line = token.map[0] + 1 if token.map else 0
                yield Fence(page, line, token.info, token.content)


def fence(page: str, info: str) -> str:
    """The code of the one block of a page that bears these words behind its fence."""
    (found,) = (each.code for each in fences(info.partition(" ")[0]) if each.info == info)
    return found


def links(page: str) -> Iterator[str]:
    """Where a page's links lead, as they are written."""
    for token in tokens(page):
        for part in token.children or ():
            if part.type == "link_open":
                yield str(part.attrGet("href"))


@dataclass(frozen=True, slots=True)
class Command:
    """A `curl` of a page, in its words."""

    block: Fence
    number: int
    words: list[str]

    def __str__(self) -> str:
        return f"{self.block}-{self.number}"


def unassigned(code: str, known: Iterable[str] = ()) -> set[str]:
    """The variables of a shell's commands that nothing before them assigns."""
    assigned, missing = {*known}, set()
    for found in re.finditer(r"\b([A-Z_]+)=|\$\{?([A-Za-z_]+)", code):
        if found[1]:
            assigned.add(found[1])
        elif found[2] not in assigned:
            missing.add(found[2])
    return missing


def curls() -> Iterator[Command]:
    """Every `curl` of the pages."""
    for block in fences("sh"):
        whole = block.code.replace("\\\n", " ")
        commands = re.split(r"^(?=[a-z]+ |[A-Z]+=)", whole, flags=re.MULTILINE)
        for number, command in enumerate(commands):
            if found := re.search(r"\bcurl .*", command, re.DOTALL):
                yield Command(block, number, shlex.split(found[0].rstrip().rstrip(")")))
