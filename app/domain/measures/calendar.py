"""A period cut into buckets: the days, ISO weeks, months or quarters of a time zone.

A bucket begins at the first instant of its first day there, so the day on which clocks are put
forward has 23 hours, and the one on which they are put back has 25. Only the boundaries are made
here; what is counted between two of them is each metric's business.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from app.domain.errors import Breach, Invalid

MOST_BUCKETS: Final = 400
"""A year of days, and some. With more of them an answer is no figure any more, but an export."""

MOST_INSTANTS: Final = 60
"""Five years of months. Each is a look at all deals open at its end, where others are cut from one.
"""

_DAY: Final = timedelta(days=1)


class By(StrEnum):
    """What one bucket spans; a week begins on Monday (ISO 8601), a quarter with January."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


def buckets(
    start: datetime, end: datetime, by: By, timezone: str, most: int = MOST_BUCKETS
) -> tuple[datetime, ...]:
    """The boundaries, in UTC: `start`, each at which a bucket begins between, and `end`.

    Each two in a row are one bucket, half-open; the first and the last are cut to the period. An
    empty period has one boundary and no bucket. Raises Invalid where they are over `most`.
    """
    zone = ZoneInfo(timezone)
    boundaries = [start.astimezone(UTC)]
    if end <= start:
        return tuple(boundaries)
    for day in _beginnings(start.astimezone(zone).date(), by):
        # Of a midnight that the clocks skip, `fold=0` is the instant at which they do; of one that
        # they show twice, it is the first.
        boundary = datetime.combine(day, time(), zone).astimezone(UTC)
        if boundary >= end:
            break
        # A day that a zone has left out, as Samoa did in 2011, begins when the next one does.
        if boundary > boundaries[-1]:
            boundaries.append(boundary)
        if len(boundaries) > most:
            problem = f"The period has more than {most} buckets: ask for longer ones."
            raise Invalid(problem, [Breach("?by", "out_of_range", problem)])
    return (*boundaries, end.astimezone(UTC))


def _beginnings(day: date, by: By) -> Iterator[date]:
    """The first day of each bucket after the one that holds `day`."""
    while True:
        day = _next_beginning(day, by)
        yield day


def _next_beginning(day: date, by: By) -> date:
    if by is By.DAY:
        return day + _DAY
    if by is By.WEEK:
        return day + (7 - day.weekday()) * _DAY
    spanned = 1 if by is By.MONTH else 3
    month = day.year * 12 + day.month - 1
    year, place = divmod(month - month % spanned + spanned, 12)
    return date(year, place + 1, 1)
