"""Many callers on the same deals at once: the log stays a chain, whoever comes first."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import cycle, islice, pairwise
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions.check_projection import disagreements
from app.domain.access import WHOLE, Principal
from app.domain.api_key import ApiKey
from app.storage import opportunities
from app.storage.engine import Connection, Database
from tests.asking import TRIES, UNDECIDED, decided
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.logs import assert_is_chain, whole_log

DEALS = "/v1/opportunities"
STAGES = ("lead", "offer", "talks", "parked", "won")
REFUSALS = {"already_there", "already_closed"}


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    for key in ("sales", "renewals"):
        pipeline = sales_pipeline()
        stages = tuple(replace(s, loss_reasons=s.loss_reasons[:1]) for s in pipeline.stages)
        await keep_pipeline(
            database, principal.workspace_id, replace(pipeline, key=key, stages=stages)
        )


@pytest.fixture
async def rows_agree(database: Database, principal: Principal) -> AsyncIterator[None]:
    """After the test, every deal's row is what its log says."""
    yield
    assert [deal async for deal in disagreements(database, principal.workspace_id)] == []


def refused(answer: httpx.Response) -> str:
    """The code of a refusal, which may be no failure of ours."""
    assert 400 <= answer.status_code < 500, answer.text
    return str(answer.json()["code"])


async def post_move(
    client: httpx.AsyncClient, deal_id: str, to_stage: str, **headers: str
) -> httpx.Response:
    return await client.post(
        f"{DEALS}/{deal_id}/transitions", json={"to_stage": to_stage}, headers=headers
    )


async def test_32_clients_on_8_deals_leave_a_chain_on_each(
    service: Callable[[ApiKey | None], httpx.AsyncClient],
    identity: tuple[Principal, ApiKey],
    client: httpx.AsyncClient,
    sales: None,
    rows_agree: None,
) -> None:
    deals = [(await open_deal(client))["id"] for _ in range(8)]
    moved: Counter[str] = Counter()

    async def caller(seed: int) -> None:
        own, dice = service(identity[1]), random.Random(seed)
        for _ in range(15):
            deal_id = dice.choice(deals)
            answer = await decided(post_move, own, deal_id, dice.choice(STAGES))
            if answer.status_code == 201:
                moved[deal_id] += 1
            else:
                assert refused(answer) in REFUSALS

    await asyncio.gather(*(caller(seed) for seed in range(32)))
    assert moved.total() > 100
    for deal_id in deals:
        log = await whole_log(client, deal_id)
        assert_is_chain(log)
        assert len(log) == 1 + moved[deal_id]


async def test_800_moves_of_one_deal_at_once_happen_one_after_another(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client)
    answers = await asyncio.gather(
        *(post_move(client, deal["id"], stage) for stage in islice(cycle(STAGES), 800))
    )
    outcomes = Counter(answer.status_code for answer in answers)
    # So many at once may be more than a pool of ten serves within its two seconds: those who waited
    # in vain are told so, and nothing of them is in the log.
    assert set(outcomes) <= {201, 409, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
    log = await whole_log(client, deal["id"])
    assert_is_chain(log)
    told = {answer.json()["transition"]["id"] for answer in answers if answer.status_code == 201}
    assert len(told) == outcomes[201] > 1
    assert {row["id"] for row in log[1:]} == told


async def test_with_if_match_exactly_one_of_many_wins(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client)
    for version in range(1, 6):
        stage = STAGES[version % 4]
        answers = await asyncio.gather(
            *(
                decided(post_move, client, deal["id"], stage, **{"If-Match": f'"{version}"'})
                for _ in range(12)
            )
        )
        assert Counter(answer.status_code for answer in answers) == {201: 1, 412: 11}
    assert_is_chain(await whole_log(client, deal["id"]))


async def test_twins_under_one_key_move_once_and_are_answered_alike(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client)
    key = {"Idempotency-Key": "once"}
    first, second = await asyncio.gather(
        *(decided(post_move, client, deal["id"], "offer", **key) for _ in range(2))
    )
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    replays = [answer.headers.get("Idempotent-Replayed") for answer in (first, second)]
    assert sorted(map(str, replays)) == ["None", "true"]
    assert len(await whole_log(client, deal["id"])) == 2


async def test_voids_that_race_with_moves_take_back_the_last_row_or_are_refused(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client)
    moved: set[str] = set()
    voided: set[str] = set()

    async def mover(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(15):
            answer = await decided(post_move, client, deal["id"], dice.choice(STAGES))
            if answer.status_code == 201:
                moved.add(answer.json()["transition"]["id"])
            else:
                assert refused(answer) in REFUSALS

    async def voider() -> None:
        tries = 0
        while tries < 10 or not voided:  # once the movers have ended, nobody is in the way
            tries += 1
            log = await whole_log(client, deal["id"])
            last = [row for row in log if row["voided"] is None][-1]
            answer = await decided(
                client.post, f"/v1/transitions/{last['id']}/void", json={"reason": "Undo"}
            )
            if answer.status_code == 200:
                assert last["id"] not in voided
                voided.add(last["id"])
            else:
                assert refused(answer) in {"not_last_transition", "already_voided", "not_voidable"}

    await asyncio.gather(*(mover(seed) for seed in range(6)), *(voider() for _ in range(6)))
    log = await whole_log(client, deal["id"])
    assert_is_chain(log)
    assert {row["id"] for row in log[1:]} == moved
    assert {row["id"] for row in log if row["voided"] is not None} == voided
    assert voided


async def test_patches_that_race_with_moves_lose_nothing_and_hide_nothing(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client)
    path = f"{DEALS}/{deal['id']}"
    writes: Counter[str] = Counter()

    async def mover(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(12):
            answer = await decided(post_move, client, deal["id"], dice.choice(STAGES))
            writes["move"] += answer.status_code == 201
            assert answer.status_code == 201 or refused(answer) in REFUSALS

    async def patcher(seed: int) -> None:
        for n in range(12):
            owned = {"owner": f"owner {seed}.{n}"}
            answer = await decided(client.patch, path, json=owned, headers={"If-Match": "*"})
            assert answer.status_code == 200, answer.text
            writes["patch"] += 1

    await asyncio.gather(*(mover(n) for n in range(5)), *(patcher(n) for n in range(5)))
    after = (await client.get(path)).json()
    assert after["version"] == 1 + writes["move"] + writes["patch"]
    log = await whole_log(client, deal["id"])
    assert_is_chain(log)
    assert len(log) == 1 + writes["move"]
    changes = (await client.get(f"{path}/changes", params={"limit": 200})).json()["items"]
    assert len(changes) == writes["patch"]
    by_time = sorted(changes, key=lambda row: row["recorded_at"])
    assert (by_time[0]["old"], by_time[-1]["new"]) == (None, after["owner"])
    for before, change in pairwise(by_time):
        assert change["old"] == before["new"]
    # What a move froze is the owner whom the deal had at that moment.
    for row in log[1:]:
        earlier = [c["new"] for c in by_time if c["recorded_at"] < row["recorded_at"]]
        assert row["owner"] == (earlier[-1] if earlier else None)


async def test_what_refers_to_a_deal_does_not_wait_for_who_has_locked_it(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    """A writer that lost its race appends as well, before it is rolled back. If its foreign key
    waited for the holder of the lock, and the holder for its seq, they would wait for ever."""
    deal = await open_deal(client)
    workspace, deal_id = principal.workspace_id, UUID(deal["id"])
    locked, release = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> None:
        await opportunities.read(connection, workspace, deal_id, sight=WHOLE, locked=True)
        locked.set()
        await release.wait()

    holding = asyncio.create_task(database.write(workspace, hold))
    await locked.wait()
    async with asyncio.timeout(20):  # who waits is refused after two seconds, not answered 201
        noted = await client.post(
            f"{DEALS}/{deal['id']}/activities",
            json={"kind": "note", "occurred_at": deal["opened_at"]},
        )
    assert noted.status_code == 201, noted.text
    release.set()
    await holding


async def test_one_of_many_hand_offs_that_race_with_moves_succeeds(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client, external_id="CRM-1")

    async def mover(seed: int) -> int:
        dice, count = random.Random(seed), 0
        for _ in range(10):
            answer = await decided(post_move, client, deal["id"], dice.choice(STAGES))
            if answer.status_code == 201:
                count += 1
            else:
                assert refused(answer) in REFUSALS | {"handed_off"}
        return count

    async def hand_off() -> httpx.Response:
        path = f"{DEALS}/{deal['id']}/hand-off"
        return await decided(client.post, path, json={"pipeline": "renewals"})

    moves: list[Awaitable[Any]] = [mover(seed) for seed in range(5)]
    counts, answers = await asyncio.gather(
        asyncio.gather(*moves), asyncio.gather(*(hand_off() for _ in range(5)))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    log = await whole_log(client, deal["id"])
    assert len(log) == 2 + sum(counts)
    assert [row["seq"] for row in log if row["kind"] == "handed_off"] == [len(log)]
    assert_is_chain(log[:-1])
    (new,) = [answer.json() for answer in answers if answer.status_code == 201]
    old = (await client.get(f"{DEALS}/{deal['id']}")).json()
    assert (old["continued_as"], new["continues"]) == (new["id"], old["id"])
    assert (old["external_id"], new["external_id"]) == (None, "CRM-1")
    listed = (await client.get(DEALS, params={"pipeline": "renewals"})).json()["items"]
    assert [item["id"] for item in listed] == [new["id"]]


async def test_erasing_races_with_moves_and_nothing_is_left_over(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deal = await open_deal(client)
    await move(client, deal["id"], "offer")

    async def mover(stage: str) -> None:
        answer = await decided(post_move, client, deal["id"], stage)
        assert answer.status_code == 201 or refused(answer) in REFUSALS | {"not_found"}

    async def erase() -> int:
        path = f"{DEALS}/{deal['id']}"
        answer = await decided(client.delete, path, headers={"If-Match": "*"})
        return answer.status_code

    erased = asyncio.gather(*(erase() for _ in range(3)))
    await asyncio.gather(*(mover(stage) for stage in islice(cycle(STAGES), 20)))
    assert sorted(await erased) == [204, 404, 404]
    assert (await client.get(f"{DEALS}/{deal['id']}")).status_code == 404


async def test_no_deal_slips_into_a_stage_that_is_being_archived(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deals = [(await open_deal(client))["id"] for _ in range(6)]
    is_busy = asyncio.Event()

    async def mover(deal_id: str) -> None:
        for n, stage in enumerate(islice(cycle(("offer", "lead")), 30)):
            if n == 10:
                is_busy.set()
            answer = await decided(post_move, client, deal_id, stage)
            assert answer.status_code == 201 or refused(answer) in REFUSALS | {"stage_archived"}

    async def archive() -> httpx.Response:
        await is_busy.wait()
        return await decided(
            client.post,
            "/v1/pipelines/sales/stages/offer/archive",
            json={"move_open_to": "talks"},
            headers={"If-Match": "*"},
        )

    archived, *_ = await asyncio.gather(archive(), *(mover(deal_id) for deal_id in deals))
    assert archived.is_success, archived.text
    for deal_id in deals:
        log = await whole_log(client, deal_id)
        assert_is_chain(log)
        assert log[-1]["to_stage"] != "offer"
        assert {row["revision"] for row in log if row["to_stage"] == "offer"} <= {1}
        assert all(row["revision"] == 2 for row in log if row["kind"] == "rearranged")


async def test_a_batch_and_its_twin_move_each_deal_once(
    client: httpx.AsyncClient, sales: None, rows_agree: None
) -> None:
    deals = [(await open_deal(client))["id"] for _ in range(5)]
    moves = [
        {"opportunity_id": deal_id, "to_stage": stage}
        for stage in ("offer", "won")
        for deal_id in deals
    ]

    async def batch() -> httpx.Response:
        """Asked again until every move has its outcome, as the batch's answer says."""
        path, headers = "/v1/transitions/batch", {"Idempotency-Key": "batch-1"}
        for _ in range(TRIES):
            answer = await decided(client.post, path, json={"moves": moves}, headers=headers)
            problems = [outcome["problem"] for outcome in answer.json()["outcomes"]]
            if not any(problem and problem["code"] in UNDECIDED for problem in problems):
                break
        return answer

    answers = await asyncio.gather(*(batch() for _ in range(2)))
    assert answers[0].json() == answers[1].json()
    assert [outcome["status"] for outcome in answers[0].json()["outcomes"]] == [201] * 10
    for deal_id in deals:
        log = await whole_log(client, deal_id)
        assert_is_chain(log)
        assert [row["to_stage"] for row in log] == ["lead", "offer", "won"]
