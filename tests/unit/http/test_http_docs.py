"""The served documentation: self-contained, with links that lead somewhere."""

from html import unescape

import httpx
import pytest

from app.http.codes import CODES
from tests.guide import unassigned
from tests.outline import Outline

Client = httpx.AsyncClient


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
                assert link in {"/openapi.json", "/docs/guide"}
    assert set(CODES) <= set(pages["/docs/errors"].ids)
    assert {"createGadget", "amendGadget", "schema-GadgetPage"} <= set(pages["/docs"].ids)


async def test_the_variables_of_the_examples_are_assigned_on_the_page(client: Client) -> None:
    page = unescape((await client.get("/docs")).text)
    assert '"$BASE/' in page
    assert unassigned(page) == set()


@pytest.mark.parametrize("path", ["/", "/docs/", "/docs/errors/", "/docs/guide/"])
async def test_who_looks_for_the_documentation_is_led_to_it(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 307
    there = await client.get(answer.headers["location"])
    assert (there.status_code, there.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_the_docs_show_examples_as_text_not_as_markup(client: Client) -> None:
    page = (await client.get("/docs")).text
    assert "<b>&quot;" not in page
    assert "It&#x27;\\&#x27;&#x27;s &lt;b&gt;" in page
    assert "<code>name</code>, as shown." in page
