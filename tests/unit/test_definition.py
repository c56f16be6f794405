"""Definitions: what is wrong with one, and how one revision becomes the next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import restructuring
from app.domain.definition import (
    UNPLACED,
    Definition,
    begin,
    breaches,
    definition_of,
    revise,
    warnings,
)
from app.domain.difference import Difference, difference
from app.domain.errors import Breach, InvalidDefinition
from app.domain.period import Period
from app.domain.pipeline import (
    FieldRequirement,
    Flow,
    IdleClock,
    IdleRule,
    LossReason,
    Pipeline,
    Stage,
    StageKind,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID("01980000-0000-7000-8000-000000000001")
DAY = timedelta(days=1)
NOTHING = Difference(fields=(), added=(), changed=(), archived=(), restored=(), reordered=False)


def stage(key: str, kind: StageKind = StageKind.OPEN, **more: Any) -> Stage:
    if kind is StageKind.LOST:
        more.setdefault("loss_reasons", (LossReason("price", "Price"),))
    return Stage(key=key, name=key.upper(), kind=kind, slot=UNPLACED, **more)


WON, LOST = stage("won", StageKind.WON), stage("lost", StageKind.LOST)


def defined(*stages: Stage | str, flow: Flow = Flow.FREE, **more: Any) -> Definition:
    """A definition of these stages, an open one for each bare key, with `won` and `lost`."""
    opened = tuple(stage(each) if isinstance(each, str) else each for each in stages)
    return Definition(key="sales", name="Sales", flow=flow, stages=(*opened, WON, LOST), **more)


def made(*stages: Stage | str, **more: Any) -> Pipeline:
    return begin(defined(*stages, **more), ID, START)


def in_use(pipeline: Pipeline) -> list[str]:
    return [each.key for each in pipeline.stages if each.archived_at is None]


def ranks(pipeline: Pipeline) -> dict[str, int | None]:
    return {each.key: pipeline.rank(each) for each in pipeline.stages}


# --- What is wrong with a definition ---------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "pointer", "code"),
    [
        (defined(), "/stages", "no_open_stage"),
        (defined(stage("a", off_path=True)), "/stages", "no_open_stage"),
        (replace(defined("a"), stages=(stage("a"), LOST)), "/stages", "no_won_stage"),
        (replace(defined("a"), stages=(stage("a"), WON)), "/stages", "no_lost_stage"),
        (defined(*(f"s{n}" for n in range(59))), "/stages", "too_many_stages"),
        (defined("a", "b", "a"), "/stages/2/key", "duplicate"),
        (defined("A"), "/stages/0/key", "wrong_format"),
        (defined("a\n"), "/stages/0/key", "wrong_format"),
        (defined(replace(stage("a"), name=" ")), "/stages/0/name", "too_short"),
        (defined(replace(stage("a"), name="n" * 201)), "/stages/0/name", "too_long"),
        (replace(defined("a"), name=""), "/name", "too_short"),
        (replace(defined("a"), key="-"), "/key", "wrong_format"),
        (defined("a", timezone="Berlin"), "/timezone", "unknown_timezone"),
        (defined("a", timezone="localtime"), "/timezone", "unknown_timezone"),
        (defined("a", timezone="right/Europe/Berlin"), "/timezone", "unknown_timezone"),
        (defined(stage("a", probability=Decimal("1.1"))), "/stages/0/probability", "out_of_range"),
        (defined(stage("a", probability=Decimal("NaN"))), "/stages/0/probability", "out_of_range"),
        (
            defined(stage("a", target_conversion=Decimal("0.12345"))),
            "/stages/0/target_conversion",
            "out_of_range",
        ),
        (defined(stage("a", target_dwell=Period())), "/stages/0/target_dwell", "out_of_range"),
        (
            defined(stage("a", idle=IdleRule(after_by_priority={"a/b": Period()}))),
            "/stages/0/idle_after_by_priority/a~1b",
            "out_of_range",
        ),
        (
            defined(stage("a", idle=IdleRule(clock=IdleClock.INACTIVITY, qualifying=()))),
            "/stages/0/qualifying_activities",
            "required",
        ),
        (
            defined(stage("a", entry_requirements=(FieldRequirement("amount"),))),
            "/stages/0/entry_requirements/0/path",
            "not_requirable",
        ),
        (
            defined(stage("a", entry_requirements=(FieldRequirement("/attributes/"),))),
            "/stages/0/entry_requirements/0/path",
            "not_requirable",
        ),
        (defined("a", moves=(("a", "won"),)), "/moves", "graph_only"),
        (defined("a", flow=Flow.GRAPH), "/moves", "required"),
        (
            defined("a", flow=Flow.GRAPH, moves=(("a", "won"), ("a", "x"))),
            "/moves/1/to",
            "unknown_stage",
        ),
        (
            defined("a", flow=Flow.GRAPH, moves=(("a", "won"), ("a", "won"))),
            "/moves/1",
            "duplicate",
        ),
        (defined("a", flow=Flow.GRAPH, moves=(("a", "a"),)), "/moves/0", "no_move"),
    ],
)
def test_each_breach_says_where_it_is(definition: Definition, pointer: str, code: str) -> None:
    assert [(each.pointer, each.code) for each in breaches(definition)] == [(pointer, code)]
    with pytest.raises(InvalidDefinition):
        begin(definition, ID, START)


@pytest.mark.parametrize(
    ("closed", "pointer", "code"),
    [
        (stage("x", StageKind.WON, off_path=True), "/off_path", "open_stages_only"),
        (stage("x", StageKind.WON, follow_up_every=Period(days=1)), "/follow_up_every", ""),
        (stage("x", StageKind.WON, target_conversion=Decimal(1)), "/target_conversion", ""),
        (stage("x", StageKind.WON, probability=Decimal("0.9")), "/probability", "out_of_range"),
        (stage("x", StageKind.LOST, probability=Decimal(1)), "/probability", "out_of_range"),
        (stage("x", StageKind.LOST, loss_reasons=()), "/loss_reasons", "required"),
        (
            stage("x", StageKind.WON, loss_reasons=(LossReason("a", "A"),)),
            "/loss_reasons",
            "lost_stages_only",
        ),
        (
            stage("x", StageKind.LOST, loss_reasons=(LossReason("unknown", "?"),)),
            "/loss_reasons/0/key",
            "reserved",
        ),
        (
            stage("x", StageKind.LOST, loss_reasons=(LossReason("a", "A"), LossReason("a", "B"))),
            "/loss_reasons/1/key",
            "duplicate",
        ),
    ],
)
def test_a_closed_stage_has_only_what_means_something_there(
    closed: Stage, pointer: str, code: str
) -> None:
    (found,) = breaches(defined("a", closed))
    assert (found.pointer, found.code) == (f"/stages/1{pointer}", code or "open_stages_only")


def test_a_settled_probability_may_be_said() -> None:
    won = stage("x", StageKind.WON, probability=Decimal(1))
    lost = stage("y", StageKind.LOST, probability=Decimal(0))
    assert list(breaches(defined("a", won, lost))) == []


def test_any_attribute_may_be_required() -> None:
    paths = ("/attributes/seats", "/attributes/a~1b/c", "/amount", "/tags")
    requirements = tuple(FieldRequirement(path) for path in paths)
    assert list(breaches(defined(stage("a", entry_requirements=requirements)))) == []


def test_the_key_of_a_pipeline_and_the_kind_of_a_stage_never_change() -> None:
    old = revise(made("a", "b"), defined("a"), START + DAY)  # b is archived, and keeps its kind
    changed = replace(defined("a", stage("b", StageKind.WON)), key="other")
    assert {(each.pointer, each.code) for each in breaches(changed, old)} == {
        ("/key", "immutable"),
        ("/stages/1/kind", "immutable"),
    }


def test_a_pipeline_has_at_most_60_stages_in_its_life() -> None:
    full = made(*(f"s{n}" for n in range(58)))
    fewer = revise(full, defined("s0"), START + DAY)
    assert revise(fewer, defined("s0", "s7"), START + 2 * DAY).by_key["s7"].slot == 8
    with pytest.raises(InvalidDefinition) as refused:
        revise(fewer, defined("s0", "new"), START + 2 * DAY)
    assert [each.code for each in refused.value.errors] == ["too_many_stages"]


@pytest.mark.parametrize(("count", "codes"), [(2, ["few_open_stages"]), (3, []), (9, [])])
def test_few_or_many_open_stages_are_warned_of(count: int, codes: list[str]) -> None:
    assert [each.code for each in warnings(made(*(f"s{n}" for n in range(count))))] == codes


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        ({"after": Period(days=7), "critical_after": Period(days=3)}, True),
        ({"after": Period(days=7), "critical_after": Period(weeks=1)}, True),
        ({"after": Period(days=7), "critical_after": Period(days=8)}, False),
        ({"after": Period(days=7)}, False),
        ({"critical_after": Period(days=7)}, False),
        (
            {
                "after": Period(days=7),
                "after_by_priority": {"high": None, "low": Period(days=30)},
                "critical_after": Period(days=14),
            },
            True,
        ),
    ],
)
def test_a_flag_that_would_be_critical_as_it_opens_is_warned_of(
    rule: dict[str, Any], warned: bool
) -> None:
    quick = stage("s1", idle=IdleRule(**rule))
    found = [(each.pointer, each.code) for each in warnings(made("s0", quick, "s2"))]
    assert found == [("/stages/1/critical_after", "critical_at_once")] * warned


def test_archived_stages_do_not_count_as_many() -> None:
    many = made(*(f"s{n}" for n in range(10)))
    assert [each.code for each in warnings(many)] == ["many_open_stages"]
    assert list(warnings(revise(many, defined("s0", "s1", "s2"), START + DAY))) == []


# --- One revision after the other ------------------------------------------------------------

OPEN_KEYS = [*"abcdefgh"]
rules = st.builds(
    IdleRule,
    clock=st.sampled_from(IdleClock),
    after=st.sampled_from([None, Period(days=1), Period(seconds=86_400)]),
    after_by_priority=st.sampled_from([{}, {"high": None}]).map(MappingProxyType),
    qualifying=st.permutations(["call", "visit"]).map(tuple),
)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    keys = draw(st.lists(st.sampled_from(OPEN_KEYS), unique=True, min_size=1))
    # The first one is on the path, so that every definition is valid.
    opened = [
        stage(key, off_path=n > 0 and draw(st.booleans()), idle=draw(rules))
        for n, key in enumerate(keys)
    ]
    flow, moves = draw(st.sampled_from([Flow.FREE, Flow.GRAPH])), ()
    if flow is Flow.GRAPH:
        moves = tuple((key, "won") for key in keys)
    name = draw(st.sampled_from(["Sales", "销售"]))
    return replace(defined(*opened, flow=flow, moves=moves), name=name)


def history(drawn: list[Definition]) -> list[Pipeline]:
    revisions = [begin(drawn[0], ID, START)]
    for n, definition in enumerate(drawn[1:], start=1):
        revisions.append(revise(revisions[-1], definition, START + n * DAY))
    return revisions


@given(st.lists(definitions(), min_size=1, max_size=4))
def test_the_same_definition_again_changes_nothing(drawn: list[Definition]) -> None:
    last = history(drawn)[-1]
    later = START + 99 * DAY
    assert revise(last, drawn[-1], later) is last
    assert revise(last, definition_of(last), later) is last


@given(st.lists(definitions(), min_size=1, max_size=4))
def test_a_revision_is_what_its_definition_says(drawn: list[Definition]) -> None:
    for definition, revision in zip(drawn, history(drawn), strict=True):
        assert in_use(revision) == [each.key for each in definition.stages]
        assert (revision.name, revision.flow) == (definition.name, definition.flow)
        assert revision.moves == frozenset(definition.moves)
        for asked in definition.stages:
            assert revision.by_key[asked.key].idle.same_terms(asked.idle)


@given(st.lists(definitions(), min_size=2, max_size=5))
def test_every_stage_keeps_its_slot_and_kind_for_ever(drawn: list[Definition]) -> None:
    revisions = history(drawn)
    for before, after in pairwise(revisions):
        assert after is before or after.revision == before.revision + 1
        slots = [each.slot for each in after.stages]
        assert sorted(slots) == list(range(1, len(slots) + 1))
        for was in before.stages:
            now = after.by_key[was.key]
            assert (now.slot, now.kind) == (was.slot, was.kind)


@given(st.lists(definitions(), min_size=2, max_size=5))
def test_archiving_is_stamped_once_and_ended_by_coming_back(drawn: list[Definition]) -> None:
    revisions = history(drawn)
    for n, (before, after) in enumerate(pairwise(revisions), start=1):
        for now in after.stages:
            was = before.by_key.get(now.key)
            if now.key in in_use(after):
                assert (now.archived_at, now.succeeded_by, now.preceded_by) == (None, (), None)
            elif was is not None and was.archived_at is not None:
                assert now == was
            else:
                assert now.archived_at == START + n * DAY


@given(st.lists(definitions(), min_size=2, max_size=5))
def test_a_rule_is_in_force_since_deals_go_idle_by_it_as_they_do(drawn: list[Definition]) -> None:
    revisions = history(drawn)
    since = {each.key: START for each in revisions[0].stages}
    for n, (before, after) in enumerate(pairwise(revisions), start=1):
        for now in after.stages:
            was = before.by_key.get(now.key)
            if was is None or not was.idle.same_crossing(now.idle):
                since[now.key] = START + n * DAY
            assert now.idle.since == since[now.key]


@given(st.lists(definitions(), min_size=2, max_size=5))
def test_an_archived_stage_has_the_rank_of_the_one_that_stood_before_it(
    drawn: list[Definition],
) -> None:
    revisions = history(drawn)
    heir: dict[str, str | None] = {}
    for before, after in pairwise(revisions):
        path = [each.key for each in before.path]
        for gone in set(in_use(before)) - set(in_use(after)):
            place = path.index(gone) if gone in path else 0
            heir[gone] = path[place - 1] if place else None
        for back in in_use(after):  # what came before it is forgotten
            heir.pop(back, None)
        here = {each.key: rank for rank, each in enumerate(after.path, start=1)}
        for each in after.stages:
            if each.archived_at is None or each.off_path:
                continue
            key: str | None = each.key
            seen = set()
            while key is not None and key not in here and key not in seen:
                seen.add(key)
                key = heir.get(key)
            assert after.rank(each) == here.get(key or "", 1)


def test_an_archived_pipeline_is_in_use_again_by_the_same_definition() -> None:
    archived = replace(made("a"), revision=2, archived_at=START + DAY)
    back = revise(archived, defined("a"), START + 2 * DAY)
    assert (back.revision, back.archived_at) == (3, None)


# --- Stages split, merged, added, archived ---------------------------------------------------


def after(asked: restructuring.Restructuring, old: Pipeline) -> Pipeline:
    return revise(old, asked.definition, START + DAY, asked.heirs)


def test_the_parts_of_a_split_stand_in_its_place_and_it_has_the_rank_of_the_first() -> None:
    old = made("a", "b", "c")
    new = after(restructuring.split(old, "b", [stage("b1"), stage("b2")], None), old)
    assert in_use(new) == ["a", "b1", "b2", "c", "won", "lost"]
    assert ranks(new) == {"a": 1, "b1": 2, "b2": 3, "c": 4, "won": 5, "lost": None, "b": 2}


def test_a_merged_stage_has_the_rank_of_the_one_it_went_into() -> None:
    old = made("a", "b", "c", "d")
    new = after(restructuring.merge(old, ["b", "d"], "c"), old)
    assert in_use(new) == ["a", "c", "won", "lost"]
    assert ranks(new) == {"a": 1, "c": 2, "won": 3, "lost": None, "b": 2, "d": 2}


def test_a_lineage_is_followed_through_later_changes() -> None:
    first = made("a", "b", "c")
    split = after(restructuring.split(first, "c", [stage("c1"), stage("c2")], None), first)
    asked = restructuring.merge(split, ["c1", "c2"], "b")
    merged = revise(split, asked.definition, START + 2 * DAY, asked.heirs)
    assert ranks(merged)["c"] == ranks(merged)["c1"] == ranks(merged)["b"] == 2


def test_the_parts_of_a_split_inherit_the_moves_of_a_graph() -> None:
    moves = (("a", "b"), ("b", "won"), ("b", "lost"))
    old = made("a", "b", flow=Flow.GRAPH, moves=moves)
    new = after(restructuring.split(old, "b", [stage("x"), stage("y")], None), old)
    assert new.moves == {
        *(("a", "x"), ("a", "y"), ("x", "y")),
        *(("x", "won"), ("x", "lost"), ("y", "won"), ("y", "lost")),
    }


def test_archiving_takes_the_moves_of_the_stage_with_it() -> None:
    moves = (("a", "b"), ("b", "won"), ("a", "won"))
    old = made("a", "b", flow=Flow.GRAPH, moves=moves)
    assert after(restructuring.archive(old, "b", None), old).moves == {("a", "won")}


def test_a_breach_is_told_at_its_place_in_the_request() -> None:
    places = {"/stages/2": "/into/0", "/stages/3": "/into/1"}
    for pointer, sent in (
        ("/stages/3/name", "/into/1/name"),
        ("/stages/2", "/into/0"),
        ("/stages/20/name", ""),
        ("/timezone", ""),
    ):
        assert restructuring.in_request(Breach(pointer, "c", "d"), places).pointer == sent


def test_a_difference_names_what_happened_to_whom() -> None:
    old = revise(made("a", "b", "c", "d"), defined("a", "b", "c"), START + DAY)
    assert difference(old, old) == NOTHING
    new = revise(
        old,
        replace(defined("b", stage("a", probability=Decimal("0.5")), "d", "e"), name="Other"),
        START + 2 * DAY,
    )
    assert difference(old, new) == Difference(
        fields=("name",),
        added=("e",),
        changed=("a",),
        archived=("c",),
        restored=("d",),
        reordered=True,
    )
