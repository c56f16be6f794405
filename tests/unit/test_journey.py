"""The projection's definition: what a log says of a deal, told twice and compared."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import journey
from app.domain.journey import Status, Transition, TransitionKind, kind_of_move
from app.domain.pipeline import Flow, Pipeline, Stage, StageKind
from app.storage.ids import new_id
from tests.factories import sales_pipeline, stage

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
GAPS = st.one_of(st.just(timedelta()), st.timedeltas(timedelta(microseconds=1), timedelta(days=90)))


def pipeline_of(*stages: Stage, flow: Flow = Flow.FREE) -> Pipeline:
    return Pipeline(
        pipeline_id=new_id(), key="p", name="P", revision=1, flow=flow, stages=tuple(stages)
    )


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Any mix of stages; slots in an order of their own, as after many revisions."""
    kinds = [
        *["open"] * draw(st.integers(1, 5)),
        *["off"] * draw(st.integers(0, 2)),
        *["won"] * draw(st.integers(1, 2)),
        *["lost"] * draw(st.integers(1, 2)),
    ]
    slots = draw(st.permutations(range(1, len(kinds) + 4)))
    return pipeline_of(
        *(
            stage(
                f"s{slot}",
                slot,
                StageKind.OPEN if kind == "off" else StageKind(kind),
                off_path=kind == "off",
            )
            for kind, slot in zip(kinds, slots, strict=False)
        )
    )


@dataclass(frozen=True)
class Stay:
    """What the test itself knows of a deal: where it was from when to when."""

    stage: Stage
    entered_at: datetime
    left_at: datetime | None = None


@dataclass(frozen=True)
class Case:
    pipeline: Pipeline
    log: list[Transition]
    stays: list[Stay]
    moved_at: datetime
    is_handed_off: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A deal's life: opened anywhere, moved, rearranged, perhaps handed off at the end."""
    pipeline = draw(pipelines())
    here, at = draw(st.sampled_from(pipeline.stages)), START
    moved_at = at
    opening = Transition(
        seq=1,
        kind=TransitionKind.OPENED,
        from_slot=None,
        entered_at=None,
        to_slot=here.slot,
        occurred_at=at,
    )
    log, stays = [opening], [Stay(here, at)]
    for gap in draw(st.lists(GAPS, max_size=12)):
        target = draw(st.sampled_from([s for s in pipeline.stages if s is not here]))
        kind = kind_of_move(pipeline, here, target)
        if here.is_open and target.is_open and draw(st.booleans()):
            kind = TransitionKind.REARRANGED
        entered, at = at, at + gap
        log.append(
            Transition(
                # Voided rows keep their numbers: the standing ones may have gaps.
                seq=log[-1].seq + draw(st.integers(1, 3)),
                kind=kind,
                from_slot=here.slot,
                entered_at=entered,
                to_slot=target.slot,
                occurred_at=at,
            )
        )
        stays[-1:] = [Stay(here, entered, at), Stay(target, at)]
        here = target
        moved_at = moved_at if kind is TransitionKind.REARRANGED else at
    is_handed_off = draw(st.booleans())
    if is_handed_off:
        leaves = here.is_open
        log.append(
            Transition(
                seq=log[-1].seq + 1,
                kind=TransitionKind.HANDED_OFF,
                from_slot=here.slot,
                entered_at=at if leaves else None,
                to_slot=here.slot,
                occurred_at=at + draw(GAPS),
            )
        )
        if leaves:
            stays[-1] = Stay(here, at, log[-1].occurred_at)
            moved_at = log[-1].occurred_at
    return Case(pipeline, log, stays, moved_at, is_handed_off)


@given(cases())
def test_a_position_says_what_the_stays_say(case: Case) -> None:
    position = journey.position(case.pipeline, case.log)
    last = case.stays[-1]
    dwell: Counter[int] = Counter()
    for stay in case.stays:
        if stay.left_at is not None:
            dwell[stay.stage.slot] += (stay.left_at - stay.entered_at) // timedelta(microseconds=1)
    gone = last.left_at is not None
    assert position.slot == last.stage.slot
    assert position.seq == case.log[-1].seq
    assert position.stage_entered_at == (last.left_at or last.entered_at)
    assert position.opened_at == START
    assert position.moved_at == case.moved_at
    assert position.reach_mask == sum({1 << (stay.stage.slot - 1) for stay in case.stays})
    assert {
        slot: spent // timedelta(microseconds=1) for slot, spent in position.dwell.items()
    } == dict(dwell)
    assert position.status.value == ("handed_off" if gone else last.stage.kind.value)
    closes = gone or not last.stage.is_open
    assert position.closed_at == ((last.left_at or last.entered_at) if closes else None)


@given(cases(), st.data())
def test_going_on_from_any_row_gives_what_reading_all_rows_gives(
    case: Case, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(case.log)))
    here = journey.position(case.pipeline, case.log[:cut])
    for transition in case.log[cut:]:
        here = journey.after(case.pipeline, here, transition)
    assert here == journey.position(case.pipeline, case.log)


@given(cases())
def test_visits_are_the_stays_without_a_gap_between_them(case: Case) -> None:
    visits = list(journey.visits(case.log))
    assert [(v.slot, v.entered_at, v.left_at) for v in visits] == [
        (stay.stage.slot, stay.entered_at, stay.left_at) for stay in case.stays
    ]
    for one, next_one in pairwise(visits):
        assert one.left_at == next_one.entered_at
    closed = [v for v in visits if v.left_at is not None]
    assert [v.ended_by for v in closed] == [
        row.kind for row in case.log if row.entered_at is not None
    ]


def test_a_deal_linked_from_its_win_stays_there_until_it_moves_on() -> None:
    def row(seq: int, kind: str, came_from: int | None, to_slot: int) -> Transition:
        entered = None if kind in ("opened", "handed_off") else START + timedelta(days=seq - 1)
        return Transition(
            seq=seq,
            kind=TransitionKind(kind),
            from_slot=came_from,
            entered_at=entered,
            to_slot=to_slot,
            occurred_at=START + timedelta(days=seq),
        )

    log = [row(1, "opened", None, 1), row(2, "won", 1, 5), row(3, "handed_off", 5, 5)]
    days = [START + timedelta(days=number) for number in range(6)]
    told = [(visit.slot, visit.entered_at, visit.left_at) for visit in journey.visits(log)]
    assert told == [(1, days[1], days[2]), (5, days[2], None)]
    reopened = replace(row(4, "reopened", 5, 2), entered_at=days[2])
    told = [
        (visit.slot, visit.entered_at, visit.left_at) for visit in journey.visits([*log, reopened])
    ]
    assert told == [(1, days[1], days[2]), (5, days[2], days[4]), (2, days[4], None)]


def test_where_no_transition_stands_there_was_no_visit() -> None:
    assert list(journey.visits([])) == []


@given(cases())
def test_a_close_date_is_that_of_the_last_entry_into_a_closed_stage(case: Case) -> None:
    position = journey.position(case.pipeline, case.log)
    closed = [stay for stay in case.stays if not stay.stage.is_open]
    if position.status in (Status.WON, Status.LOST):
        assert position.closed_at == closed[-1].entered_at


@pytest.mark.parametrize(
    ("origin", "target", "kind"),
    [
        ("lead", "offer", "advanced"),
        ("lead", "talks", "skipped"),
        ("talks", "lead", "regressed"),
        ("talks", "offer", "regressed"),
        ("lead", "parked", "sidestepped"),
        ("parked", "talks", "sidestepped"),
        ("lead", "won", "won"),
        ("parked", "won", "won"),
        ("talks", "lost", "lost"),
        ("won", "lost", "lost"),
        ("lost", "won", "won"),
        ("won", "lead", "reopened"),
        ("lost", "parked", "reopened"),
    ],
)
def test_a_move_is_called_by_where_it_comes_from_and_goes(
    origin: str, target: str, kind: str
) -> None:
    pipeline = sales_pipeline()
    assert kind_of_move(pipeline, pipeline.stage(origin), pipeline.stage(target)) == kind


@pytest.mark.parametrize(
    ("kind", "moved_after"),
    [(TransitionKind.REARRANGED, timedelta()), (TransitionKind.ADVANCED, timedelta(hours=3))],
)
def test_a_rearranged_definition_ends_dwell_but_does_not_move_the_deal(
    kind: TransitionKind, moved_after: timedelta
) -> None:
    pipeline = sales_pipeline()
    later = START + timedelta(hours=3)
    opened = Transition(
        seq=1,
        kind=TransitionKind.OPENED,
        from_slot=None,
        entered_at=None,
        to_slot=1,
        occurred_at=START,
    )
    moved = Transition(
        seq=2, kind=kind, from_slot=1, entered_at=START, to_slot=2, occurred_at=later
    )
    here = journey.position(pipeline, [opened, moved])
    assert here.dwell == {1: timedelta(hours=3)}
    assert here.stage_entered_at == later
    assert here.moved_at == START + moved_after
