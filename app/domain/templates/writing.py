"""How the built-in templates are written down: every text in English and Chinese, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

from app.domain.definition import UNPLACED, Definition
from app.domain.period import Period
from app.domain.pipeline import (
    FieldRequirement,
    Flow,
    Guidance,
    IdleClock,
    IdleRule,
    LossReason,
    Stage,
    StageKind,
)

Language = Literal["en", "zh"]
Text = tuple[str, str]
"""The same in English and in Chinese."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A pipeline to begin with, in one language."""

    key: str
    name: str
    description: str
    flow: Flow
    stages: tuple[Stage, ...]

    def definition(self, key: str) -> Definition:
        """The definition of a pipeline of that key, made from the template as it is."""
        return Definition(
            key=key,
            name=self.name,
            flow=self.flow,
            stages=self.stages,
            description=self.description,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An open stage of a template. Lengths are ISO 8601, shares decimal strings.

    `idle_after` is measured by inactivity, because a deal in talks is not idle, however long it
    has been in its stage; `idle_high` is the shorter one for deals of the priority `high`.
    """

    key: str
    name: Text
    probability: str
    idle_after: str
    idle_high: str
    follow_up_every: str
    target_dwell: str
    goal: Text
    actions: Sequence[Text]
    criteria: Sequence[Text]
    target_conversion: str | None = None
    requires: Sequence[str] = ()
    off_path: bool = False

    def stage(self, language: Language) -> Stage:
        return Stage(
            key=self.key,
            name=said(self.name, language),
            kind=StageKind.OPEN,
            slot=UNPLACED,
            off_path=self.off_path,
            probability=Decimal(self.probability),
            idle=IdleRule(
                clock=IdleClock.INACTIVITY,
                after=Period.parse(self.idle_after),
                after_by_priority=MappingProxyType({"high": Period.parse(self.idle_high)}),
            ),
            follow_up_every=Period.parse(self.follow_up_every),
            target_conversion=None
            if self.target_conversion is None
            else Decimal(self.target_conversion),
            target_dwell=Period.parse(self.target_dwell),
            guidance=Guidance(
                goal=said(self.goal, language),
                key_actions=tuple(said(action, language) for action in self.actions),
                assessment_criteria=tuple(said(sign, language) for sign in self.criteria),
            ),
            entry_requirements=tuple(FieldRequirement(path) for path in self.requires),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A template in both languages."""

    key: str
    name: Text
    description: Text
    flow: Flow
    steps: Sequence[Step]
    won: Text
    lost: Text
    loss_reasons: Sequence[tuple[str, Text]]

    def template(self, language: Language) -> Template:
        won = Stage(key="won", name=said(self.won, language), kind=StageKind.WON, slot=UNPLACED)
        lost = Stage(
            key="lost",
            name=said(self.lost, language),
            kind=StageKind.LOST,
            slot=UNPLACED,
            loss_reasons=tuple(
                LossReason(key, said(name, language)) for key, name in self.loss_reasons
            ),
        )
        return Template(
            key=self.key,
            name=said(self.name, language),
            description=said(self.description, language),
            flow=self.flow,
            stages=(*(step.stage(language) for step in self.steps), won, lost),
        )


def said(text: Text, language: Language) -> str:
    return text[0] if language == "en" else text[1]


PRICE = ("price", ("Price", "价格"))
COMPETITOR = ("competitor", ("A competitor won", "输给竞争对手"))
NO_BUDGET = ("no_budget", ("No budget", "没有预算"))
NO_NEED = ("no_need", ("No need after all", "没有实际需求"))
NO_DECISION = ("no_decision", ("Nothing was decided", "迟迟未决"))
TIMING = ("timing", ("Not now", "时机不合适"))
PRODUCT_GAP = ("product_gap", ("Something is missing in the offer", "产品不满足要求"))
SILENCE = ("silence", ("The buyer went silent", "客户失联"))
