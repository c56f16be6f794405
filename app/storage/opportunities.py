"""Deals: rows to domain values and back, as parts of statements.

The deal's row carries the projection of its log (`domain.journey.Position`); whoever appends a
transition saves the position that results in the same statement, guarded by the row's version.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.domain.access import Sight
from app.domain.errors import SluiceError
from app.domain.idleness import Holds, IdleState, NextStep, Reset
from app.domain.journey import Facts, Position, Status
from app.domain.opportunity import Opportunity
from app.storage import idempotency
from app.storage.engine import Connection
from app.storage.idempotency import Answer, Repeatable
from app.storage.sight import no_deal
from app.storage.statement import LostRace, Part
from app.storage.tables import opportunity

MICROSECOND: Final = timedelta(microseconds=1)
FACTS: Final = ("amount", "currency", "probability", "owner", "team", "source", "priority")

_DEAL = ", ".join(f"o.{column.name}" for column in opportunity.c)

# Everything that decisions need, in one round trip: the deals, the revisions in force, the
# database's clock and the answers that twins may have left.
_READ = f"""
SELECT asked.opportunity_id AS asked_for, {_DEAL}, p.revision AS pipeline_revision,
       clock_timestamp() AS now, {idempotency.REPLAY_COLUMNS}
FROM {{asked}} AS asked (opportunity_id, key)
LEFT JOIN opportunity AS o
    ON o.workspace_id = $1 AND o.opportunity_id = asked.opportunity_id {{deals}}
LEFT JOIN pipeline AS p ON p.workspace_id = o.workspace_id AND p.pipeline_id = o.pipeline_id
{idempotency.REPLAY_JOIN.format(key="asked.key")} {{keys}}
"""
READ: Final = _READ.format(asked="(VALUES ($2::uuid, $3::text))", deals="", keys="")
# What is looked for is said beside the joins too, for the reason that `storage.bulk` gives.
READ_ALL: Final = _READ.format(
    asked="unnest($2::uuid[], $3::text[])",
    deals="AND o.opportunity_id = ANY ($2::uuid[])",
    keys="AND kept.key = ANY ($3::text[])",
)

# After lost races the row is locked by a statement of its own: a lock inside the read would see
# the new row, but through the snapshot from before the wait nothing else that came with it. Not
# FOR UPDATE: a writer that has lost its race still appends, and its foreign key would wait for the
# holder, who waits for the seq that it has taken: a deadlock.
#
# A transaction that waits here for one writer has its id before it waits for the next one, whose id
# may be higher: what it then writes would stand before that in the feed. age() is negative of an id
# above one's own; that of a row written long ago may have wrapped round, so it is not asked.
_LATE: Final = """
    age(xmin) < 0 AND updated_at > statement_timestamp() - interval '1 hour' AS is_late
FROM opportunity WHERE workspace_id = $1 AND opportunity_id = $2
"""
LOCK: Final = f"SELECT {_LATE} FOR NO KEY UPDATE"

# Whoever erases wants just that wait: nothing may come to refer to the deal any more.
LOCK_TO_ERASE: Final = f"SELECT {_LATE} FOR UPDATE"

BY_EXTERNAL_ID: Final = """
SELECT opportunity_id FROM opportunity WHERE workspace_id = $1 AND external_id = $2
"""

IS_TOUCHED: Final = """
-- Has anything been done about the deal beside moving it?
SELECT EXISTS (SELECT FROM opportunity_change WHERE workspace_id = $1 AND opportunity_id = $2)
    OR EXISTS (SELECT FROM activity WHERE workspace_id = $1 AND opportunity_id = $2)
"""

BURY: Final = """
INSERT INTO tombstone (workspace_id, opportunity_id, pipeline_id, deleted_at, deleted_by)
VALUES ($1, $2, $3, $4, $5)
"""

CHANGE: Final = """
INSERT INTO opportunity_change (workspace_id, opportunity_id, change_id, field, pipeline_id, old,
                                new, occurred_at, recorded_at, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_GUARD = "WHERE workspace_id = $1 AND opportunity_id = $2 AND version = $3 - 1"


def _assignments(columns: Iterable[str], start: int) -> str:
    return ", ".join(f"{column} = ${n}" for n, column in enumerate(columns, start=start))


_EVER_COLUMNS = (
    *("last_activity_at", "idle_rule_since", "snoozed_until", "next_step_at"),
    *("next_step_planned_at", "next_step", "clock_started_at", "clock_reset_by", "goes_idle_at"),
    *("critical_at", "follow_up_due_at", "idle_flag_id", "flagged_at", "escalated_at"),
    "updated_at",
    "closed_facts",  # a move and a change of facts both bear on it
)
_POSITION_COLUMNS = (
    *("status", "slot", "seq", "stage_entered_at", "opened_at", "closed_at", "reach_mask"),
    *("dwell", "moved_at", "continued_as"),
)
_FACT_COLUMNS = (
    *FACTS,
    *("name", "external_id", "tags", "attributes", "expected_close_on", "facts_changed_at"),
)
_KEY_COLUMNS = (
    *("workspace_id", "opportunity_id", "version", "pipeline_id", "created_at", "continues"),
)

SAVE_CLOCK: Final = (
    f"UPDATE opportunity SET version = $3, {_assignments(_EVER_COLUMNS, 4)} {_GUARD}"
)
SAVE_POSITION: Final = (
    "UPDATE opportunity SET version = $3, "
    f"{_assignments((*_EVER_COLUMNS, *_POSITION_COLUMNS), 4)} {_GUARD}"
)
SAVE_FACTS: Final = (
    "UPDATE opportunity SET version = $3, "
    f"{_assignments((*_EVER_COLUMNS, *_FACT_COLUMNS), 4)} {_GUARD}"
)
SAVE: Final = (
    "UPDATE opportunity SET version = $3, "
    f"{_assignments((*_EVER_COLUMNS, *_POSITION_COLUMNS, *_FACT_COLUMNS), 4)} {_GUARD}"
)
COLUMNS: Final = (*_KEY_COLUMNS, *_EVER_COLUMNS, *_POSITION_COLUMNS, *_FACT_COLUMNS)
INSERT: Final = (
    f"INSERT INTO opportunity ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))})"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which deal is to be decided about, for whom and by which request."""

    opportunity_id: UUID
    sight: Sight
    request: Repeatable | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read brought: the deal, the revision in force, the clock, a twin's answer."""

    deal: Opportunity
    revision: int
    now: datetime


async def read(
    connection: Connection,
    workspace: UUID,
    opportunity_id: UUID,
    *,
    sight: Sight,
    locked: bool = False,
    erasing: bool = False,
) -> Reading:
    """The deal to decide about. A deal out of the caller's `sight` is none.

    `locked` keeps other writers of the deal away until the transaction ends, `erasing` whoever
    refers to it too. Raises NotFound, and LostRace where the feed would tell of what follows before
    it tells of what was there.
    """
    if erasing:
        await _lock(connection, LOCK_TO_ERASE, workspace, opportunity_id)
    asked = Asked(opportunity_id, sight)
    found = await read_asked(connection, workspace, asked, locked=locked)
    assert isinstance(found, Reading)  # no idempotency key was given
    return found


async def read_asked(
    connection: Connection, workspace: UUID, asked: Asked, *, locked: bool = False
) -> Reading | Answer:
    """The deal to decide about, or the answer that this request has had already.

    Raises IdempotencyKeyReused and what `read` raises.
    """
    if locked:
        await _lock(connection, LOCK, workspace, asked.opportunity_id)
    key = asked.request and asked.request.key
    row = await connection.fetchrow(READ, workspace, asked.opportunity_id, key)
    assert row is not None  # the statement selects from VALUES
    return _reading(row, asked)


async def _lock(connection: Connection, lock: str, workspace: UUID, opportunity_id: UUID) -> None:
    if await connection.fetchval(lock, workspace, opportunity_id):
        raise LostRace


async def read_all(
    connection: Connection, workspace: UUID, asked: Sequence[Asked]
) -> dict[UUID, Reading | Answer | SluiceError]:
    """What `read_asked` answers or raises for each of these, no two of which are about one deal."""
    by_deal = {each.opportunity_id: each for each in asked}
    keys = [each.request and each.request.key for each in asked]
    rows = await connection.fetch(READ_ALL, workspace, list(by_deal), keys)
    found: dict[UUID, Reading | Answer | SluiceError] = {}
    for row in rows:
        deal = row["asked_for"]
        try:
            found[deal] = _reading(row, by_deal[deal])
        except SluiceError as refused:
            found[deal] = refused
    return found


def _reading(row: asyncpg.Record, asked: Asked) -> Reading | Answer:
    if answer := idempotency.replay(row, asked.request):
        return answer
    if row["opportunity_id"] is None or not asked.sight.holds(row["owner"], row["team"]):
        raise no_deal(asked.opportunity_id)
    return Reading(deal_of(row), row["pipeline_revision"], row["now"])


def deal_of(row: Any) -> Opportunity:
    """A row of `opportunity` as the domain sees it."""
    return Opportunity(
        opportunity_id=row["opportunity_id"],
        pipeline_id=row["pipeline_id"],
        external_id=row["external_id"],
        version=row["version"],
        name=row["name"],
        facts=facts_of(row),
        tags=tuple(row["tags"]),
        attributes=_json(row["attributes"]),
        expected_close_on=row["expected_close_on"],
        facts_changed_at=row["facts_changed_at"],
        closed_facts=_json(row["closed_facts"]),
        position=Position(
            status=Status(row["status"]),
            slot=row["slot"],
            seq=row["seq"],
            stage_entered_at=row["stage_entered_at"],
            opened_at=row["opened_at"],
            closed_at=row["closed_at"],
            reach_mask=row["reach_mask"],
            dwell={
                slot: timedelta(microseconds=spent)
                for slot, spent in enumerate(row["dwell"], start=1)
                if spent is not None
            },
            moved_at=row["moved_at"],
        ),
        last_activity_at=row["last_activity_at"],
        holds=holds_of(row),
        idle=idle_of(row),
        flag_id=row["idle_flag_id"],
        flagged_at=row["flagged_at"],
        escalated_at=row["escalated_at"],
        continues=row["continues"],
        continued_as=row["continued_as"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def holds_of(row: Any) -> Holds:
    """What delays the flag of the deal in a row of `opportunity`."""
    return Holds(
        rule_since=row["idle_rule_since"],
        snoozed_until=row["snoozed_until"],
        next_step=_next_step(row),
    )


def idle_of(row: Any) -> IdleState:
    """The clocks in a row of `opportunity`."""
    return IdleState(
        row["clock_started_at"],
        Reset(row["clock_reset_by"]),
        row["goes_idle_at"],
        row["critical_at"],
        row["follow_up_due_at"],
    )


def _next_step(row: Any) -> NextStep | None:
    if row["next_step_at"] is None:
        return None
    return NextStep(row["next_step_at"], row["next_step_planned_at"], row["next_step"])


def _json(value: Any) -> Any:
    """What asyncpg leaves as text, and SQLAlchemy has read already."""
    return json.loads(value) if isinstance(value, str) else value


def facts_of(row: Any) -> Facts:
    """The facts in a row of `opportunity` or of `transition`."""
    return Facts(
        amount=row["amount"],
        currency=row["currency"],
        probability=row["probability"],
        owner=row["owner"],
        team=row["team"],
        source=row["source"],
        priority=row["priority"],
    )


def insert(workspace: UUID, deal: Opportunity) -> Part:
    """The part that adds a deal."""
    key = (
        workspace,
        deal.opportunity_id,
        deal.version,
        deal.pipeline_id,
        deal.created_at,
        deal.continues,
    )
    return Part(INSERT, (*key, *_ever(deal), *_position(deal), *_facts(deal)))


def save_clock(workspace: UUID, deal: Opportunity) -> Part:
    """Saves the idle clock of a deal's next version."""
    return Part(SAVE_CLOCK, (*_key(workspace, deal), *_ever(deal)), guarded=True)


def save_position(workspace: UUID, deal: Opportunity) -> Part:
    """Saves where a deal's next version stands, and its idle clock."""
    return Part(
        SAVE_POSITION, (*_key(workspace, deal), *_ever(deal), *_position(deal)), guarded=True
    )


def save_facts(workspace: UUID, deal: Opportunity) -> Part:
    """Saves what a deal's next version is, and its idle clock."""
    return Part(SAVE_FACTS, (*_key(workspace, deal), *_ever(deal), *_facts(deal)), guarded=True)


def save(workspace: UUID, deal: Opportunity) -> Part:
    """Saves all of a deal's next version."""
    args = (*_key(workspace, deal), *_ever(deal), *_position(deal), *_facts(deal))
    return Part(SAVE, args, guarded=True)


def _key(workspace: UUID, deal: Opportunity) -> tuple[Any, ...]:
    return workspace, deal.opportunity_id, deal.version


def _ever(deal: Opportunity) -> tuple[Any, ...]:
    step = deal.holds.next_step
    return (
        deal.last_activity_at,
        deal.holds.rule_since,
        deal.holds.snoozed_until,
        step and step.at,
        step and step.planned_at,
        step and step.what,
        deal.idle.clock_started_at,
        deal.idle.reset_by.value,
        deal.idle.goes_idle_at,
        deal.idle.critical_at,
        deal.idle.follow_up_due_at,
        deal.flag_id,
        deal.flagged_at,
        deal.escalated_at,
        deal.updated_at,
        None if deal.closed_facts is None else json.dumps(dict(deal.closed_facts)),
    )


def _position(deal: Opportunity) -> tuple[Any, ...]:
    here = deal.position
    return (
        here.status.value,
        here.slot,
        here.seq,
        here.stage_entered_at,
        here.opened_at,
        here.closed_at,
        here.reach_mask,
        dwell_array(here),
        here.moved_at,
        deal.continued_as,
    )


def _facts(deal: Opportunity) -> tuple[Any, ...]:
    return (
        *(getattr(deal.facts, name) for name in FACTS),
        deal.name,
        deal.external_id,
        list(deal.tags),
        json.dumps(deal.attributes),
        deal.expected_close_on,
        deal.facts_changed_at,
    )


def dwell_array(position: Position) -> list[int | None]:
    """Completed time per slot in microseconds; the first element is slot 1."""
    top = max(position.dwell, default=0)
    spent = [position.dwell.get(slot) for slot in range(1, top + 1)]
    return [None if time is None else time // MICROSECOND for time in spent]
