"""Whose deals one sees, and who may give that sight away."""

from itertools import product

import pytest

from app.domain.access import RowScope, Sight

OWNERS = ("ada", "ben", "cleo", None)
TEAMS = ("north", "south", "west", None)
SIGHTS = tuple(
    Sight(rows, subject, team)
    for rows, subject, team in product(RowScope, OWNERS[:2], ("north", "south", None))
)


def held(sight: Sight) -> set[tuple[str | None, str | None]]:
    """Every kind of deal that it holds, by owner and team: nobody's among them."""
    return {deal for deal in product(OWNERS, TEAMS) if sight.holds(*deal)}


@pytest.mark.parametrize(
    ("sight", "deals"),
    [
        (Sight(RowScope.ALL, "ada"), set(product(OWNERS, TEAMS))),
        (Sight(RowScope.OWN, "ada", "north"), set(product(["ada"], TEAMS))),
        (
            Sight(RowScope.TEAM, "ada", "north"),
            set(product(["ada"], TEAMS)) | set(product(OWNERS, ["north"])),
        ),
        (Sight(RowScope.TEAM, "ada"), set(product(["ada"], TEAMS))),
    ],
)
def test_a_sight_holds_the_callers_deals_those_of_the_team_or_all(
    sight: Sight, deals: set[tuple[str | None, str | None]]
) -> None:
    assert held(sight) == deals


@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_a_sight_covers_another_just_where_it_holds_all_that_the_other_holds(sight: Sight) -> None:
    covered = {other for other in SIGHTS if sight.covers(other)}
    assert covered == {other for other in SIGHTS if held(other) <= held(sight)}
