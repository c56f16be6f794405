"""Token buckets: arithmetic alone, in whole nanoseconds, so that it is exact.

A bucket is one number: the instant at which it will be full again. What lacks until then is what
was taken and has not come back. A bucket that is full is the same as one that nobody has ever used,
and is forgotten.
"""

from collections.abc import Hashable
from typing import Final

MOST: Final = 100_000
"""So many names have a bucket before the oldest are forgotten early, and so begin anew, full."""

_SECOND: Final = 1_000_000_000


class Buckets:
    """Buckets of one size, one for each name. Instants are nanoseconds of any steady clock."""

    def __init__(self, rate: float, burst: float, *, most: int = MOST) -> None:
        """So many tokens a second come back; what comes in `burst` seconds may be taken at once."""
        self.size = max(1, int(rate * burst))
        self._price = int(_SECOND / rate)  # nanoseconds in which one token comes back
        self._most = most
        self._fills = self.size * self._price
        # A name is looked for in both halves and written to the newer. The older is dropped when
        # nobody can have taken from it for as long as a bucket takes to fill.
        self._newer: dict[Hashable, int] = {}
        self._older: dict[Hashable, int] = {}
        self._turned: int | None = None

    @property
    def window(self) -> int:
        """The seconds in which an empty bucket fills, rounded up."""
        return -(-self._fills // _SECOND)

    def left(self, name: Hashable, now: int) -> int:
        """How many whole tokens are there."""
        return (self._fills - self._lacks(name, now)) // self._price

    def wait(self, name: Hashable, now: int) -> int:
        """The seconds until the bucket has a token more than now, rounded up; 1 for a full one."""
        pending = self._lacks(name, now) % self._price or self._price
        return -(-pending // _SECOND)

    def take(self, name: Hashable, now: int) -> None:
        """Take a token, which has to be there."""
        full_at = now + self._lacks(name, now) + self._price
        if self._turned is None or now - self._turned >= self._fills or self._is_crowded(name):
            self._newer, self._older, self._turned = {}, self._newer, now
        self._newer[name] = full_at

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._newer.keys() | self._older.keys())

    def _lacks(self, name: Hashable, now: int) -> int:
        full_at = self._newer.get(name)
        if full_at is None:
            full_at = self._older.get(name, now)
        return full_at - now if full_at > now else 0

    def _is_crowded(self, name: Hashable) -> bool:
        return len(self._newer) >= self._most and name not in self._newer
