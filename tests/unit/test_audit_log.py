"""What an entry of the audit log holds: the difference of two documents, and no more than that."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.domain.audit_document import document_of
from app.domain.audit_log import Action, Entry, differing
from app.domain.definition import begin, definition_of, revise
from app.domain.period import Period
from app.domain.pipeline import Pipeline
from app.domain.templates import templates
from app.http.schemas.pipelines import Pipeline as ShownPipeline
from app.storage.pipelines import Revision
from tests.factories import stage
from tests.unit.test_pipeline_document import pipelines

DOCS = Path(__file__).parents[2] / "docs" / "audit.md"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID("01980000-0000-7000-8000-000000000001")

FIRST = stage("first", 61)
"""Every definition has an open stage; those that are made here at random may have none."""

names = st.text("ab/~", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=4)


def place(document: Any, pointer: str) -> tuple[Any, str]:
    """The object that a JSON Pointer leads into, and the name of the member there."""
    *path, last = [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:]]
    for name in path:
        document = document[name]
    return document, last


def changed(
    document: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """What a reader makes of an entry: the document without `before`, with `after`."""
    found: dict[str, Any] = deepcopy(dict(document))
    for pointer, value in before.items():
        inside, name = place(found, pointer)
        assert inside.pop(name) == value
    for pointer, value in after.items():
        inside, name = place(found, pointer)
        assert name not in inside
        inside[name] = value
    return found


@given(old=documents, new=documents)
def test_each_side_of_a_change_can_be_made_of_the_other(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    before, after = differing(old, new)
    assert changed(old, before, after) == new
    assert changed(new, after, before) == old


@given(old=documents, new=documents)
def test_what_is_the_same_on_both_sides_is_not_told(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    before, after = differing(old, new)
    for pointer in before.keys() & after.keys():
        assert before[pointer] != after[pointer]
        assert not (isinstance(before[pointer], dict) and isinstance(after[pointer], dict))
    assert (old == new) == (not before and not after)


def test_what_was_not_there_and_what_is_left_of_nothing_are_null() -> None:
    made = Entry.of(Action.PIPELINE_CREATED, "sales", None, {"name": "Sales", "in": {"a": 1}})
    assert (made.before, made.after) == (None, {"/name": "Sales", "/in": {"a": 1}})
    gone = Entry.of(Action.OPPORTUNITY_DELETED, "x", {"pipeline": "sales"}, None)
    assert (gone.before, gone.after) == ({"/pipeline": "sales"}, None)


def shown(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline as the API shows it, with its stages by key and without what follows of it."""
    revision = Revision(pipeline=pipeline, actor="mia", in_force_at=NOW, created_at=NOW)
    told = ShownPipeline.of(revision).model_dump(mode="json")
    for name in ("id", "warnings", "created_at", "updated_at"):
        del told[name]
    stages = [*told["stages"], *told.pop("archived_stages")]
    return {**told, "stages": {each["key"]: each for each in stages}}


@given(pipelines)
def test_the_log_compares_what_the_api_shows(pipeline: Pipeline) -> None:
    told_apart = {stage.key: stage for stage in (*pipeline.stages, FIRST)}
    pipeline = replace(pipeline, stages=tuple(told_apart.values()))
    assert document_of(pipeline) == shown(pipeline)


def test_a_changed_threshold_is_told_by_its_stage_and_nothing_else() -> None:
    (old,) = [begin(t.definition("mine"), ID, NOW) for t in templates("en") if t.key == "b2b"]
    asked = definition_of(old)
    stages = tuple(
        replace(stage, idle=replace(stage.idle, after=Period(days=10)))
        if stage.key == "negotiation"
        else stage
        for stage in asked.stages
    )
    new = revise(old, replace(asked, stages=stages), NOW + timedelta(days=1), {})
    assert differing(document_of(old), document_of(new)) == (
        {"/revision": 1, "/stages/negotiation/idle_after": "P5D"},
        {"/revision": 2, "/stages/negotiation/idle_after": "P10D"},
    )


def test_every_action_stands_in_the_documentation() -> None:
    written = DOCS.read_text()
    for action in Action:
        assert f"| `{action.value}` |" in written, action
    rows = [line.split("`")[1] for line in written.splitlines() if line.startswith("| `")]
    assert [row for row in rows if "." in row] == [action.value for action in Action]
