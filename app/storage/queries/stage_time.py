"""How long do visits in open stages last? As `domain.measures.stage_time` defines it."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.durations import Quantiles
from app.domain.intervals import Silence
from app.domain.measures.selection import Value
from app.domain.measures.stage_time import StageTime, VisitPopulation, VisitReentry
from app.domain.pipeline import StageKind
from app.storage.aside import aside
from app.storage.queries.lengths import (
    NONE,
    PACKED,
    Lengths,
    in_order,
    samples,
    summary,
    survival,
)
from app.storage.queries.population import OPEN_AT_T
from app.storage.queries.question import Asked, Question, microseconds
from app.storage.queries.visits import asks_deals, counted, visits
from app.storage.segments import reading
from app.storage.segments.columns import Numbers, instant
from app.storage.segments.frames import Frame, sampled
from app.storage.segments.selecting import Columns

R = TypeVar("R")

_KEYS: Final = ("group", "slot")


@dataclass(frozen=True, slots=True)
class Stays:
    """The lengths of the completed stays, and the ages of the open ones."""

    ended: Lengths
    running: Lengths


async def stage_times(
    connection: AsyncConnection,
    asked: Asked,
    population: VisitPopulation,
    reentry: VisitReentry,
    *,
    grouped: bool,
) -> Mapping[Value, Mapping[int, StageTime]]:
    """By group and slot: how long did the completed stays last, how old are the open ones?"""

    def summed_up(these: Stays) -> StageTime:
        estimate = Quantiles(len(these.ended), reason=Silence.ENDED_ONLY)
        if population is VisitPopulation.ENTERED:
            estimate = survival(these.ended, these.running)
        return StageTime(summary(these.ended), summary(these.running), estimate)

    every = await stays(connection, asked, population, reentry, summed_up, grouped=grouped)
    found: dict[Value, dict[int, StageTime]] = defaultdict(dict)
    for (group, slot), time in every.items():
        found[group][slot] = time
    return found


async def stays(
    connection: AsyncConnection,
    asked: Asked,
    population: VisitPopulation,
    reentry: VisitReentry,
    told: Callable[[Stays], R],
    *,
    grouped: bool,
    slot: int | None = None,
) -> Mapping[tuple[Value, int], R]:
    """By group and slot: what `told` makes of every length.

    Of one stage alone, where its slot is given.
    """
    question = Question(asked, grouped=grouped)
    entered = population is VisitPopulation.ENTERED
    if reentry is VisitReentry.EVERY:
        found = await _in_columns(connection, question, population, told, slot)
        if found is not None:
            return found
    join, group = question.group("d.entered_at" if entered else "d.left_at")
    slots = ":open_slots" if slot is None else f"ARRAY[CAST({question.bind(slot)} AS int)]"
    ended = question.period("t.entered_at" if entered else "t.occurred_at")
    left = f"t.from_slot = ANY({slots}){ended}"
    under_way = f"d.status = 'open' AND d.slot = ANY({slots}){question.period('d.entered_at')}"
    until = "coalesce(d.left_at, :aged_until)"
    every = reentry is VisitReentry.EVERY

    def lengths(visits: str) -> str:
        each = f"""
            SELECT {group} AS "group", d.opportunity_id, d.slot, d.left_at IS NULL AS is_open,
                   greatest({microseconds(f"{until} - d.entered_at")}, 0) AS lasted
            FROM {visits} AS d {join} WHERE TRUE{question.filters()}"""
        if not every:
            each = f"""
                SELECT v."group", v.slot, sum(v.lasted) AS lasted, bool_or(v.is_open) AS is_open
                FROM ({each}) AS v GROUP BY v."group", v.opportunity_id, v.slot"""
        return f"""
            SELECT s."group", s.slot, s.is_open, {PACKED.format("s.lasted")} AS lengths
            FROM ({each}) AS s GROUP BY 1, 2, 3"""

    bears_deals = asks_deals(question)
    of_visits: dict[str, Any] = {
        "left": f" AND {left}",
        "under_way": f" AND {under_way}" if entered else None,
        "narrowed": "" if bears_deals else OPEN_AT_T,
        "unmoved": "" if bears_deals else " AND o.status = 'open'",
    }
    # A sum is made of completed visits and the one under way, which are otherwise counted apart.
    sql = (
        counted(question, lengths, **of_visits)
        if every
        else visits(question, **of_visits) + lengths("visits")
    )
    lasted = await samples(
        await question.rows(connection, sql),
        lambda row: (row.group, row.slot, row.is_open),
        in_order,
    )
    return await aside(_of_each, lasted, told)


def _of_each(
    lasted: Mapping[tuple[Value, int, bool], Lengths], told: Callable[[Stays], R]
) -> Mapping[tuple[Value, int], R]:
    return {
        key: told(Stays(lasted.get((*key, False), NONE), lasted.get((*key, True), NONE)))
        for key in {(group, slot) for group, slot, _ in lasted}
    }


async def _in_columns(
    connection: AsyncConnection,
    question: Question,
    population: VisitPopulation,
    told: Callable[[Stays], R],
    slot: int | None,
) -> Mapping[tuple[Value, int], R] | None:
    """The same, of every visit by itself, where segments hold them."""
    slots = question.ranking.slots(StageKind.OPEN) if slot is None else (slot,)
    until = instant(question.aged_until)

    def aged(frame: Frame) -> tuple[Frame, Numbers]:
        return frame, np.maximum(until - frame.of("entered_at"), 0)

    def count(completed: Columns, standing: Columns | None) -> Mapping[tuple[Value, int], R]:
        under_way = [] if standing is None else standing.chosen(status=["open"], slot=slots)
        running = sampled(map(aged, under_way), _KEYS, lambda _, ages: in_order(ages))
        left = completed.chosen(slot=slots)
        lasted = ((each, each.numbers("lasted")) for each in left)
        ended = sampled(
            lasted,
            _KEYS,
            lambda key, stayed: told(Stays(in_order(stayed), running.pop(key, NONE))),
        )
        alone = {key: told(Stays(NONE, ages)) for key, ages in running.items()}
        return {(group, of_slot): each for (group, of_slot), each in (ended | alone).items()}

    names = {"slot", "lasted"}
    if population is VisitPopulation.ENTERED:
        async with reading.visits(connection, question, names, counted="entered_at") as all_:
            return None if all_ is None else await aside(count, all_.completed, all_.standing)
    ended_alone = reading.completed_visits(connection, question, names, counted="left_at")
    async with ended_alone as completed:
        return None if completed is None else await aside(count, completed, None)
