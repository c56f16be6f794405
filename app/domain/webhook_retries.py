"""When a delivery is tried again, and when an endpoint is given up.

The schedule is the one that Standard Webhooks 1.0 suggests: at once, then after ever longer waits,
about three days in all. Waits vary by chance, so that what failed together does not come back
together. Chance and time are passed in.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

DELAYS: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""After the first attempt, the second …; after the last of them there is no other."""
ATTEMPTS: Final = len(DELAYS) + 1

JITTER: Final = 0.2
"""A wait is up to so much shorter or longer than the schedule has it, as a share."""
LONGEST_WAIT: Final = timedelta(hours=24)
"""What a receiver may ask for by Retry-After; more is taken as this much."""

GIVEN_UP_AFTER: Final = timedelta(days=5)
GIVEN_UP_WITH: Final = 2
"""Deliveries of which no attempt has succeeded: one may fail for what it says, two for who asks."""


def wait(attempts: int, draw: float, asked: timedelta | None = None) -> timedelta | None:
    """How long to wait after so many attempts; None: it was the last one.

    `draw` is a random number in [0, 1). `asked` is what the receiver asked for: it is waited for
    at least so long.
    """
    if attempts >= ATTEMPTS:
        return None
    scheduled = DELAYS[attempts - 1] * (1 - JITTER + 2 * JITTER * draw)
    return max(scheduled, asked or timedelta())


def retry_after(status: int | None, header: str | None, now: datetime) -> timedelta | None:
    """What a 429 or 503 asks for, in seconds or as a date (RFC 9110, 10.2.3); nonsense is nothing.

    At most `LONGEST_WAIT`, and never negative. `now` is when it was asked.
    """
    if status not in {429, 503} or header is None:
        return None
    if header.isascii() and header.isdigit():
        asked = timedelta(seconds=min(int(header[:10]), LONGEST_WAIT.total_seconds()))
    else:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, OverflowError):  # a year that no clock has is an OverflowError
            return None
        if until.tzinfo is None:  # `-0000`: a date that does not say its zone
            return None
        asked = until - now
    return min(max(asked, timedelta()), LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class Streak:
    """Failures of an endpoint with no success among them; None: the last attempt succeeded.

    `deliveries`: how many of them have failed for good.
    """

    since: datetime | None = None
    deliveries: int = 0

    def failed(self, at: datetime, *, for_good: bool) -> "Streak":
        """The streak with one more failure, which may have been a delivery's last attempt."""
        return Streak(self.since or at, self.deliveries + for_good)

    def is_hopeless(self, now: datetime) -> bool:
        """Whether the endpoint is to be given up.

        However seldom it is tried: nothing but failures is nothing but failures.
        """
        if self.since is None or self.deliveries < GIVEN_UP_WITH:
            return False
        return now - self.since >= GIVEN_UP_AFTER
