"""The types and base models that every schema is made of: strict in, exact out.

Pydantic's lax mode takes 14 for fourteen seconds and 0 for an instant; here a value either is
written as the API's conventions say or it is refused. Nothing in this module knows a resource.

A body derives from `Request`, a PATCH body from `Update`, a set of query parameters from `Query`,
an answer from `Response`, a list from `Page[...]`:

    class DealUpdate(Update):
        name: Name | MISSING = MISSING             # may be left out, but not null
        owner: Name | MISSING | None = MISSING     # may be left out, or null: cleared

    class DealPage(Page[Deal]):
        '''A page of deals.'''
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, Final, Generic, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.domain import money, period

# Control characters: C0 (with NUL, which PostgreSQL cannot store), DEL and C1.
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_NAME = rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$"
_TEXT = r"^[^\x00]*$"
_KEY = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# RFC 3339, section 5.6, in upper case; nanoseconds are accepted because many clients send them.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

ATTRIBUTES_MOST_BYTES: Final = 16_384
ATTRIBUTES_MOST_KEYS: Final = 100
ATTRIBUTES_MOST_DEPTH: Final = 5


def _wrong(detail: str) -> PydanticCustomError:
    # The detail goes in as a value: a template would take braces in it for a place to fill.
    return PydanticCustomError("wrong_format", "{detail}", {"detail": detail})


def _written_as(pattern: str, detail: str) -> tuple[AfterValidator, Any]:
    """A string of this pattern: refused in words, while the schema shows the pattern."""
    matches = re.compile(pattern).fullmatch

    def check(text: str) -> str:
        if not matches(text):
            raise _wrong(detail)
        return text

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


def shown(type_: str, *, or_null: bool = False, **more: Any) -> Any:
    """A field that answers bear and a request may send back: whatever it holds is passed over.

    So what was read can be sent as it is, changed where it is to change.
    """
    schema: dict[str, Any] = {"type": type_, **more}
    if or_null:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return Field(default=None, json_schema_extra={**schema, "readOnly": True})


def _parsed(parse: Callable[[str], Any], kind: type) -> BeforeValidator:
    """Text turned into a domain value by `parse`; a value of that kind passes as it is."""
    return BeforeValidator(_reader(parse, kind))


def _reader(parse: Callable[[str], Any], kind: type) -> Callable[[object], object]:

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("wrong_type", "It should be a text")
        return parse(value)

    return read


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueError("an id is a UUID like 01980000-0000-7000-8000-000000000000")
    return UUID(text)


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise ValueError(
            "an instant is written like 2026-03-01T09:30:00Z, with its offset from UTC"
            " (whose + a query string writes as %2B)"
        )
    try:
        instant = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("there is no such instant in the calendar") from error
    # What callers write is held to this; an instant made here, such as the first moment of
    # 1900-01-01 in Tokyo, may lie a few hours outside.
    if not 1900 <= instant.year < 3000:
        raise ValueError("an instant lies between the years 1900 and 2999, in UTC")
    return instant


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC")
    return instant.astimezone(UTC)


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise ValueError("a day is written like 2026-03-01")
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("there is no such day in the calendar") from error
    if not 1900 <= day.year < 3000:
        raise ValueError("a day lies between the years 1900 and 2999")
    return day


def _currency(code: str) -> str:
    if code not in money.MINOR_UNITS:
        raise _wrong("It should be an ISO 4217 currency code, like EUR")
    return code


def _digits(value: object) -> object:
    # A query string is text, which strict mode would refuse and lax mode reads as it likes: `1_0`.
    if not isinstance(value, str):
        return value
    if not re.fullmatch("[0-9]{1,9}", value):
        raise PydanticCustomError("wrong_type", "It should be a whole number")
    return int(value)


def _attributes(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) > ATTRIBUTES_MOST_KEYS:
        raise _over(f"at most {ATTRIBUTES_MOST_KEYS} keys")
    _plain_json(value, 1)
    try:
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError as error:
        raise _wrong("Text should be Unicode without lone surrogates") from error
    if size > ATTRIBUTES_MOST_BYTES:
        raise _over(f"at most {ATTRIBUTES_MOST_BYTES} bytes as JSON")
    return value


def _plain_json(value: object, depth: int) -> None:
    match value:
        case str():
            if "\x00" in value:
                raise _wrong("Text should not contain U+0000")
        case float():
            if not isfinite(value):
                raise _wrong("Numbers should be finite")
        case dict() | list():
            if depth > ATTRIBUTES_MOST_DEPTH:
                raise _over(f"at most {ATTRIBUTES_MOST_DEPTH} levels")
            if isinstance(value, dict):
                for key in value:
                    if not 1 <= len(key) <= 100:
                        raise _wrong("Keys should have 1 to 100 characters")
                    _plain_json(key, depth)
            for inner in value.values() if isinstance(value, dict) else value:
                _plain_json(inner, depth + 1)


def _over(limit: str) -> PydanticCustomError:
    return PydanticCustomError("too_long", "Attributes have {limit}", {"limit": limit})


Id = Annotated[
    UUID,
    _parsed(_uuid, UUID),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]
"""A UUID in its hyphenated form, either case in, lower case out."""


Key = Annotated[
    str,
    *_written_as(
        _KEY, "A key has 1 to 63 characters of a-z, 0-9, _ and -, and begins with a letter or digit"
    ),
]
"""A slug: what pipelines and stages are called in paths and documents, for ever."""

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    *_written_as(_NAME, "A name has no control characters and no white space at its ends"),
]
"""One line of any language: 1 to 200 characters."""

Text = Annotated[
    str,
    StringConstraints(max_length=10_000),
    *_written_as(_TEXT, "Text should not contain U+0000"),
]
"""Prose of any language and many lines: at most 10,000 characters."""

Instant = Annotated[
    datetime,
    _parsed(_instant, datetime),
    AfterValidator(_utc),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""RFC 3339 with an offset in; aware UTC inside; out with `Z`, and microseconds when there are any.

Digits beyond the microsecond are cut off, never rounded up: no instant moves into the future.
"""

Day = Annotated[
    date,
    _parsed(_day, date),
    WithJsonSchema({"type": "string", "format": "date"}),
]
"""A day of the calendar, like 2026-03-01, in no time zone."""

Duration = Annotated[
    period.Period,
    # Plain: a validator before the dataclass's own would put its schema into the API's description.
    PlainValidator(_reader(period.Period.parse, period.Period)),
    PlainSerializer(str, return_type=str),
    # Not `format: duration`: RFC 3339 knows no hours with seconds but without minutes.
    WithJsonSchema({"type": "string", "pattern": period.PATTERN, "examples": ["P7D"]}),
]
"""`P7D`, `PT36H`, `P1DT12H` or `P2W`, as definitions write lengths of time."""

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A share or probability: a number in 0…1."""

SHARE_PLACES: Final = 4


def _kept_exactly(share: float) -> float:
    if round(Decimal(repr(share)), SHARE_PLACES) != Decimal(repr(share)):
        raise PydanticCustomError(
            "wrong_format", "It has at most {places} decimals", {"places": SHARE_PLACES}
        )
    return share


Share = Annotated[Rate, AfterValidator(_kept_exactly)]
"""A probability or target that is kept: at most 4 decimals, none of which is ever rounded off."""

Attributes = Annotated[
    dict[str, Any],
    AfterValidator(_attributes),
    Field(json_schema_extra={"maxProperties": ATTRIBUTES_MOST_KEYS}),
]
"""The caller's own facts: an object of at most 100 keys, 5 levels and 16,384 bytes as JSON."""

CurrencyCode = Annotated[
    str, AfterValidator(_currency), Field(json_schema_extra={"pattern": "^[A-Z]{3}$"})
]

Limit = Annotated[int, Field(ge=1, le=200), BeforeValidator(_digits)]
"""How many items a page may have. Its default is 50: `limit: Limit = 50`."""


class Request(BaseModel):
    """A body: unknown fields are refused, nothing is converted, numbers are finite."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        json_schema_mode_override="validation",
    )


class Update(Request):
    """A JSON merge-patch (RFC 7396): what is left out stays as it is, what is null is cleared.

    Every field is `... | MISSING = MISSING`, and bears `None` only where it can be cleared.
    """

    def given(self) -> dict[str, Any]:
        """The fields that the caller sent, with their parsed values, in the schema's order."""
        sent = self.model_fields_set
        return {name: getattr(self, name) for name in type(self).model_fields if name in sent}


class Query(BaseModel):
    """Query parameters as one model; unknown ones are refused. Text, so not strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Response(BaseModel):
    """An answer: every field is required in the schema, whether or not the code has a default."""

    model_config = ConfigDict(
        json_schema_mode_override="serialization", json_schema_serialization_defaults_required=True
    )


class Money(Request):
    """An exact amount of one currency, in requests and answers alike."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"amount": "1250.00", "currency": "EUR"}]}
    )

    amount: Annotated[
        str,
        *_written_as(
            money.AMOUNT_PATTERN,
            "An amount is a decimal string like 1250.00:"
            " at most 15 digits before the point and 4 after it",
        ),
    ]
    currency: CurrencyCode

    @classmethod
    def of(cls, value: money.Money) -> Self:
        """How a domain value is written, with the digits in which its currency is counted."""
        return cls(amount=money.written(value.amount, value.currency), currency=value.currency)

    @property
    def value(self) -> money.Money:
        return money.Money(Decimal(self.amount), self.currency)


class MoneySum(Response):
    """An exact sum or difference in one currency: longer than an amount may be, or below zero."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"amount": "10005534.00", "currency": "USD"}]}
    )

    amount: Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
    currency: CurrencyCode

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> Self:
        return cls(amount=money.written(amount, currency), currency=currency)


class PageInfo(Response):
    """Where a list goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"next_cursor": "b3BhcXVlIQ"}]})

    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last.")


Item = TypeVar("Item")


class Page(Response, Generic[Item]):
    """One page of a list. Every list names its own: `class DealPage(Page[Deal])`."""

    items: list[Item]
    page: PageInfo
