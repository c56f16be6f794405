"""A revision is read back exactly as it was saved."""

import json
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.domain.business_calendar import BusinessCalendar
from app.domain.period import Period
from app.domain.pipeline import (
    FieldRequirement,
    Flow,
    Guidance,
    IdleClock,
    IdleRule,
    LossReason,
    Pipeline,
    Stage,
    StageKind,
)
from app.domain.templates.calendars import TEMPLATES
from app.storage.pipeline_document import decode, encode
from tests.factories import OFFICE

ID = UUID("01980000-0000-7000-8000-000000000001")

# What the API lets pass: neither U+0000 nor lone surrogates.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
instants = st.datetimes(timezones=st.just(UTC))
periods = st.one_of(
    st.builds(Period, weeks=st.integers(0, 99)),
    st.builds(Period, days=st.integers(0, 999), seconds=st.integers(0, 999_999)),
)
shares = st.decimals(0, 1, places=4)
stages = st.builds(
    Stage,
    key=texts,
    name=texts,
    kind=st.sampled_from(StageKind),
    slot=st.integers(1, 60),
    off_path=st.booleans(),
    description=st.none() | texts,
    probability=st.none() | shares,
    idle=st.builds(
        IdleRule,
        clock=st.sampled_from(IdleClock),
        after=st.none() | periods,
        after_by_priority=st.dictionaries(texts, st.none() | periods).map(MappingProxyType),
        critical_after=st.none() | periods,
        max_pause=st.none() | periods,
        elapsed=st.booleans(),
        inherits=st.booleans(),
        qualifying=st.lists(texts).map(tuple),
        since=st.none() | instants,
    ),
    follow_up_every=st.none() | periods,
    target_conversion=st.none() | shares,
    target_dwell=st.none() | periods,
    guidance=st.none()
    | st.builds(
        Guidance,
        goal=st.none() | texts,
        key_actions=st.lists(texts).map(tuple),
        assessment_criteria=st.lists(texts).map(tuple),
    ),
    entry_requirements=st.lists(st.builds(FieldRequirement, texts), max_size=3).map(tuple),
    loss_reasons=st.lists(st.builds(LossReason, texts, texts), max_size=3).map(tuple),
    archived_at=st.none() | instants,
    succeeded_by=st.lists(texts, max_size=3).map(tuple),
    preceded_by=st.none() | texts,
)
calendars = st.sampled_from(
    [None, OFFICE, BusinessCalendar(timezone="Asia/Dubai", hours=TEMPLATES[2].hours)]
)


def consistent(pipeline: Pipeline) -> Pipeline:
    """With its calendar in the rules that count in it, as a revision has it."""

    def counted(stage: Stage) -> Stage:
        calendar = None if stage.idle.elapsed else pipeline.calendar
        return replace(stage, idle=replace(stage.idle, calendar=calendar))

    return replace(pipeline, stages=tuple(counted(stage) for stage in pipeline.stages))


pipelines = st.builds(
    Pipeline,
    pipeline_id=st.just(ID),
    key=texts,
    name=texts,
    revision=st.integers(1, 2**31 - 1),
    flow=st.sampled_from(Flow),
    stages=st.lists(stages, max_size=4).map(tuple),
    description=st.none() | texts,
    timezone=texts,
    calendar=calendars,
    qualifying=st.lists(texts, max_size=3).map(tuple),
    moves=st.frozensets(st.tuples(texts, texts), max_size=4),
    archived_at=st.none() | instants,
).map(consistent)


@given(pipelines)
def test_what_is_saved_is_what_is_read(pipeline: Pipeline) -> None:
    document = json.loads(json.dumps(encode(pipeline)))
    assert decode(ID, pipeline.revision, document) == pipeline


def test_a_share_keeps_its_digits_and_a_length_its_spelling() -> None:
    stage = Stage(
        key="a",
        name="A",
        kind=StageKind.OPEN,
        slot=1,
        probability=Decimal("0.10"),
        target_dwell=Period(seconds=86_400),
    )
    pipeline = Pipeline(
        pipeline_id=ID, key="p", name="P", revision=1, flow=Flow.FREE, stages=(stage,)
    )
    (document,) = encode(pipeline)["stages"]
    assert (document["probability"], document["target_dwell"]) == ("0.10", "PT24H")


def test_a_revision_saved_before_there_were_calendars_is_read_as_it_was_meant() -> None:
    stage = Stage(
        key="a", name="A", kind=StageKind.OPEN, slot=1, idle=IdleRule(after=Period(days=7))
    )
    pipeline = Pipeline(
        pipeline_id=ID, key="p", name="P", revision=1, flow=Flow.FREE, stages=(stage,)
    )
    document = encode(pipeline)
    for name in ("calendar", "qualifying"):
        del document[name]
    for name in ("critical_after", "max_pause", "elapsed", "inherits"):
        del document["stages"][0]["idle"][name]
    assert decode(ID, 1, document) == pipeline
