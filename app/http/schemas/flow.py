"""Flow through the stages and the matrix of moves, as callers see them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field

from app.domain.intervals import Proportion
from app.domain.measures import flow
from app.domain.measures.flow import EXITS, Cell, Move
from app.domain.measures.ranking import Ranking
from app.domain.pipeline import StageKind
from app.http.schemas.common import Response
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.metrics import (
    POLICY,
    SHARE,
    PeriodPolicy,
    Share,
    example,
    naming,
    seconds,
)

_NO_INTERVAL: Final[dict[str, Any]] = {**SHARE, "low": None, "high": None}
_FLOW_POLICY: Final[dict[str, Any]] = {**POLICY, "attribution": "at_move", "basis": "period"}
_STAGE: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "rank": 2,
    "off_path": False,
    "kind": "open",
    "open_at_start": 12,
    "entries": 90,
    "exits": 80,
    "advanced": 40,
    "regressed": 4,
    "sidestepped": 2,
    "won": 1,
    "lost": 30,
    "reopened": 0,
    "handed_off": 2,
    "rearranged": 1,
    "open_at_end": 22,
    "exit_forward_rate": _NO_INTERVAL,
}
_STAGES: Final[dict[str, Any]] = {"stages": [_STAGE]}
_CELL: Final[dict[str, Any]] = {
    "from_stage": "quote",
    "to_stage": "talks",
    "count": 41,
    "share": _NO_INTERVAL,
    "median_dwell_seconds": 259200.0,
}
_CELLS: Final[dict[str, Any]] = {"cells": [_CELL]}


class FlowPolicy(PeriodPolicy):
    """The rules of what flows in and out of stages in a period."""

    model_config = example(_FLOW_POLICY)

    basis: Literal["period"]


class StageFlow(Response):
    """What came into a stage and what went out of it, in visits.

    open_at_end = open_at_start + entries - exits, and exits is the sum of its kinds.
    """

    model_config = example(_STAGE)

    key: str
    name: str
    rank: int | None = Field(description="Its place in the order; null where it has none.")
    off_path: bool
    kind: StageKind
    open_at_start: int = Field(
        description="Visits under way when the period began; 0 where `from` is null."
    )
    entries: int = Field(description="Visits entered: openings, reopenings, hand-ins among them.")
    exits: int = Field(description="Visits that ended.")
    advanced: int = Field(description="Exits to a later stage, skipping others or not.")
    regressed: int = Field(description="Exits to an earlier stage.")
    sidestepped: int = Field(description="Exits into or out of an off-path stage.")
    won: int
    lost: int
    reopened: int = Field(description="Exits from a closed stage to an open one.")
    handed_off: int = Field(description="Exits to another pipeline.")
    rearranged: int = Field(description="Exits made by archiving, splitting or merging.")
    open_at_end: int = Field(
        description="Visits under way when the period ended, as seen at `as_of`."
    )
    exit_forward_rate: Share = Field(
        description="(advanced + won) / exits; no interval, for the visits of one deal do not"
        " decide independently."
    )


class FlowFigures(Response):
    """The flow through every stage, closed ones too."""

    model_config = example(_STAGES)

    stages: list[StageFlow]

    @classmethod
    def of(cls, found: Mapping[int, flow.StageFlow], ranking: Ranking, **more: Any) -> Self:
        none = flow.StageFlow()
        return cls(
            stages=[
                StageFlow(
                    **naming(stage, ranking),
                    kind=stage.kind,
                    **_counts(found.get(stage.slot, none)),
                )
                for stage in ranking.shown(found)
            ],
            **more,
        )


class FlowGroup(FlowFigures):
    """The flow of the visits that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_STAGES})

    value: str | None


class Flow(Response):
    """What came into each stage in a period, and what went out of it."""

    model_config = example(
        {"definition": defined("flow"), "policy": _FLOW_POLICY, "total": _STAGES, "groups": None}
    )

    definition: DefinitionRef
    policy: FlowPolicy
    total: FlowFigures
    groups: Iterable[FlowGroup] | None = Field(description="Null without `group_by`.")


class MatrixCell(Response):
    """The moves from one stage to another."""

    model_config = example(_CELL)

    from_stage: str = Field(description="The key of the stage that was left.")
    to_stage: str | None = Field(
        description="The key of the stage that was entered; null: handed off."
    )
    count: int
    share: Share = Field(description="Of all exits from `from_stage` in the period.")
    median_dwell_seconds: float = Field(description="Of the stays that these moves ended.")


class MatrixFigures(Response):
    """Every pair of stages between which deals moved, in the order of the stages."""

    model_config = example(_CELLS)

    cells: list[MatrixCell]

    @classmethod
    def of(cls, found: Mapping[Move, Cell], ranking: Ranking, **more: Any) -> Self:
        exits: Counter[int] = Counter()
        for (from_slot, _), cell in found.items():
            exits[from_slot] += cell.count
        place = {stage.slot: number for number, stage in enumerate(ranking.latest.stages)}
        moves = sorted(
            found, key=lambda move: (place[move[0]], place.get(move[1] or 0, len(place)))
        )
        return cls(
            cells=[
                MatrixCell(
                    from_stage=ranking.stage(from_slot).key,
                    to_stage=None if to_slot is None else ranking.stage(to_slot).key,
                    count=found[from_slot, to_slot].count,
                    share=Share.of_(
                        Proportion(
                            found[from_slot, to_slot].count, exits[from_slot], independent=False
                        )
                    ),
                    median_dwell_seconds=seconds(found[from_slot, to_slot].median_dwell),
                )
                for from_slot, to_slot in moves
            ],
            **more,
        )


class MatrixGroup(MatrixFigures):
    """The moves that bear one value; null: those that bear none."""

    model_config = example({"value": "mia", **_CELLS})

    value: str | None


class Matrix(Response):
    """From which stage deals moved to which in a period, how often, and after how long."""

    model_config = example(
        {"definition": defined("matrix"), "policy": _FLOW_POLICY, "total": _CELLS, "groups": None}
    )

    definition: DefinitionRef
    policy: FlowPolicy
    total: MatrixFigures
    groups: Iterable[MatrixGroup] | None = Field(description="Null without `group_by`.")


def _counts(found: flow.StageFlow) -> dict[str, Any]:
    return {
        "open_at_start": found.open_at_start,
        "entries": found.entries,
        "exits": found.left,
        **{kind.value: found.exits.get(kind, 0) for kind in EXITS},
        "open_at_end": found.open_at_end,
        "exit_forward_rate": Share.of_(found.forward),
    }
