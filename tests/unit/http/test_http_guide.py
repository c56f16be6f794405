"""The served guide: self-contained, safe, and with links that lead somewhere."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.http.guide import FOLDER, INDEX, PAGES, files, mappings, rendered
from tests.outline import Outline

Client = httpx.AsyncClient
IsProblem = Callable[[httpx.Response, str], dict[str, Any]]

PATHS = {name: "/docs/guide" if name == INDEX else f"/docs/guide/{name}" for name in PAGES}


async def test_every_page_is_readable_html_that_needs_nothing_from_elsewhere(
    client: Client,
) -> None:
    for name, path in PATHS.items():
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = Outline(answer.text)
        assert not page.tags & {"script", "link", "img", "iframe", "form", "object", "embed"}
        assert page.counts["h1"] == page.counts["main"] == page.counts["nav"] == 1
        language = "zh" if name.endswith(".zh") else "en"
        assert answer.text.startswith(f'<!doctype html><html lang="{language}">')
        assert page.counts["table"] == answer.text.count('<div class="table"')
        assert answer.text.count(" aria-current=page") == 1
        assert "<!--" not in answer.text
        assert "&lt;!--" not in answer.text


async def test_every_link_between_pages_leads_to_something_and_no_file_is_named(
    client: Client,
) -> None:
    pages = {path: Outline((await client.get(path)).text) for path in [*PATHS.values(), "/docs"]}
    given_out = {f"/docs/guide/{name}" for name in files()}
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links - {"/openapi.json", "/docs/errors"}:
            target, _, anchor = link.partition("#")
            if target.startswith(("/docs/errors", "https://")):
                continue
            assert target in {"", *pages, *given_out}, link
            assert not anchor or anchor in pages[target or path].ids, link


async def test_a_page_is_not_sent_again_to_who_holds_it(client: Client) -> None:
    for path in (*PATHS.values(), f"/docs/guide/imports/{min(mappings())}"):
        first = await client.get(path)
        again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_mappings_and_settings_of_generators_are_given_out_as_they_are(
    client: Client,
) -> None:
    assert {"imports/hubspot-deals.json", "clients/python.yaml"} <= files()
    for name in files():
        answer = await client.get(f"/docs/guide/{name}")
        kind = "json" if name.endswith(".json") else "yaml"
        assert answer.headers["content-type"] == f"application/{kind}"
        assert answer.content == (FOLDER / name).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "README",
        "benchmarks",
        "decisions",
        "nothing",
        "imports",
        "..%2FREADME",
        "imports/nothing",
        "decisions/guide.md",
    ],
)
async def test_what_is_not_for_callers_is_not_served(
    client: Client, path: str, is_problem: IsProblem
) -> None:
    is_problem(await client.get(f"/docs/guide/{path}"), "route_not_found")


def test_html_in_a_page_is_shown_and_never_passed_on() -> None:
    shown = rendered("<script>x</script>\n\nA <b onclick=x>word</b> [a](javascript:x)\n")
    assert "<script" not in shown
    assert "<b " not in shown
    assert 'href="javascript' not in shown
    assert "&lt;script&gt;" in shown


def test_links_lead_to_pages_and_to_nothing_that_is_not_served() -> None:
    shown = rendered("[a](events.md#types) [b](decisions/x.md) [c](#here) [d](../README.md)")
    assert '<a href="/docs/guide/events#types">a</a>' in shown
    assert ' b <a href="#here">c</a> d</p>' in shown
