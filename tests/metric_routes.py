"""Every route that answers with figures, as the OpenAPI document tells of it, and a past to ask of.

A metric that is added is found here, and is then asked all that bad input and empty populations ask
of metrics. Only what makes a question complete cannot be read from the document: `COMPLETE`.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, NoReturn
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx

from app.domain.definition import Definition, begin
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule, LossReason, StageKind
from app.http import openapi
from app.main import create_app
from app.settings import load_settings
from app.storage.engine import Database
from tests.conftest import make_workspace, running
from tests.factories import stage
from tests.past_deals import define, insert, past_deal

Pair = tuple[str, str]

SQL = "'; DROP TABLE opportunity; --"
LISTS = "/deals"
COMPLETE: dict[str, tuple[Pair, ...]] = {
    "/compare": (("figure", "win_rate"), ("to", "2024-02-01"), ("against_from", "2024-02-01")),
    "/trend": (("figure", "win_rate"), ("from", "2024-01-01"), ("to", "2024-03-01")),
    "/cumulative-flow": (("from", "2024-01-01"), ("to", "2024-03-01")),
    "/cumulative-flow/deals": (("from", "2024-01-01"), ("to", "2024-03-01")),
    "/time-in-stage/curve": (("stage", "lead"),),
}
"""By the end of a path: what must be said before it answers. A list opens its first cell."""
GROUPS: tuple[Pair, ...] = (("figure", "won"), ("group", "2024-01"), ("against", "2023-12"))
"""What completes a comparison that is grouped."""

ODD_NAMES = ("a.b", "it's", 'say "so"', "100 %", "%41", "größe", "地区", "{0}", "a]b[c", "--", "\\")
"""Names of attributes that one deal of `sales` has, each with the value `odd`."""


def day(number: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


def definition(key: str) -> Definition:
    reasons = (LossReason("price", "Too dear"),)
    return Definition(
        key=key,
        name=key,
        flow=Flow.FREE,
        stages=(
            stage("lead", 0, probability=Decimal("0.1"), target_dwell=Period.parse("P3D")),
            stage("offer", 0, idle=IdleRule(after=Period.parse("P5D"))),
            stage("parked", 0, off_path=True),
            stage("won", 0, StageKind.WON),
            stage("lost", 0, StageKind.LOST, loss_reasons=reasons),
        ),
        timezone="Europe/Berlin",
    )


@dataclass(frozen=True, repr=False)
class Route:
    """An operation that answers with figures, and the names of its query parameters."""

    path: str
    takes: frozenset[str]
    complete: Sequence[Pair]

    def __repr__(self) -> str:
        return self.path

    def asked(self, pipeline: str, *pairs: Pair) -> str:
        """Where the complete question is asked, but for `pairs`; surrogates as they come."""
        named = {name for name, _ in pairs}
        complete = GROUPS if "group_by" in named and "against" in self.takes else self.complete
        kept = [(name, value) for name, value in complete if name not in named]
        query = urlencode([*kept, *pairs], quote_via=quote, errors="surrogatepass")
        return f"{self.path.replace('{pipeline}', pipeline)}?{query}"


@dataclass(frozen=True)
class World:
    """A workspace with the pipelines `sales`, in which four deals were, and `unused`."""

    client: httpx.AsyncClient
    routes: Sequence[Route]

    async def ask(self, route: Route, pipeline: str, *pairs: Pair) -> httpx.Response:
        return await self.client.get(route.asked(pipeline, *pairs))

    def takers(self, pairs: Sequence[Pair]) -> Sequence[Route]:
        """The routes that take these parameters; one that no route knows is asked of all."""
        names = {name for name, _ in pairs} & frozenset().union(*(r.takes for r in self.routes))
        return [route for route in self.routes if names <= route.takes]


@asynccontextmanager
async def opened_world(database: Database, login_url: str) -> AsyncIterator[World]:
    """The world, with the application running on it."""
    principal, key = await make_workspace(database)
    sales, unused = (begin(definition(name), uuid4(), day(0)) for name in ("sales", "unused"))
    for pipeline in (sales, unused):
        await define(database, principal.workspace_id, pipeline, day(0))
    attributes = dict.fromkeys(ODD_NAMES, "odd")
    deals = [
        past_deal(sales, stays, currency="EUR", amount=Decimal(70), owner="ada", **more)
        for stays, more in (
            ([("lead", day(1)), ("offer", day(3)), ("won", day(5))], {}),
            ([("lead", day(1)), ("offer", day(3)), ("lost", day(7))], {}),
            ([("lead", day(2)), ("offer", day(4)), ("lead", day(4))], {"tags": ("hot",)}),
            ([("offer", day(9))], {"attributes": attributes}),
        )
    ]
    await insert(database, principal.workspace_id, sales, deals)
    async with running(login_url) as connect:
        client = connect(key)
        yield World(client, [route async for route in _routes(client)])


async def _routes(client: httpx.AsyncClient) -> AsyncIterator[Route]:
    document = json.loads(openapi.text(create_app(load_settings())))
    for path, item in document["paths"].items():
        if "/metrics/" in path:
            takes = frozenset(p["name"] for p in item["get"]["parameters"] if p["in"] == "query")
            complete = next((own for end, own in COMPLETE.items() if path.endswith(end)), ())
            route = Route(path, takes, complete)
            if path.endswith(LISTS):
                refusal = (await client.get(route.asked("sales", ("cell", "?")))).json()
                names = refusal["detail"].removeprefix("A cell is one of ")
                first = re.sub("<.+?>", "lead", re.split("[,;]", names)[0])
                route = Route(path, takes, (*complete, ("cell", first)))
            yield route


def read(text: str) -> Any:
    """JSON as RFC 8259 has it: Python's own reader would take NaN and Infinity."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON number")

    return json.loads(text, parse_constant=refuse)


def parts(value: Any) -> Iterator[Any]:
    """All values that an answer is made of, itself included."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from parts(each)


def sound(answer: httpx.Response) -> Any:
    """The answer, after a look at what all figures must obey."""
    body = read(answer.text)
    for part in parts(body):
        match part:
            case float():
                assert isfinite(part)
            case {"count": int(count), "of": int(of), "rate": rate, "low": low, "high": high}:
                assert 0 <= count <= of
                assert (rate is None) == (of == 0)
                assert rate is None or 0 <= rate <= 1
                assert low is None or 0 <= low <= rate <= high <= 1
    return body


async def answered(world: World, pipeline: str, *pairs: Pair) -> dict[str, Any]:
    """By path: what each route answers that takes these parameters."""
    found = {}
    for route in world.takers(pairs):
        answer = await world.ask(route, pipeline, *pairs)
        assert answer.status_code == 200, (route.path, answer.text)
        found[route.path] = sound(answer)
    assert found
    return found


def counted(answer: Any) -> set[Any]:
    """What an answer says but for its policy and for what it repeats of the definition."""
    told = {"policy", "definition", "rank", "benchmark", "probability", "period_seconds"}
    if isinstance(answer, dict):
        return {n for name, value in answer.items() if name not in told for n in counted(value)}
    if isinstance(answer, list):
        return {number for value in answer for number in counted(value)}
    return set() if isinstance(answer, str | bool) else {answer}
