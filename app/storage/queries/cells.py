"""Which deals or visits does a count count? Page by page, as `domain.measures.cells` defines it.

Two statements: the first finds what the cell holds, the second shows the deals of the page as they
were at T. Deals come in the order of their ids, visits in that of the instant by which they are in
the period, which is an index's order. What only the log can tell is looked up in that order, until
the page is full: a page costs little, whatever the period holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.journey import Facts, Status
from app.domain.measures.cells import (
    Cell,
    ClosedCell,
    CohortCell,
    Counted,
    Look,
    StandingCell,
    Stay,
    VisitCell,
)
from app.storage.driver import Record
from app.storage.queries import visit_cells
from app.storage.queries.closings import among
from app.storage.queries.deal_counts import condition, narrowing
from app.storage.queries.losses import losing_moves
from app.storage.queries.population import BORNE, LINK, deals
from app.storage.queries.question import Asked, Question, status_of
from app.storage.queries.snapshot import bucket_ends, standing

Place = tuple[datetime, UUID, int]
"""Where something stands in the list: when, of which deal, and the move that ended its visit.

Where deals are counted, the instant is T and the move 0 for all of them.
"""

_WHOLE: Final = """CAST(:as_of AS timestamptz) AS at, 0 AS seq, CAST(NULL AS smallint) AS slot,
    CAST(NULL AS timestamptz) AS entered_at, CAST(NULL AS timestamptz) AS left_at,
    CAST(NULL AS float8) AS lasted"""
"""The columns of place and stay, where the whole deal is what is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One thing that a cell counts: a deal as it was at T, and the stay of it that is meant.

    The name and the caller's own id alone are those of now; the probability is not among the facts.
    """

    place: Place
    name: str
    external_id: str | None
    status: Status
    slot: int
    facts: Facts
    opened_at: datetime
    entered_at: datetime
    closed_at: datetime | None
    stay: Stay | None

    @property
    def opportunity_id(self) -> UUID:
        return self.place[1]


async def listed(
    connection: AsyncConnection,
    asked: Asked,
    cell: Cell,
    *,
    after: Place | None,
    limit: int,
) -> list[Listed]:
    """What the cell holds after that place; `asked.now` is the clock of the first page."""
    if isinstance(cell, VisitCell):
        asked = replace(asked, selection=cell.narrowed(asked.selection))
    question = Question(asked, grouped=False)
    since = beyond = ""
    if after is not None:
        at, deal, seq = (question.bind(part) for part in after)
        since = f" AND d.opportunity_id >= CAST({deal} AS uuid)"
        beyond = f"""WHERE h.at >= {at} AND (h.at, h.opportunity_id, h.seq)
            > ({at}, CAST({deal} AS uuid), CAST({seq} AS int))"""
    ends: Mapping[int, list[float]] = {}
    if isinstance(cell, StandingCell) and cell.bucket is not None:
        ends = await bucket_ends(connection, asked)
    population, held = _held(question, cell, since, ends)
    rows = await question.rows(
        connection,
        f"""{population}
        SELECT h.at, h.opportunity_id, h.seq, h.slot, h.entered_at, h.left_at, h.lasted
        FROM ({held}) AS h {beyond}
        ORDER BY h.at, h.opportunity_id, h.seq LIMIT {question.bind(limit)}""",
    )
    if not rows:
        return []
    shown = await _shown(connection, asked, [row.opportunity_id for row in rows])
    return [_listed(row, shown[row.opportunity_id]) for row in rows]


async def _shown(
    connection: AsyncConnection, asked: Asked, ids: Sequence[UUID]
) -> dict[UUID, Record]:
    """What were these deals at T?"""
    question = Question(asked, grouped=False)
    wanted = f"= ANY(CAST({question.bind([*ids])} AS uuid[]))"
    rows = await question.rows(
        connection,
        f"""{deals(question, facts=True, narrowed=f" AND o.opportunity_id {wanted}", joined=True)}
        SELECT d.opportunity_id, d.status, d.slot, d.opened_at, d.entered_at, d.closed_at,
               d.amount, {", ".join(f"d.by_{name} AS {name}" for name in BORNE)},
               o.name, o.external_id
        FROM deals AS d JOIN opportunity AS o
          ON o.workspace_id = :workspace AND o.opportunity_id = d.opportunity_id
        WHERE d.opportunity_id {wanted}""",
    )
    return {row.opportunity_id: row for row in rows}


def _listed(held: Record, deal: Record) -> Listed:
    return Listed(
        place=(held.at, held.opportunity_id, held.seq),
        name=deal.name,
        external_id=deal.external_id,
        status=status_of(deal),
        slot=deal.slot,
        facts=Facts(amount=deal.amount, **{name: getattr(deal, name) for name in BORNE}),
        opened_at=deal.opened_at,
        entered_at=deal.entered_at,
        closed_at=deal.closed_at,
        stay=None
        if held.slot is None
        else Stay(
            slot=held.slot,
            entered_at=held.entered_at,
            left_at=held.left_at,
            lasted=int(held.lasted),
        ),
    )


def _held(
    question: Question, cell: Cell, since: str, ends: Mapping[int, list[float]]
) -> tuple[str, str]:
    """A `WITH …`, and what the cell holds of it: `opportunity_id`, its place and stay.

    `since`: ` AND …` on the deals `d`, where they are in the order of their ids. `ends`: where the
    age buckets end, if one of them is asked for.
    """
    match cell:
        case CohortCell():
            return _cohort(question, cell, since)
        case ClosedCell():
            return _closed(question, cell, since)
        case StandingCell():
            return _standing(question, cell, ends)
        case VisitCell(counted=Counted.COHORT):
            return _visits_of_cohort(question, cell, since)
        case VisitCell():
            return visit_cells.held(question, cell)


def _cohort(question: Question, cell: CohortCell, since: str) -> tuple[str, str]:
    looks = " OR ".join(f"({_look(question, look)})" for look in cell.looks)
    steps = [look.stepped for look in cell.looks if look.stepped is not None]
    candidates = f"""
        SELECT d.opportunity_id FROM deals AS d
        WHERE {_in_cohort(question)}{since} AND ({looks})"""
    test = " OR ".join(_stepped(question, *step) for step in steps)
    return _opened(question), _passing(candidates, test)


def _passing(candidates: str, test: str) -> str:
    """The deals among the candidates that pass a test of which only the log knows.

    OFFSET keeps the order before the test: it is made of as many deals as it takes to fill a page.
    """
    if not test:
        return f"SELECT d.opportunity_id, {_WHOLE} FROM ({candidates}) AS d"
    return f"""
        SELECT d.opportunity_id, {_WHOLE}
        FROM ({candidates} ORDER BY d.opportunity_id OFFSET 0) AS d WHERE {test}"""


def _in_cohort(question: Question) -> str:
    """Which deals were opened in the period and pass the filters?"""
    return f"TRUE{question.period('d.opened_at')}{question.filters()}"


def _opened(question: Question) -> str:
    """The relation of the deals that were opened in the period."""
    return deals(
        question,
        facts=False,
        narrowed=question.period("o.opened_at"),
        by_move=question.asks_moved_facts,
    )


def _look(question: Question, look: Look) -> str:
    conditions = [_reached(question, look.at_least)]
    if look.at_most is not None:
        conditions.append(f"NOT {_reached(question, look.at_most + 1)}")
    if look.statuses is not None:
        conditions.append(f"d.status = ANY({question.bind(sorted(look.statuses))})")
    if look.visited:
        conditions.append(_visited(question, look.visited))
    if look.unvisited:
        conditions.append(f"NOT {_visited(question, look.unvisited)}")
    if look.stepped is not None:
        # The masks rule out most deals before the log is asked.
        conditions += [_visited(question, 1 << (slot - 1)) for slot in look.stepped]
    return " AND ".join(conditions)


def _reached(question: Question, rank: int) -> str:
    """Whether the furthest rank is at least this: only who is won is at the won one."""
    ranking = question.ranking
    if rank == 1:
        return "TRUE"
    if rank > ranking.won_rank:
        return "FALSE"
    ranks = ranking.by_slot.items()
    mask = sum(1 << (slot - 1) for slot, own in ranks if rank <= own < ranking.won_rank)
    return f"(d.status = 'won' OR {_visited(question, mask)})"


def _visited(question: Question, mask: int) -> str:
    return f"(d.reach_mask & CAST({question.bind(mask)} AS bigint) <> 0)"


def _stepped(question: Question, here: int, following: int) -> str:
    """Whether the deal `d` entered the one stage, and after its first time there the other."""
    return f"""(
        SELECT max(t.seq) FILTER (WHERE t.to_slot = {following})
            > min(t.seq) FILTER (WHERE t.to_slot = {here})
        FROM transition AS t
        WHERE t.workspace_id = :workspace AND t.opportunity_id = d.opportunity_id
          AND {question.standing()} AND t.occurred_at < :as_of AND t.kind <> 'handed_off')"""


def _closed(question: Question, cell: ClosedCell, since: str) -> tuple[str, str]:
    closed = among(cell.population)
    candidates = f"""
        SELECT d.opportunity_id, d.closed_at FROM deals AS d
        WHERE {condition(question, closed)}{since}
          AND d.status = ANY({question.bind(sorted(cell.statuses))})"""
    why = [
        _among(question, f"lost.{column}", kind, values)
        for column, kind, values in (
            ("from_slot", "smallint", cell.from_slots),
            ("loss_reason", "text", cell.reasons),
        )
        if values is not None
    ]
    own = "lost.opportunity_id = d.opportunity_id AND lost.occurred_at = d.closed_at"
    lost = f"SELECT FROM ({losing_moves(question)}) AS lost WHERE {' AND '.join((own, *why))}"
    test = f"EXISTS ({lost})"
    relation = deals(
        question, facts=False, by_move=question.asks_moved_facts, **narrowing(question, closed)
    )
    return relation, _passing(candidates, test if why else "")


def _among(question: Question, column: str, kind: str, values: frozenset[Any]) -> str:
    named = question.bind([value for value in values if value is not None])
    none = f" OR {column} IS NULL" if None in values else ""
    return f"({column} = ANY(CAST({named} AS {kind}[])){none})"


def _standing(
    question: Question, cell: StandingCell, ends: Mapping[int, list[float]]
) -> tuple[str, str]:
    conditions = ""
    if cell.slot is not None:
        conditions += f" AND s.slot = {question.bind(cell.slot)}"
    if cell.idle:
        conditions += " AND s.idle"
    if cell.unweighted:
        conditions += " AND s.amount IS NOT NULL AND s.probability IS NULL"
    if cell.bucket is not None:
        conditions += f" AND width_bucket(s.age, s.ends) = {question.bind(cell.bucket)}"
    return (
        standing(question, ends),
        f"""
        SELECT s.opportunity_id, {_WHOLE} FROM standing AS s WHERE TRUE{conditions}""",
    )


def _visits_of_cohort(question: Question, cell: VisitCell, since: str) -> tuple[str, str]:
    """The visits of the deals opened in the period, whatever the visits bear.

    All of them are read from the log, so that of the deals themselves the index says enough.
    """
    left, under_way = visit_cells.ways(question, cell)
    mask = sum(1 << (slot - 1) for slot in cell.slots)
    own = f"""t.workspace_id = :workspace AND t.opportunity_id = d.opportunity_id
          AND {question.standing()} AND t.occurred_at < :as_of"""
    halves = [
        f"""
        SELECT t.seq, t.from_slot AS slot, t.entered_at, t.occurred_at AS left_at
        FROM transition AS t WHERE {own} AND t.entered_at IS NOT NULL{left}"""
    ]
    if under_way is not None:
        halves.append(
            f"""
        SELECT NULL, d.slot, d.entered_at, NULL FROM (
            SELECT t.kind, t.to_slot AS slot, t.occurred_at AS entered_at
            FROM transition AS t WHERE {own} AND NOT {LINK} ORDER BY t.seq DESC LIMIT 1
        ) AS d WHERE d.kind <> 'handed_off'{under_way}"""
        )
    return (
        _opened(question),
        f"""
        SELECT d.opportunity_id, CAST(:as_of AS timestamptz) AS at, {visit_cells.stay("v")}
        FROM (
            SELECT d.opportunity_id FROM deals AS d
            WHERE {_in_cohort(question)}{since} AND {_visited(question, mask)}
            ORDER BY d.opportunity_id OFFSET 0
        ) AS d CROSS JOIN LATERAL ({" UNION ALL ".join(halves)}) AS v""",
    )
