"""How far did a cohort get? Sets of deals, counted by the database as `domain.funnel` defines them.

One pass over the cohort groups it by status and reach mask; the few hundred masks are expanded to
ranks in Python, because ranks depend on the revision asked for and are never stored.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.funnel import FORWARD, Rank, Reentry, Skip, Tally, measure
from app.domain.intervals import Proportion
from app.domain.measures.selection import Value
from app.domain.measures.sums import weighing
from app.storage.queries.population import deals
from app.storage.queries.question import Asked, Question, status_of


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
    join, group = question.group()
    rows = await question.rows(
        connection,
        f"""{_cohort(question)}
        SELECT {group} AS "group", d.status, d.reach_mask,
               CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
               count(*) AS deals, sum(d.amount) AS amount
        FROM deals AS d {join} WHERE TRUE{question.period("d.opened_at")}{question.filters()}
        GROUP BY 1, 2, 3, 4""",
    )
    found: dict[Value, list[Tally]] = defaultdict(list)
    for row in rows:
        count = weighing(row.deals, row.amount, row.currency)
        found[row.group].append(Tally(status_of(row), row.reach_mask, count))
    return found


async def observed_steps(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[int, int]]:
    """By group and rank: how many deals entered its stage, and after that the next one itself?"""
    question = Question(asked, grouped=grouped)
    rows = await question.rows(
        connection,
        f"""{_entries(question)},
        first_and_last AS (
            SELECT e."group", e.opportunity_id, e.rank, min(e.seq) AS first, max(e.seq) AS last
            FROM entries AS e GROUP BY 1, 2, 3
        )
        SELECT here."group", here.rank, count(*) AS deals
        FROM first_and_last AS here JOIN first_and_last AS following
          ON following.opportunity_id = here.opportunity_id
         AND following."group" IS NOT DISTINCT FROM here."group"
         AND following.rank = here.rank + 1 AND following.last > here.first
        GROUP BY 1, 2""",
    )
    found: dict[Value, dict[int, int]] = defaultdict(dict)
    for row in rows:
        found[row.group][row.rank] = row.deals
    return found


async def visit_steps(
    connection: AsyncConnection, asked: Asked, *, grouped: bool
) -> Mapping[Value, Mapping[int, Proportion]]:
    """By group and rank: how many visits of its stage were there, and how many ended forward?"""
    question = Question(asked, grouped=grouped)
    forward = question.bind([kind.value for kind in FORWARD])
    rows = await question.rows(
        connection,
        f"""{_entries(question)},
        visits AS (
            SELECT e."group", e.rank, count(*) AS visits FROM entries AS e GROUP BY 1, 2
        ), ended AS (
            SELECT c."group", p.rank, count(*) AS forward
            FROM cohort AS c JOIN transition AS t
              ON t.workspace_id = :workspace AND t.opportunity_id = c.opportunity_id
            JOIN path AS p ON p.slot = t.from_slot
            WHERE t.voided_at IS NULL AND t.occurred_at < :as_of AND t.kind = ANY({forward})
            GROUP BY 1, 2
        )
        SELECT v."group", v.rank, v.visits, coalesce(e.forward, 0) AS forward
        FROM visits AS v LEFT JOIN ended AS e
          ON e."group" IS NOT DISTINCT FROM v."group" AND e.rank = v.rank""",
    )
    found: dict[Value, dict[int, Proportion]] = defaultdict(dict)
    for row in rows:
        found[row.group][row.rank] = Proportion(row.forward, row.visits, independent=False)
    return found


def _cohort(question: Question) -> str:
    return deals(
        question,
        facts=True,
        narrowed=question.period("o.opened_at"),
        by_move=question.asks_moved_facts,
    )


def _entries(question: Question) -> str:
    """`path`: each rank's own stage; `cohort`: its deals; `entries`: what they entered."""
    join, group = question.group()
    slots = question.bind([stage.slot for stage in question.ranking.path])
    return f"""{_cohort(question)},
        path AS (
            SELECT p.slot, p.rank
            FROM unnest(CAST({slots} AS smallint[])) WITH ORDINALITY AS p(slot, rank)
        ), cohort AS MATERIALIZED (
            SELECT d.opportunity_id, {group} AS "group"
            FROM deals AS d {join}
            WHERE TRUE{question.period("d.opened_at")}{question.filters()}
        ), entries AS (
            SELECT c."group", c.opportunity_id, p.rank, t.seq
            FROM cohort AS c JOIN transition AS t
              ON t.workspace_id = :workspace AND t.opportunity_id = c.opportunity_id
            JOIN path AS p ON p.slot = t.to_slot
            WHERE t.voided_at IS NULL AND t.occurred_at < :as_of AND t.kind <> 'handed_off'
        )"""
