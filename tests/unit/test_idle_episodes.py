"""What becomes of a deal's clock and of its flag: activities, moves, snoozes, changed rules."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import idle_flag, opportunity
from app.domain.business_calendar import BusinessCalendar
from app.domain.errors import FlagResolved, TimeOutOfRange
from app.domain.idle_flag import LONGEST_SNOOZE, FlagState, IdleFlag
from app.domain.idleness import Holds, NextStep, Resolution
from app.domain.journey import Facts, Status, Transition, TransitionKind
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from tests.factories import OFFICE, sales_pipeline
from tests.idle_rules import BEGIN, ID, a_deal, clocks, instants, periods, plainly, rules


@given(clocks, periods, instants, instants, st.sampled_from(["call", "note"]))
def test_an_activity_counts_only_on_an_inactivity_clock_of_its_kind_and_when_it_is_later(
    clock: IdleClock, after: Period, entered_at: datetime, done_at: datetime, kind: str
) -> None:
    rule = IdleRule(clock=clock, after=after, qualifying=("call",))
    deal, pipeline = a_deal(rule, entered_at)
    later = max(entered_at, done_at) + timedelta(hours=1)
    after_it, resolution = opportunity.followed_up(deal, pipeline, kind, done_at, later)
    resets = clock is IdleClock.INACTIVITY and kind == "call" and done_at > entered_at
    assert after_it.idle.clock_started_at == (done_at if resets else entered_at)
    assert after_it.idle.goes_idle_at == after_it.idle.clock_started_at + after.length
    assert resolution is None
    assert (after_it is deal) == (kind != "call")


def test_an_activity_ends_the_flag_and_the_snooze_even_when_the_deal_is_idle_again_at_once() -> (
    None
):
    rule = IdleRule(clock=IdleClock.INACTIVITY, after=Period(days=7), qualifying=("call",))
    deal, pipeline = a_deal(rule, BEGIN)
    now = BEGIN + timedelta(days=30)
    flagged = opportunity.flagged(deal, ID, now)
    snoozed = opportunity.snoozed(flagged, pipeline, now + timedelta(days=9), now)
    assert (snoozed.flag_id, snoozed.flagged_at) == (ID, None)
    assert snoozed.idle.goes_idle_at == now + timedelta(days=9)
    after, resolution = opportunity.followed_up(
        snoozed, pipeline, "call", BEGIN + timedelta(days=2), now
    )
    assert resolution is Resolution.ACTIVITY
    assert (after.flag_id, after.flagged_at) == (None, None)
    assert after.idle.goes_idle_at == BEGIN + timedelta(days=9)


@pytest.mark.parametrize(
    ("early", "is_due"), [(timedelta(0), True), (timedelta(microseconds=1), False)]
)
def test_a_deal_is_idle_when_its_age_has_reached_the_threshold(
    early: timedelta, is_due: bool
) -> None:
    deal, pipeline = a_deal(IdleRule(after=Period(days=7)), BEGIN)
    now = BEGIN + timedelta(days=7) - early
    _, resolution = opportunity.settled(opportunity.flagged(deal, ID, now), pipeline, now)
    assert (resolution is None) == is_due


def test_a_snooze_resolves_no_flag_but_a_priority_without_threshold_does() -> None:
    rule = IdleRule(after=Period(days=7), after_by_priority={"low": None})
    deal, pipeline = a_deal(rule, BEGIN)
    now = BEGIN + timedelta(days=8)
    snoozed = opportunity.snoozed(
        opportunity.flagged(deal, ID, now), pipeline, now + timedelta(days=1), now
    )
    _, renamed = opportunity.amended(snoozed, pipeline, now, name="Another name")
    assert renamed is None
    resting, resolution = opportunity.amended(snoozed, pipeline, now, facts=Facts(priority="low"))
    assert resolution is Resolution.NOT_DUE
    assert (resting.flag_id, resting.idle.goes_idle_at) == (None, None)


def test_moving_ends_the_flag_by_its_cause() -> None:
    deal, pipeline = a_deal(IdleRule(after=Period(days=7)), BEGIN)
    now = BEGIN + timedelta(days=8)
    flagged = opportunity.flagged(deal, ID, now)
    for slot, cause in ((2, Resolution.MOVED), (5, Resolution.CLOSED)):
        moving = Transition(
            seq=2,
            kind=TransitionKind.ADVANCED,
            from_slot=1,
            entered_at=BEGIN,
            to_slot=slot,
            occurred_at=now,
        )
        after, resolution = opportunity.moved(flagged, pipeline, moving, now)
        assert resolution is cause
        assert (after.flag_id, after.flagged_at) == (None, None)


def a_flag(**more: object) -> IdleFlag:
    return IdleFlag(
        flag_id=ID,
        opportunity_id=ID,
        pipeline_id=ID,
        slot=1,
        clock=IdleClock.STAGE_AGE,
        clock_started_at=BEGIN,
        idle_since=BEGIN + timedelta(days=7),
        opened_at=BEGIN + timedelta(days=7),
        **more,
    )


def test_the_first_acknowledgement_stays() -> None:
    seen = idle_flag.acknowledged(a_flag(), "mia", BEGIN)
    assert seen.state is FlagState.ACKNOWLEDGED
    assert idle_flag.acknowledged(seen, "tom", BEGIN + timedelta(days=1)).acknowledged_by == "mia"


@given(st.timedeltas(-timedelta(days=800), timedelta(days=800)))
def test_a_snooze_ends_in_the_future_and_within_a_year(ahead: timedelta) -> None:
    now = BEGIN
    if timedelta(0) < ahead <= LONGEST_SNOOZE:
        aside = idle_flag.snoozed(a_flag(), "mia", now + ahead, "on holiday", now)
        assert aside.state is FlagState.SNOOZED
        assert aside.snoozed_until == now + ahead
    else:
        with pytest.raises(TimeOutOfRange) as refused:
            idle_flag.snoozed(a_flag(), "mia", now + ahead, "on holiday", now)
        assert refused.value.errors[0].pointer == "/until"


def test_a_resolved_flag_can_be_attended_to_no_more() -> None:
    resolved = a_flag(resolved_at=BEGIN, resolved_by=Resolution.MOVED)
    with pytest.raises(FlagResolved):
        idle_flag.acknowledged(resolved, "mia", BEGIN)
    with pytest.raises(FlagResolved):
        idle_flag.snoozed(resolved, "mia", BEGIN + timedelta(days=1), "why", BEGIN)


def test_a_flag_that_comes_back_is_the_same_and_asks_for_attention_anew() -> None:
    deal, pipeline = a_deal(IdleRule(after=Period(days=7)), BEGIN)
    back = BEGIN + timedelta(days=12)
    snoozed = opportunity.snoozed(deal, pipeline, back, BEGIN + timedelta(days=8))
    known = a_flag(
        acknowledged_at=BEGIN, acknowledged_by="mia", snoozed_at=BEGIN, snoozed_until=back
    )
    again = idle_flag.raised(snoozed, pipeline, known, UUID(int=1), back)
    assert again == replace(a_flag(), pipeline_id=pipeline.pipeline_id)


def test_a_resolved_episode_that_resumes_is_idle_since_it_is_due_again() -> None:
    deal, pipeline = a_deal(IdleRule(after=Period(days=7), since=BEGIN + timedelta(days=20)), BEGIN)
    known = a_flag(resolved_at=BEGIN, resolved_by=Resolution.NOT_DUE)
    again = idle_flag.raised(deal, pipeline, known, UUID(int=1), BEGIN + timedelta(days=21))
    assert again.state is FlagState.OPEN
    assert again.flag_id == known.flag_id
    assert again.idle_since == BEGIN + timedelta(days=20)


def test_an_activity_on_a_closed_deal_touches_no_clock() -> None:
    rule = IdleRule(clock=IdleClock.INACTIVITY, after=Period(days=7), qualifying=("call",))
    deal, pipeline = a_deal(rule, BEGIN)
    won = Transition(
        seq=2, kind=TransitionKind.WON, from_slot=1, entered_at=BEGIN, to_slot=5, occurred_at=BEGIN
    )
    closed, _ = opportunity.moved(deal, pipeline, won, BEGIN)
    assert closed.position.status is Status.WON
    later = BEGIN + timedelta(days=1)
    assert opportunity.followed_up(closed, pipeline, "call", later, later) == (closed, None)


# ── next steps, resets, and definitions that change ───────────────────────────────────────────


done = st.tuples(
    st.sampled_from(["call", "note"]), st.integers(1, 60), st.none() | st.integers(1, 90)
)
"""An activity: its kind, on which day it was done, and how many days ahead a step was agreed."""


def step_of(day: int, ahead: int | None) -> NextStep | None:
    at = BEGIN + timedelta(days=day)
    return None if ahead is None else NextStep(at=at + timedelta(days=ahead), planned_at=at)


@given(clocks, st.sampled_from([None, OFFICE]), st.none() | periods, st.lists(done))
def test_what_is_planned_is_what_the_last_follow_up_or_agreement_left(
    clock: IdleClock,
    calendar: BusinessCalendar | None,
    max_pause: Period | None,
    activities: list[tuple[str, int, int | None]],
) -> None:
    rule = IdleRule(
        clock=clock,
        after=Period(days=7),
        max_pause=max_pause,
        calendar=calendar,
        qualifying=("call",),
    )
    deal, pipeline = a_deal(rule, BEGIN)
    activities.sort(key=lambda each: each[1])
    for kind, day, ahead in activities:
        at = BEGIN + timedelta(days=day)
        known = deal
        deal, _ = opportunity.followed_up(deal, pipeline, kind, at, at, step_of(day, ahead))
        if kind == "note" and ahead is None:
            assert deal is known  # it counts for nothing
    telling = [each for each in activities if each[0] == "call" or each[2] is not None]
    planned = step_of(*telling[-1][1:]) if telling else None
    calls = [BEGIN + timedelta(days=day) for kind, day, _ in activities if kind == "call"]
    assert deal.holds.next_step == planned
    assert deal.last_activity_at == (calls[-1] if calls else None)
    counted = calls and clock is IdleClock.INACTIVITY
    start = calls[-1] if counted else BEGIN
    assert (deal.idle.goes_idle_at, deal.idle.critical_at) == plainly(
        rule, None, start, Holds(next_step=planned)
    )


def test_an_activity_that_is_told_late_replaces_no_later_plan() -> None:
    rule = IdleRule(after=Period(days=7), max_pause=Period(days=30), qualifying=("call",))
    deal, pipeline = a_deal(rule, BEGIN)
    now = BEGIN + timedelta(days=9)
    planned, _ = opportunity.followed_up(
        deal, pipeline, "note", BEGIN + timedelta(days=5), now, step_of(5, 10)
    )
    assert planned.idle.goes_idle_at == BEGIN + timedelta(days=15)
    for kind, ahead in (("note", 20), ("call", 20), ("call", None)):
        late, _ = opportunity.followed_up(
            planned, pipeline, kind, BEGIN + timedelta(days=3), now, step_of(3, ahead)
        )
        assert late.holds.next_step == step_of(5, 10)


@given(rules(), rules(), instants, st.integers(1, 30), st.integers(1, 30), instants)
def test_a_move_ends_every_hold_of_the_stage_that_it_leaves(
    rule: IdleRule, next_rule: IdleRule, opened: datetime, day: int, ahead: int, snooze: datetime
) -> None:
    deal, _ = a_deal(rule, opened)
    pipeline = sales_pipeline(lead=rule, offer=next_rule)
    planned_at, moved_at = opened + timedelta(days=day), opened + timedelta(days=day, seconds=1)
    step = NextStep(at=planned_at + timedelta(days=ahead), planned_at=planned_at)
    deal, _ = opportunity.followed_up(deal, pipeline, "note", planned_at, planned_at, step)
    deal = opportunity.snoozed(
        opportunity.flagged(deal, ID, planned_at), pipeline, snooze, planned_at
    )
    moving = Transition(
        seq=2,
        kind=TransitionKind.ADVANCED,
        from_slot=1,
        entered_at=opened,
        to_slot=2,
        occurred_at=moved_at,
    )
    after, resolution = opportunity.moved(deal, pipeline, moving, moved_at)
    assert resolution is Resolution.MOVED
    assert (after.flag_id, after.holds.snoozed_until) == (None, None)
    assert after.idle.clock_started_at == moved_at
    assert (after.idle.goes_idle_at, after.idle.critical_at) == plainly(next_rule, None, moved_at)


@given(rules(), rules(), instants, st.none() | instants, st.integers(0, 60))
def test_another_rule_keeps_the_clock_going_and_the_flag_while_it_is_due(
    rule: IdleRule, other: IdleRule, opened: datetime, activity: datetime | None, days: int
) -> None:
    deal, _ = a_deal(rule, opened)
    flagged = opportunity.flagged(deal, ID, opened)
    changed, now = sales_pipeline(lead=other), opened + timedelta(days=days)
    after, resolution = opportunity.reruled(flagged, changed, activity, now)
    counts = other.clock is IdleClock.INACTIVITY and activity is not None and activity > opened
    start = activity if counts and activity is not None else opened
    assert after.idle.clock_started_at == start
    due, critical = plainly(other, None, start)
    assert (after.idle.goes_idle_at, after.idle.critical_at) == (due, critical)
    stands = start == opened and due is not None and due <= now
    assert resolution is (None if stands else Resolution.NOT_DUE)
    assert (after.flag_id, after.flagged_at) == ((ID, opened) if stands else (None, None))


@given(rules(), rules() | st.none(), instants, st.integers(0, 60))
def test_a_rearranged_deal_keeps_its_clock_and_another_rule_begins_at_once(
    rule: IdleRule, other: IdleRule | None, opened: datetime, days: int
) -> None:
    deal, old = a_deal(rule, opened)
    other = replace(rule, critical_after=None) if other is None else other
    new, now = sales_pipeline(lead=rule, offer=other), opened + timedelta(days=days)
    moving = Transition(
        seq=2,
        kind=TransitionKind.REARRANGED,
        from_slot=1,
        entered_at=opened,
        to_slot=2,
        occurred_at=now,
    )
    flagged = opportunity.flagged(deal, ID, opened)
    after, resolution = opportunity.rearranged(flagged, old, new, moving, None, now)
    terms = [(each.clock, each.after, each.max_pause, each.calendar) for each in (rule, other)]
    held = Holds(rule_since=None if terms[0] == terms[1] else now)
    assert after.holds == held
    assert after.idle.clock_started_at == opened
    assert after.position.stage_entered_at == now
    due, critical = plainly(other, None, opened, held)
    assert (after.idle.goes_idle_at, after.idle.critical_at) == (due, critical)
    stands = due is not None and due <= now
    assert resolution is (None if stands else Resolution.NOT_DUE)
    assert after.flag_id == (ID if stands else None)


def test_a_step_agreed_before_the_last_follow_up_is_settled_and_not_planned_anew() -> None:
    rule = IdleRule(after=Period(days=7), max_pause=Period(days=30), qualifying=("call",))
    deal, pipeline = a_deal(rule, BEGIN)
    now = BEGIN + timedelta(days=6)
    called, _ = opportunity.followed_up(deal, pipeline, "call", BEGIN + timedelta(days=5), now)
    stale = NextStep(at=BEGIN + timedelta(days=20), planned_at=BEGIN + timedelta(days=3))
    after, _ = opportunity.followed_up(called, pipeline, "note", stale.planned_at, now, stale)
    assert after is called
    assert after.idle.goes_idle_at == BEGIN + timedelta(days=7)
