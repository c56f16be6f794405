"""Every example of the description is valid, and those of requests are sent and taken.

What a request needs to exist (a pipeline, a deal, a flag) is made first, from examples too.
"""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.actions.manage_keys import issue_key
from app.domain.api_key import ApiKey
from app.http import openapi
from app.main import create_app
from app.settings import load_settings
from app.storage.access import NewKey
from app.storage.engine import Database
from tests.conftest import make_workspace

Document = dict[str, Any]

WRITTEN_AT: Final = datetime(2026, 11, 16, 14, 30, tzinfo=UTC)
"""The present of the examples. They are sent with their instants moved as far as it is past."""

SKIPPED_WITHIN: Final = {"createTransitionBatch": '"code":"not_found"'}
"""What an answer says of an example that is taken, and names a deal that exists nowhere."""

RECEIVER: Final = "hooks.example.com"

STAGES: Final = ("negotiation", "pricing", "contract")
"""What examples call stages, beside those of the example of a pipeline."""

LONG_AGO: Final = "2026-01-05T09:00:00Z"


@pytest.fixture(scope="module")
def document() -> Document:
    return json.loads(openapi.text(create_app(load_settings())))  # type: ignore[no-any-return]


# Valid


def test_every_example_is_one_of_its_schema(document: Document) -> None:
    wrong = [
        f"{place}: {error.message}"
        for place, schema, example in examples(document)
        for error in Draft202012Validator(
            {"allOf": [schema], "components": document["components"]},
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        ).iter_errors(example)
    ]
    assert wrong == []


def test_examples_stand_wherever_the_description_has_them(document: Document) -> None:
    """So that none is passed over in silence: the reader finds as many as the text holds."""
    found = list(examples(document))
    assert len(found) == sum(counted(document))
    assert {place.split("/")[1] for place, _, _ in found} == {"components", "paths", "webhooks"}


def test_every_format_is_checked_or_spelt_out_by_a_pattern(document: Document) -> None:
    known = set(Draft202012Validator.FORMAT_CHECKER.checkers)
    formats = {s["format"] for s in schemas(document) if not {"pattern", "enum"} & set(s)}
    assert formats <= known


def examples(node: Any, place: str = "") -> Iterator[tuple[str, Document, Any]]:
    """Each example with its schema: of schemas, of parameters, of headers, of bodies."""
    if isinstance(node, dict):
        schema = node.get("schema", node)
        if isinstance(node.get("examples"), list):
            yield from ((place, node, example) for example in node["examples"])
        elif isinstance(node.get("examples"), dict) and "schema" in node:
            yield from ((place, schema, each["value"]) for each in node["examples"].values())
        if "example" in node and "schema" in node:
            yield place, schema, node["example"]
    for key, inner in children(node):
        yield from examples(inner, f"{place}/{key}")


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """What is below, without values that are no part of the description's structure."""
    if isinstance(node, list):
        yield from ((str(number), inner) for number, inner in enumerate(node))
    elif isinstance(node, dict):
        values = {"const", "default", "enum", "example", "examples"}
        # A field may be called as a keyword is: below `properties` every name is a field.
        for key, inner in node.items():
            if key == "properties" and isinstance(inner, dict):
                yield from ((f"properties/{name}", field) for name, field in inner.items())
            elif key not in values:
                yield key, inner


def schemas(node: Any) -> Iterator[Document]:
    if isinstance(node, dict) and isinstance(node.get("format"), str):
        yield node
    for _, inner in children(node):
        yield from schemas(inner)


def counted(node: Any) -> Iterator[int]:
    """How many values stand under `example` and `examples`."""
    if isinstance(node, dict):
        yield "example" in node
        yield len(node.get("examples", ()))
    for _, inner in children(node):
        yield from counted(inner)


# Used


class World:
    """A workspace in which the things exist that an example speaks of."""

    def __init__(self, client: httpx.AsyncClient, document: Document) -> None:
        self.client = client
        self.schemas = document["components"]["schemas"]

    def example(self, schema: str, number: int = 0) -> Document:
        return here_and_now(self.schemas[schema]["examples"][number])  # type: ignore[no-any-return]

    async def made(self, path: str, body: Document | None = None) -> Document:
        answer = await self.client.post(path, json=body)
        assert answer.status_code in {200, 201}, f"{path}: {answer.text}"
        return answer.json()  # type: ignore[no-any-return]

    async def pipelines(self, example: Document) -> None:
        """The pipelines that examples name, with the stages that they name but this one makes."""
        into = example.get("into", ())
        made = {example.get("key"), *(each["key"] for each in into if isinstance(each, dict))}
        sales = self.example("PipelineCreate", -1)
        known = {stage["key"] for stage in sales["stages"]}
        further = [{"key": key, "name": key, "kind": "open"} for key in STAGES if key not in known]
        sales["stages"][1:1] = further
        sales["stages"] = [stage for stage in sales["stages"] if stage["key"] not in made]
        await self.made("/v1/pipelines", sales)
        await self.made("/v1/pipelines", {"key": "onboarding", "template": "b2b"})

    async def opportunity_id(self, **facts: str) -> str:
        new = {**self.example("OpportunityCreate"), "opened_at": LONG_AGO, **facts}
        return (await self.made("/v1/opportunities", new))["id"]  # type: ignore[no-any-return]

    async def transition_id(self) -> str:
        log = f"/v1/opportunities/{await self.opportunity_id()}/transitions"
        moved = await self.made(log, self.example("TransitionCreate"))
        return moved["transition"]["id"]  # type: ignore[no-any-return]

    async def flag_id(self) -> str:
        await self.opportunity_id(stage="quote")
        await self.made("/v1/idle-scans")
        listed = await self.client.get("/v1/idle-flags")
        return listed.json()["items"][0]["id"]  # type: ignore[no-any-return]

    async def endpoint_id(self) -> str:
        new = self.example("WebhookEndpointCreate")
        return (await self.made("/v1/webhook-endpoints", new))["id"]  # type: ignore[no-any-return]

    async def key_id(self) -> str:
        new = self.example("ApiKeyCreate")
        return (await self.made("/v1/api-keys", new))["id"]  # type: ignore[no-any-return]

    async def pipeline(self) -> str:
        return "sales"

    async def stage(self) -> str:
        return "negotiation"

    async def external_id(self) -> str:
        return "CRM-1042"


def here_and_now(value: Any) -> Any:
    """The value with each instant as far from now as it is from when it was written, and with
    receivers of webhooks on this machine: no test looks up a name.
    """
    if isinstance(value, dict):
        return {key: here_and_now(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [here_and_now(inner) for inner in value]
    if isinstance(value, str) and value.startswith(f"https://{RECEIVER}/"):
        return value.replace(f"https://{RECEIVER}", "http://127.0.0.1:9")
    try:
        instant = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return value
    moved = instant + (datetime.now(UTC) - WRITTEN_AT)
    return moved.strftime("%Y-%m-%dT%H:%M:%SZ")


def asked(document: Document) -> Iterator[tuple[str, str, Document, str, Any]]:
    """Each operation with a body, and each example of that: method, path, operation, media type."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                name = content["schema"]["$ref"].rpartition("/")[2]
                for example in document["components"]["schemas"][name]["examples"]:
                    yield method, path, operation, media, here_and_now(example)


async def test_every_example_of_a_request_is_taken_by_the_service(
    database: Database,
    service: Callable[[ApiKey | None], httpx.AsyncClient],
    document: Document,
) -> None:
    wrong = []
    for method, path, operation, media, example in asked(document):
        _, key = await make_workspace(database)
        world = World(service(key), document)
        if path.startswith("/v1/workspaces"):  # which are made by who runs the service
            operator = NewKey(name="ops", subject="ops", scopes=frozenset())
            world.client = service(await issue_key(database, None, operator))
        answer = await sent(world, method, path, operation, media, example)
        name = operation["operationId"]
        if not answer.is_success or SKIPPED_WITHIN.get(name, "") not in answer.text:
            wrong.append(f"{name} as {media}: {answer.text[:600]}")
    assert wrong == []


async def sent(
    world: World, method: str, path: str, operation: Document, media: str, example: Any
) -> httpx.Response:
    if not path.startswith("/v1/workspaces") and operation["operationId"] != "createPipeline":
        await world.pipelines(example)
    parameters = {each["name"]: each["in"] for each in operation.get("parameters", ())}
    for name in (name for name, where in parameters.items() if where == "path"):
        path = path.replace(f"{{{name}}}", await getattr(world, name)())
    headers = {"Idempotency-Key": os.urandom(8).hex()} if method == "post" else {}
    if "If-Match" in parameters and operation["operationId"] != "upsertOpportunityByExternalId":
        headers["If-Match"] = "*"
    if media == "multipart/form-data":
        form = {"files": {"file": ("deals.csv", example["file"])}, "data": dict(example)}
        del form["data"]["file"]
        return await world.client.request(method, path, headers=headers, **form)
    headers["Content-Type"] = media
    return await world.client.request(
        method, path, headers=headers, content=json.dumps(example).encode()
    )
