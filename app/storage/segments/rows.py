"""Rows made into columns by SQL: of the deals that are in no segment, and of those to be folded."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.aside import aside
from app.storage.driver import Record
from app.storage.queries import population
from app.storage.queries.population import BORNE
from app.storage.queries.question import Question
from app.storage.segments.columns import CHANGEABLE, Column
from app.storage.segments.selecting import Part
from app.storage.tables import unfolded

UNFOLDED: Final = unfolded("o.")
"""Of the row `o`: no segment bears its version."""

FEW: Final = f"pg_backend_pid() IS NOT NULL AND {UNFOLDED}"
"""The same where they are read for a question. This function, which no helping process may call,
keeps the planner from starting some: that takes longer than to read the few that there are."""

HANDFUL: Final = 4_096
"""So many are read sooner than a thread is woken for it."""


async def packed_part(
    connection: AsyncConnection,
    question: Question,
    packed: Mapping[str, Column],
    known: str,
    source: str,
) -> Part:
    """The columns of a relation that SQL reads; `known` is the WITH before it."""
    row = await one_row(connection, question, packed, known, source)
    if row.size <= HANDFUL:
        return part_of(row, packed)
    return await aside(part_of, row, packed)


def part_of(row: Record, packed: Mapping[str, Column]) -> Part:
    """What `one_row` read."""
    columns = {name: column.read(getattr(row, name)) for name, column in packed.items()}
    return Part(row.size, columns)


async def one_row(
    connection: AsyncConnection,
    question: Question,
    packed: Mapping[str, Column],
    known: str,
    source: str,
) -> Record:
    """A relation as one row: its `size`, and a value a column."""
    select = ", ".join(f"{column.packed} AS {name}" for name, column in packed.items())
    (row,) = await question.rows(
        connection, f"{known} SELECT count(*) AS size, {select} FROM {source}"
    )
    return row


def visits_of_unfolded(question: Question, *, of_deals: bool, replaying: bool) -> tuple[str, str]:
    """The completed visits of the unfolded deals, as the relation that `VISITS` is made of.

    `of_deals`: they bear what their deals bore at T.
    """
    known, deals = population.picked(question, FEW, replaying=of_deals and replaying)
    source = deals if of_deals else "picked"
    return known, f"{source} AS d CROSS JOIN LATERAL ({visits_of('d')}) AS v"


def visits_of(deal: str) -> str:
    """The completed visits of one deal, in order; so its own log is looked up, not all of it.

    `nth`: which of them each is.
    """
    borne = ", ".join(f"t.{name} AS by_{name}" for name in BORNE)
    return f"""
        SELECT t.from_slot AS slot, t.entered_at, t.occurred_at AS left_at, t.kind, t.to_slot,
               t.seq AS nth, {borne}
        FROM transition AS t
        WHERE t.workspace_id = :workspace AND t.opportunity_id = {deal}.opportunity_id
          AND t.entered_at IS NOT NULL AND t.voided_at IS NULL
        ORDER BY nth"""


def changes_of(deal: str) -> str:
    """The changes of one deal's facts, in order; so its own are looked up, not all of them.

    `field` is the place of its name in CHANGEABLE, from 1; `nth`: which of them each is.
    """
    named = ", ".join(f"'{name}'" for name in CHANGEABLE)
    return f"""
        SELECT array_position(ARRAY[{named}], c.field) AS field, c.old, c.occurred_at,
               row_number() OVER (ORDER BY c.occurred_at, c.change_id) AS nth
        FROM opportunity_change AS c
        WHERE c.workspace_id = :workspace AND c.opportunity_id = {deal}.opportunity_id
          AND c.field IN ({named})
        ORDER BY nth"""
