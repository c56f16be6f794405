"""What a clock on the wall of a time zone has shown, as two functions that never run backwards.

`reached` says when the clock first shows a local time or a later one, `shown` the latest time that
it has shown by an instant. So an hour that the clock skips is reached at the moment of the change;
an hour that it repeats is reached when it is shown first, and while it is shown again the clock
counts as standing at its end. Both rise with their argument, which PEP 495's `fold` alone does not
give. Local times are naive here; instants are aware and come back in UTC.
"""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)


def reached(zone: ZoneInfo, local: datetime) -> datetime:
    """The first instant at which the zone's clock shows `local` or later."""
    before = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    after = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if before <= after:  # shown once, or twice and `before` is the first
        return before
    # Never shown: reckoned by the offset after the change it lies before it, and the other way.
    earliest, whole = after.replace(microsecond=0), local.replace(microsecond=0)
    passed = bisect_left(
        range((before - after) // _SECOND),
        whole,
        key=lambda seconds: _reading(zone, earliest + seconds * _SECOND),
    )
    return earliest + passed * _SECOND


def shown(zone: ZoneInfo, instant: datetime) -> datetime:
    """The latest local time that the zone's clock has shown by `instant`."""
    local = instant.astimezone(zone)
    if not local.fold:
        return local.replace(tzinfo=None)
    # Shown for the second time: the clock was put back since `first`, by what lies between.
    second = instant.astimezone(UTC).replace(microsecond=0)
    first = local.replace(microsecond=0, fold=0).astimezone(UTC)
    passed = bisect_left(
        range((second - first) // _SECOND),
        1,
        key=lambda seconds: (first + seconds * _SECOND).astimezone(zone).fold,
    )
    return _reading(zone, first + passed * _SECOND) + (second - first)


def _reading(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)
