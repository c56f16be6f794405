"""Figures: how deals move through a pipeline, exactly as docs/metrics.md defines them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from app.domain import funnel
from app.domain.measures.closings import DealPopulation, WinRate
from app.http.inquiry import CallerDep
from app.http.schemas import funnel as stages
from app.http.schemas import outcomes
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.metric_queries import (
    ClosingsQuery,
    CycleTimeQuery,
    FunnelQuery,
    SnapshotQuery,
    TimeInStageQuery,
)
from app.http.schemas.metrics import (
    ClosingsPolicy,
    FunnelPolicy,
    SnapshotPolicy,
    TimeInStagePolicy,
)
from app.http.strictness import StrictRoute
from app.storage.queries import closings, snapshot, stage_time
from app.storage.queries import funnel as funnels

router = APIRouter(
    route_class=StrictRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/funnel")
async def get_funnel(query: Annotated[FunnelQuery, Query()], caller: CallerDep) -> stages.Funnel:
    """How far the deals opened in the period have come: reached, entered, stopped, converted."""
    async with caller.asks(query) as inquiry:
        ranking = inquiry.ranking
        count = partial(funnels.ranks, skip=query.skip, reentry=query.reentry)
        whole = await inquiry.whole(count)
        groups = await inquiry.groups(count)
    return stages.Funnel(
        definition=DefinitionRef.of("funnel"),
        policy=FunnelPolicy(
            **inquiry.policy, basis=query.basis, skip=query.skip, reentry=query.reentry
        ),
        total=stages.FunnelFigures.of(whole or funnel.measure(ranking, ()), ranking),
        groups=groups
        and [stages.FunnelGroup.of(ranks, ranking, value=value) for value, ranks in groups],
    )


@router.get("/time-in-stage")
async def get_time_in_stage(
    query: Annotated[TimeInStageQuery, Query()], caller: CallerDep
) -> outcomes.TimeInStage:
    """How long visits of the open stages lasted, and how old those under way are."""
    async with caller.asks(query) as inquiry:
        ranking = inquiry.ranking
        count = partial(stage_time.stage_times, population=query.population, reentry=query.reentry)
        whole = await inquiry.whole(count)
        groups = await inquiry.groups(count)
    return outcomes.TimeInStage(
        definition=DefinitionRef.of("time-in-stage"),
        policy=TimeInStagePolicy(
            **inquiry.policy, population=query.population, reentry=query.reentry
        ),
        total=outcomes.TimeInStageFigures.of(whole or {}, ranking),
        groups=groups
        and [outcomes.TimeInStageGroup.of(times, ranking, value=value) for value, times in groups],
    )


@router.get("/cycle-time")
async def get_cycle_time(
    query: Annotated[CycleTimeQuery, Query()], caller: CallerDep
) -> outcomes.CycleTime:
    """How long won and lost deals took, from their opening to their close."""
    async with caller.asks(query) as inquiry:
        count = partial(closings.cycle_times, population=query.population)
        whole = await inquiry.whole(count)
        groups = await inquiry.groups(count)
    return outcomes.CycleTime(
        definition=DefinitionRef.of("cycle-time"),
        policy=ClosingsPolicy(**inquiry.policy, population=query.population),
        total=outcomes.CycleTimeFigures.of(whole or {}),
        groups=groups
        and [outcomes.CycleTimeGroup.of(found, value=value) for value, found in groups],
    )


@router.get("/win-rate")
async def get_win_rate(
    query: Annotated[ClosingsQuery, Query()], caller: CallerDep
) -> outcomes.WinRate:
    """How many of the deals closed in the period were won, by count and by amount."""
    async with caller.asks(query) as inquiry:
        whole = await inquiry.whole(closings.win_rates)
        groups = await inquiry.groups(closings.win_rates)
    return outcomes.WinRate(
        definition=DefinitionRef.of("win-rate"),
        policy=ClosingsPolicy(**inquiry.policy, population=DealPopulation.CLOSED),
        total=outcomes.WinRateFigures.of(whole or WinRate()),
        groups=groups and [outcomes.WinRateGroup.of(found, value=value) for value, found in groups],
    )


@router.get("/loss-reasons")
async def get_loss_reasons(
    query: Annotated[ClosingsQuery, Query()], caller: CallerDep
) -> outcomes.LossReasons:
    """Why deals were lost in the period, and from which stages."""
    async with caller.asks(query) as inquiry:
        ranking = inquiry.ranking
        whole = await inquiry.whole(closings.losses)
        groups = await inquiry.groups(closings.losses)
    return outcomes.LossReasons(
        definition=DefinitionRef.of("loss-reasons"),
        policy=ClosingsPolicy(**inquiry.policy, population=DealPopulation.CLOSED),
        total=outcomes.LossReasonFigures.of(whole or [], ranking),
        groups=groups
        and [outcomes.LossReasonGroup.of(found, ranking, value=value) for value, found in groups],
    )


@router.get("/snapshot")
async def get_snapshot(
    query: Annotated[SnapshotQuery, Query()], caller: CallerDep
) -> stages.Snapshot:
    """The open deals at one instant: where they stand, how old they are there, who is idle."""
    async with caller.asks(query) as inquiry:
        ranking = inquiry.ranking
        ends = await snapshot.bucket_ends(inquiry.connection, inquiry.asked)
        count = partial(snapshot.standings, ends=ends)
        whole = await inquiry.whole(count)
        groups = await inquiry.groups(count)
    return stages.Snapshot(
        definition=DefinitionRef.of("snapshot"),
        policy=SnapshotPolicy(
            **{name: said for name, said in inquiry.policy.items() if name not in ("from", "to")}
        ),
        total=stages.SnapshotFigures.of(whole or {}, ranking),
        groups=groups
        and [stages.SnapshotGroup.of(found, ranking, value=value) for value, found in groups],
    )
