"""What came into each stage in the period, what went out of it, and where to?

Visits, counted by the database as `domain.measures.flow` defines them. One that ended before the
period is never read: all others were there at its start or entered in it, and either ended in it
or are there at its end. So three counts a stage tell the rest.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.journey import TransitionKind
from app.domain.measures.flow import Cell, Move, StageFlow, way_out
from app.domain.measures.selection import Value
from app.storage.queries.lengths import PACKED, quantile, samples
from app.storage.queries.question import Asked, Question, microseconds
from app.storage.queries.visits import counted


async def stage_flows(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[int, StageFlow]]:
    """By group and slot: what came in, what went out and how, what was there before and after?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    start, end = question.selection.start, question.selection.end
    before_start = "FALSE" if start is None else "d.entered_at < :start"
    by_the_end = "IS NOT NULL" if end is None else "< :end"
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda touching: (
                f"""
                SELECT {group} AS "group", d.slot, d.kind, count(*) AS visits,
                       count(*) FILTER (WHERE {before_start}) AS at_start,
                       count(*) FILTER (WHERE d.left_at {by_the_end}) AS ended
                FROM {touching} AS d {join} WHERE TRUE{question.filters()}
                GROUP BY 1, 2, 3"""
            ),
            left=("" if start is None else " AND t.occurred_at >= :start")
            + ("" if end is None else " AND t.entered_at < :end"),
            under_way="" if end is None else " AND d.entered_at < :end",
            narrowed="" if end is None else " AND o.opened_at < :end",
        ),
    )
    sums: dict[tuple[Value, int], Counter[str]] = defaultdict(Counter)
    exits: dict[tuple[Value, int], Counter[TransitionKind]] = defaultdict(Counter)
    for row in rows:
        key = row.group, row.slot
        sums[key].update(visits=row.visits, at_start=row.at_start, ended=row.ended)
        if row.ended:
            exits[key][way_out(TransitionKind(row.kind))] += row.ended
    found: dict[Value, dict[int, StageFlow]] = defaultdict(dict)
    for (group_value, slot), counts in sums.items():
        found[group_value][slot] = StageFlow(
            open_at_start=counts["at_start"],
            entries=counts["visits"] - counts["at_start"],
            exits=exits[group_value, slot],
            open_at_end=counts["visits"] - counts["ended"],
        )
    return found


async def moves(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[Move, Cell]]:
    """By group: every exit of the period, from where to where, and after how long?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    dwell = microseconds("d.left_at - d.entered_at")
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda left: (
                f"""
                SELECT {group} AS "group", d.slot,
                       CASE WHEN d.kind <> 'handed_off' THEN d.to_slot END AS to_slot,
                       {PACKED.format(dwell)} AS lengths
                FROM {left} AS d {join} WHERE TRUE{question.filters()}
                GROUP BY 1, 2, 3"""
            ),
            left=question.period("t.occurred_at"),
            under_way=None,
        ),
    )
    found: dict[Value, dict[Move, Cell]] = defaultdict(dict)
    every = await samples(rows, lambda row: (row.group, row.slot, row.to_slot))
    for (of_group, slot, to_slot), lengths in every.items():
        found[of_group][slot, to_slot] = Cell(len(lengths), quantile(lengths, 0.5))
    return found
