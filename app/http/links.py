"""OpenAPI links: which answer gives the ids that other operations ask for in their paths.

So a reader finds what to do with what was just made, and a tool that walks through the API by its
description comes to moves, flags and figures by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

_ID: Final = "$response.body#/id"
_FIRST: Final = "$response.body#/items/0/id"


@dataclass(frozen=True, slots=True)
class Source:
    """An operation whose answer gives parameters of paths.

    `own` is the one by which others are followed (None: those of `bodies` alone). `bodies`: by
    operation, what of its body the answer gives.
    """

    operation: str
    status: str
    own: str | None
    gives: Mapping[str, str]
    bodies: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))


SOURCES: Final = (
    Source(
        "createPipeline",
        "201",
        "pipeline",
        {
            "pipeline": "$response.body#/key",
            "stage": "$response.body#/stages/0/key",
            "revision": "$response.body#/revision",
        },
        {"createOpportunity": {"pipeline": "$response.body#/key", "name": "$response.body#/name"}},
    ),
    Source(
        "createOpportunity",
        "201",
        "opportunity_id",
        {"opportunity_id": _ID, "external_id": "$response.body#/external_id"},
        {
            "upsertOpportunityByExternalId": {
                "pipeline": "$response.body#/pipeline",
                "name": "$response.body#/name",
            }
        },
    ),
    Source(
        "listNextStages",
        "200",
        None,
        {"opportunity_id": "$request.path.opportunity_id"},
        {"createTransition": {"to_stage": "$response.body#/items/0/stage"}},
    ),
    Source(
        "createTransition",
        "201",
        "transition_id",
        {"transition_id": "$response.body#/transition/id"},
    ),
    Source(
        "createActivity",
        "201",
        "activity_id",
        {"activity_id": _ID, "opportunity_id": "$request.path.opportunity_id"},
    ),
    Source("listIdleFlags", "200", "flag_id", {"flag_id": _FIRST}),
    Source("createImport", "202", "import_id", {"import_id": _ID}),
    Source("createWebhookEndpoint", "201", "endpoint_id", {"endpoint_id": _ID}),
    Source(
        "testWebhookEndpoint",
        "201",
        "sequence",
        {"sequence": "$response.body#/sequence", "endpoint_id": "$request.path.endpoint_id"},
    ),
    Source("createApiKey", "201", "key_id", {"key_id": _ID}),
    Source("listAuditEntries", "200", "entry_id", {"entry_id": _FIRST}),
    Source("listMetricDefinitions", "200", "metric", {"metric": _FIRST}),
)


def link(described: Mapping[str, Any]) -> None:
    """Add to the description's answers what leads on from them, as far as they are in it."""
    operations = {
        operation["operationId"]: operation
        for item in described["paths"].values()
        for operation in item.values()
    }
    asked = {name: _in_path(operation) for name, operation in operations.items()}
    for source in (each for each in SOURCES if each.operation in operations):
        links: dict[str, Any] = {}
        for name, parameters in asked.items():
            body = source.bodies.get(name)
            follows = source.own in parameters and parameters <= {*source.gives}
            if name == source.operation or not (follows or body):
                continue
            links[name] = {
                "operationId": name,
                "parameters": {each: source.gives[each] for each in sorted(parameters)},
                **({} if body is None else {"requestBody": dict(body)}),
            }
        operations[source.operation]["responses"][source.status]["links"] = links


def _in_path(operation: Mapping[str, Any]) -> set[str]:
    return {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
