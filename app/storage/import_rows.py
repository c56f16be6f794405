"""The rows of an import between being read and being done, and what is known of their deals.

Staged rows are kept in the order in which they are worked on, by deal and instant: so a file may
come in any order, and an import takes as much memory as its largest deal.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from app.domain.opportunity import Opportunity
from app.storage import bulk
from app.storage.engine import Connection
from app.storage.opportunities import deal_of
from app.storage.statement import Part
from app.storage.transitions import LogEntry, entry_of

MOST_ROWS_OF_DEAL: Final = 20_000

STAGE: Final = """
INSERT INTO import_row (workspace_id, import_id, deal, occurred_at, sequence, line, ordinal, slot,
                        activity, loss_reason, says, raw)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""

# What the planner believes of a table that is filled and emptied by the hundred thousand is always
# out of date, and sorting all that is left for each piece would cost the square of the file.
BY_KEY: Final = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off
"""

# A connection keeps its plan for checking a reference. One made while the table was small, when one
# index seemed as good as another, goes on reading all deals of the workspace for each row until the
# table is analysed, a minute later: on a fresh database an import cost the square of its rows.
FORGET_PLANS: Final = "DISCARD PLANS"

_WORKED_ON = "deal, occurred_at, sequence, line, ordinal, slot, activity, loss_reason, says"

NEXT: Final = f"""
SELECT {_WORKED_ON} FROM import_row WHERE workspace_id = $1 AND import_id = $2 AND deal > $3
ORDER BY workspace_id, import_id, deal, occurred_at, sequence, line, ordinal LIMIT $4
"""

OF_DEAL: Final = f"""
SELECT {_WORKED_ON} FROM import_row WHERE workspace_id = $1 AND import_id = $2 AND deal = $3
ORDER BY occurred_at, sequence, line, ordinal
"""

RAW: Final = """
SELECT DISTINCT line, raw FROM import_row
WHERE workspace_id = $1 AND import_id = $2 AND deal = ANY($3) AND line = ANY($4)
"""

TOO_LONG: Final = f"""
SELECT deal FROM import_row WHERE workspace_id = $1 AND import_id = $2
GROUP BY deal HAVING count(*) > {MOST_ROWS_OF_DEAL} LIMIT 1
"""

CLEAR: Final = """
DELETE FROM import_row WHERE workspace_id = $1 AND import_id = $2 AND deal <= (
    SELECT max(deal) FROM (
        SELECT deal FROM import_row WHERE workspace_id = $1 AND import_id = $2
        ORDER BY workspace_id, import_id, deal LIMIT 20000
    ) AS first_ones
)
"""

# A lock in a statement of its own, always in one order: what is read after it is what stands.
LOCK: Final = """
SELECT 1 FROM opportunity WHERE workspace_id = $1 AND external_id = ANY($2)
ORDER BY opportunity_id FOR NO KEY UPDATE
"""

DEALS: Final = "SELECT * FROM opportunity WHERE workspace_id = $1 AND external_id = ANY($2)"

LOGS: Final = """
SELECT * FROM transition
WHERE workspace_id = $1 AND opportunity_id = ANY($2) AND voided_at IS NULL
ORDER BY opportunity_id, seq
"""

LAST_CHANGES: Final = """
SELECT opportunity_id, field, max(occurred_at) AS changed_at FROM opportunity_change
WHERE workspace_id = $1 AND opportunity_id = ANY($2) GROUP BY opportunity_id, field
"""

ACTIVITIES: Final = """
SELECT opportunity_id, kind, occurred_at, count(*) AS held FROM activity
WHERE workspace_id = $1 AND opportunity_id = ANY($2) GROUP BY opportunity_id, kind, occurred_at
"""


class StagedRow(NamedTuple):
    """A dated statement of the file: the deal entered `slot`, or `activity` was done.

    `ordinal` tells apart the statements of one line. `says` is a JSON object of facts.
    """

    deal: str
    occurred_at: datetime
    sequence: int
    line: int
    ordinal: int
    slot: int | None
    activity: str | None
    loss_reason: str | None
    says: str | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class KnownDeal:
    """A deal that exists: its row, its standing log, and what else the import may repeat."""

    deal: Opportunity
    log: list[LogEntry] = field(default_factory=list)
    changed_at: dict[str, datetime] = field(default_factory=dict)
    activities: Counter[tuple[str, datetime]] = field(default_factory=Counter)


async def stage(
    connection: Connection, workspace: UUID, import_id: UUID, rows: Iterable[StagedRow]
) -> None:
    """Add rows to those that wait."""
    parts = [Part(STAGE, (workspace, import_id, *row)) for row in rows]
    await bulk.execute(connection, parts)


async def next_deals(
    connection: Connection, workspace: UUID, import_id: UUID, after: str | None, most: int
) -> dict[str, list[StagedRow]]:
    """All rows of each of the next deals after `after`, in order: about `most` rows."""
    await connection.execute(BY_KEY)
    found = await connection.fetch(NEXT, workspace, import_id, after or "", most + 1)
    if len(found) > most:
        last = found[-1]["deal"]
        if found[0]["deal"] == last:
            found = await connection.fetch(OF_DEAL, workspace, import_id, last)
        else:
            found = [row for row in found if row["deal"] != last]
    deals: dict[str, list[StagedRow]] = {}
    for row in found:
        deals.setdefault(row["deal"], []).append(StagedRow(*row))
    return deals


async def raw_lines(
    connection: Connection, workspace: UUID, import_id: UUID, places: Sequence[tuple[str, int]]
) -> dict[int, str]:
    """The text of lines, asked for by deal and line."""
    await connection.execute(BY_KEY)
    deals, lines = {deal for deal, _ in places}, {line for _, line in places}
    found = await connection.fetch(RAW, workspace, import_id, list(deals), list(lines))
    return {row["line"]: row["raw"] for row in found}


async def deal_with_too_many_rows(
    connection: Connection, workspace: UUID, import_id: UUID
) -> str | None:
    """A deal of which there are more rows than memory is promised for."""
    found: str | None = await connection.fetchval(TOO_LONG, workspace, import_id)
    return found


async def clear(connection: Connection, workspace: UUID, import_id: UUID) -> bool:
    """Delete some thousand of the rows; False where there was none."""
    await connection.execute(BY_KEY)
    deleted: str = await connection.execute(CLEAR, workspace, import_id)
    return deleted != "DELETE 0"


async def known_deals(
    connection: Connection, workspace: UUID, external_ids: Sequence[str], *, locked: bool
) -> dict[str, KnownDeal]:
    """Those of the deals that exist, by external id; `locked` keeps them as they are meanwhile.

    What the transaction goes on to do is planned for the tables as they are now.
    """
    await connection.execute(FORGET_PLANS)
    if locked:
        await connection.execute(LOCK, workspace, external_ids)
    rows = await connection.fetch(DEALS, workspace, external_ids)
    if not rows:
        return {}
    known = {row["opportunity_id"]: KnownDeal(deal_of(row)) for row in rows}
    ids = list(known)
    for row in await connection.fetch(LOGS, workspace, ids):
        known[row["opportunity_id"]].log.append(entry_of(row))
    for row in await connection.fetch(LAST_CHANGES, workspace, ids):
        known[row["opportunity_id"]].changed_at[row["field"]] = row["changed_at"]
    for row in await connection.fetch(ACTIVITIES, workspace, ids):
        held: Any = row["held"]
        known[row["opportunity_id"]].activities[row["kind"], row["occurred_at"]] = held
    return {each.deal.external_id or "": each for each in known.values()}
