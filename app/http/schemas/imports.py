"""Imports, as callers ask for them and watch them."""

from typing import Annotated, Any, Final, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json
from starlette.datastructures import UploadFile as SentFile

from app.actions.import_mapping import ImportMapping
from app.http.schemas.common import Id, Instant, Key, Page, Query, Rate, Response
from app.http.schemas.transitions import PageQuery
from app.storage import imports
from app.storage.imports import ImportJob, Remark

_LONGEST_MAPPING: Final = 1 << 20
"""Bytes of one that is sent as a file; as a text the form itself allows no more."""
_COUNTS: Final[dict[str, Any]] = {
    "records": 15214,
    "rejected": 0,
    "ignored": 0,
    "warnings": 0,
    "transitions": 5176,
    "present": 0,
    "unchanged": 351,
    "voided": 0,
    "against_flow": 295,
    "activities": 9687,
    "activities_present": 0,
    "deals_created": 1050,
    "deals_changed": 0,
}
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-5a2b-7c3d-8e4f-0a1b2c3d4e5f",
    "pipeline": "sales",
    "state": "completed",
    "progress": 1.0,
    "on_error": "skip",
    "on_conflict": "reject",
    "counts": _COUNTS,
    "statements": 15214,
    "failure": None,
    "actor": "mia",
    "created_at": "2026-11-02T09:00:00Z",
    "started_at": "2026-11-02T09:00:01Z",
    "finished_at": "2026-11-02T09:00:03Z",
}
_REMARK: Final[dict[str, Any]] = {
    "line": 8302,
    "column": "deal_stage",
    "severity": "rejected",
    "code": "undated",
    "reason": "No date says when the deal entered the stage.",
    "raw": "6CWZFOHJ,Anna Snelling,GTX Basic,Green-Plus,Prospecting,,,",
}


def _text(sent: Any) -> Any:
    """What a part of the form says, also where it was sent as a file (`-F mapping=@mapping.json`).

    The rest of what is far too long is left unread, and is then no JSON.
    """
    return sent.file.read(_LONGEST_MAPPING) if isinstance(sent, SentFile) else sent


class ImportForm(BaseModel):
    """A file of history, and what it means."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "mapping": '{"shape": "long", "deal": "deal", "stage": "stage", '
                    '"occurred_at": "at"}',
                    "file": "deal,stage,at\nD1,lead,2026-01-01T09:00:00Z\n",
                }
            ]
        },
    )

    mapping: Annotated[Json[ImportMapping], BeforeValidator(_text)] = Field(
        description="Which column is what, and what its values mean: JSON, as a text or as a file."
    )
    file: UploadFile = Field(description="CSV or NDJSON in UTF-8, at most 256 MiB.")


class ImportCounts(Response):
    """What an import has counted so far.

    Every dated statement of the file ends as one of transitions, present, unchanged, activities,
    activities_present or rejected.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_COUNTS]})

    records: int = Field(description="Rows of the file that were read, without its header.")
    rejected: int = Field(
        description="Rows that cannot be read, and dated statements that are not imported, each "
        "of a wide row by itself: so many entries the list of errors has."
    )
    ignored: int = Field(description="Rows that the mapping ignores.")
    warnings: int = Field(
        description="Rows that are worth a second look: their dates contradict the declared order "
        "of stages, or a rewrite made the deal's log end earlier than it did."
    )
    transitions: int = Field(description="Transitions appended, openings among them.")
    present: int = Field(description="Rows that the log had already.")
    unchanged: int = Field(description="Rows that repeat where the deal stood: no move.")
    voided: int = Field(description="Transitions that a rewrite voided.")
    against_flow: int = Field(description="Of the appended, moves that today's flow would refuse.")
    activities: int = Field(description="Activities appended.")
    activities_present: int = Field(description="Activities that were known already.")
    deals_created: int
    deals_changed: int


class Import(Response):
    """A file of history on its way into the log."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id
    pipeline: Key
    state: Literal[
        "receiving",
        "pending",
        "staging",
        "checking",
        "appending",
        "completed",
        "aborted",
        "failed",
    ] = Field(
        description="`aborted`: `on_error=abort`, and a row was rejected; nothing was appended. "
        "`failed`: `failure` says why."
    )
    progress: Rate
    on_error: Literal["skip", "abort"]
    on_conflict: Literal["reject", "rewrite"]
    counts: ImportCounts
    statements: int = Field(description="Dated statements read from the rows.")
    failure: str | None
    actor: str
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None

    @classmethod
    def of(cls, job: ImportJob, pipeline: str) -> "Import":
        return cls(
            id=job.import_id,
            pipeline=pipeline,
            state=job.state.value,
            progress=imports.progress(job),
            on_error=job.on_error,
            on_conflict=job.on_conflict,
            counts=ImportCounts(**job.counts),
            statements=job.rows_staged,
            failure=job.failure,
            actor=job.actor,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class ImportPage(Page[Import]):
    """A page of imports, the newest first."""


class ImportRemark(Response):
    """A row of the file that was rejected, or that is worth a second look."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REMARK]})

    line: int = Field(description="The line on which the row begins, the first of the file is 1.")
    column: str | None
    severity: Literal["rejected", "warning"]
    code: str
    reason: str
    raw: str = Field(description="The row as it stands in the file, at most 2,000 characters.")

    @classmethod
    def of(cls, remark: Remark) -> "ImportRemark":
        return cls(
            line=remark.line,
            column=remark.column,
            severity=remark.severity,
            code=remark.code,
            reason=remark.reason,
            raw=remark.raw,
        )


class ImportRemarkPage(Page[ImportRemark]):
    """A page of what is wrong with a file's rows, by line."""


class ImportQuery(PageQuery):
    """Imports, newest first."""


class ImportOptions(Query):
    """What to do with rows that do not fit."""

    on_error: Literal["skip", "abort"] = Field(
        default="skip",
        description="`skip` imports all rows but the rejected; `abort` none as soon as one is.",
    )
    on_conflict: Literal["reject", "rewrite"] = Field(
        default="reject",
        description="A row from before a deal's last transition that its log does not have: "
        "`reject` it, or `rewrite` the deal's log from there on, as the file tells it.",
    )
