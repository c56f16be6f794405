"""The idle clock as domain.md defines it, held against the definition written out plainly."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.domain import idle_flag, opportunity
from app.domain.errors import FlagResolved, TimeOutOfRange
from app.domain.idle_flag import LONGEST_SNOOZE, FlagState, IdleFlag
from app.domain.idleness import Holds, Reset, Resolution, goes_idle_at, idle_state
from app.domain.journey import Facts, Status, Transition, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline, StageKind
from tests.factories import sales_pipeline, stage

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID("01980000-0000-7000-8000-000000000000")

instants = st.integers(0, 60 * 24 * 60).map(lambda minutes: BEGIN + timedelta(minutes=minutes))
periods = st.one_of(
    st.integers(0, 20).map(lambda days: Period(days=days)),
    st.integers(0, 3).map(lambda weeks: Period(weeks=weeks)),
    st.integers(0, 500_000).map(lambda seconds: Period(seconds=seconds)),
)
priorities = st.sampled_from(["low", "high", None])
clocks = st.sampled_from(IdleClock)


@st.composite
def rules(draw: st.DrawFn) -> IdleRule:
    return IdleRule(
        clock=draw(clocks),
        after=draw(st.none() | periods),
        after_by_priority=draw(
            st.dictionaries(st.sampled_from(["low", "high"]), st.none() | periods)
        ),
        since=draw(st.none() | instants),
    )


def a_deal(rule: IdleRule, entered_at: datetime) -> tuple[Opportunity, Pipeline]:
    """A deal opened in a stage with this rule, and its pipeline."""
    pipeline = sales_pipeline(lead=rule)
    opening = Transition(
        seq=1,
        kind=TransitionKind.OPENED,
        from_slot=None,
        entered_at=None,
        to_slot=1,
        occurred_at=entered_at,
    )
    deal = opportunity.opened(
        pipeline, opening, entered_at, opportunity_id=ID, name="A deal", facts=Facts()
    )
    return deal, pipeline


@given(rules(), priorities, instants, st.none() | instants)
def test_without_holds_a_deal_goes_idle_at_the_start_of_its_clock_plus_its_threshold(
    rule: IdleRule, priority: str | None, moved_at: datetime, activity: datetime | None
) -> None:
    assume(rule.since is None)
    state = idle_state(
        stage("lead", 1, idle=rule), priority, moved_at=moved_at, last_activity_at=activity
    )
    counts = rule.clock is IdleClock.INACTIVITY and activity is not None and activity > moved_at
    start = activity if counts else moved_at
    threshold = rule.after_by_priority.get(priority or "", rule.after)
    assert state.clock_started_at == start
    assert state.reset_by is (Reset.ACTIVITY if counts else Reset.MOVE)
    if threshold is None:
        assert state.goes_idle_at is None
    else:
        seconds = (threshold.weeks * 7 + threshold.days) * 86_400 + threshold.seconds
        assert start is not None
        assert state.goes_idle_at == start + timedelta(seconds=seconds)


@given(rules(), priorities, instants, st.none() | instants, st.none() | instants)
def test_holds_delay_the_flag_and_never_bring_it_forward(
    rule: IdleRule,
    priority: str | None,
    start: datetime,
    rule_since: datetime | None,
    snoozed_until: datetime | None,
) -> None:
    held = goes_idle_at(
        stage("lead", 1, idle=rule), priority, start, Holds(rule_since, snoozed_until)
    )
    threshold = rule.threshold(priority)
    if threshold is None:
        assert held is None
        return
    candidates = [start + threshold.length, rule.since, rule_since, snoozed_until]
    known = [instant for instant in candidates if instant is not None]
    assert held in known
    assert all(instant <= held for instant in known)


@given(rules(), st.sampled_from([StageKind.WON, StageKind.LOST]), priorities, instants)
def test_a_deal_in_a_closed_stage_never_goes_idle(
    rule: IdleRule, kind: StageKind, priority: str | None, moved_at: datetime
) -> None:
    closed = stage("end", 1, kind, idle=rule)
    state = idle_state(closed, priority, moved_at=moved_at, last_activity_at=None)
    assert state.goes_idle_at is None


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
