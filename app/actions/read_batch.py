"""Some records of a file at a time, read and understood: what an import stages in one piece."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from app.actions.read_records import Record
from app.actions.read_rows import Meaning, Rejected
from app.storage.import_rows import StagedRow
from app.storage.imports import Remark


@dataclass(slots=True)
class Batch:
    """What some records state, and what is wrong with them."""

    records: int = 0
    ignored: int = 0
    rows: list[StagedRow] = field(default_factory=list)
    rejected: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)


def skip(reading: Iterator[Record], records: int) -> None:
    """Pass over records that were read before."""
    for _ in islice(reading, records):
        pass


def read_batch(reading: Iterator[Record], meaning: Meaning, most: int) -> Batch | None:
    """The next records, at most so many; None at the end of the file."""
    batch = Batch()
    for line, raw, cells, fault in islice(reading, most):
        batch.records += 1
        if fault is not None:
            remark = Remark(line=line, code=fault.code, reason=fault.reason, raw=raw)
            batch.rejected.append(remark)
            continue
        try:
            rows, doubt = meaning.statements(cells, line, raw)
        except Rejected as why:
            batch.rejected.append(_remark(why, line, raw))
            continue
        batch.rows += rows
        batch.ignored += not rows
        if doubt is not None:
            batch.warnings.append(replace(_remark(doubt, line, raw), severity="warning"))
    return batch if batch.records else None


def _remark(why: Rejected, line: int, raw: str) -> Remark:
    return Remark(line=line, column=why.column, code=why.code, reason=why.reason, raw=raw)
