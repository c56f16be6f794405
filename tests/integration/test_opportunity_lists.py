"""Deals listed: filters, pages, cursors."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.storage.engine import Database, connect_arguments
from tests.conftest import make_workspace
from tests.deals import DEALS, FULL, listed
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline

Connect = Callable[[ApiKey | None], httpx.AsyncClient]


@pytest.fixture
async def sales(database: Database, principal: Principal) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())


async def test_each_filter_gives_the_deals_that_pass_it(
    client: httpx.AsyncClient, database: Database, principal: Principal, sales: None
) -> None:
    other = sales_pipeline()
    object.__setattr__(other, "key", "renewals")
    await keep_pipeline(database, principal.workspace_id, other)
    one = await open_deal(client, **FULL)
    two = await open_deal(client, name="50%_off Größe", owner="tom", tags=["vip"])
    three = await open_deal(client, pipeline="renewals", priority="low")
    await move(client, two["id"], "won")
    ids = {deal["id"]: name for name, deal in (("one", one), ("two", two), ("three", three))}

    async def passing(**query: Any) -> set[str]:
        return {ids[deal_id] for deal_id in await listed(client, **query)}

    assert await passing() == {"one", "two", "three"}
    for query, expected in (
        ({"pipeline": "sales"}, {"one", "two"}),
        ({"pipeline": "sales", "stage": "won"}, {"two"}),
        ({"status": "open"}, {"one", "three"}),
        ({"status": "won"}, {"two"}),
        ({"owner": "mia"}, {"one"}),
        ({"team": "north"}, {"one"}),
        ({"source": "fair"}, {"one"}),
        ({"priority": "low"}, {"three"}),
        ({"tag": "vip"}, {"one", "two"}),
        ({"external_id": "CRM-1"}, {"one"}),
        ({"idle": "false"}, {"one", "two", "three"}),
        ({"idle": "true"}, set()),
        ({"q": "GRÖSSE"}, set()),
        ({"q": "GRÖßE"}, {"two"}),
        ({"q": "0%_O"}, {"two"}),
        ({"q": "席位"}, {"one"}),
        ({"q": "%"}, {"two"}),
        ({"owner": "mia", "status": "won"}, set()),
        ({"updated_since": three["updated_at"]}, {"two", "three"}),
    ):
        assert await passing(**query) == expected, query
    assert await listed(client, updated_since="2020-01-01T00:00:00Z") == [
        one["id"],
        three["id"],
        two["id"],
    ]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"stage": "offer"}, 422, "invalid"),
        ({"pipeline": "sales", "stage": "nowhere"}, 422, "unknown_stage"),
        ({"pipeline": "nowhere"}, 404, "not_found"),
        ({"colour": "red"}, 422, "invalid"),
        ({"limit": "0"}, 422, "invalid"),
        ({"limit": "201"}, 422, "invalid"),
        ({"limit": "1_0"}, 422, "invalid"),
        ({"status": "OPEN"}, 422, "invalid"),
        ({"idle": "perhaps"}, 422, "invalid"),
        ({"owner": "a\x00b"}, 422, "invalid"),
        ({"updated_since": "yesterday"}, 422, "invalid"),
        ({"updated_since": "2026-01-01T00:00:00"}, 422, "invalid"),
        ({"cursor": "nonsense"}, 400, "invalid_cursor"),
        ({"cursor": "=" * 2000}, 422, "invalid"),
    ],
)
async def test_a_list_is_asked_for_properly(
    client: httpx.AsyncClient, sales: None, query: dict[str, str], status: int, code: str
) -> None:
    answer = await client.get(DEALS, params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("query", [{}, {"updated_since": "2020-01-01T00:00:00Z"}])
async def test_following_the_links_gives_every_deal_once_and_in_order(
    client: httpx.AsyncClient,
    sales: None,
    owner_url: str,
    workspace: UUID,
    query: dict[str, str],
) -> None:
    made = [(await open_deal(client))["id"] for _ in range(7)]
    # Changed in one instant, as by one statement: only the ids tell them apart.
    owner = await asyncpg.connect(**connect_arguments(owner_url))
    await owner.execute(
        "UPDATE opportunity SET updated_at = now() WHERE workspace_id = $1", workspace
    )
    await owner.close()
    found: list[str] = []
    link: str | None = f"{DEALS}?{httpx.QueryParams({**query, 'limit': 3, 'status': 'open'})}"
    pages = 0
    while link is not None:
        answer = await client.get(link)
        assert answer.status_code == 200, answer.text
        found += [item["id"] for item in answer.json()["items"]]
        pages += 1
        cursor = answer.json()["page"]["next_cursor"]
        assert (cursor is None) == ("next" not in answer.links)
        link = answer.links["next"]["url"] if "next" in answer.links else None
    assert pages == 3
    assert found == (sorted(made) if query else sorted(made, reverse=True))


async def test_a_cursor_opens_only_the_list_that_it_came_from(
    client: httpx.AsyncClient, service: Connect, database: Database, sales: None
) -> None:
    for _ in range(3):
        await open_deal(client, owner="mia")
    first = await client.get(DEALS, params={"limit": 1, "owner": "mia"})
    cursor = first.json()["page"]["next_cursor"]
    fits = await client.get(DEALS, params={"limit": 2, "owner": "mia", "cursor": cursor})
    assert len(fits.json()["items"]) == 2
    changed = ("A" if cursor[-6] != "A" else "B").join((cursor[:-6], cursor[-5:]))
    _, key = await make_workspace(database)
    for asker, path, query in (
        (client, DEALS, {"cursor": cursor}),
        (client, DEALS, {"cursor": cursor, "owner": "tom"}),
        (client, DEALS, {"cursor": changed, "owner": "mia"}),
        (client, DEALS, {"cursor": cursor + "AA", "owner": "mia"}),
        (client, "/v1/transitions", {"cursor": cursor, "owner": "mia"}),
        (service(key), DEALS, {"cursor": cursor, "owner": "mia"}),
    ):
        refused = await asker.get(path, params=query)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor"), query
