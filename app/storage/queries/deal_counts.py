"""How many deals are alike, what are they worth, how long did they take?

What figures of deals are made of: the deals of `population.deals` that are in the period and pass
the filters, those alike in some `keys` together. Where segments hold the deals they are counted in
columns, else by SQL; the answer is the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.measures.sums import NONE, Count, weighing
from app.storage.aside import aside
from app.storage.queries.lengths import PACKED, Lengths, in_order, samples
from app.storage.queries.losses import losing_moves
from app.storage.queries.population import OPEN_AT_T, counted
from app.storage.queries.question import Question, microseconds
from app.storage.segments import frames, reading
from app.storage.segments.alike import Key
from app.storage.segments.columns import NOTHING, Numbers, instant
from app.storage.segments.frames import Frame
from app.storage.segments.selecting import Columns


class Among(Enum):
    """Which deals: those with one of these statuses of which an instant lies in the period."""

    OPENED = "opened_at", ("open", "won", "lost", "handed_off")
    OPENED_AND_CLOSED = "opened_at", ("won", "lost")
    CLOSED = "closed_at", ("won", "lost")
    LOST = "closed_at", ("lost",)
    OPEN = None, ("open",)

    def __init__(self, at: str | None, statuses: tuple[str, ...]) -> None:
        self.at = at
        self.statuses = statuses


_SQL: Final = {
    "lost_from": "lost.from_slot",
    "loss_reason": "lost.loss_reason",
    "currency": "d.by_currency",
    "priced": "d.amount IS NOT NULL",
}
"""The keys that are no columns of the relation."""


async def weighed(
    connection: AsyncConnection,
    question: Question,
    among: Among,
    keys: Sequence[str],
    *,
    by_move: bool = False,
) -> Mapping[Key, Count]:
    """How many deals are alike, and what are they worth?

    `by_move`: a key too means what the deal's last move froze.
    """
    if not (by_move or question.asks_moved_facts):
        names = {"status", "currency", "amount", "amount_parts", *keys} - {"priced"}
        async with reading.deals(connection, question, names, counted=among.at) as held:
            if held is not None:
                return await aside(
                    lambda: frames.weighed(_chosen(held, among, keys), ("group", *keys))
                )
    selected, source = _source(question, among, keys, facts=True, by_move=by_move)
    places = range(2, len(keys) + 3)
    rows = await question.rows(
        connection,
        source(
            f"""{selected}, CASE WHEN d.amount IS NOT NULL THEN d.currency END AS worth_in,
                count(*) AS deals, sum(d.amount) AS amount""",
            f"1, {', '.join(map(str, places))}",
        ),
    )
    found: dict[Key, Count] = defaultdict(lambda: NONE)
    for row in rows:
        found[tuple(row)[: len(keys) + 1]] += weighing(row.deals, row.amount, row.worth_in)
    return found


async def sampled(
    connection: AsyncConnection,
    question: Question,
    among: Among,
    keys: Sequence[str],
    *,
    age: bool = False,
    by_move: bool = False,
) -> Mapping[Key, Lengths]:
    """How long had alike deals spent in open stages? `age`: with the visit under way."""
    if not (by_move or question.asks_moved_facts):
        names = {"status", "open_time", *keys, *(("entered_at",) if age else ())}
        async with reading.deals(connection, question, names, counted=among.at) as held:
            if held is not None:
                return await aside(_sampled, held, among, keys, age=age)
    length = "d.open_time"
    if age:
        under_way = f"greatest({microseconds(':aged_until - d.entered_at')}, 0)"
        length += f" + CASE WHEN d.status = 'open' THEN {under_way} ELSE 0 END"
    facts = "currency" in keys  # of the others none is a fact of the deal
    selected, source = _source(question, among, keys, facts=facts, by_move=by_move)
    by = ", ".join(map(str, range(1, len(keys) + 2)))
    rows = await question.rows(
        connection, source(f"{selected}, {PACKED.format(length)} AS lengths", by)
    )
    return await samples(rows, lambda row: tuple(row)[:-1], in_order)


def _chosen(held: Columns, among: Among, keys: Sequence[str]) -> Iterator[Frame]:
    for frame in held.chosen(status=among.statuses):
        if "priced" in keys:
            yield frame.told("priced", frame.numbers("amount") != NOTHING)
        else:
            yield frame


def _sampled(
    held: Columns, among: Among, keys: Sequence[str], *, age: bool
) -> Mapping[Key, Lengths]:
    until = instant(held.question.aged_until)

    def spent() -> Iterator[tuple[Frame, Numbers]]:
        for frame in _chosen(held, among, keys):
            lengths = frame.of("open_time")
            if age:
                under_way = np.maximum(until - frame.of("entered_at"), 0)
                lengths += np.where(frame.bears("status", "open"), under_way, 0)
            yield frame, lengths

    return frames.sampled(spent(), ("group", *keys), lambda _, lengths: in_order(lengths))


def _source(
    question: Question, among: Among, keys: Sequence[str], *, facts: bool, by_move: bool
) -> tuple[str, Callable[[str, str], str]]:
    """The keys as SQL selects them, and the statement that groups what is selected by columns."""
    join, group = question.group(among.at and f"d.{among.at}")
    named = ", ".join([f'{group} AS "group"', *(_SQL.get(key, f"d.{key}") for key in keys)])
    if "lost_from" in keys:
        join += f""" JOIN ({losing_moves(question)}) AS lost
            ON lost.opportunity_id = d.opportunity_id AND lost.occurred_at = d.closed_at"""

    def statement(selected: str, by: str) -> str:
        return counted(
            question,
            lambda deals: (
                f"""
                SELECT {selected} FROM {deals} AS d {join}
                WHERE {condition(question, among)} GROUP BY {by}"""
            ),
            facts=facts,
            by_move=by_move or question.asks_moved_facts,
            **narrowing(question, among),
        )

    return named, statement


def condition(question: Question, among: Among) -> str:
    """Which deals `d` are among them, in the period, and pass the filters?"""
    period = "" if among.at is None else question.period(f"d.{among.at}")
    statuses = ", ".join(f"'{status}'" for status in among.statuses)
    return f"d.status IN ({statuses}){period}{question.filters()}"


def narrowing(question: Question, among: Among) -> dict[str, Any]:
    """What is true of the rows of all these deals: see `population.deals`."""
    if among.at == "opened_at":
        return {"narrowed": question.period("o.opened_at")}
    if among is Among.OPEN:
        return {"narrowed": OPEN_AT_T, "unmoved": " AND o.status = 'open'"}
    before = "" if question.selection.end is None else " AND o.opened_at < :end"
    unmoved = f" AND o.closed_at IS NOT NULL{question.period('o.closed_at')}"
    return {"narrowed": before, "unmoved": unmoved}
