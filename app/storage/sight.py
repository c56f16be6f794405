"""Which rows does a caller see? The row scope as a condition, for every query that shows deals.

Rows that belong to a deal (its transitions, flags, events) are seen with it: it is the deal's
*present* owner and team that count. What a caller does not see is not there: NotFound, as for
another workspace's.
"""

from uuid import UUID

from sqlalchemy import ColumnElement, Table, exists, or_, true

from app.domain.access import Sight
from app.domain.errors import NotFound
from app.storage.tables import opportunity


def seen(sight: Sight) -> ColumnElement[bool]:
    """Whether the deal of a row of `opportunity` is seen; nothing is asked where all are."""
    if sight.is_whole:
        return true()
    o = opportunity.c
    of_team = [] if sight.of_team is None else [o.team == sight.of_team]
    return or_(o.owner == sight.subject, *of_team)


def seen_with_deal(sight: Sight, table: Table) -> ColumnElement[bool]:
    """Whether the deal that a row of the table belongs to is seen."""
    if sight.is_whole:
        return true()
    o, t = opportunity.c, table.c
    return exists().where(
        o.workspace_id == t.workspace_id, o.opportunity_id == t.opportunity_id, seen(sight)
    )


def no_deal(opportunity_id: UUID) -> NotFound:
    """It is not there, or not to be seen: nobody is told which."""
    return NotFound(f"There is no opportunity {opportunity_id}.")
