"""The funnel's definition, on pasts small enough to count by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from app.domain import funnel
from app.domain.definition import Definition, begin, revise
from app.domain.funnel import Rank, Tally
from app.domain.intervals import Proportion
from app.domain.journey import Status
from app.domain.measures.hindsight import Sighting, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Dimension, Selection, month_start, months
from app.domain.measures.sums import Count
from app.domain.pipeline import Flow, LossReason, Pipeline, StageKind
from tests.factories import stage
from tests.past_deals import PastDeal, past_deal

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return NEW_YEAR + timedelta(days=number)


def definition(*open_stages: str) -> Definition:
    return Definition(
        key="sales",
        name="Sales",
        flow=Flow.FREE,
        stages=(
            *(stage(key, 0) for key in open_stages),
            stage("parked", 0, off_path=True),
            stage("won", 0, StageKind.WON),
            stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Price"),)),
        ),
    )


PIPELINE = begin(definition("lead", "offer", "talks"), uuid4(), day(0))


LATER = day(99)


def told(*stays: str, amount: int | None = None, pipeline: Pipeline = PIPELINE) -> PastDeal:
    """A deal that entered these stages, a day each."""
    entered = [(key, day(number)) for number, key in enumerate(stays)]
    worth = None if amount is None else Decimal(amount)
    return past_deal(pipeline, entered, amount=worth, currency="EUR")


def at(deals: list[PastDeal], as_of: datetime, pipeline: Pipeline = PIPELINE) -> list[Sighting]:
    found = (seen(pipeline, deal.history, Selection(as_of=as_of)) for deal in deals)
    return [deal for deal in found if deal is not None]


def measured(*deals: PastDeal, as_of: datetime = LATER) -> tuple[Rank, ...]:
    return funnel.measure(Ranking(PIPELINE, PIPELINE), funnel.tallies(at([*deals], as_of)))


def test_a_stage_passed_over_is_reached_but_not_entered() -> None:
    lead, offer, talks, won = measured(told("lead", "talks", "won"))
    assert [rank.reached.deals for rank in (lead, offer, talks, won)] == [1, 1, 1, 1]
    assert [rank.entered.deals for rank in (lead, offer, talks, won)] == [1, 0, 1, 1]
    assert offer.implied.deals == 1


def test_a_move_back_never_lowers_how_far_a_deal_came() -> None:
    lead, offer, talks, _ = measured(told("lead", "talks", "lead"))
    assert (lead.open_furthest.deals, offer.open_furthest.deals) == (0, 0)
    assert talks.open_furthest.deals == 1


def test_a_lost_deal_counts_where_it_came_furthest() -> None:
    _, offer, _, _ = measured(told("lead", "offer", "lead", "lost"))
    assert offer.lost_furthest.deals == 1
    assert offer.decided == Proportion(0, 1)


def test_a_deal_reopened_after_its_win_is_not_won_but_was() -> None:
    *_, talks, won = measured(told("lead", "won", "offer"))
    assert won.reached.deals == 0
    assert (won.ever_won.deals, won.won_undone.deals) == (1, 1)  # type: ignore[union-attr] # the won rank has them
    assert talks.reached.deals == 0


def test_a_win_counts_once_for_each_deal_that_was_ever_won() -> None:
    deals = told("lead", "won"), told("lead", "offer", "won"), told("lead", "won", "lost")
    undone = told("lead", "offer", "won", "offer"), told("lead", "talks", "won", "lost")
    *below, won = measured(*deals, *undone, told("lead", "offer"))
    assert won.reached.deals == 2
    assert won.ever_won == Count(5)
    assert won.won_undone == Count(3)
    assert {(rank.ever_won, rank.won_undone) for rank in below} == {(None, None)}


def test_ranks_are_numbered_from_the_first_stage_to_the_win() -> None:
    assert [rank.rank for rank in measured(told("lead"))] == [1, 2, 3, 4]


def test_a_deal_handed_off_stopped_where_it_came_furthest_and_is_not_decided() -> None:
    lead, offer = PIPELINE.by_key["lead"].bit, PIPELINE.by_key["offer"].bit
    tallies = [
        Tally(Status.HANDED_OFF, lead, Count(2)),
        Tally(Status.HANDED_OFF, lead | offer, Count(4)),
        Tally(Status.HANDED_OFF, offer, Count(1)),
        Tally(Status.OPEN, lead, Count(8)),
        Tally(Status.LOST, lead, Count(16)),
    ]
    first, second, *_ = funnel.measure(Ranking(PIPELINE, PIPELINE), tallies)
    assert first.handed_off_furthest == Count(2)
    assert second.handed_off_furthest == Count(5)  # whether or not they were in the first stage
    assert first.decided == Proportion(5, 31 - 2 - 8)
    assert second.decided == Proportion(0, 0)


def test_a_deal_off_the_path_has_reached_the_first_stage_at_least() -> None:
    lead, offer, *_ = measured(told("parked"))
    assert (lead.reached.deals, lead.entered.deals, lead.implied.deals) == (1, 0, 1)
    assert offer.reached.deals == 0


def test_the_funnel_at_an_instant_knows_nothing_of_what_came_after() -> None:
    deal = told("lead", "offer", "won")
    *_, won = measured(deal, as_of=day(2))
    assert won.reached.deals == 0
    *_, won = measured(deal, as_of=day(2) + timedelta(microseconds=1))
    assert won.reached.deals == 1
    assert at([deal], day(0)) == []


def test_amounts_stand_beside_the_counts_by_currency() -> None:
    lead, *_, won = measured(told("lead", "won", amount=100), told("lead", amount=20), told("lead"))
    assert (lead.reached.deals, lead.reached.amounts) == (3, {"EUR": Decimal(120)})
    assert won.reached.amounts == {"EUR": Decimal(100)}
    assert lead.open_furthest.amounts == {"EUR": Decimal(20)}


def test_conversion_leaves_out_the_undecided_only_where_it_says_so() -> None:
    lead, *_ = measured(told("lead", "offer"), told("lead", "lost"), told("lead"))
    assert lead.to_next == Proportion(1, 3)
    assert lead.decided == Proportion(1, 2)
    assert lead.to_won == Proportion(0, 3)


def test_conversions_from_the_start_and_to_the_win_are_of_all_who_came_so_far() -> None:
    ranks = measured(told("lead", "offer", "won"), told("lead", "offer"), told("lead"))
    from_start = [rank.from_start for rank in ranks]
    assert from_start == [Proportion(n, 3) for n in (3, 2, 1, 1)]
    assert [rank.to_won for rank in ranks[:-1]] == [Proportion(1, of) for of in (3, 2, 1)]
    assert (ranks[-1].to_next, ranks[-1].to_won, ranks[-1].decided) == (None, None, None)


def test_an_observed_step_is_from_the_stage_itself_to_the_next_itself() -> None:
    ranking = Ranking(PIPELINE, PIPELINE)
    deals = at(
        [
            told("lead", "offer"),
            told("lead", "talks"),
            told("offer", "lead"),
            told("talks", "won"),
            told("lead", "offer", "talks", "won"),
        ],
        day(99),
    )
    steps = funnel.observed_steps(ranking, deals)
    assert steps == {1: 2, 2: 1}
    ranks = funnel.measure(ranking, funnel.tallies(deals), observed=steps)
    assert [rank.to_next for rank in ranks[:-1]] == [
        Proportion(2, 4),
        Proportion(1, 3),
        Proportion(2, 3),
    ]


@pytest.mark.parametrize(
    ("stays", "steps"),
    [
        (["lead", "offer"], {1: 1}),
        (["offer", "lead"], {}),
        (["offer", "lead", "offer"], {1: 1}),
        (["lead", "talks", "offer"], {1: 1}),
        (["talks", "lead", "offer"], {1: 1}),
        (["lead", "offer", "talks", "won"], {1: 1, 2: 1}),
    ],
)
def test_an_observed_step_leads_from_an_earlier_stay_to_a_later_one(
    stays: list[str], steps: dict[int, int]
) -> None:
    ranking = Ranking(PIPELINE, PIPELINE)
    assert funnel.observed_steps(ranking, at([told(*stays)], LATER)) == steps


def test_where_no_step_was_observed_none_of_those_who_entered_went_on() -> None:
    ranking = Ranking(PIPELINE, PIPELINE)
    deals = at([told("lead", "won"), told("talks", "won"), told("offer")], LATER)
    steps = funnel.observed_steps(ranking, deals)
    ranks = funnel.measure(ranking, funnel.tallies(deals), observed=steps)
    expected = [Proportion(0, 1), Proportion(0, 1), Proportion(1, 1)]
    assert [rank.to_next for rank in ranks[:-1]] == expected


def test_visits_that_ended_forward_are_no_independent_cases() -> None:
    ranking = Ranking(PIPELINE, PIPELINE)
    deals = at([told("lead", "offer")], LATER)
    visits = funnel.visit_steps(ranking, deals)
    ranks = funnel.measure(ranking, funnel.tallies(deals), visits=visits)
    assert [rank.to_next for rank in ranks[:-1]] == [
        Proportion(1, 1, independent=False),
        Proportion(0, 1, independent=False),
        Proportion(0, 0, independent=False),  # where there was no visit
    ]
    assert [share.interval for rank in ranks[:-1] if (share := rank.to_next)] == [None] * 3


def test_with_every_reentry_visits_are_counted_that_ended_forward() -> None:
    ranking = Ranking(PIPELINE, PIPELINE)
    deals = at([told("lead", "offer", "lead", "talks", "parked", "talks", "won")], day(99))
    visits = funnel.visit_steps(ranking, deals)
    assert {rank: (share.count, share.of) for rank, share in visits.items()} == {
        1: (2, 2),
        2: (0, 1),
        3: (1, 2),
    }


def test_a_cohort_was_opened_in_the_period_and_passes_the_filters() -> None:
    def opened(number: int, owner: str | None) -> PastDeal:
        return past_deal(PIPELINE, [("lead", day(number))], owner=owner)

    deals = at([opened(1, "ada"), opened(2, "ben"), opened(2, "ada"), opened(3, None)], LATER)
    first, bens, adas, _ = deals
    asked = Selection(as_of=LATER, start=day(2), end=day(3))
    assert funnel.cohort(deals, asked) == {None: [bens, adas]}
    by_owner = replace(asked, start=None, group_by=Dimension("owner"))
    assert funnel.cohort(deals, by_owner) == {"ada": [first, adas], "ben": [bens]}
    filtered = replace(by_owner, filters={Dimension("owner"): frozenset({"ben"})})
    assert funnel.cohort(deals, filtered) == {"ben": [bens]}


def test_an_empty_cohort_has_zeros_and_no_rates() -> None:
    ranks = measured()
    assert [rank.reached.deals for rank in ranks] == [0, 0, 0, 0]
    assert all(rank.from_start.rate is None for rank in ranks)


class TestRanking:
    split = definition("lead", "quote", "review", "talks")
    second = revise(PIPELINE, split, day(10), {"offer": ("quote", "review")})
    third = revise(second, definition("lead", "quote", "review"), day(20))

    def rank(self, asked: Pipeline, key: str) -> int | None:
        return Ranking(asked, self.third).by_slot.get(self.third.by_key[key].slot)

    def test_a_split_stage_has_the_rank_of_its_first_part(self) -> None:
        assert self.rank(self.second, "offer") == 2

    def test_an_archived_stage_has_the_rank_of_the_one_before_it(self) -> None:
        assert self.rank(self.third, "talks") == 3

    def test_a_stage_younger_than_the_revision_has_its_nearest_predecessors_rank(self) -> None:
        assert self.rank(PIPELINE, "review") == 1  # before it stands quote, unknown too, then lead

    def test_every_won_stage_ranks_after_the_path_and_others_have_none(self) -> None:
        assert self.rank(PIPELINE, "won") == 4
        assert self.rank(self.second, "won") == 5
        assert self.rank(self.second, "lost") is None
        assert self.rank(self.second, "parked") is None

    def test_a_visit_counts_for_the_heir_as_implied(self) -> None:
        ranking = Ranking(self.second, self.second)
        deals = at([told("lead", "offer", pipeline=self.second)], day(99), self.second)
        _, quote, *_ = funnel.measure(ranking, funnel.tallies(deals))
        assert (quote.reached.deals, quote.entered.deals, quote.implied.deals) == (1, 0, 1)

    def test_a_revision_in_which_a_deal_is_won_ranks_it_last(self) -> None:
        assert Ranking(PIPELINE, self.third).furthest(Status.WON, 0) == 4


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", datetime(2024, 3, 1, tzinfo=UTC)),
        ("Pacific/Auckland", datetime(2024, 2, 29, 11, tzinfo=UTC)),
        ("America/New_York", datetime(2024, 3, 1, 5, tzinfo=UTC)),
    ],
)
def test_a_month_begins_at_midnight_of_the_zone(zone: str, expected: datetime) -> None:
    assert month_start(2024, 3, ZoneInfo(zone)) == expected
    named = dict(months(expected - timedelta(hours=1), expected, zone))
    assert list(named) == ["2024-02", "2024-03"]
    assert named["2024-03"] == expected
