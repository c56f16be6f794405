"""A deal's row is what its log says: after anything that can happen, and made anew after damage."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.actions.check_projection import Disagreement, disagreements, rebuild
from app.domain.access import Principal
from app.domain.api_key import ApiKey
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline
from app.storage.engine import Connection, Database, connect_arguments
from app.storage.queries import projection
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, move, open_deal, sales_pipeline
from tests.logs import assert_is_chain, whole_log

DEALS = "/v1/opportunities"


STAGES = ("lead", "offer", "talks", "parked", "won", "lost")


WEEK = IdleRule(after=Period.parse("P7D"), after_by_priority={"high": Period.parse("PT1H")})


QUIET = IdleRule(clock=IdleClock.INACTIVITY, after=Period.parse("P2D"))


def ruled(key: str) -> Pipeline:
    pipeline = sales_pipeline(lead=WEEK, offer=QUIET, talks=QUIET)
    stages = tuple(replace(stage, loss_reasons=stage.loss_reasons[:1]) for stage in pipeline.stages)
    return replace(pipeline, key=key, stages=stages)


@pytest.fixture
async def two_pipelines(database: Database, principal: Principal) -> None:
    for key in ("sales", "renewals"):
        await keep_pipeline(database, principal.workspace_id, ruled(key))


async def found(database: Database, workspace: UUID) -> list[Disagreement]:
    return [each async for each in disagreements(database, workspace)]


STRAY_FLAGS = """
SELECT workspace_id, opportunity_id, o.idle_flag_id, f.flag_id, o.flagged_at
FROM opportunity AS o FULL JOIN (SELECT * FROM idle_flag WHERE resolved_at IS NULL) AS f
    USING (workspace_id, opportunity_id)
WHERE workspace_id = $1 AND (
    o.idle_flag_id IS DISTINCT FROM f.flag_id OR o.flagged_at IS NOT NULL AND f.flag_id IS NULL
    OR f.clock_started_at IS DISTINCT FROM o.clock_started_at AND f.flag_id IS NOT NULL
)
"""


async def assert_agree(database: Database, workspace: UUID) -> None:
    """Rows and logs, deals and their unresolved flags."""
    assert await found(database, workspace) == []

    async def stray(connection: Connection) -> list[Any]:
        return [dict(row) for row in await connection.fetch(STRAY_FLAGS, workspace)]

    assert await database.write(workspace, stray) == []


GAPS = st.sampled_from([0, 1, 1_000_000, 3_600_000_000, 8 * 86_400_000_000])


STEPS = st.one_of(
    st.tuples(st.just("move"), st.sampled_from(STAGES), st.one_of(st.none(), GAPS)),
    st.tuples(st.just("void")),
    st.tuples(st.just("hand-off"), st.sampled_from(["sales", "renewals"])),
    st.tuples(st.just("patch"), st.sampled_from(["high", "low", None])),
    st.tuples(st.just("activity"), GAPS),
    st.tuples(st.just("scan")),
)


async def take(client: httpx.AsyncClient, deal_id: str, step: tuple[Any, ...]) -> str:
    """One step of a deal's life, allowed or refused; gives the deal in which it goes on."""
    path = f"{DEALS}/{deal_id}"
    deal = (await client.get(path)).json()
    entered = datetime.fromisoformat(deal["stage_entered_at"])
    match step:
        case "move", stage, gap:
            body: dict[str, Any] = {"to_stage": stage}
            if stage == "lost":
                body["loss_reason"] = "price"
            if gap is not None:
                body["occurred_at"] = (entered + timedelta(microseconds=gap)).isoformat()
            answer = await client.post(f"{path}/transitions", json=body)
        case ("void",):
            log = await whole_log(client, deal_id)
            last = [row for row in log if row["voided"] is None][-1]
            answer = await client.post(f"/v1/transitions/{last['id']}/void", json={"reason": "x"})
        case "hand-off", pipeline:
            answer = await client.post(f"{path}/hand-off", json={"pipeline": pipeline})
            if answer.status_code == 201:
                return str(answer.json()["id"])
        case "patch", priority:
            answer = await client.patch(
                path, json={"priority": priority}, headers={"If-Match": "*"}
            )
        case "activity", gap:
            occurred_at = (entered + timedelta(microseconds=gap)).isoformat()
            answer = await client.post(
                f"{path}/activities", json={"kind": "call", "occurred_at": occurred_at}
            )
        case _:
            answer = await client.post("/v1/idle-scans")
    assert answer.status_code < 500, answer.text
    return deal_id


@given(steps=st.lists(STEPS, max_size=14))
@settings(
    max_examples=25,
    # Each example opens a deal of its own in the workspace of the test.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_whatever_happens_to_deals_their_rows_are_what_their_logs_say(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    two_pipelines: None,
    steps: list[tuple[Any, ...]],
) -> None:
    deal = await open_deal(client, opened_at="2026-01-05T00:00:00Z")
    here = deal["id"]
    for step in steps:
        here = await take(client, here, step)
    workspace = principal.workspace_id
    await assert_agree(database, workspace)
    before = (await client.get(f"{DEALS}/{here}")).json()
    assert not await rebuild(database, workspace, UUID(here))
    assert (await client.get(f"{DEALS}/{here}")).json() == before


async def lived(client: httpx.AsyncClient) -> Any:
    """A deal with a past: two visits of one stage, a row voided, a close."""
    deal = await open_deal(client, opened_at="2026-01-05T00:00:00Z")
    for day, stage in enumerate(("offer", "lead", "offer", "talks"), start=6):
        moved = await move(client, deal["id"], stage, occurred_at=f"2026-01-{day:02}T00:00:00Z")
    answer = await client.post(
        f"/v1/transitions/{moved['transition']['id']}/void", json={"reason": "Wrong deal"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["opportunity"]


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(owner_url))
    yield connection
    await connection.close()


DAMAGE = {
    "slot": "slot = 3",
    "status": "status = 'won', closed_at = stage_entered_at",
    "seq": "seq = 4",
    "stage_entered_at": "stage_entered_at = stage_entered_at + interval '1 microsecond'",
    "opened_at": "opened_at = opened_at - interval '1 day'",
    "reach_mask": "reach_mask = 1",
    "dwell": "dwell = '{1}'",
    "moved_at": "moved_at = moved_at - interval '1 hour'",
    "continued_as": "continued_as = opportunity_id",
    "goes_idle_at": "goes_idle_at = NULL",
    "critical_at": "critical_at = now()",
    "follow_up_due_at": "follow_up_due_at = now()",
    "clock_started_at": "clock_started_at = now()",
    "clock_reset_by": "clock_reset_by = 'activity'",
}


@pytest.mark.parametrize("field", DAMAGE)
async def test_a_damaged_row_is_found_and_made_anew(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    owner: asyncpg.Connection,
    two_pipelines: None,
    field: str,
) -> None:
    whole, deal = await lived(client), await lived(client)
    workspace, deal_id = principal.workspace_id, UUID(deal["id"])
    await owner.execute(
        f"UPDATE opportunity SET {DAMAGE[field]} WHERE opportunity_id = $1", deal_id
    )
    (disagreement,) = await found(database, workspace)
    assert disagreement.opportunity_id == deal_id
    assert field in disagreement.differences
    assert disagreement.faults == ()
    assert await rebuild(database, workspace, deal_id)
    assert await found(database, workspace) == []
    mended = (await client.get(f"{DEALS}/{deal['id']}")).json()
    assert mended["version"] == deal["version"] + 1
    same = set(deal) - {"version", "updated_at"}
    assert {name: mended[name] for name in same} == {name: deal[name] for name in same}
    assert (await client.get(f"{DEALS}/{whole['id']}")).json() == whole
    assert not await rebuild(database, workspace, deal_id)
    told = await owner.fetchval(
        "SELECT type FROM event WHERE opportunity_id = $1 ORDER BY xid DESC, n DESC LIMIT 1",
        deal_id,
    )
    assert told == "opportunity.updated"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("DELETE FROM transition WHERE opportunity_id = $1 AND seq = 2", "gaps"),
        ("DELETE FROM transition WHERE opportunity_id = $1", "no standing"),
        (
            "UPDATE transition SET from_slot = 4 WHERE opportunity_id = $1 AND seq = 3",
            "row 3 leaves a stage",
        ),
        (
            "UPDATE transition SET entered_at = '2026-01-05' WHERE opportunity_id = $1 AND seq = 4",
            "row 4 tells another time",
        ),
        ("UPDATE transition SET to_slot = 40 WHERE opportunity_id = $1 AND seq = 3", "slots"),
        (
            "UPDATE transition SET voided_at = now() WHERE opportunity_id = $1 AND seq = 1",
            "opening",
        ),
    ],
)
async def test_a_log_that_is_no_chain_is_told_and_left_alone(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    owner: asyncpg.Connection,
    two_pipelines: None,
    damage: str,
    fault: str,
) -> None:
    deal = await lived(client)
    await owner.execute(damage, UUID(deal["id"]))
    (disagreement,) = await found(database, principal.workspace_id)
    assert fault in "; ".join(disagreement.faults)
    assert not await rebuild(database, principal.workspace_id, UUID(deal["id"]))
    assert (await client.get(f"{DEALS}/{deal['id']}")).json() == deal


async def test_deals_are_read_in_batches_each_of_them_once(
    client: httpx.AsyncClient, database: Database, principal: Principal, two_pipelines: None
) -> None:
    made = sorted([(await open_deal(client))["id"] for _ in range(7)])
    seen: list[str] = []
    after: UUID | None = None
    while True:
        async with database.read(principal.workspace_id) as connection:
            batch = await projection.deals_with_logs(
                connection, principal.workspace_id, after=after, limit=3
            )
        if not batch:
            break
        assert len(batch) <= 3
        assert all(len(told.log.standing) == 1 for told in batch)
        seen += [str(told.deal.opportunity_id) for told in batch]
        after = batch[-1].deal.opportunity_id
    assert seen == made


async def test_rows_agree_after_a_definition_has_moved_their_deals(
    client: httpx.AsyncClient, database: Database, principal: Principal, two_pipelines: None
) -> None:
    deals = [await lived(client) for _ in range(3)]
    fresh = await open_deal(client)
    archived = await client.post(
        "/v1/pipelines/sales/stages/offer/archive",
        json={"move_open_to": "talks"},
        headers={"If-Match": "*"},
    )
    assert archived.status_code in (200, 201), archived.text
    assert await found(database, principal.workspace_id) == []
    for deal in deals:
        log = await whole_log(client, deal["id"])
        assert_is_chain(log)
        assert (log[-1]["kind"], log[-1]["to_stage"]) == ("rearranged", "talks")
        # An undo would put an open deal into an archived stage.
        refused = await client.post(
            f"/v1/transitions/{log[-1]['id']}/void", json={"reason": "Undo"}
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "stage_archived")
    await move(client, fresh["id"], "talks")
    assert await found(database, principal.workspace_id) == []


RULES = st.fixed_dictionaries(
    {},
    optional={
        "idle_after": st.sampled_from(["PT1H", "P1D", "P300D", None]),
        "idle_after_by_priority": st.dictionaries(
            st.sampled_from(["high", "low"]), st.sampled_from(["PT2H", "P9D", None]), max_size=2
        ),
        "idle_clock": st.sampled_from(["stage_age", "inactivity"]),
        "qualifying_activities": st.sampled_from([["call"], ["email"], ["call", "email"]]),
    },
)


@given(
    edits=st.lists(
        st.one_of(
            st.tuples(st.just("rule"), st.sampled_from(["lead", "offer", "talks"]), RULES),
            st.tuples(st.just("archive")),
            st.tuples(st.just("step"), STEPS),
        ),
        min_size=2,
        max_size=7,
    )
)
@settings(
    max_examples=20,
    # Each example defines the pipelines of its own workspace.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_whatever_becomes_of_the_rules_every_clock_is_as_they_say(
    service: Callable[[ApiKey | None], httpx.AsyncClient],
    database: Database,
    edits: list[tuple[Any, ...]],
) -> None:
    principal, key = await make_workspace(database)
    for pipeline in ("sales", "renewals"):
        await keep_pipeline(database, principal.workspace_id, ruled(pipeline))
    client = service(key)
    document = "/v1/pipelines/sales"
    here = (await open_deal(client, opened_at="2026-01-05T00:00:00Z", priority="high"))["id"]
    for stage in ("lead", "offer", "talks"):
        other = await open_deal(client, opened_at="2026-01-05T00:00:00Z", stage=stage)
        await take(client, other["id"], ("activity", 3_600_000_000))
    for edit in edits:
        match edit:
            case "rule", stage, rule:
                answer = await client.patch(
                    f"{document}/stages/{stage}", json=rule, headers={"If-Match": "*"}
                )
                assert answer.status_code in (200, 409), answer.text
            case ("archive",):
                answer = await client.delete(document, headers={"If-Match": "*"})
                assert answer.status_code in (204, 409), answer.text
            case "step", step:
                here = await take(client, here, step)
        await assert_agree(database, principal.workspace_id)
