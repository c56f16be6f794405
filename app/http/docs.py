"""The reference that the service serves itself: /docs, and /docs/errors for every code.

Made from the OpenAPI document at the first request. It shows; trying things out is what the `curl`
line of each operation is for. How things hang together is told by the guide (`http.guide`).
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from html import escape
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import HTMLResponse, RedirectResponse

from app.http import guide
from app.http.codes import BREACHES, CODES
from app.http.pages import HEADERS, page

_BOUNDS: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "maxLength": "characters at most",
    "default": "by default",
}
_BACKTICKS: Final = re.compile("`([^`]+)`")
_CODE: Final = r"<code>\1</code>"

LED: Final[Mapping[str, str]] = MappingProxyType(
    {"/": "/docs", "/docs/": "/docs", "/docs/errors/": "/docs/errors", "/docs/guide/": guide.ROOT}
)
"""What people type who look for the documentation, and where it leads them."""

Schema = Mapping[str, Any]


def install(app: FastAPI) -> None:
    """Serve /docs, /docs/errors and the guide."""

    @cache
    def reference() -> str:
        return _reference(app.openapi())

    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(), headers=HEADERS)

    async def docs_errors() -> HTMLResponse:
        return HTMLResponse(_errors(app.title), headers=HEADERS)

    def leading(to: str) -> Callable[[], Awaitable[RedirectResponse]]:
        async def lead() -> RedirectResponse:
            return RedirectResponse(to)

        return lead

    for path, to in LED.items():
        app.add_api_route(path, leading(to), include_in_schema=False)
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/docs/errors", docs_errors, include_in_schema=False)
    guide.install(app)


def _errors(title: str) -> str:
    rows = (
        f'<tr id="{row.code}"><td><a href="#{row.code}"><code>{row.code}</code></a></td>'
        f"<td>{row.status}</td><td>{escape(row.title)}</td><td>{_prose(row.advice)}</td></tr>"
        for row in CODES.values()
    )
    breaches = (
        f"<tr><td><code>{code}</code></td><td>{_prose(meaning)}</td></tr>"
        for code, meaning in BREACHES.items()
    )
    content = (
        "<h1>Errors</h1><p>Every error is <code>application/problem+json</code> (RFC 9457). Its"
        " <code>code</code> is stable; the words of <code>detail</code> are not.</p>"
        + _table(("Code", "Status", "Means", "What to do"), rows)
        + "<h1>Entries of <code>errors</code></h1><p>Each names a place: a JSON Pointer into the"
        " body, <code>?name</code> for a query parameter, <code>{name}</code> for a part of the"
        " path, or a header's name.</p>" + _table(("Code", "Means"), breaches)
    )
    return page(f"Errors · {title}", '<a href="/docs">← API reference</a>', content)


def _reference(document: Schema) -> str:
    operations = [
        (operation.get("tags", ["other"])[0], path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    order = [tag["name"] for tag in document.get("tags", ())]
    operations.sort(key=lambda each: (order.index(each[0]) if each[0] in order else 99, each[0]))
    described = {tag["name"]: tag.get("description", "") for tag in document.get("tags", ())}
    schemas = document["components"]["schemas"]

    navigation, content = "", ""
    for tag, members in groupby(operations, key=lambda each: each[0]):
        content += f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{_prose(described.get(tag, ""))}'
        links = ""
        for _, path, method, operation in members:
            content += _operation(path, method, operation, document)
            name = escape(operation["operationId"])
            links += f'<li><a href="#{name}">{escape(operation["summary"])}</a></li>'
        navigation += f'<b><a href="#{escape(tag)}">{escape(tag)}</a></b><ul>{links}</ul>'
    content += '<h2 id="schemas">schemas</h2>' + "".join(
        _component(name, schema) for name, schema in schemas.items()
    )
    info = document["info"]
    head = (
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"{_prose(info.get('description', ''))}"
        "<p>The examples run where <code>BASE=http://127.0.0.1:8000</code> is the address of the"
        " service, and <code>KEY='paste the key here'</code> an API key.</p>"
        '<p><a href="/docs/guide">guide</a> · <a href="/docs/errors">errors</a> ·'
        ' <a href="/openapi.json">openapi.json</a></p>'
    )
    return page(
        f"{info['title']} API",
        navigation
        + '<b><a href="#schemas">schemas</a></b><b><a href="/docs/errors">errors</a></b>',
        head + content,
    )


# The anchors stand inside of the folded parts: a browser opens what holds the target of a link.
def _operation(path: str, method: str, operation: Schema, document: Schema) -> str:
    name = escape(operation["operationId"])
    scopes = [scope for need in operation["security"] for scope in need.get("apiKey", ())]
    needs = ", ".join(f"<code>{escape(scope)}</code>" for scope in scopes) or (
        "any API key" if operation["security"] else "no credential"
    )
    parameters = (
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td>"
        f"<td>{_type(each['schema'])}{'' if each['required'] else ' <i>optional</i>'}</td>"
        f"<td>{_prose(each.get('description', ''))}</td></tr>"
        for each in operation.get("parameters", ())
    )
    parts = [_prose(operation.get("description", "")), f"<p class=dim>Needs {needs}.</p>"]
    if operation.get("parameters"):
        parts += ["<h3>Parameters</h3>", _table(("Name", "In", "Type", ""), parameters)]
    body = _content(operation.get("requestBody", {}))
    if body:
        parts.append(f"<h3>Body</h3><p>{_type(body)}</p>")
    parts.append("<h3>Answers</h3>" + _table(("Status", "", ""), _answers(operation, document)))
    parts.append(f"<h3>Example</h3><pre>{escape(_curl(path, method, body, document))}</pre>")
    return (
        f'<details><summary><code><span class="method {method}">{method.upper()}'
        f"</span>{escape(path)}</code><small>{escape(operation['summary'])}</small></summary>"
        f'<div id="{name}">{"".join(parts)}</div></details>'
    )


def _answers(operation: Schema, document: Schema) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            known = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            codes = next(iter(known["content"].values()))["examples"]
            meaning = ", ".join(f'<a href="/docs/errors#{c}"><code>{c}</code></a>' for c in codes)
            yield f"<tr><td>{status}</td><td>{_type(_content(known))}</td><td>{meaning}</td></tr>"
        else:
            headers = "".join(f"<br><code>{escape(n)}</code>" for n in answer.get("headers", ()))
            yield (
                f"<tr><td>{status}</td><td>{_type(_content(answer))}{headers}</td>"
                f"<td>{_prose(answer['description'])}</td></tr>"
            )


def _component(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = (
        f"<tr><td><code>{escape(field)}</code></td>"
        f"<td>{_type(inner)}{'' if field in required else ' <i>optional</i>'}</td>"
        f"<td>{_prose(inner.get('description', ''))}</td></tr>"
        for field, inner in schema.get("properties", {}).items()
    )
    fields = _table(("Field", "Type", ""), rows) if "properties" in schema else _type(schema)
    example = "".join(
        f"<pre>{escape(json.dumps(each, ensure_ascii=False, indent=2))}</pre>"
        for each in schema.get("examples", ())[:1]
    )
    return (
        f"<details><summary><code>{escape(name)}</code></summary>"
        f'<div id="schema-{escape(name)}">{_prose(schema.get("description", ""))}{fields}{example}'
        "</div></details>"
    )


def _type(schema: Schema) -> str:
    """A schema in a few words, with links to the named ones."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type(each) for each in schema[union])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    kind = str(schema.get("format") or schema.get("type") or ("any" if schema else ""))
    bounds = "".join(f", {words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema)
    return escape(kind + bounds)


def _content(holder: Schema) -> Schema:
    media: Schema = next(iter(holder.get("content", {}).values()), {})
    schema: Schema = media.get("schema", {})
    return schema


def _curl(path: str, method: str, body: Schema, document: Schema) -> str:
    lines = [f'curl -X {method.upper()} "$BASE{path}"', '-H "Authorization: Bearer $KEY"']
    named = document["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
    if named.get("examples"):
        example = json.dumps(named["examples"][0], ensure_ascii=False).replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{example}'"]
    return " \\\n  ".join(lines)


def _table(heads: tuple[str, ...], rows: Iterator[str]) -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    return f'<div class="table"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _prose(text: str) -> str:
    """The little of Markdown that descriptions use: paragraphs, and words in backticks."""
    paragraphs = (escape(each, quote=False) for each in text.split("\n\n") if each.strip())
    return "".join(f"<p>{_BACKTICKS.sub(_CODE, each)}</p>" for each in paragraphs)
