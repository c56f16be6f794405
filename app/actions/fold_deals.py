"""Folding the deals of a pipeline into segments, batch after batch: see `storage.segments`.

It changes no figure, only how fast figures are counted; so it tells nobody, and leaves the versions
of deals alone.
"""

from collections.abc import Awaitable
from functools import partial
from time import perf_counter
from typing import Final, TypeVar
from uuid import UUID

import structlog

from app.storage import pipelines
from app.storage.aside import give_back_soon
from app.storage.engine import JOB, Database, Lock, Work
from app.storage.segments import folding
from app.storage.segments.folding import Batch, Filled
from app.storage.statement import LostRace

T = TypeVar("T")

ENOUGH: Final = 250
"""So many unfolded deals are worth a segment; fewer are read from their rows in no time."""

log = structlog.get_logger("sluice.segments")


async def fold_deals(
    database: Database,
    workspace: UUID,
    key: str,
    *,
    enough: int = ENOUGH,
    batches: int | None = None,
) -> int:
    """Fold until fewer than `enough` deals are unfolded and no segment is worn; how many.

    `batches`: at most so many, and then it is another pipeline's turn. Without it there may be no
    end while deals are written sooner than they are folded.
    """
    began = perf_counter()
    folded = done = 0
    while done != batches:
        taken = await _fold_batch(database, workspace, key, enough)
        give_back_soon()
        if taken is None:
            break
        folded, done = folded + taken, done + 1
    if folded:
        seconds = round(perf_counter() - began, 3)
        log.info(
            "segments.folded",
            workspace=str(workspace),
            pipeline=key,
            deals=folded,
            seconds=seconds,
        )
    return folded


async def _fold_batch(database: Database, workspace: UUID, key: str, enough: int) -> int | None:
    """How many deals found a place; None: there is nothing more to fold, or others fold it."""
    async with database.read(workspace, timeouts=JOB) as connection:
        pipeline = await pipelines.read_current(connection, workspace, key)
        batch = await folding.read_batch(connection, workspace, pipeline, enough)
    if batch is None:
        return None
    try:
        taken = await store(database, workspace, pipeline.pipeline_id, batch)
    except LostRace:
        return None
    return taken or None if batch.before.size else 0


async def store(database: Database, workspace: UUID, pipeline_id: UUID, batch: Batch) -> int:
    """Make a segment of the batch; how many deals found a place in it.

    Raises LostRace where others replaced it meanwhile.
    """

    def written(work: Work[T]) -> Awaitable[T]:
        return database.write(workspace, work, lock=Lock.NONE, timeouts=JOB)

    segment = await written(
        partial(folding.add, workspace=workspace, pipeline_id=pipeline_id, batch=batch)
    )
    taken = 0
    if segment is not None:
        for start in range(0, batch.before.size, folding.SLICE):
            taken += await written(
                partial(
                    folding.take, workspace=workspace, segment=segment, batch=batch, start=start
                )
            )
    worn = [*batch.worn]
    if segment is not None and not taken:
        worn.append(Filled(segment, batch.before.size))
    if worn:
        await written(partial(folding.drop, workspace=workspace, worn=worn))
    return taken
