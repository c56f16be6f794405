"""Idle previews and suggestions over HTTP, on pasts that can be reckoned by hand."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.domain.access import Scope
from app.domain.definition import Definition, begin
from app.domain.journey import TransitionKind
from app.domain.measures.hindsight import Deed
from app.domain.measures.idle_suggestions import MIN_WON
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule, LossReason, Pipeline, StageKind
from app.storage.engine import Database
from app.storage.queries import idle_past
from tests.conftest import make_workspace
from tests.factories import OFFICE, stage
from tests.past_deals import PastDeal, define, insert, past_deal

PREVIEW, SUGGESTIONS = "/v1/pipelines/sales/idle/preview", "/v1/pipelines/sales/idle/suggestions"
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday."""
PERIOD = {"from": "2024-01-01T00:00:00Z", "to": "2024-02-05T00:00:00Z"}
WEEKS = 5
DAY = 86_400.0
NOW = datetime.now(UTC)


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def before(days: float) -> datetime:
    """So many days before the tests began."""
    return NOW - timedelta(days=days)


def definition(**more: Any) -> Definition:
    reasons = (LossReason("price", "Too dear"),)
    return Definition(
        key="sales",
        name="Sales",
        flow=Flow.FREE,
        stages=(
            stage("lead", 0, idle=IdleRule(after=Period(days=7))),
            stage("offer", 0),
            stage("parked", 0, off_path=True),
            stage("won", 0, StageKind.WON),
            stage("lost", 0, StageKind.LOST, loss_reasons=reasons),
        ),
        timezone="Europe/Berlin",
        **more,
    )


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    pipeline = begin(definition(), uuid4(), day(0))
    await define(database, workspace, pipeline, day(0))
    return pipeline


@pytest.fixture
def keep(database: Database, workspace: UUID, sales: Pipeline) -> Callable[..., Awaitable[None]]:
    """Inserts deals of `sales`, each told by its stays."""

    async def kept(*deals: PastDeal) -> None:
        await insert(database, workspace, sales, deals)

    return kept


def deal(pipeline: Pipeline, *stays: tuple[str, datetime], **facts: Any) -> PastDeal:
    return past_deal(pipeline, stays, **facts)


def rearranged(past: PastDeal, *moves: int) -> PastDeal:
    """The same, but that a changed definition made these of its moves."""
    log = [
        replace(logged, move=replace(logged.move, kind=TransitionKind.REARRANGED))
        if number in moves
        else logged
        for number, logged in enumerate(past.history.log)
    ]
    return replace(past, history=replace(past.history, log=log))


async def previewed(client: httpx.AsyncClient, **stages: Any) -> Any:
    answer = await client.post(PREVIEW, json={"stages": stages, **PERIOD})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, **body: Any) -> list[tuple[str, str]]:
    answer = await client.post(PREVIEW, json={"stages": {}, **body})
    assert answer.status_code == 422, answer.text
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


def counts(replay: Any) -> tuple[int, ...]:
    return tuple(replay[name] for name in ("visits", "deals", "lost_deals", "flags"))


async def test_a_preview_shows_what_a_threshold_would_have_done_beside_the_present_one(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(
        deal(sales, ("lead", day(1)), ("offer", day(3)), ("won", day(5))),
        deal(sales, ("lead", day(1)), ("offer", day(5)), ("won", day(9))),
        deal(sales, ("lead", day(2)), ("offer", day(4)), ("lost", day(8))),
        deal(sales, ("lead", day(2))),
        deal(sales, ("offer", day(9))),
        deal(sales, ("lead", day(10)), ("won", day(20))),
        deal(sales, ("lead", day(-3)), ("won", day(20))),  # came before the period
        deal(sales, ("lead", day(40))),  # and after it
    )
    found = await previewed(client, lead={"idle_after": "P3D"}, offer={"idle_after": "P4D"})
    lead, offer, parked = found["stages"]
    assert [stage["key"] for stage in found["stages"]] == ["lead", "offer", "parked"]
    # Two stayed in `lead` for longer than a week, and three for longer than three days.
    assert counts(lead["present"]) == (5, 5, 1, 2)
    assert counts(lead["preview"]) == (5, 5, 1, 3)
    assert lead["preview"]["flagged"] == {
        "deals": 3,
        "open": 1,
        "won": 2,
        "lost": 0,
        "handed_off": 0,
    }
    # Exactly four days in `offer` is not longer than four days; who is there yet is.
    assert counts(offer["present"]) == (4, 4, 1, 0)
    assert counts(offer["preview"]) == (4, 4, 1, 1)
    assert counts(parked["preview"]) == (0, 0, 0, 0)
    assert counts(found["total"]["preview"]) == (9, 6, 1, 4)
    assert found["total"]["preview"]["flags_per_week"] == 4 / WEEKS
    assert found["policy"]["weeks"] == WEEKS
    assert lead["present_rule"]["idle_after"] == "P7D"
    assert lead["preview_rule"]["idle_after"] == "P3D"


async def test_precision_recall_and_lead_time_are_told_with_their_intervals(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(
        *(deal(sales, ("lead", day(0)), ("lost", day(10))) for _ in range(8)),
        *(deal(sales, ("lead", day(0)), ("lost", day(3))) for _ in range(2)),
        *(deal(sales, ("lead", day(0)), ("won", day(6))) for _ in range(2)),
        *(deal(sales, ("lead", day(0)), ("won", day(2))) for _ in range(3)),
        *(deal(sales, ("lead", day(0))) for _ in range(5)),
    )
    found = (await previewed(client, lead={"idle_after": "P4D"}))["total"]["preview"]
    assert found["flagged"] == {"deals": 15, "open": 5, "won": 2, "lost": 8, "handed_off": 0}
    # Wilson, 8 of 10: (0.8 + 1.9207/10 ± 1.96·√(0.016 + 0.0096)) / 1.3841
    wilson = {"low": pytest.approx(0.4902, abs=1e-4), "high": pytest.approx(0.9433, abs=1e-4)}
    share = {"count": 8, "of": 10, "rate": 0.8, **wilson, "reason": None}
    assert (found["precision"], found["recall"]) == (share, share)
    assert (found["median_lead_seconds"], found["lead_reason"]) == (6 * DAY, None)


async def test_too_few_cases_make_no_rate_and_no_median_but_are_counted(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(*(deal(sales, ("lead", day(0)), ("lost", day(10))) for _ in range(5)))
    found = (await previewed(client))["total"]["preview"]
    nothing = {"rate": None, "low": None, "high": None, "reason": "too_few_cases"}
    assert found["precision"] == {"count": 5, "of": 5, **nothing}
    assert found["recall"] == {"count": 5, "of": 5, **nothing}
    assert (found["median_lead_seconds"], found["lead_reason"]) == (None, "too_few_cases")


async def test_each_silence_counts_where_activities_reset_the_clock_that_is_tried(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    quiet = deal(sales, ("offer", day(0)), ("won", day(20)))
    done = [("call", 3), ("note", 5), ("call", 12), ("call", 13)]
    deeds = [Deed(kind, day(number), day(number)) for kind, number in done]
    await keep(replace(quiet, history=replace(quiet.history, activities=deeds)))
    trial: dict[str, Any] = {"idle_clock": "inactivity", "idle_after": "P5D"}
    for kinds, flags in ((["call"], 2), (["call", "note"], 2), (["note"], 1), (["visit"], 1)):
        told = await previewed(client, offer={**trial, "qualifying_activities": kinds})
        assert told["total"]["preview"]["flags"] == flags, kinds
        assert told["total"]["preview"]["flagged"]["deals"] == 1


async def test_a_threshold_counts_working_time_unless_the_trial_says_otherwise(
    client: httpx.AsyncClient, database: Database, workspace: UUID
) -> None:
    sales = begin(definition(calendar=OFFICE), uuid4(), day(0))
    await define(database, workspace, sales, day(0))
    friday, monday = day(4) + timedelta(hours=10), day(7) + timedelta(hours=9)
    await insert(database, workspace, sales, [deal(sales, ("lead", friday), ("won", monday))])
    for trial, flags in (
        ({"idle_after": "P1D"}, 0),
        ({"idle_after": "P1D", "idle_time": "elapsed"}, 1),
        ({"idle_after": "PT5H"}, 1),  # an hour before lunch on Friday, and four after it
    ):
        found = await previewed(client, lead=trial)
        assert found["total"]["preview"]["flags"] == flags, trial


async def test_a_clock_that_goes_on_through_a_rearrangement_makes_one_flag(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(
        rearranged(deal(sales, ("lead", day(0)), ("offer", day(4)), ("won", day(9))), 1),
        rearranged(deal(sales, ("lead", day(0)), ("offer", day(2)), ("won", day(9))), 1),
        # Its clock started before the period.
        rearranged(deal(sales, ("lead", day(-9)), ("offer", day(2)), ("won", day(9))), 1),
    )
    found = await previewed(client, lead={"idle_after": "P3D"}, offer={"idle_after": "P3D"})
    lead, offer, _ = found["stages"]
    assert (counts(lead["preview"]), counts(offer["preview"])) == ((2, 2, 0, 1), (2, 2, 0, 1))
    assert counts(found["total"]["preview"]) == (4, 2, 0, 2)


async def test_priorities_have_thresholds_of_their_own(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    for priority in ("high", "low", None):
        await keep(deal(sales, ("lead", day(0)), ("won", day(5)), priority=priority))
    exceptions = {"high": "P2D", "low": None}
    found = await previewed(client, lead={"idle_after_by_priority": exceptions})
    assert found["total"]["present"]["flags"] == 0
    assert found["total"]["preview"]["flags"] == 1
    again = await previewed(
        client, lead={"idle_after": "P4D", "idle_after_by_priority": exceptions}
    )
    assert again["total"]["preview"]["flags"] == 2


async def test_a_preview_changes_nothing(client: httpx.AsyncClient, sales: Pipeline) -> None:
    before = await client.get("/v1/pipelines/sales")
    await previewed(client, lead={"idle_after": "P1D"}, offer={"idle_after": "P2D"})
    after = await client.get("/v1/pipelines/sales")
    assert (after.json(), after.headers["ETag"]) == (before.json(), before.headers["ETag"])


async def test_what_cannot_be_tried_is_refused_where_it_stands(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    for stages, breach in (
        ({"nowhere": {"idle_after": "P1D"}}, ("/stages/nowhere", "unknown_stage")),
        ({"won": {"idle_after": "P1D"}}, ("/stages/won", "open_stages_only")),
        ({"lead": {"idle_after": "PT0S"}}, ("/stages/lead/idle_after", "out_of_range")),
        (
            {"lead": {"idle_after_by_priority": {"high": "P0D"}}},
            ("/stages/lead/idle_after_by_priority/high", "out_of_range"),
        ),
        (
            {"lead": {"idle_clock": "inactivity", "qualifying_activities": []}},
            ("/stages/lead/qualifying_activities", "required"),
        ),
        ({"lead": {"idle_after": "P1M"}}, ("/stages/lead/idle_after", "wrong_format")),
        ({"lead": {"critical_after": "P1D"}}, ("/stages/lead/critical_after", "unknown_field")),
        ({"Lead!": {}}, ("/stages/Lead!", "wrong_format")),
    ):
        assert await refused(client, stages=stages) == [breach], stages


async def test_a_period_that_holds_no_past_is_refused(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    for period, pointer in (
        ({"from": "2024-02-01", "to": "2024-01-01"}, "/to"),
        ({"from": "2024-01-01", "to": "2024-01-01"}, "/to"),
        ({"from": "2998-01-01", "to": "2999-01-01"}, "/from"),
    ):
        assert await refused(client, **period) == [(pointer, "out_of_range")]
    for period in ({"from": "1500-01-01"}, {"from": "yesterday"}, {"to": 7}):
        answer = await client.post(PREVIEW, json={"stages": {}, **period})
        assert answer.status_code == 422
    answer = await client.get(SUGGESTIONS, params={"from": "2998-01-01"})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["?from"]
    assert (await client.get(SUGGESTIONS, params={"to": "2024-01-01"})).status_code == 422


async def test_the_longest_period_of_an_empty_past_answers_with_nulls_and_why(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    answer = await client.post(
        PREVIEW, json={"stages": {}, "from": "1900-01-01", "to": "2999-12-31"}
    )
    assert answer.status_code == 200, answer.text
    whole = answer.json()["total"]["present"]
    assert counts(whole) == (0, 0, 0, 0)
    assert (whole["precision"]["rate"], whole["precision"]["reason"]) == (None, "too_few_cases")
    assert (whole["flags_per_week"], whole["median_lead_seconds"]) == (0, None)
    suggested = (await client.get(SUGGESTIONS, params={"from": "1900-01-01"})).json()
    assert [stage["key"] for stage in suggested["stages"]] == ["lead", "offer", "parked"]
    for stage_ in suggested["stages"]:
        assert stage_["reason"] == stage_["halving"]["reason"] == "too_few_cases"
        named = ("suggested", "load", "p85_seconds", "p85_low_seconds", "p85_high_seconds")
        assert {stage_[name] for name in named} == {None}


async def test_the_last_180_days_are_replayed_unless_a_period_is_named(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(*(deal(sales, ("lead", before(days))) for days in (1, 170, 190)))
    answer = (await client.post(PREVIEW, json={"stages": {}})).json()
    assert counts(answer["total"]["present"]) == (2, 2, 0, 1)
    assert answer["policy"]["weeks"] == pytest.approx(180 / 7, abs=0.001)


async def test_a_suggestion_stands_on_the_stays_of_won_deals_and_tells_its_load(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(
        *(deal(sales, ("lead", before(100)), ("won", before(100 - n))) for n in range(1, 31)),
        *(deal(sales, ("lead", before(100)), ("lost", before(60))) for _ in range(30)),
        deal(sales, ("lead", before(30))),
        deal(sales, ("lead", before(5))),
    )
    answer = await client.get(SUGGESTIONS)
    lead, offer, _ = answer.json()["stages"]
    assert (lead["won"], lead["lost"], lead["reason"]) == (30, 30, None)
    # Between the 25th and the 26th of thirty stays of 1 to 30 days.
    assert lead["p85_seconds"] == pytest.approx(25.65 * DAY)
    assert lead["p85_low_seconds"] <= lead["p85_seconds"] <= lead["p85_high_seconds"]
    assert lead["suggested"] == {
        "idle_after": "P26D",
        "idle_clock": "stage_age",
        "idle_time": "elapsed",
    }
    # Beyond the 20th day 10 of 40 were won, half of 30 of 60.
    halving = lead["halving"]
    assert (halving["after_seconds"], halving["reason"]) == (20 * DAY, None)
    assert (halving["at_entry"]["count"], halving["at_entry"]["of"]) == (30, 60)
    assert (halving["after"]["count"], halving["after"]["of"]) == (10, 40)
    # Four won deals and thirty lost ones stayed longer, and one is there yet.
    assert lead["load"] == {"weeks": 12, "flags": 35, "flags_per_week": 35 / 12, "idle_now": 1}
    assert (offer["won"], offer["reason"]) == (0, "too_few_cases")
    assert answer.json()["policy"]["minimum_won"] == MIN_WON


async def test_the_chance_is_said_to_have_halved_only_by_six_deals_that_stayed_longer(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(
        *(deal(sales, ("lead", before(9)), ("won", before(8))) for _ in range(9)),
        *(deal(sales, ("lead", before(9)), ("lost", before(7))) for _ in range(5)),
    )
    lead = (await client.get(SUGGESTIONS)).json()["stages"][0]
    assert (lead["halving"]["after_seconds"], lead["halving"]["reason"]) == (None, "not_reached")
    assert (lead["suggested"], lead["reason"]) == (None, "too_few_cases")
    await keep(deal(sales, ("lead", before(9)), ("lost", before(7))))
    halving = (await client.get(SUGGESTIONS)).json()["stages"][0]["halving"]
    assert (halving["after_seconds"], halving["after"]["of"]) == (DAY, 6)


async def test_the_load_counts_a_clock_from_where_it_started_though_that_lies_before_the_period(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    stays = (("lead", before(130)), ("offer", before(120)), ("won", before(20)))
    nearly = timedelta(hours=1)
    await keep(
        *(deal(sales, ("offer", before(90)), ("won", before(50) - nearly)) for _ in range(MIN_WON)),
        # Forty days after it came to `lead` were ninety days ago, before the weeks of the load;
        # forty days after it was carried into `offer` would have been among them.
        rearranged(deal(sales, *stays), 1),
    )
    answer = await client.get(SUGGESTIONS, params={"from": before(100).isoformat()})
    _, offer, _ = answer.json()["stages"]
    assert (offer["won"], offer["suggested"]["idle_after"]) == (MIN_WON, "P40D")
    assert (offer["load"]["flags"], offer["load"]["idle_now"]) == (0, 0)


async def test_a_suggestion_can_be_set_as_it_is_and_then_flags_who_it_said_is_idle(
    client: httpx.AsyncClient, sales: Pipeline, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep(
        *(deal(sales, ("lead", before(100)), ("won", before(100 - n))) for n in range(1, 31)),
        *(deal(sales, ("lead", before(days))) for days in (5, 25, 27, 80)),
    )
    lead = (await client.get(SUGGESTIONS)).json()["stages"][0]
    replayed = (await client.post(PREVIEW, json={"stages": {"lead": lead["suggested"]}})).json()
    assert replayed["total"]["preview"]["flagged"]["open"] == lead["load"]["idle_now"] == 2
    patched = await client.patch(
        "/v1/pipelines/sales/stages/lead", json=lead["suggested"], headers={"If-Match": "*"}
    )
    assert patched.status_code == 200, patched.text
    assert (await client.post("/v1/idle-scans")).json()["flagged"] == 2


async def test_a_suggestion_that_is_still_the_answer_is_not_made_again(
    client: httpx.AsyncClient, sales: Pipeline
) -> None:
    first = await client.get(SUGGESTIONS)
    held = {"If-None-Match": first.headers["ETag"]}
    again = await client.get(SUGGESTIONS, headers=held)
    other = await client.get(SUGGESTIONS, params={"from": "2024-01-01"}, headers=held)
    # Where the minute has turned in between, all that ages is asked anew.
    assert again.status_code == 304 or again.headers["ETag"] != first.headers["ETag"]
    assert other.status_code == 200


async def test_more_than_can_be_replayed_at_once_is_refused_with_advice(
    client: httpx.AsyncClient,
    sales: Pipeline,
    keep: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await keep(*(deal(sales, ("lead", before(days))) for days in (1, 2, 3)))
    monkeypatch.setattr(idle_past, "MOST_IN_WORKING_TIME", 2)
    assert (await client.post(PREVIEW, json={"stages": {}})).status_code == 200
    monkeypatch.setattr(idle_past, "MOST_VISITS", 2)
    answer = await client.post(PREVIEW, json={"stages": {}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "ask for less of it" in answer.json()["detail"]
    assert (await client.get(SUGGESTIONS)).status_code == 422


async def test_planning_is_for_those_who_may_see_figures_of_their_own_workspace(
    database: Database, sales: Pipeline, service: Callable[..., httpx.AsyncClient]
) -> None:
    for scopes, status in (((Scope.IDLE_FLAGS_READ,), 403), ((Scope.METRICS_READ,), 404)):
        _, key = await make_workspace(database, *scopes)
        stranger = service(key)
        assert (await stranger.post(PREVIEW, json={"stages": {}})).status_code == status
        assert (await stranger.get(SUGGESTIONS)).status_code == status
