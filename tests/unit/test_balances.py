"""What must add up in every answer, on random pasts: by the definitions alone, without a database.

That the database counts the same sets is proved elsewhere; here, that these are the right ones.
"""

from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import funnel
from app.domain.durations import microseconds
from app.domain.journey import Status
from app.domain.measures import closings, cumulative_flow, flow
from app.domain.measures.calendar import By
from app.domain.measures.closings import DealPopulation, Outcome, WinRate
from app.domain.measures.flow import StageFlow
from app.domain.measures.selection import Attribution, Selection
from app.domain.measures.sums import total
from tests.metric_cases import Case, cases
from tests.past_deals import LAST, at

examples = settings(max_examples=60)
instants = st.integers(-1, LAST + 2).map(at)


def cut(case: Case, middle: datetime) -> tuple[Selection, Selection]:
    """The case's period as two: what lies before the instant, and the rest."""
    asked = case.selection
    middle = max(middle, asked.start or middle)
    middle = min(middle, asked.end or middle)
    return replace(asked, end=middle), replace(asked, start=middle)


@examples
@given(case=cases())
def test_who_reached_a_stage_reached_the_next_or_stopped_there(case: Case) -> None:
    for deals in funnel.cohort(case.deals, case.selection).values():
        ranks = funnel.measure(case.ranking, funnel.tallies(deals))
        assert ranks[0].reached.deals == len(deals)
        for here, following in pairwise(ranks):
            stopped = here.open_furthest + here.lost_furthest + here.handed_off_furthest
            assert here.reached == following.reached + stopped
            assert here.reached == here.entered + here.implied
        won = ranks[-1]
        assert won.reached.deals == sum(deal.status is Status.WON for deal in deals)
        assert won.ever_won == won.reached + won.won_undone  # type: ignore[operator] # the won rank has both


@examples
@given(case=cases())
def test_who_came_and_did_not_leave_is_there(case: Case) -> None:
    for by_slot in flow.measure(case.deals, case.selection).values():
        for stage in by_slot.values():
            assert stage.open_at_end == stage.open_at_start + stage.entries - stage.left
            assert 0 <= stage.forward.count <= stage.forward.of == stage.left


@examples
@given(case=cases(), middle=instants)
def test_a_flow_is_the_flow_before_an_instant_and_the_one_after_it(
    case: Case, middle: datetime
) -> None:
    whole = flow.measure(case.deals, case.selection)
    first, then = (flow.measure(case.deals, period) for period in cut(case, middle))
    nothing = StageFlow()
    for group, by_slot in whole.items():
        for slot, stage in by_slot.items():
            before = first.get(group, {}).get(slot, nothing)
            after = then.get(group, {}).get(slot, nothing)
            assert before.open_at_start == stage.open_at_start
            assert before.open_at_end == after.open_at_start
            assert after.open_at_end == stage.open_at_end
            assert before.entries + after.entries == stage.entries
            assert Counter(before.exits) + Counter(after.exits) == Counter(stage.exits)


@examples
@given(case=cases())
def test_the_moves_of_the_matrix_are_the_exits_of_the_flow(case: Case) -> None:
    flows = flow.measure(case.deals, case.selection)
    moved = flow.moves(case.deals, case.selection)
    exits = {
        (group, slot): stage.left
        for group, by_slot in flows.items()
        for slot, stage in by_slot.items()
        if stage.left
    }
    cells: Counter[object] = Counter()
    for group, by_move in moved.items():
        for (origin, _), cell in by_move.items():
            cells[group, origin] += cell.count
    assert cells == exits


@examples
@given(case=cases(), start=instants, by=st.sampled_from(By))
def test_what_is_in_process_arrived_and_did_not_depart(case: Case, start: datetime, by: By) -> None:
    end = case.selection.end
    start = start if end is None else min(start, end)
    asked = replace(case.selection, start=start, attribution=Attribution.CURRENT)
    for found in cumulative_flow.measure(case.ranking, case.deals, asked, by).values():
        here = found.in_progress_at_start
        for bucket in found.buckets:
            here += bucket.arrivals - bucket.departures
            assert bucket.in_progress == here
        average, stays = found.average_in_progress, found.in_progress_at_start + found.arrivals
        assert average is None or 0 <= average <= stays


@examples
@given(case=cases(), start=instants)
def test_the_time_in_process_is_what_visits_of_open_stages_lasted_in_the_period(
    case: Case, start: datetime
) -> None:
    end = case.selection.as_of
    start = min(start, end)
    asked = Selection(as_of=end, known_at=case.selection.known_at, start=start)
    found = cumulative_flow.measure(case.ranking, case.deals, asked, By.QUARTER)
    lasted = sum(
        max(microseconds((visit.left_at or end) - max(visit.entered_at, start)), 0)
        for deal in case.deals
        for visit in deal.visits
        if case.past.latest.by_slot[visit.slot].is_open
    )
    assert sum(whole.time_in_process for whole in found.values()) == lasted


@examples
@given(case=cases(), middle=instants)
def test_what_was_closed_was_won_or_lost_once(case: Case, middle: datetime) -> None:
    deals, asked = case.deals, case.selection
    won_or_lost = closings.win_rates(deals, asked)
    lost = closings.losses(deals, asked)
    lasted = closings.cycle_times(deals, asked, DealPopulation.CLOSED)
    parts = [closings.win_rates(deals, period) for period in cut(case, middle)]
    for group, rate in won_or_lost.items():
        assert total(row.count for row in lost.get(group, [])) == rate.lost
        counts = [lasted[group][outcome].count for outcome in Outcome]
        assert counts == [rate.won.deals, rate.lost.deals, rate.by_count.of]
        both = [part.get(group, WinRate()) for part in parts]
        assert total(part.won for part in both) == rate.won
        assert total(part.lost for part in both) == rate.lost
