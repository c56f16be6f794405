"""Attending to idle flags over HTTP: acknowledged, snoozed, and back again."""

from uuid import uuid4

import httpx
import pytest

from app.domain.access import Principal
from app.storage.engine import Database
from tests.factories import keep_pipeline, move, open_deal
from tests.idle import ago, flags, let_snooze_end, only_flag, scan, told, watched_pipeline


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, watched_pipeline())


async def test_a_flag_is_acknowledged_by_whoever_is_first(
    client: httpx.AsyncClient, database: Database, sales: None
) -> None:
    await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    url = f"/v1/idle-flags/{flag['id']}/acknowledgement"
    first = await client.post(url)
    assert first.status_code == 200
    assert first.json()["state"] == "acknowledged"
    assert first.json()["acknowledged"]["by"] == "tester"
    again = await client.post(url)
    assert again.json() == first.json()
    assert await only_flag(client, state="acknowledged") == first.json()
    assert await flags(client, state="open") == []
    assert len(await told(database, client, "idle_flag.acknowledged")) == 1


async def test_a_snoozed_flag_comes_back_as_the_same_flag(
    client: httpx.AsyncClient, sales: None, database: Database, principal: Principal
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    until = ago(days=-3)
    await client.post(f"/v1/idle-flags/{flag['id']}/acknowledgement")
    snoozed = await client.post(
        f"/v1/idle-flags/{flag['id']}/snooze", json={"until": until, "reason": "on holiday"}
    )
    assert snoozed.status_code == 200, snoozed.text
    assert snoozed.json()["state"] == "snoozed"
    assert snoozed.json()["snoozed"]["until"] == until
    assert snoozed.json()["snoozed"]["reason"] == "on holiday"
    assert await only_flag(client, state="snoozed") == snoozed.json()
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    assert (idle["goes_idle_at"], idle["flag_id"], idle["flagged_at"]) == (until, flag["id"], None)
    assert idle["held_by"] == "snooze"
    assert await scan(client) == 0

    await let_snooze_end(database, principal, deal["id"])
    assert await scan(client) == 1
    assert await only_flag(client) == flag
    opened = await told(database, client, "idle_flag.opened")
    assert [(event["flag_id"], event["reopened"]) for _, event in opened] == [
        (flag["id"], False),
        (flag["id"], True),
    ]
    assert opened[1][1]["idle_since"] == flag["idle_since"]
    assert [kind for kind, _ in await told(database, client, "idle_flag.snoozed")] == [
        "idle_flag.snoozed"
    ]


async def test_a_move_ends_a_snooze_and_voiding_it_restores_the_snooze(
    client: httpx.AsyncClient, database: Database, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    until = ago(days=-3)
    snooze = {"until": until, "reason": "on holiday"}
    await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=snooze)
    moved = await move(client, deal["id"], "talks", occurred_at=ago(days=5))
    assert moved["opportunity"]["idle"]["goes_idle_at"] == ago(days=4)
    assert await scan(client) == 1
    await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "a slip"}
    )
    back = await only_flag(client)
    assert (back["id"], back["state"]) == (flag["id"], "snoozed")
    assert back["snoozed"]["until"] == until
    idle = (await client.get(f"/v1/opportunities/{deal['id']}")).json()["idle"]
    assert (idle["goes_idle_at"], idle["flag_id"]) == (until, flag["id"])
    of_flag = [
        (type_, said)
        for type_, said in await told(
            database,
            client,
            *("idle_flag.opened", "idle_flag.snoozed", "idle_flag.resolved"),
        )
        if said["flag_id"] == flag["id"]
    ]
    types = [type_.removeprefix("idle_flag.") for type_, _ in of_flag]
    assert types == ["opened", "snoozed", "resolved", "snoozed"]  # it sleeps: it is not opened
    _, again = of_flag[-1]
    assert (again["previous_until"], again["until"][:19]) == (None, until[:19])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reason": "why"}, "/until"),
        ({"until": ago(days=-1)}, "/reason"),
        ({"until": ago(days=-1), "reason": ""}, "/reason"),
        ({"until": ago(seconds=1), "reason": "why"}, "/until"),
        ({"until": ago(days=-367), "reason": "why"}, "/until"),
    ],
)
async def test_a_snooze_needs_an_end_ahead_and_a_reason(
    client: httpx.AsyncClient, sales: None, body: dict[str, str], pointer: str
) -> None:
    await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    refused = await client.post(f"/v1/idle-flags/{flag['id']}/snooze", json=body)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert await only_flag(client) == flag


async def test_a_resolved_flag_is_beyond_attention_and_an_unknown_one_is_not_found(
    client: httpx.AsyncClient, sales: None
) -> None:
    deal = await open_deal(client, opened_at=ago(days=10))
    await scan(client)
    flag = await only_flag(client)
    await move(client, deal["id"], "won")
    for flag_id, status, code in (
        (flag["id"], 409, "flag_resolved"),
        (uuid4(), 404, "not_found"),
    ):
        snooze = {"until": ago(days=-1), "reason": "why"}
        for path, body in (("acknowledgement", None), ("snooze", snooze)):
            refused = await client.post(f"/v1/idle-flags/{flag_id}/{path}", json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
