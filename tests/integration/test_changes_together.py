"""Changes of deals that wait at the same time share a transaction, and nobody can tell by more than
the time that it takes: each is decided, refused and answered by itself.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import cycle, groupby, islice
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.actions.check_projection import disagreements
from app.domain.access import WHOLE, Principal
from app.domain.api_key import ApiKey
from app.domain.period import Period
from app.domain.pipeline import IdleRule
from app.storage import bulk, line, opportunities
from app.storage.engine import Connection, Database
from app.storage.statement import Part
from tests.asking import decided
from tests.callers import sighted
from tests.conftest import running
from tests.factories import guarded, keep_pipeline, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.idle import flags, scan
from tests.logs import assert_is_chain, whole_log

DEALS = "/v1/opportunities"
# How many go together depends on how fast they come in: where a test asks for fewer transactions
# than so many, it leaves room for more than there are on a machine with nothing else to do.
TRANSACTIONS = """
SELECT count(DISTINCT xid) FROM event
WHERE type IN ('opportunity.transitioned', 'activity.recorded')
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, nobody loses a place: so transactions can be counted."""
    monkeypatch.setattr(line, "PATIENCE", 60)


@pytest.fixture
async def sales(database: Database, principal: Principal) -> AsyncIterator[None]:
    """A pipeline; after the test every deal's row is what its log says."""
    pipeline = sales_pipeline()
    stages = tuple(replace(s, loss_reasons=s.loss_reasons[:1]) for s in pipeline.stages)
    await keep_pipeline(database, principal.workspace_id, replace(pipeline, stages=stages))
    yield
    assert [deal async for deal in disagreements(database, principal.workspace_id)] == []


@pytest.fixture
async def elsewhere(
    login_url: str, identity: tuple[Principal, ApiKey]
) -> AsyncIterator[httpx.AsyncClient]:
    """The same caller at another service on the same database."""
    async with running(login_url) as connect:
        yield connect(identity[1])


async def opened(client: httpx.AsyncClient, count: int, **facts: Any) -> list[str]:
    return [(await open_deal(client, **facts))["id"] for _ in range(count)]


async def post_move(
    client: httpx.AsyncClient, deal: str, to_stage: str = "offer", **headers: str
) -> httpx.Response:
    return await client.post(
        f"{DEALS}/{deal}/transitions",
        json={"to_stage": to_stage},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


async def transactions(database: Database, principal: Principal) -> int:
    """In how many transactions deals were moved and followed up."""
    found: int = await database.write(
        principal.workspace_id, lambda connection: connection.fetchval(TRANSACTIONS)
    )
    return found


async def test_moves_and_follow_ups_of_many_deals_at_once_share_their_transactions(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    moved, followed_up = await opened(client, 12), await opened(client, 12)
    call = {"kind": "call", "next_step": "Send the offer", "next_step_at": "2100-01-01T00:00:00Z"}
    answers = await asyncio.gather(
        *(post_move(client, deal) for deal in moved),
        *(client.post(f"{DEALS}/{deal}/activities", json=call) for deal in followed_up),
    )
    assert [answer.status_code for answer in answers] == [201] * 24
    for deal, answer in zip(moved, answers, strict=False):
        told = answer.json()
        log = await whole_log(client, deal)
        assert log[1:] == [told["transition"]]
        assert (await client.get(f"{DEALS}/{deal}")).json() == told["opportunity"]
        assert told["opportunity"]["stage"] == "offer"
    for deal, answer in zip(followed_up, answers[12:], strict=True):
        listed = (await client.get(f"{DEALS}/{deal}/activities")).json()["items"]
        assert listed == [answer.json()]
    assert await transactions(database, principal) <= 12


async def test_what_is_refused_among_them_is_refused_by_itself(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    first, other, stale, lost, *good = await opened(client, 12)
    unknown = str(UUID(int=7))
    answers = await asyncio.gather(
        *(post_move(client, deal) for deal in (first, other)),  # these go at once
        post_move(client, stale, if_match='"7"'),
        post_move(client, lost, "lost"),
        post_move(client, unknown),
        *(post_move(client, deal, if_match='"1"') for deal in good),
    )
    assert [answer.status_code for answer in answers] == [201, 201, 412, 422, 404, *[201] * 8]
    codes = [answer.json()["code"] for answer in answers if answer.is_client_error]
    assert codes == ["stale", "loss_reason_required", "not_found"]
    for deal in (stale, lost):
        assert (await client.get(f"{DEALS}/{deal}")).json()["version"] == 1
    assert await transactions(database, principal) <= 6


async def test_each_sees_only_what_its_caller_may(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    service: Callable[[ApiKey | None], httpx.AsyncClient],
    sales: None,
) -> None:
    mine = await opened(client, 4, owner="ada")
    theirs = await opened(client, 4, owner="grace")
    ada = service(await sighted(database, principal))
    answers = await asyncio.gather(*(post_move(ada, deal) for deal in (*mine, *theirs)))
    assert [answer.status_code for answer in answers] == [201] * 4 + [404] * 4
    for deal in theirs:
        assert len(await whole_log(client, deal)) == 1


async def test_a_key_is_answered_once_whoever_it_goes_with(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    deals = await opened(client, 8)

    async def all_of_them() -> list[httpx.Response]:
        return await asyncio.gather(
            *(
                decided(post_move, client, deal, Idempotency_Key=f"key {n}")
                for n, deal in enumerate(deals)
                for _ in range(2)
            )
        )

    first = await all_of_them()
    assert [answer.status_code for answer in first] == [201] * 16
    told = [answer.content for answer in first]
    assert told[::2] == told[1::2]
    assert await transactions(database, principal) < len(deals)
    again = await all_of_them()
    assert [answer.content for answer in again] == told
    assert {answer.headers["Idempotent-Replayed"] for answer in again} == {"true"}
    others = await asyncio.gather(
        *(post_move(client, deal, "talks", Idempotency_Key="key 0") for deal in deals)
    )
    assert {answer.json()["code"] for answer in others} == {"idempotency_key_reused"}
    for deal in deals:
        assert len(await whole_log(client, deal)) == 2


async def test_a_deal_that_another_holds_keeps_none_of_the_others(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    first, second, held, *free = await opened(client, 12)
    locked, release = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> None:
        await opportunities.read(
            connection, principal.workspace_id, UUID(held), sight=WHOLE, locked=True
        )
        locked.set()
        await release.wait()

    holding = asyncio.create_task(database.write(principal.workspace_id, hold))
    await locked.wait()
    at_once = [asyncio.ensure_future(post_move(client, deal)) for deal in (first, second)]
    waiting = asyncio.ensure_future(post_move(client, held))
    others = await asyncio.gather(*at_once, *(decided(post_move, client, deal) for deal in free))
    assert {answer.status_code for answer in others} == {201}
    assert not holding.done()
    release.set()
    await holding
    told = await waiting
    if told.status_code == 503:  # where the others took longer than a lock is waited for
        told = await decided(post_move, client, held)
    assert told.status_code == 201
    assert len(await whole_log(client, held)) == 2


@pytest.mark.parametrize("committed", [False, True])
async def test_who_does_not_hear_of_the_commit_is_told_so_and_nothing_is_done_again(
    client: httpx.AsyncClient, sales: None, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """The connection dies before the server has the COMMIT, or before its answer is there."""
    deals = await opened(client, 12)
    execute, execute_all = asyncpg.Connection.execute, bulk.execute_all
    doomed: list[int] = []

    async def decided_together(connection: Any, parts: Sequence[Part]) -> None:
        await execute_all(connection, parts)
        doomed.append(connection.get_server_pid())

    async def dying(connection: Any, statement: str, *args: Any) -> str:
        if statement != "COMMIT" or connection.get_server_pid() not in doomed:
            return await execute(connection, statement, *args)
        if committed:
            await execute(connection, statement)
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")

    monkeypatch.setattr(bulk, "execute_all", decided_together)
    monkeypatch.setattr(asyncpg.Connection, "execute", dying)
    note = {"kind": "note", "content": "Nothing but this says whether it was written twice."}
    answers = await asyncio.gather(
        *(client.post(f"{DEALS}/{deal}/activities", json=note) for deal in deals)
    )
    monkeypatch.undo()
    # Who came while both places were free went alone, and over another connection.
    outcomes = Counter(answer.status_code for answer in answers)
    assert (outcomes.keys(), outcomes[503] >= 6) == ({201, 503}, True)
    for deal, answer in zip(deals, answers, strict=True):
        written = (await client.get(f"{DEALS}/{deal}/activities")).json()["items"]
        assert len(written) == (1 if answer.status_code == 201 else int(committed))


async def test_changes_of_one_deal_go_one_after_the_other_and_with_those_of_others(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    deals = await opened(client, 10)
    answers = await asyncio.gather(
        *(decided(post_move, client, deal, stage) for stage in ("offer", "talks") for deal in deals)
    )
    assert {answer.status_code for answer in answers} == {201}
    for deal in deals:
        log = await whole_log(client, deal)
        assert_is_chain(log)
        assert [row["to_stage"] for row in log] == ["lead", "offer", "talks"]
    assert await transactions(database, principal) <= 12


async def test_two_services_under_the_same_keys_do_everything_once(
    client: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    sales: None,
) -> None:
    """A note leaves the deal's row alone: nothing but its key keeps it from standing twice."""
    deals = await opened(client, 12)

    async def note(own: httpx.AsyncClient, turn: int, deal: str) -> httpx.Response:
        return await decided(
            own.post,
            f"{DEALS}/{deal}/activities",
            json={"kind": "note"},
            headers={"Idempotency-Key": f"{turn} {deal}"},
        )

    for turn in range(5):
        answers = await asyncio.gather(
            *(note(client, turn, deal) for deal in deals),
            *(note(elsewhere, turn, deal) for deal in reversed(deals)),
        )
        assert {answer.status_code for answer in answers} == {201}
        told = [answer.content for answer in answers]
        assert told[: len(deals)] == told[: len(deals) - 1 : -1]
    for deal in deals:
        listed = (await client.get(f"{DEALS}/{deal}/activities")).json()["items"]
        assert len(listed) == 5
    assert await transactions(database, principal) < 5 * len(deals)


async def test_two_services_change_the_same_deals_and_the_feed_keeps_the_logs_order(
    client: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    sales: None,
) -> None:
    deals = await opened(client, 6)
    moved: Counter[str] = Counter()
    followed_up: Counter[str] = Counter()

    async def caller(own: httpx.AsyncClient, turn: int) -> None:
        for n, stage in enumerate(islice(cycle(("offer", "talks", "lead")), 12)):
            deal = deals[(n * 5 + turn) % len(deals)]
            answer = await decided(post_move, own, deal, stage)
            if answer.status_code == 201:
                moved[deal] += 1
            else:
                assert answer.json()["code"] == "already_there", answer.text
            # What is planned stands in the deal's row, so each makes a version of it.
            planned = {"kind": "call", "next_step_at": f"21{turn:02}-01-01T00:00:{n:02}Z"}
            answer = await decided(own.post, f"{DEALS}/{deal}/activities", json=planned)
            assert answer.status_code == 201, answer.text
            followed_up[deal] += 1

    await asyncio.gather(*(caller(own, turn) for turn in range(6) for own in (client, elsewhere)))
    logs = {deal: await whole_log(client, deal) for deal in deals}
    for deal, log in logs.items():
        assert_is_chain(log)
        assert len(log) == 1 + moved[deal]
        version = (await client.get(f"{DEALS}/{deal}")).json()["version"]
        assert version == 1 + moved[deal] + followed_up[deal]
    assert (moved.total() > 70, followed_up.total()) == (True, 144)
    assert await transactions(database, principal) < moved.total() + followed_up.total()
    told = await events_so_far(database, client, types="opportunity.transitioned")
    by_deal = sorted(told, key=lambda event: event["data"]["opportunity"]["id"])  # keeps the order
    for deal, events in groupby(by_deal, lambda event: event["data"]["opportunity"]["id"]):
        assert [e["data"]["transition_id"] for e in events] == [row["id"] for row in logs[deal][1:]]


AWKWARD = 'She said: "{\\,NULL}" – и „ja“ \'--$1'


async def test_whatever_a_change_brings_with_it_goes_with_the_others(
    client: httpx.AsyncClient, database: Database, principal: Principal
) -> None:
    """Flags that end, requirements that were passed over, texts, lists and instants of any kind."""
    rule = IdleRule(after=Period(days=1))
    pipeline = guarded(sales_pipeline(lead=rule), "talks", "/amount")
    await keep_pipeline(database, principal.workspace_id, pipeline)
    then = "2026-01-05T09:00:00.000001Z"
    deals = [
        await open_deal(
            client,
            opened_at=then,
            name=AWKWARD,
            tags=[AWKWARD, "NULL"] if n % 2 else [],
            attributes={"said": AWKWARD, "budget": n},
            external_id=f"{AWKWARD}{n}",
        )
        for n in range(16)
    ]
    assert await scan(client) == len(deals)
    bodies: list[dict[str, Any]] = [
        {"to_stage": "offer", "note": f"{AWKWARD}\n\t{AWKWARD}"},
        {"to_stage": "talks", "override": {"reason": AWKWARD}},
        {"to_stage": "lost", "loss_reason": "price", "occurred_at": "2026-02-01T00:00:00Z"},
        {"to_stage": "won", "occurred_at": "2026-01-05T09:00:00.000001Z", "note": ""},
    ]
    asked = list(islice(cycle(bodies), 12))
    followed_up = [
        {"kind": "call", "content": AWKWARD},
        {"kind": "note", "content": "", "occurred_at": "2025-12-31T23:59:59.999999Z"},
        {"kind": "meeting", "next_step": AWKWARD, "next_step_at": "2100-01-01T00:00:00Z"},
        {"kind": "mail", "outcome": AWKWARD},
    ]
    answers = await asyncio.gather(
        *(
            client.post(f"{DEALS}/{deal['id']}/transitions", json=body)
            for deal, body in zip(deals, asked, strict=False)
        ),
        *(
            client.post(f"{DEALS}/{deal['id']}/activities", json=body)
            for deal, body in zip(deals[12:], followed_up, strict=True)
        ),
    )
    assert [answer.status_code for answer in answers] == [201] * 16, [a.text for a in answers]
    assert await transactions(database, principal) <= 9
    for deal, body, answer in zip(deals, asked, answers, strict=False):
        told = answer.json()
        assert (await whole_log(client, deal["id"]))[1:] == [told["transition"]]
        after = (await client.get(f"{DEALS}/{deal['id']}")).json()
        assert after == told["opportunity"]
        assert {name: after[name] for name in ("name", "tags", "attributes", "external_id")} == {
            name: deal[name] for name in ("name", "tags", "attributes", "external_id")
        }
        assert told["transition"]["note"] == body.get("note")
        assert told["transition"]["override_reason"] == body.get("override", {}).get("reason")
        assert told["transition"]["loss_reason"] == body.get("loss_reason")
    for deal, body, answer in zip(deals[12:], followed_up, answers[12:], strict=True):
        listed = (await client.get(f"{DEALS}/{deal['id']}/activities")).json()["items"]
        assert listed == [answer.json()]
        assert {name: listed[0][name] for name in body} == body
    resolved = await flags(client, state="resolved", limit=200)
    causes = Counter(flag["resolved"]["cause"] for flag in resolved)
    assert (causes["moved"], causes["closed"]) == (6, 6)
    overridden = (await client.get("/v1/audit-log")).json()["items"]
    assert [e["after"]["/overridden"] for e in overridden] == [["/amount"]] * 3
    assert [deal async for deal in disagreements(database, principal.workspace_id)] == []
