"""Figures: how deals move through a pipeline, exactly as docs/metrics.md defines them.

Every route asks in the same way: what is selected, whether the caller holds the answer already
(one look at the last event, before anything is counted), then the whole, then its groups.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import funnel
from app.domain.access import Principal, Scope
from app.domain.errors import Breach, Invalid
from app.domain.measures.closings import DealPopulation, WinRate
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Value
from app.http import conditional
from app.http.deps import Allowed, DatabaseDep
from app.http.schemas import funnel as stages
from app.http.schemas import outcomes
from app.http.schemas.common import Key
from app.http.schemas.metric_queries import (
    ClosingsQuery,
    CycleTimeQuery,
    FunnelQuery,
    MetricQuery,
    SnapshotQuery,
    TimeInStageQuery,
    present_minute,
)
from app.http.schemas.metrics import (
    ClosingsPolicy,
    FunnelPolicy,
    SnapshotPolicy,
    TimeInStagePolicy,
    in_order,
    policy,
)
from app.http.strictness import StrictRoute
from app.storage import events, pipelines
from app.storage.engine import Database
from app.storage.queries import closings, question, snapshot, stage_time
from app.storage.queries import funnel as funnels
from app.storage.queries.question import Asked

router = APIRouter(
    route_class=StrictRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)

MOST_GROUPS: Final = 1_000
"""With more of them an answer is no figure any more, but an export."""

T = TypeVar("T")
Counted = Callable[..., Awaitable[Mapping[Value, T]]]
"""A query of `storage.queries`: it takes a connection, what is asked, and whether by group."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question on one connection, which the caller does not hold the answer to.

    `now` is the database's clock.
    """

    connection: AsyncConnection
    asked: Asked
    now: datetime

    @property
    def ranking(self) -> Ranking:
        return self.asked.ranking

    @property
    def policy(self) -> dict[str, Any]:
        """What all policies say."""
        return policy(self.asked.selection, self.ranking.pipeline.revision)

    async def whole(self, count: Counted[T]) -> T | None:
        """The figures of all that is selected; None where that is nothing."""
        return (await count(self.connection, self.asked, grouped=False)).get(None)

    async def groups(self, count: Counted[T]) -> list[tuple[Value, T]] | None:
        """The figures of each group, in order; None where nothing is grouped. Raises Invalid."""
        if self.asked.selection.group_by is None:
            return None
        found = await count(self.connection, self.asked, grouped=True)
        if len(found) > MOST_GROUPS:
            problem = f"That makes {len(found)} groups, more than {MOST_GROUPS}; filter first."
            raise Invalid(problem, [Breach("?group_by", "out_of_range", problem)])
        return [(value, found[value]) for value in in_order(found)]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks about which pipeline, and which answer is held already."""

    request: Request
    response: Response
    principal: Principal
    database: Database
    pipeline: str
    if_none_match: str | None

    @asynccontextmanager
    async def asks(self, query: MetricQuery) -> AsyncIterator[Inquiry]:
        """The question, unless its answer is unchanged: then a 304 goes out from here.

        Raises NotFound, and Invalid for what cannot be asked.
        """
        workspace = self.principal.workspace_id
        async with self.database.read(workspace, report=True) as connection:
            latest = await pipelines.read_current(connection, workspace, self.pipeline)
            # The database's own clock: no move that is visible here can lie behind it.
            now = await question.clock(connection)
            selection = query.selection(latest, now)
            parts = [
                await events.change_token(connection, workspace, latest.pipeline_id),
                str(latest.revision),
                self.request.url.path,
                *map(repr, sorted(self.request.query_params.multi_items())),
            ]
            if query.ages and selection.as_of > now:
                parts.append(present_minute(now).isoformat())
            token = sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]
            conditional.offer(self.response, conditional.opaque(token), self.if_none_match)
            if query.revision is None:
                pipeline = await pipelines.in_force_at(
                    connection, workspace, latest.pipeline_id, selection.as_of
                )
            else:
                found = await pipelines.read_revision(
                    connection, workspace, latest.pipeline_id, query.revision
                )
                pipeline = found.pipeline
            asked = Asked(workspace, Ranking(pipeline, latest), selection)
            yield Inquiry(connection, asked, now)


async def _caller(
    request: Request,
    response: Response,
    pipeline: Annotated[Key, Path(description="The pipeline's key.")],
    principal: Annotated[Principal, Depends(Allowed(Scope.METRICS_READ))],
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> Caller:
    return Caller(request, response, principal, database, pipeline, if_none_match)


CallerDep = Annotated[Caller, Depends(_caller)]


@router.get("/funnel")
async def get_funnel(query: Annotated[FunnelQuery, Query()], caller: CallerDep) -> stages.Funnel:
    """How far the deals opened in the period have come: reached, entered, stopped, converted."""
    async with caller.asks(query) as inquiry:
        ranking = inquiry.ranking
        count = partial(funnels.ranks, skip=query.skip, reentry=query.reentry)
        whole = await inquiry.whole(count)
        groups = await inquiry.groups(count)
    return stages.Funnel(
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
        count = partial(snapshot.standings, now=inquiry.now)
        whole = await inquiry.whole(count)
        groups = await inquiry.groups(count)
    return stages.Snapshot(
        policy=SnapshotPolicy(
            **{name: said for name, said in inquiry.policy.items() if name not in ("from", "to")}
        ),
        total=stages.SnapshotFigures.of(whole or {}, ranking),
        groups=groups
        and [stages.SnapshotGroup.of(found, ranking, value=value) for value, found in groups],
    )
