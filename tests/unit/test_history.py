"""What an import does to one deal, held against its plain reading on random histories."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.domain import journey
from app.domain.history import Known, Reconciled, Row, Verdict, reconcile
from app.domain.journey import Transition, TransitionKind
from app.domain.pipeline import Flow, Pipeline, Stage, StageKind
from tests.factories import sales_pipeline

START = datetime(2020, 1, 1, tzinfo=UTC)
LEAD, OFFER, TALKS, PARKED, WON, LOST, WON_TOO = 1, 2, 3, 4, 5, 6, 7

_sales = sales_pipeline(Flow.FORWARD)
SALES = Pipeline(
    pipeline_id=_sales.pipeline_id,
    key="sales",
    name="Sales",
    revision=1,
    flow=_sales.flow,
    stages=(*_sales.stages, Stage(key="won-too", name="Won", kind=StageKind.WON, slot=WON_TOO)),
)


def row(slot: int, day: float, **says: object) -> Row:
    return Row(slot, START + timedelta(days=day), says)


def known_after(read: Reconciled) -> Known:
    """What is known of a deal that this import has opened."""
    return Known(
        log=read.appended,
        seq=read.appended[-1].seq if read.appended else 0,
        facts=read.facts,
        stated_until={change.name: change.occurred_at for change in read.changes},
    )


def told(log: Sequence[Transition]) -> list[tuple[TransitionKind, int, datetime]]:
    return [(entry.kind, entry.to_slot, entry.occurred_at) for entry in log]


slots = st.sampled_from([LEAD, OFFER, TALKS, PARKED, WON, LOST, WON_TOO])
tied = st.lists(st.builds(row, slots, st.integers(0, 6)), min_size=1, max_size=14).map(
    lambda rows: sorted(rows, key=lambda each: each.occurred_at)
)
untied = st.lists(
    st.tuples(slots, st.integers(0, 60)), min_size=1, max_size=14, unique_by=lambda each: each[1]
).map(lambda rows: [row(slot, day) for slot, day in sorted(rows, key=lambda each: each[1])])


@given(tied)
def test_a_new_deal_moves_whenever_a_row_names_another_stage_or_another_outcome(
    rows: list[Row],
) -> None:
    read = reconcile(SALES, rows)
    expected: list[Row] = []
    for each in rows:
        here = SALES.by_slot[expected[-1].slot] if expected else None
        stage = SALES.by_slot[each.slot]
        if here is None or (here.slot != stage.slot and not (here.kind == stage.kind == "won")):
            expected.append(each)
    assert [(each.slot, each.occurred_at) for each in expected] == [
        (entry.to_slot, entry.occurred_at) for entry in read.appended
    ]
    assert read.verdicts.count(Verdict.UNCHANGED) == len(rows) - len(expected)


@given(tied)
def test_what_is_appended_is_a_chain_and_its_position_is_that_of_the_log(rows: list[Row]) -> None:
    read = reconcile(SALES, rows)
    assert [entry.seq for entry in read.appended] == list(range(1, len(read.appended) + 1))
    for before, after in zip(read.appended, read.appended[1:], strict=False):
        assert after.from_slot == before.to_slot
        assert after.entered_at == before.occurred_at
        assert after.occurred_at >= before.occurred_at
    assert read.position == journey.position(SALES, read.appended)


def test_a_repeated_row_does_not_pass_for_a_later_return_at_the_same_instant() -> None:
    rows = [Row(slot, START, {}, None) for slot in (2, 2, 1, 1, 2)]
    first = reconcile(SALES, rows)
    assert [move.to_slot for move in first.appended] == [2, 1, 2]
    again = reconcile(SALES, rows, known_after(first))
    assert not again.appended
    assert [verdict is Verdict.PRESENT for verdict in again.verdicts] == [
        *(True, False),
        *(True, False),
        True,
    ]


@given(tied)
def test_the_same_rows_again_add_nothing_and_count_the_same(rows: list[Row]) -> None:
    first = reconcile(SALES, rows)
    again = reconcile(SALES, rows, known_after(first))
    assert not again.appended
    assert not again.changes
    assert again.position is None
    counts = Counter(again.verdicts)
    assert counts[Verdict.PRESENT] == len(first.appended)
    assert counts[Verdict.UNCHANGED] == first.verdicts.count(Verdict.UNCHANGED)
    assert counts[Verdict.CONFLICT] == 0


@given(tied, st.integers(0, 7))
def test_two_halves_by_date_and_then_the_whole_are_the_whole_at_once(
    rows: list[Row], day: int
) -> None:
    cut = START + timedelta(days=day)
    earlier = [each for each in rows if each.occurred_at < cut]
    later = [each for each in rows if each.occurred_at >= cut]
    first = reconcile(SALES, earlier)
    second = reconcile(SALES, later, known_after(first))
    whole = reconcile(SALES, rows)
    both = [*first.appended, *second.appended]
    assert told(both) == told(whole.appended)
    third = reconcile(SALES, rows, Known(log=both, seq=len(both)))
    assert not third.appended
    assert Verdict.CONFLICT not in third.verdicts


@given(untied, st.data())
def test_a_rewrite_with_the_whole_file_leaves_the_log_of_the_whole_file(
    rows: list[Row], data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    part = reconcile(SALES, [each for each, taken in zip(rows, kept, strict=True) if taken])
    read = reconcile(SALES, rows, known_after(part), rewrite=True)
    standing = part.appended[: len(part.appended) - len(read.voided)]
    whole = reconcile(SALES, rows)
    assert told([*standing, *read.appended]) == told(whole.appended)
    assert Verdict.CONFLICT not in read.verdicts
    assert [entry.seq for entry in read.appended] == [
        len(part.appended) + n for n in range(1, len(read.appended) + 1)
    ]


@given(untied, st.data())
def test_without_a_rewrite_rows_behind_the_log_are_present_unchanged_or_in_conflict(
    rows: list[Row], data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    part = reconcile(SALES, [each for each, taken in zip(rows, kept, strict=True) if taken])
    if not part.appended:
        return
    read = reconcile(SALES, rows, known_after(part))
    end = part.appended[-1].occurred_at
    at = {entry.occurred_at: entry.to_slot for entry in part.appended}
    for each, verdict in zip(rows, read.verdicts, strict=True):
        if each.occurred_at > end:
            assert verdict in (Verdict.APPENDED, Verdict.UNCHANGED)
            continue
        present = at.get(each.occurred_at) == each.slot
        assert (verdict is Verdict.PRESENT) == present
        stood = [slot for instant, slot in at.items() if instant < each.occurred_at][-1:]
        same = [
            slot
            for slot in [*stood, at.get(each.occurred_at)]
            if slot == each.slot or {slot, each.slot} == {WON, WON_TOO}
        ]
        if not present:
            assert verdict is (Verdict.UNCHANGED if same else Verdict.CONFLICT)


def test_a_close_date_is_not_rewritten_by_a_second_win_or_loss() -> None:
    read = reconcile(SALES, [row(LEAD, 0), row(WON, 1), row(WON_TOO, 2), row(LOST, 3)])
    assert [entry.kind for entry in read.appended] == ["opened", "won", "lost"]
    assert read.verdicts[2] is Verdict.UNCHANGED
    assert read.position is not None
    assert read.position.closed_at == START + timedelta(days=3)


def test_a_loss_without_a_reason_is_for_an_unknown_one_and_nothing_else_bears_any() -> None:
    given_one = Row(LOST, START + timedelta(days=3), {}, "price")
    read = reconcile(SALES, [row(LEAD, 0), row(LOST, 1), row(OFFER, 2), given_one])
    assert [entry.loss_reason for entry in read.appended] == [None, "unknown", None, "price"]


def test_moves_that_todays_flow_would_refuse_are_appended_and_counted() -> None:
    read = reconcile(SALES, [row(TALKS, 0), row(LEAD, 1), row(OFFER, 2), row(LEAD, 3)])
    assert [entry.kind for entry in read.appended] == [
        "opened",
        "regressed",
        "advanced",
        "regressed",
    ]
    assert read.against_flow == 2


def test_each_transition_freezes_what_had_been_said_by_then() -> None:
    rows = [
        row(LEAD, 0, amount=Decimal(100), currency="EUR"),
        row(OFFER, 1, owner="mia"),
        row(OFFER, 2, amount=Decimal(150)),
        row(WON, 3, attributes={"a": 1}),
    ]
    read = reconcile(SALES, rows)
    assert [(entry.facts.amount, entry.facts.owner) for entry in read.appended] == [
        (Decimal(100), None),
        (Decimal(100), "mia"),
        (Decimal(150), "mia"),
    ]
    assert [(c.name, c.old, c.new, c.occurred_at) for c in read.changes] == [
        ("owner", None, "mia", rows[1].occurred_at),
        ("amount", Decimal(100), Decimal(150), rows[2].occurred_at),
        ("attributes", None, {"a": 1}, rows[3].occurred_at),
    ]
    assert read.appended[-1].facts.probability == 1


def test_a_row_from_before_a_facts_last_change_does_not_change_it_back() -> None:
    first = reconcile(SALES, [row(LEAD, 0, owner="mia")])
    edited = Known(
        log=first.appended,
        seq=1,
        facts={"owner": "tom"},
        stated_until={"owner": START + timedelta(days=9)},
    )
    read = reconcile(SALES, [row(LEAD, 0, owner="mia"), row(OFFER, 5, owner="mia")], edited)
    assert read.facts["owner"] == "tom"
    assert not read.changes


def test_history_may_pass_through_an_archived_stage_but_not_end_in_it() -> None:
    stages = tuple(
        Stage(key="offer", name="Offer", kind=StageKind.OPEN, slot=OFFER, archived_at=START)
        if stage.slot == OFFER
        else stage
        for stage in SALES.stages
    )
    retired = Pipeline(
        pipeline_id=SALES.pipeline_id,
        key="sales",
        name="Sales",
        revision=2,
        flow=Flow.FREE,
        stages=stages,
    )
    through = reconcile(retired, [row(LEAD, 0), row(OFFER, 1), row(TALKS, 2)])
    assert [entry.to_slot for entry in through.appended] == [LEAD, OFFER, TALKS]
    stranded = reconcile(retired, [row(LEAD, 0), row(OFFER, 1)])
    assert list(stranded.verdicts) == [Verdict.STRANDED, Verdict.STRANDED]
    assert (list(stranded.appended), stranded.position) == ([], None)


def test_a_move_and_a_return_at_one_instant_are_told_apart_by_their_order() -> None:
    rows = [row(LEAD, 0), row(OFFER, 1), row(LEAD, 1), row(OFFER, 1)]
    read = reconcile(SALES, rows)
    assert [entry.to_slot for entry in read.appended] == [LEAD, OFFER, LEAD, OFFER]
    again = reconcile(SALES, rows, known_after(read))
    assert list(again.verdicts) == [Verdict.PRESENT] * 4


def test_an_amount_is_held_back_with_its_currency() -> None:
    """Somebody has taken both away since: neither comes back alone."""
    first = reconcile(SALES, [row(LEAD, 0, currency="EUR")])
    cleared = Known(
        log=first.appended,
        seq=1,
        facts={**first.facts, "amount": None, "currency": None},
        stated_until={"currency": START + timedelta(days=9)},
    )
    read = reconcile(SALES, [row(OFFER, 5, amount=Decimal(5), currency="EUR")], cleared)
    assert [move.to_slot for move in read.appended] == [OFFER]
    assert (read.facts["amount"], read.facts["currency"]) == (None, None)
    later = reconcile(SALES, [row(OFFER, 10, amount=Decimal(5), currency="EUR")], cleared)
    assert (later.facts["amount"], later.facts["currency"]) == (Decimal(5), "EUR")
