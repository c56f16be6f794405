"""Running an import: its file is staged row by row, then appended deal by deal, piece by piece.

    pending ─> staging ─> [checking ─>] appending ─> completed
                  │            └────────> aborted      (on_error=abort, and a row was rejected)
                  └─────────────────────> failed       (the file cannot be read at all)

Each piece is one short transaction that writes what was done together with how far the job has
come, so that a restart goes on where the last piece ended and nothing is lost or doubled. Reading
and deciding are plain computation and run in a thread: the service answers meanwhile.
"""

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import IO, Any, Final, TypeVar
from uuid import UUID

import structlog

from app.actions import announcements, append_history, read_rows
from app.actions.append_history import Piece, Setting
from app.actions.import_mapping import LongMapping, WideMapping, read_mapping
from app.actions.read_batch import Batch, read_batch, skip
from app.actions.read_records import records
from app.actions.read_rows import Meaning
from app.domain.errors import AlreadyExists, DatabaseUnavailable, SluiceError
from app.domain.pipeline import Pipeline
from app.storage import import_rows, imports, pipelines
from app.storage.engine import JOB, Connection, Database, Lock, Work
from app.storage.ids import new_id
from app.storage.import_rows import StagedRow
from app.storage.imports import ImportJob, LostLease, Remark, State
from app.storage.statement import LostRace, execute

T = TypeVar("T")

MANY_ROWS: Final = 1_000
"""From so many on, the planner is told of them: it costs a second on a million deals."""

PIECE: Final = 2_000
"""Rows of a piece: about a tenth of a second, so that nobody waits long for its locks."""
RACES: Final = 5
"""How often a piece is decided anew because one of its deals was opened meanwhile."""

Progress = Callable[[ImportJob], None]

log = structlog.get_logger("sluice.import")


async def run_next_import(
    database: Database,
    workspace: UUID,
    progress: Progress | None = None,
    *,
    piece: int = PIECE,
) -> bool:
    """Take the workspace's next import and bring it to its end; False where none waits.

    `piece` is about how many rows are done in one transaction; `progress` is called after each. An
    import that another worker holds is left to it. Raises DatabaseUnavailable, after which the
    import waits for whoever asks next.
    """
    lease = new_id()

    async def claim(connection: Connection) -> ImportJob | None:
        await connection.execute(imports.CLEAR_ABANDONED, workspace)
        return await imports.claim(connection, workspace, lease)

    job = await database.write(workspace, claim, lock=Lock.NONE)
    if job is None:
        return False
    try:
        await _Run(database, workspace, job, progress or _unwatched, piece).to_its_end()
    except LostLease:
        log.warning("import.taken_over", import_id=str(job.import_id))
    except BaseException:
        await _release(database, workspace, job)
        raise
    return True


async def _release(database: Database, workspace: UUID, job: ImportJob) -> None:
    """Hand the import back; where that fails, its lease runs out by itself."""

    async def work(connection: Connection) -> None:
        await connection.execute(imports.RELEASE, workspace, job.import_id, job.lease_id)

    try:
        await asyncio.shield(database.write(workspace, work, lock=Lock.NONE))
    except (DatabaseUnavailable, asyncio.CancelledError):
        log.warning("import.not_released", import_id=str(job.import_id))


def _unwatched(_: ImportJob) -> None:
    return None


class _Run:
    """One worker's run of one import. `_job` is what the last committed piece has made of it."""

    def __init__(
        self,
        database: Database,
        workspace: UUID,
        job: ImportJob,
        progress: Progress,
        piece: int,
    ) -> None:
        self._database = database
        self._workspace = workspace
        self._job = job
        self._progress = progress
        self._most = piece

    @cached_property
    def _mapping(self) -> LongMapping | WideMapping:
        """Read when it is first needed: one that cannot be read fails its own import alone."""
        return read_mapping(self._job.mapping)

    async def to_its_end(self) -> None:
        """Go through the states from the one that the job is in."""
        while self._job.state not in imports.ENDS:
            try:
                match self._job.state:
                    case State.CHECKING | State.APPENDING:
                        await self._work_through()
                    case _:
                        await self._stage()
            except (DatabaseUnavailable, LostLease):
                raise
            except SluiceError as refused:
                self._job = replace(self._job, state=State.FAILED, failure=refused.detail)
            except Exception:
                # Whatever it is, trying again would meet it again, and for ever.
                log.exception("import.failed", import_id=str(self._job.import_id))
                failure = "The service failed to run the import. The failure is logged."
                self._job = replace(self._job, state=State.FAILED, failure=failure)
        await self._refresh_statistics()
        await self._finish()

    async def _refresh_statistics(self) -> None:
        """Let the planner know of many new rows, before anyone is told that they are there."""
        if self._job.rows_staged < MANY_ROWS:
            return

        async def work(connection: Connection) -> None:
            await connection.execute(imports.REFRESH_STATISTICS)

        try:
            await self._database.write(self._workspace, work, lock=Lock.NONE, timeouts=JOB)
        except DatabaseUnavailable as busy:  # another import refreshes them at this moment
            log.warning("import.statistics", reason=busy.detail)

    async def _stage(self) -> None:
        """Read the file from where it was left, and put its rows in order."""
        job = self._job

        async def pipeline(connection: Connection) -> tuple[Pipeline, datetime]:
            return await _current(connection, self._workspace, job.pipeline_id)

        meaning = Meaning(self._mapping, *await self._write(pipeline))
        with (
            tempfile.TemporaryFile() as file,
            closing(records(file, self._mapping, meaning.columns)) as reading,
        ):
            await self._fetch(file)
            await _in_thread(skip, reading, job.records_read)
            ahead = asyncio.ensure_future(_in_thread(read_batch, reading, meaning, self._most))
            try:
                while batch := await ahead:  # read on while these are stored
                    ahead = asyncio.ensure_future(
                        _in_thread(read_batch, reading, meaning, self._most)
                    )
                    await self._keep_staged(batch, file.tell())
            finally:
                await asyncio.wait([ahead])
        await self._begin_work()

    async def _fetch(self, file: IO[bytes]) -> None:
        """The file as it was sent, from its chunks."""
        import_id = self._job.import_id
        number = 0
        while True:

            async def chunk(connection: Connection, number: int = number) -> bytes | None:
                found: bytes | None = await connection.fetchval(
                    imports.CHUNK, self._workspace, import_id, number
                )
                return found

            content = await self._write(chunk)
            if content is None:
                break
            await _in_thread(file.write, content)
            number += 1
        file.seek(0)

    async def _keep_staged(self, batch: Batch, position: int) -> None:
        before = self._job
        job = replace(
            before.counting(
                records=batch.records,
                ignored=batch.ignored,
                rejected=len(batch.rejected),
                warnings=len(batch.warnings),
            ),
            state=State.STAGING,
            bytes_read=min(position, before.bytes_total),
            records_read=before.records_read + batch.records,
            rows_staged=before.rows_staged + len(batch.rows),
        )

        async def work(connection: Connection) -> None:
            workspace, remarks = self._workspace, [*batch.rejected, *batch.warnings]
            await import_rows.stage(connection, workspace, job.import_id, batch.rows)
            await imports.remark(connection, workspace, job.import_id, remarks)
            await imports.save(connection, workspace, job)

        await self._write(work)
        self._done(job)

    async def _begin_work(self) -> None:
        """All rows are staged: the file itself is no longer needed."""
        job = replace(self._job, bytes_read=self._job.bytes_total, state=State.APPENDING)
        if job.on_error == "abort":
            rejected = job.counts["rejected"] > 0
            job = replace(job, state=State.ABORTED if rejected else State.CHECKING)

        async def work(connection: Connection) -> ImportJob:
            workspace, import_id, after = self._workspace, job.import_id, job
            deal = await import_rows.deal_with_too_many_rows(connection, workspace, import_id)
            if deal is not None:
                most = import_rows.MOST_ROWS_OF_DEAL
                failure = f"The deal {deal!r} has more than {most:,} rows."
                after = replace(after, state=State.FAILED, failure=failure)
            await connection.execute(imports.CLEAR_CHUNKS, workspace, import_id)
            await imports.save(connection, workspace, after)
            return after

        self._done(await self._write(work))

    async def _work_through(self) -> None:
        """Decide about the staged rows, deal by deal; appending also writes what was decided.

        While one piece is written the next one is decided: one of them keeps this process busy,
        the other the database.
        """
        through, earlier = self._job.done_through, None
        pieces: list[asyncio.Task[None]] = []
        try:
            while deals := await self._next_deals(through):
                through = list(deals)[-1]
                pieces.append(asyncio.create_task(self._piece(deals, earlier)))
                if earlier is not None:
                    await earlier
                earlier = pieces[-1]
                del pieces[:-1]
            if earlier is not None:
                await earlier
        finally:
            for piece in pieces:
                piece.cancel()
            await asyncio.gather(*pieces, return_exceptions=True)
        state = State.COMPLETED
        if self._job.state is State.CHECKING:
            state = State.ABORTED if self._job.counts["rejected"] else State.APPENDING
        job = replace(self._job, state=state, done_through=None)

        async def save(connection: Connection) -> None:
            await imports.save(connection, self._workspace, job)

        await self._write(save)
        self._done(job)

    async def _next_deals(self, after: str | None) -> dict[str, list[StagedRow]]:
        async def work(connection: Connection) -> dict[str, list[StagedRow]]:
            return await import_rows.next_deals(
                connection, self._workspace, self._job.import_id, after, self._most
            )

        return await self._write(work)

    async def _piece(
        self, deals: dict[str, list[StagedRow]], earlier: asyncio.Task[None] | None
    ) -> None:
        """Do these deals; what is written comes after the piece before it, and so does the count.

        A deal that another writer opens meanwhile is met by its external id: decide anew.
        """
        workspace, job = self._workspace, self._job
        appending = job.state is State.APPENDING
        constants = read_rows.constants(self._mapping)

        async def work(connection: Connection) -> ImportJob:
            known = await import_rows.known_deals(
                connection, workspace, list(deals), locked=appending
            )
            pipeline, now = await _current(connection, workspace, job.pipeline_id)
            setting = Setting(workspace, job, pipeline, constants, now)
            piece = await _in_thread(append_history.decide, setting, deals, known)
            if not appending:
                piece.doubted.clear()  # told when it is done, and not twice
            remarks = await _remarks(connection, workspace, job, piece)
            if earlier is not None:
                await asyncio.shield(earlier)
            after = replace(self._job, done_through=list(deals)[-1])
            if appending:
                done = sum(len(rows) for rows in deals.values())
                after = replace(after.counting(**piece.counts), rows_done=after.rows_done + done)
            else:
                after = after.counting(rejected=piece.counts["rejected"])
                piece = Piece()
            await append_history.write(connection, workspace, after, piece, remarks)
            return after

        for _ in range(RACES):
            try:
                self._done(await self._write(work, lock=Lock.DEALS))
            except (AlreadyExists, LostRace):
                continue
            return
        raise DatabaseUnavailable("Others open the same deals at the same time.")

    async def _finish(self) -> None:
        """Clear what was staged, in pieces, then end the job and tell everybody."""
        job, workspace = self._job, self._workspace

        async def clear(connection: Connection) -> bool:
            await imports.save(connection, workspace, job)
            return await import_rows.clear(connection, workspace, job.import_id)

        while await self._write(clear):
            pass

        async def end(connection: Connection) -> None:
            await connection.execute(imports.CLEAR_CHUNKS, workspace, job.import_id)
            pipeline, now = await _current(connection, workspace, job.pipeline_id)
            await imports.finish(connection, workspace, job)
            told = announcements.import_completed(workspace, job, pipeline, now)
            await execute(connection, [told])

        await self._write(end)
        self._progress(job)

    def _done(self, job: ImportJob) -> None:
        self._job = job
        self._progress(job)

    async def _write(self, work: Work[T], *, lock: Lock = Lock.NONE) -> T:
        return await self._database.write(self._workspace, work, lock=lock, timeouts=JOB)


async def _current(
    connection: Connection, workspace: UUID, pipeline_id: UUID
) -> tuple[Pipeline, datetime]:
    """The pipeline as it is defined now, and the database's clock."""
    row = await connection.fetchrow(imports.CURRENT, workspace, pipeline_id)
    assert row is not None  # an import refers to its pipeline
    pipeline = await pipelines.load(connection, workspace, pipeline_id, row["revision"])
    return pipeline, row["now"]


async def _remarks(
    connection: Connection, workspace: UUID, job: ImportJob, piece: Piece
) -> list[Remark]:
    """What is to be reported of the rows that the piece rejects or doubts, each with its text."""
    told = [*piece.rejected, *piece.doubted]
    if not told:
        return []
    places = [(row.deal, row.line) for row, _, _ in told]
    raw = await import_rows.raw_lines(connection, workspace, job.import_id, places)
    remarks = [
        Remark(line=row.line, ordinal=row.ordinal, code=code, reason=reason, raw=raw[row.line])
        for row, code, reason in told
    ]
    rejected = len(piece.rejected)
    # A line has two warnings at most: that of its reading has the place 0.
    doubted = [replace(each, severity="warning", ordinal=1) for each in remarks[rejected:]]
    return [*remarks[:rejected], *doubted]


async def _in_thread(work: Callable[..., T], *args: Any) -> T:
    """Run it in a thread; when we are broken off, go only after it has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
