"""A machine of hypothesis drives the API beside a pure model of what it must say.

Deals are opened (in the past too, which steps their clocks from outside), moved, amended, followed
up, handed over, voided, imported and erased; the pipeline's rule is changed, flags are snoozed,
scans asked for: in any order, while one caller sees all and another only her own. No answer is a
5xx or breaks its schema, and after each step the API tells what the model holds.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from jsonschema import Draft202012Validator

from app.jobs.run_imports import run_pending_imports
from app.main import create_app
from app.settings import Settings
from app.storage.engine import Database
from tests.callers import sighted
from tests.conftest import make_workspace, running
from tests.feed import events_so_far

T = TypeVar("T")

PATH = ("lead", "offer", "talks", "won")
"""The stages that have a rank, in its order."""
CLOSED = ("won", "lost")
STAGES = (*PATH, "parked", "lost")
WATCHED = ("lead", "offer")
"""Stages with an idle threshold."""
DEFINITION: dict[str, Any] = {
    "key": "sales",
    "name": "Sales",
    "flow": "free",
    "stages": [
        {"key": "lead", "name": "Lead", "kind": "open"},
        {"key": "offer", "name": "Offer", "kind": "open"},
        {"key": "talks", "name": "Talks", "kind": "open"},
        {"key": "parked", "name": "Parked", "kind": "open", "off_path": True},
        {"key": "won", "name": "Won", "kind": "won"},
        {
            "key": "lost",
            "name": "Lost",
            "kind": "lost",
            "loss_reasons": [{"key": "price", "name": "Price"}],
        },
    ],
}
MAPPING = '{"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}'
ANY = {"If-Match": "*"}
ADA = "ada"
DOCUMENT = create_app(Settings()).openapi()


@dataclass
class Deal:
    """What the model holds of one deal: the stages it came through, and since when it is quiet."""

    id: str
    owner: str | None
    log: list[tuple[str, str, datetime]]
    """Of the standing moves: id, stage, when."""
    rows: int = 1
    """Moves that were ever appended, voided ones among them."""
    snoozed_until: datetime | None = None

    @property
    def stage(self) -> str:
        return self.log[-1][1]

    @property
    def status(self) -> str:
        return self.stage if self.stage in CLOSED else "open"

    @property
    def rank(self) -> int:
        """The furthest stage, from 0; the last one only as long as the deal is won."""
        if self.stage == "won":
            return PATH.index("won")
        return max([0, *(PATH.index(stage) for _, stage, _ in self.log if stage in PATH[:-1])])

    def crosses(self, threshold: timedelta) -> datetime | None:
        """When it has been in its stage for as long as the threshold."""
        return self.log[-1][2] + threshold if self.stage in WATCHED else None


class Api:
    """The application on a database, in a loop of its own, as the steps are no coroutines."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.run(self._open(url))

    async def _open(self, url: str) -> None:
        self.connect = await self._stack.enter_async_context(running(url))
        self.database = await Database.open(url, size=4)
        self._stack.push_async_callback(self.database.close)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture
def api(own_database: str) -> Iterator[Api]:
    """On a database that nobody else listens to: the other tests' loop rests meanwhile.

    What it is told of would fill its connection up, and a server that waits for that lets no
    database be dropped.
    """
    opened = Api(own_database)
    yield opened
    opened.close()


def template_of(path: str) -> str:
    """The path of the document that this one is."""
    parts = path.split("/")
    for template in DOCUMENT["paths"]:
        words = template.split("/")
        if len(words) == len(parts) and all(
            word == part or word.startswith("{") for word, part in zip(words, parts, strict=True)
        ):
            return str(template)
    raise AssertionError(path)


@cache
def announced(template: str, method: str, status: str, media: str) -> Draft202012Validator:
    """What the document says of an answer, with those of its schemas that this needs."""
    told = DOCUMENT["paths"][template][method]["responses"][status]
    if "$ref" in told:
        told = DOCUMENT["components"]["responses"][told["$ref"].rpartition("/")[2]]
    schema = told["content"][media]["schema"]
    needed: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        for name in re.findall(r"#/components/schemas/(\w+)", json.dumps(waiting.pop())):
            if name not in needed:
                needed[name] = DOCUMENT["components"]["schemas"][name]
                waiting.append(needed[name])
    return Draft202012Validator({**schema, "components": {"schemas": needed}})


def check_schema(answer: httpx.Response) -> None:
    """The answer is one that the document announces, in its status and its body."""
    assert answer.status_code < 500, answer.text
    if not answer.content:
        return
    template, method = template_of(answer.request.url.path), answer.request.method.lower()
    media = answer.headers["Content-Type"].partition(";")[0]
    announced(template, method, str(answer.status_code), media).validate(answer.json())


class Machine(RuleBasedStateMachine):
    """The steps. `api` is set by the test."""

    api: Api

    def __init__(self) -> None:
        super().__init__()
        self.deals: list[Deal] = []
        self.threshold = timedelta(days=7)
        self.erased = 0

    @initialize()
    def begin(self) -> None:
        self.principal, key = self.api.run(make_workspace(self.api.database))
        seller = self.api.run(sighted(self.api.database, self.principal, subject=ADA))
        self.all, self.ada = self.api.connect(key), self.api.connect(seller)
        self.ask("POST", "/v1/pipelines", 201, self.defined())

    def defined(self) -> dict[str, Any]:
        stages = [
            {**stage, "idle_after": f"P{self.threshold.days}D"}
            if stage["key"] in WATCHED
            else stage
            for stage in DEFINITION["stages"]
        ]
        return {**DEFINITION, "stages": stages}

    def ask(
        self, method: str, path: str, status: int, body: Any = None, *, by: str = "all", **more: Any
    ) -> Any:
        caller: httpx.AsyncClient = getattr(self, by)
        headers = ANY if method in {"PUT", "PATCH", "DELETE"} else {}
        answer = self.api.run(caller.request(method, path, json=body, headers=headers, **more))
        check_schema(answer)
        assert answer.status_code == status, f"{method} {path} {body}: {answer.text}"
        return answer.json() if answer.content else None

    def get(self, path: str, *, by: str = "all", **query: Any) -> Any:
        return self.ask("GET", path, 200, by=by, params=query)

    def pick(self, data: st.DataObject) -> Deal:
        return data.draw(st.sampled_from(self.deals), label="deal")

    @rule(
        owner=st.sampled_from((ADA, "ben", None)),
        stage=st.sampled_from((None, "offer", "talks", "parked")),
        days=st.sampled_from((0, 1, 6, 8, 20)),
    )
    def open_deal(self, owner: str | None, stage: str | None, days: int) -> None:
        opened_at = datetime.now(UTC) - timedelta(days=days)
        body = {"pipeline": "sales", "name": "A deal", "owner": owner, "stage": stage}
        if days:
            body["opened_at"] = opened_at.isoformat().replace("+00:00", "Z")
        shown = self.ask("POST", "/v1/opportunities", 201, body)
        (row,) = self.get(f"/v1/opportunities/{shown['id']}/transitions")["items"]
        at = datetime.fromisoformat(shown["stage_entered_at"])
        self.deals.append(Deal(shown["id"], owner, [(row["id"], stage or "lead", at)]))

    @precondition(lambda self: self.deals)
    @rule(data=st.data(), stage=st.sampled_from(STAGES))
    def move(self, data: st.DataObject, stage: str) -> None:
        deal = self.pick(data)
        body = {"to_stage": stage, **({"loss_reason": "price"} if stage == "lost" else {})}
        path = f"/v1/opportunities/{deal.id}/transitions"
        if stage == deal.stage:
            refused = self.ask("POST", path, 409, body)
            expected = "already_closed" if stage in CLOSED else "already_there"
            assert refused["code"] == expected
            return
        told = self.ask("POST", path, 201, body)
        at = datetime.fromisoformat(told["transition"]["occurred_at"])
        deal.log.append((told["transition"]["id"], stage, at))
        deal.rows += 1
        deal.snoozed_until = None

    @precondition(lambda self: self.deals)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        deal = self.pick(data)
        last = deal.log[-1][0]
        path = f"/v1/transitions/{last}/void"
        if len(deal.log) == 1:
            assert self.ask("POST", path, 422, {"reason": "why"})["code"] == "not_voidable"
            return
        first = deal.log[0][0]
        wrong = self.ask("POST", f"/v1/transitions/{first}/void", 409, {"reason": "why"})
        assert wrong["code"] == "not_last_transition"
        self.ask("POST", path, 200, {"reason": "a mistake"})
        deal.log.pop()
        self.forget_snooze(deal)

    def forget_snooze(self, deal: Deal) -> None:
        """A void brings back the flag that the move had resolved, asleep or not: it is read."""
        shown = self.get(f"/v1/opportunities/{deal.id}")
        until = shown["idle"]["snoozed_until"]
        deal.snoozed_until = None if until is None else datetime.fromisoformat(until)

    @precondition(lambda self: self.deals)
    @rule(data=st.data(), owner=st.sampled_from((ADA, "ben", None)))
    def hand_over(self, data: st.DataObject, owner: str | None) -> None:
        deal = self.pick(data)
        self.ask("PATCH", f"/v1/opportunities/{deal.id}", 200, {"owner": owner})
        deal.owner = owner

    @precondition(lambda self: self.deals)
    @rule(data=st.data())
    def follow_up(self, data: st.DataObject) -> None:
        deal = self.pick(data)
        done = {"kind": "call", "content": "Spoke of the offer"}
        self.ask("POST", f"/v1/opportunities/{deal.id}/activities", 201, done)

    @precondition(lambda self: self.deals)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        deal = self.pick(data)
        self.ask("DELETE", f"/v1/opportunities/{deal.id}", 204)
        self.ask("GET", f"/v1/opportunities/{deal.id}", 404)
        self.deals.remove(deal)
        self.erased += 1

    @rule(stages=st.lists(st.sampled_from(STAGES), min_size=1, max_size=4), days=st.integers(9, 30))
    def import_deal(self, stages: list[str], days: int) -> None:
        begun = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)
        moved = [stage for n, stage in enumerate(stages) if n == 0 or stage != stages[n - 1]]
        if moved[0] in CLOSED or any(a in CLOSED and b in CLOSED for a, b in pairwise(moved)):
            return  # what imports make of those is told in tests of their own
        name = f"crm-{len(self.deals)}-{self.erased}-{begun.timestamp():.0f}"
        if self.get("/v1/opportunities", external_id=name)["items"]:
            return
        times = [begun + timedelta(hours=n) for n in range(len(moved))]
        lines = [f"{name},{stage},{at.isoformat()}" for stage, at in zip(moved, times, strict=True)]
        file = "\n".join(["deal,stage,at", *lines])
        self.api.run(self.imported(file))
        (shown,) = self.get("/v1/opportunities", external_id=name)["items"]
        rows = self.get(f"/v1/opportunities/{shown['id']}/transitions")["items"]
        ids = [row["id"] for row in sorted(rows, key=lambda row: row["seq"])]
        log = list(zip(ids, moved, times, strict=True))
        self.deals.append(Deal(shown["id"], None, log, rows=len(log)))

    async def imported(self, file: str) -> None:
        sent = await self.all.post(
            "/v1/pipelines/sales/imports",
            files={"file": ("deals.csv", file)},
            data={"mapping": MAPPING},
        )
        check_schema(sent)
        assert sent.status_code == 202, sent.text
        async with asyncio.timeout(30):
            while (await self.all.get(sent.headers["Location"])).json()["finished_at"] is None:
                await run_pending_imports(self.api.database)

    @rule(days=st.sampled_from((3, 7, 14)))
    def change_threshold(self, days: int) -> None:
        self.threshold = timedelta(days=days)
        self.ask("PUT", "/v1/pipelines/sales", 200, self.defined())

    @rule()
    def scan(self) -> None:
        """After it, who is due by the model has a flag, and nobody else."""
        self.ask("POST", "/v1/idle-scans", 200)
        now = datetime.now(UTC)
        due = {
            deal.id
            for deal in self.deals
            if (crossing := deal.crosses(self.threshold)) is not None
            and crossing <= now
            and (deal.snoozed_until is None or deal.snoozed_until <= now)
        }
        flagged = {flag["opportunity"]["id"] for flag in self.flags() if flag["state"] != "snoozed"}
        assert flagged == due

    def flags(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v1/idle-flags", limit=200)["items"]
        return found

    @rule(data=st.data())
    def snooze(self, data: st.DataObject) -> None:
        awake = [flag for flag in self.flags() if flag["state"] != "snoozed"]
        if not awake:
            return
        flag = data.draw(st.sampled_from(awake), label="flag")
        until = datetime.now(UTC) + timedelta(days=2)
        body = {"until": until.isoformat().replace("+00:00", "Z"), "reason": "On holiday"}
        self.ask("POST", f"/v1/idle-flags/{flag['id']}/snooze", 200, body)
        (deal,) = [deal for deal in self.deals if deal.id == flag["opportunity"]["id"]]
        deal.snoozed_until = until

    @invariant()
    def tells_what_the_model_holds(self) -> None:
        if not hasattr(self, "all"):
            return
        shown = {each["id"]: each for each in self.get("/v1/opportunities", limit=200)["items"]}
        assert {
            key: (each["stage"], each["status"], each["owner"]) for key, each in shown.items()
        } == {deal.id: (deal.stage, deal.status, deal.owner) for deal in self.deals}
        own = [each["id"] for each in self.get("/v1/opportunities", by="ada", limit=200)["items"]]
        assert sorted(own) == sorted(deal.id for deal in self.deals if deal.owner == ADA)
        for deal in self.deals[-3:]:
            rows = self.get(f"/v1/opportunities/{deal.id}/transitions", limit=200)["items"]
            standing = [row for row in rows if row["voided"] is None]
            standing.sort(key=lambda row: row["seq"])
            assert [row["id"] for row in standing] == [entry[0] for entry in deal.log]
            assert [row["to_stage"] for row in standing] == [entry[1] for entry in deal.log]
            assert [row["from_stage"] for row in standing[1:]] == [e[1] for e in deal.log[:-1]]
            assert sorted(row["seq"] for row in rows) == list(range(1, deal.rows + 1))

    @invariant()
    def counts_what_the_model_holds(self) -> None:
        if not hasattr(self, "all"):
            return
        for by, deals in (
            ("all", self.deals),
            ("ada", [deal for deal in self.deals if deal.owner == ADA]),
        ):
            told = self.get("/v1/pipelines/sales/metrics/funnel", by=by)["total"]["stages"]
            ranks = Counter(deal.rank for deal in deals)
            assert [stage["reached"] for stage in told] == [
                sum(count for rank, count in ranks.items() if rank >= least)
                for least in range(len(PATH))
            ]

    def teardown(self) -> None:
        """Whatever was done, the feed tells of every move that stands."""
        if not hasattr(self, "all"):
            return
        told = self.api.run(events_so_far(self.api.database, self.all))
        moves = {
            event["data"]["transition_id"]
            for event in told
            if event["type"] == "opportunity.transitioned" and event["data"]
        }
        for deal in self.deals:
            assert {entry[0] for entry in deal.log[1:]} <= moves


def test_whatever_is_done_the_api_tells_what_a_pure_model_holds(api: Api) -> None:
    machine = type("Driven", (Machine,), {"api": api})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )
