"""Lengths of time in a definition: how long they may take in a calendar; and its time zones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.domain.business_calendar import BusinessCalendar
from app.domain.definition import UNPLACED, Definition, breaches, timezones
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleRule, LossReason, StageKind
from tests.factories import OFFICE, stage


def defined(*, calendar: BusinessCalendar, **lead: Any) -> Definition:
    """A definition whose first stage says `lead`."""
    stages = (
        stage("lead", UNPLACED, **lead),
        stage("won", UNPLACED, StageKind.WON),
        stage("lost", UNPLACED, StageKind.LOST, loss_reasons=(LossReason("price", "Price"),)),
    )
    return Definition(key="sales", name="Sales", flow=Flow.FREE, stages=stages, calendar=calendar)


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("idle_after", lambda length: {"idle": IdleRule(after=length)}),
        (
            "idle_after_by_priority/high",
            lambda length: {"idle": IdleRule(after_by_priority={"high": length, "low": None})},
        ),
        ("critical_after", lambda length: {"idle": IdleRule(critical_after=length)}),
        ("max_pause", lambda length: {"idle": IdleRule(max_pause=length)}),
        ("follow_up_every", lambda length: {"follow_up_every": length}),
    ],
)
@pytest.mark.parametrize(
    ("within", "beyond"),
    [("P2609D", "P2610D"), ("P521W", "P522W"), ("PT18265H", "PT18266H"), ("P1D", "P1DT18260H")],
)
def test_a_length_takes_at_most_ten_years_of_its_calendar(
    place: str, more: Callable[[Period], dict[str, Any]], within: str, beyond: str
) -> None:
    # 3,653 days are 521.857 weeks: 2,609.3 days of five a week, 18,265 hours of 35 a week.
    def found(length: str, *, elapsed: bool = False) -> list[tuple[str, str]]:
        given = more(Period.parse(length))
        given["idle"] = replace(given.get("idle", IdleRule()), elapsed=elapsed)
        definition = defined(calendar=OFFICE, **given)
        return [(breach.pointer, breach.code) for breach in breaches(definition)]

    assert found(within) == []
    assert found(beyond) == [(f"/stages/0/{place}", "out_of_range")]
    assert found(beyond, elapsed=True) == []


def test_how_long_a_deal_should_be_in_a_stage_at_most_counts_in_no_calendar() -> None:
    patient = defined(calendar=OFFICE, target_dwell=Period(days=36_525))
    assert list(breaches(patient)) == []


def test_time_zones_are_places_and_not_settings_of_a_machine() -> None:
    names = timezones()
    assert {"UTC", "Europe/Berlin", "Asia/Shanghai", "America/Argentina/Buenos_Aires"} <= names
    assert not names & {"localtime", "Factory", "posixrules"}
    assert {name for name in names if name.startswith(("right/", "posix/"))} == set()
