"""What pace and conversion are worth: velocity and bottlenecks."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.domain.measures.bottlenecks import Inputs
from app.http.attendance import AttendedRoute
from app.http.inquiry import CallerDep
from app.http.schemas import worth
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.series_queries import BottlenecksQuery, VelocityQuery
from app.storage.queries.worth import bottleneck_inputs, velocities

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/velocity")
async def get_velocity(
    query: Annotated[VelocityQuery, Query()], caller: CallerDep
) -> worth.Velocity:
    """How much money the pipeline brings in a day, by currency, and the four inputs."""
    async with caller.asks(query) as inquiry:
        figures = await inquiry.figures(
            velocities, worth.VelocityFigures.of, worth.VelocityGroup.of, nothing={}
        )
    return worth.Velocity(
        definition=DefinitionRef.of("velocity"),
        policy=worth.WorthPolicy(**inquiry.policy),
        **figures,
    )


@router.get("/bottlenecks")
async def get_bottlenecks(
    query: Annotated[BottlenecksQuery, Query()], caller: CallerDep
) -> worth.Bottlenecks:
    """What a point of conversion, or a quartile of speed, would be worth at each stage."""
    async with caller.asks(query) as inquiry:
        figures = await inquiry.figures(
            bottleneck_inputs,
            worth.BottlenecksFigures.of,
            worth.BottlenecksGroup.of,
            nothing=Inputs(),
        )
    return worth.Bottlenecks(
        definition=DefinitionRef.of("bottlenecks"),
        policy=worth.WorthPolicy(**inquiry.policy),
        **figures,
    )
