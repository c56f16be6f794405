"""A file of history, row by row: CSV or NDJSON in, dated statements and remarks out.

Pure reading: nothing here looks at the database or judges a deal. A row that cannot be understood
becomes a remark with its line, column and reason, and reading goes on with the next one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from app.actions.import_mapping import (
    ISO,
    InstantFormat,
    LongMapping,
    UndatedPlacement,
    WideMapping,
)
from app.domain import json_pointer
from app.domain.errors import Breach, Invalid
from app.domain.money import MINOR_UNITS, parse_amount
from app.domain.pipeline import UNKNOWN_LOSS_REASON, Pipeline, Stage, StageKind
from app.domain.transition import AHEAD
from app.storage.import_rows import StagedRow

MOST_TAGS: Final = 50
MOST_BYTES_OF_ATTRIBUTES: Final = 16_384
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EXPONENT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?[eE][+-]?[0-9]{1,2}")
_TEXTS: Final = ("name", "owner", "team", "source", "priority")


class Rejected(Exception):
    """A row that is not imported, and why."""

    def __init__(self, column: str | None, code: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.code = code
        self.reason = reason


class Meaning:
    """What a mapping means in a pipeline: turns the cells of one record into statements.

    Raises Invalid where the mapping names what the pipeline does not have. `now` is what a row may
    not lie beyond.
    """

    def __init__(
        self, mapping: LongMapping | WideMapping, pipeline: Pipeline, now: datetime
    ) -> None:
        _check_names(mapping, pipeline)
        self.mapping = mapping
        self.pipeline = pipeline
        self.columns = tuple(_columns(mapping))
        self._now = now
        self._instant = _instant_reader(mapping.instants)
        self._place = {column: n for n, column in enumerate(self.columns)}
        self._stages = {value: pipeline.stage(key) for value, key in mapping.stages.items()}
        self._order = {
            stage.slot: n
            for n, stage in enumerate(sorted(pipeline.stages, key=lambda stage: not stage.is_open))
        }
        self._facts = [
            (name, column, self._place[column])
            for name in (*_TEXTS, "amount", "currency")
            if (column := getattr(mapping.facts, name)) is not None
        ]

    def statements(
        self, cells: Sequence[Any], line: int, raw: str
    ) -> tuple[list[StagedRow], Rejected | None]:
        """What a record says, its cells in the order of `columns`, and a warning about it.

        No statement at all: the mapping ignores the record. Raises Rejected.
        """
        deal = _line_of_text(cells[self._place[self.mapping.deal]], self.mapping.deal)
        if not deal:
            raise Rejected(self.mapping.deal, "required", "The row names no deal.")
        if isinstance(self.mapping, LongMapping):
            return self._long(self.mapping, deal, cells, line, raw), None
        return self._wide(self.mapping, deal, cells, line, raw)

    def _long(
        self, mapping: LongMapping, deal: str, cells: Sequence[Any], line: int, raw: str
    ) -> list[StagedRow]:
        value = _text(cells[self._place[mapping.stage]])
        activity = mapping.activities.get(value)
        if value in mapping.ignore:
            return []
        stage = None if activity else self._stage(value, mapping.stage)
        instant = self._when(cells, mapping.occurred_at)
        if instant is None:
            instant = self._undated(mapping.occurred_at)
        sequence = 0
        if mapping.sequence is not None:
            sequence = _whole_number(cells[self._place[mapping.sequence]], mapping.sequence)
        reason, says = None, None
        if stage is not None:
            reason = self._loss_reason(stage, cells)
            says = self._says(cells)
        slot = None if stage is None else stage.slot
        return [StagedRow(deal, instant, sequence, line, 0, slot, activity, reason, says, raw)]

    def _wide(
        self, mapping: WideMapping, deal: str, cells: Sequence[Any], line: int, raw: str
    ) -> tuple[list[StagedRow], Rejected | None]:
        entered: list[tuple[Stage, datetime, str | None]] = []
        for column, key in mapping.dates.items():
            if (instant := self._when(cells, column)) is not None:
                entered.append((self.pipeline.stage(key), instant, column))
        current = mapping.current_stage
        if current is not None:
            value = _text(cells[self._place[current.column]])
            stands = self._stage(value, current.column) if value else None
            instant = None
            if current.entered_at is not None:
                instant = self._when(cells, current.entered_at)
            if stands is None and instant is not None:
                raise Rejected(current.column, "required", "A date stands beside it, but no stage.")
            if stands is not None and instant is not None:
                entered.append((stands, instant, current.entered_at))
            if stands is not None and all(stage is not stands for stage, _, _ in entered):
                entered.append((stands, self._undated(current.column), None))
        if not entered:
            raise Rejected(None, "undated", "No date column says when the deal entered a stage.")
        says = self._says(cells)
        rows = [
            StagedRow(
                *(deal, instant, self._order[stage.slot], line, ordinal, stage.slot, None),
                *(self._loss_reason(stage, cells), says, raw),
            )
            for ordinal, (stage, instant, _) in enumerate(entered)
        ]
        return rows, self._contradiction(entered)

    def _contradiction(self, entered: list[tuple[Stage, datetime, str | None]]) -> Rejected | None:
        """Where the dates put a stage before one that the declared order puts before it."""
        ranks = self.pipeline.rank_by_slot
        last = len(self.pipeline.stages) + 1  # an outcome comes after every open stage
        ranked = [
            (ranks.get(stage.slot, last), instant, stage, column)
            for stage, instant, column in entered
            if not stage.off_path
        ]
        ranked.sort(key=lambda each: each[0])
        for (low, before, first, _), (high, after, second, column) in pairwise(ranked):
            if low < high and after < before:
                return Rejected(
                    column,
                    "order_contradicted",
                    f"{second.key!r} was entered at {after.isoformat()}, before {first.key!r} at "
                    f"{before.isoformat()}; the rows are imported in the order of their instants.",
                )
        return None

    def _stage(self, value: str, column: str) -> Stage:
        stage = self._stages.get(value) or self.pipeline.by_key.get(value)
        if stage is None:
            known = "no stage" if not value else f"{value[:100]!r}, which is no stage"
            raise Rejected(column, "unknown_stage", f"The cell says {known} of the mapping.")
        return stage

    def _when(self, cells: Sequence[Any], column: str) -> datetime | None:
        text = _text(cells[self._place[column]])
        if not text:
            return None
        try:
            instant = self._instant(text)
        except (ValueError, OverflowError):
            raise Rejected(
                column, "wrong_format", f"{text[:100]!r} is no date in the mapping's format."
            ) from None
        if not 1900 <= instant.year < 3000:
            raise Rejected(column, "out_of_range", "It lies outside of the years 1900 to 2999.")
        if instant > self._now + AHEAD:
            raise Rejected(column, "time_out_of_range", f"{instant.isoformat()} is in the future.")
        return min(instant, self._now)  # a little ahead is a clock that runs fast: taken as now

    def _undated(self, column: str) -> datetime:
        if isinstance(self.mapping.undated, UndatedPlacement):
            return self.mapping.undated.default_occurred_at
        raise Rejected(column, "undated", "No date says when the deal entered the stage.")

    def _loss_reason(self, stage: Stage, cells: Sequence[Any]) -> str | None:
        if stage.kind is not StageKind.LOST:
            return None
        column = self.mapping.loss_reason
        value = "" if column is None else _text(cells[self._place[column]])
        if not value:
            return self.mapping.constants.loss_reason or UNKNOWN_LOSS_REASON
        reason = self.mapping.loss_reasons.get(value, value)
        if reason != UNKNOWN_LOSS_REASON and not stage.accepts_loss_reason(reason):
            raise Rejected(
                column,
                "unknown_loss_reason",
                f"{reason[:100]!r} is no loss reason of {stage.key!r}.",
            )
        return reason

    def _says(self, cells: Sequence[Any]) -> str | None:
        """The facts that the record states, as a JSON object; None where it states none."""
        says: dict[str, Any] = {}
        for name, column, place in self._facts:
            cell = cells[place]
            if name == "name":  # exports break and indent the lines of long ones
                cell = " ".join(_text(cell).split())
            if value := _line_of_text(cell, column):
                says[name] = _checked(name, value, column)
        if "amount" in says and "currency" not in says:
            says["currency"] = self.mapping.constants.currency
            if says["currency"] is None:
                column = self.mapping.facts.amount
                raise Rejected(column, "currency_missing", "An amount needs its currency.")
        facts = self.mapping.facts
        if facts.tags is not None:
            cell = cells[self._place[facts.tags.column]]
            if tags := _tags(cell, facts.tags.separator, facts.tags.column):
                says["tags"] = tags
        if facts.attributes:
            attributes = {
                name: _attribute(value)
                for name, column in facts.attributes.items()
                if (value := cells[self._place[column]]) not in (None, "")
            }
            if attributes:
                says["attributes"] = attributes
                if len(to_json(attributes)) > MOST_BYTES_OF_ATTRIBUTES:
                    raise Rejected(None, "too_long", "The attributes are over 16,384 bytes.")
        return to_json(says).decode() if says else None


def constants(mapping: LongMapping | WideMapping) -> dict[str, Any]:
    """The facts of a new deal as far as its rows say nothing."""
    return mapping.constants.model_dump(exclude_none=True, exclude={"loss_reason"})


@lru_cache(maxsize=4096)  # the rows of a deal mostly say the same
def heard(says: str | None) -> tuple[Mapping[str, Any], str | None]:
    """What a staged row says, as the domain has it; and apart from it the deal's name."""
    if says is None:
        return {}, None
    facts = json.loads(says)
    name = facts.pop("name", None)
    if "amount" in facts:
        facts["amount"] = Decimal(facts["amount"])
    if "tags" in facts:
        facts["tags"] = tuple(facts["tags"])
    return facts, name


def _columns(mapping: LongMapping | WideMapping) -> dict[str, None]:
    """Every column that the mapping names, once."""
    facts = mapping.facts
    named = [mapping.deal, mapping.loss_reason, *facts.attributes.values()]
    named += [getattr(facts, name) for name in (*_TEXTS, "amount", "currency")]
    if facts.tags is not None:
        named.append(facts.tags.column)
    if isinstance(mapping, LongMapping):
        named += [mapping.stage, mapping.occurred_at, mapping.sequence]
    else:
        named += mapping.dates
        if mapping.current_stage is not None:
            named += [mapping.current_stage.column, mapping.current_stage.entered_at]
    return dict.fromkeys(column for column in named if column is not None)


def _check_names(mapping: LongMapping | WideMapping, pipeline: Pipeline) -> None:
    breaches = []
    named = {"stages": mapping.stages}
    if isinstance(mapping, WideMapping):
        named["dates"] = mapping.dates
        if not mapping.dates and mapping.current_stage is None:
            breaches.append(
                Breach("/mapping/dates", "required", "Name a date column, or the current stage's.")
            )
    for field, entries in named.items():
        for value, key in entries.items():
            if key not in pipeline.by_key:
                breaches.append(
                    Breach(
                        f"/mapping/{field}/{json_pointer.token(value)}",
                        "unknown_stage",
                        f"Pipeline {pipeline.key!r} has no stage {key!r}.",
                    )
                )
    reason = mapping.constants.loss_reason
    lost = [stage for stage in pipeline.stages if stage.kind is StageKind.LOST]
    if reason not in (None, UNKNOWN_LOSS_REASON) and not any(
        stage.accepts_loss_reason(reason or "") for stage in lost
    ):
        breaches.append(
            Breach(
                "/mapping/constants/loss_reason",
                "unknown_loss_reason",
                f"No lost stage of {pipeline.key!r} has the loss reason {reason!r}.",
            )
        )
    if breaches:
        raise Invalid("The mapping does not fit the pipeline; see errors.", breaches)


def _instant_reader(written: InstantFormat) -> Callable[[str], datetime]:
    """Text to an aware instant in UTC. The reader raises ValueError."""
    zone = UTC if written.timezone == "UTC" else ZoneInfo(written.timezone)
    parse = datetime.fromisoformat
    if written.format != ISO:
        pattern = written.format

        def parse(text: str) -> datetime:
            return datetime.strptime(text, pattern)  # noqa: DTZ007 -- the zone is added below

    @lru_cache(maxsize=4096)  # dates repeat, and a pattern is slow to read
    def read(text: str) -> datetime:
        instant = parse(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
        return instant.astimezone(UTC)

    return read


def _text(cell: Any) -> str:
    """A cell as text without white space at its ends; empty for null."""
    if isinstance(cell, str):
        return cell.strip()
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    return f"{cell:f}" if isinstance(cell, Decimal) else str(cell)


def _line_of_text(cell: Any, column: str) -> str:
    text = _text(cell)
    if len(text) > 200:
        raise Rejected(column, "too_long", "It has more than 200 characters.")
    if not text.isprintable() and _CONTROL.search(text):
        raise Rejected(column, "wrong_format", "It has control characters.")
    return text


def _attribute(value: Any) -> Any:
    """A value as JSON has it: what was a number in the file is one again."""
    match value:
        case str():
            return value.strip()
        case Decimal():
            return float(value)
        case list():
            return [_attribute(each) for each in value]
        case _:
            return value


def _whole_number(cell: Any, column: str) -> int:
    try:
        number = int(_text(cell) or 0)
    except ValueError:
        number = 1 << 63
    if not -(1 << 63) <= number < 1 << 63:
        raise Rejected(column, "wrong_format", "The sequence is no whole number of 64 bits.")
    return number


def _checked(name: str, value: str, column: str) -> str:
    if name == "amount":
        if _EXPONENT.fullmatch(value):  # spreadsheets write long numbers so
            value = f"{Decimal(value):f}"
        try:
            parse_amount(value)
        except ValueError as error:
            raise Rejected(column, "wrong_format", str(error).capitalize() + ".") from None
    elif name == "currency" and value not in MINOR_UNITS:
        raise Rejected(column, "wrong_format", f"{value[:20]!r} is no ISO 4217 currency.")
    return value


def _tags(cell: Any, separator: str, column: str) -> list[str]:
    listed = cell if isinstance(cell, list) else _text(cell).split(separator)
    tags = list(dict.fromkeys(tag for each in listed if (tag := _line_of_text(each, column))))
    if len(tags) > MOST_TAGS or any(len(tag) > 100 for tag in tags):
        raise Rejected(column, "too_long", "There are at most 50 tags of 100 characters.")
    return tags
