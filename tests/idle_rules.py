"""The idle clock's definition written out plainly, and rules and holds drawn to hold against it.

It shares no code with `app.domain.idleness` but the calendar, which is held against a walk through
its days elsewhere.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from app.domain import opportunity
from app.domain.idleness import NO_HOLDS, Holds, NextStep
from app.domain.journey import Facts, Transition, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule, Pipeline
from tests.factories import OFFICE, sales_pipeline

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
"""Four weeks before the clocks change; holidays follow in May."""
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
        critical_after=draw(st.none() | periods),
        max_pause=draw(st.none() | periods),
        calendar=draw(st.sampled_from([None, OFFICE])),
        since=draw(st.none() | instants),
    )


@st.composite
def holds(draw: st.DrawFn) -> Holds:
    step = NextStep(at=draw(instants), planned_at=draw(instants))
    return Holds(
        rule_since=draw(st.none() | instants),
        snoozed_until=draw(st.none() | instants),
        next_step=draw(st.sampled_from([None, step])),
    )


def passed(rule: IdleRule, since: datetime, length: Period) -> datetime:
    """When so much time has passed: working time where the rule has a calendar."""
    if rule.calendar is not None:
        at = rule.calendar.crossing(since, length)  # held against the days it walks through
        assert at is not None
        return at
    days = length.weeks * 7 + length.days
    return since + timedelta(seconds=days * 86_400 + length.seconds)


def threshold_of(rule: IdleRule, priority: str | None) -> Period | None:
    return rule.after_by_priority.get(priority or "", rule.after)


def plainly(
    rule: IdleRule, priority: str | None, start: datetime, held: Holds = NO_HOLDS
) -> tuple[datetime | None, datetime | None]:
    """When a deal whose clock started then goes idle, and when its flag is critical."""
    threshold = threshold_of(rule, priority)
    if threshold is None:
        return None, None
    crosses = passed(rule, start, threshold)
    ends = [crosses, rule.since, held.rule_since, held.snoozed_until]
    step = held.next_step
    if step is not None and rule.max_pause is not None and step.planned_at >= start:
        ends.append(min(step.at, passed(rule, crosses, rule.max_pause)))
    goes_idle = max(end for end in ends if end is not None)
    twice = Period(threshold.weeks * 2, threshold.days * 2, threshold.seconds * 2)
    critical = twice if rule.critical_after is None else rule.critical_after
    return goes_idle, max(passed(rule, start, critical), goes_idle)


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
