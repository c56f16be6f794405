"""Previews and suggestions of idle thresholds: the columns tell what the domain defines.

On random pasts, at any T, under any rules: both clocks, thresholds by priority, working time.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.business_calendar import BusinessCalendar
from app.domain.measures import idle_preview, idle_suggestions
from app.domain.measures.idle_preview import Replayed
from app.domain.measures.idle_replay import Rules, clocked, rules_of
from app.domain.measures.selection import Attribution
from app.domain.period import Period
from app.domain.pipeline import IdleClock, IdleRule
from app.domain.working_hours import Span
from app.storage.engine import Database
from app.storage.queries.idle_preview import previews
from app.storage.queries.idle_suggestions import suggestions
from tests.folded import NEVER
from tests.metric_cases import Case, cases, examples, keep
from tests.past_deals import LAST, at

pytestmark = pytest.mark.asyncio

SHIFTS = BusinessCalendar(timezone="Europe/Berlin", hours=((Span(600, 780), Span(840, 1200)),) * 7)
PERIODS = st.sampled_from(("PT1H", "PT3H", "PT6H", "PT9H", "P1D", "P1DT1H")).map(Period.parse)


@st.composite
def idle_rules(draw: st.DrawFn) -> IdleRule:
    by_priority = st.dictionaries(st.sampled_from(("high", "low")), st.none() | PERIODS)
    return IdleRule(
        clock=draw(st.sampled_from(IdleClock)),
        after=draw(st.one_of(PERIODS, PERIODS, PERIODS, st.none())),
        after_by_priority=MappingProxyType(draw(by_priority)),
        calendar=draw(st.sampled_from((None, SHIFTS))),
        qualifying=draw(st.sampled_from((("call",), ("call", "note")))),
    )


@st.composite
def planned(draw: st.DrawFn, copies: Sequence[int] = (1,)) -> Case:
    """A case about a period, unfiltered, in which each deal may be there several times."""
    case = draw(cases())
    # Mostly all of the past lies in the period, and T after it: else there is little to replay.
    start, end = draw(st.sampled_from((-1, -1, -1, 2, 6))), draw(st.sampled_from((None, None, 7)))
    selection = replace(
        case.selection,
        as_of=draw(st.sampled_from((at(LAST + 4), at(LAST + 9), case.selection.as_of))),
        start=at(start),
        end=None if end is None else at(end),
        known_at=None,
        filters={},
        group_by=None,
        attribution=Attribution.AT_MOVE,
    )
    deals = [
        replace(deal, opportunity_id=uuid4())
        for deal in case.past.deals
        for _ in range(draw(st.sampled_from(copies)))
    ]
    past = replace(case.past, deals=deals)
    return replace(case, past=past, fates=[NEVER] * len(deals), revision=2, selection=selection)


@examples
@given(case=planned(), data=st.data())
async def test_a_preview_tells_what_the_definition_does(
    database: Database, workspace: UUID, case: Case, data: st.DataObject
) -> None:
    pipeline = case.past.latest
    present = rules_of(pipeline)
    await keep(database, workspace, case)
    for _ in range(6):
        rules: dict[Replayed, Rules] = {
            Replayed.PRESENT: present,
            Replayed.PREVIEW: {slot: data.draw(idle_rules()) for slot in present},
        }
        async with database.read(workspace) as connection:
            found = await previews(connection, case.asked(workspace), rules)
        for which, each in rules.items():
            told = idle_preview.measure(pipeline, each, case.deals, case.selection, case.now)
            assert found[which] == told, which


@examples
@given(case=planned(), rule=idle_rules())
async def test_flags_never_outnumber_what_could_be_flagged(case: Case, rule: IdleRule) -> None:
    pipeline = case.past.latest
    rules = dict.fromkeys(rules_of(pipeline), rule)
    told = idle_preview.measure(pipeline, rules, case.deals, case.selection, case.now)
    whole = told.pop(None)
    assert whole.visits == sum(each.visits for each in told.values())
    assert whole.flags == sum(each.flags for each in told.values())
    until = min(case.selection.as_of, case.now)
    deeds = sum(len(deal.activities) for deal in case.deals)
    visits = sum(len(clocked(pipeline, deal, until)) for deal in case.deals)
    assert whole.flags <= visits + deeds
    for each in (whole, *told.values()):
        flagged = sum(each.flagged.values())
        assert flagged <= min(each.flags, each.deals) <= each.visits + deeds
        assert each.precision.count == each.recall.count <= each.lost <= each.deals
        assert each.precision.of <= flagged
        assert rule.clock is IdleClock.INACTIVITY or each.flags <= each.visits


@examples
@given(case=planned(copies=(1, 8, 12)))
async def test_suggestions_are_those_that_the_definition_makes(
    database: Database, workspace: UUID, case: Case
) -> None:
    await keep(database, workspace, case)
    async with database.read(workspace) as connection:
        found = await suggestions(connection, case.asked(workspace))
    assert found == idle_suggestions.measure(case.past.latest, case.deals, case.selection, case.now)
