"""Counting beside the loop that serves requests: in one thread, one after the other.

Whoever counts a million rows holds some 20 MB meanwhile, and Python's lock for much of it: two at
once end no sooner than one after the other, and need that memory twice. What mostly waits for
something else has no place here, nor what nobody waits for.

The memory goes back to the system a moment later. By itself the C library keeps what lies between
numbers that are still needed, which after some metrics is more than these.
"""

import ctypes
from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

GIVING_BACK: Final = 1.0
"""Seconds. Memory that is had anew costs a microsecond a page: at most so often is it given up."""

_thread = ThreadPoolExecutor(1, thread_name_prefix="counting")
_give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone; others need none
_due = 0.0


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises; it must not wait for other work that is done here.

    Who gives up waiting for it does not end it.
    """
    try:
        return await get_running_loop().run_in_executor(_thread, partial(work, *args, **kwargs))
    finally:
        give_back_soon()


def give_back_soon() -> None:
    """Give up memory that is not used any more: for whoever held much of it, here or elsewhere."""
    global _due  # noqa: PLW0603 - one of a process, as its memory is
    loop = get_running_loop()
    if _give_back is None or loop.time() < _due:
        return
    _due = loop.time() + GIVING_BACK
    loop.call_later(GIVING_BACK, _thread.submit, _give_back, 0)
