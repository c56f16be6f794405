"""How every metric is asked: what is selected, whether the answer is held already, then the counts.

A route takes a `Caller` and opens `caller.asks(query)`: one look at the pipeline and at its last
event, before anything is counted, ends in a 304 where the caller holds the answer. Otherwise it has
an `Inquiry`, which counts the whole and then its groups on one connection, in one snapshot.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Path, Request
from fastapi import Response as HttpResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.access import Principal, Scope
from app.domain.catalogue import CATALOGUE
from app.domain.errors import Breach, Invalid
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Value
from app.domain.pipeline import Pipeline
from app.http import conditional
from app.http.deps import Allowed, DatabaseDep
from app.http.schemas.common import Key, Response
from app.http.schemas.metric_queries import MetricQuery, present_minute
from app.http.schemas.metrics import in_order, policy
from app.storage import pipelines
from app.storage.engine import Database
from app.storage.pipelines import Present
from app.storage.queries.question import Asked

MOST_GROUPS: Final = 1_000
"""With more of them an answer is no figure any more, but an export."""

EDITION: Final = "".join(f"{metric.id}.{metric.version} " for metric in CATALOGUE)
"""What all figures mean: an answer made by an earlier definition is no longer the answer."""

T = TypeVar("T")
Counted = Callable[..., Awaitable[Mapping[Value, T]]]
"""A query of `storage.queries`: it takes a connection, what is asked, and whether by group."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question on one connection, which the caller does not hold the answer to."""

    connection: AsyncConnection
    asked: Asked

    @property
    def ranking(self) -> Ranking:
        return self.asked.ranking

    @property
    def policy(self) -> dict[str, Any]:
        """What all policies say."""
        return policy(self.asked.selection, self.ranking.pipeline.revision)

    async def figures(
        self,
        count: Counted[T],
        total: Callable[[T, Ranking], Response],
        group: Callable[..., Response],
        *,
        nothing: Any,
        most: int = MOST_GROUPS,
        remedy: str = "filter first",
    ) -> dict[str, Any]:
        """The `total` and the `groups` of an answer: what is counted, told by these schemas.

        `group` takes what `total` does, and its `value`; `nothing` is told where nothing is there
        to count. A group is made when the answer is written, once, and let go again: all at once
        they would take ten times the room of their text. Raises Invalid for more than `most`, with
        the `remedy`.
        """
        whole = (await count(self.connection, self.asked, grouped=False)).get(None)
        told = total(nothing if whole is None else whole, self.ranking)
        if self.asked.selection.group_by is None:
            return {"total": told, "groups": None}
        found = await count(self.connection, self.asked, grouped=True)
        if len(found) > most:
            problem = f"That makes {len(found)} groups, more than {most}; {remedy}."
            raise Invalid(problem, [Breach("?group_by", "out_of_range", problem)])
        groups = (group(found[value], self.ranking, value=value) for value in in_order(found))
        return {"total": told, "groups": groups}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks about which pipeline, and which answer is held already."""

    request: Request
    response: HttpResponse
    principal: Principal
    database: Database
    pipeline: str
    if_none_match: str | None

    @asynccontextmanager
    async def asks(
        self, query: MetricQuery, *, began: datetime | None = None
    ) -> AsyncIterator[Inquiry]:
        """The question, unless its answer is unchanged: then a 304 goes out from here.

        `began` is the clock of an earlier question that this one goes on with, as the next page
        does: T and all ages stay what they were. None: it is asked now.

        Raises NotFound, and Invalid for what cannot be asked.
        """
        workspace = self.principal.workspace_id
        async with self.database.read(workspace, report=True) as connection:
            present = await pipelines.read_present(connection, workspace, self.pipeline)
            latest, now = present.revision.pipeline, began or present.now
            pipeline = await self._counting(connection, query, present, now)
            selection = query.selection(pipeline, now)
            parts = [
                present.change,
                str(latest.revision),
                EDITION,
                repr(self.principal.sight),
                self.request.url.path,
                *map(repr, sorted(self.request.query_params.multi_items())),
            ]
            # T moves with the clock, and with it `as_of` in the answer, and every age.
            moving = selection.as_of > now
            if query.ages and moving:
                parts.append(present_minute(now).isoformat())
            token = sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]
            tag = conditional.opaque(token, weak=moving)
            conditional.offer(self.response, tag, self.if_none_match)
            asked = Asked(
                workspace, self.principal.sight, Ranking(pipeline, latest), selection, now
            )
            yield Inquiry(connection, asked)

    async def _counting(
        self, connection: AsyncConnection, query: MetricQuery, present: Present, now: datetime
    ) -> Pipeline:
        """The definition by which is counted: its order of stages, and where its days begin."""
        workspace, held = self.principal.workspace_id, present.revision
        latest = held.pipeline
        if query.revision is None:
            seen_at = query.seen_at(now)
            if seen_at >= held.in_force_at:
                return latest
            return await pipelines.in_force_at(connection, workspace, latest.pipeline_id, seen_at)
        if query.revision > latest.revision:
            detail = f"The pipeline has revisions 1 to {latest.revision}."
            raise Invalid(detail, [Breach("?revision", "out_of_range", detail)])
        found = await pipelines.read_revision(
            connection, workspace, latest.pipeline_id, query.revision
        )
        return found.pipeline


async def _caller(
    request: Request,
    response: HttpResponse,
    pipeline: Annotated[Key, Path(description="The pipeline's key.")],
    principal: Annotated[Principal, Depends(Allowed(Scope.METRICS_READ))],
    database: DatabaseDep,
    if_none_match: conditional.IfNoneMatch = None,
) -> Caller:
    return Caller(request, response, principal, database, pipeline, if_none_match)


CallerDep = Annotated[Caller, Depends(_caller)]
