"""What those who run the service ask: is it alive, is it ready, how is it doing."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.domain.access import Operator
from app.domain.errors import Unavailable
from app.http.deps import DatabaseDep, OperatorAllowed
from app.http.schemas.system import Health

router = APIRouter(tags=["system"])


@router.get("/livez")
async def livez() -> Health:
    """Whether the process answers at all."""
    return Health(status="alive")


@router.get("/readyz")
async def readyz(request: Request, database: DatabaseDep) -> Health:
    """Whether requests can be served: 503 while the database is away or the service leaves."""
    if request.app.state.leaving:
        raise Unavailable("The service is shutting down.")
    async with database.read(None) as connection:
        await connection.exec_driver_sql("SELECT 1")
    return Health(status="ready")


@router.get("/metrics", response_class=PlainTextResponse)
async def prometheus_metrics(
    request: Request, _: Annotated[Operator, Depends(OperatorAllowed())]
) -> Response:
    """Figures of this worker in the Prometheus text format; they are of all workspaces together."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
