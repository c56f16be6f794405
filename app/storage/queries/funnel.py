"""How far did a cohort get? Sets of deals, as `domain.funnel` defines them.

The cohort is counted by status and reach mask; the few hundred masks are expanded to ranks in
Python, because ranks depend on the revision asked for and are never stored.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.funnel import FORWARD, Rank, Reentry, Skip, Tally, measure
from app.domain.intervals import Proportion
from app.domain.journey import Status
from app.domain.measures.selection import Value
from app.storage.queries.deal_counts import Among, weighed
from app.storage.queries.population import deals
from app.storage.queries.question import Asked, Question


async def ranks(
    connection: AsyncConnection, asked: Asked, skip: Skip, reentry: Reentry, *, grouped: bool
) -> Mapping[Value, tuple[Rank, ...]]:
    """By group: the funnel of its deals."""
    ranking = asked.ranking
    found = await tallies(connection, asked, grouped=grouped)
    if reentry is Reentry.EVERY:
        visits = await visit_steps(connection, asked, grouped=grouped)
        return {
            group: measure(ranking, rows, visits=visits.get(group, {}))
            for group, rows in found.items()
        }
    if skip is Skip.OBSERVED:
        steps = await observed_steps(connection, asked, grouped=grouped)
        return {
            group: measure(ranking, rows, observed=steps.get(group, {}))
            for group, rows in found.items()
        }
    return {group: measure(ranking, rows) for group, rows in found.items()}


async def tallies(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, list[Tally]]:
    """By group: how many deals of each status and reach mask are there, and what are they worth?"""
    question = Question(asked, grouped=grouped)
    counts = await weighed(connection, question, Among.OPENED, ["status", "reach_mask"])
    found: dict[Value, list[Tally]] = defaultdict(list)
    for (group, status, reach_mask), count in counts.items():
        found[group].append(Tally(Status(status), reach_mask, count))
    return found


async def observed_steps(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[int, int]]:
    """By group and rank: how many deals entered its stage, and after that the next one itself?"""
    question = Question(asked, grouped=grouped)
    slots = [stage.slot for stage in asked.ranking.path]
    steps = range(1, len(slots))
    if not steps:
        return {}
    # One pass over the log: when did each deal first enter a rank's stage, and when last?
    entries = ", ".join(
        f"min(t.seq) FILTER (WHERE t.to_slot = {slot}) AS first_{rank},"
        f" max(t.seq) FILTER (WHERE t.to_slot = {slot}) AS last_{rank}"
        for rank, slot in enumerate(slots, start=1)
    )
    onward = ", ".join(
        f"count(*) FILTER (WHERE e.last_{rank + 1} > e.first_{rank}) AS step_{rank}"
        for rank in steps
    )
    rows = await question.rows(
        connection,
        f"""{_cohort(question)},
        entries AS (
            SELECT c."group", {entries}
            FROM cohort AS c JOIN transition AS t
              ON t.workspace_id = :workspace AND t.opportunity_id = c.opportunity_id
            WHERE {question.standing()} AND t.occurred_at < :as_of AND t.kind <> 'handed_off'
            GROUP BY c.opportunity_id, c."group"
        )
        SELECT e."group", {onward} FROM entries AS e GROUP BY 1""",
    )
    return {row.group: {rank: getattr(row, f"step_{rank}") for rank in steps} for row in rows}


async def visit_steps(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[int, Proportion]]:
    """By group and rank: how many visits of its stage were there, and how many ended forward?"""
    question = Question(asked, grouped=grouped)
    forward = question.bind([kind.value for kind in FORWARD])
    rank_of = {stage.slot: rank for rank, stage in enumerate(asked.ranking.path, start=1)}
    slots = question.bind([*rank_of])
    rows = await question.rows(
        connection,
        f"""{_cohort(question)},
        -- A move begins a visit of one stage, and ends one of another.
        moved AS (
            SELECT c."group", t.from_slot, t.to_slot, t.kind, count(*) AS moves
            FROM cohort AS c JOIN transition AS t
              ON t.workspace_id = :workspace AND t.opportunity_id = c.opportunity_id
            WHERE {question.standing()} AND t.occurred_at < :as_of
            GROUP BY 1, 2, 3, 4
        )
        SELECT e."group", s.slot,
               sum(e.moves) FILTER (WHERE e.to_slot = s.slot AND e.kind <> 'handed_off') AS visits,
               sum(e.moves) FILTER (WHERE e.from_slot = s.slot AND e.kind = ANY({forward}))
                   AS forward
        FROM moved AS e CROSS JOIN unnest(CAST({slots} AS smallint[])) AS s(slot)
        GROUP BY 1, 2""",
    )
    found: dict[Value, dict[int, Proportion]] = defaultdict(dict)
    for row in rows:
        if row.visits is not None:
            share = Proportion(int(row.forward or 0), int(row.visits), independent=False)
            found[row.group][rank_of[row.slot]] = share
    return found


def _deals(question: Question) -> str:
    return deals(
        question,
        facts=True,
        narrowed=question.period("o.opened_at"),
        by_move=question.asks_moved_facts,
    )


def _cohort(question: Question) -> str:
    """`cohort`: each deal with the groups in which it counts."""
    join, group = question.group("d.opened_at")
    return f"""{_deals(question)},
        cohort AS MATERIALIZED (
            SELECT d.opportunity_id, {group} AS "group"
            FROM deals AS d {join}
            WHERE TRUE{question.period("d.opened_at")}{question.filters()}
        )"""
