"""The documentation that the service serves itself: /docs, and /docs/errors for every code.

Plain HTML made from the OpenAPI document at the first request: no script, nothing from elsewhere,
readable on a phone, in the dark and on a machine without a network. It shows; trying things out is
what the `curl` line of each operation is for.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from html import escape
from itertools import groupby
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from app.http.codes import BREACHES, CODES

_STYLE: Final = """
:root { color-scheme: light dark; --ink: light-dark(#1c2330, #dfe5ef);
  --dim: light-dark(#5b6577, #93a0b5); --paper: light-dark(#fff, #12161d);
  --panel: light-dark(#f4f6f9, #1b212b); --line: light-dark(#dde2ea, #2c3442);
  --link: light-dark(#0b5cad, #7db8f5); --get: light-dark(#0b6b3a, #5fd39b);
  --write: light-dark(#8a4b00, #f0b35f); --delete: light-dark(#a3182b, #ff8795); }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav { padding: 1rem; background: var(--panel); border-bottom: 1px solid var(--line); }
nav ul { list-style: none; margin: 0; padding: 0; columns: 2; } nav b { display: block; }
main { padding: 1rem; max-width: 60rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); text-transform: capitalize; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
details { margin: .6rem 0; padding: .5rem .8rem; border: 1px solid var(--line);
  border-radius: 8px; background: var(--panel); overflow-wrap: anywhere; }
summary { cursor: pointer; } summary small { color: var(--dim); margin-left: .5rem; }
code, pre { font: .86em/1.5 ui-monospace, monospace; }
pre { padding: .7rem; border-radius: 6px; background: var(--paper); overflow-x: auto;
  border: 1px solid var(--line); }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; } td p, summary p { margin: 0; }
.method { display: inline-block; min-width: 4.2em; font-weight: 700; color: var(--write); }
.get { color: var(--get); } .delete { color: var(--delete); } .dim { color: var(--dim); }
:target { outline: 2px solid var(--link); outline-offset: 3px; scroll-margin-top: 4rem; }
@media (min-width: 64rem) { body { display: grid; grid-template-columns: 19rem 1fr; }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-right: 1px solid
  var(--line); border-bottom: 0; } nav ul { columns: 1; } main { padding: 1rem 2.5rem 4rem; } }
"""
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

_BOUNDS: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "maxLength": "characters at most",
    "default": "by default",
}
_BACKTICKS: Final = re.compile("`([^`]+)`")
_CODE: Final = r"<code>\1</code>"

Schema = Mapping[str, Any]


def install(app: FastAPI) -> None:
    """Serve /docs and /docs/errors."""

    @cache
    def reference() -> str:
        return _reference(app.openapi())

    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(), headers=_HEADERS)

    async def docs_errors() -> HTMLResponse:
        return HTMLResponse(_errors(app.title), headers=_HEADERS)

    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/docs/errors", docs_errors, include_in_schema=False)


def _page(title: str, navigation: str, content: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><nav>{navigation}</nav><main>{content}</main></body></html>"
    )


def _errors(title: str) -> str:
    rows = (
        f'<tr id="{row.code}"><td><a href="#{row.code}"><code>{row.code}</code></a></td>'
        f"<td>{row.status}</td><td>{escape(row.title)}</td><td>{_prose(row.advice)}</td></tr>"
        for row in CODES.values()
    )
    breaches = (
        f"<tr><td><code>{code}</code></td><td>{escape(meaning)}</td></tr>"
        for code, meaning in BREACHES.items()
    )
    content = (
        "<h1>Errors</h1><p>Every error is <code>application/problem+json</code> (RFC 9457). Its"
        " <code>code</code> is stable; the words of <code>detail</code> are not.</p>"
        + _table(("Code", "Status", "Means", "What to do"), rows)
        + "<h1>Entries of <code>errors</code></h1><p>Each names a place: a JSON Pointer into the"
        " body, <code>?name</code> for a query parameter, or a header's name. Rules of the domain"
        " add codes of their own to these.</p>" + _table(("Code", "Means"), breaches)
    )
    return _page(f"Errors · {title}", '<a href="/docs">← API reference</a>', content)


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
        '<p><a href="/openapi.json">openapi.json</a> · <a href="/docs/errors">errors</a></p>'
    )
    return _page(
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
    lines = [f'curl -X {method.upper()} "$SLUICE{path}"', '-H "Authorization: Bearer $KEY"']
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
