"""Lengths of time as the database hands them over: all of them, eight bytes each.

Quantiles want the lengths in order. PostgreSQL sorts them row by row and on one core; packed into
one value per group they cost a scan, and numpy puts a million in order in a tenth of a second
(docs/decisions/metric-speed.md). What is made of them is `domain.durations`' business.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor
from typing import Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from app.domain import durations
from app.domain.durations import Quantiles, Risk, Summary, summed_up
from app.storage.aside import aside
from app.storage.driver import Record

K = TypeVar("K")
R = TypeVar("R")
Lengths: TypeAlias = NDArray[np.int64]
"""Whole microseconds; ascending, but where it is said that they are in no order."""

NONE: Final[Lengths] = np.empty(0, dtype=np.int64)

PACKED: Final = "string_agg(int8send(CAST({0} AS bigint)), CAST('' AS bytea))"
"""The aggregate of a column of microseconds that `samples` takes."""

_ADDED: Final = 512
"""So many lengths of up to 285 years add up within 64 bits."""


async def samples(
    rows: Iterable[Record], key: Callable[[Record], K], told: Callable[[Lengths], R]
) -> dict[K, R]:
    """What `told` makes of the column `lengths`, made by `PACKED`, of all rows of one key.

    They come in no order, and `told` may put them into one where they lie. In a thread: millions
    take a second, and other requests go on meanwhile.
    """
    return await aside(_samples, rows, key, told)


def _samples(
    rows: Iterable[Record], key: Callable[[Record], K], told: Callable[[Lengths], R]
) -> dict[K, R]:
    packed: dict[K, list[bytes]] = defaultdict(list)
    for row in rows:
        packed[key(row)].append(row.lengths)
    return {
        of: told(np.frombuffer(b"".join(parts), dtype=">i8").astype(np.int64))
        for of, parts in packed.items()
    }


def in_order(lengths: Lengths) -> Lengths:
    """Put in order where they lie: what is made of a few samples in order is merged.

    Of a sample in no order it takes a fifth more than a sort that cannot do that.
    """
    lengths.sort(kind="stable")
    return lengths


def together(several: Iterable[Lengths]) -> Lengths:
    """All of them as one sample."""
    return in_order(np.concatenate([NONE, *several]))


def summary(lengths: Lengths) -> Summary:
    """Count, mean, quantiles and longest, as `domain.durations.summary` defines them."""
    return summed_up(cast("Sequence[int]", lengths), summed(lengths))


def quantile(lengths: Lengths, share: float) -> float:
    """The quantile as `domain.durations` defines it; there is at least one length."""
    return durations.quantile(cast("Sequence[int]", lengths), share)


def quantiles(lengths: Lengths, shares: Sequence[float]) -> list[float]:
    """The quantiles of lengths in any order, of which there is at least one.

    They are put in order where they lie, no further than this takes: a quarter of the time.
    """
    places = [share * (len(lengths) - 1) for share in shares]
    looked_at = {end(place) for place in places for end in (floor, ceil)}
    lengths.partition(sorted(looked_at))  # in order there
    return [quantile(lengths, share) for share in shares]


def risk(ended: Lengths, running: Lengths) -> Risk:
    """Both together as a survival estimate takes them: an end comes before a running one."""
    total = len(ended) + len(running)
    before = np.searchsorted(ended, running, side="right")
    places = before + np.arange(1, len(running) + 1)
    behind = total - places[places < total]  # the very last has no one to hand it to
    weights = np.multiply.accumulate(np.concatenate(([1.0], (behind + 1) / behind)))
    return Risk(total, places.tolist(), before.tolist(), weights.tolist())


def survival(ended: Lengths, running: Lengths) -> Quantiles:
    """The Kaplan-Meier quantiles, as `domain.durations.survival_quantiles` defines them."""
    return risk(ended, running).quantiles(lambda end: float(ended[end - 1]))


def summed(lengths: Lengths) -> int:
    """The exact sum: that of a few million lengths of months does not fit into 64 bits."""
    if not len(lengths):
        return 0
    return sum(np.add.reduceat(lengths, np.arange(0, len(lengths), _ADDED)).tolist())
