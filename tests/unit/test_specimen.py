"""The tales that the demo and the benchmarks are made of."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.actions.specimen import Specimen, specimens
from app.domain import journey
from app.domain.definition import begin
from app.domain.journey import TransitionKind
from app.domain.pipeline import Pipeline
from app.domain.templates import templates
from app.domain.transition import check_loss_reason, check_route

UNTIL = datetime(2026, 3, 31, 16, 30, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=365)
PIPELINES = [begin(t.definition("sales"), UUID(int=1), SINCE) for t in templates("en")]
SOFTWARE = next(p for p in PIPELINES if p.name == "Software sale")


def told(pipeline: Pipeline = SOFTWARE, count: int = 400, seed: int = 20) -> list[Specimen]:
    return list(specimens(pipeline, count, since=SINCE, until=UNTIL, random=Random(seed)))


def test_the_same_seed_tells_the_same_tales_and_another_one_others() -> None:
    assert told() == told()
    assert told(seed=21) != told()


@settings(max_examples=20)
@given(st.sampled_from(PIPELINES), st.integers(0, 2**32))
def test_no_tale_has_a_move_that_the_pipeline_would_refuse(pipeline: Pipeline, seed: int) -> None:
    for tale in told(pipeline, 30, seed):
        here = journey.opening(pipeline, tale.log[0])
        for move in tale.log[1:]:
            origin, target = pipeline.by_slot[here.slot], pipeline.by_slot[move.to_slot]
            check_route(pipeline, here, origin, target)
            check_loss_reason(target, move.loss_reason)
            assert move.seq == here.seq + 1
            assert (move.from_slot, move.entered_at) == (here.slot, here.stage_entered_at)
            assert move.kind is journey.kind_of_move(pipeline, origin, target)
            assert move.occurred_at >= here.stage_entered_at
            here = journey.after(pipeline, here, move)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_every_deal_opens_and_moves_within_the_span(seed: int) -> None:
    for tale in told(count=50, seed=seed):
        assert tale.log[0].occurred_at >= SINCE
        assert tale.log[-1].occurred_at < UNTIL


def test_a_year_has_everything_that_happens_to_deals() -> None:
    tales = told()
    kinds = Counter(move.kind for tale in tales for move in tale.log)
    missing = set(TransitionKind) - set(kinds)
    assert missing == {TransitionKind.HANDED_OFF, TransitionKind.REARRANGED}
    last = Counter(SOFTWARE.by_slot[tale.log[-1].to_slot].kind.value for tale in tales)
    assert min(last.values()) >= 20, last
    reasons = {move.loss_reason for tale in tales for move in tale.log} - {None}
    assert reasons == {reason.key for reason in SOFTWARE.stage("lost").loss_reasons}
    for fact in ("owner", "team", "source", "priority", "currency"):
        assert len({getattr(tale.facts, fact) for tale in tales}) > 1, fact


def test_what_a_move_freezes_is_what_the_changes_before_it_left() -> None:
    tales = told(count=2000)
    assert {change.name for tale in tales for change in tale.changes} == {"amount", "owner"}
    for tale in tales:
        for name in ("amount", "owner"):
            value = getattr(tale.facts, name)
            changes = [change for change in tale.changes if change.name == name]
            for move in tale.log:
                while changes and changes[0].occurred_at <= move.occurred_at:
                    assert changes[0].old == value
                    value = changes.pop(0).new
                assert getattr(move.facts, name) == value
            assert not changes


def test_august_is_quieter_than_march() -> None:
    opened = Counter(tale.log[0].occurred_at.month for tale in told(count=4000))
    assert opened[8] < opened[3] * 0.7


def test_sellers_differ_in_pace() -> None:
    lives: dict[str | None, list[float]] = {}
    for tale in told(count=4000):
        for move in tale.log[1:]:
            assert move.entered_at is not None
            stay = (move.occurred_at - move.entered_at).total_seconds()
            lives.setdefault(move.facts.owner, []).append(stay)
    medians = sorted(sorted(stays)[len(stays) // 2] for stays in lives.values())
    assert medians[-1] > 1.5 * medians[0]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: p.name)
def test_any_template_tells_of_deals_won_and_lost(pipeline: Pipeline) -> None:
    kinds = {move.kind for tale in told(pipeline) for move in tale.log}
    assert {TransitionKind.WON, TransitionKind.LOST, TransitionKind.ADVANCED} <= kinds
