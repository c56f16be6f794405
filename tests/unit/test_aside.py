"""Counting in a thread: one after the other, all in the end, and the memory goes back."""

import asyncio
import ctypes
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.storage.aside import GIVING_BACK, aside


async def test_one_is_counted_after_the_other_beside_the_loop_and_all_are() -> None:
    at_work: set[int] = set()
    threads: set[int] = set()

    def count(number: int, *, by: int) -> int:
        at_work.add(number)
        alone = len(at_work) == 1
        threads.add(threading.get_ident())
        at_work.remove(number)
        assert alone
        return number * by

    found = await asyncio.gather(*(aside(count, number, by=2) for number in range(12)))
    assert found == [2 * number for number in range(12)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_what_goes_wrong_in_the_thread_is_raised_here() -> None:
    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await aside(fail)


async def test_who_gives_up_leaves_the_thread_to_others() -> None:
    ended = threading.Event()
    given_up = [asyncio.ensure_future(aside(ended.wait, 10)) for _ in range(3)]
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
