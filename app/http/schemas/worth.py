"""Velocity and bottlenecks as callers see them: what pace and conversion are worth, by currency."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Self

from pydantic import Field

from app.domain.measures import bottlenecks, velocity
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Value
from app.http.schemas.common import CurrencyCode, MoneySum, Response
from app.http.schemas.definitions import DefinitionRef, defined
from app.http.schemas.metrics import (
    POLICY,
    SHARE,
    PeriodPolicy,
    Share,
    example,
    in_order,
    naming,
    seconds,
)

_MEAN: Final = {"amount": "1250.00", "currency": "EUR"}
_PACE: Final[dict[str, Any]] = {
    "currency": "EUR",
    "open_deals": 12,
    "win_rate": SHARE,
    "won_with_amount": 41,
    "mean_won_amount": _MEAN,
    "mean_won_cycle_seconds": 864000.0,
    "velocity_per_day": {"amount": "768.75", "currency": "EUR"},
}
_PACES: Final[dict[str, Any]] = {"currencies": [_PACE]}
_WORTH: Final[dict[str, Any]] = {
    "currency": "EUR",
    "reached": 80,
    "next_conversion_to_won": SHARE,
    "won_with_amount": 41,
    "mean_won_amount": _MEAN,
    "worth": {"amount": "512.50", "currency": "EUR"},
    "place": 1,
}
_BOTTLENECK: Final[dict[str, Any]] = {
    "key": "quote",
    "name": "Quote",
    "rank": 2,
    "worth": [_WORTH],
    "entries": 90,
    "completed": 78,
    "p25_seconds": 86400.0,
    "p50_seconds": 259200.0,
    "days_saved": 180.0,
    "place": 1,
}
_BOTTLENECKS: Final[dict[str, Any]] = {"stages": [_BOTTLENECK]}


class WorthPolicy(PeriodPolicy):
    """The rules of velocity and of bottlenecks: one attribution for all that they are made of."""

    model_config = example(POLICY)


class CurrencyVelocity(Response):
    """open_deals × win_rate × mean_won_amount ÷ mean_won_cycle in days, of one currency's deals."""

    model_config = example(_PACE)

    currency: CurrencyCode | None = Field(description="Null: the deals that bear none.")
    open_deals: int = Field(description="Open at `as_of`.")
    win_rate: Share = Field(description="won / (won + lost) of the deals closed in the period.")
    won_with_amount: int = Field(description="Of the won deals, those that bear an amount.")
    mean_won_amount: MoneySum | None = Field(
        description="Of those; rounded to 4 places, ties to even. Null where there are none."
    )
    mean_won_cycle_seconds: float | None = Field(description="Null where no deal was won.")
    velocity_per_day: MoneySum | None = Field(
        description="Made of the exact inputs, rounded once, to 4 places, ties to even. Null where"
        " an input is null, or the cycles took no time."
    )


class VelocityFigures(Response):
    """Money a day, a row for each currency: each of the deals that a filter by it would leave."""

    model_config = example(_PACES)

    currencies: list[CurrencyVelocity]

    @classmethod
    def of(cls, found: Mapping[Value, velocity.Velocity], _ranking: Ranking, **more: Any) -> Self:
        rows = [_currency_velocity(currency, found[currency]) for currency in in_order(found)]
        return cls(currencies=rows, **more)


class VelocityGroup(VelocityFigures):
    """The velocity of the deals that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_PACES})

    value: str | None


class Velocity(Response):
    """How much money a pipeline brings in a day."""

    model_config = example(
        {"definition": defined("velocity"), "policy": POLICY, "total": _PACES, "groups": None}
    )

    definition: DefinitionRef
    policy: WorthPolicy
    total: VelocityFigures
    groups: Iterable[VelocityGroup] | None = Field(description="Null without `group_by`.")


class ConversionWorth(Response):
    """0.01 × reached × next_conversion_to_won × mean_won_amount, of one currency's cohort."""

    model_config = example(_WORTH)

    currency: CurrencyCode | None = Field(description="Null: the deals that bear none.")
    reached: int = Field(description="Deals opened in the period that came at least this far.")
    next_conversion_to_won: Share | None = Field(
        description="From the next rank on; null where that is the won rank, whose own is 1."
    )
    won_with_amount: int = Field(description="Deals of the cohort that are won, with an amount.")
    mean_won_amount: MoneySum | None = Field(
        description="Of those; rounded to 4 places, ties to even. Null where there are none."
    )
    worth: MoneySum | None = Field(
        description="Of one more point of conversion here; null without a mean won amount."
    )
    place: int | None = Field(
        description="Among the stages, by worth in this currency: 1 is the largest, equal ones"
        " share theirs. Null without a worth."
    )


class Bottleneck(Response):
    """What more conversion, and more speed, at one stage of the path would be worth.

    days_saved = (p50 - p25 of the completed stays) × entries.
    """

    model_config = example(_BOTTLENECK)

    key: str
    name: str
    rank: int
    worth: list[ConversionWorth] = Field(description="By currency.")
    entries: int = Field(description="Visits entered in the period.")
    completed: int = Field(description="Of those, the ones that had ended.")
    p25_seconds: float | None = Field(description="Of the completed; null where there are none.")
    p50_seconds: float | None
    days_saved: float | None = Field(description="Days of 24 hours; null without quantiles.")
    place: int | None = Field(
        description="Among the stages, by days_saved: 1 is the largest, equal ones share theirs."
    )


class BottlenecksFigures(Response):
    """The stages of the path, in its order."""

    model_config = example(_BOTTLENECKS)

    stages: list[Bottleneck]

    @classmethod
    def of(cls, found: bottlenecks.Inputs, ranking: Ranking, **more: Any) -> Self:
        stages = bottlenecks.bottlenecks(ranking, found)
        return cls(stages=[_bottleneck(stage, ranking) for stage in stages], **more)


class BottlenecksGroup(BottlenecksFigures):
    """The bottlenecks of the deals that bear one value; null: of those that bear none."""

    model_config = example({"value": "mia", **_BOTTLENECKS})

    value: str | None


class Bottlenecks(Response):
    """Where a little more conversion, or speed, would be worth the most."""

    model_config = example(
        {
            "definition": defined("bottlenecks"),
            "policy": POLICY,
            "total": _BOTTLENECKS,
            "groups": None,
        }
    )

    definition: DefinitionRef
    policy: WorthPolicy
    total: BottlenecksFigures
    groups: Iterable[BottlenecksGroup] | None = Field(description="Null without `group_by`.")


def _currency_velocity(currency: Value, found: velocity.Velocity) -> CurrencyVelocity:
    return CurrencyVelocity(
        currency=currency,
        open_deals=found.open_deals,
        win_rate=Share.of_(found.win_rate),
        won_with_amount=found.priced,
        mean_won_amount=_money(found.mean_won_amount, currency),
        mean_won_cycle_seconds=seconds(found.mean_won_cycle),
        velocity_per_day=_money(found.per_day, currency),
    )


def _bottleneck(found: bottlenecks.Bottleneck, ranking: Ranking) -> Bottleneck:
    named = naming(found.stage, ranking)
    del named["off_path"]  # no stage of the path is
    return Bottleneck(
        **named,
        worth=_worths(found.worth),
        entries=found.entries,
        completed=found.completed.count,
        p25_seconds=seconds(found.completed.p25),
        p50_seconds=seconds(found.completed.p50),
        days_saved=found.days_saved,
        place=found.place,
    )


def _worths(found: Sequence[bottlenecks.Worth]) -> list[ConversionWorth]:
    return [
        ConversionWorth(
            currency=row.currency,
            reached=row.reached,
            next_conversion_to_won=row.onward and Share.of_(row.onward),
            won_with_amount=row.priced,
            mean_won_amount=_money(row.mean_won_amount, row.currency),
            worth=_money(row.worth, row.currency),
            place=row.place,
        )
        for row in found
    ]


def _money(amount: Decimal | None, currency: Value) -> MoneySum | None:
    return None if amount is None or currency is None else MoneySum.of(amount, currency)
