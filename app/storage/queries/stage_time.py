"""How long do visits in open stages last? As `domain.measures.stage_time` defines it."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.durations import Quantiles
from app.domain.intervals import Silence
from app.domain.measures.selection import Value
from app.domain.measures.stage_time import StageTime, VisitPopulation, VisitReentry
from app.storage.queries.lengths import NONE, PACKED, Lengths, samples, summary, survival
from app.storage.queries.population import OPEN_AT_T
from app.storage.queries.question import Asked, Question, microseconds
from app.storage.queries.visits import asks_deals, counted, visits


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
    every = await stays(connection, asked, population, reentry, grouped=grouped)
    return await asyncio.to_thread(_summed_up, every, population)


def _summed_up(
    every: Mapping[tuple[Value, int], Stays], population: VisitPopulation
) -> Mapping[Value, Mapping[int, StageTime]]:
    found: dict[Value, dict[int, StageTime]] = defaultdict(dict)
    for (group, slot), these in every.items():
        estimate = Quantiles(len(these.ended), reason=Silence.ENDED_ONLY)
        if population is VisitPopulation.ENTERED:
            estimate = survival(these.ended, these.running)
        found[group][slot] = StageTime(summary(these.ended), summary(these.running), estimate)
    return found


async def stays(
    connection: AsyncConnection,
    asked: Asked,
    population: VisitPopulation,
    reentry: VisitReentry,
    *,
    grouped: bool,
    slot: int | None = None,
) -> Mapping[tuple[Value, int], Stays]:
    """By group and slot: every length; of one stage alone, where its slot is given."""
    question = Question(asked, grouped=grouped)
    entered = population is VisitPopulation.ENTERED
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
    found = await samples(
        await question.rows(connection, sql), lambda row: (row.group, row.slot, row.is_open)
    )
    return {
        key: Stays(found.get((*key, False), NONE), found.get((*key, True), NONE))
        for key in {(group, slot) for group, slot, _ in found}
    }
