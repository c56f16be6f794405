"""Time in stage and what closed deals came to, as callers see them."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Self

from pydantic import Field

from app.domain.durations import NOTHING, Summary
from app.domain.intervals import Proportion
from app.domain.measures import closings, stage_time
from app.domain.measures.closings import Losses, Outcome
from app.domain.measures.ranking import Ranking
from app.domain.measures.sums import total
from app.domain.pipeline import StageKind
from app.http.schemas.common import MoneySum, Rate, Response
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.metrics import (
    DURATIONS,
    DWELL_BENCHMARK,
    ESTIMATE,
    EUROS,
    POLICY,
    SHARE,
    ClosingsPolicy,
    Durations,
    DwellBenchmark,
    Estimate,
    Share,
    TimeInStagePolicy,
    example,
    in_order,
    naming,
    sums,
)

_STAGE_TIME: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "rank": 2,
    "off_path": False,
    "completed": DURATIONS,
    "open": DURATIONS,
    "survival": ESTIMATE,
    "benchmark": DWELL_BENCHMARK,
}
_STAGE_TIMES: Final[dict[str, Any]] = {"stages": [_STAGE_TIME]}
_CYCLES: Final[dict[str, Any]] = {"won": DURATIONS, "lost": DURATIONS, "all": DURATIONS}
_BY_AMOUNT: Final[dict[str, Any]] = {"won": EUROS[0], "lost": EUROS[0], "rate": 0.5}
_WINS: Final[dict[str, Any]] = {"won": 41, "lost": 39, "rate": SHARE, "by_amount": [_BY_AMOUNT]}
_REASON: Final[dict[str, Any]] = {
    "reason": "price",
    "name": "Too expensive",
    "deals": 41,
    "amount": EUROS,
    "share": SHARE,
}
_LOSS_STAGE: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "deals": 80,
    "amount": EUROS,
    "share": SHARE,
    "reasons": [_REASON],
}
_LOSSES: Final[dict[str, Any]] = {
    "deals": 80,
    "amount": EUROS,
    "reasons": [_REASON],
    "stages": [_LOSS_STAGE],
}
_OF_CLOSED: Final[dict[str, Any]] = {"policy": {**POLICY, "population": "closed"}, "groups": None}


class StageTime(Response):
    """How long visits of a stage lasted, and how old those still open are."""

    model_config = example(_STAGE_TIME)

    key: str
    name: str
    rank: int | None = Field(description="Its place in the order; null where it has none.")
    off_path: bool
    completed: Durations = Field(description="Visits that had ended.")
    open: Durations = Field(description="Visits under way at `as_of`: their age.")
    survival: Estimate = Field(
        description="Both together (Kaplan-Meier): leaving out the open visits makes slow stages"
        " look fast."
    )
    benchmark: DwellBenchmark | None = Field(description="Null without a `target_dwell`.")


class TimeInStageFigures(Response):
    """Time in the open stages, stage by stage."""

    model_config = example(_STAGE_TIMES)

    stages: list[StageTime]

    @classmethod
    def of(cls, times: Mapping[int, stage_time.StageTime], ranking: Ranking, **more: Any) -> Self:
        none = stage_time.StageTime()
        return cls(
            stages=[
                StageTime(
                    **naming(stage, ranking),
                    completed=Durations.of(times.get(stage.slot, none).completed),
                    open=Durations.of(times.get(stage.slot, none).open),
                    survival=Estimate.of(times.get(stage.slot, none).survival),
                    benchmark=DwellBenchmark.of(stage, times.get(stage.slot, none).completed.p50),
                )
                for stage in ranking.listed(times)
            ],
            **more,
        )


class TimeInStageGroup(TimeInStageFigures):
    """Time in stage of the visits that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_STAGE_TIMES})

    value: str | None


class TimeInStage(Response):
    """How long deals stay in each open stage."""

    model_config = example(
        {
            "definition": defined("time-in-stage"),
            "policy": {**POLICY, "population": "entered", "reentry": "every"},
            "total": _STAGE_TIMES,
            "groups": None,
        }
    )

    definition: DefinitionRef
    policy: TimeInStagePolicy
    total: TimeInStageFigures
    groups: Iterable[TimeInStageGroup] | None = Field(description="Null without `group_by`.")


class CycleTimeFigures(Response):
    """From the first opening to the last close, without time spent closed, by outcome."""

    model_config = example(_CYCLES)

    won: Durations
    lost: Durations
    all: Durations

    @classmethod
    def of(cls, found: Mapping[Outcome, Summary], _ranking: Ranking, **more: Any) -> Self:
        lengths = {outcome.value: Durations.of(found.get(outcome, NOTHING)) for outcome in Outcome}
        return cls(**lengths, **more)


class CycleTimeGroup(CycleTimeFigures):
    """The cycle time of the deals that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_CYCLES})

    value: str | None


class CycleTime(Response):
    """How long closed deals took."""

    model_config = example({"definition": defined("cycle-time"), **_OF_CLOSED, "total": _CYCLES})

    definition: DefinitionRef
    policy: ClosingsPolicy
    total: CycleTimeFigures
    groups: Iterable[CycleTimeGroup] | None = Field(description="Null without `group_by`.")


class WinRateByAmount(Response):
    """won / (won + lost) of what the deals were worth, in one currency."""

    model_config = example(_BY_AMOUNT)

    won: MoneySum
    lost: MoneySum
    rate: Rate | None = Field(description="Null where both are zero.")


class WinRateFigures(Response):
    """won / (won + lost), by count and by amount."""

    model_config = example(_WINS)

    won: int
    lost: int
    rate: Share
    by_amount: list[WinRateByAmount]

    @classmethod
    def of(cls, found: closings.WinRate, _ranking: Ranking, **more: Any) -> Self:
        return cls(
            won=found.won.deals,
            lost=found.lost.deals,
            rate=Share.of_(found.by_count),
            by_amount=[
                _by_amount(
                    currency,
                    found.won.amounts.get(currency, Decimal(0)),
                    found.lost.amounts.get(currency, Decimal(0)),
                )
                for currency in sorted({*found.won.amounts, *found.lost.amounts})
            ],
            **more,
        )


class WinRateGroup(WinRateFigures):
    """The win rate of the deals that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_WINS})

    value: str | None


class WinRate(Response):
    """How many of the deals closed in a period were won."""

    model_config = example({"definition": defined("win-rate"), **_OF_CLOSED, "total": _WINS})

    definition: DefinitionRef
    policy: ClosingsPolicy
    total: WinRateFigures
    groups: Iterable[WinRateGroup] | None = Field(description="Null without `group_by`.")


class LossesByReason(Response):
    """Deals lost for one reason, and their share of the losses that they are listed among."""

    model_config = example(_REASON)

    reason: str | None = Field(description="The key of the reason.")
    name: str | None = Field(description="What the definition calls it; null: it no longer does.")
    deals: int
    amount: list[MoneySum]
    share: Share


class LossesByStage(Response):
    """Deals lost from one stage, and why; their share is of all losses."""

    model_config = example(_LOSS_STAGE)

    key: str | None = Field(description="Null: deals that were opened as lost.")
    name: str | None
    deals: int
    amount: list[MoneySum]
    share: Share
    reasons: list[LossesByReason]


class LossReasonFigures(Response):
    """Why deals were lost: in all, and by the stage in which they stood before."""

    model_config = example(_LOSSES)

    deals: int
    amount: list[MoneySum]
    reasons: list[LossesByReason]
    stages: list[LossesByStage]

    @classmethod
    def of(cls, found: Sequence[Losses], ranking: Ranking, **more: Any) -> Self:
        whole = total(loss.count for loss in found)
        stages: dict[int | None, list[Losses]] = {}
        for loss in found:
            stages.setdefault(loss.from_slot, []).append(loss)
        order = {stage.slot: place for place, stage in enumerate(ranking.latest.stages)}
        return cls(
            deals=whole.deals,
            amount=sums(whole.amounts),
            reasons=_reasons(found, ranking),
            stages=[
                _loss_stage(slot, stages[slot], whole.deals, ranking)
                for slot in sorted(stages, key=lambda slot: -1 if slot is None else order[slot])
            ],
            **more,
        )


class LossReasonGroup(LossReasonFigures):
    """Why the deals that bear one value were lost; null: those that bear none."""

    model_config = example({"value": "mia", **_LOSSES})

    value: str | None


class LossReasons(Response):
    """Why deals were lost in a period."""

    model_config = example({"definition": defined("loss-reasons"), **_OF_CLOSED, "total": _LOSSES})

    definition: DefinitionRef
    policy: ClosingsPolicy
    total: LossReasonFigures
    groups: Iterable[LossReasonGroup] | None = Field(description="Null without `group_by`.")


def _by_amount(currency: str, won: Decimal, lost: Decimal) -> WinRateByAmount:
    closed = won + lost
    return WinRateByAmount(
        won=MoneySum.of(won, currency),
        lost=MoneySum.of(lost, currency),
        rate=float(won / closed) if closed else None,
    )


def _loss_stage(
    slot: int | None, losses: Sequence[Losses], of: int, ranking: Ranking
) -> LossesByStage:
    stage = None if slot is None else ranking.stage(slot)
    count = total(loss.count for loss in losses)
    return LossesByStage(
        key=stage and stage.key,
        name=stage and stage.name,
        deals=count.deals,
        amount=sums(count.amounts),
        share=Share.of_(Proportion(count.deals, of)),
        reasons=_reasons(losses, ranking),
    )


def _reasons(losses: Sequence[Losses], ranking: Ranking) -> list[LossesByReason]:
    """The losses by reason, in the order of their keys."""
    lost = [ranking.stage(slot) for slot in ranking.slots(StageKind.LOST)]
    names = {reason.key: reason.name for stage in lost for reason in stage.loss_reasons}
    of = sum(loss.count.deals for loss in losses)
    found = []
    for reason in in_order({loss.reason for loss in losses}):
        count = total(loss.count for loss in losses if loss.reason == reason)
        found.append(
            LossesByReason(
                reason=reason,
                name=names.get(reason or ""),
                deals=count.deals,
                amount=sums(count.amounts),
                share=Share.of_(Proportion(count.deals, of)),
            )
        )
    return found
