"""`sluice import FILE`: history from a file straight into the database, with a progress bar.

The same import as the API's. It is run here, unless a service on the same database takes it first;
then its progress is shown.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from app.actions.import_history import run_next_import
from app.actions.import_mapping import LongMapping, WideMapping, parse_mapping
from app.actions.receive_import import receive_import
from app.cli.workspaces import in_workspace
from app.domain.access import Principal, Scope
from app.storage import imports
from app.storage.engine import Database
from app.storage.idempotency import Answer
from app.storage.imports import ImportJob, State

CHUNK: Final = 1 << 20
LOOK_AGAIN: Final = 0.2  # seconds, while another process has the import
MOST_SHOWN: Final = 10


class OnError(StrEnum):
    SKIP = "skip"
    ABORT = "abort"


class OnConflict(StrEnum):
    REJECT = "reject"
    REWRITE = "rewrite"


def import_(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="CSV or NDJSON.")
    ],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="The pipeline's key.")],
    mapping: Annotated[
        Path,
        typer.Option(
            "--mapping",
            "-m",
            exists=True,
            dir_okay=False,
            help="JSON: which column is what; docs/import.md has it all.",
        ),
    ],
    on_error: Annotated[
        OnError, typer.Option(help="What a rejected row means for the others.")
    ] = OnError.SKIP,
    on_conflict: Annotated[
        OnConflict, typer.Option(help="What to do with rows that the log contradicts.")
    ] = OnConflict.REJECT,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="The workspace's key.")
    ] = "default",
    actor: Annotated[
        str, typer.Option(help="The name that the log bears as actor.")
    ] = "command line",
) -> None:
    """Import history. Ends with status 1 where it was aborted or failed."""
    meant = _mapping(mapping)

    async def work(
        database: Database, workspace_id: UUID
    ) -> tuple[ImportJob, list[imports.Remark]]:
        principal = Principal(workspace_id, actor, frozenset({Scope.IMPORTS_WRITE}))
        import_id = await _receive(
            database, principal, pipeline, meant, file, on_error.value, on_conflict.value
        )
        with _bar() as bar:
            await _run(database, workspace_id, import_id, _shown(bar, import_id))
        async with database.read(workspace_id) as connection:
            job, _ = await imports.read(connection, workspace_id, import_id)
            remarks = await imports.read_remarks(
                connection, workspace_id, import_id, limit=MOST_SHOWN + 1
            )
        return job, remarks

    job, remarks = in_workspace(workspace, work, pool=3)
    _tell(job, remarks)
    if job.state is not State.COMPLETED:
        raise typer.Exit(1)


def _mapping(path: Path) -> LongMapping | WideMapping:
    try:
        return parse_mapping(path.read_bytes())
    except ValidationError as wrong:
        for fault in wrong.errors():
            place = "/".join(str(part) for part in fault["loc"])
            typer.echo(f"{path}: /{place}: {fault['msg']}", err=True)
        raise typer.Exit(1) from wrong


async def _receive(
    database: Database,
    principal: Principal,
    pipeline: str,
    mapping: LongMapping | WideMapping,
    file: Path,
    on_error: str,
    on_conflict: str,
) -> UUID:
    async def chunks() -> AsyncIterator[bytes]:
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                yield chunk

    def answer(job: ImportJob) -> Answer:
        return Answer(202, json.dumps(str(job.import_id)).encode())

    received = await receive_import(
        database,
        principal,
        pipeline,
        mapping,
        chunks(),
        on_error=on_error,
        on_conflict=on_conflict,
        request=None,
        answer=answer,
    )
    return UUID(json.loads(received.body))


async def _run(
    database: Database, workspace: UUID, import_id: UUID, show: Callable[[ImportJob], Any]
) -> None:
    """Run the workspace's imports until this one is over, or watch another process run it."""
    while True:
        ran = await run_next_import(database, workspace, show)
        async with database.read(workspace) as connection:
            job, _ = await imports.read(connection, workspace, import_id)
        show(job)
        if job.finished_at is not None:
            return
        if not ran:
            await asyncio.sleep(LOOK_AGAIN)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[transitions]:,} transitions"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _shown(bar: Progress, import_id: UUID) -> Callable[[ImportJob], None]:
    task = bar.add_task("pending", total=1.0, transitions=0)

    def show(job: ImportJob) -> None:
        if job.import_id == import_id:
            bar.update(
                task,
                description=job.state.value,
                completed=imports.progress(job),
                transitions=job.counts["transitions"],
            )

    return show


def _tell(job: ImportJob, remarks: list[imports.Remark]) -> None:
    typer.echo(f"{job.state.value}: import {job.import_id}")
    if job.failure:
        typer.echo(job.failure, err=True)
    for name, number in job.counts.items():
        if number:
            typer.echo(f"  {name.replace('_', ' '):20}{number:>12,}")
    for remark in remarks[:MOST_SHOWN]:
        column = "" if remark.column is None else f", {remark.column}"
        typer.echo(f"line {remark.line}{column}: {remark.code}: {remark.reason}", err=True)
    if len(remarks) > MOST_SHOWN:
        typer.echo(f"… and more: GET /v1/imports/{job.import_id}/errors has all of them.", err=True)
