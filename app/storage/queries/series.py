"""What does one figure say, of each group or of each bucket, and which lengths are behind it?

`domain.measures.readings` defines it. Cut into buckets, a figure is still one statement wherever
what is counted lies, by its one instant, in one of them. Only of the deals that are open at the end
of each bucket it is asked bucket by bucket.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.journey import TransitionKind
from app.domain.measures.figures import Metric
from app.domain.measures.flow import StageFlow, way_out
from app.domain.measures.readings import Reading, nothing, read
from app.domain.measures.selection import Value
from app.domain.measures.subjects import Subject
from app.storage.aside import aside
from app.storage.queries import figures
from app.storage.queries.lengths import Lengths, summary
from app.storage.queries.question import Asked, Question
from app.storage.queries.visits import visits
from app.storage.segments.alike import Key
from app.storage.segments.frames import tallied
from app.storage.segments.reading import TOUCHING, Visits
from app.storage.segments.reading import visits as visits_in_columns
from app.storage.segments.selecting import placed


async def trend(
    connection: AsyncConnection, asked: Asked, subject: Subject, buckets: tuple[datetime, ...]
) -> Sequence[Reading]:
    """What does the figure say of each bucket? `buckets` are their boundaries."""
    none = nothing(subject, asked.ranking)
    if subject.figure.is_of_instant:
        return [
            (await readings(connection, _within(asked, *bucket), subject, grouped=False)).get(
                None, none
            )
            for bucket in pairwise(buckets)
        ]
    cut = replace(_within(asked, buckets[0], buckets[-1]), buckets=buckets)
    if subject.figure.metric is Metric.FLOW:
        return await _flow_trend(connection, cut, subject)
    found = await readings(connection, cut, subject, grouped=True)
    return [found.get(str(number), none) for number in range(1, len(buckets))]


async def readings(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Reading]:
    """By group: what does the figure say? One of an instant says it of the period's end."""
    if subject.figure.is_of_instant:
        asked = replace(asked, selection=asked.selection.at_end())
    found = await figures.result(connection, asked, subject, grouped=grouped)
    return {group: read(subject, asked.ranking, of) for group, of in found.items()}


async def samples(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, tuple[Reading, Lengths]]:
    """By group: what does a figure that `has_shift` say, and which lengths are behind it?"""
    found = await figures.lengths(connection, asked, subject, grouped=grouped)
    return {
        group: (Reading(getattr(summary(of), subject.figure.field), len(of)), of)
        for group, of in found.items()
    }


def _within(asked: Asked, start: datetime, end: datetime) -> Asked:
    return replace(asked, selection=replace(asked.selection, start=start, end=end))


async def _flow_trend(
    connection: AsyncConnection, asked: Asked, subject: Subject
) -> Sequence[Reading]:
    """By bucket: what came into the stage, and what went out?

    A visit lies in two of them: the one in which it was entered, and the one in which it was left.
    """
    came: Counter[int] = Counter()
    went: dict[int, Counter[TransitionKind]] = defaultdict(Counter)
    alike = await _touching(connection, asked, subject.slot)
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
        found.append(read(subject, asked.ranking, {subject.slot: here}))
    return found


async def _touching(connection: AsyncConnection, asked: Asked, slot: int) -> Mapping[Key, int]:
    """The visits of the stage there in the period, by the buckets in which they came and went."""
    question = Question(asked, grouped=False)
    async with visits_in_columns(connection, question, TOUCHING) as held:
        if held is not None:
            return await aside(_tallied, held, asked.buckets, slot)
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
    here = held.touching(buckets[0], buckets[-1], slot=[slot])
    came_and_went = (
        frame.bearing("came", placed(frame, "entered_at", buckets)).bearing(
            "went", placed(frame, "left_at", buckets)
        )
        for frame in here
    )
    return tallied(came_and_went, ("came", "went", "kind"))
