"""What the API's description says of the whole service, and of parameters that many lists share.

A parameter that says itself what it is (`Path(description=…)`) is not here; one that says nothing
gets its sentence from PARAMETERS, and one that stands in neither place is refused by the tests.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

ABOUT: Final = """\
Pipelines, an append-only log of moves, exactly defined metrics, and a flag when a deal goes quiet.

Every error is `application/problem+json` (RFC 9457) with a stable `code`; `/docs/errors` has them
all. Every POST takes an `Idempotency-Key`; what changes a resource takes its `ETag` in `If-Match`.
Lists are read page by page with `cursor`. Answers may gain fields; a request with an unknown one
is refused. `/openapi-client.json` is the same description without webhooks.
"""

LICENSE: Final[Mapping[str, str]] = MappingProxyType(
    {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
)

# Relative: each installation has an address of its own, and serves its own description.
SERVERS: Final = ({"url": "/", "description": "The service that serves this description."},)

_DEALS: Final = "Only what concerns deals "

PARAMETERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "activity_id": "The activity's id.",
        "attribution": "Whom a deal is counted for: the one who has it now.",
        "basis": "What is counted: the deals opened in the period (`cohort`), or what happened in"
        " it (`period`).",
        "cursor": "`page.next_cursor` of the page before; absent for the first.",
        "external_id": "The caller's own id of a deal.",
        "kind": "Only transitions of this kind.",
        "language": "The language of names and descriptions.",
        "limit": "How many items a page has at most.",
        "owner": f"{_DEALS}of this owner.",
        "pipeline": "The pipeline's key.",
        "population": "Which deals or visits are measured.",
        "priority": f"{_DEALS}of this priority.",
        "revision": "The revision's number, from 1.",
        "severity": "Only flags of this severity.",
        "source": f"{_DEALS}from this source.",
        "state": "Only those in this state.",
        "status": f"{_DEALS}of this status.",
        "tag": f"{_DEALS}that bear this tag.",
        "team": f"{_DEALS}of this team.",
        "transition_id": "The transition's id.",
    }
)


def info() -> dict[str, Any]:
    """What stands at the head of the description, for FastAPI's generator."""
    return {"description": ABOUT, "license_info": dict(LICENSE), "servers": list(SERVERS)}
