"""Every operation of the API, as a request that would be taken where its ids are known.

Made from the OpenAPI document by rule: bodies are the document's own examples. So an operation that
is new is walked through without anybody thinking of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

QUERY: Final = {"cell": "deals", "from": "2026-01-01", "figure": "win_rate", "stage": "lead"}
"""What operations require of a query string."""

QUERIES: Final[Mapping[str, Mapping[str, str]]] = {
    "getComparison": {
        "from": "2026-01-01",
        "to": "2026-02-01",
        "against_from": "2025-01-01",
        "against_to": "2025-02-01",
    },
    "listCycleTimeDeals": {"cell": "all"},
    "listFlowDeals": {"cell": "entries.lead"},
    "listMatrixDeals": {"cell": "count.lead.offer"},
    "listTimeInStageDeals": {"cell": "open.lead"},
    "listWinRateDeals": {"cell": "won"},
    "listCumulativeFlowDeals": {"cell": "in_progress_at_start"},
}
"""What single ones take instead, or beside."""

BODIES: Final[Mapping[str, Any]] = {"previewIdle": {"stages": {"talks": {"idle_after": "P3D"}}}}
"""Where the example names stages that the tests' pipeline does not have."""

HISTORY: Final = {
    "files": {"file": ("deals.csv", b"deal,stage,at\n")},
    "data": {"mapping": '{"shape": "long", "deal": "deal", "stage": "stage", "occurred_at": "at"}'},
}
"""An import of nothing."""


@dataclass(frozen=True)
class Operation:
    """One request; `names` are the parameters of its path."""

    id: str
    method: str
    path: str
    names: frozenset[str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    """Keyword arguments of httpx that send it."""

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


def operations(document: Mapping[str, Any], ids: Mapping[str, object]) -> Iterator[Operation]:
    """All of them, with these ids in their paths. Raises KeyError for a parameter without one."""
    for template, item in document["paths"].items():
        for method, operation in item.items():
            named = operation.get("parameters", [])
            names = frozenset(each["name"] for each in named if each["in"] == "path")
            required = {
                each["name"] for each in named if each["in"] == "query" and each["required"]
            }
            yield Operation(
                operation["operationId"],
                method.upper(),
                template.format(**{name: ids[name] for name in names}),
                names,
                {name: QUERY[name] for name in required}
                | QUERIES.get(operation["operationId"], {}),
                _body(document, operation),
            )


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        return HISTORY
    if not content:
        return {}
    if operation["operationId"] in BODIES:
        return {"json": BODIES[operation["operationId"]]}
    schema = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return {"json": document["components"]["schemas"][schema]["examples"][0]}
