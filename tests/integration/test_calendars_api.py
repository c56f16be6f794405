"""Business calendars over HTTP: idle thresholds and cadences count in working time."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.domain.business_calendar import BusinessCalendar
from app.domain.period import Period
from app.domain.templates.calendars import TEMPLATES

HOURS = [{"from": "09:00", "to": "12:00"}, {"from": "13:00", "to": "17:00"}]
WEEK = dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), HOURS)
CALENDAR: dict[str, Any] = {
    "timezone": "Europe/Berlin",
    "hours": {**WEEK, "saturday": [], "sunday": []},
    "holidays": [{"on": "2024-05-01", "name": "Labour Day"}],
    "special_days": [{"on": "2024-05-04", "hours": [{"from": "10:00", "to": "12:00"}]}],
}
LOST = {"key": "lost", "name": "Lost", "kind": "lost", "loss_reasons": [{"key": "p", "name": "P"}]}


def document(**more: Any) -> dict[str, Any]:
    lead = {
        "key": "lead",
        "name": "Lead",
        "kind": "open",
        "idle_after": "P2D",
        **more.pop("lead", {}),
    }
    won = {"key": "won", "name": "Won", "kind": "won"}
    return {"key": "sales", "name": "Sales", "stages": [lead, won, LOST], **more}


async def put(client: httpx.AsyncClient, status: int, **more: Any) -> dict[str, Any]:
    headers = {} if status == 201 else {"If-Match": "*"}
    answer = await client.put("/v1/pipelines/sales", json=document(**more), headers=headers)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def opened(client: httpx.AsyncClient, at: str) -> dict[str, Any]:
    answer = await client.post(
        "/v1/opportunities", json={"pipeline": "sales", "name": "A deal", "opened_at": at}
    )
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_thresholds_and_cadences_count_in_the_working_time_of_the_pipeline(
    client: httpx.AsyncClient,
) -> None:
    # The rule is younger than the deals: what working time makes of a length, the cadence tells.
    lead = {"follow_up_every": "P2D"}
    await put(client, 201, calendar=CALENDAR, lead=lead)
    # Monday evening counts from Tuesday's opening; Wednesday is a holiday: Thursday, Friday.
    deal = await opened(client, "2024-04-29T18:00:00+02:00")
    assert deal["idle"]["follow_up_due_at"] == "2024-05-03T07:00:00Z"
    # Friday afternoon: Saturday is worked from ten to twelve, so its end, then Monday's same time.
    deal = await opened(client, "2024-05-03T15:30:00+02:00")
    assert deal["idle"]["follow_up_due_at"] == "2024-05-06T13:30:00Z"


async def test_a_stage_may_count_all_time_though_its_pipeline_has_a_calendar(
    client: httpx.AsyncClient,
) -> None:
    lead = {"follow_up_every": "P2D", "idle_time": "elapsed"}
    await put(client, 201, calendar=CALENDAR, lead=lead)
    deal = await opened(client, "2024-04-29T18:00:00+02:00")
    assert deal["idle"]["follow_up_due_at"] == "2024-05-01T16:00:00Z"


async def test_another_calendar_clocks_every_open_deal_anew(client: httpx.AsyncClient) -> None:
    await put(client, 201, lead={"idle_after": "P30D"})
    deal = await opened(client, datetime.now(UTC).isoformat())
    before = datetime.fromisoformat(deal["idle"]["goes_idle_at"])
    started = datetime.fromisoformat(deal["idle"]["clock_started_at"])
    assert (before - started).days == 30
    week = {"timezone": "Europe/Berlin", "template": "weekdays"}
    await put(client, 200, lead={"idle_after": "P30D"}, calendar=week)
    after = (await client.get(f"/v1/opportunities/{deal['id']}")).json()
    calendar = BusinessCalendar(timezone="Europe/Berlin", hours=TEMPLATES[0].hours)
    expected = calendar.crossing(started, Period(days=30))
    assert expected is not None
    assert datetime.fromisoformat(after["idle"]["goes_idle_at"]) == expected
    assert (expected - started).days >= 42  # thirty working days are six weeks
    assert after["version"] == deal["version"] + 1


async def test_a_definition_with_a_calendar_is_read_back_and_can_be_sent_again(
    client: httpx.AsyncClient,
) -> None:
    made = await put(client, 201, calendar=CALENDAR, qualifying_activities=["visit"])
    special = {**CALENDAR["special_days"][0], "name": None}
    assert made["calendar"] == {**CALENDAR, "special_days": [special]}
    assert made["qualifying_activities"] == ["visit"]
    assert made["stages"][0]["qualifying_activities"] is None
    headers = {"If-Match": '"1"'}
    again = await client.put("/v1/pipelines/sales", json=made, headers=headers)
    assert (again.status_code, again.json()["revision"]) == (200, 1)
    patched = await client.patch("/v1/pipelines/sales", json={"calendar": None}, headers=headers)
    assert (patched.json()["calendar"], patched.json()["revision"]) == (None, 2)


async def test_kinds_that_a_stage_does_not_name_are_those_of_the_pipeline(
    client: httpx.AsyncClient,
) -> None:
    lead = {"idle_clock": "inactivity", "follow_up_every": "P1D"}
    await put(client, 201, qualifying_activities=["visit"], lead=lead)
    deal = await opened(client, datetime.now(UTC).isoformat())
    url = f"/v1/opportunities/{deal['id']}"

    async def reset_by(kind: str) -> str:
        await client.post(f"{url}/activities", json={"kind": kind})
        said: str = (await client.get(url)).json()["idle"]["last_reset_by"]
        return said

    assert await reset_by("call") == "move"
    assert await reset_by("visit") == "activity"
    await put(client, 200, qualifying_activities=["call"], lead=lead)
    again = (await client.get(url)).json()["idle"]
    calls = (await client.get(f"{url}/activities")).json()["items"]
    call = next(done for done in calls if done["kind"] == "call")
    assert (again["last_reset_by"], again["clock_started_at"]) == ("activity", call["occurred_at"])


async def test_there_are_working_weeks_to_begin_with(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/calendar-templates")).json()["items"]
    assert [each["key"] for each in listed] == ["weekdays", "office_hours", "sunday_to_thursday"]
    assert listed[0]["hours"]["monday"] == [{"from": "00:00", "to": "24:00"}]
    assert listed[2]["hours"]["friday"] == []
    chinese = (await client.get("/v1/calendar-templates", params={"language": "zh"})).json()
    assert chinese["items"][0]["name"] == "工作日"
    made = await put(client, 201, calendar={"timezone": "Asia/Dubai", "template": "office_hours"})
    assert made["calendar"]["hours"] == listed[1]["hours"]


def refused_days(**more: Any) -> dict[str, Any]:
    return {**CALENDAR, "hours": {**CALENDAR["hours"], **more}}


@pytest.mark.parametrize(
    ("calendar", "pointer", "code"),
    [
        ({"timezone": "Europe/Berlin"}, "/calendar/hours", "required"),
        ({**CALENDAR, "template": "weekdays"}, "/calendar/hours", "required"),
        ({"timezone": "Europe/Berlin", "template": "none"}, "/calendar/template", "not_one_of"),
        *(
            ({**CALENDAR, "timezone": zone}, "/calendar/timezone", "unknown_timezone")
            for zone in (
                "Nowhere/City",
                "localtime",
                "Factory",
                "posixrules",
                "right/Europe/Berlin",
                "posix/Europe/Berlin",
                "../UTC",
            )
        ),
        (
            refused_days(monday=[{"from": "12:00", "to": "09:00"}]),
            "/calendar/hours/monday/0",
            "out_of_range",
        ),
        (
            refused_days(monday=[*HOURS, {"from": "16:00", "to": "18:00"}]),
            "/calendar/hours/monday/2",
            "out_of_range",
        ),
        (refused_days(sunday=HOURS[::-1]), "/calendar/hours/sunday/1", "out_of_range"),
        (
            refused_days(monday=[{"from": "9:00", "to": "12:00"}]),
            "/calendar/hours/monday/0/from",
            "wrong_format",
        ),
        (refused_days(**{day: [] for day in WEEK}), "/calendar/hours", "too_short"),
        (
            {**CALENDAR, "special_days": [{"on": "2024-12-24", "hours": HOURS[::-1]}]},
            "/calendar/special_days/0/hours/1",
            "out_of_range",
        ),
        (
            {**CALENDAR, "holidays": [{"on": "2024-05-04"}]},
            "/calendar/special_days/0/on",
            "duplicate",
        ),
        (
            {**CALENDAR, "holidays": [{"on": f"2024-05-{day}"} for day in (30, 20, 10, 30)]},
            "/calendar/holidays/3/on",
            "duplicate",
        ),
        (
            {**CALENDAR, "holidays": [{"on": "2024-02-30"}]},
            "/calendar/holidays/0/on",
            "wrong_format",
        ),
        (
            {
                **CALENDAR,
                "holidays": [{"on": f"{year}-12-25"} for year in range(1900, 2900)]
                + [{"on": f"{year}-12-26"} for year in range(1900, 2900)],
            },
            "/calendar/special_days",
            "too_long",
        ),
    ],
)
async def test_what_is_wrong_with_a_calendar_is_said_and_where(
    client: httpx.AsyncClient, calendar: dict[str, Any], pointer: str, code: str
) -> None:
    refused = await client.put("/v1/pipelines/sales", json=document(calendar=calendar))
    assert refused.status_code == 422, refused.text
    assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == [
        (pointer, code)
    ]
    assert (await client.get("/v1/pipelines/sales")).status_code == 404


async def test_all_that_is_wrong_with_a_calendar_is_said_at_once(client: httpx.AsyncClient) -> None:
    calendar = {
        "timezone": "localtime",
        "template": "none",
        "holidays": [{"on": "2024-05-01"}, {"on": "2024-05-01"}],
    }
    refused = await client.put("/v1/pipelines/sales", json=document(calendar=calendar))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_definition")
    assert [error["pointer"] for error in refused.json()["errors"]] == [
        "/calendar/timezone",
        "/calendar/template",
        "/calendar/holidays/1/on",
    ]


async def test_a_length_that_takes_more_than_ten_years_of_working_time_is_refused(
    client: httpx.AsyncClient,
) -> None:
    minutes = [{"from": f"{hour:02}:00", "to": f"{hour:02}:01"} for hour in range(8)]
    seldom = {"timezone": "Europe/Berlin", "hours": dict.fromkeys(CALENDAR["hours"], minutes)}
    lead = {"idle_after": "PT876600H"}
    refused = await client.put("/v1/pipelines/sales", json=document(calendar=seldom, lead=lead))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_definition")
    assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == [
        ("/stages/0/idle_after", "out_of_range")
    ]
    # All time is not worked out, and knows no such bound.
    await put(client, 201, calendar=seldom, lead={**lead, "idle_time": "elapsed"})
    headers = {"If-Match": "*"}
    change = {"idle_time": "working"}
    counted = await client.patch("/v1/pipelines/sales/stages/lead", json=change, headers=headers)
    assert [error["pointer"] for error in counted.json()["errors"]] == ["/idle_after"]
    trial = {"stages": {"lead": change}}
    replayed = await client.post("/v1/pipelines/sales/idle/preview", json=trial)
    assert replayed.status_code == 422, replayed.text
    assert [error["pointer"] for error in replayed.json()["errors"]] == ["/stages/lead/idle_after"]


async def test_what_answers_say_of_calendars_is_always_there_and_open_to_more(
    client: httpx.AsyncClient,
) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    met: set[str] = set()
    ahead = ["Calendar", "CalendarTemplate"]
    while ahead:
        name = ahead.pop()
        if name not in met:
            met.add(name)
            ahead += re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schemas[name]))
    assert met == {
        "Calendar", "CalendarTemplate", "WeekHours", "WorkingHours", "Holiday", "SpecialDay"
    }  # fmt: skip
    for schema in (schemas[name] for name in met):
        assert schema.get("additionalProperties") is not False
        assert set(schema["required"]) == set(schema["properties"])
