"""What came into each stage in the period, what went out of it, and where to?

Visits, counted by the database as `domain.measures.flow` defines them. One that ended before the
period is never read: all others were there at its start or entered in it, and either ended in it
or are there at its end. So three counts a stage tell the rest.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.journey import TransitionKind
from app.domain.measures.flow import Cell, Move, StageFlow, way_out
from app.domain.measures.selection import Selection, Value
from app.storage.aside import aside
from app.storage.queries.lengths import PACKED, Lengths, quantiles, samples
from app.storage.queries.question import Asked, Question, microseconds
from app.storage.queries.visits import counted
from app.storage.segments.alike import Key
from app.storage.segments.columns import Numbers, marked
from app.storage.segments.frames import Frame, sampled, tallied
from app.storage.segments.reading import TOUCHING, Visits, completed_visits, visits
from app.storage.segments.selecting import Columns

R = TypeVar("R")


async def stage_flows(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[int, StageFlow]]:
    """By group and slot: what came in, what went out and how, what was there before and after?"""
    alike = await _touching(connection, Question(asked, grouped=grouped))
    sums: dict[tuple[Value, int], Counter[str]] = defaultdict(Counter)
    exits: dict[tuple[Value, int], Counter[TransitionKind]] = defaultdict(Counter)
    for (group, slot, kind, at_start, ended), count in alike.items():
        key = group, slot
        sums[key].update(
            visits=count, at_start=count if at_start else 0, ended=count if ended else 0
        )
        if ended:
            exits[key][way_out(TransitionKind(kind))] += count
    found: dict[Value, dict[int, StageFlow]] = defaultdict(dict)
    for (group_value, slot), counts in sums.items():
        found[group_value][slot] = StageFlow(
            open_at_start=counts["at_start"],
            entries=counts["visits"] - counts["at_start"],
            exits=exits[group_value, slot],
            open_at_end=counts["visits"] - counts["ended"],
        )
    return found


async def _touching(connection: AsyncConnection, question: Question) -> Mapping[Key, int]:
    """The visits there in the period, alike in group, slot, kind of the move that ended them,
    whether they were there before its start, and whether they ended before its end.
    """
    start, end = question.selection.start, question.selection.end
    async with visits(connection, question, TOUCHING) as held:
        if held is not None:
            return await aside(_tallied, held, question.selection)
    join, group = question.group()
    before_start = "FALSE" if start is None else "d.entered_at < :start"
    by_the_end = "IS NOT NULL" if end is None else "< :end"
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda touching: (
                f"""
                SELECT {group} AS "group", d.slot, d.kind, {before_start} AS at_start,
                       coalesce(d.left_at {by_the_end}, FALSE) AS ended, count(*) AS visits
                FROM {touching} AS d {join} WHERE TRUE{question.filters()}
                GROUP BY 1, 2, 3, 4, 5"""
            ),
            left=("" if start is None else " AND t.occurred_at >= :start")
            + ("" if end is None else " AND t.entered_at < :end"),
            under_way="" if end is None else " AND d.entered_at < :end",
            narrowed="" if end is None else " AND o.opened_at < :end",
        ),
    )
    found: Counter[Key] = Counter()
    for row in rows:
        found[tuple(row)[:-1]] += row.visits
    return found


def _tallied(held: Visits, selection: Selection) -> Mapping[Key, int]:
    start, end = selection.start, selection.end

    def told() -> Iterator[Frame]:
        for frame in held.touching(start, end):
            at_start = np.zeros(frame.size, dtype=bool)
            if start is not None:
                at_start = frame.lies("entered_at", None, start)
            over = frame.lies("left_at", None, end or selection.as_of)
            yield frame.told("at_start", at_start).told("ended", over)

    return tallied(told(), ("group", "slot", "kind", "at_start", "ended"))


async def moves(
    connection: AsyncConnection, asked: Asked, *, grouped: bool, slot: int | None = None
) -> Mapping[Value, Mapping[Move, Cell]]:
    """By group: every exit of the period, from where to where, and after how long?

    Of one stage alone, where its slot is given.
    """
    every = await dwells(connection, asked, _cell, grouped=grouped, slot=slot)
    found: dict[Value, dict[Move, Cell]] = defaultdict(dict)
    for (group, from_slot, to_slot), cell in every.items():
        found[group][from_slot, to_slot] = cell
    return found


def _cell(lengths: Lengths) -> Cell:
    (median,) = quantiles(lengths, [0.5])
    return Cell(len(lengths), median)


async def dwells(
    connection: AsyncConnection,
    asked: Asked,
    told: Callable[[Lengths], R],
    *,
    grouped: bool,
    slot: int | None = None,
) -> Mapping[Key, R]:
    """How long did the visits that ended in the period last, alike in group, slot and next slot?

    It is answered by what `told` makes of their lengths, which come in any order. Of one stage
    alone, where its slot is given.
    """
    question = Question(asked, grouped=grouped)
    names = {"slot", "lasted", "kind", "to_slot"}
    async with completed_visits(connection, question, names, counted="left_at") as completed:
        if completed is not None:
            return await aside(_sampled, completed, slot, told)
    join, group = question.group("d.left_at")
    of_stage = "" if slot is None else f" AND t.from_slot = {question.bind(slot)}"
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
            left=question.period("t.occurred_at") + of_stage,
            under_way=None,
        ),
    )
    return await samples(rows, lambda row: tuple(row)[:-1], told)


def _sampled(completed: Columns, slot: int | None, told: Callable[[Lengths], R]) -> Mapping[Key, R]:
    def stays() -> Iterator[tuple[Frame, Numbers]]:
        for frame in completed.chosen(**({} if slot is None else {"slot": [slot]})):
            nowhere = frame.bears("kind", TransitionKind.HANDED_OFF)
            to_slot = marked(frame.coded("to_slot"), nowhere, None)
            yield frame.bearing("to_slot", to_slot), frame.numbers("lasted")

    return sampled(stays(), ("group", "slot", "to_slot"), lambda _, lengths: told(lengths))
