"""The flow's definition, on pasts small enough to count by hand."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.domain.definition import Definition, begin
from app.domain.durations import microseconds
from app.domain.intervals import Proportion
from app.domain.journey import TransitionKind as Kind
from app.domain.measures import flow
from app.domain.measures.calendar import By
from app.domain.measures.cumulative_flow import Bucket, CumulativeFlow, measure, nothing
from app.domain.measures.flow import Cell, StageFlow
from app.domain.measures.hindsight import Sighting, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Dimension, Selection
from app.domain.pipeline import Flow, LossReason, StageKind
from tests.factories import stage
from tests.past_deals import past_deal

PIPELINE = begin(
    Definition(
        key="sales",
        name="Sales",
        flow=Flow.FREE,
        stages=(
            *(stage(key, 0) for key in ("lead", "offer", "talks")),
            stage("won", 0, StageKind.WON),
            stage("lost", 0, StageKind.LOST, loss_reasons=(LossReason("price", "Price"),)),
        ),
    ),
    uuid4(),
    datetime(2024, 1, 1, tzinfo=UTC),
)
LEAD, OFFER, TALKS, WON, LOST = (s.slot for s in PIPELINE.stages)


def day(number: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


def period(start: float | None, end: float | None, **more: object) -> Selection:
    return Selection(
        as_of=day(90),
        start=None if start is None else day(start),
        end=None if end is None else day(end),
        **more,  # type: ignore[arg-type] # what else a selection takes
    )


def told(*stays: tuple[str, float], owner: str | None = None) -> Sighting:
    entered = [(key, day(number)) for key, number in stays]
    past = past_deal(PIPELINE, entered, owner=owner)
    found = seen(PIPELINE, past.history, Selection(as_of=day(90), attribution=Attribution.AT_MOVE))
    assert found is not None
    return found


DEALS = [
    told(("lead", 1), ("offer", 4), ("won", 6), owner="ada"),
    told(("lead", 2), ("talks", 4), ("lead", 7), owner="ada"),
    told(("lead", 3), ("lost", 5), ("offer", 8), owner="ben"),
    told(("lead", 4), ("offer", 9), ("lost", 11)),
]


def flows(selection: Selection) -> dict[int, StageFlow]:
    return dict(flow.measure(DEALS, selection)[None])


def test_a_period_tells_what_was_there_came_and_went() -> None:
    week = flows(period(3, 8))
    assert week == {
        # two were there; those of the 3rd and the 4th came, and the one that went back
        LEAD: StageFlow(2, 3, {Kind.ADVANCED: 2, Kind.LOST: 1}, 2),
        OFFER: StageFlow(0, 1, {Kind.WON: 1}, 0),
        TALKS: StageFlow(0, 1, {Kind.REGRESSED: 1}, 0),
        WON: StageFlow(0, 1, {}, 1),
        LOST: StageFlow(0, 1, {}, 1),
    }
    assert week[LEAD].left == 3
    assert week[LEAD].forward == Proportion(2, 3, independent=False)
    assert week[OFFER].forward == Proportion(1, 1, independent=False)


def test_a_period_is_half_open() -> None:
    # Who came at its begin came in it; who left at its end was there until then.
    assert flows(period(4, 5))[LEAD] == StageFlow(3, 1, {Kind.ADVANCED: 2}, 2)
    assert flows(period(5, 6))[LEAD] == StageFlow(2, 0, {Kind.LOST: 1}, 1)


def test_without_a_begin_nothing_was_there_and_without_an_end_it_lasts_until_t() -> None:
    assert flows(period(None, 4))[LEAD] == StageFlow(0, 3, {}, 3)
    assert flows(period(4, None))[LEAD] == StageFlow(3, 2, {Kind.ADVANCED: 3, Kind.LOST: 1}, 1)
    assert flows(period(8, None))[LOST] == StageFlow(1, 1, {Kind.REOPENED: 1}, 1)


def test_a_stage_where_nothing_was_is_not_told_of() -> None:
    assert set(flows(period(12, 20))) == {LEAD, OFFER, WON, LOST}
    assert flow.measure(DEALS, period(None, 1)) == {}


def test_a_visit_counts_in_the_group_that_it_bears() -> None:
    owners = flow.measure(DEALS, period(3, 5, group_by=Dimension("owner")))
    assert {owner: by_slot[LEAD] for owner, by_slot in owners.items()} == {
        "ada": StageFlow(2, 0, {Kind.ADVANCED: 2}, 0),
        "ben": StageFlow(0, 1, {}, 1),
        None: StageFlow(0, 1, {}, 1),
    }


def test_the_matrix_tells_from_where_to_where_and_after_how_long() -> None:
    days = microseconds(timedelta(days=1))
    assert flow.moves(DEALS, period(4, 9)) == {
        None: {
            (LEAD, OFFER): Cell(1, 3 * days),
            (LEAD, TALKS): Cell(1, 2 * days),
            (LEAD, LOST): Cell(1, 2 * days),
            (OFFER, WON): Cell(1, 2 * days),
            (TALKS, LEAD): Cell(1, 3 * days),
            (LOST, OFFER): Cell(1, 3 * days),
        }
    }
    later = flow.moves(DEALS, period(4, 10, group_by=Dimension("owner")))
    assert later[None] == {(LEAD, OFFER): Cell(1, 5 * days)}
    both = flow.moves(DEALS, period(4, 10))[None]
    assert both[LEAD, OFFER] == Cell(2, 4 * days)  # the median of three days and five


@pytest.mark.parametrize(
    ("kind", "way"), [(Kind.SKIPPED, Kind.ADVANCED), (Kind.WON, Kind.WON), (Kind.LOST, Kind.LOST)]
)
def test_who_skipped_a_stage_has_advanced(kind: Kind, way: Kind) -> None:
    assert flow.way_out(kind) is way


def test_cumulative_flow_counts_stays_in_process_bucket_by_bucket() -> None:
    days = microseconds(timedelta(days=1))
    asked = period(3, 7)
    (found,) = measure(Ranking(PIPELINE, PIPELINE), DEALS, asked, By.DAY).values()
    assert found == CumulativeFlow(
        boundaries=(day(3), day(4), day(5), day(6), day(7)),
        in_progress_at_start=2,
        buckets=[
            Bucket(1, 0, {LEAD: 1}, {LEAD: 3}),
            Bucket(1, 0, {LEAD: 1, OFFER: 1, TALKS: 1}, {LEAD: 2, OFFER: 1, TALKS: 1}),
            Bucket(0, 1, {}, {LEAD: 1, OFFER: 1, TALKS: 1}),
            Bucket(0, 1, {}, {LEAD: 1, TALKS: 1}),
        ],
        time_in_process=(3 + 4 + 2 + 3) * days,
        stays_ended=(5 + 2) * days,
    )
    assert (found.arrivals, found.departures) == (2, 2)
    assert found.average_in_progress == 12 / 4
    assert (found.arrivals_per_day, found.departures_per_day) == (2 / 4, 2 / 4)
    assert found.mean_stay == 3.5 * days
    assert found.expected_in_progress == 7 / 4
    assert found.ratio == 7 / 12


def test_who_left_at_the_begin_left_in_the_period_and_who_came_at_its_end_did_not_come() -> None:
    ranking, days = Ranking(PIPELINE, PIPELINE), microseconds(timedelta(days=1))
    (found,) = measure(ranking, DEALS, period(6, 11), By.WEEK).values()
    assert (found.departures, found.stays_ended) == (1, 5 * days)  # that of the 6th
    assert found.time_in_process == (5 + 3 + 5) * days
    assert measure(ranking, DEALS, period(0, 1), By.DAY) == {}


def test_a_cumulative_flow_without_a_period_or_a_deal_has_no_averages() -> None:
    for found, progress in ((nothing([day(3), day(5)]), 0.0), (nothing([day(3)]), None)):
        assert (found.arrivals, found.departures, found.in_progress_at_start) == (0, 0, 0)
        assert found.average_in_progress == found.arrivals_per_day == progress
        assert found.departures_per_day == progress
        assert (found.mean_stay, found.expected_in_progress, found.ratio) == (None, None, None)
