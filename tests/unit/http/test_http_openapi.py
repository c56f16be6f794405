"""The API's description: valid, complete by rule, and fit for client generators."""

from collections.abc import Callable

import httpx
import openapi_spec_validator
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from app.http import openapi

Client = httpx.AsyncClient
MakeApp = Callable[..., FastAPI]
ID = "01980000-0000-7000-8000-000000000000"


async def post(client: Client, body: bytes, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"content-type": "application/json"} | given
    return await client.post("/v1/gadgets", content=body, headers=sent)


async def test_the_description_is_valid_and_free_of_what_trips_generators(client: Client) -> None:
    response = await client.get("/openapi.json")
    document = response.json()
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in response.text
    schemas = document["components"]["schemas"]
    assert {"Gadget", "GadgetPage", "GadgetUpdate", "Money", "Problem"} <= set(schemas)
    assert not [name for name in schemas if "Input" in name or "Output" in name]
    assert schemas["Gadget"]["required"] == ["id", "price"]
    assert schemas["Gadget"]["examples"] == [{"id": ID, "price": None}]
    assert schemas["GadgetPage"]["examples"][0]["items"] == schemas["Gadget"]["examples"]
    assert "required" not in schemas["GadgetUpdate"]
    assert "title" not in schemas["GadgetUpdate"]["properties"]["size"]


async def test_an_operation_is_described_with_all_that_follows_by_rule(client: Client) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert list(paths) == ["/v1/gadgets", "/v1/gadgets/{gadget}"]
    create, amend = paths["/v1/gadgets"]["post"], paths["/v1/gadgets/{gadget}"]["patch"]
    read, listed = paths["/v1/gadgets/{gadget}"]["get"], paths["/v1/gadgets"]["get"]
    assert (create["operationId"], create["summary"]) == ("createGadget", "Create gadget")
    assert create["security"] == [{"apiKey": ["gadgets:write"]}]
    limits = {"RateLimit", "RateLimit-Policy"}
    assert set(create["responses"]["201"]["headers"]) == {"ETag", "Location"} | limits
    assert set(listed["responses"]["200"]["headers"]) == {"Link"} | limits
    assert set(read["responses"]["304"]["headers"]) == {"ETag"} | limits
    assert set(create["responses"]) == {
        "201",
        "400",
        "401",
        "403",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
    }
    assert {"404", "412", "428"} <= set(amend["responses"])
    refused = {"400", "401", "403", "404", "422", "429", "500", "503"}
    assert set(read["responses"]) == {"200", "304"} | refused
    (limit, cursor) = listed["parameters"]
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    assert cursor["schema"] == {"type": "string", "maxLength": 1024}


async def test_the_description_has_an_etag_and_a_sister_without_webhooks(client: Client) -> None:
    for path in ("/openapi.json", "/openapi-client.json"):
        first = await client.get(path)
        assert "webhooks" not in first.json()
        again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304


def test_the_committed_form_is_the_same_for_every_order_of_registration(make_app: MakeApp) -> None:
    once, again = make_app(CollectorRegistry()), make_app(CollectorRegistry())
    again.add_api_route("/hidden", lambda: None, include_in_schema=False)
    assert openapi.text(once) == openapi.text(again)
    assert openapi.text(once).endswith("}\n")


def test_two_operations_of_one_name_are_refused(make_app: MakeApp) -> None:
    app = make_app(CollectorRegistry())
    app.add_api_route("/other", lambda: None, name="create_gadget", methods=["POST"])
    with pytest.raises(ValueError, match="createGadget"):
        app.openapi()


async def test_a_problem_is_what_its_schema_says(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    body = (await post(client, b'{"name": 1}')).json()
    Draft202012Validator(schema).validate(body)
    assert [each["pointer"] for each in body["errors"]] == ["/name"]
