"""Lengths of time as definitions write them: strict ISO 8601, weeks, days and clock part apart.

A business calendar counts days and hours differently (`P1D` is the same local time on the next
working day, `PT24H` is twenty-four working hours), so the parts are kept as they were written and
never folded into one number. Without a calendar `length` does fold them. Lengths that were
*measured* are plain seconds and live elsewhere.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

# ISO 8601-1:2019, 5.5.2.2, without the years and months that have no fixed length, and without
# fractions. The look-aheads refuse a bare `P` and a `T` with nothing after it.
PATTERN = (
    r"^P(?:[0-9]{1,5}W|(?=[0-9T])(?:[0-9]{1,5}D)?"
    r"(?:T(?=[0-9])(?:[0-9]{1,6}H)?(?:[0-9]{1,6}M)?(?:[0-9]{1,7}S)?)?)$"
)
LONGEST = timedelta(days=36_525)

_written = re.compile(PATTERN, re.ASCII)
_part = re.compile(r"([0-9]+)([WDHMS])")


@dataclass(frozen=True, slots=True)
class Period:
    """So many weeks, days and clock seconds; none negative, together at most 100 years."""

    weeks: int = 0
    days: int = 0
    seconds: int = 0

    def __post_init__(self) -> None:
        if min(self.weeks, self.days, self.seconds) < 0:
            raise ValueError("a period is never negative")
        if self.weeks and (self.days or self.seconds):
            raise ValueError("weeks stand alone in a period")
        if self.length > LONGEST:
            raise ValueError("a period lasts at most 100 years")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`P7D`, `PT36H`, `P1DT12H`, `P2W`. Raises ValueError for anything else."""
        if not _written.fullmatch(text):
            raise ValueError("a duration is written like P7D, PT36H, P1DT12H or P2W")
        parts = {unit: int(number) for number, unit in _part.findall(text)}
        return cls(
            weeks=parts.get("W", 0),
            days=parts.get("D", 0),
            seconds=parts.get("H", 0) * 3600 + parts.get("M", 0) * 60 + parts.get("S", 0),
        )

    def __str__(self) -> str:
        """The one way to write it: hours are never turned into days, nor days into weeks."""
        if self.weeks:
            return f"P{self.weeks}W"
        minutes, seconds = divmod(self.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        parts = ((hours, "H"), (minutes, "M"), (seconds, "S"))
        clock = "".join(f"{number}{unit}" for number, unit in parts if number)
        days = f"{self.days}D" if self.days else ""
        return f"P{days}{'T' + clock if clock else ''}" if days or clock else "PT0S"

    def doubled(self) -> "Period":
        """Twice as long, or the longest that there is, in its own units: days stay days.

        Where the days alone come to the longest, no seconds are left beside them.
        """
        if self.weeks:
            return Period(weeks=min(self.weeks * 2, LONGEST // timedelta(weeks=1)))
        days = min(self.days * 2, LONGEST.days)
        left = LONGEST - timedelta(days=days)
        return Period(days=days, seconds=min(self.seconds * 2, left // timedelta(seconds=1)))

    @property
    def length(self) -> timedelta:
        """The whole of it where no calendar applies: a day is 24 hours, a week seven days."""
        return timedelta(days=self.weeks * 7 + self.days, seconds=self.seconds)
