"""One figure through time, and held against itself: trend and compare."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.domain.measures import comparison, readings
from app.domain.measures.calendar import buckets
from app.domain.measures.comparison import Difference
from app.domain.measures.readings import FigureUnit, Reading, Subject
from app.domain.measures.selection import Selection, Value
from app.http.attendance import AttendedRoute
from app.http.inquiry import CallerDep, Inquiry
from app.http.schemas import series
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.series_queries import CompareQuery, FigureQuery, TrendQuery
from app.storage.queries import series as figures
from app.storage.queries.lengths import NONE, Lengths, summary
from app.storage.queries.question import Asked
from app.storage.queries.shifts import hodges_lehmann

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/trend")
async def get_trend(query: Annotated[TrendQuery, Query()], caller: CallerDep) -> series.Trend:
    """One figure, day by day, week by week, month by month or quarter by quarter."""
    async with caller.asks(query) as inquiry:
        subject = _subject(query, inquiry)
        period = inquiry.asked.selection
        assert period.start is not None, "a trend begins somewhere"
        assert period.end is not None, "a trend ends somewhere"
        boundaries = buckets(period.start, period.end, query.by, period.timezone)
        found = await figures.trend(inquiry.connection, inquiry.asked, subject, boundaries)
    return series.Trend(
        definition=DefinitionRef.of("trend"),
        policy=series.TrendPolicy(**inquiry.policy, **series.of_figure(subject), by=query.by),
        total=series.TrendFigures.of(subject.figure.unit, boundaries, found),
    )


@router.get("/compare")
async def get_comparison(
    query: Annotated[CompareQuery, Query()], caller: CallerDep
) -> series.Comparison:
    """One figure in two periods or of two groups: both readings, and how far they lie apart."""
    async with caller.asks(query) as inquiry:
        subject = _subject(query, inquiry)
        if query.group_by is None:
            here, there = await _two_periods(query, inquiry, subject)
        else:
            here, there = await _two_groups(query, inquiry, subject)
    unit = subject.figure.unit
    apart = query.group_by is None or query.group_by.name != "tag"
    difference = await _difference(unit, here, there, apart=apart)
    return series.Comparison(
        definition=DefinitionRef.of("compare"),
        policy=series.ComparePolicy(**inquiry.policy, **series.of_figure(subject)),
        unit=unit,
        value=series.ComparedReading.of_(here.reading, unit, **here.described),
        against=series.ComparedReading.of_(there.reading, unit, **there.described),
        difference=series.FigureDifference.of(difference, unit),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison; `lengths` is the whole sample behind a figure of durations."""

    selection: Selection
    group: Value
    reading: Reading
    lengths: Lengths

    @property
    def described(self) -> dict[str, Any]:
        return {"from": self.selection.start, "to": self.selection.end, "group": self.group}


def _subject(query: FigureQuery, inquiry: Inquiry) -> Subject:
    return readings.subject(query.figure, inquiry.ranking, stage=query.stage, outcome=query.outcome)


async def _two_periods(
    query: CompareQuery, inquiry: Inquiry, subject: Subject
) -> tuple[_Side, _Side]:
    selection = inquiry.asked.selection
    start, end = query.against_period(selection.timezone)
    other = replace(inquiry.asked, selection=replace(selection, start=start, end=end))
    (here,) = await _sides(inquiry, inquiry.asked, subject, [None], grouped=False)
    (there,) = await _sides(inquiry, other, subject, [None], grouped=False)
    return here, there


async def _two_groups(
    query: CompareQuery, inquiry: Inquiry, subject: Subject
) -> tuple[_Side, _Side]:
    assert query.group_by is not None, "groups are of a dimension"
    selection = inquiry.asked.selection
    filters = {**selection.filters, query.group_by: frozenset(query.groups)}
    asked = replace(inquiry.asked, selection=replace(selection, filters=filters))
    here, there = await _sides(inquiry, asked, subject, query.groups, grouped=True)
    return here, there


async def _sides(
    inquiry: Inquiry, asked: Asked, subject: Subject, groups: Sequence[Value], *, grouped: bool
) -> list[_Side]:
    if subject.figure.unit is FigureUnit.SECONDS:
        lengths = await figures.lengths(inquiry.connection, asked, subject, grouped=grouped)
        samples = {group: lengths.get(group, NONE) for group in groups}
        return [
            _Side(asked.selection, group, readings.of_lengths(subject, summary(of)), of)
            for group, of in samples.items()
        ]
    found = await figures.readings(inquiry.connection, asked, subject, grouped=grouped)
    nothing = readings.nothing(subject, inquiry.ranking)
    return [_Side(asked.selection, group, found.get(group, nothing), NONE) for group in groups]


async def _difference(unit: FigureUnit, here: _Side, there: _Side, *, apart: bool) -> Difference:
    match unit:
        case FigureUnit.SECONDS:
            # Of large samples it takes a while: other requests go on meanwhile.
            shift = await asyncio.to_thread(hodges_lehmann, here.lengths, there.lengths)
            return comparison.of_lengths(shift, apart=apart)
        case FigureUnit.SHARE:
            return comparison.of_shares(here.reading, there.reading, apart=apart)
        case FigureUnit.COUNT | FigureUnit.MONEY:
            return comparison.subtracted(here.reading, there.reading)
