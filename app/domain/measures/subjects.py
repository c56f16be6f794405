"""Of what a figure is asked for: of which stage, of which move, of which outcome or loss reason.

What figures there are, and which of these each of them takes: `figures`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.domain.errors import Breach, Invalid
from app.domain.measures.cell_names import HANDED_OFF, NONE
from app.domain.measures.closings import Outcome
from app.domain.measures.figures import Figure, Metric, Stages
from app.domain.measures.flow import Move
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Value
from app.domain.pipeline import Stage, StageKind


@dataclass(frozen=True, slots=True)
class Subject:
    """Which figure, and of what: of a stage, of an outcome, or of all that is selected.

    Of moves, `to_stage` is where they lead; None: to another pipeline. Of losses, `from_slots` are
    the stages lost from (None among them: opened as lost) and `reasons` those that count (None
    among them: lost for none); where they are None themselves, all count.
    """

    figure: Figure
    stage: Stage | None = None
    outcome: Outcome | None = None
    to_stage: Stage | None = None
    from_slots: frozenset[int | None] | None = None
    reasons: frozenset[Value] | None = None

    @property
    def slot(self) -> int:
        """That of the stage which its figure cannot do without."""
        assert self.stage is not None, "a subject has the stage that its figure needs"
        return self.stage.slot

    @property
    def move(self) -> Move:
        """From where to where."""
        return self.slot, None if self.to_stage is None else self.to_stage.slot


def subject(
    figure: Figure,
    ranking: Ranking,
    *,
    stage: str | None = None,
    to_stage: str | None = None,
    outcome: Outcome | None = None,
    reason: str | None = None,
) -> Subject:
    """What is asked for, by the keys of it. Raises Invalid where the figure has no such part.

    Every reason can be asked for: the log may bear some that no definition knows any more.
    """
    said = {"stage": stage, "to_stage": to_stage, "outcome": outcome, "reason": reason}
    having = {"stage": _stages(figure, ranking), "to_stage": _destinations(ranking)}
    if breaches := [*_amiss(figure, said), *_unknown(figure, ranking, said, having)]:
        places = ", ".join(breach.pointer for breach in breaches)
        raise Invalid(f"See errors: {places}.", breaches)
    found = having["stage"].get(stage or "")
    lost_from = None
    if figure.metric is Metric.LOSS_REASONS and stage is not None:
        lost_from = frozenset({None if found is None else found.slot})
    return Subject(
        figure,
        stage=found,
        outcome=outcome or Outcome.ALL if "outcome" in figure.takes else None,
        to_stage=having["to_stage"].get(to_stage or ""),
        from_slots=lost_from,
        reasons=frozenset({None if reason == NONE else reason}) if reason else None,
    )


def _amiss(figure: Figure, said: Mapping[str, str | None]) -> Iterator[Breach]:
    """What was said though the figure takes it not, and what was not though it needs it."""
    for name, value in said.items():
        called = name.replace("_", " ")
        if value is not None and name not in figure.takes:
            yield Breach(f"?{name}", "unknown_field", f"{figure} takes no {called}.")
        if value is None and name in figure.needs:
            yield Breach(f"?{name}", "required", f"Of which {called} is {figure} asked for?")
    if figure is Figure.LOSSES_SHARE and said["reason"] is None and said["stage"] is None:
        yield Breach("?reason", "required", "Of which reason, or stage, is it the share?")


def _unknown(
    figure: Figure,
    ranking: Ranking,
    said: Mapping[str, str | None],
    having: Mapping[str, Mapping[str, Stage | None]],
) -> Iterator[Breach]:
    """The stages that were named though there are none such, or the figure is none of them."""
    for name, stages in having.items():
        key = said[name]
        if key is None or key in stages or name not in figure.takes:
            continue
        if key not in ranking.latest.by_key:
            yield Breach(f"?{name}", "unknown_stage", "The pipeline has no such stage.")
        else:
            detail = f"{figure} is a figure of these stages: {', '.join(stages)}."
            yield Breach(f"?{name}", "not_one_of", detail)


def _stages(figure: Figure, ranking: Ranking) -> Mapping[str, Stage | None]:
    """The stages that have such a figure, by their keys."""
    every = [stage.slot for stage in ranking.latest.stages]
    won = [ranking.stage(slot) for slot in ranking.slots(StageKind.WON)]
    match figure.stages:
        case Stages.NONE:
            found = []
        case Stages.PATH:
            found = [*ranking.path]
        case Stages.RANKED:
            found = [*ranking.path, *won]
        case Stages.WON:
            found = won
        case Stages.OPEN | Stages.OPEN_OR_ALL:
            found = [ranking.stage(slot) for slot in ranking.slots(StageKind.OPEN)]
        case Stages.EVERY | Stages.LEFT_OR_ALL:
            found = [ranking.stage(slot) for slot in every]
    nowhere = {NONE: None} if figure.stages is Stages.LEFT_OR_ALL else {}
    return {**{stage.key: stage for stage in found}, **nowhere}


def _destinations(ranking: Ranking) -> Mapping[str, Stage | None]:
    """Where a move may lead, by key."""
    found = {stage.key: ranking.stage(stage.slot) for stage in ranking.latest.stages}
    return {**found, HANDED_OFF: None}
