"""What is one figure read from? The result of its metric, without what only other figures need.

`domain.measures.readings` says what the result of each metric is, and reads the figure in it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.durations import Quantiles, Summary
from app.domain.funnel import Rank, Reentry, Skip
from app.domain.measures.bottlenecks import Inputs
from app.domain.measures.closings import DealPopulation, Losses, Outcome, WinRate
from app.domain.measures.curves import time_to_win
from app.domain.measures.figures import Figure, Metric
from app.domain.measures.flow import Cell, Move, StageFlow
from app.domain.measures.selection import Value
from app.domain.measures.snapshot import Standing
from app.domain.measures.stage_time import StageTime, VisitPopulation, VisitReentry
from app.domain.measures.subjects import Subject
from app.domain.measures.velocity import Velocity
from app.storage.aside import aside
from app.storage.queries import closings, flow, funnel, snapshot, stage_time, worth
from app.storage.queries.lengths import NONE, Lengths, in_order, summary, survival, together
from app.storage.queries.question import Asked
from app.storage.queries.stage_time import Stays

R = TypeVar("R")


async def result(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Any]:
    """By group: what has the figure's metric found?"""
    return await _RESULTS[subject.figure.metric](connection, asked, subject, grouped=grouped)


async def lengths(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Lengths]:
    """By group: every length behind a figure that `has_shift`."""
    return await _LENGTHS[subject.figure.metric](connection, asked, subject, grouped=grouped)


async def _funnels(
    connection: AsyncConnection, asked: Asked, _: Subject, *, grouped: bool
) -> Mapping[Value, Sequence[Rank]]:
    return await funnel.ranks(connection, asked, Skip.IMPLIED, Reentry.FIRST, grouped=grouped)


async def _flows(
    connection: AsyncConnection, asked: Asked, _: Subject, *, grouped: bool
) -> Mapping[Value, Mapping[int, StageFlow]]:
    return await flow.stage_flows(connection, asked, grouped=grouped)


async def _moves(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Mapping[Move, Cell]]:
    """All moves out of the stage: they make up the share of one."""
    return await flow.moves(connection, asked, grouped=grouped, slot=subject.slot)


async def _move_lengths(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Lengths]:
    every = await flow.dwells(connection, asked, in_order, grouped=grouped, slot=subject.slot)
    return {group: found for (group, *move), found in every.items() if (*move,) == subject.move}


async def _stays(
    connection: AsyncConnection,
    asked: Asked,
    subject: Subject,
    told: Callable[[Stays], R],
    *,
    grouped: bool,
) -> Mapping[Value, R]:
    every = await stage_time.stays(
        *(connection, asked, VisitPopulation.ENTERED, VisitReentry.EVERY, told),
        grouped=grouped,
        slot=subject.slot,
    )
    return {group: found for (group, _), found in every.items()}


async def _stay_lengths(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Lengths]:
    return await _stays(connection, asked, subject, lambda stays: stays.ended, grouped=grouped)


async def _stage_times(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Summary | Quantiles]:
    sum_up = _ESTIMATES[subject.figure.source]
    return await _stays(connection, asked, subject, sum_up, grouped=grouped)


async def _cycle_lengths(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Lengths]:
    closed = await closings.cycles(connection, asked, DealPopulation.CLOSED, grouped=grouped)
    if subject.outcome in (None, Outcome.ALL):
        return {group: together(found.values()) for group, found in closed.items()}
    return {group: found.get(subject.outcome, NONE) for group, found in closed.items()}


async def _cycle_times(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Summary]:
    cycles = await _cycle_lengths(connection, asked, subject, grouped=grouped)
    return {group: summary(found) for group, found in cycles.items()}


async def _times_to_win(
    connection: AsyncConnection, asked: Asked, _: Subject, *, grouped: bool
) -> Mapping[Value, Quantiles]:
    every = await closings.lifetimes(connection, asked, grouped=grouped)
    return await aside(
        lambda: {
            group: time_to_win(
                {status: lengths.tolist() for status, lengths in ended.items()}, running.tolist()
            )
            for group, (ended, running) in every.items()
        }
    )


async def _wins(
    connection: AsyncConnection, asked: Asked, _: Subject, *, grouped: bool
) -> Mapping[Value, WinRate]:
    return await closings.win_rates(connection, asked, grouped=grouped)


async def _losses(
    connection: AsyncConnection, asked: Asked, _: Subject, *, grouped: bool
) -> Mapping[Value, Sequence[Losses]]:
    return await closings.losses(connection, asked, grouped=grouped)


async def _standings(
    connection: AsyncConnection, asked: Asked, _: Subject, *, grouped: bool
) -> Mapping[Value, Mapping[int, Standing]]:
    """Without age buckets, which no figure shows: where those end is a year's visits to read."""
    return await snapshot.standings(connection, asked, grouped=grouped, ends={})


async def _velocities(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Mapping[Value, Velocity]]:
    alone = not subject.figure.is_of_instant
    return await worth.velocities(connection, asked, grouped=grouped, closed_alone=alone)


async def _bottlenecks(
    connection: AsyncConnection, asked: Asked, subject: Subject, *, grouped: bool
) -> Mapping[Value, Inputs]:
    """That half of the inputs which the figure is made of."""
    if subject.figure is Figure.DAYS_SAVED:

        def times(stays: Stays) -> Inputs:
            found = StageTime(summary(stays.ended), summary(stays.running))
            return Inputs(times={subject.slot: found})

        return await _stays(connection, asked, subject, times, grouped=grouped)
    opened = await worth.cohorts(connection, asked, grouped=grouped)
    return {group: Inputs(found) for group, found in opened.items()}


_RESULTS: Final[Mapping[Metric, Callable[..., Awaitable[Mapping[Value, Any]]]]] = MappingProxyType(
    {
        Metric.FUNNEL: _funnels,
        Metric.FLOW: _flows,
        Metric.MATRIX: _moves,
        Metric.TIME_IN_STAGE: _stage_times,
        Metric.CYCLE_TIME: _cycle_times,
        Metric.CYCLE_CURVE: _times_to_win,
        Metric.WIN_RATE: _wins,
        Metric.LOSS_REASONS: _losses,
        Metric.SNAPSHOT: _standings,
        Metric.VELOCITY: _velocities,
        Metric.BOTTLENECKS: _bottlenecks,
    }
)
_LENGTHS: Final[Mapping[Metric, Callable[..., Awaitable[Mapping[Value, Lengths]]]]] = (
    MappingProxyType(
        {
            Metric.MATRIX: _move_lengths,
            Metric.TIME_IN_STAGE: _stay_lengths,
            Metric.CYCLE_TIME: _cycle_lengths,
        }
    )
)
_ESTIMATES: Final[Mapping[str, Callable[[Stays], Summary | Quantiles]]] = MappingProxyType(
    {
        "completed": lambda stays: summary(stays.ended),
        "open": lambda stays: summary(stays.running),
        "survival": lambda stays: survival(stays.ended, stays.running),
    }
)
