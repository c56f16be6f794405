"""What stands behind a count, as callers ask for it and see it: one item for each thing counted.

A list takes the very query of its metric and the name of a cell. It cannot be grouped: the count
of a group is opened by the filter on the group's value.
"""

from typing import Annotated, Any, ClassVar, Final, Generic, Literal, Self, TypeVar

from pydantic import Field

from app.domain.measures.cells import Stay
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution
from app.http.schemas.common import Id, Instant, Limit, Money, PageInfo, Response
from app.http.schemas.cumulative_flow import CumulativeFlowPolicy
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.flow import FlowPolicy
from app.http.schemas.metric_queries import (
    ClosingsQuery,
    CumulativeFlowQuery,
    CycleTimeQuery,
    FlowQuery,
    FunnelQuery,
    MatrixQuery,
    MetricQuery,
    SnapshotQuery,
    TimeInStageQuery,
)
from app.http.schemas.metrics import (
    ClosingsPolicy,
    FunnelPolicy,
    MetricPolicy,
    SnapshotPolicy,
    TimeInStagePolicy,
    example,
    seconds,
)
from app.http.schemas.opportunities import Status, money_of
from app.storage.queries.cells import Listed

_VISIT: Final[dict[str, Any]] = {
    "stage": "quote",
    "entered_at": "2026-02-09T14:30:00Z",
    "left_at": "2026-02-12T14:30:00Z",
    "seconds": 259200.0,
}
_DEAL: Final[dict[str, Any]] = {
    "opportunity_id": "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a",
    "external_id": "CRM-1042",
    "name": "Ten seats for the design team",
    "status": "won",
    "stage": "won",
    "stage_entered_at": "2026-03-02T10:00:00Z",
    "amount": {"amount": "1250.00", "currency": "EUR"},
    "owner": "mia",
    "team": "north",
    "source": "webinar",
    "priority": "high",
    "opened_at": "2026-02-02T09:00:00Z",
    "closed_at": "2026-03-02T10:00:00Z",
    "visit": None,
}


class CellQuery(MetricQuery):
    """Which count is opened, and which page of its list."""

    group_by: ClassVar[None] = None  # type: ignore[misc] # no parameter of a list: it is refused

    cell: Annotated[str, Field(max_length=250)] = Field(
        description="The count by its name in the answer, then the stage and what else tells it"
        " apart: `deals`, `reached.quote`, `deals.quote.price`, `age_buckets.quote.2` (a bucket is"
        " its place in the list, from 0 on). What has no key: `rank:4`, `:none`, `:handed_off`. A"
        " share opens its `count`, with `.of` behind it that of which it is a share. Any other name"
        " is refused with those that there are.",
        examples=["deals"],
    )
    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1024)] = None

    @property
    def ages(self) -> bool:
        return True  # the policy tells T, and a visit under way its age


class FunnelDealsQuery(CellQuery, FunnelQuery):
    """A count of the funnel."""


class TimeInStageDealsQuery(CellQuery, TimeInStageQuery):
    """A count of time in stage."""


class CycleTimeDealsQuery(CellQuery, CycleTimeQuery):
    """A count of cycle time."""


class ClosingsDealsQuery(CellQuery, ClosingsQuery):
    """A count of the win rate or of the loss reasons."""


class SnapshotDealsQuery(CellQuery, SnapshotQuery):
    """A count of the snapshot."""


class FlowDealsQuery(CellQuery, FlowQuery):
    """A count of the flow."""


class MatrixDealsQuery(CellQuery, MatrixQuery):
    """A count of the matrix."""


class CumulativeFlowDealsQuery(CellQuery, CumulativeFlowQuery):
    """A count of the cumulative flow."""

    # Of a field that both bases have, the first one's would stand.
    attribution: Literal[Attribution.CURRENT] | None = None


class CountedVisit(Response):
    """The stay that was counted, or those of the deal in the stage added up (`reentry=sum`)."""

    model_config = example(_VISIT)

    stage: str
    entered_at: Instant = Field(description="Of stays added up: of the first.")
    left_at: Instant | None = Field(description="Null: under way at `as_of`.")
    seconds: float = Field(description="How long it lasted, or had lasted at `as_of`.")

    @classmethod
    def of(cls, stay: Stay, ranking: Ranking) -> Self:
        return cls(
            stage=ranking.stage(stay.slot).key,
            entered_at=stay.entered_at,
            left_at=stay.left_at,
            seconds=seconds(stay.lasted) or 0.0,
        )


class CountedDeal(Response):
    """One thing that was counted: a deal as it was at `as_of`, or a visit of that deal.

    Its name and `external_id` are those of now. Of a deal closed by then, the facts are those
    frozen at its close.
    """

    model_config = example(_DEAL)

    opportunity_id: Id
    external_id: str | None
    name: str
    status: Status
    stage: str = Field(description="Where it stood.")
    stage_entered_at: Instant
    amount: Money | None
    owner: str | None
    team: str | None
    source: str | None
    priority: str | None
    opened_at: Instant
    closed_at: Instant | None
    visit: CountedVisit | None = Field(description="Null where deals are counted, and not visits.")

    @classmethod
    def of(cls, held: Listed, ranking: Ranking) -> Self:
        facts = held.facts
        return cls(
            opportunity_id=held.opportunity_id,
            external_id=held.external_id,
            name=held.name,
            status=held.status.value,
            stage=ranking.stage(held.slot).key,
            stage_entered_at=held.entered_at,
            amount=money_of(facts.amount, facts.currency),
            owner=facts.owner,
            team=facts.team,
            source=facts.source,
            priority=facts.priority,
            opened_at=held.opened_at,
            closed_at=held.closed_at,
            visit=held.stay and CountedVisit.of(held.stay, ranking),
        )


Policy = TypeVar("Policy", bound=MetricPolicy)


class CountedDealPage(Response, Generic[Policy]):
    """A page of what one count counts. Every metric names its own."""

    definition: DefinitionRef
    policy: Policy
    cell: str
    items: list[CountedDeal] = Field(
        description="Deals in the order of their ids; visits in that of their beginnings, or of"
        " their ends where those are what is counted."
    )
    page: PageInfo


def _shown(
    metric: str, policy: type[MetricPolicy], cell: str, visit: dict[str, Any] | None = None
) -> Any:
    extra: Any = policy.model_config["json_schema_extra"]
    return example(
        {
            "definition": defined(metric),
            "policy": extra["examples"][0],
            "cell": cell,
            "items": [{**_DEAL, "visit": visit}],
            "page": {"next_cursor": None},
        }
    )


class FunnelDealPage(CountedDealPage[FunnelPolicy]):
    """What a count of the funnel counts."""

    model_config = _shown("funnel", FunnelPolicy, "reached.quote")


class TimeInStageDealPage(CountedDealPage[TimeInStagePolicy]):
    """What a count of time in stage counts."""

    model_config = _shown("time-in-stage", TimeInStagePolicy, "completed.quote", _VISIT)


class ClosingsDealPage(CountedDealPage[ClosingsPolicy]):
    """What a count of cycle time, win rate or loss reasons counts."""

    model_config = _shown("win-rate", ClosingsPolicy, "won")


class SnapshotDealPage(CountedDealPage[SnapshotPolicy]):
    """What a count of the snapshot counts."""

    model_config = _shown("snapshot", SnapshotPolicy, "idle.quote")


class FlowDealPage(CountedDealPage[FlowPolicy]):
    """What a count of the flow or of the matrix counts."""

    model_config = _shown("flow", FlowPolicy, "exits.quote", _VISIT)


class CumulativeFlowDealPage(CountedDealPage[CumulativeFlowPolicy]):
    """What a count of the cumulative flow counts."""

    model_config = _shown("cumulative-flow", CumulativeFlowPolicy, "entries.quote.0", _VISIT)
