"""Curves of the pipeline: how long deals stay in a stage, how soon they are won."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.domain.errors import Breach, Invalid
from app.domain.measures.curves import cycle_curve, stage_curve
from app.domain.measures.ranking import Ranking
from app.domain.measures.stage_time import VisitPopulation
from app.domain.pipeline import Stage
from app.http.attendance import AttendedRoute
from app.http.inquiry import CallerDep
from app.http.schemas.curves import (
    CycleCurvePolicy,
    CycleCurveQuery,
    CycleTimeCurve,
    StageCurvePolicy,
    StageCurveQuery,
    TimeInStageCurve,
)
from app.storage.aside import aside
from app.storage.queries.closings import lifetimes
from app.storage.queries.lengths import NONE
from app.storage.queries.stage_time import Stays, stays

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/time-in-stage/curve")
async def get_time_in_stage_curve(
    query: Annotated[StageCurveQuery, Query()], caller: CallerDep
) -> TimeInStageCurve:
    """The share of visits that last longer than so long, those under way taken into account."""
    async with caller.asks(query) as inquiry:
        stage = _open_stage(inquiry.ranking, query.stage)
        found = await stays(
            inquiry.connection,
            inquiry.asked,
            VisitPopulation.ENTERED,
            query.reentry,
            lambda these: these,
            grouped=False,
            slot=stage.slot,
        )
    these = found.get((None, stage.slot), Stays(NONE, NONE))
    policy = StageCurvePolicy(**inquiry.policy, stage=stage.key, reentry=query.reentry)
    curve = await aside(lambda: stage_curve(these.ended.tolist(), these.running.tolist()))
    return TimeInStageCurve.of(curve, stage, inquiry.ranking, policy=policy)


@router.get("/cycle-time/curve")
async def get_cycle_time_curve(
    query: Annotated[CycleCurveQuery, Query()], caller: CallerDep
) -> CycleTimeCurve:
    """The share of the deals opened in the period that were won, lost or handed off so soon."""
    async with caller.asks(query) as inquiry:
        found = await lifetimes(inquiry.connection, inquiry.asked, grouped=False)
    ended, running = found.get(None, ({}, NONE))
    curve = await aside(
        lambda: cycle_curve(
            {status: lengths.tolist() for status, lengths in ended.items()}, running.tolist()
        )
    )
    return CycleTimeCurve.of(curve, policy=CycleCurvePolicy(**inquiry.policy))


def _open_stage(ranking: Ranking, key: str) -> Stage:
    stage = next((s for s in ranking.latest.stages if s.key == key and s.is_open), None)
    if stage is None:
        detail = f"The pipeline has no open stage {key!r}."
        raise Invalid(detail, [Breach("?stage", "unknown_stage", detail)])
    return ranking.stage(stage.slot)
