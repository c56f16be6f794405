"""Counting in threads: few at a time, all in the end, and the memory goes back."""

import asyncio
import ctypes
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.storage.aside import AT_ONCE, GIVING_BACK, aside


async def test_no_more_is_counted_at_once_than_there_are_threads_and_all_is_counted() -> None:
    at_work, most = 0, 0
    counting = threading.Lock()
    together = threading.Barrier(AT_ONCE, timeout=10)  # as many as may must be there at once

    def count(number: int, *, by: int) -> int:
        nonlocal at_work, most
        with counting:
            at_work += 1
            most = max(most, at_work)
        together.wait()
        with counting:
            at_work -= 1
        return number * by

    rounds = 6 * AT_ONCE
    found = await asyncio.gather(*(aside(count, number, by=2) for number in range(rounds)))
    assert found == [2 * number for number in range(rounds)]
    assert most <= AT_ONCE


async def test_what_goes_wrong_in_the_thread_is_raised_here() -> None:
    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await aside(fail)


async def test_who_gives_up_leaves_the_threads_to_others() -> None:
    ended = threading.Event()
    given_up = [asyncio.ensure_future(aside(ended.wait, 10)) for _ in range(2 * AT_ONCE)]
    await asyncio.sleep(0)
    for each in given_up:
        each.cancel()
    await asyncio.wait(given_up)
    ended.set()
    assert await asyncio.wait_for(aside(lambda: "counted"), 10) == "counted"


def resident() -> int:
    """Megabytes of this process that are in memory."""
    told = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert told is not None
    return int(told[1]) // 1024


@pytest.mark.skipif(
    not (Path("/proc/self/status").exists() and hasattr(ctypes.CDLL(None), "malloc_trim")),
    reason="asks Linux for its memory, and glibc to give it up",
)
async def test_memory_goes_back_that_lies_between_what_is_kept() -> None:
    def count() -> list[NDArray[np.float64]]:
        many = [np.ones(8_000) for _ in range(2_000)]  # 64 kB each
        return many[::100]

    before = resident()
    kept = await aside(count)
    async with asyncio.timeout(10 + GIVING_BACK):
        while resident() > before + 40:  # noqa: ASYNC110 - the system tells nobody
            await asyncio.sleep(0.02)
    assert sum(each.sum() for each in kept) == 20 * 8_000
