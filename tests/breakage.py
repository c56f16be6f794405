"""What of one OpenAPI document a client of it would no longer find in another.

`breakages(old, new)` reads both by the rules of our own documents: named schemas are compared by
name (generated clients call their types so), each for the ways in which it goes: sent by a caller,
told by the service, or both. What a caller sends must not be narrowed, what is told must not be
widened: no field gone, none optional or null that was not, no value that a closed list did not
have. A keyword that the rules do not know breaks when it changes at all. New operations, new
optional things to send and new fields to read break nobody.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.schema_breakage import SENT, TOLD, WORDS, Breakage, Schema, Ways, compared

METHODS: Final = ("get", "put", "post", "delete", "patch")


def breakages(old: Schema, new: Schema) -> list[Breakage]:
    """Every way in which `new` breaks a client made from `old`, in order, each once."""
    found = [*_operations(old, new), *_webhooks(old, new), *_schemas(old, new)]
    found += [*_codes(old, new), *_shared_answers(old, new), *_security_schemes(old, new)]
    return sorted(set(found))


# Operations and webhooks


def _operations(old: Schema, new: Schema) -> Iterator[Breakage]:
    for path, item in old["paths"].items():
        for method in METHODS:
            if method in item:
                place = f"{method.upper()} {path}"
                after = new["paths"].get(path, {}).get(method)
                if after is None:
                    yield Breakage(place, "the operation is gone")
                    continue
                yield from _names(place, item[method], after)
                yield from _security(place, item[method], after)
                yield from _request(place, item[method], after, SENT)
                yield from _answers(place, (item[method], after), (old, new))


def _webhooks(old: Schema, new: Schema) -> Iterator[Breakage]:
    for name, item in old.get("webhooks", {}).items():
        after = new.get("webhooks", {}).get(name)
        if after is None:
            yield Breakage(name, "the webhook is gone")
            continue
        yield from _names(name, item["post"], after["post"])
        yield from _request(name, item["post"], after["post"], TOLD)
        for status in sorted(set(item["post"]["responses"]) - set(after["post"]["responses"])):
            yield Breakage(name, f"{status} is no answer any more")


def _names(place: str, old: Schema, new: Schema) -> Iterator[Breakage]:
    """What generated clients call an operation, and where they put it."""
    for what in ("operationId", "tags"):
        if old.get(what) != new.get(what):
            yield Breakage(place, f"its {what} was {old.get(what)} and is {new.get(what)}")


def _security(place: str, old: Schema, new: Schema) -> Iterator[Breakage]:
    """Each credential that was enough must be enough still."""
    for enough in old.get("security") or [{}]:
        if not any(_suffices(enough, need) for need in new.get("security") or [{}]):
            yield Breakage(place, f"{dict(enough) or 'no credential'} is not enough any more")


def _suffices(credential: Schema, need: Schema) -> bool:
    return all(
        scheme in credential and set(scopes) <= set(credential[scheme])
        for scheme, scopes in need.items()
    )


def _request(place: str, old: Schema, new: Schema, ways: Ways) -> Iterator[Breakage]:
    before, after = _parameters(old), _parameters(new)
    for key, parameter in before.items():
        words = f"{parameter['in']} parameter `{parameter['name']}`"
        if key not in after:
            yield Breakage(place, f"{words} is gone")
            continue
        now = after[key]
        if ways.sent and now.get("required") and not parameter.get("required"):
            yield Breakage(place, f"{words} must be sent now")
        if ways.told and parameter.get("required") and not now.get("required"):
            yield Breakage(place, f"{words} may be absent now")
        for how in ("style", "explode", "allowReserved"):
            if parameter.get(how) != now.get(how):
                yield Breakage(place, f"{words} is written in another way: {how}")
        for found in compared(parameter["schema"], now["schema"], place, ways):
            yield Breakage(place, f"{words}: {found.what}")
    for key in sorted(set(after) - set(before)):
        if ways.sent and after[key].get("required"):
            yield Breakage(place, f"{key[0]} parameter `{after[key]['name']}` must be sent now")

    body, now = old.get("requestBody"), new.get("requestBody")
    if ways.sent and now and now.get("required") and not (body and body.get("required")):
        yield Breakage(place, "a body must be sent now")
    if body is not None:
        yield from _contents(place, body, now or {}, ways, "the body")


def _parameters(operation: Schema) -> dict[tuple[str, str], Schema]:
    """By place and name; the names of headers come in any case."""
    return {
        (each["in"], each["name"].lower() if each["in"] == "header" else each["name"]): each
        for each in operation.get("parameters", ())
    }


def _answers(
    place: str, operations: tuple[Schema, Schema], documents: tuple[Schema, Schema]
) -> Iterator[Breakage]:
    before, after = (operation["responses"] for operation in operations)
    for status, answer in before.items():
        if status not in after:
            yield Breakage(place, f"{status} is gone")
        elif answer != after[status] or "$ref" not in answer:  # the shared ones are compared once
            old, new = _resolved(answer, documents[0]), _resolved(after[status], documents[1])
            yield from _answer(place, old, new, f"{status}")


def _shared_answers(old: Schema, new: Schema) -> Iterator[Breakage]:
    after = new["components"].get("responses", {})
    for name, answer in old["components"].get("responses", {}).items():
        if name in after:  # one that is gone shows at the operations that named it
            yield from _answer(name, answer, after[name], "the answer")
    headers = new["components"].get("headers", {})
    for name, header in old["components"].get("headers", {}).items():
        if name not in headers:
            yield Breakage(name, "the header is gone")
            continue
        yield from compared(header.get("schema", {}), headers[name].get("schema", {}), name, TOLD)


def _answer(place: str, old: Schema, new: Schema, words: str) -> Iterator[Breakage]:
    yield from _contents(place, old, new, TOLD, words)
    headers = {name.lower(): header for name, header in new.get("headers", {}).items()}
    for name, header in old.get("headers", {}).items():
        if name.lower() not in headers:
            yield Breakage(place, f"{words} has no header `{name}` any more")
            continue
        now = headers[name.lower()]
        for found in compared(header.get("schema", {}), now.get("schema", {}), place, TOLD):
            yield Breakage(place, f"{words}, header `{name}`: {found.what}")


def _contents(place: str, old: Schema, new: Schema, ways: Ways, words: str) -> Iterator[Breakage]:
    for media, content in old.get("content", {}).items():
        if media not in new.get("content", {}):
            yield Breakage(place, f"{words} is no {media} any more")
            continue
        now = new["content"][media]
        for found in compared(content.get("schema", {}), now.get("schema", {}), "", ways):
            yield Breakage(place, f"{words}{found.place and f' at {found.place}'}: {found.what}")


def _resolved(answer: Schema, document: Schema) -> Schema:
    if "$ref" not in answer:
        return answer
    found: Schema = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return found


def _security_schemes(old: Schema, new: Schema) -> Iterator[Breakage]:
    after = new["components"].get("securitySchemes", {})
    for name, scheme in old["components"].get("securitySchemes", {}).items():
        if any(scheme.get(k) != after.get(name, {}).get(k) for k in ("type", "scheme", "in")):
            yield Breakage(name, "the way to identify oneself is another")


def _codes(old: Schema, new: Schema) -> Iterator[Breakage]:
    """The codes of problems, which stand as the names of their examples."""
    for code in sorted(error_codes(old) - error_codes(new)):
        yield Breakage(code, "the error code is gone")


def error_codes(document: Schema) -> set[str]:
    return {
        code
        for answer in document["components"].get("responses", {}).values()
        for content in answer.get("content", {}).values()
        for code in content.get("examples", {})
    }


# Schemas


def _schemas(old: Schema, new: Schema) -> Iterator[Breakage]:
    sent, told = goes(old)
    after = new["components"]["schemas"]
    for name, schema in old["components"]["schemas"].items():
        if name not in after:
            yield Breakage(name, "the schema is gone")
        else:
            ways = Ways(sent=name in sent, told=name in told)
            yield from compared(schema, after[name], name, ways)


def goes(document: Schema) -> tuple[set[str], set[str]]:
    """The names of the schemas that callers send, and of those that they are told."""
    sent, told = set[str](), set[str]()
    for item in document["paths"].values():
        for operation in item.values():
            asked = [operation.get("parameters", []), operation.get("requestBody", {})]
            _reach(asked, document, sent)
            _reach(operation["responses"], document, told)
    _reach(document.get("webhooks", {}), document, told)
    _reach(document["components"].get("responses", {}), document, told)
    return sent, told


def _reach(node: Any, document: Schema, seen: set[str]) -> None:
    if isinstance(node, Mapping):
        name = str(node.get("$ref", "")).removeprefix("#/components/schemas/")
        if name in document["components"]["schemas"] and name not in seen:
            seen.add(name)
            _reach(document["components"]["schemas"][name], document, seen)
    for inner in node.values() if isinstance(node, Mapping) else node:
        if isinstance(inner, Mapping | list):
            _reach(inner, document, seen)


# What is kept of a document to compare later ones with

_BY_NAME: Final = frozenset(
    {"content", "headers", "mapping", "paths", "patternProperties", "properties", "responses"}
    | {"schemas", "securitySchemes", "webhooks"}
)


def bare(node: Any) -> Any:
    """A document without its words: all that a client is made from, and the codes of problems."""
    if isinstance(node, list):
        return [bare(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    kept: dict[str, Any] = {}
    for key, inner in node.items():
        if key in {"const", "default", "enum"}:
            kept[key] = inner
        elif key in _BY_NAME:
            kept[key] = {name: bare(each) for name, each in inner.items()}
        elif key == "examples" and isinstance(inner, Mapping):
            kept[key] = {name: {} for name in inner}
        elif key not in WORDS and key not in {"servers", "summary", "license"}:
            kept[key] = bare(inner)
    return kept


if __name__ == "__main__":
    json.dump(bare(json.load(sys.stdin)), sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")
