"""What stands behind each count, by the definition: the number and the list agree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.funnel import Reentry, Skip
from app.domain.measures import cell_names
from app.domain.measures.cell_names import CellNames
from app.domain.measures.cells import (
    ClosedCell,
    CohortCell,
    Counted,
    Look,
    VisitCell,
    held,
)
from app.domain.measures.closings import DealPopulation
from app.domain.measures.ranking import Ranking
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from tests.metric_cases import Case
from tests.opened import opened, ungrouped
from tests.past_deals import revisions


@settings(max_examples=150)
@given(case=ungrouped(), data=st.data())
def test_every_count_of_every_answer_is_the_length_of_its_list(
    case: Case, data: st.DataObject
) -> None:
    for metric in data.draw(opened(case)):
        case = metric.case  # the snapshot's has no period
        for name, count in metric.counts.items():
            cell = metric.names.cell(name)
            found = held(cell, case.ranking, case.deals, case.selection, case.now)
            assert len(found) == count, name
            assert len({(x.number, x.stay) for x in found if x.stay is None}) in (0, count)


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    """lead, quote, review on the path; parked and nurture beside it; two won stages; one lost."""
    latest = revisions()[-1]
    return Ranking(latest, latest)


def funnel_cells(ranking: Ranking) -> CellNames:
    return cell_names.funnel_cells(ranking, Skip.IMPLIED, Reentry.FIRST)


def test_a_rank_is_named_by_its_stage_or_its_number(ranking: Ranking) -> None:
    names = funnel_cells(ranking)
    assert names.cell("reached.quote") == names.cell("reached.rank:2")
    assert names.cell("reached.quote") == CohortCell((Look(at_least=2),))
    assert names.cell("reached.rank:4") == CohortCell((Look(at_least=4),))


def test_one_of_several_won_stages_does_not_name_the_rank_that_they_share(
    ranking: Ranking,
) -> None:
    with pytest.raises(ValueError, match=r"<rank>: lead, quote, review, .*rank:4"):
        funnel_cells(ranking).cell("reached.won")
    first = Ranking(revisions()[0], revisions()[0])
    assert funnel_cells(first).cell("reached.won") == funnel_cells(first).cell("reached.rank:4")


def test_a_share_opens_its_count_and_what_it_is_a_share_of(ranking: Ranking) -> None:
    names = funnel_cells(ranking)
    assert names.cell("conversion_to_next.quote") == names.cell("reached.review")
    assert names.cell("conversion_to_next.quote.of") == names.cell("reached.quote")
    rate = cell_names.win_rate_cells(ranking)
    assert rate.cell("rate") == rate.cell("won")
    both = cell_names.cycle_time_cells(ranking, DealPopulation.CLOSED).cell("all")
    assert rate.cell("rate.of") == both


def test_what_has_no_key_is_told_from_every_key(ranking: Ranking) -> None:
    lost = cell_names.loss_reason_cells(ranking)
    unknown = lost.cell("deals.:none.:none")
    assert isinstance(unknown, ClosedCell)
    assert (unknown.from_slots, unknown.reasons) == (frozenset({None}), frozenset({None}))
    named = lost.cell("reasons.none")
    assert isinstance(named, ClosedCell)
    assert named.reasons == frozenset({"none"})
    gone = cell_names.matrix_cells(ranking).cell("count.lead.:handed_off")
    assert isinstance(gone, VisitCell)
    assert (gone.to_slot, gone.ended_by) == (None, frozenset({"handed_off"}))


@pytest.mark.parametrize(
    "name",
    [
        *("", "reached", "reached.", "reached.nowhere", "reached.rank:0", "reached.rank:5"),
        *("reached.lead.quote", "Reached.lead", "reached.parked", "conversion_to_next.rank:4"),
        *("deals.lead", "reached.rank:01", "ever_won.rank:4", "reached.rank: 1"),
    ],
)
def test_a_name_that_is_none_is_refused_and_told_what_there_is(ranking: Ranking, name: str) -> None:
    with pytest.raises(ValueError, match=r"one of deals, reached\.<rank>, entered\.<rank>"):
        funnel_cells(ranking).cell(name)


def test_time_in_stage_opens_the_visits_of_its_population(ranking: Ranking) -> None:
    lead = ranking.latest.stage("lead").slot
    names = cell_names.time_in_stage_cells(ranking, VisitPopulation.LEFT, VisitReentry.SUM)
    assert names.cell("completed.lead") == VisitCell(
        slots=frozenset({lead}), counted=Counted.LEFT, ended=True, summed=True
    )
    with pytest.raises(ValueError, match="one of completed"):
        names.cell("completed.won")
