"""Two real files, imported as their owners would, and the metrics of them over HTTP.

What the files say is read here a second time, row by row and without the service: the lengths of
stays, which `reference.json` gives only in summary.
"""

import csv
import io
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import httpx

from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from tests.acceptance.test_real_data_import import MAVEN, PATH, RELEASES, SEPSIS, Importer
from tests.conftest import LOGIN_URL, at, cloned, make_workspace, running
from tests.factories import keep_pipeline

STAGES = (*PATH, "Return ER", *RELEASES)
DAY = 86_400
MICROSECONDS = 1_000_000

END = "2017-12-31T00:00:00.000001Z"
"""Just after maven's last close. Its reference counts days, so an age is a microsecond above."""
ENGAGED = {"from_": "2016-10-20", "to": "2017-12-31"}
"""Without the deals of no date at all, which are imported as of the last day."""
STARTS = ("2017-01-01", "2017-04-01", "2017-07-01", "2017-10-01", "2018-01-01")
"""Of the quarters in which maven's deals were closed; the last is where they end."""

LAST = "2015-06-05T12:25:11.000001Z"
"""Just after sepsis' last event."""


class Asking:
    """The metrics of one pipeline, over HTTP."""

    def __init__(self, client: httpx.AsyncClient, pipeline: str) -> None:
        self.client, self.path = client, f"/v1/pipelines/{pipeline}"

    async def __call__(self, metric: str, **parameters: str) -> Any:
        """The answer; a name may end in `_` where Python keeps it for itself: `from_`."""
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        answer = await self.client.get(f"{self.path}/metrics/{metric}", params=named)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def behind(self, metric: str, cell: str, **parameters: str) -> list[Any]:
        """All that a count counts, page by page."""
        found: list[Any] = []
        turned: dict[str, str] = {}
        while True:
            asked = {**parameters, **turned, "cell": cell, "limit": "200"}
            page = await self(f"{metric}/deals", **asked)
            found += page["items"]
            if page["page"]["next_cursor"] is None:
                return found
            turned = {"cursor": page["page"]["next_cursor"]}

    async def idle_after(self, period: str, stages: Iterable[str]) -> str:
        """The number of a new revision, in which these stages have that threshold."""
        for stage in stages:
            changed = await self.client.patch(
                f"{self.path}/stages/{stage}",
                json={"idle_after": period},
                headers={"If-Match": "*"},
            )
            assert changed.status_code == 200, changed.text
        return str((await self.client.get(self.path)).json()["revision"])


@asynccontextmanager
async def imported(
    pipeline: Pipeline, content: bytes, mapping: Mapping[str, Any]
) -> AsyncIterator[Asking]:
    """The file in a database of its own, with the service running on it."""
    async with cloned() as name:
        url = at(os.environ[LOGIN_URL], name)
        database = await Database.open(url, size=4)
        principal, key = await make_workspace(database)
        await keep_pipeline(database, principal.workspace_id, pipeline)
        await Importer(database, principal, pipeline).run(content, mapping)
        await database.close()
        async with running(url) as connect:
            yield Asking(connect(key), pipeline.key)


def maven_deals() -> list[dict[str, str]]:
    """The deals with their agent's office and manager beside them, as their owner would join it."""
    with (MAVEN / "sales_teams.csv").open(newline="") as teams:
        agents = {row["sales_agent"]: row for row in csv.DictReader(teams)}
    with (MAVEN / "sales_pipeline.csv").open(newline="") as deals:
        return [
            {
                **row,
                "region": agents[row["sales_agent"]]["regional_office"],
                "manager": agents[row["sales_agent"]]["manager"],
            }
            for row in csv.DictReader(deals)
        ]


def maven_cycles() -> dict[str, list[int]]:
    """Microseconds from engaging to the close by outcome, and to END where there was none."""
    found: dict[str, list[int]] = {"Won": [], "Lost": [], "Engaging": []}
    for row in maven_deals():
        if row["engage_date"]:
            begun = date.fromisoformat(row["engage_date"])
            days = (date.fromisoformat(row["close_date"] or END[:10]) - begun).days
            beyond = 0 if row["close_date"] else 1
            found[row["deal_stage"]].append(days * DAY * MICROSECONDS + beyond)
    return found


def sepsis_events() -> list[dict[str, str]]:
    """The process log, each case's events in their order."""
    with (SEPSIS / "derived_events.csv").open(newline="") as events:
        return list(csv.DictReader(events))


def until_released(events: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The log of one who looks no further than a case's first release."""
    released: set[str] = set()
    kept = []
    for event in events:
        if event["case_id"] not in released:
            kept.append(event)
        if event["activity"] in RELEASES:
            released.add(event["case_id"])
    return kept


@dataclass(frozen=True)
class Stay:
    """A visit of a case; the events after the first only repeat the stage."""

    case: str
    stage: str
    events: list[datetime]
    ended: datetime | None = None


def stays(until: datetime) -> list[Stay]:
    """Every visit that the process log tells of before an instant."""
    cases: dict[str, list[Stay]] = defaultdict(list)
    for event in sepsis_events():
        stage, case = event["activity"], cases[event["case_id"]]
        instant = datetime.fromisoformat(event["timestamp"])
        if stage not in STAGES or instant >= until:
            continue
        if case and case[-1].stage == stage:
            case[-1].events.append(instant)
            continue
        if case:
            case[-1] = replace(case[-1], ended=instant)
        case.append(Stay(event["case_id"], stage, [instant]))
    return [stay for case in cases.values() for stay in case]


def as_csv(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The rows as a file."""
    kept = list(rows)
    file = io.StringIO()
    write = csv.DictWriter(file, list(kept[0]))
    write.writeheader()
    write.writerows(kept)
    return file.getvalue().encode()
