"""Idle deals: their flags, what is done about those, who is next, and a scan at once."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from app.actions.attend_flag import acknowledge_flag, snooze_flag
from app.actions.flag_idle import scan_workspace
from app.domain.access import Principal, Scope
from app.domain.idle_flag import FlagState, Severity
from app.domain.idle_flag import IdleFlag as Flag
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.http import answers
from app.http.deps import Allowed, DatabaseDep, RepeatableDep
from app.http.paging import PagesDep
from app.http.schemas.common import Id, Key
from app.http.schemas.idle import (
    IdleFlag,
    IdleFlagPage,
    IdleFlagQuery,
    IdleScan,
    IdleScanPage,
    SnoozeCreate,
    UpcomingIdle,
    UpcomingIdlePage,
    UpcomingIdleQuery,
)
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage import idle_scans, pipelines
from app.storage.idempotency import Answer
from app.storage.queries import idle

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["idle"])

Reader = Annotated[Principal, Depends(Allowed(Scope.IDLE_FLAGS_READ))]
ScanReader = Annotated[Principal, Depends(Allowed(Scope.IDLE_FLAGS_READ, whole=True))]
ScanWriter = Annotated[Principal, Depends(Allowed(Scope.IDLE_FLAGS_WRITE, whole=True))]
Writer = Annotated[Principal, Depends(Allowed(Scope.IDLE_FLAGS_WRITE))]
FlagId = Annotated[Id, Path(description="The flag's id.")]


@router.get("/idle-flags")
async def list_idle_flags(
    query: Annotated[IdleFlagQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> IdleFlagPage:
    """Flags that pass the filters, in the order in which they were first opened."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="idle-flags", workspace=workspace, **query.asked())
    async with database.read(workspace) as connection:
        pipeline_id, slot = await pipelines.read_place(
            connection, workspace, query.pipeline, query.stage
        )
        found = await idle.flags(
            connection,
            workspace,
            principal.sight,
            idle.Filters(
                pipeline_id=pipeline_id,
                slot=slot,
                owner=query.owner,
                team=query.team,
                state=None if query.state is None else FlagState(query.state),
                severity=None if query.severity is None else Severity(query.severity),
            ),
            after=listing.first,
            limit=listing.more,
        )
    found, page = listing.cut(found, lambda flagged: [flagged[0].flag_id])
    return IdleFlagPage(
        items=[IdleFlag.of(*flagged) for flagged in found],
        page=page,
    )


@router.post("/idle-flags/{flag_id}/acknowledgement", response_model=IdleFlag)
async def acknowledge_idle_flag(
    flag_id: FlagId, principal: Writer, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Note that the caller has seen to the flag. Whoever was first stays."""
    answer = await acknowledge_flag(
        database, principal, flag_id, request=repeatable, answer=_attended
    )
    return answers.sent(answer)


@router.post("/idle-flags/{flag_id}/snooze", response_model=IdleFlag)
async def snooze_idle_flag(
    flag_id: FlagId,
    body: SnoozeCreate,
    principal: Writer,
    database: DatabaseDep,
    repeatable: RepeatableDep,
) -> Response:
    """Put the flag aside for a reason; at the end of it the same flag is open again."""
    answer = await snooze_flag(
        database,
        principal,
        flag_id,
        body.until,
        body.reason,
        request=repeatable,
        answer=_attended,
    )
    return answers.sent(answer)


@router.get("/pipelines/{pipeline}/idle/upcoming")
async def list_upcoming_idle(
    pipeline: Annotated[Key, Path()],
    query: Annotated[UpcomingIdleQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    pages: PagesDep,
) -> UpcomingIdlePage:
    """Deals that will fall idle within the time, the soonest first."""
    workspace = principal.workspace_id
    listing = pages.of(
        query,
        list="upcoming-idle",
        workspace=workspace,
        pipeline=pipeline,
        within=str(query.within),
    )
    async with database.read(workspace) as connection:
        found_pipeline = await pipelines.read_current(connection, workspace, pipeline)
        found = await idle.upcoming(
            connection,
            workspace,
            principal.sight,
            found_pipeline.pipeline_id,
            query.within.length,
            after=listing.pair,
            limit=listing.more,
        )
    found, page = listing.cut(found, lambda due: [due[0].idle.goes_idle_at, due[0].opportunity_id])
    return UpcomingIdlePage(
        items=[UpcomingIdle.of(*expected) for expected in found],
        page=page,
    )


@router.get("/idle-scans")
async def list_idle_scans(
    query: Annotated[PageQuery, Query()],
    principal: ScanReader,
    database: DatabaseDep,
    pages: PagesDep,
) -> IdleScanPage:
    """The last scans, and how far the service is behind at present."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="idle-scans", workspace=workspace)
    async with database.read(workspace) as connection:
        found = await idle_scans.latest(
            connection, workspace, before=listing.first, limit=listing.more
        )
        lag = await idle_scans.lag(connection, workspace)
    found, page = listing.cut(found, lambda scan: [scan.scan_id])
    return IdleScanPage(
        items=[IdleScan.of(scan) for scan in found], page=page, lag_seconds=round(lag, 6)
    )


@router.post("/idle-scans", response_model=IdleScan)
async def create_idle_scan(
    principal: ScanWriter, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Look for idle deals in this workspace now, ahead of the scan that runs every few seconds."""
    answer = await scan_workspace(database, principal, request=repeatable, answer=_scanned)
    return answers.sent(answer)


def _scanned(scan: idle_scans.IdleScan) -> Answer:
    return answers.done(IdleScan.of(scan))


def _attended(flag: Flag, deal: Opportunity, pipeline: Pipeline) -> Answer:
    return answers.done(IdleFlag.of(flag, deal, pipeline))
