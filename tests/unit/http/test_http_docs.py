"""The served documentation: self-contained, with links that lead somewhere."""

from html.parser import HTMLParser

import httpx

from app.http.codes import CODES

Client = httpx.AsyncClient


class Outline(HTMLParser):
    """The ids and links of a page, and a check that its tags are closed in their order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.links |= {str(given[name]) for name in ("href", "src") if name in given}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_docs_need_nothing_from_elsewhere_and_every_link_in_them_leads_somewhere(
    client: Client,
) -> None:
    pages = {path: Outline((await client.get(path)).text) for path in ("/docs", "/docs/errors")}
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids))
        assert not page.tags & {"script", "link", "img", "iframe", "form"}
        for link in page.links:
            target, _, anchor = link.partition("#")
            if target in {"", *pages}:
                assert not anchor or anchor in pages[target or path].ids, link
            else:
                assert link == "/openapi.json"
    assert set(CODES) <= set(pages["/docs/errors"].ids)
    assert {"createGadget", "amendGadget", "schema-GadgetPage"} <= set(pages["/docs"].ids)


async def test_the_docs_show_examples_as_text_not_as_markup(client: Client) -> None:
    page = (await client.get("/docs")).text
    assert "<b>&quot;" not in page
    assert "It&#x27;\\&#x27;&#x27;s &lt;b&gt;" in page
    assert "<code>name</code>, as shown." in page
