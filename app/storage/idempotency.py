"""Answers kept for a day under the key that a client chose, so that a repeated POST does nothing.

The record is written by the transaction that has the effect: there is never an effect without its
record. Of refusals only those of a batch's moves are kept, by `actions.move_batch`. Two requests
with one key take turns (`Database.write(keys=…)`).
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from app.domain.errors import IdempotencyKeyReused
from app.storage.engine import Connection
from app.storage.statement import Part

KEPT: Final = "24 hours"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: enough to send the same bytes again."""

    status: int
    body: bytes
    location: str | None = None
    etag: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request under a key. `fingerprint` tells whether a second one is the same request."""

    key: str
    fingerprint: bytes


REPLAY_COLUMNS: Final = (
    "kept.request_hash AS kept_hash, kept.status AS kept_status, kept.body AS kept_body, "
    "kept.location AS kept_location, kept.etag AS kept_etag"
)
REPLAY_JOIN: Final = (
    "LEFT JOIN idempotency_record AS kept ON kept.workspace_id = $1 AND kept.key = {key} "
    f"AND kept.created_at > clock_timestamp() - interval '{KEPT}'"
)
"""Joins the kept answer to any statement whose $1 is the workspace."""

FIND: Final = (
    f"SELECT {REPLAY_COLUMNS} FROM (VALUES ($1::uuid)) AS asked {REPLAY_JOIN.format(key='$2')}"
)

# An expired record under the same key gives way.
KEEP: Final = """
INSERT INTO idempotency_record (workspace_id, key, request_hash, status, location, etag, body)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (workspace_id, key) DO UPDATE
SET (request_hash, status, location, etag, body, created_at)
= (excluded.request_hash, excluded.status, excluded.location, excluded.etag, excluded.body,
   clock_timestamp())
"""

# In pieces: a long transaction would hold back the event feed of every workspace.
CLEAR: Final = f"""
DELETE FROM idempotency_record
WHERE created_at < clock_timestamp() - interval '{KEPT}' AND ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_record
    WHERE created_at < clock_timestamp() - interval '{KEPT}' LIMIT $1
))
"""
CLEARED_AT_ONCE: Final = 5_000


def keys(*requests: Repeatable | None) -> list[str]:
    """What `Database.write` has to know of requests, of which some may have come without a key."""
    return [request.key for request in requests if request is not None]


async def find(
    connection: Connection, workspace: UUID, request: Repeatable | None
) -> Answer | None:
    """The answer kept for this request. Raises IdempotencyKeyReused for another one's key."""
    if request is None:
        return None
    return replay(await connection.fetchrow(FIND, workspace, request.key), request)


async def clear(connection: Connection) -> bool:
    """Delete some answers that have had their day; whether there may be more.

    Under the jobs' role, which sees those of every workspace.
    """
    tag = await connection.execute(CLEAR, CLEARED_AT_ONCE)
    return tag == f"DELETE {CLEARED_AT_ONCE}"


def replay(row: asyncpg.Record | None, request: Repeatable | None) -> Answer | None:
    """The kept answer in a row that has `REPLAY_COLUMNS`. Raises IdempotencyKeyReused."""
    if row is None or request is None or row["kept_hash"] is None:
        return None
    if row["kept_hash"] != request.fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was sent with another request; every new request needs its own."
        )
    return Answer(
        row["kept_status"],
        row["kept_body"],
        row["kept_location"],
        row["kept_etag"],
        replayed=True,
    )


def keep(workspace: UUID, request: Repeatable | None, answer: Answer) -> list[Part]:
    """The part that keeps the answer; nothing where the client sent no key."""
    if request is None:
        return []
    return [
        Part(
            KEEP,
            (
                workspace,
                request.key,
                request.fingerprint,
                answer.status,
                answer.location,
                answer.etag,
                answer.body,
            ),
        )
    ]
