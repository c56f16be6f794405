"""What counts as breaking a client: each rule at one small document."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.breakage import bare, breakages

Change = Callable[[dict[str, Any]], object]

WORD = {"type": "string", "maxLength": 10}
REF = "#/components/schemas/"


def document() -> dict[str, Any]:
    """A deal that is sent, one that is told, and what both are made of."""
    new = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": WORD,
            "owner": {"anyOf": [WORD, {"type": "null"}], "default": None},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "tags": {"type": "array", "items": WORD, "maxItems": 5},
        },
    }
    deal = {
        "type": "object",
        "required": ["id", "owner", "kind", "rate"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "owner": {"anyOf": [WORD, {"type": "null"}]},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "rate": {"type": "integer"},
            "part": {"oneOf": [{"$ref": f"{REF}Part"}, {"type": "null"}]},
            "facts": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    parameter = {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 50}}
    create = {
        "operationId": "createDeal",
        "tags": ["deals"],
        "security": [{"key": ["write"]}],
        "parameters": [parameter],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": f"{REF}DealCreate"}}}},
        "responses": {
            "201": {
                "headers": {"ETag": {"schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {"$ref": f"{REF}Deal"}}},
            },
            "404": {"$ref": "#/components/responses/NotFound"},
        },
    }
    problem = {"schema": {"type": "object"}, "examples": {"not_found": {"value": {"a": 1}}}}
    body = {"application/json": {"schema": {"$ref": f"{REF}Deal"}}}
    told = {"operationId": "onDeal", "requestBody": {"content": body}, "responses": {"2XX": {}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Deals", "version": "1"},
        "paths": {"/deals": {"post": create}},
        "webhooks": {"deal.made": {"post": told}},
        "components": {
            "schemas": {
                "Deal": deal,
                "DealCreate": new,
                "Part": {"type": "object", "properties": {"a": WORD}},
            },
            "responses": {"NotFound": {"content": {"application/problem+json": problem}}},
            "headers": {"RateLimit": {"schema": {"type": "string"}}},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def create(d: dict[str, Any]) -> dict[str, Any]:
    return d["paths"]["/deals"]["post"]  # type: ignore[no-any-return]


def sent(d: dict[str, Any]) -> dict[str, Any]:
    return d["components"]["schemas"]["DealCreate"]  # type: ignore[no-any-return]


def told(d: dict[str, Any]) -> dict[str, Any]:
    return d["components"]["schemas"]["Deal"]  # type: ignore[no-any-return]


def field(schema: dict[str, Any], name: str, **keywords: Any) -> None:
    schema["properties"][name] = {**schema["properties"][name], **keywords}


OPERATION = "POST /deals"

BREAKING: list[tuple[str, Change, str]] = [
    ("path gone", lambda d: d["paths"].clear(), OPERATION),
    ("operation gone", lambda d: d["paths"]["/deals"].clear(), OPERATION),
    ("renamed", lambda d: create(d).update(operationId="makeDeal"), OPERATION),
    ("another tag", lambda d: create(d).update(tags=["sales"]), OPERATION),
    ("parameter gone", lambda d: create(d)["parameters"].clear(), OPERATION),
    ("parameter needed", lambda d: create(d)["parameters"][0].update(required=True), OPERATION),
    (
        "new parameter needed",
        lambda d: create(d)["parameters"].append(
            {"name": "to", "in": "query", "required": True, "schema": {}}
        ),
        OPERATION,
    ),
    (
        "parameter narrowed",
        lambda d: create(d)["parameters"][0]["schema"].update(maximum=9),
        OPERATION,
    ),
    ("default", lambda d: create(d)["parameters"][0]["schema"].update(default=20), OPERATION),
    (
        "parameter in another style",
        lambda d: create(d)["parameters"][0].update(explode=False),
        OPERATION,
    ),
    ("body needed", lambda d: create(d)["requestBody"].update(required=True), OPERATION),
    ("media type gone", lambda d: create(d)["requestBody"]["content"].clear(), OPERATION),
    ("success gone", lambda d: create(d)["responses"].pop("201"), OPERATION),
    ("error gone", lambda d: create(d)["responses"].pop("404"), OPERATION),
    ("header gone", lambda d: create(d)["responses"]["201"]["headers"].clear(), OPERATION),
    ("answer gone", lambda d: create(d)["responses"]["201"]["content"].clear(), OPERATION),
    ("another scope", lambda d: create(d).update(security=[{"key": ["admin"]}]), OPERATION),
    ("two scopes", lambda d: create(d).update(security=[{"key": ["write", "read"]}]), OPERATION),
    (
        "another scheme",
        lambda d: d["components"]["securitySchemes"]["key"].update(scheme="basic"),
        "key",
    ),
    (
        "code gone",
        lambda d: d["components"]["responses"]["NotFound"]["content"]["application/problem+json"][
            "examples"
        ].clear(),
        "not_found",
    ),
    ("shared header gone", lambda d: d["components"]["headers"].clear(), "RateLimit"),
    (
        "shared header of another type",
        lambda d: d["components"]["headers"]["RateLimit"]["schema"].update(type="integer"),
        "RateLimit",
    ),
    ("webhook gone", lambda d: d["webhooks"].clear(), "deal.made"),
    ("sent field gone", lambda d: sent(d)["properties"].pop("owner"), "DealCreate.owner"),
    ("sent field needed", lambda d: sent(d)["required"].append("owner"), "DealCreate.owner"),
    (
        "new sent field needed",
        lambda d: (sent(d)["properties"].update(to=WORD), sent(d)["required"].append("to")),
        "DealCreate.to",
    ),
    ("sent null refused", lambda d: field(sent(d), "owner", anyOf=[WORD]), "DealCreate.owner"),
    ("sent value gone", lambda d: field(sent(d), "kind", enum=["a"]), "DealCreate.kind"),
    ("sent list closed", lambda d: field(sent(d), "name", enum=["a"]), "DealCreate.name"),
    ("beside sent kinds", lambda d: field(sent(d), "owner", maxLength=9), "DealCreate.owner"),
    ("sent type", lambda d: field(sent(d), "name", type="integer"), "DealCreate.name"),
    ("sent length", lambda d: field(sent(d), "name", maxLength=9), "DealCreate.name"),
    ("sent least", lambda d: field(sent(d), "name", minLength=1), "DealCreate.name"),
    ("sent pattern", lambda d: field(sent(d), "name", pattern="^a"), "DealCreate.name"),
    ("sent format", lambda d: field(sent(d), "name", format="uri"), "DealCreate.name"),
    ("sent uniqueness", lambda d: field(sent(d), "tags", uniqueItems=True), "DealCreate.tags"),
    ("sent items", lambda d: field(sent(d), "tags", items={"type": "null"}), "DealCreate.tags[]"),
    ("told field gone", lambda d: told(d)["properties"].pop("rate"), "Deal.rate"),
    ("told field optional", lambda d: told(d)["required"].remove("rate"), "Deal.rate"),
    (
        "told field null",
        lambda d: told(d)["properties"].update(kind={"anyOf": [WORD, {"type": "null"}]}),
        "Deal.kind",
    ),
    ("told value new", lambda d: field(told(d), "kind", enum=["a", "b", "c"]), "Deal.kind"),
    ("told list open", lambda d: told(d)["properties"].update(kind=WORD), "Deal.kind"),
    ("told number", lambda d: field(told(d), "rate", type="number"), "Deal.rate"),
    ("told format", lambda d: field(told(d), "id", format="date"), "Deal.id"),
    (
        "told kind new",
        lambda d: told(d)["properties"]["part"]["oneOf"].append({"$ref": f"{REF}DealCreate"}),
        "Deal.part",
    ),
    (
        "told map",
        lambda d: field(told(d), "facts", additionalProperties={"type": "number"}),
        "Deal.facts.*",
    ),
    ("unknown keyword", lambda d: told(d).update(unevaluatedProperties=False), "Deal"),
    ("schema gone", lambda d: d["components"]["schemas"].pop("Part"), "Part"),
]

HARMLESS: list[tuple[str, Change]] = [
    ("path", lambda d: d["paths"].update({"/new": {"get": create(d)}})),
    (
        "optional parameter",
        lambda d: create(d)["parameters"].append({"name": "to", "in": "query", "schema": {}}),
    ),
    ("another answer", lambda d: create(d)["responses"].update({"409": {}})),
    ("fewer scopes", lambda d: create(d).update(security=[{"key": []}])),
    ("no scopes", lambda d: create(d).update(security=[])),
    ("optional sent field", lambda d: sent(d)["properties"].update(to=WORD)),
    ("sent value", lambda d: field(sent(d), "kind", enum=["a", "b", "c"])),
    ("sent null", lambda d: field(sent(d), "name", type=["string", "null"])),
    ("longer sent", lambda d: field(sent(d), "name", maxLength=11)),
    ("less needed", lambda d: sent(d)["required"].clear()),
    ("told field", lambda d: told(d)["properties"].update(more=WORD)),
    ("told value gone", lambda d: field(told(d), "kind", enum=["a"])),
    ("told never null", lambda d: told(d)["properties"].update(owner=WORD)),
    ("told always", lambda d: told(d)["required"].append("part")),
    (
        "told longer",
        lambda d: field(told(d), "owner", anyOf=[{"type": "string"}, {"type": "null"}]),
    ),
    ("words", lambda d: field(told(d), "kind", description="Which.", examples=["a"])),
]


def test_a_document_breaks_nobody_by_being_the_same_or_without_words() -> None:
    assert breakages(document(), document()) == []
    assert breakages(document(), bare(document())) == []
    assert breakages(bare(document()), document()) == []


@pytest.mark.parametrize(
    ("change", "place"), [row[1:] for row in BREAKING], ids=[row[0] for row in BREAKING]
)
def test_what_a_client_no_longer_finds_breaks_it(change: Change, place: str) -> None:
    new = copy.deepcopy(document())
    change(new)
    assert place in {each.place for each in breakages(document(), new)}


@pytest.mark.parametrize("change", [row[1] for row in HARMLESS], ids=[row[0] for row in HARMLESS])
def test_what_a_client_may_send_besides_or_need_not_expect_breaks_nobody(change: Change) -> None:
    new = copy.deepcopy(document())
    change(new)
    assert new != document()
    assert breakages(document(), new) == []


def test_what_is_both_sent_and_told_is_held_to_both() -> None:
    def both(part: dict[str, Any]) -> dict[str, Any]:
        made = document()
        made["components"]["schemas"]["Part"]["properties"]["a"] = part
        sent(made)["properties"]["part"] = {"$ref": f"{REF}Part"}
        return made

    values = [{"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a", "b"]}]
    assert [str(each) for each in breakages(both(values[0]), both(values[1]))] == [
        '- **Breaking** `Part.a`: may be "b" now'
    ]
    assert [str(each) for each in breakages(both(values[1]), both(values[0]))] == [
        '- **Breaking** `Part.a`: "b" is not taken any more'
    ]
