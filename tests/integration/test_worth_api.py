"""Velocity and bottlenecks over HTTP: figures on a small past."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import httpx
import pytest

from app.domain.measures.hindsight import FactChange
from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from tests.january import DAY, asked, day, deal, define_sales, insert_january
from tests.past_deals import PastDeal, insert


@pytest.fixture
async def sales(database: Database, workspace: UUID) -> Pipeline:
    return await define_sales(database, workspace)


@pytest.fixture
async def past(database: Database, workspace: UUID, sales: Pipeline) -> Pipeline:
    await insert_january(database, workspace, sales)
    return sales


def in_yen_since(instant: datetime, opened: PastDeal) -> PastDeal:
    """The deal, in euros until then."""
    change = FactChange("currency", "EUR", instant, instant)
    facts = replace(opened.history.facts, currency="JPY")
    history = replace(opened.history, facts=facts, changes=[change])
    return replace(opened, history=history, changes=[(change, "JPY")])


async def test_velocity_is_made_of_four_inputs_of_one_currency(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    euros, yen, none = (await asked(client, "velocity"))["total"]["currencies"]
    assert (euros["currency"], euros["open_deals"], euros["won_with_amount"]) == ("EUR", 1, 2)
    assert (euros["win_rate"]["count"], euros["win_rate"]["of"]) == (2, 3)
    assert euros["mean_won_amount"] == {"amount": "200.00", "currency": "EUR"}
    assert euros["mean_won_cycle_seconds"] == 6 * DAY
    # 1 × 2/3 × 200 ÷ 6, rounded once.
    assert euros["velocity_per_day"] == {"amount": "22.2222", "currency": "EUR"}
    assert yen["velocity_per_day"] == {"amount": "0", "currency": "JPY"}
    assert (none["currency"], none["open_deals"]) == (None, 1)
    assert (none["win_rate"]["rate"], none["mean_won_amount"]) == (None, None)
    assert (none["mean_won_cycle_seconds"], none["velocity_per_day"]) == (None, None)


async def test_velocity_of_a_period_takes_its_closes_and_all_open_deals(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    first = await asked(client, "velocity", to="2024-01-08", group_by="owner")
    (euros, none) = first["total"]["currencies"]
    # 1 × 1/1 × 100 ÷ 4
    assert euros["velocity_per_day"] == {"amount": "25.00", "currency": "EUR"}
    assert none["currency"] is None
    ada, ben, nobody = first["groups"]
    assert (ada["value"], ada["currencies"][0]["open_deals"]) == ("ada", 1)
    assert ada["currencies"][0]["velocity_per_day"] is None
    assert [row["currency"] for row in ben["currencies"]] == [None]
    assert (nobody["value"], nobody["currencies"][0]["win_rate"]["of"]) == (None, 1)
    alone = await asked(client, "velocity", to="2024-01-08", currency="EUR")
    assert alone["total"]["currencies"] == [euros]


async def test_velocity_takes_the_currency_of_now_or_the_one_that_the_last_move_froze(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    opened = deal(sales, ("lead", 1), currency="EUR")
    await insert(database, workspace, sales, [in_yen_since(day(5), opened)])
    for attribution, currency in (("current", "JPY"), ("at_move", "EUR")):
        found = await asked(client, "velocity", attribution=attribution)
        (row,) = found["total"]["currencies"]
        assert (row["currency"], row["open_deals"]) == (currency, 1)


async def test_velocity_as_it_was_known_has_a_won_cycle_in_the_currency_in_which_it_was_won(
    client: httpx.AsyncClient, database: Database, workspace: UUID, sales: Pipeline
) -> None:
    won = deal(sales, ("lead", 1), ("won", 5), amount=Decimal(100), currency="EUR")
    await insert(database, workspace, sales, [in_yen_since(day(90), won)])
    for known_at in (day(80), day(100)):
        known = await asked(client, "velocity", known_at=known_at.isoformat())
        (euros,) = known["total"]["currencies"]
        assert (euros["currency"], euros["won_with_amount"]) == ("EUR", 1)
        assert euros["mean_won_cycle_seconds"] == 4 * DAY


async def test_an_open_deal_counts_at_t_though_it_has_been_closed_since(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    then = await asked(client, "velocity", as_of="2024-01-05T00:00:00Z")
    (euros,) = then["total"]["currencies"]
    assert (euros["open_deals"], euros["win_rate"]["of"]) == (4, 0)
    assert (euros["velocity_per_day"], euros["mean_won_cycle_seconds"]) == (None, None)


async def test_velocity_of_nothing_is_no_row(client: httpx.AsyncClient, sales: Pipeline) -> None:
    answer = await asked(client, "velocity", group_by="owner")
    assert (answer["total"], answer["groups"]) == ({"currencies": []}, [])


async def test_bottlenecks_are_placed_by_what_a_point_and_a_quartile_would_bring(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    lead, offer = (await asked(client, "bottlenecks"))["total"]["stages"]
    assert [row["currency"] for row in lead["worth"]] == ["EUR", "JPY", None]
    euros, yen, none = lead["worth"]
    assert (euros["reached"], euros["won_with_amount"]) == (4, 2)
    assert (
        euros["next_conversion_to_won"]["count"],
        euros["next_conversion_to_won"]["of"],
    ) == (2, 3)
    # 0.01 × 4 × 2/3 × 200, and at the offer 0.01 × 3 × 1 × 200.
    assert (euros["worth"]["amount"], euros["place"]) == ("5.3333", 2)
    assert (offer["worth"][0]["worth"]["amount"], offer["worth"][0]["place"]) == ("6.00", 1)
    assert offer["worth"][0]["next_conversion_to_won"] is None
    assert (yen["worth"]["amount"], yen["place"], offer["worth"][1]["place"]) == ("10", 1, 1)
    assert (none["reached"], none["mean_won_amount"], none["worth"]) == (1, None, None)
    assert none["place"] is None
    # Stays in lead: 2, 2, 4 and 10 days of 5 entries; in offer 2, 4 and 4 of 4.
    assert (lead["entries"], lead["completed"]) == (5, 4)
    assert (lead["p25_seconds"], lead["p50_seconds"]) == (2 * DAY, 3 * DAY)
    assert (lead["days_saved"], lead["place"]) == (5.0, 1)
    assert (offer["days_saved"], offer["place"]) == (4.0, 2)


async def test_bottlenecks_without_a_completed_stay_or_a_won_deal_have_no_place(
    client: httpx.AsyncClient, past: Pipeline
) -> None:
    group = (await asked(client, "bottlenecks", group_by="owner"))["groups"][0]
    lead, offer = group["stages"]
    assert (group["value"], lead["entries"], lead["completed"]) == ("ada", 1, 0)
    assert (lead["days_saved"], lead["place"], lead["p50_seconds"]) == (None, None, None)
    assert (lead["worth"][0]["worth"], lead["worth"][0]["place"]) == (None, None)
    assert (offer["entries"], offer["place"]) == (0, None)
