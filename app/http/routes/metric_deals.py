"""Counts opened: the deals or visits behind each count of an answer, page by page.

Each list takes the very query of its metric, and `cell`. The first page's clock goes on in the
cursor, so that all pages are of one T, whether or not the caller named it.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.domain.errors import Breach, Invalid
from app.domain.measures import cell_names, cumulative_flow
from app.domain.measures.cell_names import CellNames
from app.domain.measures.cells import Cell
from app.domain.measures.closings import DealPopulation
from app.http.attendance import AttendedRoute
from app.http.inquiry import Caller, CallerDep
from app.http.paging import Pages, PagesDep
from app.http.schemas.cells import (
    CellQuery,
    ClosingsDealPage,
    ClosingsDealsQuery,
    CountedDeal,
    CumulativeFlowDealPage,
    CumulativeFlowDealsQuery,
    CycleTimeDealsQuery,
    FlowDealPage,
    FlowDealsQuery,
    FunnelDealPage,
    FunnelDealsQuery,
    MatrixDealsQuery,
    SnapshotDealPage,
    SnapshotDealsQuery,
    TimeInStageDealPage,
    TimeInStageDealsQuery,
)
from app.http.schemas.cumulative_flow import CumulativeFlowPolicy
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.flow import FlowPolicy
from app.http.schemas.metrics import (
    ClosingsPolicy,
    FunnelPolicy,
    SnapshotPolicy,
    TimeInStagePolicy,
)
from app.storage.queries import cells
from app.storage.queries.question import Asked

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/funnel/deals")
async def list_funnel_deals(
    query: Annotated[FunnelDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> FunnelDealPage:
    """The deals behind a count of the funnel; with `reentry=every` the visits behind a rate."""
    policy, opened = await _opened(
        "funnel",
        query,
        caller,
        pages,
        lambda asked: cell_names.funnel_cells(asked.ranking, query.skip, query.reentry),
    )
    return FunnelDealPage(
        policy=FunnelPolicy(**policy, basis=query.basis, skip=query.skip, reentry=query.reentry),
        **opened,
    )


@router.get("/time-in-stage/deals")
async def list_time_in_stage_deals(
    query: Annotated[TimeInStageDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> TimeInStageDealPage:
    """The visits behind a count of time in stage."""
    policy, opened = await _opened(
        "time-in-stage",
        query,
        caller,
        pages,
        lambda asked: cell_names.time_in_stage_cells(
            asked.ranking, query.population, query.reentry
        ),
    )
    return TimeInStageDealPage(
        policy=TimeInStagePolicy(**policy, population=query.population, reentry=query.reentry),
        **opened,
    )


@router.get("/cycle-time/deals")
async def list_cycle_time_deals(
    query: Annotated[CycleTimeDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> ClosingsDealPage:
    """The deals behind a count of cycle time."""
    policy, opened = await _opened(
        "cycle-time",
        query,
        caller,
        pages,
        lambda asked: cell_names.cycle_time_cells(asked.ranking, query.population),
    )
    return ClosingsDealPage(policy=ClosingsPolicy(**policy, population=query.population), **opened)


@router.get("/win-rate/deals")
async def list_win_rate_deals(
    query: Annotated[ClosingsDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> ClosingsDealPage:
    """The deals won, lost or either behind a win rate."""
    policy, opened = await _opened(
        "win-rate", query, caller, pages, lambda asked: cell_names.win_rate_cells(asked.ranking)
    )
    return ClosingsDealPage(
        policy=ClosingsPolicy(**policy, population=DealPopulation.CLOSED), **opened
    )


@router.get("/loss-reasons/deals")
async def list_loss_reason_deals(
    query: Annotated[ClosingsDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> ClosingsDealPage:
    """The deals lost for a reason, from a stage, or both."""
    policy, opened = await _opened(
        "loss-reasons",
        query,
        caller,
        pages,
        lambda asked: cell_names.loss_reason_cells(asked.ranking),
    )
    return ClosingsDealPage(
        policy=ClosingsPolicy(**policy, population=DealPopulation.CLOSED), **opened
    )


@router.get("/snapshot/deals")
async def list_snapshot_deals(
    query: Annotated[SnapshotDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> SnapshotDealPage:
    """The open deals behind a count of the snapshot."""
    policy, opened = await _opened(
        "snapshot", query, caller, pages, lambda asked: cell_names.snapshot_cells(asked.ranking)
    )
    own = {name: said for name, said in policy.items() if name not in ("from", "to")}
    return SnapshotDealPage(policy=SnapshotPolicy(**own), **opened)


@router.get("/flow/deals")
async def list_flow_deals(
    query: Annotated[FlowDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> FlowDealPage:
    """The visits behind a count of the flow."""
    policy, opened = await _opened(
        "flow", query, caller, pages, lambda asked: cell_names.flow_cells(asked.ranking)
    )
    return FlowDealPage(policy=FlowPolicy(**policy, basis=query.basis), **opened)


@router.get("/matrix/deals")
async def list_matrix_deals(
    query: Annotated[MatrixDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> FlowDealPage:
    """The visits behind a count of the matrix."""
    policy, opened = await _opened(
        "matrix", query, caller, pages, lambda asked: cell_names.matrix_cells(asked.ranking)
    )
    return FlowDealPage(policy=FlowPolicy(**policy, basis=query.basis), **opened)


@router.get("/cumulative-flow/deals")
async def list_cumulative_flow_deals(
    query: Annotated[CumulativeFlowDealsQuery, Query()], caller: CallerDep, pages: PagesDep
) -> CumulativeFlowDealPage:
    """The visits behind a count of one bucket: who arrived, departed or was in process."""

    def names(asked: Asked) -> CellNames:
        boundaries = cumulative_flow.boundaries(asked.selection, query.by)
        return cell_names.cumulative_flow_cells(asked.ranking, boundaries)

    policy, opened = await _opened("cumulative-flow", query, caller, pages, names)
    return CumulativeFlowDealPage(policy=CumulativeFlowPolicy(**policy, by=query.by), **opened)


async def _opened(
    metric: str,
    query: CellQuery,
    caller: Caller,
    pages: Pages,
    names: Callable[[Asked], CellNames],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The policy that metrics share; and all else that every list bears."""
    request = caller.request
    given = sorted(request.query_params.multi_items())
    listing = pages.of(
        query,
        list=request.url.path,
        workspace=caller.principal.workspace_id,
        asked=[(name, value) for name, value in given if name not in ("limit", "cursor")],
    )
    began, *place = listing.position or (None,)
    async with caller.asks(query, began=began) as inquiry:
        asked = inquiry.asked
        found = await cells.listed(
            inquiry.connection,
            asked,
            _cell(names(asked), query.cell),
            after=(place[0], place[1], place[2]) if place else None,
            limit=listing.more,
        )
    kept, page = listing.cut(found, lambda held: [asked.now, *held.place])
    items = [CountedDeal.of(held, asked.ranking) for held in kept]
    return inquiry.policy, {
        "definition": DefinitionRef.of(metric),
        "cell": query.cell,
        "items": items,
        "page": page,
    }


def _cell(names: CellNames, name: str) -> Cell:
    """Raises Invalid."""
    try:
        return names.cell(name)
    except ValueError as unknown:
        problem = f"A cell is {unknown}."
        raise Invalid(problem, [Breach("?cell", "not_one_of", problem)]) from unknown
