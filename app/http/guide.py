"""The guide that the service serves itself: the pages of docs/ that callers read, at /docs/guide.

They are written for a checkout and shown as they are, so links lead from file to file there and
from page to page here. What is not for callers (decisions, benchmarks) is not shown: a link to it
becomes plain text. A page is read and laid out when it is first asked for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI
from markdown_it import MarkdownIt
from markdown_it.token import Token
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.http import conditional
from app.http.pages import HEADERS, page

INDEX: Final = "README"
PAGES: Final = (
    INDEX,
    "requests",
    "access",
    "errors",
    "kanban",
    "events",
    "webhooks",
    "import",
    "import-from-crms",
    "idle",
    "metrics",
    "metrics.zh",
    "audit",
    "clients",
    "operations",
    "reference",
)
"""What is shown, by the names of the files, in the order of the navigation."""

_APP: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = next(
    folder for folder in (_APP.parent / "docs", _APP / "_docs") if (folder / "README.md").exists()
)
"""Where the pages are: in a checkout beside `app`, in a wheel inside of it."""
MAPPINGS: Final = "imports"
"""The folder of the mapping files."""
FILES: Final[Mapping[str, str]] = MappingProxyType(
    {".json": "application/json", ".yaml": "application/yaml"}
)
"""The media types of what is given out as it is: mappings, and settings of client generators."""

ROOT: Final = "/docs/guide"
_HEADING: Final = re.compile(r"^# (.+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_NO_SLUG: Final = re.compile(r"[^\w\- ]")
_SCROLLING: Final = '<div class="table" role="region" aria-label="Table" tabindex="0"><table>'


def install(app: FastAPI) -> None:
    """Serve /docs/guide, its pages and the files that they lead to."""

    async def index(if_none_match: conditional.IfNoneMatch = None) -> Response:
        return sent(INDEX, if_none_match)

    async def one(name: str, if_none_match: conditional.IfNoneMatch = None) -> Response:
        if name not in PAGES[1:]:
            raise HTTPException(404)
        return sent(name, if_none_match)

    async def file(
        folder: str, name: str, if_none_match: conditional.IfNoneMatch = None
    ) -> Response:
        if f"{folder}/{name}" not in files():
            raise HTTPException(404)
        found = FOLDER / folder / name
        body = found.read_bytes()
        response = Response(body, media_type=FILES[found.suffix])
        conditional.offer(response, _tag(body), if_none_match)
        return response

    def sent(name: str, if_none_match: str | None) -> Response:
        body = written(name, app.title)
        response = Response(body, media_type="text/html", headers=HEADERS)
        conditional.offer(response, _tag(body), if_none_match)
        return response

    app.add_api_route(ROOT, index, include_in_schema=False)
    app.add_api_route(f"{ROOT}/{{name}}", one, include_in_schema=False)
    app.add_api_route(f"{ROOT}/{{folder}}/{{name}}", file, include_in_schema=False)


@cache
def mappings() -> frozenset[str]:
    """The names of the mapping files."""
    return frozenset(file.name for file in (FOLDER / MAPPINGS).glob("*.json"))


@cache
def files() -> frozenset[str]:
    """What is given out as it is, by folder and name."""
    return frozenset(
        f"{folder}/{file.name}"
        for folder in (MAPPINGS, "clients")
        for file in (FOLDER / folder).iterdir()
        if file.suffix in FILES
    )


@cache
def written(name: str, service: str) -> bytes:
    """A page as HTML."""
    language = name.partition(".")[2] or "en"
    title = f"{_title(name)} · {service}"
    content = rendered((FOLDER / f"{name}.md").read_text())
    return page(title, _navigation(name), content, language=language, kind="guide").encode()


def rendered(markdown: str) -> str:
    """Markdown as HTML whose links lead to what is served. HTML in it is shown, never passed on."""
    reader = MarkdownIt("commonmark").enable("table")
    for kind in ("html_block", "html_inline"):
        reader.add_render_rule(kind, _as_text)
    reader.add_render_rule("table_open", lambda *_: _SCROLLING)
    reader.add_render_rule("table_close", lambda *_: "</table></div>")
    tokens = reader.parse(markdown)
    for token, slug in headings(tokens):
        token.attrSet("id", slug)
    for token in tokens:
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.children:
            _lead(token.children)
    html: str = reader.renderer.render(tokens, reader.options, {})
    return html.replace("<pre><code", '<pre tabindex="0"><code')


def headings(tokens: Sequence[Token]) -> Iterator[tuple[Token, str]]:
    """Each heading with its anchor, made as forges make it, so that links hold there and here."""
    seen: dict[str, int] = {}
    for token, inside in pairwise(tokens):
        if token.type != "heading_open":
            continue
        text = "".join(part.content for part in inside.children or ())
        slug = _NO_SLUG.sub("", text.strip().lower()).replace(" ", "-")
        times = seen[slug] = seen.get(slug, -1) + 1
        yield token, f"{slug}-{times}" if times else slug


def led(href: str) -> str | None:
    """Where a link of a page leads here; None: to nothing that is served."""
    if re.match(r"[a-z]+:|#", href):
        return href
    path, _, anchor = href.partition("#")
    name = path.removesuffix(".md")
    if path.endswith(".md") and name in PAGES:
        target = ROOT if name == INDEX else f"{ROOT}/{name}"
    elif path in files():
        target = f"{ROOT}/{path}"
    else:
        return None
    return f"{target}#{anchor}" if anchor else target


def _lead(parts: Sequence[Token]) -> None:
    """Turn the links of a line of text; the ends of one that leads nowhere are hidden."""
    hiding = False
    for part in parts:
        if part.type == "link_open":
            target = led(str(part.attrGet("href")))
            hiding = part.hidden = target is None
            part.attrSet("href", target or "")
        elif part.type == "link_close":
            part.hidden = hiding


def _as_text(_: Any, tokens: Sequence[Token], at: int, *__: Any) -> str:
    """HTML in a page: a comment is for who edits it, all else is meant as text."""
    return escape(_COMMENT.sub("", tokens[at].content))


def _navigation(here: str) -> str:
    links = "".join(
        f'<li><a href="{led(f"{name}.md")}"{" aria-current=page" * (name == here)}>'
        f"{escape(_title(name))}</a></li>"
        for name in PAGES
    )
    return f'<b><a href="/docs">← API reference</a></b><ul>{links}</ul>'


@cache
def _title(name: str) -> str:
    found = _HEADING.search((FOLDER / f"{name}.md").read_text())
    assert found is not None, "every page begins with its title"
    return found[1]


def _tag(body: bytes) -> str:
    return conditional.opaque(sha256(body).hexdigest()[:32])
