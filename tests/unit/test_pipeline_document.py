"""A revision is read back exactly as it was saved."""

import json
from datetime import UTC
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

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
from app.storage.pipeline_document import decode, encode

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
    moves=st.frozensets(st.tuples(texts, texts), max_size=4),
    archived_at=st.none() | instants,
)


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
