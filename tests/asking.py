"""Asking as a caller does who was told to ask again: with the same request, and not for ever.

A database that is busy, be it with other tests, makes those who wait for a lock or a connection
wait for two seconds and then tells them so. Nothing of such a request was done, so whoever counts
what was done still counts exactly: one that left something behind after all would be found out.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx

TRIES: Final = 10
UNDECIDED: Final = frozenset({"database_unavailable", "request_in_progress"})
"""The codes that ask for the same request again; the second is told of an idempotency key alone."""


async def decided(
    ask: Callable[..., Awaitable[httpx.Response]], *request: Any, **more: Any
) -> httpx.Response:
    """The answer to `ask(*request, **more)`; after so many tries in vain, what was told last."""
    for _ in range(TRIES):
        answer = await ask(*request, **more)
        if answer.status_code not in {409, 503} or answer.json()["code"] not in UNDECIDED:
            break
    return answer
