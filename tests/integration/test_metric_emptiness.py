"""Metrics of nothing, and of odd but honest questions: zeros, nulls, and figures that are sound."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from app.storage.engine import Database
from tests.metric_routes import LISTS, ODD_NAMES, SQL, Pair, World, answered, counted, opened_world


@pytest.fixture(scope="module")
async def world(database: Database, login_url: str) -> AsyncIterator[World]:
    async with opened_world(database, login_url) as found:
        yield found


async def test_every_metric_answers_once_its_question_is_complete(world: World) -> None:
    found = await answered(world, "sales")
    assert len(found) == len(world.routes) > 20
    assert all(counted(answer) - {0, None} for path, answer in found.items() if LISTS not in path)


CURRENT = ("attribution", "current")
NOBODY = (("owner", SQL), ("owner", "x" * 200), ("source", "%s"), ("tag", "{0}"), ("currency", "€"))


@pytest.mark.parametrize(
    "pairs",
    [
        *([CURRENT, pair] for pair in NOBODY),
        [CURRENT, ("attributes.unheard-of", "x")],
        [CURRENT, *(("attributes.a.b", str(number)) for number in range(50))],
        [("opened_month", "1900-01")],
        [("owner", str(number)) for number in range(50)],
        [("as_of", "1900-01-01T00:00:00Z")],
        [("as_of", "2024-01-02T00:00:00Z")],  # the very instant at which the first deal is opened
        [("known_at", "1900-01-01T00:00:00Z")],
    ],
)
async def test_of_nothing_there_are_zeros_and_nulls(world: World, pairs: list[Pair]) -> None:
    for path, answer in (await answered(world, "sales", *pairs)).items():
        assert counted(answer) <= {0, None}, (path, answer)


@pytest.mark.parametrize(
    ("start", "end"), [("2023-06-01", "2023-06-01"), ("1900-01-01", "1900-01-02")]
)
async def test_a_period_in_which_nothing_was_has_zeros_and_nulls(
    world: World, start: str, end: str
) -> None:
    pairs = [("from", start), ("to", end), ("timezone", "Pacific/Kiritimati")]
    for path, answer in (await answered(world, "sales", *pairs)).items():
        open_now = {2} if path.endswith("/velocity") else set[int]()  # whatever the period
        assert counted(answer) <= {0, None, *open_now}, (path, answer)


@pytest.mark.parametrize("group", [None, "owner", "tag", "opened_month", "attributes.region"])
async def test_a_pipeline_without_deals_has_zeros_and_nulls(
    world: World, group: str | None
) -> None:
    pairs = [] if group is None else [CURRENT, ("group_by", group)]
    for path, answer in (await answered(world, "unused", *pairs)).items():
        assert counted(answer) <= {0, None}, (path, answer)
        assert not answer.get("groups")


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_attribute_may_have_any_name(world: World, name: str) -> None:
    here = [CURRENT, (f"attributes.{name}", "odd")]
    for path, answer in (await answered(world, "sales", *here)).items():
        assert answer["policy"]["filters"] == {f"attributes.{name}": ["odd"]}, path
    grouped = [CURRENT, ("group_by", f"attributes.{name}")]
    snapshot = (await answered(world, "sales", *grouped))[
        "/v1/pipelines/{pipeline}/metrics/snapshot"
    ]
    assert [(group["value"], group["deals"]) for group in snapshot["groups"]] == [
        ("odd", 1),
        (None, 1),
    ]


@pytest.mark.parametrize(
    ("timezone", "start", "end"),
    [
        ("Pacific/Apia", "2011-12-28", "2012-01-03"),  # the 30th of December was left out
        ("Pacific/Apia", "2011-12-30", "2011-12-31"),
        ("Pacific/Kwajalein", "1993-08-19", "1993-08-24"),  # likewise the 21st of August
        ("Asia/Manila", "1900-01-01", "1900-01-08"),
        ("Asia/Kathmandu", "1985-12-30", "1986-01-03"),  # from +05:30 to +05:45
        ("Africa/Monrovia", "1972-01-05", "1972-01-09"),  # -00:44:30 until then
        ("America/St_Johns", "2006-10-27", "2006-10-31"),  # a minute past midnight, back to 23:01
        ("America/Sao_Paulo", "2018-11-02", "2018-11-06"),  # no midnight on the 4th
        ("Africa/Casablanca", "2024-03-08", "2024-03-12"),  # summer time that pauses in Ramadan
        ("Antarctica/Troll", "2024-03-29", "2024-04-02"),  # two hours at once
    ],
)
@pytest.mark.parametrize("by", ["day", "week"])
async def test_clocks_may_change_as_they_like(
    world: World, timezone: str, start: str, end: str, by: str
) -> None:
    pairs = [("timezone", timezone), ("from", start), ("to", end), ("by", by)]
    for path, answer in (await answered(world, "sales", *pairs)).items():
        if path.endswith(LISTS):
            continue  # what lies behind one bucket, and no buckets
        policy, total = answer["policy"], answer["total"]
        buckets = total["buckets"] if "buckets" in total else total["points"]
        edges = [policy["from"], *(bucket["to"] for bucket in buckets)]
        assert [bucket["from"] for bucket in buckets] == edges[:-1], path
        assert edges[-1] == policy["to"]
        assert all(here < later for here, later in pairwise(edges))
