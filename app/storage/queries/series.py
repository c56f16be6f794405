"""What does one figure say, of each group or of each bucket? From the queries of its metric.

`domain.measures.readings` defines it. Cut into buckets, a figure is still one statement: whatever
is counted lies, by its one instant, in one of them.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.funnel import Reentry, Skip
from app.domain.journey import TransitionKind
from app.domain.measures import readings as figures
from app.domain.measures.closings import DealPopulation, Outcome
from app.domain.measures.flow import StageFlow, way_out
from app.domain.measures.readings import Metric, Reading, Subject
from app.domain.measures.selection import Value
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.storage.queries.closings import cycles, win_rates
from app.storage.queries.flow import stage_flows
from app.storage.queries.funnel import ranks
from app.storage.queries.lengths import NONE, Lengths, summary, together
from app.storage.queries.question import Asked, Question
from app.storage.queries.stage_time import stays
from app.storage.queries.visits import visits
from app.storage.segments.frames import Key, tallied
from app.storage.segments.reading import Visits
from app.storage.segments.reading import visits as visits_in_columns
from app.storage.segments.selecting import placed


async def trend(
    connection: AsyncConnection, asked: Asked, subject: Subject, buckets: tuple[datetime, ...]
) -> Sequence[Reading]:
    """What does the figure say of each bucket? `buckets` are their boundaries."""
    period = replace(asked.selection, start=buckets[0], end=buckets[-1])
    cut = replace(asked, selection=period, buckets=buckets)
    if subject.figure.metric is Metric.FLOW:
        return await _flow_trend(connection, cut, subject)
    found = await readings(connection, cut, subject, grouped=True)
    nothing = figures.nothing(subject, asked.ranking)
    return [found.get(str(number), nothing) for number in range(1, len(buckets))]


async def readings(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Reading]:
    """By group: what does the figure say?"""
    match subject.figure.metric:
        case Metric.FUNNEL:
            funnels = await ranks(connection, asked, Skip.IMPLIED, Reentry.FIRST, grouped=grouped)
            return {
                group: figures.of_funnel(subject, asked.ranking, found)
                for group, found in funnels.items()
            }
        case Metric.FLOW:
            flows = await stage_flows(connection, asked, grouped=grouped)
            return {group: figures.of_flow(subject, found) for group, found in flows.items()}
        case Metric.TIME_IN_STAGE | Metric.CYCLE_TIME:
            samples = await lengths(connection, asked, subject, grouped=grouped)
            return {
                group: figures.of_lengths(subject, summary(found))
                for group, found in samples.items()
            }
        case Metric.WIN_RATE:
            wins = await win_rates(connection, asked, grouped=grouped)
            return {group: figures.of_closings(subject, found) for group, found in wins.items()}


async def lengths(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Lengths]:
    """By group: every length behind a figure of durations."""
    if subject.figure.metric is Metric.CYCLE_TIME:
        closed = await cycles(connection, asked, DealPopulation.CLOSED, grouped=grouped)
        if subject.outcome in (None, Outcome.ALL):
            return {group: together(found.values()) for group, found in closed.items()}
        return {group: found.get(subject.outcome, NONE) for group, found in closed.items()}
    assert subject.stage is not None, "a subject has the stage that its figure asks for"
    every = await stays(
        *(connection, asked, VisitPopulation.ENTERED, VisitReentry.EVERY),
        grouped=grouped,
        slot=subject.stage.slot,
    )
    return {group: found.ended for (group, _), found in every.items()}


async def _flow_trend(
    connection: AsyncConnection, asked: Asked, subject: Subject
) -> Sequence[Reading]:
    """By bucket: what came into the stage, and what went out?

    A visit lies in two of them: the one in which it was entered, and the one in which it was left.
    """
    assert subject.stage is not None, "a subject has the stage that its figure asks for"
    came: Counter[int] = Counter()
    went: dict[int, Counter[TransitionKind]] = defaultdict(Counter)
    alike = await _touching(connection, asked, subject.stage.slot)
    for (came_in, went_in, kind), count in alike.items():
        came[came_in] += count
        if kind is not None:  # it was left
            went[went_in][way_out(TransitionKind(kind))] += count
    found = []
    standing = came[0]  # entered before the first bucket, and not left before it
    for bucket in range(1, len(asked.buckets)):
        here = StageFlow(standing, came[bucket], went[bucket])
        standing += here.entries - here.left
        here = replace(here, open_at_end=standing)
        found.append(figures.of_flow(subject, {subject.stage.slot: here}))
    return found


async def _touching(connection: AsyncConnection, asked: Asked, slot: int) -> Mapping[Key, int]:
    """The visits of the stage there in the period, by the buckets in which they came and went."""
    question = Question(asked, grouped=False)
    held = await visits_in_columns(connection, question)
    if held is not None:
        return await asyncio.to_thread(_tallied, held, asked.buckets, slot)
    place = question.bind(slot)
    boundaries = f"CAST({question.bind(list(asked.buckets))} AS timestamptz[])"
    touching = visits(
        question,
        left=f" AND t.from_slot = {place} AND t.occurred_at >= :start AND t.entered_at < :end",
        under_way=f" AND d.slot = {place} AND d.entered_at < :end",
        narrowed=" AND o.opened_at < :end",
    )
    rows = await question.rows(
        connection,
        f"""{touching}
        SELECT width_bucket(d.entered_at, {boundaries}) AS came,
               width_bucket(d.left_at, {boundaries}) AS went, d.kind, count(*) AS visits
        FROM visits AS d WHERE TRUE{question.filters()}
        GROUP BY 1, 2, 3""",
    )
    return {(row.came, row.went, row.kind): row.visits for row in rows}


def _tallied(held: Visits, buckets: Sequence[datetime], slot: int) -> Mapping[Key, int]:
    here = (frame.among("slot", [slot]) for frame in held.touching(buckets[0], buckets[-1]))
    came_and_went = (
        frame.bearing("came", placed(frame, "entered_at", buckets)).bearing(
            "went", placed(frame, "left_at", buckets)
        )
        for frame in here
    )
    return tallied(came_and_went, ("came", "went", "kind"))
