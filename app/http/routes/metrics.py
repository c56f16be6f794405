"""Figures: how deals move through a pipeline, exactly as docs/metrics.md defines them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from app.domain import funnel
from app.domain.measures.closings import DealPopulation, WinRate
from app.http.attendance import AttendedRoute
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
from app.storage.queries import closings, snapshot, stage_time
from app.storage.queries import funnel as funnels

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/funnel")
async def get_funnel(query: Annotated[FunnelQuery, Query()], caller: CallerDep) -> stages.Funnel:
    """How far the deals opened in the period have come: reached, entered, stopped, converted."""
    async with caller.asks(query) as inquiry:
        count = partial(funnels.ranks, skip=query.skip, reentry=query.reentry)
        nothing = funnel.measure(inquiry.ranking, ())
        figures = await inquiry.figures(
            count, stages.FunnelFigures.of, stages.FunnelGroup.of, nothing=nothing
        )
    return stages.Funnel(
        definition=DefinitionRef.of("funnel"),
        policy=FunnelPolicy(
            **inquiry.policy, basis=query.basis, skip=query.skip, reentry=query.reentry
        ),
        **figures,
    )


@router.get("/time-in-stage")
async def get_time_in_stage(
    query: Annotated[TimeInStageQuery, Query()], caller: CallerDep
) -> outcomes.TimeInStage:
    """How long visits of the open stages lasted, and how old those under way are."""
    async with caller.asks(query) as inquiry:
        count = partial(stage_time.stage_times, population=query.population, reentry=query.reentry)
        figures = await inquiry.figures(
            count, outcomes.TimeInStageFigures.of, outcomes.TimeInStageGroup.of, nothing={}
        )
    return outcomes.TimeInStage(
        definition=DefinitionRef.of("time-in-stage"),
        policy=TimeInStagePolicy(
            **inquiry.policy, population=query.population, reentry=query.reentry
        ),
        **figures,
    )


@router.get("/cycle-time")
async def get_cycle_time(
    query: Annotated[CycleTimeQuery, Query()], caller: CallerDep
) -> outcomes.CycleTime:
    """How long won and lost deals took, from their opening to their close."""
    async with caller.asks(query) as inquiry:
        count = partial(closings.cycle_times, population=query.population)
        figures = await inquiry.figures(
            count, outcomes.CycleTimeFigures.of, outcomes.CycleTimeGroup.of, nothing={}
        )
    return outcomes.CycleTime(
        definition=DefinitionRef.of("cycle-time"),
        policy=ClosingsPolicy(**inquiry.policy, population=query.population),
        **figures,
    )


@router.get("/win-rate")
async def get_win_rate(
    query: Annotated[ClosingsQuery, Query()], caller: CallerDep
) -> outcomes.WinRate:
    """How many of the deals closed in the period were won, by count and by amount."""
    async with caller.asks(query) as inquiry:
        figures = await inquiry.figures(
            closings.win_rates,
            outcomes.WinRateFigures.of,
            outcomes.WinRateGroup.of,
            nothing=WinRate(),
        )
    return outcomes.WinRate(
        definition=DefinitionRef.of("win-rate"),
        policy=ClosingsPolicy(**inquiry.policy, population=DealPopulation.CLOSED),
        **figures,
    )


@router.get("/loss-reasons")
async def get_loss_reasons(
    query: Annotated[ClosingsQuery, Query()], caller: CallerDep
) -> outcomes.LossReasons:
    """Why deals were lost in the period, and from which stages."""
    async with caller.asks(query) as inquiry:
        figures = await inquiry.figures(
            closings.losses, outcomes.LossReasonFigures.of, outcomes.LossReasonGroup.of, nothing=[]
        )
    return outcomes.LossReasons(
        definition=DefinitionRef.of("loss-reasons"),
        policy=ClosingsPolicy(**inquiry.policy, population=DealPopulation.CLOSED),
        **figures,
    )


@router.get("/snapshot")
async def get_snapshot(
    query: Annotated[SnapshotQuery, Query()], caller: CallerDep
) -> stages.Snapshot:
    """The open deals at one instant: where they stand, how old they are there, who is idle."""
    async with caller.asks(query) as inquiry:
        ends = await snapshot.bucket_ends(inquiry.connection, inquiry.asked)
        count = partial(snapshot.standings, ends=ends)
        figures = await inquiry.figures(
            count, stages.SnapshotFigures.of, stages.SnapshotGroup.of, nothing={}
        )
    return stages.Snapshot(
        definition=DefinitionRef.of("snapshot"),
        policy=SnapshotPolicy(
            **{name: said for name, said in inquiry.policy.items() if name not in ("from", "to")}
        ),
        **figures,
    )
