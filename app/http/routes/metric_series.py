"""One figure through time, and held against itself: trend and compare."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.domain.measures import comparison
from app.domain.measures.calendar import MOST_BUCKETS, MOST_INSTANTS, buckets
from app.domain.measures.comparison import Difference
from app.domain.measures.figures import Figure, FigureUnit
from app.domain.measures.readings import Reading, nothing
from app.domain.measures.selection import Selection, Value
from app.domain.measures.subjects import Subject, subject
from app.http.attendance import AttendedRoute
from app.http.inquiry import CallerDep, Inquiry
from app.http.schemas import series
from app.http.schemas.definitions import DefinitionRef
from app.http.schemas.series_queries import CompareQuery, FigureQuery, TrendQuery
from app.storage.aside import aside
from app.storage.queries import series as figures
from app.storage.queries.lengths import NONE, Lengths
from app.storage.queries.question import Asked
from app.storage.queries.shifts import hodges_lehmann

router = APIRouter(
    route_class=AttendedRoute, prefix="/v1/pipelines/{pipeline}/metrics", tags=["metrics"]
)


@router.get("/trend")
async def get_trend(query: Annotated[TrendQuery, Query()], caller: CallerDep) -> series.Trend:
    """One figure, day by day, week by week, month by month or quarter by quarter."""
    async with caller.asks(query) as inquiry:
        asked = _subject(query, inquiry)
        period = inquiry.asked.selection
        assert period.start is not None, "a trend begins somewhere"
        assert period.end is not None, "a trend ends somewhere"
        most = MOST_INSTANTS if query.figure.is_of_instant else MOST_BUCKETS
        boundaries = buckets(period.start, period.end, query.by, period.timezone, most)
        found = await figures.trend(inquiry.connection, inquiry.asked, asked, boundaries)
    return series.Trend(
        definition=DefinitionRef.of("trend"),
        policy=series.TrendPolicy(**inquiry.policy, **query.subject, by=query.by),
        total=series.TrendFigures.of(query.figure.unit, boundaries, found),
    )


@router.get("/compare")
async def get_comparison(
    query: Annotated[CompareQuery, Query()], caller: CallerDep
) -> series.Comparison:
    """One figure in two periods or of two groups: both readings, and how far they lie apart."""
    async with caller.asks(query) as inquiry:
        asked = _subject(query, inquiry)
        if query.group_by is None:
            here, there = await _two_periods(query, inquiry, asked)
        else:
            here, there = await _two_groups(query, inquiry, asked)
    unit = query.figure.unit
    apart = query.group_by is None or query.group_by.name != "tag"
    difference = await _difference(query.figure, here, there, apart=apart)
    return series.Comparison(
        definition=DefinitionRef.of("compare"),
        policy=series.ComparePolicy(**inquiry.policy, **query.subject),
        unit=unit,
        value=series.ComparedReading.of_(here.reading, unit, **here.described),
        against=series.ComparedReading.of_(there.reading, unit, **there.described),
        difference=series.FigureDifference.of(difference, unit),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison; `lengths` is the whole sample behind a figure that has a shift."""

    selection: Selection
    group: Value
    reading: Reading
    lengths: Lengths

    @property
    def described(self) -> dict[str, Any]:
        return {"from": self.selection.start, "to": self.selection.end, "group": self.group}


def _subject(query: FigureQuery, inquiry: Inquiry) -> Subject:
    return subject(
        *(query.figure, inquiry.ranking),
        stage=query.stage,
        to_stage=query.to_stage,
        outcome=query.outcome,
        reason=query.reason,
    )


async def _two_periods(
    query: CompareQuery, inquiry: Inquiry, asked: Subject
) -> tuple[_Side, _Side]:
    selection = inquiry.asked.selection
    start, end = query.against_period(selection.timezone)
    other = replace(inquiry.asked, selection=replace(selection, start=start, end=end))
    (here,) = await _sides(inquiry, inquiry.asked, asked, [None], grouped=False)
    (there,) = await _sides(inquiry, other, asked, [None], grouped=False)
    return here, there


async def _two_groups(query: CompareQuery, inquiry: Inquiry, asked: Subject) -> tuple[_Side, _Side]:
    assert query.group_by is not None, "groups are of a dimension"
    selection = inquiry.asked.selection
    filters = {**selection.filters, query.group_by: frozenset(query.groups)}
    narrowed = replace(inquiry.asked, selection=replace(selection, filters=filters))
    here, there = await _sides(inquiry, narrowed, asked, query.groups, grouped=True)
    return here, there


async def _sides(
    inquiry: Inquiry, asked: Asked, about: Subject, groups: Sequence[Value], *, grouped: bool
) -> list[_Side]:
    none = nothing(about, inquiry.ranking), NONE
    if about.figure.has_shift:
        found = await figures.samples(inquiry.connection, asked, about, grouped=grouped)
    else:
        told = await figures.readings(inquiry.connection, asked, about, grouped=grouped)
        found = {group: (reading, NONE) for group, reading in told.items()}
    return [_Side(asked.selection, group, *found.get(group, none)) for group in groups]


async def _difference(figure: Figure, here: _Side, there: _Side, *, apart: bool) -> Difference:
    if figure.has_shift:
        # Of large samples it takes a while: other requests go on meanwhile.
        shift = await aside(hodges_lehmann, here.lengths, there.lengths)
        return comparison.of_lengths(shift, apart=apart)
    if figure.unit is FigureUnit.SHARE:
        return comparison.of_shares(here.reading, there.reading, apart=apart)
    return comparison.subtracted(here.reading, there.reading, adds_up=figure.adds_up)
