"""The board in docs/kanban.md, run as it stands, shows what the service would list."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.jobs.run_imports import run_pending_imports
from app.storage.engine import Database
from tests.callers import sighted
from tests.factories import keep_pipeline, move, open_deal
from tests.guide import fence
from tests.idle import ago, only_flag, scan, watched_pipeline
from tests.streams import Serving, serving

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")

ANY = {"If-Match": "*"}
SHOWN = ("id", "version", "name", "stage", "amount", "owner", "idle")

# The page's code, wired as the page does it, with a terminal for a screen: a line for every change
# of the board, and a line in for every drop. A card that is dropped `late` was seen in the version
# before.
SCREEN = """
import { createInterface } from "node:readline";
const [base, key] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}` };
const tell = (told) => console.log(JSON.stringify(told));
let begin;
const begun = new Promise((now) => { begin = now; });
const render = (columns, cards) => {
  tell({ columns: columns.map(({ key }) => key) });
  tell({ cards: [...cards.values()] });
  begin();
};
const stop = (status) => {
  tell({ refused: status });
  process.exit();
};
createInterface({ input: process.stdin }).on("line", async (line) => {
  await begun;
  const { id, to, more, late } = JSON.parse(line);
  const { columns, cards } = board;
  if (late) cards.set(id, { ...cards.get(id), version: cards.get(id).version - 1 });
  const problem = await (more ? move(api, cards, id, to, more) : dropped(id, to));
  tell({ problem: problem?.code ?? null });
  render(columns, cards);
});
"""

FOLLOWING = """
const [url] = process.argv.slice(2);
await follow(url, {}, "1-1-0", (event) => console.log(JSON.stringify({ event })), 100);
"""

Cards = list[dict[str, Any]]


class Board:
    """A board that runs beside the tests."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self, name: str) -> Any:
        """What is told next under this name."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                told = json.loads(line)
                if name in told:
                    return told[name]
        raise AssertionError("the board has ended")

    async def shows(self, expected: Cards) -> Cards:
        """The board as soon as it shows these cards."""
        async with asyncio.timeout(30):
            while True:
                drawn = [
                    {name: card[name] for name in SHOWN}
                    for card in await self.next("cards")
                    if card["status"] == "open"
                ]
                if sorted(drawn, key=lambda card: card["id"]) == expected:
                    return expected

    async def has(self, columns: list[str]) -> None:
        """Wait until these are the columns."""
        while await self.next("columns") != columns:
            pass

    async def refused(self) -> int:
        """The status with which the board has ended."""
        status: int = await self.next("refused")
        return status

    async def drop(self, **dropped: Any) -> str | None:
        """Drop a card; the code of the problem, if there is one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dropped).encode() + b"\n")
        problem: str | None = await self.next("problem")
        return problem


def board(folder: Path, service: Serving, key: ApiKey | str) -> AbstractAsyncContextManager[Board]:
    return running(folder, SCREEN + fence("kanban", "js wiring"), service.url, str(key))


@asynccontextmanager
async def running(folder: Path, more: str, *arguments: str) -> AsyncIterator[Board]:
    """The page's code with some more behind it."""
    program = folder / "board.mjs"
    program.write_text(fence("kanban", "js board") + more)
    process = await asyncio.create_subprocess_exec(
        "node",
        str(program),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Board(process)
    finally:
        process.kill()
        await process.communicate()


async def listed(client: httpx.AsyncClient) -> Cards:
    """The open deals as the service lists them."""
    answer = await client.get("/v1/opportunities", params={"status": "open", "limit": 200})
    found = [
        {**deal, "idle": deal["idle"]["flagged_at"] and deal["idle"]["severity"]}
        for deal in answer.json()["items"]
    ]
    cards = [{name: deal[name] for name in SHOWN} for deal in found]
    return sorted(cards, key=lambda card: card["id"])


@pytest.fixture
async def key(database: Database, identity: tuple[Principal, ApiKey]) -> ApiKey:
    principal, key = identity
    await keep_pipeline(database, principal.workspace_id, watched_pipeline())
    return key


@pytest.fixture
async def service(login_url: str) -> AsyncIterator[Serving]:
    async with serving(login_url, webhooks=False, jobs=False) as running:
        yield running


async def test_a_board_follows_whatever_others_do(
    service: Serving, key: ApiKey, tmp_path: Path
) -> None:
    async with service.client(key) as client, board(tmp_path, service, key) as shown:
        await shown.shows([])
        first = (await open_deal(client, amount={"amount": "10.00", "currency": "EUR"}))["id"]
        second = (await open_deal(client, stage="talks", opened_at=ago(days=1.5)))["id"]
        third = (await open_deal(client))["id"]
        await shown.shows(await listed(client))

        await move(client, first, "offer")
        moved = await move(client, third, "talks")
        await client.patch(f"/v1/opportunities/{first}", json={"name": "New"}, headers=ANY)
        void = f"/v1/transitions/{moved['transition']['id']}/void"
        assert (await client.post(void, json={"reason": "A slip."})).status_code == 200
        assert await scan(client) == 1
        cards = await shown.shows(await listed(client))
        assert {card["id"]: (card["stage"], card["idle"]) for card in cards} == {
            first: ("offer", None),
            second: ("talks", "warning"),
            third: ("lead", None),
        }

        await move(client, first, "won")
        await client.delete(f"/v1/opportunities/{third}", headers=ANY)
        await move(client, second, "offer")
        (left,) = await shown.shows(await listed(client))
        assert (left["id"], left["idle"]) == (second, None)
        await move(client, first, "lead")
        assert len(await shown.shows(await listed(client))) == 2


async def test_a_board_that_is_opened_shows_what_is_there_flags_included(
    service: Serving, key: ApiKey, tmp_path: Path
) -> None:
    async with service.client(key) as client:
        await open_deal(client, opened_at=ago(days=8))
        closed = await open_deal(client)
        await move(client, closed["id"], "won")
        assert await scan(client) == 1
        async with board(tmp_path, service, key) as shown:
            (card,) = await shown.shows(await listed(client))
            assert card["idle"] == "warning"
            flag = await only_flag(client)
            snooze = {"until": ago(days=-1), "reason": "They are on leave."}
            snoozed = await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=snooze)
            assert snoozed.status_code == 200, snoozed.text
            (card,) = await shown.shows(await listed(client))
            assert card["idle"] is None


async def test_a_drop_moves_the_card_or_puts_it_back(
    service: Serving, key: ApiKey, tmp_path: Path
) -> None:
    async with service.client(key) as client:
        deal = (await open_deal(client))["id"]
        async with board(tmp_path, service, key) as shown:
            assert await shown.drop(id=deal, to="offer") is None
            (card,) = await shown.shows(await listed(client))
            assert (card["stage"], card["version"]) == ("offer", 2)
            assert await shown.drop(id=deal, to="lost") == "loss_reason_required"
            await shown.shows([card])
            assert await shown.drop(id=deal, to="talks", late=True) == "stale"
            await shown.shows([card])
            assert await shown.drop(id=deal, to="offer") == "already_there"
            await shown.shows([card])
            assert await shown.drop(id=deal, to="lost", more={"loss_reason": "price"}) is None
            await shown.shows([])


async def test_a_deal_that_is_handed_to_somebody_appears_on_their_board(
    database: Database,
    service: Serving,
    key: ApiKey,
    identity: tuple[Principal, ApiKey],
    tmp_path: Path,
) -> None:
    own = await sighted(database, identity[0], subject="ada")
    async with (
        service.client(key) as client,
        service.client(own) as narrow,
        board(tmp_path, service, own) as shown,
    ):
        deal = (await open_deal(client, owner="tom"))["id"]
        await shown.shows([])
        given = await client.patch(f"/v1/opportunities/{deal}", json={"owner": "ada"}, headers=ANY)
        assert given.status_code == 200
        cards = await shown.shows(await listed(narrow))
        assert [card["id"] for card in cards] == [deal]


async def test_a_board_begins_anew_where_the_pipeline_has_changed_or_history_was_imported(
    database: Database, service: Serving, identity: tuple[Principal, ApiKey], tmp_path: Path
) -> None:
    key = identity[1]
    async with service.client(key) as client:
        made = await client.post("/v1/pipelines", json={"key": "sales", "template": "b2b"})
        columns = [stage["key"] for stage in made.json()["stages"] if stage["kind"] == "open"]
    async with service.client(key) as client, board(tmp_path, service, key) as shown:
        await shown.has(columns)
        stage = {"key": "trial", "name": "Trial", "kind": "open"}
        added = await client.post("/v1/pipelines/sales/stages", json=stage, headers=ANY)
        assert added.status_code in {200, 201}, added.text
        await shown.has([*columns, "trial"])
        mapping = {"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}
        sent = await client.post(
            "/v1/pipelines/sales/imports",
            data={"mapping": json.dumps(mapping)},
            files={"file": ("history.csv", "deal,stage,at\nD1,prospect,2026-01-05\n", "text/csv")},
        )
        assert sent.status_code == 202, sent.text
        await run_pending_imports(database)
        (card,) = await shown.shows(await listed(client))
        assert card["name"] == "D1"


async def test_a_board_that_is_refused_ends_and_says_with_which_status(
    service: Serving, key: ApiKey, tmp_path: Path
) -> None:
    async with board(tmp_path, service, f"{key}0") as shown:
        assert await shown.refused() == 401


async def test_a_connection_that_says_nothing_is_taken_for_dead_and_followed_anew(
    tmp_path: Path,
) -> None:
    seen: list[bytes] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        writer.write(f"id: 1-2-{len(seen)}\ndata: {len(seen)}\n\n".encode())
        await writer.drain()
        await reader.read()  # until the other side has had enough
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, running(tmp_path, FOLLOWING, url) as followed:
        assert [await followed.next("event") for _ in range(2)] == [1, 2]
    assert [b"last-event-id: 1-1-0" in seen[0].lower(), b"1-2-1" in seen[1]] == [True, True]
