"""The yardstick of moves: what a team would write by hand with FastAPI and asyncpg, and no more.

One handler, one data-modifying statement in autocommit with the same four effects (the deal's row,
the transition, its event, the idempotency record) of about the same size, on the same tables and
indexes. It runs as the owner, whom row-level security does not hold. It knows neither keys nor
rules, races, replays, problems or log lines.

    python -m bench.bare OWNER_URL WORKSPACE
"""

import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import uvicorn
from fastapi import FastAPI, Header, Request, Response
from pydantic import BaseModel

from app.storage.engine import connect_arguments
from app.storage.ids import new_id

MOVE = """
WITH moved AS (
    UPDATE opportunity AS o
    SET version = o.version + 1, seq = o.seq + 1, slot = $3, status = 'open', reach_mask = $9,
        stage_entered_at = clock_timestamp(), moved_at = clock_timestamp(),
        clock_started_at = clock_timestamp(), goes_idle_at = clock_timestamp() + interval '7 days',
        updated_at = clock_timestamp(), dwell = $10
    WHERE o.workspace_id = $1 AND o.opportunity_id = $2
    RETURNING o.*
), logged AS (
    INSERT INTO transition (
        workspace_id, opportunity_id, seq, transition_id, pipeline_id, revision, kind, from_slot,
        from_name, entered_at, to_slot, to_name, occurred_at, recorded_at, actor, amount, currency,
        owner, team, source, priority)
    SELECT $1, $2, m.seq, $4, m.pipeline_id, 1, 'advanced', 3 - $3, 'Prospect', m.created_at, $3,
           'First contact', m.stage_entered_at, m.stage_entered_at, 'bench', m.amount, m.currency,
           m.owner, m.team, m.source, m.priority
    FROM moved AS m
), told AS (
    INSERT INTO event (workspace_id, epoch, event_id, type, pipeline_id, opportunity_id,
                       occurred_at, historical, data)
    SELECT $1, 1, $5, 'opportunity.transitioned', m.pipeline_id, $2, m.stage_entered_at, false, $6
    FROM moved AS m
), kept AS (
    INSERT INTO idempotency_record (workspace_id, key, request_hash, status, location, etag, body)
    VALUES ($1, $7, $8, 201, '/v1/transitions/' || $4, '"1"', $11)
)
SELECT seq, version, stage_entered_at FROM moved
"""

SLOTS = {"prospect": 1, "contact": 2}


class Move(BaseModel):
    to_stage: str
    loss_reason: str | None = None
    note: str | None = None
    occurred_at: datetime | None = None


class Moved(BaseModel):
    """As many fields as the service's own answer has."""

    id: UUID
    opportunity_id: UUID
    kind: str
    from_stage: str
    to_stage: str
    occurred_at: datetime | None
    note: str | None
    loss_reason: str | None
    actor: str
    deal: dict[str, Any]


_DEAL_FIELDS = (
    *("name", "status", "stage", "owner", "team", "source", "priority", "external_id"),
    *("opened_at", "closed_at", "stage_entered_at", "goes_idle_at", "created_at"),
    *("updated_at", "expected_close_on", "amount", "currency", "idle_since"),
)
DEAL = dict.fromkeys(_DEAL_FIELDS, "about as long as this")


def create_app(url: str, workspace: UUID) -> FastAPI:
    """The application on the database of that URL."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def nothing_to_reset(_: object) -> None: ...

        async with asyncpg.create_pool(
            **connect_arguments(url), min_size=0, max_size=10, reset=nothing_to_reset
        ) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.post("/v1/opportunities/{opportunity_id}/transitions", status_code=201)
    async def move(
        request: Request,
        opportunity_id: UUID,
        body: Move,
        idempotency_key: Annotated[str, Header()],
    ) -> Response:
        transition_id = new_id()
        slot = SLOTS[body.to_stage]
        answer = Moved(
            id=transition_id,
            opportunity_id=opportunity_id,
            kind="advanced",
            from_stage="prospect",
            to_stage=body.to_stage,
            occurred_at=body.occurred_at,
            note=body.note,
            loss_reason=body.loss_reason,
            actor="bench",
            deal=DEAL,
        ).model_dump_json()
        data = {"transition_id": str(transition_id), "to_stage": body.to_stage, "opportunity": DEAL}
        await request.app.state.pool.fetchrow(
            MOVE,
            workspace,
            opportunity_id,
            slot,
            transition_id,
            new_id(),
            json.dumps(data),
            idempotency_key,
            sha256(await request.body()).digest(),
            3,
            [1_000_000, 1_000_000],
            answer.encode(),
        )
        return Response(answer, 201, media_type="application/json")

    return app


def main() -> None:
    """Serve until SIGTERM, on a free port that is printed."""
    url, workspace = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"Bare handler on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        create_app(url, UUID(workspace)),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
    )
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
