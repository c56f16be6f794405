"""The funnel and the snapshot as callers see them: deals by stage."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Self

from pydantic import Field

from app.domain import funnel
from app.domain.measures.ranking import Ranking
from app.domain.measures.snapshot import Standing
from app.domain.measures.sums import NONE, Count, added
from app.domain.pipeline import StageKind
from app.http.schemas.common import MoneySum, Response
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.metrics import (
    CONVERSION_BENCHMARK,
    EUROS,
    POLICY,
    SHARE,
    ConversionBenchmark,
    FunnelPolicy,
    Share,
    SnapshotPolicy,
    example,
    naming,
    seconds,
    sums,
)

_COUNTS: Final = (
    *("reached", "entered", "implied", "open_furthest", "lost_furthest", "handed_off_furthest"),
)
_STAGE: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "rank": 2,
    "kind": "open",
    "reached": 80,
    "entered": 74,
    "implied": 6,
    "open_furthest": 12,
    "lost_furthest": 26,
    "handed_off_furthest": 1,
    "ever_won": None,
    "won_undone": None,
    **{f"amount_{name}": EUROS for name in _COUNTS},
    "amount_ever_won": None,
    "amount_won_undone": None,
    "conversion_to_next": SHARE,
    "conversion_from_start": {**SHARE, "count": 80, "of": 100, "rate": 0.8},
    "conversion_to_won": SHARE,
    "conversion_decided": SHARE,
    "benchmark": CONVERSION_BENCHMARK,
}
_FUNNEL: Final[dict[str, Any]] = {"deals": 100, "stages": [_STAGE]}
_STANDING: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "rank": 2,
    "off_path": False,
    "deals": 12,
    "amount": EUROS,
    "weighted_amount": EUROS,
    "unweighted": 0,
    "median_age_seconds": 259200.0,
    "idle": 3,
    "age_buckets": [{"from_seconds": 0.0, "to_seconds": 172800.0, "deals": 12}],
}
_SNAPSHOT: Final[dict[str, Any]] = {
    "deals": 12,
    "amount": EUROS,
    "weighted_amount": EUROS,
    "unweighted": 0,
    "idle": 3,
    "stages": [_STANDING],
}


class FunnelStage(Response):
    """One rank of the funnel: an open stage on the path, or all won stages together, at the end.

    reached = the next rank's reached + open_furthest + lost_furthest + handed_off_furthest.
    """

    model_config = example(_STAGE)

    key: str | None = Field(description="Null where several won stages share the rank.")
    name: str
    rank: int
    kind: Literal["open", "won"]
    reached: int = Field(description="Deals that came at least this far; won: that are won.")
    entered: int = Field(description="Of those, the ones that visited the stage itself.")
    implied: int = Field(description="Of those, the ones that passed it over.")
    open_furthest: int = Field(description="Open deals that came just this far.")
    lost_furthest: int = Field(description="Lost deals that came just this far.")
    handed_off_furthest: int = Field(description="Deals handed off that came just this far.")
    ever_won: int | None = Field(description="At the won rank: deals that ever entered it.")
    won_undone: int | None = Field(description="At the won rank: of those, no longer won.")
    amount_reached: list[MoneySum]
    amount_entered: list[MoneySum]
    amount_implied: list[MoneySum]
    amount_open_furthest: list[MoneySum]
    amount_lost_furthest: list[MoneySum]
    amount_handed_off_furthest: list[MoneySum]
    amount_ever_won: list[MoneySum] | None
    amount_won_undone: list[MoneySum] | None
    conversion_to_next: Share | None = Field(description="Null at the won rank.")
    conversion_from_start: Share
    conversion_to_won: Share | None = Field(description="Null at the won rank.")
    conversion_decided: Share | None = Field(
        description="To the next rank, of those who neither are open nor were handed off."
        " Null at the won rank."
    )
    benchmark: ConversionBenchmark | None = Field(
        description="`conversion_to_next` beside the stage's `target_conversion`; null without one."
    )

    @classmethod
    def of(cls, rank: funnel.Rank, ranking: Ranking) -> Self:
        counts = {name: getattr(rank, name) for name in (*_COUNTS, "ever_won", "won_undone")}
        return cls(
            **_named(rank.rank, ranking),
            **{name: None if c is None else c.deals for name, c in counts.items()},
            **{
                f"amount_{name}": None if count is None else sums(count.amounts)
                for name, count in counts.items()
            },
            conversion_to_next=rank.to_next and Share.of_(rank.to_next),
            conversion_from_start=Share.of_(rank.from_start),
            conversion_to_won=rank.to_won and Share.of_(rank.to_won),
            conversion_decided=rank.decided and Share.of_(rank.decided),
            benchmark=_benchmark(rank, ranking),
        )


class FunnelFigures(Response):
    """The funnel of a cohort, rank by rank."""

    model_config = example(_FUNNEL)

    deals: int
    stages: list[FunnelStage]

    @classmethod
    def of(cls, ranks: Sequence[funnel.Rank], ranking: Ranking, **more: Any) -> Self:
        stages = [FunnelStage.of(rank, ranking) for rank in ranks]
        return cls(deals=ranks[0].reached.deals, stages=stages, **more)


class FunnelGroup(FunnelFigures):
    """The funnel of the deals that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_FUNNEL})

    value: str | None


class Funnel(Response):
    """How far the deals opened in a period have come."""

    model_config = example(
        {
            "definition": defined("funnel"),
            "policy": {**POLICY, "basis": "cohort", "skip": "implied", "reentry": "first"},
            "total": _FUNNEL,
            "groups": None,
        }
    )

    definition: DefinitionRef
    policy: FunnelPolicy
    total: FunnelFigures
    groups: Iterable[FunnelGroup] | None = Field(description="Null without `group_by`.")


class AgeBucket(Response):
    """Deals whose age lies in `[from_seconds, to_seconds)`; without an end in the last one."""

    model_config = example({"from_seconds": 0.0, "to_seconds": 172800.0, "deals": 12})

    from_seconds: float
    to_seconds: float | None
    deals: int


class SnapshotStage(Response):
    """The open deals that stand in one stage."""

    model_config = example(_STANDING)

    key: str
    name: str
    rank: int | None = Field(description="Its place in the order; null where it has none.")
    off_path: bool
    deals: int
    amount: list[MoneySum]
    weighted_amount: list[MoneySum] = Field(
        description="Amount × probability: the deal's own, else what the stage declares."
    )
    unweighted: int = Field(description="Deals with an amount for which there is no probability.")
    median_age_seconds: float | None = Field(description="Since they entered the stage.")
    idle: int = Field(description="Deals whose age has reached the threshold, without holds.")
    age_buckets: list[AgeBucket] | None = Field(
        description="Bounded by p50, p70, p85 and p95 of the visits that left the stage in the"
        " 365 days before, whoever made them; null where there were none."
    )


class SnapshotFigures(Response):
    """The open deals, all together and stage by stage."""

    model_config = example(_SNAPSHOT)

    deals: int
    amount: list[MoneySum]
    weighted_amount: list[MoneySum]
    unweighted: int
    idle: int
    stages: list[SnapshotStage]

    @classmethod
    def of(cls, standings: Mapping[int, Standing], ranking: Ranking, **more: Any) -> Self:
        found = standings.values()
        whole, weighted = NONE, NONE.amounts
        for standing in found:
            whole += standing.count
            weighted = added(weighted, standing.weighted)
        return cls(
            deals=whole.deals,
            amount=sums(whole.amounts),
            weighted_amount=sums(weighted),
            unweighted=sum(standing.unweighted for standing in found),
            idle=sum(standing.idle for standing in found),
            stages=[
                _standing(standings.get(stage.slot, Standing()), naming(stage, ranking))
                for stage in ranking.listed(standings)
            ],
            **more,
        )


class SnapshotGroup(SnapshotFigures):
    """The open deals that bear one value; null: those that bear none."""

    model_config = example({"value": "mia", **_SNAPSHOT})

    value: str | None


class Snapshot(Response):
    """The open deals at one instant, where they stand."""

    model_config = example(
        {
            "definition": defined("snapshot"),
            "policy": {k: v for k, v in POLICY.items() if k not in ("from", "to")},
            "total": _SNAPSHOT,
            "groups": None,
        }
    )

    definition: DefinitionRef
    policy: SnapshotPolicy
    total: SnapshotFigures
    groups: Iterable[SnapshotGroup] | None = Field(description="Null without `group_by`.")


def _benchmark(rank: funnel.Rank, ranking: Ranking) -> ConversionBenchmark | None:
    if rank.to_next is None:
        return None
    return ConversionBenchmark.of(ranking.path[rank.rank - 1], rank.to_next.rate)


def _named(rank: int, ranking: Ranking) -> dict[str, Any]:
    """The stage of a rank: the won rank may be that of several stages."""
    if rank < ranking.won_rank:
        stage = ranking.path[rank - 1]
        return {"key": stage.key, "name": stage.name, "rank": rank, "kind": "open"}
    won = [
        stage
        for stage in ranking.pipeline.stages
        if stage.kind is StageKind.WON and stage.archived_at is None
    ]
    key = won[0].key if len(won) == 1 else None
    return {"key": key, "name": " / ".join(s.name for s in won), "rank": rank, "kind": "won"}


def _standing(standing: Standing, named: dict[str, Any]) -> SnapshotStage:
    count: Count = standing.count
    ends = [0.0, *standing.boundaries, None]
    return SnapshotStage(
        **named,
        deals=count.deals,
        amount=sums(count.amounts),
        weighted_amount=sums(standing.weighted),
        unweighted=standing.unweighted,
        median_age_seconds=seconds(standing.median_age),
        idle=standing.idle,
        age_buckets=[
            AgeBucket(from_seconds=seconds(low) or 0.0, to_seconds=seconds(high), deals=deals)
            for low, high, deals in zip(ends, ends[1:], standing.buckets, strict=False)
        ]
        or None,
    )
