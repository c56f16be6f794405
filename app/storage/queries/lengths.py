"""Lengths of time as the database hands them over: all of them, eight bytes each, sorted here.

Quantiles want the lengths in order. PostgreSQL sorts them row by row and on one core; packed into
one value per group they cost a scan, and numpy puts a million in order in a tenth of a second
(docs/decisions/metric-speed.md). What is made of them is `domain.durations`' business.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from app.domain import durations
from app.domain.durations import Quantiles, Risk, Summary, summed_up
from app.storage.aside import aside

K = TypeVar("K")
Lengths: TypeAlias = NDArray[np.int64]
"""Whole microseconds, ascending."""

NONE: Final[Lengths] = np.empty(0, dtype=np.int64)

PACKED: Final = "string_agg(int8send(CAST({0} AS bigint)), CAST('' AS bytea))"
"""The aggregate of a column of microseconds that `samples` takes."""

_HALF: Final = 32  # bits


async def samples(rows: Iterable[Row[Any]], key: Callable[[Row[Any]], K]) -> dict[K, Lengths]:
    """The column `lengths`, made by `PACKED`, of all rows of one key as one sample.

    In a thread: millions take a second, and other requests go on meanwhile.
    """
    return await aside(_samples, rows, key)


def _samples(rows: Iterable[Row[Any]], key: Callable[[Row[Any]], K]) -> dict[K, Lengths]:
    packed: dict[K, list[bytes]] = defaultdict(list)
    for row in rows:
        packed[key(row)].append(row.lengths)
    return {
        of: np.sort(np.frombuffer(b"".join(parts), dtype=">i8").astype(np.int64))
        for of, parts in packed.items()
    }


def together(several: Iterable[Lengths]) -> Lengths:
    """All of them as one sample: each is in order, so they are merged."""
    return np.sort(np.concatenate([NONE, *several]), kind="stable")


def summary(lengths: Lengths) -> Summary:
    """Count, mean, quantiles and longest, as `domain.durations.summary` defines them."""
    return summed_up(cast("Sequence[int]", lengths), summed(lengths))


def quantile(lengths: Lengths, share: float) -> float:
    """The quantile as `domain.durations` defines it; there is at least one length."""
    return durations.quantile(cast("Sequence[int]", lengths), share)


def risk(ended: Lengths, running: Lengths) -> Risk:
    """Both together as a survival estimate takes them: an end comes before a running one."""
    before = np.searchsorted(ended, running, side="right")
    places = before + np.arange(1, len(running) + 1)
    return Risk(len(ended) + len(running), places.tolist())


def survival(ended: Lengths, running: Lengths) -> Quantiles:
    """The Kaplan-Meier quantiles, as `domain.durations.survival_quantiles` defines them."""
    return risk(ended, running).quantiles(lambda end: float(ended[end - 1]))


def summed(lengths: Lengths) -> int:
    """The exact sum: that of a few million lengths of months does not fit into 64 bits."""
    high, low = lengths >> _HALF, lengths & ((1 << _HALF) - 1)
    return (int(high.sum()) << _HALF) + int(low.sum())
