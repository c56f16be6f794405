"""The deals of a pipeline as they were at T: the relation that every metric counts.

The deal's row tells of *now*. It answers for T where `stage_entered_at < T`, no fact of the open
deal has changed since, and nothing of the deal was written since `known_at`; of a closed deal whose
facts have changed since its close it keeps what the close froze (`closed_facts`). Every other deal
is replayed from its transitions, and its facts are taken back by the change log (metrics.md,
section 7). All of them are one relation in one statement. What it says is defined by
`domain.measures.hindsight.seen`.

Its columns: `opportunity_id, status, slot, opened_at, entered_at, moved_at, closed_at, reach_mask,
open_time` (of completed visits in open stages, in microseconds), the facts `amount, currency,
priority`, the deal's own `probability` (of a closed one it means nothing), and what is filtered and
grouped by: `by_owner, by_team, by_source, by_priority, by_currency, tags, attributes`. Of the row
as it is now: `winding` (whether it may have been closed before its last move: it has left a closed
stage, or the row does not know its close).
"""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from app.domain.pipeline import StageKind
from app.storage.queries.question import Question, microseconds

BORNE: Final = ("owner", "team", "source", "priority", "currency")
LINK: Final = "(t.kind = 'handed_off' AND t.entered_at IS NULL)"
PRESENT: Final = ("present_owner", "present_team")
"""Of the row as it is now, whatever T: by these a deal is seen or not."""

OPEN_AT_T: Final = " AND (o.closed_at IS NULL OR o.closed_at >= :as_of)"
"""True of the row of every deal that was open at T."""

# Whose row does not tell the facts at T, though the deal has not moved since: an open deal of which
# one was changed since, and a closed one of which the row has not kept what its close froze.
_AMENDED: Final = "(o.closed_at IS NULL AND o.facts_changed_at >= :as_of)"
_UNTOLD: Final = "(o.closed_facts = '{}')"


def deals(
    question: Question,
    *,
    facts: bool,
    narrowed: str = "",
    unmoved: str = "",
    by_move: bool = False,
    joined: bool = False,
) -> str:
    """`WITH … deals AS (…)`, to go on with a SELECT from `deals AS d`, or with another table.

    `facts`: whether the metric itself looks at what deals are. `narrowed`: ` AND …` on the deal's
    row `o`, true of every deal that can be in the population; `unmoved`: true of those among them
    that have not moved since T. `by_move`: filters and groups look at what the deal's last move
    froze. `joined`: the relation is to be joined with another table.

    Where statistics are older than an import, the planner takes every relation for one row and
    would compute it anew for each row of another; MATERIALIZED computes it once. Only the relation
    that is scanned alone is left open, so that the period reaches the index.
    """
    log, sources = _sources(
        question, facts=facts, narrowed=narrowed, unmoved=unmoved, by_move=by_move
    )
    once = "MATERIALIZED " if joined else ""
    return f"WITH {log}, deals AS {once}({' UNION ALL '.join(sources)})"


def counted(
    question: Question,
    select: Callable[[str], str],
    *,
    facts: bool,
    narrowed: str = "",
    unmoved: str = "",
    by_move: bool = False,
) -> str:
    """A statement that asks each part of the relation by itself: `select(part)` counts one part.

    So a group may come in several rows, which the caller adds up. The arguments are those of
    `deals`.
    """
    log, found = parts(question, facts=facts, narrowed=narrowed, unmoved=unmoved, by_move=by_move)
    return f"WITH {log} " + " UNION ALL ".join(f"({select(part)})" for part in found)


def parts(
    question: Question, *, facts: bool, narrowed: str, unmoved: str, by_move: bool
) -> tuple[str, list[str]]:
    """What is read from the log, and the relation in parts that can be asked apart.

    The rows that answer for themselves are most of a million deals, and only apart from the others
    may several processes count them.
    """
    log, (first, *others) = _sources(
        question, facts=facts, narrowed=narrowed, unmoved=unmoved, by_move=by_move
    )
    found = [first, " UNION ALL ".join(others)] if others else [first]
    return log, [f"({part})" for part in found]


def picked(
    question: Question, condition: str, *, replaying: bool, others: Sequence[UUID] = ()
) -> tuple[str, str]:
    """`WITH`, and those deals of the relation for whose row `o` the condition holds.

    `replaying`: with those whose row does not answer, and those `others`, replayed from the log.
    Then the rows are taken once and first, because nothing tells the planner how few they are;
    else they are looked up twice, which takes half as long as to put them by.
    """
    taken = f"SELECT o.* FROM opportunity AS o WHERE {question.of_pipeline} AND {condition}"
    known = f"WITH picked AS {'' if replaying else 'NOT '}MATERIALIZED ({taken})"
    still = "o.opened_at < :as_of AND o.stage_entered_at < :as_of"
    relation = [
        _from_rows(question, still, facts=True, kept=kept, source="picked")
        for kept in (False, True)
    ]
    if replaying:
        answers = f"{still} AND {_AMENDED} IS NOT TRUE AND {_UNTOLD} IS NOT TRUE"
        named = question.bind(list(others))
        replayed = f"""
            SELECT unnest(CAST({named} AS uuid[])) AS opportunity_id
            UNION ALL SELECT o.opportunity_id FROM picked AS o WHERE NOT ({answers})"""
        known += f", {_of_log(question, replayed)}"
        relation.append(_from_log(question, facts=True, by_move=False))
    return known, f"({' UNION ALL '.join(relation)})"


def _of_log(question: Question, replayed: str) -> str:
    return f"replayed AS MATERIALIZED ({replayed}), past AS MATERIALIZED ({_past(question)})"


def _winding(question: Question) -> str:
    """Has the deal of the row `o` left a closed stage, or does the row not know its close?"""
    left = (f"o.dwell[{slot}] IS NOT NULL" for slot in _closed(question))
    return f"({' OR '.join(left)} OR {_UNTOLD} IS TRUE)"


def _sources(
    question: Question, *, facts: bool, narrowed: str, unmoved: str, by_move: bool
) -> tuple[str, list[str]]:
    """What is read from the log, and the parts of the relation, the largest first."""
    facts = facts or question.asks_facts
    candidates = f"{question.of_pipeline} AND o.opened_at < :as_of{narrowed}"
    still = f"{candidates} AND o.stage_entered_at < :as_of{unmoved}"
    replayed = _replayed(question, candidates, still, facts=facts, everything=by_move)
    log = _of_log(question, replayed)
    from_log = _from_log(question, facts=facts, by_move=by_move)
    if by_move:
        return log, [from_log]
    # Apart, so that the rows that have nothing kept are answered for from an index alone.
    rows = [_from_rows(question, still, facts=facts, kept=kept) for kept in (False, True)]
    return log, [*rows, from_log]


def _replayed(
    question: Question, candidates: str, still: str, *, facts: bool, everything: bool
) -> str:
    """Whose row does not answer for T?"""
    branches = [f"{candidates} AND o.stage_entered_at >= :as_of"]
    if everything:
        branches.append(still)
    elif facts:
        branches += [f"{still} AND {_AMENDED}", f"{still} AND {_UNTOLD}"]
    if question.selection.known_at is not None:
        # What was written since may be the very opening: nothing of the row narrows these.
        branches = [f"{branch} AND o.updated_at < :known_at" for branch in branches]
        branches.append(f"{question.of_pipeline} AND o.updated_at >= :known_at")
    return " UNION ALL ".join(
        f"SELECT o.opportunity_id FROM opportunity AS o WHERE {branch}" for branch in branches
    )


def _past(question: Question) -> str:
    """What does the log say of these deals up to T?

    LATERAL, so that each deal's own log is looked up: they are few of many, whatever the planner
    takes them for, and a join by hash would read the whole log.
    """
    return f"""
        SELECT r.opportunity_id, told.* FROM replayed AS r CROSS JOIN LATERAL (
            SELECT bit_or(CAST(1 AS bigint) << (t.to_slot - 1)) AS reach_mask,
                   min(t.occurred_at) AS opened_at,
                   max(t.seq) FILTER (WHERE NOT {LINK}) AS last_seq,
                   max(t.occurred_at) FILTER (
                       WHERE NOT {LINK} AND t.kind <> 'rearranged'
                   ) AS moved_at,
                   coalesce(sum({microseconds("t.occurred_at - t.entered_at")})
                       FILTER (WHERE t.from_slot = ANY(:open_slots)), 0) AS open_time
            FROM transition AS t
            WHERE t.workspace_id = :workspace AND t.opportunity_id = r.opportunity_id
              AND {question.standing()} AND t.occurred_at < :as_of
        ) AS told
        WHERE told.last_seq IS NOT NULL"""


def _from_rows(
    question: Question, still: str, *, facts: bool, kept: bool, source: str = "opportunity"
) -> str:
    """The deals whose rows answer; `kept`: those whose rows keep what the close froze."""
    time_closed = "".join(f" - coalesce(o.dwell[{slot}], 0)" for slot in _closed(question))

    def fact(name: str, kind: str = "text") -> str:
        return f"CAST(o.closed_facts ->> '{name}' AS {kind})" if kept else f"o.{name}"

    condition = "o.closed_facts IS NOT NULL" if kept else "o.closed_facts IS NULL"
    if facts:
        condition += f" AND {_UNTOLD} IS NOT TRUE" if kept else f" AND {_AMENDED} IS NOT TRUE"
    if question.selection.known_at is not None:
        condition += " AND o.updated_at < :known_at"
    tags, attributes = "o.tags", "o.attributes"
    if kept:
        tags = "ARRAY(SELECT jsonb_array_elements_text(coalesce(o.closed_facts -> 'tags', '[]')))"
        attributes = "o.closed_facts -> 'attributes'"
    return f"""
        SELECT o.opportunity_id, o.status, o.slot, o.opened_at, o.stage_entered_at AS entered_at,
               o.moved_at, o.closed_at, o.reach_mask,
               {microseconds("o.stage_entered_at - o.opened_at")}{time_closed} AS open_time,
               {fact("amount", "numeric")} AS amount, {fact("currency")} AS currency,
               o.probability, {fact("priority")} AS priority,
               {", ".join(f"{fact(name)} AS by_{name}" for name in BORNE)},
               {tags} AS tags, {attributes} AS attributes,
               o.owner AS present_owner, o.team AS present_team,
               {_winding(question)} AS winding
        FROM {source} AS o
        WHERE {still} AND {condition}"""


def _from_log(question: Question, *, facts: bool, by_move: bool) -> str:
    """The half that is replayed; `last` is the move that brought the deal where it stood."""

    def own(name: str, kind: str = "text") -> str:
        """As it was in force at T."""
        if not facts:
            return f"o.{name}"
        return f"""CASE WHEN undone.facts ? '{name}' THEN CAST(undone.facts ->> '{name}' AS {kind})
            ELSE o.{name} END"""

    def fact(name: str, kind: str = "text") -> str:
        """As a close before T has frozen it, else as it was in force at T."""
        if not facts:
            return own(name)
        return f"CASE WHEN at.status <> 'open' THEN last.{name} ELSE {own(name, kind)} END"

    borne = ", ".join(f"{f'last.{name}' if by_move else fact(name)} AS by_{name}" for name in BORNE)
    undone = ""
    tags, attributes = "o.tags", "o.attributes"
    if facts:
        undone = f"LEFT JOIN LATERAL ({_undone(question)}) AS undone ON TRUE"
        tags = """CASE WHEN NOT undone.facts ? 'tags' OR undone.facts IS NULL THEN o.tags
            ELSE ARRAY(SELECT jsonb_array_elements_text(coalesce(
                nullif(undone.facts -> 'tags', 'null'), '[]'))) END"""
        attributes = """CASE WHEN undone.facts ? 'attributes' THEN undone.facts -> 'attributes'
            ELSE o.attributes END"""
    return f"""
        SELECT o.opportunity_id, at.status, last.to_slot AS slot, past.opened_at,
               last.occurred_at AS entered_at, past.moved_at,
               CASE WHEN at.status <> 'open' THEN last.occurred_at END AS closed_at,
               past.reach_mask, past.open_time,
               {fact("amount", "numeric")} AS amount, {fact("currency")} AS currency,
               {own("probability", "numeric")} AS probability, {fact("priority")} AS priority,
               {borne}, {tags} AS tags, {attributes} AS attributes,
               o.owner AS present_owner, o.team AS present_team,
               {_winding(question)} AS winding
        FROM past CROSS JOIN LATERAL (
            SELECT o.* FROM opportunity AS o
            WHERE o.workspace_id = :workspace AND o.opportunity_id = past.opportunity_id LIMIT 1
        ) AS o
        CROSS JOIN LATERAL (
            SELECT t.* FROM transition AS t
            WHERE t.workspace_id = :workspace AND t.opportunity_id = past.opportunity_id
              AND t.seq = past.last_seq LIMIT 1
        ) AS last
        CROSS JOIN LATERAL (SELECT CASE
            WHEN last.kind = 'handed_off' THEN 'handed_off'
            WHEN last.to_slot = ANY(:won_slots) THEN 'won'
            WHEN last.to_slot = ANY(:lost_slots) THEN 'lost'
            ELSE 'open' END AS status) AS at
        {undone}"""


def _undone(question: Question) -> str:
    """What was each fact of the deal before its first change since T, or since its close?"""
    unheard = "" if question.selection.known_at is None else " OR c.recorded_at >= :known_at"
    return f"""
        SELECT jsonb_object_agg(first.field, first.old) AS facts FROM (
            SELECT DISTINCT ON (c.field) c.field, c.old FROM opportunity_change AS c
            WHERE c.workspace_id = :workspace AND c.opportunity_id = past.opportunity_id
              AND (CASE WHEN at.status = 'open' THEN c.occurred_at >= :as_of
                  ELSE c.occurred_at > last.occurred_at END{unheard})
            ORDER BY c.field, c.occurred_at, c.change_id
        ) AS first"""


def _closed(question: Question) -> tuple[int, ...]:
    return question.ranking.slots(StageKind.WON) + question.ranking.slots(StageKind.LOST)
