"""Where do the open deals stand at T, how old are they there, and who is idle?

As `domain.measures.snapshot` defines it: in columns where segments hold the deals, else by SQL.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.idleness import latest_start
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Value
from app.domain.measures.snapshot import BUCKET_SHARES, BUCKET_YEAR, Standing
from app.domain.measures.sums import NONE, Count, weighing
from app.domain.pipeline import IdleClock, IdleRule, StageKind
from app.storage.driver import Record
from app.storage.queries import standings as in_columns
from app.storage.queries.lengths import PACKED, quantiles, samples
from app.storage.queries.population import OPEN_AT_T, deals
from app.storage.queries.question import Asked, Question, microseconds
from app.storage.queries.standings import Ends


async def standings(
    connection: AsyncConnection,
    asked: Asked,
    *,
    grouped: bool,
    ends: Ends | None = None,
) -> Mapping[Value, Mapping[int, Standing]]:
    """By group and slot: the open deals that stand there at T. `ends`: the `bucket_ends`."""
    question = Question(asked, grouped=grouped)
    if ends is None:
        ends = await bucket_ends(connection, asked)
    found = await in_columns.standings(connection, question, ends)
    return await _standings(connection, question, ends) if found is None else found


async def bucket_ends(connection: AsyncConnection, asked: Asked) -> Ends:
    """By slot: at which ages do its buckets end? Whoever made the visits: no filter applies."""
    found = await in_columns.bucket_ends(connection, asked)
    return await _bucket_ends(connection, asked) if found is None else found


async def _standings(
    connection: AsyncConnection, question: Question, ends: Ends
) -> Mapping[Value, Mapping[int, Standing]]:
    buckets = len(BUCKET_SHARES)
    rows = await question.rows(
        connection,
        f"""{standing(question, ends)}
        SELECT s."group", s.slot, grouping(s.currency) = 1 AS is_whole, s.currency,
               count(*) AS deals, sum(s.amount) AS amount,
               sum(s.amount * s.probability) AS weighted,
               count(*) FILTER (WHERE s.amount IS NOT NULL AND s.probability IS NULL)
                   AS unweighted,
               count(*) FILTER (WHERE s.idle) AS idle,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY s.age) AS median_age,
               min(s.ends) AS ends,
               {
            ", ".join(
                f"count(*) FILTER (WHERE width_bucket(s.age, s.ends) = {n}) AS bucket_{n}"
                for n in range(buckets + 1)
            )
        }
        FROM standing AS s
        GROUP BY GROUPING SETS ((s."group", s.slot), (s."group", s.slot, s.currency))""",
    )
    sums: dict[tuple[Value, int], list[Record]] = defaultdict(list)
    for row in rows:
        if not row.is_whole and row.currency is not None:
            sums[row.group, row.slot].append(row)
    found: dict[Value, dict[int, Standing]] = defaultdict(dict)
    for row in rows:
        if row.is_whole:
            found[row.group][row.slot] = _standing(row, sums[row.group, row.slot])
    return found


async def _bucket_ends(connection: AsyncConnection, asked: Asked) -> Ends:
    question = Question(asked, grouped=False)
    year_before = question.bind(asked.selection.as_of - BUCKET_YEAR)
    of_seen = ""
    if not question.sight.is_whole:
        of_seen = f"""AND EXISTS (SELECT FROM opportunity AS o
            WHERE {question.of_pipeline} AND o.opportunity_id = t.opportunity_id)"""
    rows = await question.rows(
        connection,
        f"""
        SELECT t.from_slot AS slot,
               {PACKED.format(microseconds("t.occurred_at - t.entered_at"))} AS lengths
        FROM transition AS t
        WHERE t.workspace_id = :workspace AND t.pipeline_id = :pipeline
          AND t.from_slot = ANY(:open_slots) AND t.entered_at IS NOT NULL
          AND {question.standing()} AND t.occurred_at >= {year_before} AND t.occurred_at < :as_of
          {of_seen}
        GROUP BY t.from_slot""",
    )
    return await samples(
        rows, lambda row: row.slot, lambda lengths: quantiles(lengths, BUCKET_SHARES)
    )


def standing(question: Question, ends: Ends) -> str:
    """`WITH … standing AS (…)`: the open deals at T and what the snapshot tells of each.

    `ends`: the `bucket_ends`, as far as they are asked for.
    """
    join, group = question.group()
    population = deals(
        question,
        facts=True,
        narrowed=OPEN_AT_T,
        unmoved=" AND o.status = 'open'",
        by_move=question.asks_moved_facts,
    )
    return f"""{population}, rules AS ({_rules(question, ends)}),
        standing AS (
            SELECT {group} AS "group", d.opportunity_id, d.slot, d.amount,
                   CASE WHEN d.amount IS NOT NULL THEN d.currency END AS currency,
                   coalesce(d.probability, rules.probability) AS probability,
                   greatest({microseconds(":aged_until - d.entered_at")}, 0) AS age,
                   coalesce({_clock_start()} <= {_LATEST_START}, FALSE) AS idle,
                   rules.ends
            FROM deals AS d {join} JOIN rules ON rules.slot = d.slot
            {_last_activity(question)}
            WHERE d.status = 'open'{question.filters()}
        )"""


def _standing(whole: Record, by_currency: list[Record]) -> Standing:
    has_buckets = whole.ends is not None
    amounts = sum((weighing(0, row.amount, row.currency) for row in by_currency), NONE).amounts
    weighted = sum((weighing(0, row.weighted, row.currency) for row in by_currency), NONE).amounts
    buckets = range(len(BUCKET_SHARES) + 1)
    return Standing(
        count=Count(whole.deals, amounts),
        weighted=weighted,
        unweighted=whole.unweighted,
        median_age=whole.median_age,
        idle=whole.idle,
        boundaries=tuple(whole.ends) if has_buckets else (),
        buckets=tuple(getattr(whole, f"bucket_{n}") for n in buckets) if has_buckets else (),
    )


def _rules(question: Question, ends: Ends) -> str:
    """What does the definition say of each open stage?"""
    rules = question.bind(_rules_json(question.ranking, ends, question.aged_until))
    return f"""
        SELECT r.slot, r.probability, r.latest_start, r.by_priority, r.qualifying, r.ends
        FROM jsonb_to_recordset(CAST({rules} AS jsonb)) AS r(slot int, probability numeric,
            latest_start timestamptz, by_priority jsonb, qualifying text[], ends float8[])"""


_LATEST_START = """CASE WHEN rules.by_priority ? d.priority
    THEN CAST(rules.by_priority ->> d.priority AS timestamptz) ELSE rules.latest_start END"""


def _rules_json(ranking: Ranking, ends: Ends, until: datetime) -> str:
    def latest(rule: IdleRule, priority: str | None) -> str | None:
        found = latest_start(rule, priority, until)
        return None if found is None else found.isoformat()

    stages = [ranking.stage(slot) for slot in ranking.slots(StageKind.OPEN)]
    return json.dumps(
        [
            {
                "slot": stage.slot,
                "probability": None if stage.probability is None else str(stage.probability),
                "latest_start": latest(stage.idle, None),
                "by_priority": {
                    priority: latest(stage.idle, priority)
                    for priority in stage.idle.after_by_priority
                },
                "qualifying": list(stage.idle.qualifying)
                if stage.idle.clock is IdleClock.INACTIVITY
                else None,
                "ends": ends.get(stage.slot),
            }
            for stage in stages
        ]
    )


def _clock_start() -> str:
    """When the deal's idle clock started: its last move of its own, or a later activity."""
    return "greatest(d.moved_at, active.at)"


def _last_activity(question: Question) -> str:
    """The last qualifying activity before T, where the stage's clock asks for it."""
    stages = [question.ranking.stage(slot) for slot in question.ranking.slots(StageKind.OPEN)]
    if all(stage.idle.clock is not IdleClock.INACTIVITY for stage in stages):
        return "CROSS JOIN (SELECT CAST(NULL AS timestamptz) AS at) AS active"
    return f"""CROSS JOIN LATERAL (
        SELECT max(a.occurred_at) AS at FROM activity AS a
        WHERE rules.qualifying IS NOT NULL AND a.workspace_id = :workspace
          AND a.opportunity_id = d.opportunity_id AND a.kind = ANY(rules.qualifying)
          AND a.occurred_at < :as_of{_heard(question)}
    ) AS active"""


def _heard(question: Question) -> str:
    return "" if question.selection.known_at is None else " AND a.recorded_at < :known_at"
