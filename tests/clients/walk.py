"""The main job with the generated Python client: a pipeline, a deal, its moves, what is told of it.

Run beside the generated package `sluice_client`, in the environment that it was generated in.
"""

import datetime as dt
import os
from http import HTTPStatus
from typing import TypeVar

from sluice_client import AuthenticatedClient
from sluice_client.api.access import get_me
from sluice_client.api.idle import create_idle_scan, list_idle_flags
from sluice_client.api.metrics import get_funnel
from sluice_client.api.opportunities import (
    create_opportunity,
    list_opportunities,
    update_opportunity,
)
from sluice_client.api.pipelines import create_pipeline
from sluice_client.api.transitions import create_transition, list_next_stages
from sluice_client.models import (
    Money,
    OpportunityCreate,
    OpportunityUpdate,
    PipelineCreate,
    Problem,
    TransitionCreate,
)
from sluice_client.types import UNSET, Response

T = TypeVar("T")

client = AuthenticatedClient(os.environ["BASE"], os.environ["KEY"])
LONG_AGO = dt.datetime(2026, 1, 5, 9, tzinfo=dt.UTC)


def must(answer: "Response[Problem | T]", status: int) -> T:
    """What was asked for, where it was answered so."""
    assert answer.status_code == status, answer.content
    assert answer.parsed is not None
    assert not isinstance(answer.parsed, Problem), answer.content
    return answer.parsed


def once(name: str) -> str:
    return f"python-{name}"


# Who am I?
me = must(get_me.sync_detailed(client=client), HTTPStatus.OK)
assert "admin" in me.scopes

# A pipeline from a template.
template = PipelineCreate(key="python", template="b2b", timezone="Europe/Berlin")
pipeline = must(
    create_pipeline.sync_detailed(client=client, body=template, idempotency_key=once("pipeline")),
    HTTPStatus.CREATED,
)
stages = [stage for stage in pipeline.stages if stage.kind == "open"]
(won,) = [stage for stage in pipeline.stages if stage.kind == "won"]

# A deal, and the same request again: the first answer, told again.
body = OpportunityCreate(
    pipeline=pipeline.key,
    name="Ten seats for the design team",
    external_id="CRM-2",
    amount=Money(amount="1250.00", currency="EUR"),
    opened_at=LONG_AGO,
)
told = create_opportunity.sync_detailed(client=client, body=body, idempotency_key=once("deal"))
deal = must(told, HTTPStatus.CREATED)
again = create_opportunity.sync_detailed(client=client, body=body, idempotency_key=once("deal"))
assert again.headers["Idempotent-Replayed"] == "true"
assert must(again, HTTPStatus.CREATED) == deal
assert deal.opened_at == LONG_AGO


def move(name: str, to_stage: str, if_match: str = "*") -> "Response[object]":
    return create_transition.sync_detailed(
        deal.id,
        client=client,
        body=TransitionCreate(to_stage=to_stage),
        if_match=if_match,
        idempotency_key=once(name),
    )


# Where it may go, and what is missing: a move without it is refused, with a problem.
following = must(list_next_stages.sync_detailed(deal.id, client=client), HTTPStatus.OK)
assert following.items
refused = move("refused", stages[1].key).parsed
assert isinstance(refused, Problem)
assert (refused.status, refused.code) == (422, "requirements_missing")
assert refused.errors[0].pointer == "/owner"

# What is missing is added, by merge-patch on the version that was read.
owned = must(
    update_opportunity.sync_detailed(
        deal.id,
        client=client,
        body=OpportunityUpdate(owner="tom", probability=None),
        if_match=f'"{deal.version}"',
    ),
    HTTPStatus.OK,
)
assert (owned.owner, owned.amount) == ("tom", deal.amount)

# The move, decided on that version; the same again; one that was decided on an old version.
expected = f'"{owned.version}"'
moved = must(move("move", stages[1].key, expected), HTTPStatus.CREATED)
assert moved.transition.from_stage == stages[0].key
replayed = move("move", stages[1].key, expected)
assert replayed.headers["Idempotent-Replayed"] == "true"
assert must(replayed, HTTPStatus.CREATED).transition.id == moved.transition.id
stale = move("stale", stages[2].key, f'"{deal.version}"')
assert isinstance(stale.parsed, Problem)
assert (stale.status_code, stale.parsed.code) == (HTTPStatus.PRECONDITION_FAILED, "stale")

# Won; the funnel knows.
closed = must(move("win", won.key), HTTPStatus.CREATED)
assert (closed.transition.kind, closed.opportunity.status) == ("won", "won")
funnel = must(get_funnel.sync_detailed(pipeline.key, client=client), HTTPStatus.OK)
assert (funnel.total.deals, funnel.total.stages[0].reached) == (1, 1)
assert funnel.groups is None

# Two more deals, listed one a page; the last page has no cursor.
for name in ("second", "third"):
    quiet = OpportunityCreate(pipeline=pipeline.key, name=name, opened_at=LONG_AGO)
    must(
        create_opportunity.sync_detailed(client=client, body=quiet, idempotency_key=once(name)),
        HTTPStatus.CREATED,
    )
seen, cursor = set(), UNSET
while cursor is not None:
    page = must(
        list_opportunities.sync_detailed(
            client=client, pipeline=pipeline.key, limit=1, cursor=cursor
        ),
        HTTPStatus.OK,
    )
    seen |= {item.name for item in page.items}
    cursor = page.page.next_cursor
assert len(seen) == 3

# The two that are open still, and were opened long ago, have gone quiet.
must(create_idle_scan.sync_detailed(client=client, idempotency_key=once("scan")), HTTPStatus.OK)
flags = must(
    list_idle_flags.sync_detailed(client=client, pipeline=pipeline.key, state="open"),
    HTTPStatus.OK,
)
names = sorted(flag.opportunity.name for flag in flags.items)
assert names == ["second", "third"], flags

client.get_httpx_client().close()
print("walked")
