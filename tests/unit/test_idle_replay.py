"""Which flags would rules have opened? The definition, on visits that can be reckoned by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from app.domain.errors import Invalid, InvalidDefinition
from app.domain.journey import Status, TransitionKind
from app.domain.measures.hindsight import Deed, seen
from app.domain.measures.idle_preview import measure, tried, weeks
from app.domain.measures.idle_replay import (
    ClockedVisit,
    Episode,
    clocked,
    crossed,
    episodes,
    rules_of,
)
from app.domain.measures.selection import Attribution, Selection
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline, Stage
from tests.factories import OFFICE, sales_pipeline
from tests.past_deals import PastDeal, past_deal, revisions

MONDAY = datetime(2026, 4, 20, 9, tzinfo=UTC)
LEAD, OFFER = 1, 2


def day(number: float) -> datetime:
    return MONDAY + timedelta(days=number)


def visit(
    entered: float,
    left: float,
    moved: float | None = None,
    slot: int = LEAD,
    priority: str | None = None,
) -> ClockedVisit:
    return ClockedVisit(
        slot=slot,
        entered_at=day(entered),
        ended_at=day(left),
        moved_at=day(entered if moved is None else moved),
        priority=priority,
        under_way=False,
        rearranged=moved is not None,
    )


def opened(rule: IdleRule, *visits: ClockedVisit, calls: tuple[float, ...] = ()) -> list[float]:
    """The days on which flags would have opened."""
    deeds = [Deed("call", day(number), day(number)) for number in calls]
    found = episodes({LEAD: rule, OFFER: rule}, visits, deeds)
    return [(episode.opened_at - MONDAY) / timedelta(days=1) for episode in found]


def test_a_visit_that_outlasts_its_threshold_is_flagged_and_one_that_only_reaches_it_is_not() -> (
    None
):
    rule = IdleRule(after=Period(days=3))
    assert opened(rule, visit(0, 3.001)) == [3]
    assert opened(rule, visit(0, 3)) == []


def test_a_deal_is_flagged_by_the_threshold_of_its_priority() -> None:
    rule = IdleRule(
        after=Period(days=3),
        after_by_priority=MappingProxyType({"high": Period(days=1), "low": None}),
    )
    found = {name: opened(rule, visit(0, 9, priority=name)) for name in (None, "high", "low", "?")}
    assert found == {None: [3], "high": [1], "low": [], "?": [3]}


def test_a_stage_without_a_threshold_flags_nobody() -> None:
    assert opened(IdleRule(), visit(0, 900)) == []


def test_each_silence_is_an_episode_of_its_own_where_activities_reset_the_clock() -> None:
    rule = IdleRule(clock=IdleClock.INACTIVITY, after=Period(days=5), qualifying=("call",))
    assert opened(rule, visit(0, 20), calls=(3, 12, 13)) == [8, 18]
    assert opened(rule, visit(0, 20), calls=(5, 10, 15)) == []
    # What was done before the deal came, or after it left, resets nothing here.
    assert opened(rule, visit(0, 7), calls=(-1, 0, 7, 8)) == [5]


def test_an_activity_that_does_not_qualify_resets_no_clock() -> None:
    rule = IdleRule(clock=IdleClock.INACTIVITY, after=Period(days=5), qualifying=("meeting",))
    assert opened(rule, visit(0, 9), calls=(3,)) == [5]


def test_working_time_counts_where_the_rule_has_a_calendar() -> None:
    # From Friday at eleven to Monday at noon in Berlin it was never at work for a day.
    rule = IdleRule(after=Period(days=1), calendar=OFFICE)
    assert opened(rule, visit(4, 6.9)) == []
    assert opened(rule, visit(4, 7.1)) == [7]
    assert opened(IdleRule(after=Period(days=1)), visit(4, 6.9)) == [5]


def test_a_rearranged_definition_ends_no_clock_and_makes_no_second_flag() -> None:
    rule = IdleRule(after=Period(days=3))
    chain = (visit(0, 2), visit(2, 5, moved=0, slot=OFFER), visit(5, 9, moved=0))
    assert opened(rule, *chain) == [3]
    # A shorter threshold is passed at the very moment at which the deal is carried into it.
    shorter = IdleRule(after=Period(days=1))
    assert crossed(shorter, chain[1], ()) == [Episode(OFFER, day(0), day(2))]


def deal(pipeline: Pipeline, *stays: tuple[str, float]) -> PastDeal:
    return past_deal(pipeline, [(key, day(number)) for key, number in stays])


def test_the_clock_of_a_visit_that_a_rearrangement_began_is_that_of_the_visit_before() -> None:
    pipeline = sales_pipeline()
    logged = deal(pipeline, ("lead", 0), ("offer", 2), ("talks", 3), ("won", 9)).history
    opening, second, *others = logged.log
    carried = replace(second, move=replace(second.move, kind=TransitionKind.REARRANGED))
    asked = Selection(as_of=day(30), attribution=Attribution.AT_MOVE)
    sighting = seen(pipeline, replace(logged, log=[opening, carried, *others]), asked)
    assert sighting is not None
    found = clocked(pipeline, sighting, day(30))
    assert [visit.moved_at for visit in found] == [day(0), day(0), day(3)]
    assert [visit.rearranged for visit in found] == [True, True, False]
    assert [visit.under_way for visit in found] == [False] * 3


def test_precision_recall_and_lead_are_told_of_the_deals_that_were_flagged_and_closed() -> None:
    pipeline = sales_pipeline(lead=IdleRule(after=Period(days=4)))
    pasts = [
        *(deal(pipeline, ("lead", 0), ("lost", 10)) for _ in range(8)),
        *(deal(pipeline, ("lead", 0), ("lost", 3)) for _ in range(2)),
        *(deal(pipeline, ("lead", 0), ("won", 6)) for _ in range(2)),
        *(deal(pipeline, ("lead", 0), ("won", 2)) for _ in range(3)),
        *(deal(pipeline, ("lead", 0)) for _ in range(5)),
        deal(pipeline, ("lead", -20), ("lost", 10)),  # came before the period
    ]
    asked = Selection(as_of=day(30), start=day(0), end=day(14), attribution=Attribution.AT_MOVE)
    sightings = [found for past in pasts if (found := seen(pipeline, past.history, asked))]
    told = measure(pipeline, rules_of(pipeline), sightings, asked, day(30))
    whole = told[None]
    assert told == {None: whole, LEAD: whole}
    assert (whole.visits, whole.deals, whole.lost, whole.flags) == (20, 20, 10, 15)
    assert whole.flagged == {Status.OPEN: 5, Status.WON: 2, Status.LOST: 8}
    assert (whole.precision.count, whole.precision.of) == (8, 10)
    assert (whole.recall.count, whole.recall.of) == (8, 10)
    assert whole.lead == 6 * 86_400e6
    assert weeks(asked, day(30)) == 2
    assert weeks(asked, day(7)) == 1


def test_there_is_no_median_lead_of_fewer_than_six_losses() -> None:
    pipeline = sales_pipeline(lead=IdleRule(after=Period(days=4)))
    asked = Selection(as_of=day(30), start=day(0), attribution=Attribution.AT_MOVE)
    for losses, lead in ((5, None), (6, 6 * 86_400e6)):
        pasts = [deal(pipeline, ("lead", 0), ("lost", 10)) for _ in range(losses)]
        sightings = [found for past in pasts if (found := seen(pipeline, past.history, asked))]
        told = measure(pipeline, rules_of(pipeline), sightings, asked, day(30))
        assert told[None].lead == lead


def test_a_trial_is_the_revision_that_the_same_change_would_make() -> None:
    pipeline = revisions()[-1]
    trial = tried(pipeline, {"lead": ruled(after=Period(days=2), inherits=True)}, day(0))
    assert trial.stage("lead").idle.after == Period(days=2)
    assert trial.stage("lead").idle.qualifying == pipeline.qualifying
    assert trial.stage("quote") == pipeline.stage("quote")
    assert tried(pipeline, {}, day(0)) is pipeline


def test_only_open_stages_in_use_can_be_tried_and_only_what_a_definition_may_say() -> None:
    pipeline, nothing = revisions()[-1], ruled(after=Period())
    with pytest.raises(Invalid) as refused:
        tried(pipeline, dict.fromkeys(("won", "nowhere", "talks", "lead"), nothing), day(0))
    assert [(breach.pointer, breach.code) for breach in refused.value.errors] == [
        ("/stages/won", "open_stages_only"),
        ("/stages/nowhere", "unknown_stage"),
        ("/stages/talks", "unknown_stage"),
    ]
    with pytest.raises(InvalidDefinition) as refused_rule:
        tried(pipeline, {"quote": nothing}, day(0))
    assert [(breach.pointer, breach.code) for breach in refused_rule.value.errors] == [
        ("/stages/quote/idle_after", "out_of_range")
    ]


def ruled(**rule: Any) -> Callable[[Stage], Stage]:
    """What gives a stage such an idle rule."""
    return lambda stage: replace(stage, idle=IdleRule(**rule))
