"""Metrics of two real files, against figures that others computed from the same files.

`reference.json` beside each file was made with pandas, DuckDB and pm4py, which agree. The files are
imported as their owners would; where they are absent, these tests are skipped.
"""

import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.domain.period import Period
from app.domain.pipeline import IdleRule, Pipeline
from app.storage.engine import Database
from tests.acceptance.test_real_data_import import (
    DATA,
    MAVEN,
    MAVEN_MAPPING,
    PLACED,
    SEPSIS,
    SEPSIS_MAPPING,
    Importer,
    maven_pipeline,
    reference,
    sepsis_pipeline,
)
from tests.conftest import make_workspace, running
from tests.factories import keep_pipeline

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the reference data sets are not here"),
]

DAY = 86_400
NEW_YEAR = "2018-01-01T00:00:00Z"


def idle_after(pipeline: Pipeline, period: str) -> Pipeline:
    """The pipeline whose open stages have that threshold."""
    rule = IdleRule(after=Period.parse(period))
    stages = (replace(stage, idle=rule) if stage.is_open else stage for stage in pipeline.stages)
    return replace(pipeline, stages=tuple(stages))


class Asking:
    """The metrics of one pipeline, over HTTP."""

    def __init__(self, client: httpx.AsyncClient, pipeline: str) -> None:
        self.client, self.pipeline = client, pipeline

    async def __call__(self, metric: str, **parameters: str) -> Any:
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        path = f"/v1/pipelines/{self.pipeline}/metrics/{metric}"
        answer = await self.client.get(path, params=named)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def imported(
    url: str, pipeline: Pipeline, content: bytes, mapping: dict[str, Any]
) -> AsyncIterator[Asking]:
    database = await Database.open(url, size=4)
    principal, key = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, pipeline)
    await Importer(database, principal, pipeline).run(content, mapping)
    await database.close()
    async with running(url) as connect:
        yield Asking(connect(key), pipeline.key)


def with_regions() -> bytes:
    """The deals with their agent's regional office beside them, as their owner would join it."""
    with (MAVEN / "sales_teams.csv").open(newline="") as teams:
        office = {row["sales_agent"]: row["regional_office"] for row in csv.DictReader(teams)}
    joined = io.StringIO()
    with (MAVEN / "sales_pipeline.csv").open(newline="") as deals:
        read = csv.DictReader(deals)
        write = csv.DictWriter(joined, [*(read.fieldnames or ()), "region"])
        write.writeheader()
        write.writerows({**row, "region": office[row["sales_agent"]]} for row in read)
    return joined.getvalue().encode()


async def test_maven_crm_gives_the_figures_of_its_reference(own_database: str) -> None:
    told = reference(MAVEN)
    conversion = told["conversion"]
    pipeline = idle_after(maven_pipeline(), "P14D")
    facts = {**MAVEN_MAPPING["facts"], "team": "region"}
    mapping = {**MAVEN_MAPPING, "facts": facts, "undated": PLACED}
    async with imported(own_database, pipeline, with_regions(), mapping) as ask:
        funnel = (await ask("funnel", as_of=NEW_YEAR))["total"]
        prospecting, engaging, won = funnel["stages"]
        assert prospecting["reached"] == conversion["all"] == 8_800
        assert engaging["reached"] == conversion["reached_engaging"] == 8_300
        assert engaging["open_furthest"] == conversion["open_engaging"] == 1_589
        assert engaging["lost_furthest"] == conversion["lost"] == 2_473
        assert won["reached"] == conversion["won"] == 4_238
        assert won["amount_reached"] == [{"amount": "10005534.00", "currency": "USD"}]
        share = prospecting["conversion_to_next"]["rate"]
        assert share == pytest.approx(conversion["prospecting_to_engaging"], abs=1e-6)

        wins = (await ask("win-rate", as_of=NEW_YEAR))["total"]
        assert wins["rate"]["rate"] == pytest.approx(conversion["win_rate_of_closed"], abs=1e-6)

        cycles = (await ask("cycle-time", as_of=NEW_YEAR))["total"]
        for outcome, name in (("won", "won"), ("lost", "lost"), ("all", "closed")):
            expected = told["cycle_days_engage_to_close"][name]
            assert cycles[outcome]["count"] == expected["n"]
            assert cycles[outcome]["p50_seconds"] == expected["p50_cont"] * DAY
            assert cycles[outcome]["p90_seconds"] == expected["p90_cont"] * DAY

        starts = ("2017-01-01", "2017-04-01", "2017-07-01", "2017-10-01", "2018-01-01")
        for number, quarter in enumerate(told["by_quarter_of_close"].values()):
            found = (await ask("win-rate", from_=starts[number], to=starts[number + 1]))["total"]
            assert (found["won"], found["lost"]) == (quarter["Won"], quarter["Lost"])
            assert found["by_amount"][0]["won"]["amount"] == f"{quarter['won_value']}.00"

        agents = (await ask("win-rate", as_of=NEW_YEAR, group_by="owner"))["groups"]
        assert {agent["value"]: (agent["won"], agent["lost"]) for agent in agents} == {
            name: (agent.get("Won", 0), agent.get("Lost", 0))
            for name, agent in told["by_agent"].items()
            if "Won" in agent or "Lost" in agent
        }
        offices = (await ask("win-rate", as_of=NEW_YEAR, group_by="team"))["groups"]
        lengths = (await ask("cycle-time", as_of=NEW_YEAR, group_by="team"))["groups"]
        won_cycle = {office["value"]: office["won"] for office in lengths}
        assert {office["value"] for office in offices} == set(told["by_region"])
        for office in offices:
            expected = told["by_region"][office["value"]]
            assert (office["won"], office["lost"]) == (expected["Won"], expected["Lost"])
            assert office["by_amount"][0]["won"]["amount"] == f"{expected['won_value']}.00"
            cycle = won_cycle[office["value"]]
            assert cycle["p50_seconds"] == expected["p50_days_won"] * DAY
            assert cycle["p90_seconds"] == expected["p90_days_won"] * DAY

        months = (await ask("funnel", as_of=NEW_YEAR, group_by="opened_month"))["groups"]
        won_by_month = {month["value"]: month["stages"][-1]["reached"] for month in months}
        assert won_by_month == {
            month: cohort["Won"] for month, cohort in told["cohort_by_engage_month"].items()
        }

        snapshot = (await ask("snapshot", as_of=NEW_YEAR))["total"]["stages"]
        assert [(stage["key"], stage["deals"], stage["idle"]) for stage in snapshot] == [
            ("prospecting", 500, 0),
            ("engaging", 1_589, 1_584),
        ]


async def test_sepsis_gives_the_outcomes_and_the_dwell_of_its_reference(own_database: str) -> None:
    pipeline = idle_after(sepsis_pipeline(), "P7D")
    async with imported(
        own_database, pipeline, (SEPSIS / "derived_events.csv").read_bytes(), SEPSIS_MAPPING
    ) as ask:
        *_, won = (await ask("funnel"))["total"]["stages"]
        assert (won["reached"], won["ever_won"], won["won_undone"]) == (487, 782, 295)

        stages = (await ask("time-in-stage"))["total"]["stages"]
        completed = {stage["key"]: stage["completed"] for stage in stages}
        triage = ("er-registration", "er-triage", "er-sepsis-triage")
        assert [completed[key]["count"] for key in triage] == [1_050, 1_049, 813]
        for key, n, p50, p90 in (
            ("admission-nc", 811, 429_249, 1_207_822),
            ("admission-ic", 108, 142_063.5, 565_019),
        ):
            shown = completed[key]
            assert shown["count"] == n
            assert shown["p50_seconds"] == p50
            assert shown["p90_seconds"] == pytest.approx(p90, abs=0.5)

        as_of = "2014-06-30T23:59:59Z"
        funnel = (await ask("funnel", as_of=as_of))["total"]
        assert (funnel["deals"], funnel["stages"][-1]["reached"]) == (544, 292)
        snapshot = (await ask("snapshot", as_of=as_of))["total"]
        assert (snapshot["deals"], snapshot["idle"]) == (252, 232)
