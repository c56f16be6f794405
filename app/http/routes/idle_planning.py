"""Planning of idle thresholds: what others would have done, and what they might be.

A preview is asked by POST, because what is to be tried is a document: thresholds by stage and by
priority do not fit into a query. It changes nothing, and repeating it does no harm.
"""

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from app.domain.access import Principal, Scope
from app.domain.measures.idle_preview import Replayed, tried
from app.domain.measures.idle_replay import rules_of
from app.domain.measures.ranking import Ranking
from app.http import conditional
from app.http.attendance import AttendedRoute
from app.http.deps import Allowed, DatabaseDep
from app.http.schemas.common import Key
from app.http.schemas.idle_planning import IdlePreview, IdlePreviewRequest
from app.http.schemas.idle_suggestions import IdleSuggestions, IdleSuggestionsQuery
from app.http.schemas.metric_queries import present_minute
from app.http.strictness import StrictRoute
from app.storage import pipelines
from app.storage.queries.idle_past import PATIENCE
from app.storage.queries.idle_preview import previews
from app.storage.queries.idle_suggestions import suggestions
from app.storage.queries.question import Asked

_PREFIX = "/v1/pipelines/{pipeline}/idle"
# Whoever hangs up is not worked for any longer; only where a body is read, nobody could tell.
router = APIRouter(route_class=StrictRoute, prefix=_PREFIX, tags=["idle"])
attended = APIRouter(route_class=AttendedRoute, prefix=_PREFIX, tags=["idle"])

# Figures of outcomes, and so the scope of figures: whoever works through flags need not see them.
Reader = Annotated[Principal, Depends(Allowed(Scope.METRICS_READ))]
PipelineKey = Annotated[Key, Path(description="The pipeline's key.")]


@router.post("/preview")
async def preview_idle(
    pipeline: PipelineKey, body: IdlePreviewRequest, principal: Reader, database: DatabaseDep
) -> IdlePreview:
    """Replay past visits under other idle thresholds, beside the present ones. Changes nothing."""
    workspace = principal.workspace_id
    async with database.read(workspace, report=True, timeouts=PATIENCE) as connection:
        present = await pipelines.read_present(connection, workspace, pipeline)
        latest, now = present.revision.pipeline, present.now
        trial = tried(latest, {key: each.apply for key, each in body.stages.items()}, now)
        asked = Asked(
            workspace, principal.sight, Ranking(latest, latest), body.selection(latest, now), now
        )
        rules = {Replayed.PRESENT: rules_of(latest), Replayed.PREVIEW: rules_of(trial)}
        found = await previews(connection, asked, rules)
    return IdlePreview.of(asked.ranking, trial, found, asked.selection, now)


@attended.get("/suggestions")
async def get_idle_suggestions(
    pipeline: PipelineKey,
    query: Annotated[IdleSuggestionsQuery, Query()],
    response: Response,
    principal: Reader,
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> IdleSuggestions:
    """What each open stage's idle threshold might be, from the stays of deals won and lost."""
    workspace = principal.workspace_id
    async with database.read(workspace, report=True, timeouts=PATIENCE) as connection:
        present = await pipelines.read_present(connection, workspace, pipeline)
        latest, now = present.revision.pipeline, present.now
        known = (
            present.change,
            latest.revision,
            present_minute(now),
            query.from_,
            principal.sight,
        )
        token = sha256(repr(known).encode()).hexdigest()[:32]
        conditional.offer(response, conditional.opaque(token, weak=True), if_none_match)
        asked = Asked(
            workspace, principal.sight, Ranking(latest, latest), query.selection(latest, now), now
        )
        found = await suggestions(connection, asked)
    return IdleSuggestions.of(asked.ranking, found, asked.selection)
