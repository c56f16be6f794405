"""The snapshot in columns: what `domain.measures.snapshot` tells of the open deals at T.

Each function gives None where segments do not hold what is asked; then `queries.snapshot` counts by
SQL. Activities are in no segment, because they make no new version of a deal: of those deals that
only an activity keeps from being idle, the database tells.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias, cast

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.idleness import latest_start
from app.domain.measures.selection import Value
from app.domain.measures.snapshot import BUCKET_SHARES, BUCKET_YEAR, Standing
from app.domain.measures.sums import NONE
from app.domain.pipeline import IdleClock, IdleRule, Stage, StageKind
from app.storage.aside import aside
from app.storage.queries.lengths import Lengths, in_order, quantile, quantiles
from app.storage.queries.question import Asked, Question
from app.storage.segments import frames, reading
from app.storage.segments.alike import Key
from app.storage.segments.columns import DIGITS, NOTHING, Mask, Meaning, Numbers, instant
from app.storage.segments.frames import Frame
from app.storage.segments.holding import held_by
from app.storage.segments.selecting import Columns

Ends: TypeAlias = Mapping[int, list[float]]
"""By slot: the ages at which the age buckets of its stage end."""

_ID: Final = "opportunity_id"
_TOLD: Final = (
    *("slot", "entered_at", "moved_at", "priority"),
    *("amount", "amount_parts", "currency", "probability"),
)
_BY: Final = ("group", "slot")

# In an index's order: else a plan that is made for any workspace reads the table to meet one.
_ANY_ACTIVITY: Final = """
SELECT EXISTS (SELECT FROM (
    SELECT FROM activity AS a WHERE a.workspace_id = :workspace
    ORDER BY a.workspace_id, a.opportunity_id LIMIT 1
) AS first) AS there
"""
_FOLLOWED_UP: Final = """
SELECT string_agg(int8send(d.place - 1), CAST('' AS bytea)) AS places
FROM unnest(CAST({numbers} AS int[])) WITH ORDINALITY AS d (number, place)
JOIN jsonb_to_recordset(CAST({clocks} AS jsonb))
    AS clock (number int, since timestamptz, qualifying text[]) ON clock.number = d.number
CROSS JOIN LATERAL (
    SELECT FROM activity AS a
    WHERE a.workspace_id = :workspace AND a.opportunity_id = CAST(encode(substring(
          CAST({ids} AS bytea) FROM CAST(d.place AS int) * 16 - 15 FOR 16), 'hex') AS uuid)
      AND a.occurred_at > clock.since AND a.occurred_at < :as_of
      AND a.kind = ANY(clock.qualifying)
    LIMIT 1
) AS active
"""
"""The ids come packed: many thousand UUIDs take longer to be made than to be looked up."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """Idle is who has neither moved nor been followed up after `since`; None: nobody is."""

    since: datetime | None
    qualifying: Sequence[str]

    @classmethod
    def of(cls, rule: IdleRule, priority: str | None, until: datetime) -> "_Clock":
        return cls(
            latest_start(rule, priority, until),
            rule.qualifying if rule.clock is IdleClock.INACTIVITY else (),
        )


async def standings(
    connection: AsyncConnection, question: Question, ends: Ends
) -> Mapping[Value, Mapping[int, Standing]] | None:
    """By group and slot: the open deals that stand there at T."""
    if question.asks_moved_facts or await held_by(connection, question) is None:
        return None
    followed_up = await _may_be_followed_up(connection, question)
    names = ("group", *_TOLD, *((_ID,) if followed_up else ()))
    async with reading.deals(connection, question, {"status", *names[1:]}) as held:
        if held is None:
            return None
        here = await aside(_open, held, names)
    idle = await _idle(connection, question, here, followed_up=followed_up)
    return await aside(_told, question, here, idle, ends)


async def bucket_ends(connection: AsyncConnection, asked: Asked) -> Ends | None:
    """Whoever made the visits of the year before T: no filter applies."""
    selection = asked.selection
    year = replace(
        selection, start=selection.as_of - BUCKET_YEAR, end=None, filters={}, group_by=None
    )
    question = Question(replace(asked, selection=year), grouped=False)
    names = {"slot", "lasted"}
    asked_for = reading.completed_visits(connection, question, names, counted="left_at")
    async with asked_for as visits:
        return None if visits is None else await aside(_ends, visits)


def _open(held: Columns, names: Sequence[str]) -> Frame:
    return frames.together(held.chosen(status=["open"]), names)


def _ends(visits: Columns) -> Ends:
    open_slots = visits.question.ranking.slots(StageKind.OPEN)
    left = visits.chosen(slot=open_slots)
    lasted = ((frame, frame.numbers("lasted")) for frame in left)
    found = frames.sampled(lasted, ("slot",), lambda _, lengths: quantiles(lengths, BUCKET_SHARES))
    return {slot: ends for (slot,), ends in found.items()}


async def _may_be_followed_up(connection: AsyncConnection, question: Question) -> bool:
    """Whether an activity may keep a deal from being idle: where none can, no id is looked at.

    An id is 16 bytes, and all else that a snapshot reads of a deal some 30.
    """
    stages = map(question.ranking.stage, question.ranking.slots(StageKind.OPEN))
    if all(stage.idle.clock is not IdleClock.INACTIVITY for stage in stages):
        return False
    if "activity" not in question.known:
        (found,) = await question.rows(connection, _ANY_ACTIVITY)
        question.known["activity"] = found.there
    return bool(question.known["activity"])


async def _idle(
    connection: AsyncConnection, question: Question, here: Frame, *, followed_up: bool
) -> Mask:
    """Which of these deals are idle? `followed_up`: an activity may keep some from it."""
    if not here.size:
        return np.zeros(0, dtype=bool)
    by = ("slot", "priority")
    alike = here.keyed(by)
    numbers, rows = alike.numbers, alike.rows
    since, asks = np.full(len(rows), NOTHING), np.zeros(len(rows), dtype=bool)
    clocks: dict[int, _Clock] = {}
    occurring = np.flatnonzero(rows)
    keys = alike.keys(occurring)
    for number, (slot, priority) in zip(occurring.tolist(), keys, strict=True):
        rule = question.ranking.stage(slot).idle
        clock = clocks[number] = _Clock.of(rule, priority, question.aged_until)
        if clock.since is not None:
            since[number], asks[number] = instant(clock.since), bool(clock.qualifying)
    idle = here.numbers("moved_at") <= since[numbers]
    quiet = np.flatnonzero(idle & asks[numbers])
    if followed_up and len(quiet):
        ids = here.numbers(_ID)[quiet]
        idle[quiet[await _followed_up(connection, question, ids, clocks, numbers[quiet])]] = False
    return idle


async def _followed_up(
    connection: AsyncConnection,
    question: Question,
    ids: Numbers,
    clocks: Mapping[int, _Clock],
    numbers: Numbers,
) -> Numbers:
    """The places of those deals that had a qualifying activity after their clock's `since`."""
    told = [
        {"number": number, "since": str(clock.since), "qualifying": [*clock.qualifying]}
        for number, clock in clocks.items()
        if clock.since is not None
    ]
    (row,) = await question.rows(
        connection,
        _FOLLOWED_UP.format(
            numbers=question.bind(numbers.tolist()),
            clocks=question.bind(json.dumps(told)),
            ids=question.bind(ids.tobytes()),
        ),
    )
    return np.frombuffer(row.places or b"", dtype=">i8").astype(np.int64)


def _told(
    question: Question, here: Frame, idle: Mask, ends: Ends
) -> Mapping[Value, Mapping[int, Standing]]:
    if not here.size:
        return {}
    here = here.bearing("share", _shares(question, here))
    priced, weighty = (here.numbers(name) != NOTHING for name in ("amount", "share"))
    counts = frames.weighed([here], _BY)
    weighted = frames.weighed([here.where(priced & weighty)], _BY, share="share")
    unweighted = frames.tallied([here.where(priced & ~weighty)], _BY)
    idle_deals = frames.tallied([here.where(idle)], _BY)
    ages = np.maximum(instant(question.aged_until) - here.of("entered_at"), 0)

    def standing(key: Key, aged: Lengths) -> Standing:
        in_order(aged)
        boundaries = tuple(ends.get(key[-1], ()))
        return Standing(
            count=counts[key],
            weighted=weighted.get(key, NONE).amounts,
            unweighted=unweighted.get(key, 0),
            median_age=quantile(aged, 0.5),
            idle=idle_deals.get(key, 0),
            boundaries=boundaries,
            buckets=_buckets(aged, boundaries),
        )

    found: dict[Value, dict[int, Standing]] = defaultdict(dict)
    for (group, slot), told in frames.sampled([(here, ages)], _BY, standing).items():
        found[group][slot] = told
    return found


def _shares(question: Question, here: Frame) -> Numbers:
    """The deals' own probabilities, else those of their stages, in ten-thousandths."""
    own, slot = here.coded("probability"), here.coded("slot")
    stages = [stage.probability for stage in _stages(question, slot.meanings)]
    declared = [NOTHING if each is None else int(each.scaleb(DIGITS)) for each in stages]
    borne = np.array([NOTHING if each is None else each for each in own.meanings])[own.codes]
    return np.where(borne == NOTHING, np.array(declared)[slot.codes], borne)


def _stages(question: Question, slots: Sequence[Meaning]) -> list[Stage]:
    return [question.ranking.stage(cast("int", slot)) for slot in slots]


def _buckets(aged: Lengths, boundaries: Sequence[float]) -> tuple[int, ...]:
    """How many ages lie before the first boundary, from each to the next, and from the last on."""
    if not boundaries:
        return ()
    below = np.searchsorted(aged, boundaries)
    return tuple(np.diff([0, *below, len(aged)]).tolist())
