"""What the metrics mean, over HTTP: in two languages, one or all, and a 304 for who has them."""

from collections.abc import Callable

import httpx
import pytest

from app.domain.access import Principal, Scope
from app.domain.api_key import ApiKey
from app.domain.catalogue import CATALOGUE
from app.domain.catalogue.writing import MetricDefinition
from app.storage.engine import Database
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, sales_pipeline
from tests.integration.test_drill_down import METRICS as CELLS

Service = Callable[[ApiKey | None], httpx.AsyncClient]
DEFINITIONS = "/v1/metric-definitions"
ASKED = {
    "time-in-stage-curve": {"stage": "lead"},
    "trend": {"figure": "cycle_time_p50", "from": "2026-01-01"},
    "cumulative-flow": {"from": "2026-01-01"},
    "compare": {"figure": "cycle_time_p50", "from": "2026-01-01", "against_to": "2026-01-01"},
}
"""What some metrics cannot do without."""


async def test_all_metrics_are_listed_on_one_page(client: httpx.AsyncClient) -> None:
    listed = (await client.get(DEFINITIONS)).json()
    assert [item["id"] for item in listed["items"]] == [metric.id for metric in CATALOGUE]
    assert listed["page"] == {"next_cursor": None}


async def test_one_metric_is_told_as_in_the_list(client: httpx.AsyncClient) -> None:
    for item in (await client.get(DEFINITIONS)).json()["items"]:
        assert (await client.get(f"{DEFINITIONS}/{item['id']}")).json() == item


async def test_a_figure_has_name_formula_unit_and_null_in_english_and_chinese(
    client: httpx.AsyncClient,
) -> None:
    funnel = (await client.get(f"{DEFINITIONS}/funnel")).json()
    assert funnel["path"] == "/v1/pipelines/{pipeline}/metrics/funnel"
    assert funnel["title"] == {"en": "Funnel", "zh": "漏斗"}
    by_path = {figure["path"]: figure for figure in funnel["figures"]}
    conversion = by_path["stages[].conversion_to_next"]
    assert conversion["name"] == "conversion_to_next"
    assert conversion["title"]["zh"] == "下一阶段转化率"
    assert conversion["formula"]["en"] == "reached(j+1) / reached(j)"
    assert conversion["unit"] == "share"
    assert conversion["null_when"]["en"] == "at the won rank"
    assert [part["name"] for part in conversion["parts"]] == ["count", "of", "rate", "low", "high"]
    assert by_path["stages[].reached"]["null_when"] is None


async def test_a_rule_names_its_choices_with_the_default_first(client: httpx.AsyncClient) -> None:
    rules = (await client.get(f"{DEFINITIONS}/time-in-stage")).json()["policies"]
    choices = {rule["name"]: rule["values"] for rule in rules}
    assert choices["population"] == ["entered", "left"]
    assert choices["attribution"] == ["at_move", "current"]
    assert choices["as_of"] == []


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.id)
async def test_a_metric_is_made_by_the_rules_that_its_definition_names_first(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    metric: MetricDefinition,
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    asked = ASKED.get(metric.id, {})
    answer = await client.get(f"/v1/pipelines/sales/metrics/{metric.path}", params=asked)
    assert answer.status_code == 200, answer.text
    policy = answer.json()["policy"]
    usual = {rule.name: rule.values[0] for rule in metric.policies if rule.values}
    usual |= {name: value for name, value in asked.items() if name in usual}
    assert {name: policy[name] for name in usual} == usual


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.id)
async def test_an_answer_and_the_list_behind_it_bear_the_id_and_version_of_their_definition(
    client: httpx.AsyncClient,
    database: Database,
    principal: Principal,
    metric: MetricDefinition,
) -> None:
    await keep_pipeline(database, principal.workspace_id, sales_pipeline())
    defined = (await client.get(f"{DEFINITIONS}/{metric.id}")).json()
    asked = {metric.path: ASKED.get(metric.id, {})}
    if metric.id in CELLS:
        asked[f"{metric.path}/deals"] = {"cell": CELLS[metric.id]}
    for path, parameters in asked.items():
        answer = await client.get(f"/v1/pipelines/sales/metrics/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        assert answer.json()["definition"] == {"id": metric.id, "version": defined["version"]}


async def test_a_caller_who_holds_the_definitions_is_told_so(client: httpx.AsyncClient) -> None:
    for path in (DEFINITIONS, f"{DEFINITIONS}/funnel"):
        first = await client.get(path)
        held = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (held.status_code, held.content) == (304, b"")
        assert held.headers["ETag"] == first.headers["ETag"]
        other = await client.get(path, headers={"If-None-Match": '"other"'})
        assert other.content == first.content
    tags = {
        (await client.get(path)).headers["ETag"] for path in (DEFINITIONS, f"{DEFINITIONS}/flow")
    }
    assert len(tags) == 2


@pytest.mark.parametrize("name", ["turnover", "FUNNEL", "a%00b"])
async def test_an_unknown_metric_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    refused = await client.get(f"{DEFINITIONS}/{name}")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")


async def test_a_parameter_is_refused_and_not_ignored(client: httpx.AsyncClient) -> None:
    for path in (DEFINITIONS, f"{DEFINITIONS}/funnel"):
        refused = await client.get(path, params={"language": "zh"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")


async def test_definitions_are_read_by_whoever_may_read_metrics(
    database: Database, service: Service
) -> None:
    _, reader = await make_workspace(database, Scope.METRICS_READ)
    _, other = await make_workspace(database, Scope.EVENTS_READ)
    for path in (DEFINITIONS, f"{DEFINITIONS}/funnel"):
        assert (await service(reader).get(path)).status_code == 200
        assert (await service(other).get(path)).status_code == 403
        assert (await service(None).get(path)).status_code == 401
