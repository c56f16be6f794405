"""The built-in templates: valid, complete, and the same in both languages."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import pytest

from app.domain.definition import begin, breaches, warnings
from app.domain.pipeline import Flow, Guidance
from app.domain.templates import Template, templates

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID("01980000-0000-7000-8000-000000000001")
PAIRS = list(zip(templates("en"), templates("zh"), strict=True))
EVERY = [each for pair in PAIRS for each in pair]


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


@pytest.mark.parametrize("template", EVERY, ids=lambda each: f"{each.key} {each.name}")
def test_a_template_makes_a_pipeline_without_a_warning(template: Template) -> None:
    definition = template.definition("mine")
    assert list(breaches(definition)) == []
    pipeline = begin(definition, ID, NOW)
    assert list(warnings(pipeline)) == []
    assert (pipeline.key, pipeline.name) == ("mine", template.name)


@pytest.mark.parametrize("template", EVERY, ids=lambda each: f"{each.key} {each.name}")
def test_every_open_stage_says_what_to_do_and_when_it_is_late(template: Template) -> None:
    path = begin(template.definition("mine"), ID, NOW).path
    assert len(path) >= 5
    for stage in (each for each in template.stages if each.is_open):
        assert stage.guidance is not None
        assert stage.guidance.goal
        assert stage.guidance.key_actions
        assert stage.guidance.assessment_criteria
        assert stage.target_dwell is not None
        assert stage.follow_up_every is not None
        patience, less = stage.idle.threshold(None), stage.idle.threshold("high")
        assert patience is not None
        assert less is not None
        assert less.length < patience.length
        assert stage.follow_up_every.length <= patience.length
    for before, after in pairwise(path):
        assert before.probability is not None
        assert after.probability is not None
        assert before.probability < after.probability
        assert before.target_conversion is not None


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=lambda each: each.key)
def test_both_languages_say_the_same_of_the_same_stages(
    english: Template, chinese: Template
) -> None:
    for one, other in zip(english.stages, chinese.stages, strict=True):
        assert is_chinese(other.name)
        assert not is_chinese(one.name)
        texts, their_texts = one.guidance or Guidance(), other.guidance or Guidance()
        assert len(texts.key_actions) == len(their_texts.key_actions)
        assert len(texts.assessment_criteria) == len(their_texts.assessment_criteria)
        assert all(map(is_chinese, their_texts.key_actions))
        assert [each.key for each in one.loss_reasons] == [each.key for each in other.loss_reasons]
        neutral = {"name": "", "guidance": None, "loss_reasons": ()}
        assert replace(one, **neutral) == replace(other, **neutral)


def test_the_four_processes_that_are_promised() -> None:
    assert [each.key for each in templates("en")] == ["classic", "b2b", "software", "executive"]
    classic, b2b, _, executive = templates("en")
    assert [each.key for each in classic.stages if each.is_open] == [
        *("awareness", "interest", "consideration", "intent", "purchase")
    ]
    assert [each.name for each in templates("zh")[1].stages if not each.loss_reasons] == [
        *("潜在客户", "初步接触", "需求确认", "报价", "谈判", "成交")
    ]
    assert b2b.flow is Flow.FREE
    assert "executive_visit" in [each.key for each in executive.stages]
