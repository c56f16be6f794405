"""The visits of a pipeline as they were at T, each with what it bears: what flows are counted from.

A transition is the visit that it ended; a visit under way at T is where a deal stood then.

The relation's columns: `opportunity_id, slot, entered_at, seq, left_at, kind, to_slot` (the last
four of the move that ended the visit: null while it is under way), and what is filtered and grouped
by, as the selection's attribution says: `by_owner` …, `tags, attributes, opened_at`.
"""

from collections.abc import Callable
from typing import Final

from app.domain.measures.selection import Attribution, Dimension
from app.storage.queries.population import BORNE, deals
from app.storage.queries.question import Question

_BEARING: Final = (*(f"by_{name}" for name in BORNE), "tags", "attributes", "opened_at")


def visits(
    question: Question,
    *,
    left: str,
    under_way: str | None,
    narrowed: str = "",
    unmoved: str = "",
) -> str:
    """`WITH … visits AS (…)`, to go on with a SELECT from `visits AS d`.

    `left`: ` AND …` on the transitions `t` that ended a visit; `under_way`: ` AND …` on the deals
    `d` that stand somewhere, None where none of those count. `narrowed` and `unmoved`: as of
    `population.deals`, true of every deal of which a visit counts.
    """
    parts = _parts(question, left, under_way)
    relation = f"visits AS ({' UNION ALL '.join(parts)})"
    return f"WITH {_deals(question, under_way, narrowed, unmoved)}{relation}"


def counted(
    question: Question,
    select: Callable[[str], str],
    *,
    left: str,
    under_way: str | None,
    narrowed: str = "",
    unmoved: str = "",
) -> str:
    """A statement that asks the completed visits and those under way apart: `select(part)`.

    So several processes may count the completed ones, which are many. A group may come in several
    rows, which the caller adds up.
    """
    parts = _parts(question, left, under_way)
    selects = " UNION ALL ".join(f"({select(f'({part})')})" for part in parts)
    population = _deals(question, under_way, narrowed, unmoved).removesuffix(", ")
    return f"WITH {population} {selects}" if population else selects


def _deals(question: Question, under_way: str | None, narrowed: str, unmoved: str) -> str:
    joined = asks_deals(question)
    if under_way is None and not joined:
        return ""
    relation = deals(question, facts=False, narrowed=narrowed, unmoved=unmoved, joined=joined)
    return f"{relation.removeprefix('WITH ')}, "


def _parts(question: Question, left: str, under_way: str | None) -> list[str]:
    """The completed visits, and those under way."""
    bears_current, joined = _bears_current(question), asks_deals(question)
    bearing = [f"d.{name}" for name in _BEARING]
    if not bears_current:
        bearing = [
            *(f"t.{name} AS by_{name}" for name in BORNE),
            "CAST(NULL AS text[]) AS tags",
            "CAST(NULL AS jsonb) AS attributes",
            "d.opened_at" if joined else "CAST(NULL AS timestamptz) AS opened_at",
        ]
    completed = f"""
        SELECT t.opportunity_id, t.from_slot AS slot, t.entered_at, t.seq,
               t.occurred_at AS left_at, t.kind, t.to_slot, {", ".join(bearing)}
        FROM transition AS t
        {"JOIN deals AS d ON d.opportunity_id = t.opportunity_id" if joined else ""}
        WHERE t.workspace_id = :workspace AND t.pipeline_id = :pipeline
          AND t.entered_at IS NOT NULL AND {question.standing()} AND t.occurred_at < :as_of{left}"""
    if under_way is None:
        return [completed]
    standing = f"""
        SELECT d.opportunity_id, d.slot, d.entered_at, CAST(NULL AS int) AS seq,
               CAST(NULL AS timestamptz) AS left_at, CAST(NULL AS text) AS kind,
               CAST(NULL AS smallint) AS to_slot, {", ".join(f"d.{name}" for name in _BEARING)}
        FROM deals AS d WHERE d.status <> 'handed_off'{under_way}"""
    return [completed, standing]


def asks_deals(question: Question) -> bool:
    """Whether the deals of completed visits are looked up too.

    When a deal was opened, and what it bears at T, no move tells.
    """
    return _bears_current(question) or Dimension("opened_month") in question.dimensions


def _bears_current(question: Question) -> bool:
    return question.asks_facts and question.selection.attribution is Attribution.CURRENT
