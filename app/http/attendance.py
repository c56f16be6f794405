"""Who hangs up is not worked for any longer: a route class for operations that only ask.

A dashboard that is closed, or asks anew before it was answered, leaves its questions behind; each
would hold a connection and a core of the database until its time-out. So the operation is cancelled
when its caller goes: the driver then cancels the query in the database, and `Database.read` takes
the connection out of the pool.

For reading alone: a write that has begun is better finished than left in doubt.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from app.http.middleware import CLIENT_LEFT
from app.http.strictness import StrictRoute


class AttendedRoute(StrictRoute):
    """A strict route that is worked on only as long as its caller waits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def attended(request: Request) -> Response:
            # The operation takes no body, so that nobody else receives what this waits for.
            answering = asyncio.create_task(handle(request))
            leaving = asyncio.create_task(_left(request))
            try:
                await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
                if answering.done() or leaving.exception():
                    return await answering
                return Response(status_code=CLIENT_LEFT)  # to the log: there is nobody to read it
            finally:
                # Cancelled once, and waited for: how it leaves the database is part of the work.
                answering.cancel()
                leaving.cancel()
                await asyncio.gather(answering, leaving, return_exceptions=True)

        return attended


async def _left(request: Request) -> None:
    """Wait until the caller has hung up, which nobody can tell behind a body too large to read.

    Raises HTTPException then. What was pipelined after the request hides it too, until the answer.
    """
    while (await request.receive())["type"] != "http.disconnect":
        pass
