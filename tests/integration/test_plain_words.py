"""What is wrong with a request is told in words of ours: none of the framework's reach a caller.

By rule: every field of every example, and every parameter, is given what cannot be.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx

from app.main import create_app
from app.settings import Settings
from tests.operations import Operation, operations

DOCUMENT = create_app(Settings()).openapi()
ID = "01980000-0000-7000-8000-000000000000"
WORDS = {"pipeline", "stage", "metric", "template", "external_id", "key_id", "sequence", "revision"}
WRONG: tuple[Any, ...] = (None, -1, 1.5, "", [], {}, [None], {"no_such_field": 1})
WRONG_TEXTS = ("", "-1", "1.5", "x y")
FOREIGN = re.compile(
    r"\bInput\b|dictionary|permitted|validation|instance of|<\w+\.\w+|discriminator"
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document, the document itself among them."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """The document with something else at that place."""
    if not path:
        return to
    first, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = changed(copy[first], tuple(rest), to)
    return copy


def wrongly(operation: Operation) -> Iterator[dict[str, Any]]:
    """Keyword arguments of httpx for requests that are wrong at one place."""
    sent = operation.body.get("json")
    if sent is not None:
        for path in places(sent):
            for wrong in WRONG:
                yield {"json": changed(sent, path, wrong)}


def parameters() -> Iterator[tuple[str, str]]:
    """Every parameter of a query, with the path of its operation."""
    for path, item in DOCUMENT["paths"].items():
        for each in item.get("get", {}).get("parameters", ()):
            if each["in"] == "query" and not path.endswith("/stream"):
                yield re.sub(r"\{\w+\}", ID, path), each["name"]


async def test_no_words_of_the_framework_reach_a_caller(client: httpx.AsyncClient) -> None:
    named = re.findall(r"\{(\w+)\}", " ".join(DOCUMENT["paths"]))
    ids = {name: "sales" if name in WORDS else ID for name in named} | {
        "sequence": 1,
        "revision": 1,
    }
    answers = [
        await client.request(operation.method, operation.path, headers={"If-Match": "*"}, **wrong)
        for operation in operations(DOCUMENT, ids)
        for wrong in wrongly(operation)
    ]
    answers += [
        await client.get(path, params={name: wrong})
        for path, name in parameters()
        for wrong in WRONG_TEXTS
    ]
    told = [each for answer in answers if answer.is_error for each in answer.json()["errors"]]
    assert len(told) > 1_000
    assert sorted({each["detail"] for each in told if FOREIGN.search(each["detail"])}) == []
