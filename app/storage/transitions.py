"""The log: rows to domain values and back. Appended to, stamped void, never otherwise written."""

from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from app.domain.errors import NotFound
from app.domain.journey import Transition, TransitionKind
from app.storage.engine import Connection
from app.storage.opportunities import FACTS, facts_of
from app.storage.statement import Part

WHOLE: Final = """
SELECT * FROM transition WHERE workspace_id = $1 AND opportunity_id = $2 ORDER BY seq
"""

STANDING: Final = """
SELECT * FROM transition
WHERE workspace_id = $1 AND opportunity_id = $2 AND voided_at IS NULL ORDER BY seq
"""

WHOSE: Final = """
SELECT opportunity_id FROM transition WHERE workspace_id = $1 AND transition_id = $2
"""

VOID: Final = """
UPDATE transition SET voided_at = $4, voided_by = $5, void_reason = $6
WHERE workspace_id = $1 AND opportunity_id = $2 AND seq = $3 AND voided_at IS NULL
"""

COLUMNS: Final = (
    *("workspace_id", "opportunity_id", "seq", "transition_id", "pipeline_id", "revision"),
    *("kind", "from_slot", "from_name", "entered_at", "to_slot", "to_name", "occurred_at"),
    *("recorded_at", "loss_reason", "note", "override_reason", "actor", "linked_id", *FACTS),
    "import_id",
)
APPEND: Final = (
    f"INSERT INTO transition ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))})"
)

_frozen_facts = attrgetter(*FACTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A transition as the log keeps it: what was decided, by whom, under which definition.

    The stage names are those of the moment, frozen.
    """

    transition: Transition
    transition_id: UUID
    opportunity_id: UUID
    pipeline_id: UUID
    revision: int
    from_name: str | None
    to_name: str
    recorded_at: datetime
    actor: str
    note: str | None = None
    override_reason: str | None = None
    linked_id: UUID | None = None
    import_id: UUID | None = None
    voided_at: datetime | None = None
    voided_by: str | None = None
    void_reason: str | None = None


async def whole(connection: Connection, workspace: UUID, opportunity_id: UUID) -> list[LogEntry]:
    """The deal's log in order, voided rows included."""
    rows = await connection.fetch(WHOLE, workspace, opportunity_id)
    return [entry_of(row) for row in rows]


async def standing(connection: Connection, workspace: UUID, opportunity_id: UUID) -> list[LogEntry]:
    """The deal's transitions that are not voided, in order."""
    rows = await connection.fetch(STANDING, workspace, opportunity_id)
    return [entry_of(row) for row in rows]


async def opportunity_of(connection: Connection, workspace: UUID, transition_id: UUID) -> UUID:
    """The deal whose log has the transition. Raises NotFound."""
    found: UUID | None = await connection.fetchval(WHOSE, workspace, transition_id)
    if found is None:
        raise no_transition(transition_id)
    return found


def no_transition(transition_id: UUID) -> NotFound:
    """It is not there, or its deal is not to be seen: nobody is told which."""
    return NotFound(f"There is no transition {transition_id}.")


def entry_of(row: Any) -> LogEntry:
    """A row of `transition` as the log keeps it."""
    return LogEntry(
        transition=Transition(
            seq=row["seq"],
            kind=TransitionKind(row["kind"]),
            from_slot=row["from_slot"],
            entered_at=row["entered_at"],
            to_slot=row["to_slot"],
            occurred_at=row["occurred_at"],
            facts=facts_of(row),
            loss_reason=row["loss_reason"],
        ),
        **{name: row[name] for name in LogEntry.__dataclass_fields__ if name != "transition"},
    )


def append(workspace: UUID, entry: LogEntry) -> Part:
    """Appends to the log."""
    moved = entry.transition
    return Part(
        APPEND,
        (
            workspace,
            entry.opportunity_id,
            moved.seq,
            entry.transition_id,
            entry.pipeline_id,
            entry.revision,
            moved.kind.value,
            moved.from_slot,
            entry.from_name,
            moved.entered_at,
            moved.to_slot,
            entry.to_name,
            moved.occurred_at,
            entry.recorded_at,
            moved.loss_reason,
            entry.note,
            entry.override_reason,
            entry.actor,
            entry.linked_id,
            *_frozen_facts(moved.facts),
            entry.import_id,
        ),
    )


def void(workspace: UUID, entry: LogEntry, at: datetime, by: str, reason: str) -> Part:
    """The stamp: the only thing ever written on a transition after it was appended."""
    return Part(
        VOID,
        (workspace, entry.opportunity_id, entry.transition.seq, at, by, reason),
        guarded=True,
    )
