"""How long did closed deals take, how many were won, and why were the others lost?

Counted by the database as `domain.measures.closings` defines it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.durations import Summary
from app.domain.journey import Status
from app.domain.measures.closings import DealPopulation, Losses, Outcome, WinRate
from app.domain.measures.selection import Value
from app.domain.measures.sums import NONE, Count, weighing
from app.storage.queries.lengths import NONE as NO_LENGTHS
from app.storage.queries.lengths import PACKED, Lengths, samples, summary, together
from app.storage.queries.population import counted, deals
from app.storage.queries.question import Asked, Question, microseconds, status_of


async def cycle_times(
    connection: AsyncConnection, asked: Asked, population: DealPopulation, *, grouped: bool
) -> Mapping[Value, Mapping[Outcome, Summary]]:
    """By group and outcome: how long, in microseconds, from the first opening to the last close?"""
    found = await cycles(connection, asked, population, grouped=grouped)
    return await asyncio.to_thread(_summed_up, found)


def _summed_up(
    found: Mapping[Value, Mapping[Outcome, Lengths]],
) -> Mapping[Value, Mapping[Outcome, Summary]]:
    return {
        group: {
            **{outcome: summary(of.get(outcome, NO_LENGTHS)) for outcome in Outcome},
            Outcome.ALL: summary(together(of.values())),
        }
        for group, of in found.items()
    }


async def cycles(
    connection: AsyncConnection, asked: Asked, population: DealPopulation, *, grouped: bool
) -> Mapping[Value, Mapping[Outcome, Lengths]]:
    """By group and outcome, won or lost: every cycle."""
    question = Question(asked, grouped=grouped)
    join, group = question.group(counted_at(population))
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda deals: (
                f"""
                SELECT {group} AS "group", d.status, {PACKED.format("d.open_time")} AS lengths
                FROM {deals} AS d {join} WHERE {in_population(question, population)}
                GROUP BY 1, 2"""
            ),
            **_among(question, population, facts=False),
        ),
    )
    found: dict[Value, dict[Outcome, Lengths]] = defaultdict(dict)
    every = await samples(rows, lambda row: (row.group, Outcome(row.status)))
    for (of_group, outcome), lengths in every.items():
        found[of_group][outcome] = lengths
    return found


async def lifetimes(
    connection: AsyncConnection, asked: Asked
) -> tuple[Mapping[Status, Lengths], Lengths]:
    """How long did the deals opened in the period run, by how they ended, and the open ones?"""
    question = Question(asked, grouped=False)
    age = f"greatest({microseconds(':aged_until - d.entered_at')}, 0)"
    ran = f"d.open_time + CASE WHEN d.status = 'open' THEN {age} ELSE 0 END"
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda deals: (
                f"""
                SELECT d.status, {PACKED.format(ran)} AS lengths FROM {deals} AS d
                WHERE TRUE{question.period("d.opened_at")}{question.filters()} GROUP BY 1"""
            ),
            **_among(question, DealPopulation.OPENED, facts=False),
        ),
    )
    found = await samples(rows, status_of)
    return found, found.pop(Status.OPEN, NO_LENGTHS)


async def win_rates(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, WinRate]:
    """By group: how many of the deals closed in the period were won, how many lost?"""
    question = Question(asked, grouped=grouped)
    population = DealPopulation.CLOSED
    join, group = question.group(counted_at(population))
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda deals: (
                f"""
                SELECT {group} AS "group", d.status,
                       CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
                       count(*) AS deals, sum(d.amount) AS amount
                FROM {deals} AS d {join} WHERE {in_population(question, population)}
                GROUP BY 1, 2, 3"""
            ),
            **_among(question, population, facts=True),
        ),
    )
    found: dict[Value, dict[Status, Count]] = defaultdict(lambda: defaultdict(lambda: NONE))
    for row in rows:
        found[row.group][status_of(row)] += weighing(row.deals, row.amount, row.currency)
    return {
        group: WinRate(won=counts[Status.WON], lost=counts[Status.LOST])
        for group, counts in found.items()
    }


async def losses(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, list[Losses]]:
    """By group: from which stages were deals lost in the period, and why?"""
    question = Question(asked, grouped=grouped)
    population = DealPopulation.CLOSED
    join, group = question.group(counted_at(population))
    rows = await question.rows(
        connection,
        counted(
            question,
            lambda deals: (
                f"""
                SELECT {group} AS "group", lost.from_slot, lost.loss_reason,
                       CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
                       count(*) AS deals, sum(d.amount) AS amount
                FROM {deals} AS d {join} JOIN ({losing_moves(question)}) AS lost
                  ON lost.opportunity_id = d.opportunity_id AND lost.occurred_at = d.closed_at
                WHERE {in_population(question, population)} AND d.status = 'lost'
                GROUP BY 1, 2, 3, 4"""
            ),
            **_among(question, population, facts=True),
        ),
    )
    found: dict[Value, dict[tuple[int | None, str | None], Count]] = defaultdict(
        lambda: defaultdict(lambda: NONE)
    )
    for row in rows:
        count = weighing(row.deals, row.amount, row.currency)
        found[row.group][row.from_slot, row.loss_reason] += count
    return {
        group: [Losses(slot, reason, count) for (slot, reason), count in counts.items()]
        for group, counts in found.items()
    }


def losing_moves(question: Question) -> str:
    """The moves that lost deals in the period: of a deal's at one instant, the last."""

    def losses(t: str) -> str:
        return f"""{t}.workspace_id = :workspace AND {t}.pipeline_id = :pipeline
          AND {t}.loss_reason IS NOT NULL AND {question.standing(t)}
          AND {t}.occurred_at < :as_of{question.period(f"{t}.occurred_at")}"""

    return f"""
        SELECT t.opportunity_id, t.occurred_at, t.from_slot, t.loss_reason
        FROM transition AS t WHERE {losses("t")} AND NOT EXISTS (
            SELECT FROM transition AS later WHERE {losses("later")}
              AND later.opportunity_id = t.opportunity_id
              AND later.occurred_at = t.occurred_at AND later.seq > t.seq
        )"""


def counted_at(population: DealPopulation) -> str:
    """The column of the instant by which a deal is in the period."""
    return "d.closed_at" if population is DealPopulation.CLOSED else "d.opened_at"


def closed(question: Question, population: DealPopulation, *, facts: bool) -> str:
    """`WITH … deals AS (…)`, among which closed ones are found."""
    return deals(question, **_among(question, population, facts=facts))


def _among(question: Question, population: DealPopulation, *, facts: bool) -> dict[str, Any]:
    """What `population` is told of the deals among which closed ones are found."""
    told = {"facts": facts, "by_move": question.asks_moved_facts}
    if population is DealPopulation.OPENED:
        return {**told, "narrowed": question.period("o.opened_at")}
    before = "" if question.selection.end is None else " AND o.opened_at < :end"
    unmoved = f" AND o.closed_at IS NOT NULL{question.period('o.closed_at')}"
    return {**told, "narrowed": before, "unmoved": unmoved}


def in_population(question: Question, population: DealPopulation) -> str:
    """Which of them are won or lost, in the period, and pass the filters?"""
    period = question.period(counted_at(population))
    return f"d.status IN ('won', 'lost'){period}{question.filters()}"
