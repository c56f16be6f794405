"""Deliveries: an event for an endpoint under a number, claimed by one worker at a time.

A delivery refers to its event and does not repeat it: what is erased from the feed is sent to
nobody any more. Who claims a delivery counts an attempt and puts off the next one by a lease. Only
the attempt that was counted last may write what came of it: a worker that was thought dead writes
nothing, and one that is dead is succeeded when its lease has run out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.domain.errors import NotFound
from app.domain.webhook import Delivery, DeliveryState, Reply
from app.domain.webhook_retries import ATTEMPTS
from app.storage.engine import Connection
from app.storage.events import Event, Position
from app.storage.statement import Part

LEASE: Final = timedelta(seconds=60)
"""How long an attempt is its worker's: far longer than one may take."""

APPEND: Final = """
INSERT INTO webhook_delivery (workspace_id, endpoint_id, sequence, event_id, epoch, xid, n,
                              next_attempt_at, created_at, replay_of)
SELECT $1, told.endpoint_id, told.sequence, told.event_id, told.epoch, told.xid, told.n,
       statement_timestamp(), statement_timestamp(), told.replay_of
FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::int[], $6::xid8[], $7::bigint[],
            $8::bigint[])
     AS told (endpoint_id, sequence, event_id, epoch, xid, n, replay_of)
"""

_HIDDEN: Final = """
w.row_scope <> 'all' AND EXISTS (
    SELECT FROM event AS e LEFT JOIN opportunity AS o
      ON o.workspace_id = $1 AND o.opportunity_id = e.opportunity_id
    WHERE e.workspace_id = $1 AND (e.epoch, e.xid, e.n) = (d.epoch, d.xid, d.n)
      AND e.opportunity_id IS NOT NULL
      AND (o.owner = w.subject OR (w.row_scope = 'team' AND o.team = w.team)) IS NOT TRUE)
"""
"""Whether the delivery `d` tells of a deal that the maker of its endpoint `w` sees no longer."""

# The statement's own time and not the clock's, so that the index can be searched for it. Here ends
# what may not be told any more, and what has had its last attempt and left no word of it (its
# worker died, or could not note it).
CLAIM: Final = f"""
WITH due AS MATERIALIZED (
    SELECT next.* FROM unnest($2::uuid[], $3::int[]) AS asked (endpoint_id, places)
    JOIN webhook_endpoint AS w ON w.workspace_id = $1 AND w.endpoint_id = asked.endpoint_id
     AND w.disabled_at IS NULL
    CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.sequence, d.attempts >= $6 OR ({_HIDDEN}) AS is_over
        FROM webhook_delivery AS d
        WHERE d.workspace_id = $1 AND d.endpoint_id = asked.endpoint_id AND d.state = 'pending'
          AND d.next_attempt_at <= statement_timestamp()
        ORDER BY d.next_attempt_at, d.sequence LIMIT asked.places FOR NO KEY UPDATE SKIP LOCKED
    ) AS next LIMIT $4
), over AS (
    UPDATE webhook_delivery AS d
    SET state = 'failed', next_attempt_at = NULL, finished_at = statement_timestamp()
    FROM due WHERE due.is_over
      AND d.workspace_id = $1 AND d.endpoint_id = due.endpoint_id AND d.sequence = due.sequence
), taken AS (
    UPDATE webhook_delivery AS d
    SET attempts = d.attempts + 1, next_attempt_at = statement_timestamp() + $5
    FROM due WHERE NOT due.is_over
      AND d.workspace_id = $1 AND d.endpoint_id = due.endpoint_id AND d.sequence = due.sequence
    RETURNING d.*
)
SELECT d.endpoint_id, d.sequence, d.attempts, w.url, statement_timestamp() AS now, e.*,
       p.key AS pipeline,
       ARRAY(SELECT s.secret FROM webhook_secret AS s
             WHERE s.workspace_id = $1 AND s.endpoint_id = d.endpoint_id
               AND (s.expires_at IS NULL OR s.expires_at > statement_timestamp())
             ORDER BY s.secret_id DESC) AS secrets
FROM taken AS d
JOIN webhook_endpoint AS w ON w.workspace_id = $1 AND w.endpoint_id = d.endpoint_id
JOIN event AS e ON e.workspace_id = $1 AND e.epoch = d.epoch AND e.xid = d.xid AND e.n = d.n
LEFT JOIN pipeline AS p ON p.workspace_id = $1 AND p.pipeline_id = e.pipeline_id
ORDER BY d.endpoint_id, d.sequence
"""

FINISH: Final = """
UPDATE webhook_delivery
SET state = $5, next_attempt_at = NULL, finished_at = clock_timestamp()
WHERE workspace_id = $1 AND endpoint_id = $2 AND sequence = $3 AND attempts = $4
  AND state = 'pending'
"""

POSTPONE: Final = """
UPDATE webhook_delivery SET next_attempt_at = clock_timestamp() + $5
WHERE workspace_id = $1 AND endpoint_id = $2 AND sequence = $3 AND attempts = $4
  AND state = 'pending'
"""

# It was never sent, and is as it was before its claim.
RELEASE: Final = """
UPDATE webhook_delivery
SET attempts = attempts - 1, next_attempt_at = clock_timestamp() + $5
WHERE workspace_id = $1 AND endpoint_id = $2 AND sequence = $3 AND attempts = $4
  AND state = 'pending'
"""

# What waits for its next attempt, and not what is under way: that has left no word yet.
HASTEN: Final = """
UPDATE webhook_delivery AS d SET next_attempt_at = statement_timestamp()
WHERE d.workspace_id = $1 AND d.endpoint_id = $2 AND d.state = 'pending'
  AND d.next_attempt_at > statement_timestamp()
  AND EXISTS (SELECT FROM webhook_attempt AS a
              WHERE a.workspace_id = $1 AND a.endpoint_id = $2 AND a.sequence = d.sequence
                AND a.number = d.attempts)
"""

# What was erased while it was under way is not kept in the words of the receiver either.
NOTE: Final = """
INSERT INTO webhook_attempt (workspace_id, endpoint_id, sequence, number, started_at, seconds,
                             status, failure, response)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8,
        CASE WHEN EXISTS (SELECT FROM event AS e
                          WHERE e.workspace_id = $1 AND (e.epoch, e.xid, e.n) = ($10, $11, $12)
                            AND e.data <> '{}') THEN $9 ELSE '' END)
"""

EARLIER: Final = """
SELECT event_id, max(sequence) AS last, bool_or(state <> 'failed') AS is_served
FROM webhook_delivery
WHERE workspace_id = $1 AND event_id = ANY ($3::uuid[]) AND endpoint_id = $2
GROUP BY event_id
"""

# Of those that wait, one may be under way, and fail after all.
FIRST_UNSERVED: Final = """
SELECT epoch, xid, n FROM webhook_delivery
WHERE workspace_id = $1 AND endpoint_id = $2
  AND (state = 'pending' OR (state = 'failed' AND finished_at >= $3))
ORDER BY epoch, xid, n LIMIT 1
"""

COUNT_PENDING: Final = """
SELECT count(*) FROM (
    SELECT FROM webhook_delivery
    WHERE workspace_id = $1 AND endpoint_id = $2 AND state = 'pending' LIMIT $3
) AS pending
"""

READ: Final = f"""
SELECT d.*, e.type FROM webhook_delivery AS d
JOIN webhook_endpoint AS w ON w.workspace_id = $1 AND w.endpoint_id = $2
JOIN event AS e ON e.workspace_id = $1 AND e.epoch = d.epoch AND e.xid = d.xid AND e.n = d.n
WHERE d.workspace_id = $1 AND d.endpoint_id = $2 AND d.sequence = $3 AND NOT ({_HIDDEN})
"""

# What a receiver answered may repeat what it was sent.
FORGET: Final = """
UPDATE webhook_attempt AS a SET response = ''
FROM event AS e, webhook_delivery AS d
WHERE e.workspace_id = $1 AND e.opportunity_id = $2
  AND d.workspace_id = $1 AND d.event_id = e.event_id
  AND a.workspace_id = $1 AND a.endpoint_id = d.endpoint_id AND a.sequence = d.sequence
"""

KEPT: Final = "30 days"
# In pieces, and through the workspaces, each of which has an index of its own. A delivery that
# waits for an endpoint that is gone waits for nothing.
CLEAR: Final = f"""
WITH old AS MATERIALIZED (
    SELECT of_one.* FROM workspace AS w CROSS JOIN LATERAL (
        SELECT d.workspace_id, d.endpoint_id, d.sequence FROM webhook_delivery AS d
        WHERE d.workspace_id = w.workspace_id
          AND d.finished_at < statement_timestamp() - interval '{KEPT}' LIMIT $1
    ) AS of_one
    UNION ALL
    SELECT d.workspace_id, d.endpoint_id, d.sequence FROM webhook_delivery AS d
    WHERE d.state = 'pending' AND NOT EXISTS (
        SELECT FROM webhook_endpoint AS w
        WHERE w.workspace_id = d.workspace_id AND w.endpoint_id = d.endpoint_id)
    LIMIT $1
), attempts AS (
    DELETE FROM webhook_attempt AS a USING old
    WHERE a.workspace_id = old.workspace_id AND a.endpoint_id = old.endpoint_id
      AND a.sequence = old.sequence
), deliveries AS (
    DELETE FROM webhook_delivery AS d USING old
    WHERE d.workspace_id = old.workspace_id AND d.endpoint_id = old.endpoint_id
      AND d.sequence = old.sequence
    RETURNING 1
)
SELECT count(*) FROM deliveries
"""
CLEARED_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker is to attempt, for the `number`th time, by `now`'s clock."""

    workspace_id: UUID
    endpoint_id: UUID
    sequence: int
    number: int
    url: str
    secrets: tuple[bytes, ...]
    event: Event
    now: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """A delivery that is to be added: an event for an endpoint, under a number."""

    endpoint_id: UUID
    sequence: int
    event_id: UUID
    position: Position
    replay_of: int | None = None


async def append(connection: Connection, workspace: UUID, told: Sequence[Told]) -> None:
    """Add these deliveries, due at once."""
    if told:
        columns = zip(
            *(
                (each.endpoint_id, each.sequence, each.event_id, *each.position, each.replay_of)
                for each in told
            ),
            strict=True,
        )
        await connection.execute(APPEND, workspace, *(list(column) for column in columns))


async def append_event(connection: Connection, told: Part) -> tuple[UUID, Position]:
    """Write an event of `events.append`; its id, and the place that it was given in the feed."""
    row = await connection.fetchrow(f"{told.sql} RETURNING event_id, epoch, xid, n", *told.args)
    assert row is not None  # it was inserted
    return row["event_id"], (row["epoch"], int(row["xid"]), row["n"])


async def claim(
    connection: Connection, workspace: UUID, places: Mapping[UUID, int], limit: int
) -> list[Claim]:
    """Take deliveries that are due, and count an attempt of each; the longest due first.

    Of each endpoint at most so many as it has places, and no more than `limit` of all; those that
    have had their last attempt, or tell of a deal that is out of sight by now, end as failed.
    """
    rows = await connection.fetch(
        CLAIM, workspace, list(places), list(places.values()), limit, LEASE, ATTEMPTS
    )
    return [
        Claim(
            workspace,
            row["endpoint_id"],
            row["sequence"],
            row["attempts"],
            row["url"],
            tuple(row["secrets"]),
            _event(row),
            row["now"],
        )
        for row in rows
    ]


def finish(claim: Claim, state: DeliveryState) -> Part:
    """The part that ends a delivery; guarded, as another worker may have taken it over."""
    return Part(FINISH, (*_attempt(claim), state.value), guarded=True)


def postpone(claim: Claim, wait: timedelta) -> Part:
    """The part that has it tried again after so long; guarded as above."""
    return Part(POSTPONE, (*_attempt(claim), wait), guarded=True)


def release(claim: Claim, wait: timedelta) -> Part:
    """The part that gives back what was claimed and never sent, for so long; guarded as above."""
    return Part(RELEASE, (*_attempt(claim), wait), guarded=True)


def hasten(workspace: UUID, endpoint_id: UUID) -> Part:
    """The part that has what waits to be tried again tried now."""
    return Part(HASTEN, (workspace, endpoint_id))


def note(claim: Claim, reply: Reply) -> Part:
    """The part that keeps what came of an attempt."""
    return Part(
        NOTE,
        (
            *_attempt(claim),
            claim.now,
            reply.seconds,
            reply.status,
            None if reply.failure is None else reply.failure.value,
            reply.text,
            *claim.event.position,
        ),
    )


async def earlier(
    connection: Connection, workspace: UUID, endpoint_id: UUID, event_ids: Sequence[UUID]
) -> dict[UUID, tuple[int, bool]]:
    """Of those events that the endpoint had: the last number, and whether it has taken it or will.

    What waits will be sent; what has failed was served to nobody.
    """
    rows = await connection.fetch(EARLIER, workspace, endpoint_id, list(event_ids))
    return {row["event_id"]: (row["last"], row["is_served"]) for row in rows}


async def first_unserved(
    connection: Connection, workspace: UUID, endpoint_id: UUID, since: datetime | None
) -> Position | None:
    """Where the first event stands of what waits for the endpoint, or has failed `since` then."""
    row = await connection.fetchrow(FIRST_UNSERVED, workspace, endpoint_id, since)
    return None if row is None else (row["epoch"], int(row["xid"]), row["n"])


async def pending(connection: Connection, workspace: UUID, endpoint_id: UUID, *, up_to: int) -> int:
    """How many deliveries wait for the endpoint; no more than `up_to` are counted."""
    waiting: int = await connection.fetchval(COUNT_PENDING, workspace, endpoint_id, up_to)
    return waiting


async def read(
    connection: Connection, workspace: UUID, endpoint_id: UUID, sequence: int
) -> Delivery:
    """The delivery under that number. Raises NotFound, also where it may not be told any more."""
    row = await connection.fetchrow(READ, workspace, endpoint_id, sequence)
    if row is None:
        raise no_delivery(sequence)
    return delivery_of(row)


def delivery_of(row: Mapping[str, Any] | asyncpg.Record) -> Delivery:
    """The delivery in a row of `webhook_delivery` with its event's type; names as keys."""
    return Delivery(
        row["endpoint_id"],
        row["sequence"],
        row["event_id"],
        row["type"],
        (row["epoch"], int(row["xid"]), row["n"]),
        DeliveryState(row["state"]),
        row["attempts"],
        row["next_attempt_at"],
        row["created_at"],
        row["finished_at"],
        row["replay_of"],
    )


def no_delivery(sequence: int) -> NotFound:
    """There is none under that number."""
    return NotFound(f"The endpoint has no delivery {sequence}.")


def forget(workspace: UUID, opportunity_id: UUID) -> Part:
    """The part that empties whatever receivers answered when they were told of a deal."""
    return Part(FORGET, (workspace, opportunity_id))


async def clear(connection: Connection) -> bool:
    """Delete some deliveries that have had their time; whether there may be more.

    Under the jobs' role, which sees those of every workspace.
    """
    cleared: int = await connection.fetchval(CLEAR, CLEARED_AT_ONCE)
    return cleared >= CLEARED_AT_ONCE


def _attempt(claim: Claim) -> tuple[Any, ...]:
    return claim.workspace_id, claim.endpoint_id, claim.sequence, claim.number


def _event(row: asyncpg.Record) -> Event:
    return Event(
        row["event_id"],
        (row["epoch"], int(row["xid"]), row["n"]),
        row["type"],
        row["pipeline"],
        row["opportunity_id"],
        row["occurred_at"],
        row["recorded_at"],
        row["historical"],
        json.loads(row["data"]),
    )
