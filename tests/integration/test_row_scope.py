"""A seller sees the seller's deals: as they are owned now, in every list, figure and event."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.actions.deliver_webhook import Outcome
from app.domain.access import Principal, RowScope
from app.domain.api_key import ApiKey
from app.storage.engine import Database, connect_arguments
from tests.callers import sighted
from tests.deals import listed, unchanged
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.feed import events_so_far
from tests.receiver import Receiver, receiving
from tests.segments import fold
from tests.webhooks import deliveries, endpoint, fanned_out, refused, send_due

Service = Callable[[ApiKey], httpx.AsyncClient]

MAPPING = '{"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}'

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
async def sales(database: Database, workspace: UUID) -> None:
    await keep_pipeline(database, workspace, sales_pipeline())


@pytest.fixture
async def ada(database: Database, principal: Principal, service: Service) -> httpx.AsyncClient:
    """A seller of the team north who sees her own deals."""
    return service(await sighted(database, principal, team="north"))


@pytest.fixture
async def north(database: Database, principal: Principal, service: Service) -> httpx.AsyncClient:
    """She again, with a key that shows the team's deals too."""
    return service(await sighted(database, principal, RowScope.TEAM, "north"))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


async def reached(client: httpx.AsyncClient) -> int:
    """How many deals the funnel counts."""
    answer = await client.get("/v1/pipelines/sales/metrics/funnel")
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["total"]["stages"][0]["reached"]
    return count


async def give(client: httpx.AsyncClient, deal_id: str, **facts: str | None) -> None:
    answer = await client.patch(
        f"/v1/opportunities/{deal_id}", json=facts, headers={"If-Match": "*"}
    )
    assert answer.status_code == 200, answer.text


async def test_the_present_owner_and_team_decide_who_sees_a_deal(
    client: httpx.AsyncClient, ada: httpx.AsyncClient, north: httpx.AsyncClient
) -> None:
    own = await open_deal(client, owner="ada")
    of_team = await open_deal(client, owner="ben", team="north")
    await open_deal(client, owner="cyd", team="south")
    await open_deal(client)
    assert await listed(ada) == [own["id"]]
    assert await listed(north) == [of_team["id"], own["id"]]
    assert (await reached(ada), await reached(north), await reached(client)) == (1, 2, 4)
    await give(client, own["id"], owner="cyd")
    await give(client, of_team["id"], owner="ada", team="south")
    assert await listed(ada) == await listed(north) == [of_team["id"]]
    assert (await ada.get(f"/v1/opportunities/{own['id']}")).status_code == 404
    assert (await reached(ada), await reached(north)) == (1, 1)


async def test_a_count_and_the_list_behind_it_agree_for_who_sees_only_some(
    client: httpx.AsyncClient, database: Database, workspace: UUID, ada: httpx.AsyncClient
) -> None:
    for owner in ("ada", "ben", "ada", None):
        deal = await open_deal(client, owner=owner)
        await move(client, deal["id"], "won")
    for folded in (0, 1):
        assert await fold(database, workspace) >= folded if folded else True
        assert await reached(ada) == 2
        opened = await ada.get("/v1/pipelines/sales/metrics/win-rate/deals", params={"cell": "won"})
        assert len(opened.json()["items"]) == 2


async def test_segments_from_before_they_told_who_owns_a_deal_are_counted_by_rows(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    owner_url: str,
    ada: httpx.AsyncClient,
) -> None:
    for owner in ("ada", "ben", "ada"):
        await open_deal(client, owner=owner)
    await fold(database, workspace)
    connection = await asyncpg.connect(**connect_arguments(owner_url))
    try:
        gone = await connection.execute(
            "DELETE FROM segment_column WHERE workspace_id = $1 AND name = 'deal.present_owner'",
            workspace,
        )
        earlier = await connection.execute(
            "UPDATE segment SET edition = 0 WHERE workspace_id = $1", workspace
        )
    finally:
        await connection.close()
    assert (gone, earlier) == ("DELETE 1", "UPDATE 1")
    assert (await reached(ada), await reached(client)) == (2, 3)


async def test_a_new_deal_is_its_makers_unless_it_says_otherwise(
    client: httpx.AsyncClient, ada: httpx.AsyncClient, north: httpx.AsyncClient
) -> None:
    assert (await open_deal(ada))["owner"] == "ada"
    of_team = await open_deal(north)
    assert (of_team["owner"], of_team["team"]) == (None, "north")
    assert (await open_deal(north, owner="ben", team="north"))["owner"] == "ben"
    for caller, facts in ((ada, {"owner": "ben"}), (north, {"owner": "ben", "team": "south"})):
        wanted = {"pipeline": "sales", "name": "Not mine", **facts}
        refusal = await caller.post("/v1/opportunities", json=wanted)
        assert refused(refusal)[:2] == (403, "forbidden")
    assert len(await listed(client)) == 3


async def test_a_deal_may_be_handed_to_somebody_else_and_is_out_of_sight_then(
    ada: httpx.AsyncClient,
) -> None:
    deal = await open_deal(ada)
    await give(ada, deal["id"], owner="ben")
    assert await listed(ada) == []


async def test_an_external_id_of_an_unseen_deal_is_taken(
    client: httpx.AsyncClient, ada: httpx.AsyncClient
) -> None:
    await open_deal(client, owner="ben", external_id="crm-1")
    wanted = {"pipeline": "sales", "name": "Mine now"}
    put = await ada.put(
        "/v1/opportunities/by-external-id/crm-1", json=wanted, headers={"If-Match": "*"}
    )
    posted = await ada.post("/v1/opportunities", json={**wanted, "external_id": "crm-1"})
    assert refused(put)[:2] == refused(posted)[:2] == (409, "already_exists")


async def test_the_feed_tells_of_seen_deals_and_of_definitions(
    client: httpx.AsyncClient, database: Database, ada: httpx.AsyncClient
) -> None:
    await open_deal(client, owner="ben")
    deal = await open_deal(client, owner="ada")
    gone = await open_deal(client, owner="ada")
    erased = await client.delete(f"/v1/opportunities/{gone['id']}", headers={"If-Match": "*"})
    assert erased.status_code == 204
    made = await client.post("/v1/pipelines", json={"template": "b2b", "key": "other"})
    assert made.status_code == 201, made.text
    told = await events_so_far(database, ada)
    assert [(event["type"], event["opportunity_id"]) for event in told] == [
        ("opportunity.created", deal["id"]),
        ("pipeline.updated", None),
    ]


async def test_a_webhook_is_told_of_what_its_maker_sees_and_is_nobody_elses(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    ada: httpx.AsyncClient,
    north: httpx.AsyncClient,
    receiver: Receiver,
) -> None:
    every = await endpoint(client, receiver.url)
    hers = await endpoint(ada, receiver.url)
    of_team = await endpoint(north, receiver.url)
    await open_deal(client, owner="ben")
    await open_deal(client, owner="ben", team="north")
    await open_deal(client, owner="ada")
    await fanned_out(database, workspace, every, 3)
    counts = {made["id"]: len(await deliveries(client, made)) for made in (every, hers, of_team)}
    assert counts == {every["id"]: 3, hers["id"]: 1, of_team["id"]: 2}

    async def shown(caller: httpx.AsyncClient) -> list[str]:
        page = (await caller.get("/v1/webhook-endpoints")).json()["items"]
        return [each["id"] for each in page]

    assert await shown(client) == [every["id"], hers["id"], of_team["id"]]
    assert await shown(north) == [hers["id"], of_team["id"]]
    assert await shown(ada) == [hers["id"]]
    for foreign in (every, of_team):
        path = f"/v1/webhook-endpoints/{foreign['id']}"
        turned = await ada.patch(path, json={"url": receiver.url}, headers={"If-Match": "*"})
        assert turned.status_code == 404


async def test_a_key_that_one_caller_chose_is_nothing_to_another(
    client: httpx.AsyncClient, ada: httpx.AsyncClient, north: httpx.AsyncClient
) -> None:
    """Neither the answer nor that there is one: not to who bears the name and sees less, either."""
    again = {"Idempotency-Key": "the same"}
    wanted = {"pipeline": "sales", "name": "A deal", "owner": "ada"}
    made = [
        await caller.post("/v1/opportunities", json=wanted, headers=again)
        for caller in (client, ada, north, client, ada, north)
    ]
    assert [answer.status_code for answer in made] == [201] * 6
    ids = [answer.json()["id"] for answer in made]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3


async def test_an_import_is_repeated_for_its_sender_alone(
    client: httpx.AsyncClient, database: Database, principal: Principal, service: Service
) -> None:
    other = service(await sighted(database, principal, RowScope.ALL, subject="ben"))
    sent = [
        await caller.post(
            "/v1/pipelines/sales/imports",
            data={"mapping": MAPPING},
            files={"file": ("deals.csv", "deal,stage,at\nD,lead,2026-01-01\n", "text/csv")},
            headers={"Idempotency-Key": "the same"},
        )
        for caller in (client, other, client, other)
    ]
    assert [answer.status_code for answer in sent] == [202] * 4
    ids = [answer.json()["id"] for answer in sent]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]


async def test_a_hand_off_is_not_taken_back_by_who_does_not_see_what_it_opened(
    client: httpx.AsyncClient, ada: httpx.AsyncClient
) -> None:
    answer = await client.post("/v1/pipelines", json={"template": "b2b", "key": "after"})
    assert answer.status_code == 201, answer.text
    deal = await open_deal(client, owner="ben")
    handed = await client.post(
        f"/v1/opportunities/{deal['id']}/hand-off",
        json={"pipeline": "after"},
        headers={"If-Match": "*"},
    )
    assert handed.status_code == 201, handed.text
    new = handed.json()["id"]
    log = (await client.get(f"/v1/opportunities/{deal['id']}/transitions")).json()["items"]
    (move_id,) = [each["id"] for each in log if each["kind"] == "handed_off"]
    await give(client, deal["id"], owner="ada")
    void = f"/v1/transitions/{move_id}/void"
    unworked = await ada.post(void, json={"reason": "A slip."})
    assert refused(unworked)[:2] == (409, "conflict")
    await give(client, new, name="Worked on")
    worked = await ada.post(void, json={"reason": "A slip."})
    assert worked.json()["detail"] == unworked.json()["detail"]
    assert (await client.get(f"/v1/opportunities/{new}")).status_code == 200


async def test_a_webhook_tells_no_more_of_a_deal_that_its_maker_has_lost_from_sight(
    client: httpx.AsyncClient,
    database: Database,
    workspace: UUID,
    ada: httpx.AsyncClient,
    receiver: Receiver,
) -> None:
    every, hers = await endpoint(client, receiver.url), await endpoint(ada, receiver.url)
    deal = await open_deal(client, owner="ada")
    await fanned_out(database, workspace, hers, 1)
    await give(client, deal["id"], owner="ben")
    await fanned_out(database, workspace, every, 1)
    assert await send_due(database, workspace, hers) == []
    assert await send_due(database, workspace, every) == [Outcome.DELIVERED] * 2
    assert [each["state"] for each in await deliveries(ada, hers)] == ["failed"]
    path = f"/v1/webhook-endpoints/{hers['id']}/deliveries/1/replay"
    assert refused(await ada.post(path))[:2] == (404, "not_found")
    tested = await ada.post(f"/v1/webhook-endpoints/{hers['id']}/test")
    assert tested.status_code == 201, tested.text
    assert await send_due(database, workspace, hers) == [Outcome.DELIVERED]


async def test_a_figure_held_by_one_caller_is_not_unchanged_for_another(
    client: httpx.AsyncClient, ada: httpx.AsyncClient
) -> None:
    await open_deal(client, owner="ben")
    path = "/v1/pipelines/sales/metrics/funnel"
    held = {"If-None-Match": (await unchanged(client, path)).headers["ETag"]}
    assert (await ada.get(path, headers=held)).status_code == 200
