"""What a caller says of a file of history: which column is what, and what its values mean.

One model for the API, the command line and the stored job. It knows nothing of a pipeline: whether
the stages that it names exist is found out by `read_rows.Meaning`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from app.domain.money import MINOR_UNITS

ISO: Final = "iso"
_PROBE: Final = datetime(2001, 2, 3)  # noqa: DTZ001 -- a calendar date to try a pattern on


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise _wrong("A time zone is an IANA name like Europe/Berlin") from None
    return name


def _readable_pattern(pattern: str) -> str:
    if pattern == ISO:
        return pattern
    try:
        same = datetime.strptime(_PROBE.strftime(pattern), pattern).date() == _PROBE.date()  # noqa: DTZ007 -- only the date is compared
    except ValueError:
        same = False
    if not same:
        raise _wrong("A format is `iso` or a strptime pattern that gives a whole date: %d/%m/%Y")
    return pattern


def _currency(code: str) -> str:
    if code not in MINOR_UNITS:
        raise _wrong("It should be an ISO 4217 currency code, like EUR")
    return code


def _instant(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong("An instant is written like 2026-03-01T09:30:00Z") from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong("An instant is written like 2026-03-01T09:30:00Z, with its offset from UTC")
    if not 1900 <= value.year < 3000:
        raise _wrong("An instant lies between the years 1900 and 2999")
    return value.astimezone(UTC)


def _delimiter(text: str) -> str:
    if text in '"\r\n\x00':
        raise _wrong("A delimiter is one character that is neither a quote nor a line end")
    return text


def _no_null(text: str) -> str:
    if "\x00" in text:
        raise _wrong("Text should not contain U+0000")
    return text


def _wrong(detail: str) -> PydanticCustomError:
    return PydanticCustomError("wrong_format", "{detail}", {"detail": detail})


def _short(most: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(entries: dict[str, Any]) -> dict[str, Any]:
        if any(len(key) > most or "\x00" in key for key in entries):
            raise _wrong(f"Keys have at most {most} characters and no U+0000")
        return entries

    return check


Column = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_no_null)]
"""The name of a column: a CSV's header, or a key of each NDJSON object."""

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Value = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_no_null)]
Label = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"),
]
Entries = AfterValidator(_short(200))


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_mode_override="validation"
    )


class InstantFormat(_Part):
    """How dates and times are written.

    A date alone is its midnight in the time zone; a time with an offset keeps its own.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"format": "%d/%m/%Y", "timezone": "Europe/Berlin"}]}
    )

    format: Annotated[
        str,
        StringConstraints(max_length=100),
        AfterValidator(_readable_pattern),
        Field(description="`iso`, or a strptime pattern such as `%d/%m/%Y %H:%M`."),
    ] = ISO
    timezone: Annotated[str, StringConstraints(max_length=100), AfterValidator(_known_zone)] = "UTC"


class UndatedPlacement(_Part):
    """Rows without an instant happen at this one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"default_occurred_at": "2026-01-01T00:00:00Z"}]}
    )

    default_occurred_at: Annotated[
        datetime,
        BeforeValidator(_instant),
        WithJsonSchema({"type": "string", "format": "date-time"}),
    ]


class TagsColumn(_Part):
    """Several tags in one column."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"column": "labels", "separator": "|"}]}
    )

    column: Column
    separator: Annotated[
        str, StringConstraints(min_length=1, max_length=5), AfterValidator(_no_null)
    ] = ","


class FactColumns(_Part):
    """Which columns say what the deal is. An empty cell says nothing: the fact stays as it was."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"amount": "value", "owner": "rep", "attributes": {"seats": "seats"}}]
        }
    )

    name: Column | None = None
    amount: Column | None = None
    currency: Column | None = None
    owner: Column | None = None
    team: Column | None = None
    source: Column | None = None
    priority: Column | None = None
    tags: TagsColumn | None = None
    attributes: Annotated[
        dict[str, Column],
        Field(max_length=100, description="The attribute's name → its column."),
        AfterValidator(_short(100)),
    ] = Field(default_factory=dict)


class ConstantFacts(_Part):
    """Facts of a new deal as far as its rows say nothing; an amount's currency; a loss's reason."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"currency": "EUR", "loss_reason": "unspecified"}]}
    )

    currency: Annotated[str, AfterValidator(_currency)] | None = None
    owner: Label | None = None
    team: Label | None = None
    source: Label | None = None
    priority: Label | None = None
    loss_reason: Key | None = None


class _Common(_Part):
    format: Literal["csv", "ndjson"] = "csv"
    delimiter: Annotated[
        str, StringConstraints(min_length=1, max_length=1), AfterValidator(_delimiter)
    ] = ","
    deal: Column = Field(description="The column that tells deals apart; their `external_id`.")
    stages: Annotated[
        dict[str, Key],
        Field(
            max_length=1000,
            description="A value of the stage column → the stage's key. A value that is not listed "
            "is taken as a key itself.",
        ),
        Entries,
    ] = Field(default_factory=dict)
    loss_reason: Column | None = None
    loss_reasons: Annotated[
        dict[str, Key],
        Field(max_length=1000, description="A value of the loss reason column → the key."),
        Entries,
    ] = Field(default_factory=dict)
    facts: FactColumns = FactColumns()
    constants: ConstantFacts = ConstantFacts()
    instants: InstantFormat = InstantFormat()
    undated: Literal["reject"] | UndatedPlacement = "reject"


class LongMapping(_Common):
    """A row per stage change: deal, stage, instant."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "shape": "long",
                    "deal": "deal_id",
                    "stage": "stage",
                    "occurred_at": "changed_at",
                    "sequence": "row_id",
                    "stages": {"Qualified": "qualified", "Closed won": "won"},
                    "activities": {"Called": "call"},
                    "ignore": ["Imported"],
                    "facts": {"amount": "value", "owner": "rep"},
                    "constants": {"currency": "EUR"},
                }
            ]
        }
    )

    shape: Literal["long"]
    stage: Column
    occurred_at: Column
    sequence: Column | None = Field(
        default=None, description="A whole number that orders rows of one deal and one instant."
    )
    activities: Annotated[
        dict[str, Key],
        Field(
            max_length=1000,
            description="Values of the stage column that are activities → their kind.",
        ),
        Entries,
    ] = Field(default_factory=dict)
    ignore: Annotated[
        list[Value], Field(max_length=1000, description="Values that mean nothing here.")
    ] = Field(default_factory=list)


class CurrentStage(_Part):
    """A column that says where the deal stands, and perhaps one that says since when."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"column": "deal_stage", "entered_at": "close_date"}]}
    )

    column: Column
    entered_at: Column | None = None


class WideMapping(_Common):
    """A row per deal: a date column per stage, and perhaps the stage in which it stands now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "shape": "wide",
                    "deal": "opportunity_id",
                    "dates": {"engage_date": "engaging"},
                    "current_stage": {"column": "deal_stage", "entered_at": "close_date"},
                    "stages": {"Engaging": "engaging", "Won": "won", "Lost": "lost"},
                    "facts": {"amount": "close_value", "owner": "sales_agent"},
                    "constants": {"currency": "USD", "loss_reason": "unspecified"},
                    "instants": {"format": "iso", "timezone": "UTC"},
                }
            ]
        }
    )

    shape: Literal["wide"]
    dates: Annotated[
        dict[str, Key],
        Field(max_length=60, description="A date column → the stage that the deal entered then."),
        Entries,
    ] = Field(default_factory=dict)
    current_stage: CurrentStage | None = None


ImportMapping = TypeAliasType(
    "ImportMapping",
    Annotated[
        LongMapping | WideMapping,
        Field(
            discriminator="shape", description="How a file is read: a row a move, or a row a deal."
        ),
    ],
)
"""Either shape; by this name the API's description knows it."""

_adapter: TypeAdapter[LongMapping | WideMapping] = TypeAdapter(ImportMapping)


def parse_mapping(text: str | bytes) -> LongMapping | WideMapping:
    """The mapping written as JSON. Raises pydantic's ValidationError."""
    return _adapter.validate_json(text)


def read_mapping(stored: Mapping[str, Any]) -> LongMapping | WideMapping:
    """The mapping that a job keeps, as `model_dump(mode="json")` has written it."""
    return _adapter.validate_python(stored)
