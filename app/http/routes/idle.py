"""Idle deals: their flags, what is done about those, who is next, and a scan at once."""

from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.actions.attend_flag import acknowledge_flag, snooze_flag
from app.actions.flag_idle import scan_workspace
from app.domain.access import Principal, Scope
from app.domain.errors import Breach, Invalid
from app.domain.idle_flag import FlagState
from app.domain.idle_flag import IdleFlag as Flag
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.http import answers
from app.http.cursors import next_link
from app.http.deps import Allowed, CursorsDep, DatabaseDep, RepeatableDep
from app.http.schemas.common import Id, Key, PageInfo
from app.http.schemas.idle import (
    IdleFlag,
    IdleFlagPage,
    IdleFlagQuery,
    IdleScan,
    SnoozeCreate,
    UpcomingIdle,
    UpcomingIdlePage,
    UpcomingIdleQuery,
)
from app.storage import pipelines
from app.storage.idempotency import Answer
from app.storage.queries import idle

router = APIRouter(prefix="/v1", tags=["idle"])

Reader = Annotated[Principal, Depends(Allowed(Scope.IDLE_FLAGS_READ))]
Writer = Annotated[Principal, Depends(Allowed(Scope.IDLE_FLAGS_WRITE))]
FlagId = Annotated[Id, Path(description="The flag's id.")]


@router.get("/idle-flags")
async def list_idle_flags(
    request: Request,
    response: Response,
    query: Annotated[IdleFlagQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    cursors: CursorsDep,
) -> IdleFlagPage:
    """Flags that pass the filters, in the order in which they were first opened."""
    workspace = principal.workspace_id
    asked = {"list": "idle-flags", "workspace": workspace, **query.asked()}
    after: Any = cursors.decode(query.cursor, asked)[0] if query.cursor else None
    async with database.read(workspace) as connection:
        pipeline_id = slot = None
        if query.pipeline is not None:
            pipeline = await pipelines.read_current(connection, workspace, query.pipeline)
            pipeline_id = pipeline.pipeline_id
            slot = None if query.stage is None else pipeline.stage(query.stage).slot
        elif query.stage is not None:
            problem = "A stage is one of a pipeline: name the pipeline too."
            raise Invalid(problem, [Breach("?pipeline", "required", problem)])
        found = await idle.flags(
            connection,
            workspace,
            idle.Filters(
                pipeline_id=pipeline_id,
                slot=slot,
                owner=query.owner,
                team=query.team,
                state=None if query.state is None else FlagState(query.state),
            ),
            after=after,
            limit=query.limit + 1,
        )
    cursor = None
    if len(found) > query.limit:
        cursor = cursors.encode([found[query.limit - 1][0].flag_id], asked)
        response.headers["Link"] = next_link(request, cursor)
    return IdleFlagPage(
        items=[IdleFlag.of(*flagged) for flagged in found[: query.limit]],
        page=PageInfo(next_cursor=cursor),
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
    request: Request,
    response: Response,
    pipeline: Annotated[Key, Path()],
    query: Annotated[UpcomingIdleQuery, Query()],
    principal: Reader,
    database: DatabaseDep,
    cursors: CursorsDep,
) -> UpcomingIdlePage:
    """Deals that will fall idle within the time, the soonest first."""
    workspace = principal.workspace_id
    asked = {
        "list": "upcoming-idle",
        "workspace": workspace,
        "pipeline": pipeline,
        "within": str(query.within),
    }
    after: Any = tuple(cursors.decode(query.cursor, asked)) if query.cursor else None
    async with database.read(workspace) as connection:
        found_pipeline = await pipelines.read_current(connection, workspace, pipeline)
        found = await idle.upcoming(
            connection,
            workspace,
            found_pipeline.pipeline_id,
            query.within.length,
            after=after,
            limit=query.limit + 1,
        )
    cursor = None
    if len(found) > query.limit:
        last, _ = found[query.limit - 1]
        cursor = cursors.encode([last.idle.goes_idle_at, last.opportunity_id], asked)
        response.headers["Link"] = next_link(request, cursor)
    return UpcomingIdlePage(
        items=[UpcomingIdle.of(*expected) for expected in found[: query.limit]],
        page=PageInfo(next_cursor=cursor),
    )


@router.post("/idle-scans", response_model=IdleScan)
async def create_idle_scan(
    principal: Writer, database: DatabaseDep, repeatable: RepeatableDep
) -> Response:
    """Look for idle deals in this workspace now, ahead of the scan that runs every few seconds."""
    began = perf_counter()

    def scanned(flagged: int) -> Answer:
        return answers.done(IdleScan(flagged=flagged, seconds=round(perf_counter() - began, 6)))

    return answers.sent(
        await scan_workspace(database, principal, request=repeatable, answer=scanned)
    )


def _attended(flag: Flag, deal: Opportunity, pipeline: Pipeline) -> Answer:
    return answers.done(IdleFlag.of(flag, deal, pipeline))
