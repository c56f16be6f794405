"""A small application that stands on the HTTP conventions and on nothing else."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from pydantic import MISSING, ConfigDict, Field
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain import errors
from app.http import conditional, contract, docs, middleware, openapi, problems
from app.http.codes import CODES
from app.http.cursors import CursorParameter
from app.http.schemas import common

ID = "01980000-0000-7000-8000-000000000000"


class ByField(common.Request):
    type: Literal["field"]
    path: str


class ByCall(common.Request):
    type: Literal["call"]
    minutes: int


class GadgetUpdate(common.Update):
    """What to change of a gadget."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "It's <b>"}]})

    name: Annotated[common.Name | MISSING, Field(description="The `name`, as shown.")] = MISSING
    price: common.Money | MISSING | None = MISSING
    size: int | MISSING = MISSING
    weight: float | MISSING = MISSING
    facts: common.Attributes | MISSING = MISSING
    needs: (
        Annotated[
            list[Annotated[ByField | ByCall, Field(discriminator="type")]], Field(max_length=500)
        ]
        | MISSING
    ) = MISSING


class Gadget(common.Response):
    """A gadget."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": ID, "price": None}]})

    id: common.Id
    price: common.Money | None = None


class GadgetPage(common.Page[Gadget]):
    """A page of gadgets."""


class GadgetQuery(common.Query):
    limit: common.Limit = 50
    cursor: CursorParameter = None


class ColourQuery(common.Query):
    colour: list[Literal["red", "blue"]] = Field(default_factory=list, max_length=5)


class Allowed:
    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes

    async def __call__(self, request: Request) -> str:
        return str(request.state.request_id)


class Authentication:
    """Stands where the real one stands: inside of the outer layers, outside of FastAPI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"authorization", b"Bearer wrong") in scope["headers"]:
            raise errors.Unauthenticated("The key is not known.")
        structlog.contextvars.bind_contextvars(principal="key:1", workspace="acme")
        await self.app(scope, receive, send)


def gadgets() -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["gadgets"])
    reads = Annotated[str, Depends(Allowed("gadgets:read"))]
    writes = Annotated[str, Depends(Allowed("gadgets:write"))]

    @router.get("/gadgets")
    async def list_gadgets(_: reads, query: Annotated[GadgetQuery, Query()]) -> GadgetPage:
        return GadgetPage(items=[], page=common.PageInfo(next_cursor=str(query.limit)))

    @router.post("/gadgets", status_code=201)
    async def create_gadget(_: writes, gadget: GadgetUpdate, response: Response) -> Gadget:
        response.headers["Location"] = f"/v1/gadgets/{ID}"
        response.headers["ETag"] = conditional.etag(1)
        return Gadget.model_validate({"id": ID, "price": gadget.given().get("price")})

    @router.get("/gadgets/{gadget}")
    async def read_gadget(
        _: reads,
        gadget: common.Id,
        response: Response,
        if_none_match: conditional.IfNoneMatch = None,
    ) -> Gadget:
        conditional.offer(response, conditional.etag(3), if_none_match)
        return Gadget(id=gadget)

    @router.patch("/gadgets/{gadget}")
    async def amend_gadget(
        _: writes,
        gadget: common.Id,
        change: GadgetUpdate,
        if_match: conditional.IfMatch = None,
    ) -> Gadget:
        conditional.required(if_match)(3)
        return Gadget(id=gadget)

    @router.get("/colours", include_in_schema=False)
    async def list_colours(query: Annotated[ColourQuery, Query()]) -> GadgetPage:
        return GadgetPage(items=[], page=common.PageInfo(next_cursor=None))

    @router.put("/gadgets/by-name/{name}", include_in_schema=False)
    async def put_gadget(_: writes, name: common.Name, gadget: GadgetUpdate) -> Gadget:
        return Gadget(id=UUID(ID))

    @router.post("/pipelines/sales/imports", status_code=204, include_in_schema=False)
    async def import_gadgets(request: Request) -> None:
        async for _ in request.stream():
            pass

    @router.get("/refusals/{code}", include_in_schema=False)
    async def refuse(code: str) -> None:
        todo: list[type[errors.SluiceError]] = [errors.SluiceError]
        while todo:
            kind = todo.pop()
            if kind.code == code:
                raise kind("So it is.", [errors.Breach("/a~1b", "x", "y")])
            todo += kind.__subclasses__()

    @router.get("/broken", include_in_schema=False)
    async def break_down() -> None:
        raise RuntimeError("the password is hunter2")

    @router.get("/broken-stream", include_in_schema=False)
    async def break_midway() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("midway")

        return StreamingResponse(chunks())

    return router


def create_app(registry: CollectorRegistry, cors_origins: tuple[str, ...] = ()) -> FastAPI:
    app = FastAPI(
        title="Gadgets",
        version="1.2",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        openapi_tags=[{"name": "gadgets", "description": "All of the `gadgets`."}],
    )
    app.include_router(gadgets())
    problems.install(app)
    contract.install(app, partial(openapi.document, app))
    docs.install(app)
    app.add_middleware(Authentication)
    middleware.install(app, middleware.RequestMetrics(registry), cors_origins)
    return app


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make_app() -> Callable[..., FastAPI]:
    """Another application: `make_app(registry, cors_origins)`."""
    return create_app


@pytest.fixture
async def client(registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(registry))
    async with httpx.AsyncClient(transport=transport, base_url="http://sluice.test") as client:
        yield client


@pytest.fixture
def is_problem() -> Callable[[httpx.Response, str], dict[str, Any]]:
    """Checks that an answer is the problem of this code, by the table, and gives its body."""

    def check(response: httpx.Response, code: str) -> dict[str, Any]:
        assert response.status_code == CODES[code].status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = response.json()
        assert set(body) == {"type", "title", "status", "detail", "code", "request_id", "errors"}
        assert body["code"] == code
        assert body["status"] == response.status_code
        assert body["title"] == CODES[code].title
        assert body["type"] == f"/docs/errors#{code}"
        assert body["request_id"] == response.headers["x-request-id"]
        return body

    return check
