"""Metrics asked nonsense: a problem that says where and why; never a failure, never an ignoring."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.measures.figures import Figure
from app.storage.engine import Database
from tests.metric_routes import LISTS, SQL, Pair, Route, World, opened_world, sound

Breaches = dict[str, set[tuple[str, str]]]


@pytest.fixture(scope="module")
async def world(database: Database, login_url: str) -> AsyncIterator[World]:
    async with opened_world(database, login_url) as found:
        yield found


async def refused(world: World, status: int, routes: Sequence[Route], *pairs: Pair) -> Breaches:
    """By path: where and why each of the routes refuses this, with this status."""
    assert routes
    found = {}
    for route in routes:
        answer = await world.ask(route, "sales", *pairs)
        assert answer.status_code == status, (route.path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        errors = answer.json()["errors"]
        found[route.path] = {(each["pointer"].removesuffix(".0"), each["code"]) for each in errors}
    return found


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        *((name, "red", "unknown_field") for name in ("colour", "attributes", "\0", SQL)),
        ("group_by", "astrology", "not_one_of"),
        ("timezone", "Mars/Olympus", "unknown_timezone"),
        *((f"{of}from", "0001-01-01", "wrong_format") for of in ("", "against_")),
        *((f"{of}to", "9999-12-31", "wrong_format") for of in ("", "against_")),
        ("as_of", "292277026596", "wrong_format"),
        *((name, "2999-01-01T00:00:00Z", "out_of_range") for name in ("as_of", "known_at")),
        *(("revision", text, "out_of_range") for text in ("0", "2")),
        ("limit", "201", "out_of_range"),
        *((name, "\0", "wrong_format") for name in ("owner", "attributes.region")),
        *((name, "x" * 10_000, "too_long") for name in ("tag", "attributes.region")),
        ("opened_month", "2024-13", "wrong_format"),
        ("by", "hour", "not_one_of"),
        ("figure", "happiness", "not_one_of"),
        ("outcome", "drawn", "not_one_of"),
        ("attribution", "yesterday", "not_one_of"),
        ("basis", "gut feeling", "not_one_of"),
        ("population", "everyone", "not_one_of"),
        ("reentry", "never", "not_one_of"),
        ("skip", "class", "not_one_of"),
        *(("cell", text, "not_one_of") for text in ("", "\0", SQL, "reached.lead.lead")),
        ("cursor", "x" * 10_000, "too_long"),
    ],
)
async def test_every_metric_refuses_what_means_nothing_where_it_stands(
    world: World, name: str, value: str, code: str
) -> None:
    routes = world.takers([(name, value)])
    for path, breaches in (await refused(world, 422, routes, (name, value))).items():
        assert (f"?{name}", code) in breaches, path


DAYS = ("9999-12-31", "2024-02-30", "2024-13-01", "292277026596-01-01", "20240101", "2024-01-01T")
INSTANTS = ("infinity", "now", "", "-1", "1e400", "2024-01-01T25:00:00Z", "\0", "０")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        *((name, "red", "unknown_field") for name in ("attributes.", "Owner", "owner[]", "")),
        *(("group_by", text, "not_one_of") for text in ("", "Owner", "owner,team", "\0", SQL)),
        *(("group_by", "attributes." + text, "not_one_of") for text in ("", "\0", "x" * 10_000)),
        *(("timezone", text, "unknown_timezone") for text in ("../UTC", "europe/berlin", SQL)),
        *(("timezone", text, "wrong_format") for text in ("UTC\0", "UTC\n")),
        ("timezone", "x" * 10_000, "too_long"),
        *((name, text, "wrong_format") for text in DAYS for name in ("from", "to")),
        *((name, text, "wrong_format") for text in INSTANTS for name in ("from", "as_of")),
        *(("as_of", f"{day}T00:00:00Z", "wrong_format") for day in ("0001-01-01", "9999-12-31")),
        *(("revision", text, "out_of_range") for text in ("-1", "2147483648", "9" * 99)),
        *(("revision", text, "wrong_type") for text in ("one", "1.5", "", "１")),
        *(("limit", text, "out_of_range") for text in ("0", "9" * 9)),
        *(("limit", text, "wrong_type") for text in ("all", "-1", "1e2", "9" * 99)),
        *(("opened_month", text, "wrong_format") for text in ("", "0001-01", "2024-1", SQL)),
        ("cell", "x" * 10_000, "too_long"),
    ],
)
async def test_whatever_is_no_such_thing_is_refused(
    world: World, name: str, value: str, code: str
) -> None:
    routes = world.takers([(name, value)])[:1]  # they all read it alike
    ((_, breaches),) = (await refused(world, 422, routes, (name, value))).items()
    assert (f"?{name}", code) in breaches


@pytest.mark.parametrize(
    ("pairs", "pointer", "code"),
    [
        ([("from", "2024-02-01"), ("to", "2024-01-31")], "?to", "out_of_range"),
        (
            [("against_from", "2024-02-02"), ("against_to", "2024-02-01")],
            "?against_to",
            "out_of_range",
        ),
        ([("from", "1900-01-01"), ("to", "2999-12-31"), ("by", "day")], "?by", "out_of_range"),
        ([("from", "1900-01-01"), ("to", "2999-12-31"), ("by", "month")], "?by", "out_of_range"),
        ([("stage", "nowhere"), ("figure", "reached")], "?stage", "unknown_stage"),
        ([("stage", "nowhere"), ("reentry", "every")], "?stage", "unknown_stage"),
        ([("stage", "lead"), ("figure", "win_rate")], "?stage", "unknown_field"),
        ([("skip", "observed"), ("reentry", "every")], "?skip", "not_one_of"),
        ([("owner", str(number)) for number in range(51)], "?owner", "too_long"),
        (
            [("attribution", "current"), *(("attributes.a", str(n)) for n in range(51))],
            "?attributes.a",
            "too_long",
        ),
        *(
            ([(name, value), (name, value)], f"?{name}", "duplicate")
            for name, value in (
                ("from", "2024-01-01"),
                ("as_of", "2024-01-01T00:00:00Z"),
                ("timezone", "UTC"),
                ("group_by", "owner"),
                ("revision", "1"),
                ("cell", "deals"),
                ("limit", "1"),
                ("figure", "won"),
            )
        ),
    ],
)
async def test_what_contradicts_itself_is_refused_where_it_stands(
    world: World, pairs: list[Pair], pointer: str, code: str
) -> None:
    routes = world.takers(pairs)
    for path, breaches in (await refused(world, 422, routes, *pairs)).items():
        assert breaches == {(pointer, code)}, path


@pytest.mark.parametrize("value", ["current", "at_move"])
async def test_a_list_takes_the_attribution_that_its_figure_takes(world: World, value: str) -> None:
    by_path = {route.path: route for route in world.routes}
    lists = [route for path, route in by_path.items() if path.endswith("/deals")]
    assert len(lists) > 5
    for route in lists:
        figure = by_path[route.path.removesuffix("/deals")]
        of_list, of_figure = [
            (await world.ask(each, "sales", ("attribution", value))).status_code
            for each in (route, figure)
        ]
        assert of_list == of_figure, route.path
        assert of_list in (200, 422), route.path


@pytest.mark.parametrize("value", ["x", "_-" * 100, "e30", "%00", "\0", "🎲", SQL])
async def test_a_cursor_that_was_never_given_is_refused(world: World, value: str) -> None:
    pair = ("cursor", value)
    for path, breaches in (await refused(world, 400, world.takers([pair]), pair)).items():
        assert (breaches, path.endswith(LISTS)) == (set(), True)


@pytest.mark.parametrize("pair", [("owner", "\ud800"), ("attributes.\udfff", "x"), ("\ud800", "")])
async def test_what_is_no_text_is_malformed(world: World, pair: Pair) -> None:
    for route in world.routes:
        answer = await world.ask(route, "sales", pair)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), route.path


@pytest.mark.parametrize("key", ["nowhere", "SALES", "%00", "sales%2F..", "x" * 10_000, quote(SQL)])
async def test_a_pipeline_that_there_is_not_is_not_found(world: World, key: str) -> None:
    for route in world.routes:
        answer = await world.ask(route, key)
        assert answer.status_code == 404, (route.path, answer.text)


@pytest.mark.parametrize(
    "asked", ["/nonsense", "/%00", f"/{quote(SQL)}", "?colour=red", "/funnel?x"]
)
async def test_definitions_of_nothing_are_refused(world: World, asked: str) -> None:
    answer = await world.client.get(f"/v1/metric-definitions{asked}")
    assert answer.status_code == (422 if "?" in asked else 404)


DATES = ("2024-01-01", "2024-01-03", "2024-02-01", "2011-12-30", "1900-01-01", "2999-12-31")
NASTY: dict[str, tuple[str, ...]] = {
    "from": DATES,
    "to": DATES,
    "against_from": DATES,
    "against_to": DATES,
    "as_of": tuple(f"{date}T00:00:00Z" for date in DATES),
    "known_at": tuple(f"{date}T12:34:56.789Z" for date in DATES),
    "revision": ("1", "0", "2"),
    "timezone": ("UTC", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu", "Mars/Olympus"),
    "attribution": ("current", "at_move"),
    "group_by": ("owner", "tag", "currency", "opened_month", "attributes.a.b", "moon"),
    "owner": ("ada", "", SQL),
    "tag": ("hot", "", "x" * 201),
    "currency": ("EUR", "", "XXX"),
    "opened_month": ("2024-01", "1900-01", "2024-1"),
    "attributes.a.b": ("odd", ""),
    "by": ("day", "week", "month", "quarter"),
    "figure": tuple(Figure),
    "stage": ("lead", "offer", "parked", "won", "nowhere"),
    "to_stage": ("offer", "won", ":handed_off", ":none", "nowhere"),
    "outcome": ("won", "lost", "all"),
    "reason": ("price", ":none", ":handed_off", "unheard-of"),
    "population": ("closed", "opened", "entered", "left"),
    "reentry": ("first", "every", "sum"),
    "skip": ("implied", "observed"),
    "group": ("ada", "hot", "EUR", "2024-01", ""),
    "against": ("ben", "cold", "JPY", "2024-02", ""),
    "cell": ("deals", "won", "rate.of", "reached.rank:4", "completed.lead", "exits.:none", "open"),
    "limit": ("1", "200", "201"),
}
ANYTHING = ("", "0", "-1", "NaN", "Infinity", "null", "[]", "{}", "%", "\0", "é", "x" * 300, SQL)


@st.composite
def questions(draw: st.DrawFn, route: Route) -> list[Pair]:
    """Any parameters of the route, mostly with values that it might take."""
    names = [*sorted(route.takes), "attributes.a.b"]
    if not draw(st.integers(0, 7)):
        names.append(draw(st.sampled_from(("colour", "attributes.", "attributes.%", SQL))))
    asked = []
    for name in draw(st.lists(st.sampled_from(names), max_size=6, unique=True)):
        likely = NASTY.get(name, ANYTHING) if draw(st.integers(0, 7)) else ANYTHING
        values = st.lists(st.sampled_from(likely), min_size=1, max_size=2)
        asked += [(name, value) for value in draw(values)[: draw(st.sampled_from((1, 1, 1, 2)))]]
    return asked


@settings(max_examples=150)
@given(data=st.data())
async def test_whatever_is_asked_is_answered_or_refused(world: World, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(world.routes))
    pairs = data.draw(questions(route))
    answer = await world.ask(route, data.draw(st.sampled_from(("sales", "unused"))), *pairs)
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code == 200:
        sound(answer)
    elif answer.status_code == 422:
        breaches = answer.json()["errors"]
        assert breaches
        assert all(each["pointer"].startswith("?") and each["detail"] for each in breaches)
