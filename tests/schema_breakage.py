"""What of one JSON Schema breaks those who wrote or read by another: the rules of breakage.py.

What is sent must not be narrowed, what is told must not be widened. A keyword that the rules do not
know breaks when it changes at all.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from typing import Any, Final, NamedTuple

Schema = Mapping[str, Any]

_LEAST: Final = {
    "exclusiveMinimum": -inf,
    "minimum": -inf,
    "minItems": 0,
    "minLength": 0,
    "minProperties": 0,
}
_MOST: Final = ("exclusiveMaximum", "maximum", "maxItems", "maxLength", "maxProperties")
# What narrows whenever it is there and was not there so before.
_EXACT: Final = ("format", "multipleOf", "pattern", "uniqueItems", "readOnly")
# What programs read by: a change of it is one of the type.
_READ_BY: Final = ("format", "contentEncoding", "contentMediaType")
_UNIONS: Final = frozenset({"anyOf", "oneOf"})
_INNER: Final = ("items", "contentSchema", "propertyNames")
WORDS: Final = ("$comment", "deprecated", "description", "example", "examples", "title")
_LOOKED_AT: Final = frozenset(
    {*_LEAST, *_MOST, *_EXACT, *_READ_BY, *_INNER, *WORDS, "$ref", "additionalProperties"}
    | {"anyOf", "const", "default", "discriminator", "enum", "oneOf", "patternProperties"}
    | {"properties", "required", "type"}
)


class Ways(NamedTuple):
    """How a schema goes between a caller and the service."""

    sent: bool
    told: bool


SENT: Final = Ways(sent=True, told=False)
TOLD: Final = Ways(sent=False, told=True)


@dataclass(frozen=True, order=True)
class Breakage:
    """One thing that breaks, at an operation (`GET /v1/me`), a schema's field or an error code."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"- **Breaking** `{self.place}`: {self.what}"


def compared(old: Schema, new: Schema, place: str, ways: Ways) -> Iterator[Breakage]:
    before, after = _kinds(old), _kinds(new)
    if ways.sent and "any" not in after:
        for kind in before:
            if kind not in after and not (kind == "integer" and "number" in after):
                yield Breakage(place, f"{kind} is not taken any more")
    if ways.told and "any" not in before:
        for kind in after:
            if kind not in before and not (kind == "integer" and "number" in before):
                yield Breakage(place, f"may be {kind} now")
    if ways.sent and old.get("default") != new.get("default"):
        yield Breakage(place, f"left out, it means {json.dumps(new.get('default'))} now")
    if old.get("discriminator", {}).get("propertyName") != (
        new.get("discriminator", {}).get("propertyName")
    ):
        yield Breakage(place, "another field says which kind it is")
    if _UNIONS & set(old) and _UNIONS & set(new):  # what is said beside the alternatives
        beside = ({k: v for k, v in each.items() if k not in _UNIONS} for each in (old, new))
        yield from _same_kind(*beside, place, ways)
    for kind, schema in before.items():
        if kind in after and "$ref" not in schema:
            yield from _same_kind(schema, after[kind], place, ways)


def _kinds(schema: Schema) -> dict[str, Schema]:
    """The alternatives that a schema leaves: by the name of the one referred to, or by type."""
    members = [
        pair
        for union in ("anyOf", "oneOf")
        for member in schema.get(union, ())
        for pair in _kinds(member).items()
    ]
    if "$ref" in schema:
        members = [(schema["$ref"].rpartition("/")[2], schema)]
    elif not members:
        types = schema.get("type", "any")
        if types == "any" and ("enum" in schema or "const" in schema):
            types = "value"
        members = [(kind, schema) for kind in ([types] if isinstance(types, str) else types)]
    kinds = [kind for kind, _ in members]
    # Two of one type can be told apart only by all that they say.
    return {
        kind if kinds.count(kind) == 1 else f"{kind} {json.dumps(member, sort_keys=True)}": member
        for kind, member in members
    }


def _same_kind(old: Schema, new: Schema, place: str, ways: Ways) -> Iterator[Breakage]:
    yield from _values(old, new, place, ways)
    if ways.sent:
        for key, least in _LEAST.items():
            if new.get(key, least) > old.get(key, least):
                yield Breakage(place, f"{key} is {new[key]} now")
        for key in _MOST:
            if new.get(key, inf) < old.get(key, inf):
                yield Breakage(place, f"{key} is {new[key]} now")
        for key in _EXACT:
            if new.get(key, False) not in {False, old.get(key, False)}:
                yield Breakage(place, f"{key} is {new[key]} now")
    if ways.told:
        for key in _READ_BY:
            if old.get(key) != new.get(key):
                yield Breakage(place, f"{key} was {old.get(key)} and is {new.get(key)}")
    for key in sorted({*old, *new} - _LOOKED_AT):
        if old.get(key) != new.get(key):
            yield Breakage(place, f"{key} has changed")
    for key in _INNER:
        if key in old or key in new:
            inner = f"{place}[]" if key == "items" else place
            yield from compared(old.get(key, {}), new.get(key, {}), inner, ways)
    yield from _fields(old, new, place, ways)


def _values(old: Schema, new: Schema, place: str, ways: Ways) -> Iterator[Breakage]:
    before, after = _listed(old), _listed(new)
    if ways.sent and after is not None:
        if before is None:
            yield Breakage(place, f"only {', '.join(after)} is taken now")
        for value in before or ():
            if value not in after:
                yield Breakage(place, f"{value} is not taken any more")
    if ways.told and before is not None:
        if after is None:
            yield Breakage(place, "may be any value now")
        for value in after or ():
            if value not in before:
                yield Breakage(place, f"may be {value} now")


def _listed(schema: Schema) -> list[str] | None:
    """The only values that there are, as JSON; nothing where the list is open."""
    if "const" in schema:
        return [json.dumps(schema["const"])]
    return [json.dumps(value) for value in schema["enum"]] if "enum" in schema else None


def _fields(old: Schema, new: Schema, place: str, ways: Ways) -> Iterator[Breakage]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed, needs = old.get("required", ()), new.get("required", ())
    for name in {**before, **after}:
        inner = f"{place}.{name}".lstrip(".")
        if name not in after:
            yield Breakage(inner, "the field is gone")
            continue
        if ways.sent and name in needs and name not in needed:
            yield Breakage(inner, "must be sent now")
        if name in before:
            if ways.told and name in needed and name not in needs:
                yield Breakage(inner, "may be absent now")
            yield from compared(before[name], after[name], inner, ways)

    one, other = (schema.get("additionalProperties", True) for schema in (old, new))
    if ways.sent and one is not False and other is False:
        yield Breakage(place, "further fields are refused now")
    if isinstance(one, Mapping) or isinstance(other, Mapping):
        further = (each if isinstance(each, Mapping) else {} for each in (one, other))
        yield from compared(*further, f"{place}.*", ways)
    patterns = (old.get("patternProperties", {}), new.get("patternProperties", {}))
    for pattern, now in zip_longest(*patterns):
        if pattern != now:
            yield Breakage(place, f"fields that match {pattern} are now those that match {now}")
        else:
            inner = f"{place}.*"
            yield from compared(patterns[0][pattern], patterns[1][pattern], inner, ways)
