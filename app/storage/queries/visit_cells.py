"""Which visits does a count count? The SQL of the cells that hold visits, as `cells` lists them.

Not here: the visits of the deals opened in a period, which are found by their deals.
"""

from typing import Final

from app.domain.journey import TransitionKind
from app.domain.measures.cells import Counted, VisitCell
from app.storage.queries.question import Question, microseconds
from app.storage.queries.visits import visits

_UNDER_WAY: Final = 2_147_483_647
"""The number of the move that is still to end a visit: such a visit comes last of the deal's."""


def held(question: Question, cell: VisitCell) -> tuple[str, str]:
    """A `WITH …`, and what the cell holds of it, by when it was entered, or left."""
    left, under_way = ways(question, cell)
    narrowed = "" if question.selection.end is None else " AND o.opened_at < :end"
    at = "d.left_at" if cell.counted is Counted.LEFT else "d.entered_at"
    stays = f"""
        SELECT d.opportunity_id, {at} AS at, {stay("d")}
        FROM visits AS d WHERE TRUE{question.filters()}"""
    if cell.arriving:
        # OFFSET keeps the order before the test, which is made of as many as fill a page.
        stays = f"""
            SELECT s.* FROM ({stays} ORDER BY at, opportunity_id, seq OFFSET 0) AS s
            WHERE {_arrived(question, cell)}"""
    if cell.summed:
        over = {None: "TRUE", True: "s.left_at IS NOT NULL", False: "s.left_at IS NULL"}
        stays = f"""
            SELECT s.* FROM (
                SELECT v.opportunity_id, min(v.at) AS at, min(v.seq) AS seq, v.slot,
                       sum(v.lasted) AS lasted, min(v.entered_at) AS entered_at,
                       CASE WHEN bool_and(v.left_at IS NOT NULL) THEN max(v.left_at) END AS left_at
                FROM ({stays}) AS v GROUP BY v.opportunity_id, v.slot
            ) AS s WHERE {over[cell.ended]}"""
    return visits(question, left=left, under_way=under_way, narrowed=narrowed), stays


def ways(question: Question, cell: VisitCell) -> tuple[str, str | None]:
    """` AND …` on the moves `t` that ended a visit of the cell, and on the deals `d` still in one.

    None where no visit under way can be of the cell.
    """
    ended = None if cell.summed else cell.ended  # of a sum, only all parts together tell
    left = f" AND t.from_slot {_among(question, cell.slots)}"
    left += _in_period(question, cell.counted, "t.entered_at", "t.occurred_at")
    if cell.ended_by is not None:
        left += f" AND t.kind = ANY({question.bind(sorted(cell.ended_by))})"
    if cell.to_slot is not None:
        gone = TransitionKind.HANDED_OFF.value  # it keeps the stage, and leads nowhere
        left += f" AND t.to_slot = {question.bind(cell.to_slot)} AND t.kind <> '{gone}'"
    if ended is False:
        left = " AND FALSE"
    of_ends = cell.counted is Counted.LEFT or cell.ended_by is not None or cell.to_slot is not None
    if ended or of_ends:
        return left, None
    here = _in_period(question, cell.counted, "d.entered_at", None)
    return left, f" AND d.slot {_among(question, cell.slots)}{here}"


def stay(v: str) -> str:
    """The columns of a stay, of the visit `v`."""
    lasted = microseconds(f"coalesce({v}.left_at, :aged_until) - {v}.entered_at")
    return f"""coalesce({v}.seq, {_UNDER_WAY}) AS seq, {v}.slot, greatest({lasted}, 0) AS lasted,
               {v}.entered_at, {v}.left_at"""


def _arrived(question: Question, cell: VisitCell) -> str:
    """Whether the stay `s` began from outside the cell's stages: the move before its end tells.

    By the moves' order alone: several may bear one instant.
    """
    return f"""(
        SELECT t.from_slot IS NULL OR NOT t.from_slot {_among(question, cell.slots)}
        FROM transition AS t
        WHERE t.workspace_id = :workspace AND t.opportunity_id = s.opportunity_id
          AND t.seq < s.seq AND {question.standing()} AND t.occurred_at < :as_of
        ORDER BY t.seq DESC LIMIT 1)"""


def _among(question: Question, slots: frozenset[int]) -> str:
    """`= …`, of which one stage alone keeps the order of an index."""
    if len(slots) == 1:
        return f"= {question.bind(*slots)}"
    return f"= ANY({question.bind(sorted(slots))})"


def _in_period(question: Question, counted: Counted, entered: str, left: str | None) -> str:
    """` AND …`: whether a visit is of the population, by its own instants; `left` None: not yet."""
    match counted:
        case Counted.COHORT:
            return ""
        case Counted.ENTERED:
            return question.period(entered)
        case Counted.LEFT:
            assert left is not None, "what has not ended did not end in the period"
            return question.period(left)
        case Counted.AT_START if question.selection.start is None:
            return " AND FALSE"
        case Counted.AT_START:
            edge = ":start"
        case Counted.AT_END:
            edge = ":as_of" if question.selection.end is None else ":end"
    return f" AND {entered} < {edge}" + ("" if left is None else f" AND {left} >= {edge}")
