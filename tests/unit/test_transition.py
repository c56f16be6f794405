"""Which moves a pipeline allows, at which instant they happen, and what they freeze."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import journey, transition
from app.domain.errors import (
    AlreadyClosed,
    AlreadyThere,
    HandedOff,
    Invalid,
    LossReasonRequired,
    MoveNotAllowed,
    PipelineArchived,
    RequirementsMissing,
    SluiceError,
    StageArchived,
    TimeOutOfRange,
    UnknownStage,
)
from app.domain.journey import Facts, Position, Status, Transition, TransitionKind
from app.domain.pipeline import Flow, Pipeline, StageKind
from app.domain.transition import AHEAD, TICK, Move, decide, decide_hand_off, decide_opening
from app.storage.ids import new_id
from tests.factories import guarded, sales_pipeline, stage

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
ENTERED = NOW - timedelta(days=2)
OPEN_ON_PATH = ("lead", "offer", "talks")
KEYS = (*OPEN_ON_PATH, "parked", "won", "lost")


def at_stage(pipeline: Pipeline, key: str, entered_at: datetime = ENTERED) -> Position:
    opening = Transition(
        seq=1,
        kind=TransitionKind.OPENED,
        from_slot=None,
        entered_at=None,
        to_slot=pipeline.stage(key).slot,
        occurred_at=entered_at,
    )
    return journey.opening(pipeline, opening)


def moved(
    pipeline: Pipeline,
    origin: str,
    target: str,
    *,
    deal: Mapping[str, Any] | None = None,
    facts: Facts | None = None,
    entered_at: datetime = ENTERED,
    **more: Any,
) -> Transition:
    if target == "lost":
        more.setdefault("loss_reason", "price")
    position = at_stage(pipeline, origin, entered_at)
    move = Move(to_stage=target, **more)
    return decide(pipeline, position, deal or {}, facts or Facts(), move, NOW)


def allowed(pipeline: Pipeline, origin: str) -> set[str]:
    """The stages that a deal may enter from there, found by trying each."""
    found = set()
    for target in KEYS:
        try:
            moved(pipeline, origin, target)
        except SluiceError:
            continue
        found.add(target)
    return found


@pytest.mark.parametrize(
    ("flow", "origin", "targets"),
    [
        (Flow.FREE, "lead", {"offer", "talks", "parked", "won", "lost"}),
        (Flow.FREE, "talks", {"lead", "offer", "parked", "won", "lost"}),
        (Flow.FORWARD, "lead", {"offer", "talks", "parked", "won", "lost"}),
        (Flow.FORWARD, "talks", {"parked", "won", "lost"}),
        (Flow.FORWARD, "parked", {"lead", "offer", "talks", "won", "lost"}),
        (Flow.SEQUENTIAL, "lead", {"offer", "parked", "lost"}),
        (Flow.SEQUENTIAL, "talks", {"parked", "won", "lost"}),
        (Flow.SEQUENTIAL, "parked", {"lead", "offer", "talks", "won", "lost"}),
        # Whatever the flow, a closed deal is reopened anywhere, or closed the other way.
        *((flow, "won", {*OPEN_ON_PATH, "parked", "lost"}) for flow in Flow if flow != "graph"),
        *((flow, "lost", {*OPEN_ON_PATH, "parked", "won"}) for flow in Flow if flow != "graph"),
    ],
)
def test_a_flow_allows_these_moves_and_no_others(
    flow: Flow, origin: str, targets: set[str]
) -> None:
    assert allowed(sales_pipeline(flow), origin) == targets


@given(st.sets(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS))))
def test_under_a_graph_only_listed_moves_are_allowed_reopening_and_losing_too(
    moves: set[tuple[str, str]],
) -> None:
    pipeline = replace(sales_pipeline(Flow.GRAPH), moves=frozenset(moves))
    for origin in KEYS:
        listed = {target for start, target in moves if start == origin}
        assert allowed(pipeline, origin) == listed - {origin}


def test_a_refused_move_says_where_the_deal_may_go_instead() -> None:
    with pytest.raises(MoveNotAllowed, match="from 'lead' to 'offer' next"):
        moved(sales_pipeline(Flow.SEQUENTIAL), "lead", "talks")
    graph = replace(sales_pipeline(Flow.GRAPH), moves=frozenset({("lead", "won")}))
    with pytest.raises(MoveNotAllowed, match="from 'lead' to won, not to 'talks'"):
        moved(graph, "lead", "talks")


def test_a_move_to_where_the_deal_is_already_is_refused() -> None:
    pipeline = sales_pipeline()
    with pytest.raises(AlreadyThere):
        moved(pipeline, "offer", "offer")
    with pytest.raises(AlreadyClosed):
        moved(pipeline, "won", "won")


@pytest.mark.parametrize("kind", [StageKind.WON, StageKind.LOST])
def test_a_close_date_is_never_rewritten_within_one_outcome(kind: StageKind) -> None:
    one, other = stage("one", 7, kind), stage("other", 8, kind)
    pipeline = sales_pipeline()
    pipeline = replace(pipeline, stages=(*pipeline.stages, one, other))
    with pytest.raises(AlreadyClosed):
        moved(pipeline, "one", "other", loss_reason="price" if kind is StageKind.LOST else None)


def test_an_unknown_stage_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownStage, match="lead, offer, talks"):
        moved(sales_pipeline(), "lead", "nowhere")


def test_nothing_enters_an_archived_stage_and_an_archived_pipeline_rests() -> None:
    pipeline = sales_pipeline()
    stages = tuple(replace(s, archived_at=NOW) if s.key == "offer" else s for s in pipeline.stages)
    with pytest.raises(StageArchived):
        moved(replace(pipeline, stages=stages), "lead", "offer")
    with pytest.raises(PipelineArchived):
        moved(replace(pipeline, archived_at=NOW), "lead", "offer")


def test_what_was_handed_off_is_moved_where_it_went() -> None:
    pipeline = sales_pipeline()
    position = replace(at_stage(pipeline, "lead"), status=Status.HANDED_OFF)
    with pytest.raises(HandedOff):
        decide(pipeline, position, {}, Facts(), Move(to_stage="offer"), NOW)
    with pytest.raises(HandedOff):
        decide_hand_off(pipeline, position, Facts(), None, NOW)


@pytest.mark.parametrize("reason", [None, "weather", "Price", ""])
def test_losing_needs_one_of_the_reasons_of_the_stage(reason: str | None) -> None:
    with pytest.raises(LossReasonRequired) as refused:
        moved(sales_pipeline(), "lead", "lost", loss_reason=reason)
    assert [breach.pointer for breach in refused.value.errors] == ["/loss_reason"]


def test_a_stage_that_is_not_lost_takes_no_loss_reason() -> None:
    with pytest.raises(Invalid) as refused:
        moved(sales_pipeline(), "lead", "won", loss_reason="price")
    assert refused.value.code == "invalid"
    assert [breach.pointer for breach in refused.value.errors] == ["/loss_reason"]


def test_every_requirement_that_is_missing_is_told_at_once() -> None:
    pipeline = guarded(sales_pipeline(), "talks", "/amount", "/tags", "/attributes/budget/size")
    with pytest.raises(RequirementsMissing) as refused:
        moved(pipeline, "lead", "talks", deal={"amount": None, "tags": [], "attributes": {}})
    assert [breach.pointer for breach in refused.value.errors] == [
        "/amount",
        "/tags",
        "/attributes/budget/size",
    ]
    deal = {"amount": Decimal(0), "tags": ["a"], "attributes": {"budget": {"size": False}}}
    assert moved(pipeline, "lead", "talks", deal=deal).kind is TransitionKind.SKIPPED


def test_an_override_passes_the_requirements_and_no_other_rule() -> None:
    pipeline = guarded(sales_pipeline(Flow.SEQUENTIAL), "talks", "/amount")
    override = {"override_reason": "The board said so"}
    assert moved(pipeline, "offer", "talks", **override).to_slot == pipeline.stage("talks").slot
    with pytest.raises(MoveNotAllowed):
        moved(pipeline, "lead", "talks", **override)


@given(
    st.timedeltas(timedelta(), timedelta(days=400)), st.timedeltas(timedelta(), timedelta(days=1))
)
def test_a_stated_instant_lies_between_the_last_transition_and_now(
    since: timedelta, before: timedelta
) -> None:
    entered_at, asked = NOW - since, NOW - before
    if asked < entered_at:
        with pytest.raises(TimeOutOfRange) as refused:
            moved(sales_pipeline(), "lead", "offer", entered_at=entered_at, occurred_at=asked)
        assert refused.value.errors[0].pointer == "/occurred_at"
    else:
        row = moved(sales_pipeline(), "lead", "offer", entered_at=entered_at, occurred_at=asked)
        assert (row.entered_at, row.occurred_at) == (entered_at, asked)


@pytest.mark.parametrize("ahead", [TICK, timedelta(seconds=1), timedelta(seconds=60)])
def test_up_to_sixty_seconds_ahead_is_now(ahead: timedelta) -> None:
    assert moved(sales_pipeline(), "lead", "offer", occurred_at=NOW + ahead).occurred_at == NOW


def test_more_than_sixty_seconds_ahead_is_refused() -> None:
    assert timedelta(seconds=60) == AHEAD
    with pytest.raises(TimeOutOfRange):
        moved(sales_pipeline(), "lead", "offer", occurred_at=NOW + AHEAD + TICK)


@pytest.mark.parametrize("ahead", [timedelta(), TICK, timedelta(seconds=5)])
def test_a_live_move_comes_a_microsecond_after_the_last_even_if_the_clock_went_back(
    ahead: timedelta,
) -> None:
    row = moved(sales_pipeline(), "lead", "offer", entered_at=NOW + ahead)
    assert row.occurred_at == NOW + ahead + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("target", "own", "frozen"),
    [
        ("offer", None, Decimal("0.4")),
        ("offer", Decimal("0.7"), Decimal("0.7")),
        ("talks", None, None),
        ("won", Decimal("0.7"), Decimal(1)),
        ("lost", Decimal("0.7"), Decimal(0)),
    ],
)
def test_a_transition_freezes_the_facts_and_the_probability_that_counts(
    target: str, own: Decimal | None, frozen: Decimal | None
) -> None:
    pipeline = sales_pipeline()
    stages = tuple(
        replace(s, probability=Decimal("0.4")) if s.key == "offer" else s for s in pipeline.stages
    )
    facts = Facts(
        amount=Decimal("12.50"),
        currency="EUR",
        probability=own,
        owner="mia",
        team="north",
        source="fair",
        priority="high",
    )
    row = moved(replace(pipeline, stages=stages), "lead", target, facts=facts)
    assert row.facts == replace(facts, probability=frozen)


@pytest.mark.parametrize("flow", list(Flow))
@pytest.mark.parametrize("key", [None, *KEYS])
def test_a_deal_opens_in_the_first_stage_or_under_free_and_forward_in_an_open_one(
    flow: Flow, key: str | None
) -> None:
    pipeline = sales_pipeline(flow)
    is_free = flow in (Flow.FREE, Flow.FORWARD)
    if key in (None, "lead") or (is_free and key in (*OPEN_ON_PATH, "parked")):
        row = decide_opening(pipeline, key, None, {}, Facts(), NOW)
        assert (row.seq, row.kind, row.from_slot) == (1, TransitionKind.OPENED, None)
        assert row.to_slot == pipeline.stage(key or "lead").slot
        assert row.occurred_at == NOW
    else:
        with pytest.raises(MoveNotAllowed):
            decide_opening(pipeline, key, None, {}, Facts(), NOW)


def test_a_deal_may_have_opened_long_ago_but_not_tomorrow() -> None:
    pipeline, past = sales_pipeline(), NOW - timedelta(days=4000)
    assert decide_opening(pipeline, None, past, {}, Facts(), NOW).occurred_at == past
    with pytest.raises(TimeOutOfRange):
        decide_opening(pipeline, None, NOW + timedelta(days=1), {}, Facts(), NOW)


def test_no_deal_opens_in_an_archived_pipeline() -> None:
    with pytest.raises(PipelineArchived):
        decide_opening(replace(sales_pipeline(), archived_at=NOW), None, None, {}, Facts(), NOW)


@pytest.mark.parametrize(("origin", "is_link"), [("offer", False), ("won", True), ("lost", True)])
def test_a_hand_off_ends_an_open_deal_and_only_links_a_closed_one(
    origin: str, is_link: bool
) -> None:
    pipeline = sales_pipeline()
    before = at_stage(pipeline, origin)
    row = decide_hand_off(pipeline, before, Facts(), None, NOW)
    after = journey.after(pipeline, before, row)
    assert (row.kind, row.from_slot, row.to_slot) == ("handed_off", before.slot, before.slot)
    if is_link:
        assert row.entered_at is None
        assert after == replace(before, seq=2)
    else:
        assert row.entered_at == ENTERED
        assert (after.status, after.closed_at) == (Status.HANDED_OFF, NOW)
        assert after.dwell == {before.slot: NOW - ENTERED}


@pytest.mark.parametrize("flow", list(Flow))
@pytest.mark.parametrize("origin", KEYS)
def test_the_stages_offered_are_those_that_a_move_may_enter(flow: Flow, origin: str) -> None:
    moves = frozenset({("lead", "offer"), ("won", "lead"), ("parked", "lost")})
    pipeline = replace(sales_pipeline(flow), moves=moves if flow is Flow.GRAPH else frozenset())
    offered = {
        found.key
        for found, refused in transition.possible_moves(pipeline, at_stage(pipeline, origin))
        if refused is None
    }
    assert offered == allowed(pipeline, origin)


def test_nothing_is_offered_to_a_deal_that_went_on_elsewhere() -> None:
    pipeline = sales_pipeline()
    refusals = [
        refused
        for _, refused in transition.possible_moves(pipeline, at_stage(pipeline, "won"), new_id())
    ]
    assert refusals
    assert all(isinstance(refused, HandedOff) for refused in refusals)


@pytest.mark.parametrize(("stage", "lacks"), [(None, "/owner"), ("talks", "/amount")])
def test_an_opening_needs_what_its_stage_requires(stage: str | None, lacks: str) -> None:
    pipeline = guarded(guarded(sales_pipeline(), "lead", "/owner"), "talks", "/amount")
    with pytest.raises(RequirementsMissing) as refused:
        decide_opening(pipeline, stage, None, {"name": "A deal"}, Facts(), NOW)
    assert [breach.pointer for breach in refused.value.errors] == [lacks]
    bears = {"owner": "mia", "amount": Decimal(1)}
    decide_opening(pipeline, stage, None, bears, Facts(), NOW)
