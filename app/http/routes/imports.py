"""Imports: a file of history sent in, watched, and what was wrong with its rows."""

import csv
import io
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import (
    APIRouter,
    Depends,
    Form,
    Header,
    Path,
    Query,
    Request,
    Response,
    UploadFile,
)
from fastapi.responses import StreamingResponse

from app.actions.receive_import import receive_import
from app.domain.access import Principal, Scope
from app.http import answers
from app.http.deps import Allowed, DatabaseDep, repeatable_under
from app.http.paging import PagesDep
from app.http.schemas.common import Id, Key
from app.http.schemas.imports import (
    Import,
    ImportForm,
    ImportOptions,
    ImportPage,
    ImportQuery,
    ImportRemark,
    ImportRemarkPage,
)
from app.http.schemas.transitions import PageQuery
from app.http.strictness import StrictRoute
from app.storage import imports
from app.storage.engine import Database
from app.storage.idempotency import Answer

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["imports"])

CHUNK: Final = 1 << 20
CSV: Final = "text/csv"
_COLUMNS: Final = ("line", "column", "severity", "code", "reason", "raw")
_RISKY: Final = ("=", "+", "-", "@", "\t", "\r")

Importer = Annotated[Principal, Depends(Allowed(Scope.IMPORTS_WRITE, whole=True))]
ImportId = Annotated[Id, Path(description="The import's id.")]


@router.post("/pipelines/{pipeline}/imports", status_code=202, response_model=Import)
async def create_import(
    request: Request,
    pipeline: Annotated[Key, Path(description="The pipeline's key.")],
    form: Annotated[ImportForm, Form(media_type="multipart/form-data")],
    options: Annotated[ImportOptions, Query()],
    principal: Importer,
    database: DatabaseDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="A text of your choice, new for every new request. Sent again with the "
            "same request within a day, it gets the first answer again and changes nothing.",
            min_length=1,
            max_length=255,
        ),
    ] = None,
) -> Response:
    """Take a file of history on. It is imported in the background: watch the answer's `Location`.

    Importing the same file twice adds nothing; next month's larger export of the same deals adds
    what is new.
    """

    def answer(job: imports.ImportJob) -> Answer:
        body = Import.of(job, pipeline)
        location = f"/v1/imports/{job.import_id}"
        return Answer(202, body.__pydantic_serializer__.to_json(body), location)

    repeatable = None
    if idempotency_key is not None:
        asked = f"{request.method} {request.url.path}?{request.url.query}\n{form.mapping!r}\n"
        fingerprint = await _fingerprint(asked, form.file)
        repeatable = repeatable_under(idempotency_key, request, fingerprint)
    answered = await receive_import(
        database,
        principal,
        pipeline,
        form.mapping,
        _chunks(form.file),
        on_error=options.on_error,
        on_conflict=options.on_conflict,
        request=repeatable,
        answer=answer,
    )
    return answers.sent(answered)


@router.get("/imports")
async def list_imports(
    query: Annotated[ImportQuery, Query()],
    principal: Importer,
    database: DatabaseDep,
    pages: PagesDep,
) -> ImportPage:
    """Imports, the newest first."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="imports", workspace=workspace)
    async with database.read(workspace) as connection:
        found = await imports.read_list(
            connection, workspace, before=listing.first, limit=listing.more
        )
    found, page = listing.cut(found, lambda each: [each[0].import_id])
    return ImportPage(
        items=[Import.of(*each) for each in found],
        page=page,
    )


@router.get("/imports/{import_id}")
async def get_import(import_id: ImportId, principal: Importer, database: DatabaseDep) -> Import:
    """An import: its state, its progress, and what it has counted so far."""
    async with database.read(principal.workspace_id) as connection:
        return Import.of(*await imports.read(connection, principal.workspace_id, import_id))


@router.get(
    "/imports/{import_id}/errors",
    response_model=ImportRemarkPage,
    responses={
        200: {
            "description": "What is wrong with the rows; with `Accept: text/csv`, all of it.",
            "content": {CSV: {"schema": {"type": "string"}}},
        }
    },
)
async def list_import_errors(
    request: Request,
    import_id: ImportId,
    query: Annotated[PageQuery, Query()],
    principal: Importer,
    database: DatabaseDep,
    pages: PagesDep,
) -> ImportRemarkPage | Response:
    """Every rejected row with its line, column and reason, and rows worth a second look."""
    workspace = principal.workspace_id
    listing = pages.of(query, list="import-errors", workspace=workspace, of=import_id)
    async with database.read(workspace) as connection:
        await imports.read(connection, workspace, import_id)
        if CSV in request.headers.get("accept", ""):
            return StreamingResponse(
                _as_csv(database, workspace, import_id),
                media_type=CSV,
                headers={
                    "Content-Disposition": f'attachment; filename="import-{import_id}-errors.csv"'
                },
            )
        found = await imports.read_remarks(
            connection, workspace, import_id, after=listing.position, limit=listing.more
        )
    found, page = listing.cut(found, lambda each: [each.line, each.severity, each.ordinal])
    return ImportRemarkPage(
        items=[ImportRemark.of(each) for each in found],
        page=page,
    )


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK):
        yield chunk


async def _fingerprint(asked: str, file: UploadFile) -> bytes:
    """What tells this request from another: all of it, the file included, which is then rewound."""
    digest = sha256(asked.encode())
    async for chunk in _chunks(file):
        digest.update(chunk)
    await file.seek(0)
    return digest.digest()


async def _as_csv(database: Database, workspace: UUID, import_id: UUID) -> AsyncIterator[str]:
    """All remarks of an import, a thousand at a time, each in a transaction of its own."""
    yield _lines([_COLUMNS])
    after: tuple[int, str, int] | None = None
    while True:
        async with database.read(workspace) as connection:
            found = await imports.read_remarks(
                connection, workspace, import_id, after=after, limit=1_000
            )
        if not found:
            return
        after = (found[-1].line, found[-1].severity, found[-1].ordinal)
        yield _lines([_harmless(getattr(each, name)) for name in _COLUMNS] for each in found)


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula, told as text (OWASP, "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value
