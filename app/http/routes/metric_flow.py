"""Figures about what moved in a period: flow, matrix and cumulative flow."""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query

from app.domain.measures import cumulative_flow
from app.http.attendance import AttendedRoute
from app.http.inquiry import MOST_GROUPS, CallerDep
from app.http.schemas import cumulative_flow as cumulative
from app.http.schemas import flow
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.metric_queries import CumulativeFlowQuery, FlowQuery, MatrixQuery
from app.storage.queries import cumulative_flow as cumulative_flows
from app.storage.queries import flow as flows

MOST_BUCKETS_IN_ALL: Final = 20_000
"""Groups times buckets."""

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/flow")
async def get_flow(query: Annotated[FlowQuery, Query()], caller: CallerDep) -> flow.Flow:
    """What came into each stage in the period, and what went out of it and where to."""
    async with caller.asks(query) as inquiry:
        figures = await inquiry.figures(
            flows.stage_flows, flow.FlowFigures.of, flow.FlowGroup.of, nothing={}
        )
    return flow.Flow(
        definition=DefinitionRef.of("flow"),
        policy=flow.FlowPolicy(**inquiry.policy, basis=query.basis),
        **figures,
    )


@router.get("/matrix")
async def get_matrix(query: Annotated[MatrixQuery, Query()], caller: CallerDep) -> flow.Matrix:
    """From which stage deals moved to which in the period, how often, and after how long."""
    async with caller.asks(query) as inquiry:
        figures = await inquiry.figures(
            flows.moves, flow.MatrixFigures.of, flow.MatrixGroup.of, nothing={}
        )
    return flow.Matrix(
        definition=DefinitionRef.of("matrix"),
        policy=flow.FlowPolicy(**inquiry.policy, basis=query.basis),
        **figures,
    )


@router.get("/cumulative-flow")
async def get_cumulative_flow(
    query: Annotated[CumulativeFlowQuery, Query()], caller: CallerDep
) -> cumulative.CumulativeFlow:
    """Arrivals, departures and work in progress by day, week, month or quarter; Little's law."""
    async with caller.asks(query) as inquiry:
        bounds = cumulative_flow.boundaries(inquiry.asked.selection, query.by)
        count = partial(cumulative_flows.cumulative_flows, by=query.by)
        buckets = len(bounds) - 1
        most, remedy = MOST_GROUPS, "filter first"
        if MOST_GROUPS * buckets > MOST_BUCKETS_IN_ALL:
            most = MOST_BUCKETS_IN_ALL // buckets
            remedy = f"filter first, or ask for fewer buckets than {buckets}"
        figures = await inquiry.figures(
            count,
            cumulative.CumulativeFlowFigures.of,
            cumulative.CumulativeFlowGroup.of,
            nothing=cumulative_flow.nothing(bounds),
            most=most,
            remedy=remedy,
        )
    return cumulative.CumulativeFlow(
        definition=DefinitionRef.of("cumulative-flow"),
        policy=cumulative.CumulativeFlowPolicy(**inquiry.policy, by=query.by),
        **figures,
    )
