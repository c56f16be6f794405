"""The visits of a pipeline as they were at T, each with what it bears: what flows are counted from.

A transition is the visit that it ended; a visit under way at T is where a deal stood then.

The relation's columns: `opportunity_id, slot, entered_at, seq, left_at, kind, to_slot` (the last
four of the move that ended the visit: null while it is under way), and what is filtered and grouped
by, as the selection's attribution says: `by_owner` …, `tags, attributes, opened_at`.
"""

from collections.abc import Callable
from typing import Final

from app.domain.measures.selection import Attribution, Dimension
from app.storage.queries.population import BORNE, deals, parts
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
    joined = asks_deals(question)
    completed = _completed(question, left)
    if under_way is None and not joined:
        return f"WITH visits AS ({completed})"
    relation = deals(question, facts=False, narrowed=narrowed, unmoved=unmoved, joined=joined)
    standing = "" if under_way is None else f" UNION ALL {_standing('deals', under_way)}"
    return f"{relation}, visits AS ({completed}{standing})"


def counted(
    question: Question,
    select: Callable[[str], str],
    *,
    left: str,
    under_way: str | None,
    narrowed: str = "",
    unmoved: str = "",
) -> str:
    """A statement that asks each part of the relation by itself: `select(part)` counts one part.

    So several processes may count the completed visits, which are many. A group may come in several
    rows, which the caller adds up. The arguments are those of `visits`.
    """
    if asks_deals(question):
        relation = visits(
            question, left=left, under_way=under_way, narrowed=narrowed, unmoved=unmoved
        )
        return relation + select("visits")
    completed = f"({select(f'({_completed(question, left)})')})"
    if under_way is None:
        return completed
    log, found = parts(question, facts=False, narrowed=narrowed, unmoved=unmoved, by_move=False)
    standing = [f"({select(f'({_standing(part, under_way)})')})" for part in found]
    return f"WITH {log} " + " UNION ALL ".join([completed, *standing])


def _completed(question: Question, left: str) -> str:
    """The visits that ended: each is the transition that ended it."""
    bearing, joined = [f"d.{name}" for name in _BEARING], asks_deals(question)
    if not _bears_current(question):
        bearing = [
            *(f"t.{name} AS by_{name}" for name in BORNE),
            "CAST(NULL AS text[]) AS tags",
            "CAST(NULL AS jsonb) AS attributes",
            "d.opened_at" if joined else "CAST(NULL AS timestamptz) AS opened_at",
        ]
    return f"""
        SELECT t.opportunity_id, t.from_slot AS slot, t.entered_at, t.seq,
               t.occurred_at AS left_at, t.kind, t.to_slot, {", ".join(bearing)}
        FROM transition AS t
        {"JOIN deals AS d ON d.opportunity_id = t.opportunity_id" if joined else ""}
        WHERE t.workspace_id = :workspace AND t.pipeline_id = :pipeline
          AND t.entered_at IS NOT NULL AND {question.standing()} AND t.occurred_at < :as_of{left}"""


def _standing(deals: str, under_way: str) -> str:
    """The visits under way: each is where a deal stood."""
    return f"""
        SELECT d.opportunity_id, d.slot, d.entered_at, CAST(NULL AS int) AS seq,
               CAST(NULL AS timestamptz) AS left_at, CAST(NULL AS text) AS kind,
               CAST(NULL AS smallint) AS to_slot, {", ".join(f"d.{name}" for name in _BEARING)}
        FROM {deals} AS d WHERE d.status <> 'handed_off'{under_way}"""


def asks_deals(question: Question) -> bool:
    """Whether the deals of completed visits are looked up too.

    When a deal was opened, what it bears at T, and who sees it now, no move tells.
    """
    opened = Dimension("opened_month") in question.dimensions
    return _bears_current(question) or opened or not question.sight.is_whole


def _bears_current(question: Question) -> bool:
    return question.asks_facts and question.selection.attribution is Attribution.CURRENT
