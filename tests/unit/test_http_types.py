"""The strict types of the wire, money and periods: what they take, refuse and write."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import MISSING, TypeAdapter, ValidationError

from app.domain.money import MINOR_UNITS, Money, parse_amount, written
from app.domain.period import LONGEST, PATTERN, Period
from app.http.schemas import common


def accepts(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "period", "again"),
    [
        ("P7D", Period(days=7), "P7D"),
        ("P2W", Period(weeks=2), "P2W"),
        ("PT36H", Period(seconds=129_600), "PT36H"),
        ("P1DT12H", Period(days=1, seconds=43_200), "P1DT12H"),
        ("PT90M", Period(seconds=5_400), "PT1H30M"),
        ("PT0S", Period(), "PT0S"),
        ("P0D", Period(), "PT0S"),
    ],
)
def test_a_period_keeps_weeks_days_and_clock_apart(text: str, period: Period, again: str) -> None:
    assert Period.parse(text) == period
    assert str(period) == again


@pytest.mark.parametrize(
    "text",
    [
        "P",
        "PT",
        "P1DT",
        "P1M",
        "P1Y",
        "P1W2D",
        "PT1.5H",
        "P-1D",
        "-P1D",
        "P1D\n",
        "7D",
        "p7d",
        "P٧D",
        "PT1M1H",
        "P1H",
        "P99999D",
        "P7D7D",
    ],
)
def test_anything_but_a_strict_iso_duration_is_no_period(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|years"):
        Period.parse(text)


@given(st.integers(0, 36_000), st.integers(0, 86_400 * 500))
def test_a_period_survives_being_written(days: int, seconds: int) -> None:
    period = Period(days=days, seconds=seconds)
    assert Period.parse(str(period)) == period
    assert re.search(PATTERN, str(period))
    assert period.length == timedelta(days=days, seconds=seconds)


def test_a_period_is_bounded_never_negative_and_weeks_stand_alone() -> None:
    Period(seconds=int(LONGEST.total_seconds()))
    for parts in ({"days": 36_526}, {"days": -1}, {"weeks": 1, "days": 1}):
        with pytest.raises(ValueError, match="period"):
            Period(**parts)


@given(st.decimals(0, 999_999_999_999_999, places=4), st.sampled_from(sorted(MINOR_UNITS)))
def test_an_amount_is_written_and_read_without_losing_a_digit(
    amount: Decimal, currency: str
) -> None:
    text = written(amount, currency)
    assert parse_amount(text) == amount
    digits = len(text.partition(".")[2])
    assert MINOR_UNITS[currency] <= digits <= 4


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("1250", "EUR", "1250.00"),
        ("1250.5000", "EUR", "1250.50"),
        ("1250.125", "EUR", "1250.125"),
        ("1250.0000", "JPY", "1250"),
        ("0", "KWD", "0.000"),
        ("1E+3", "USD", "1000.00"),
    ],
)
def test_an_amount_bears_the_digits_of_its_currency(amount: str, currency: str, text: str) -> None:
    assert written(Decimal(amount), currency) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.",
        ".5",
        "01",
        "1e3",
        "1_000",
        " 1",
        "1\n",
        "1.00000",
        "9" * 16,
        "NaN",
        "١",
    ],
)
def test_what_is_not_a_plain_decimal_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_amount(text)
    assert not accepts(common.Money, {"amount": text, "currency": "EUR"})


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("1", "XXX"),
        ("1", "eur"),
        ("-1", "EUR"),
        ("NaN", "EUR"),
        ("1.00001", "EUR"),
        ("1e15", "EUR"),
    ],
)
def test_money_that_cannot_be_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r"amount|currency"):
        Money(Decimal(amount), currency)


def test_money_crosses_the_wire_as_a_decimal_string() -> None:
    wire = common.Money.of(Money(Decimal("1250.5"), "EUR"))
    assert json.loads(wire.model_dump_json()) == {"amount": "1250.50", "currency": "EUR"}
    assert wire.value == Money(Decimal("1250.50"), "EUR")
    for wrong in ({"amount": 1, "currency": "EUR"}, {"amount": "1"}, {"amount": "1", "x": 1}):
        assert not accepts(common.Money, wrong)


def test_a_sum_may_be_longer_than_an_amount_and_below_zero() -> None:
    assert common.MoneySum.of(Decimal("-1E+18"), "EUR").amount == "-1000000000000000000.00"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("2026-03-01T09:30:00Z", "2026-03-01T09:30:00Z"),
        ("2026-03-01T09:30:00+02:00", "2026-03-01T07:30:00Z"),
        ("2026-03-01T09:30:00.5Z", "2026-03-01T09:30:00.500000Z"),
        ("2026-03-01T09:30:00.123456999Z", "2026-03-01T09:30:00.123456Z"),
    ],
)
def test_an_instant_is_read_with_its_offset_and_written_in_utc(text: str, out: str) -> None:
    adapter = TypeAdapter[datetime](common.Instant)
    instant = adapter.validate_python(text)
    assert instant.tzinfo is UTC
    assert json.loads(adapter.dump_json(instant)) == out


@pytest.mark.parametrize(
    "value",
    [
        0,
        1.5,
        True,
        "0",
        "2026-03-01",
        "2026-03-01T09:30:00",
        "2026-03-01 09:30:00Z",
        "2026-03-01T09:30Z",
        "2026-02-30T09:30:00Z",
        "2026-03-01T09:30:60Z",
        "20260301T093000Z",
        "2026-03-01T09:30:00Z\n",
        "0001-01-01T00:00:00+14:00",
        "1900-01-01T00:00:00+14:00",  # in UTC the year before
        "2999-12-31T23:59:59-14:00",  # in UTC the year after
        "9999-12-31T23:59:59-14:00",
        datetime(2026, 3, 1),  # noqa: DTZ001 # naive on purpose
    ],
)
def test_what_is_no_rfc_3339_instant_is_refused(value: object) -> None:
    assert not accepts(common.Instant, value)


@pytest.mark.parametrize(
    "name", ["Acme", "北京 公司", "a", "Ünïcödé 🚀", "x" * 200, "O'Neil & Söhne"]
)
def test_a_name_may_be_in_any_language(name: str) -> None:
    assert accepts(common.Name, name)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "\u3000a", "a\n", "a\x00b", "a\tb", "a\x85b", "x" * 201, "\ud800", 1]
)
def test_a_name_with_white_space_around_it_or_control_characters_is_refused(name: object) -> None:
    assert not accepts(common.Name, name)


def test_text_has_many_lines_but_no_nul() -> None:
    assert accepts(common.Text, "one\ntwo\tthree")
    assert accepts(common.Text, "")
    assert not accepts(common.Text, "a\x00")
    assert not accepts(common.Text, "x" * 10_001)


@pytest.mark.parametrize(
    ("key", "good"),
    [("won", True), ("a" * 63, True), ("9-x_y", True), ("a" * 64, False), ("-a", False)]
    + [(key, False) for key in ("", "A", "a b", "a\n", "é", "a/b", "_a")],
)
def test_a_key_is_a_slug(key: str, *, good: bool) -> None:
    assert accepts(common.Key, key) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [(0, True), (1, True), (0.25, True), (1.01, False), (-0.1, False), ("0.5", False)]
    + [(value, False) for value in (True, float("nan"), float("inf"), None)],
)
def test_a_rate_is_a_number_between_nothing_and_all(value: object, *, good: bool) -> None:
    class Probability(common.Request):
        value: common.Rate

    assert accepts(Probability, {"value": value}) is good


def nested(levels: int) -> dict[str, Any]:
    return {"a": 1} if levels == 1 else {"a": nested(levels - 1)}


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"tier": "gold", "seats": 5, "ok": True, "none": None, "list": [1, "x"]}, True),
        ({str(n): n for n in range(100)}, True),
        ({str(n): n for n in range(101)}, False),
        (nested(5), True),
        (nested(6), False),
        ({"a": "x" * 16_376}, True),  # with {"a":""} around it exactly 16,384 bytes
        ({"a": "x" * 16_377}, False),
        ({"a": "é" * 8_189}, False),  # bytes count, not characters
        ({"a": float("inf")}, False),
        ({"a": ["x\x00"]}, False),
        ({"x\x00": 1}, False),
        ({"a": "\ud800"}, False),
        ({"\ud800": 1}, False),
        ({"": 1}, False),
        ([], False),
    ],
)
def test_attributes_are_a_small_shallow_object_of_plain_json(value: object, *, good: bool) -> None:
    assert accepts(common.Attributes, value) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [("1", True), ("200", True)]
    + [(text, False) for text in ("0", "201", "1_0", " 5", "5.0", "٥", "", "-1", "9" * 30)],
)
def test_a_limit_is_written_in_plain_digits(text: str, *, good: bool) -> None:
    assert accepts(common.Limit, text) is good


def test_an_update_tells_what_was_left_out_from_what_was_cleared() -> None:
    class Patch(common.Update):
        name: common.Name | MISSING = MISSING
        owner: common.Name | MISSING | None = MISSING
        idle_after: common.Duration | MISSING | None = MISSING

    assert Patch.model_validate({}).given() == {}
    assert Patch.model_validate({"owner": None}).given() == {"owner": None}
    sent = Patch.model_validate({"idle_after": "P7D", "name": "Acme"})
    assert sent.given() == {"name": "Acme", "idle_after": Period(days=7)}
    assert not accepts(Patch, {"name": None})
    assert not accepts(Patch, {"nmae": "Acme"})


def test_an_id_is_a_hyphenated_uuid() -> None:
    text = "01980000-0000-7000-8000-00000000000A"
    assert accepts(common.Id, text)
    for wrong in (text.replace("-", ""), "{" + text + "}", "urn:uuid:" + text, text + "\n", 1):
        assert not accepts(common.Id, wrong)
