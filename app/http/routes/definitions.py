"""What every metric means, in English and in Chinese. The same for all; no database is asked.

The answers are made once: they change with the program only, and their ETags are their content's.
"""

from functools import cache
from hashlib import sha256
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Response

from app.domain.access import Principal, Scope
from app.domain.catalogue import CATALOGUE, definition
from app.http import conditional
from app.http.deps import Allowed
from app.http.schemas.common import Key, PageInfo
from app.http.schemas.definitions import MetricDefinition, MetricDefinitionList
from app.http.strictness import StrictRoute

router = APIRouter(route_class=StrictRoute, prefix="/v1/metric-definitions", tags=["metrics"])

_MEDIA_TYPE: Final = "application/json"

Reader = Annotated[Principal, Depends(Allowed(Scope.METRICS_READ))]


@router.get("", response_model=MetricDefinitionList)
async def list_metric_definitions(
    _: Reader, if_none_match: conditional.IfNoneMatch = None
) -> Response:
    """What each figure of each metric is: name, formula, unit, population and policy."""
    return _sent(_all(), if_none_match)


@router.get("/{metric}", response_model=MetricDefinition)
async def get_metric_definition(
    metric: Annotated[Key, Path(description="A metric, like `funnel`.")],
    _: Reader,
    if_none_match: conditional.IfNoneMatch = None,
) -> Response:
    """What each figure of one metric is."""
    return _sent(_one(definition(metric).id), if_none_match)


@cache
def _all() -> bytes:
    items = [MetricDefinition.of(metric) for metric in CATALOGUE]
    listed = MetricDefinitionList(items=items, page=PageInfo(next_cursor=None))
    return listed.model_dump_json().encode()


@cache
def _one(metric: str) -> bytes:
    return MetricDefinition.of(definition(metric)).model_dump_json().encode()


def _sent(body: bytes, if_none_match: str | None) -> Response:
    response = Response(body, media_type=_MEDIA_TYPE)
    conditional.offer(response, conditional.opaque(sha256(body).hexdigest()[:32]), if_none_match)
    return response
