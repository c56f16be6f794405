"""The idle clock as domain.md defines it, held against the definition written out plainly."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.business_calendar import BusinessCalendar
from app.domain.idleness import (
    NO_HOLDS,
    Holds,
    NextStep,
    Reset,
    crossing,
    goes_idle_at,
    held_by,
    idle_state,
    latest_start,
)
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, StageKind
from app.domain.working_hours import Span
from tests.factories import stage
from tests.idle_rules import (
    BEGIN,
    holds,
    instants,
    passed,
    periods,
    plainly,
    priorities,
    rules,
    threshold_of,
)

MOMENT = timedelta(microseconds=1)


@given(rules(), priorities, st.none() | periods, instants, st.none() | instants, holds())
def test_the_clocks_of_a_deal_say_what_their_definition_does(
    rule: IdleRule,
    priority: str | None,
    cadence: Period | None,
    moved_at: datetime,
    activity: datetime | None,
    held: Holds,
) -> None:
    state = idle_state(
        stage("lead", 1, idle=rule, follow_up_every=cadence),
        priority,
        moved_at=moved_at,
        last_activity_at=activity,
        holds=held,
    )
    seen_to_at = moved_at if activity is None else max(moved_at, activity)
    counts = rule.clock is IdleClock.INACTIVITY and seen_to_at > moved_at
    start = seen_to_at if counts else moved_at
    assert state.clock_started_at == start
    assert state.reset_by is (Reset.ACTIVITY if counts else Reset.MOVE)
    assert (state.goes_idle_at, state.critical_at) == plainly(rule, priority, start, held)
    due = None if cadence is None else passed(rule, seen_to_at, cadence)
    assert state.follow_up_due_at == due


@given(rules(), priorities, instants, holds())
def test_holds_delay_the_flag_and_never_bring_it_forward(
    rule: IdleRule, priority: str | None, start: datetime, held: Holds
) -> None:
    lead = stage("lead", 1, idle=rule)
    free = goes_idle_at(lead, priority, start, NO_HOLDS)
    later = goes_idle_at(lead, priority, start, held)
    if free is None or later is None:
        assert free is later is None
        assert held_by(lead, priority, start, held) is None
        return
    assert free <= later
    crosses = crossing(rule, priority, start)
    assert (held_by(lead, priority, start, held) is None) == (later == crosses)


@given(rules(), priorities, instants, st.lists(instants, min_size=1))
def test_a_deal_has_crossed_exactly_if_its_clock_started_no_later_than_the_latest_start(
    rule: IdleRule, priority: str | None, at: datetime, starts: list[datetime]
) -> None:
    latest = latest_start(rule, priority, at)
    threshold = threshold_of(rule, priority)
    if threshold is None:
        assert latest is None
        return
    assert latest is not None
    for start in (*starts, latest, latest + MOMENT):
        crosses = crossing(rule, priority, start)
        assert crosses == passed(rule, start, threshold)
        assert (crosses <= at) == (start <= latest)


def test_what_calendars_do_not_reach_is_never_idle_or_never_critical() -> None:
    century = Period(days=36_525)
    weekly = BusinessCalendar(timezone="UTC", hours=((Span(0, 1),), (), (), (), (), (), ()))
    never = IdleRule(after=century, max_pause=century, calendar=weekly)
    for rule, idle in ((never, False), (replace(never, after=Period(days=1)), True)):
        late = replace(rule, critical_after=century)
        state = idle_state(stage("lead", 1, idle=late), None, moved_at=BEGIN, last_activity_at=None)
        assert (state.goes_idle_at is not None) == idle
        assert state.critical_at is None
    # A pause without an end lasts until the step that it waits for.
    step = NextStep(at=BEGIN + timedelta(days=400), planned_at=BEGIN)
    patient = stage("lead", 1, idle=replace(never, after=Period(days=1)))
    assert goes_idle_at(patient, None, BEGIN, Holds(next_step=step)) == step.at


@given(rules(), st.sampled_from([StageKind.WON, StageKind.LOST]), priorities, instants)
def test_a_deal_in_a_closed_stage_never_goes_idle(
    rule: IdleRule, kind: StageKind, priority: str | None, moved_at: datetime
) -> None:
    closed = stage("end", 1, kind, idle=rule)
    state = idle_state(closed, priority, moved_at=moved_at, last_activity_at=None)
    assert state.goes_idle_at is None
