"""How long do visits in open stages last? As `domain.measures.stage_time` defines it.

A transition is the visit that it ended; the visit still open at T is where the deal stood at T.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.measures.selection import Attribution, Dimension, Value
from app.domain.measures.stage_time import StageTime, VisitPopulation, VisitReentry
from app.storage.queries.population import BORNE, deals
from app.storage.queries.question import SUMMARY, Asked, Question, microseconds, summary_of

_BEARING = (*(f"by_{name}" for name in BORNE), "tags", "attributes", "opened_at")


async def stage_times(
    connection: AsyncConnection,
    asked: Asked,
    population: VisitPopulation,
    reentry: VisitReentry,
    *,
    grouped: bool,
) -> Mapping[Value, Mapping[int, StageTime]]:
    """By group and slot: how long did the completed stays last, how old are the open ones?"""
    question = Question(asked, grouped=grouped)
    join, group = question.group()
    stays = f"""
        SELECT {group} AS "group", d.opportunity_id, d.slot, d.lasted, d.is_open
        FROM visits AS d {join} WHERE TRUE{question.filters()}"""
    if reentry is VisitReentry.SUM:
        stays = f"""
            SELECT v."group", v.slot, sum(v.lasted) AS lasted, bool_or(v.is_open) AS is_open
            FROM ({stays}) AS v GROUP BY v."group", v.opportunity_id, v.slot"""
    rows = await question.rows(
        connection,
        f"""{deals(question, facts=False, joined=_asks_current(question))},
        visits AS ({_visits(question, population)}), stays AS ({stays})
        SELECT s."group", s.slot, s.is_open, {SUMMARY.format("s.lasted")}
        FROM stays AS s GROUP BY 1, 2, 3""",
    )
    completed = {(row.group, row.slot): row for row in rows if not row.is_open}
    still_open = {(row.group, row.slot): row for row in rows if row.is_open}
    found: dict[Value, dict[int, StageTime]] = defaultdict(dict)
    for key in completed.keys() | still_open.keys():
        group_value, slot = key
        found[group_value][slot] = StageTime(
            completed=summary_of(completed.get(key)), open=summary_of(still_open.get(key))
        )
    return found


def _visits(question: Question, population: VisitPopulation) -> str:
    """The visits of the population, completed or open at T, with what each bears."""
    entered = population is VisitPopulation.ENTERED
    bearing, source = _completed_bearing(question)
    completed = f"""
        SELECT t.opportunity_id, t.from_slot AS slot, FALSE AS is_open,
               {microseconds("t.occurred_at - t.entered_at")} AS lasted, {bearing}
        FROM transition AS t {source}
        WHERE t.workspace_id = :workspace AND t.pipeline_id = :pipeline
          AND t.from_slot = ANY(:open_slots) AND t.entered_at IS NOT NULL
          AND {question.standing()} AND t.occurred_at < :as_of
          {question.period("t.entered_at" if entered else "t.occurred_at")}"""
    if not entered:
        return completed
    return f"""{completed}
        UNION ALL
        SELECT d.opportunity_id, d.slot, TRUE, {microseconds(":as_of - d.entered_at")},
               {", ".join(f"d.{name}" for name in _BEARING)}
        FROM deals AS d WHERE d.status = 'open'{question.period("d.entered_at")}"""


def _completed_bearing(question: Question) -> tuple[str, str]:
    """What a completed visit bears, and whence; only what is asked for is looked up."""
    if _asks_current(question):
        bearing = ", ".join(f"d.{name}" for name in _BEARING)
        return bearing, "JOIN deals AS d ON d.opportunity_id = t.opportunity_id"
    frozen = ", ".join(f"t.{name} AS by_{name}" for name in BORNE)
    none = "CAST(NULL AS text[]) AS tags, CAST(NULL AS jsonb) AS attributes"
    if Dimension("opened_month") in question.dimensions:
        own = "o.workspace_id = :workspace AND o.opportunity_id = t.opportunity_id"
        return f"{frozen}, {none}, o.opened_at", f"JOIN opportunity AS o ON {own}"
    return f"{frozen}, {none}, CAST(NULL AS timestamptz) AS opened_at", ""


def _asks_current(question: Question) -> bool:
    """Whether completed visits are filtered or grouped by what the deal bears at T."""
    return question.asks_facts and question.selection.attribution is Attribution.CURRENT
