"""What metrics are asked on random pasts: any T and K, period, filters, group and attribution.

`cases` is a hypothesis strategy of such questions, each with the past that it is about; `answered`
keeps the past, folded as it may be, and asks the database; `repeated` asks once more about one that
is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from app.domain.access import WHOLE, RowScope, Sight
from app.domain.measures.hindsight import Sighting, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Attribution, Dimension, Selection
from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from app.storage.queries.question import Asked
from tests import folded
from tests.folded import Fate
from tests.past_deals import LAST, STEP, Past, PastDeal, at, past_deal
from tests.random_pasts import pasts

FROZEN = (
    ("owner", ("ada", "ben", None)),
    ("team", ("x", None)),
    ("source", ("web", None)),
    ("priority", ("high", "low", None)),
    ("currency", ("EUR", "JPY", None)),
    ("opened_month", ("2024-02", "2024-03")),
)
CURRENT = (
    *FROZEN,
    ("tag", ("hot", "new", None)),
    ("attributes.region", ("north", "true", "7", None)),
)

examples = settings(
    max_examples=60,
    # A workspace holds the pipelines of all examples: each has its own, none sees another's.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def selections(draw: st.DrawFn, *, period: bool = True) -> Selection:
    """T at, between or after the grid's instants; any period, filters, group and attribution."""
    attribution = draw(st.sampled_from(Attribution))
    asked = CURRENT if attribution is Attribution.CURRENT else FROZEN
    filters = {
        Dimension(name): frozenset(draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)))
        for name, values in draw(st.lists(st.sampled_from(asked), max_size=2, unique=True))
    }
    group = draw(st.none() | st.sampled_from([name for name, _ in asked]))
    start, end = sorted((draw(st.integers(-1, LAST)), draw(st.integers(0, LAST + 2))))
    known = draw(st.none() | st.integers(1, LAST + 1))
    return Selection(
        # Often T lies where the rows of some deals answer and those of others do not.
        as_of=at(draw(st.integers(1, LAST + 3) | st.integers(LAST - 3, LAST)))
        + draw(st.sampled_from((0, 1))) * timedelta(hours=1),
        known_at=None if known is None else at(known),
        start=at(start) if period and draw(st.booleans()) else None,
        end=at(end) if period and draw(st.booleans()) else None,
        timezone=draw(st.sampled_from(("UTC", "Pacific/Auckland", "America/New_York"))),
        filters=filters,
        group_by=None if group is None else Dimension(group),
        attribution=attribution,
    )


@dataclass(frozen=True)
class Case:
    """A past and what is asked of it; `revision` is the one whose order of stages counts.

    `ahead` is how far T lies ahead of the clock; `fates` tell which of the deals are folded; who
    asks may see only some of them, by their `sight`.
    """

    past: Past
    fates: Sequence[Fate]
    revision: int
    selection: Selection
    ahead: timedelta
    sight: Sight = WHOLE

    @property
    def now(self) -> datetime:
        return self.selection.as_of - self.ahead

    def asked(self, workspace: UUID) -> Asked:
        return Asked(workspace, self.sight, self.ranking, self.selection, self.now)

    @cached_property
    def ranking(self) -> Ranking:
        return Ranking(self.past.revisions[self.revision], self.past.latest)

    @cached_property
    def sighted(self) -> dict[UUID, Sighting]:
        """The deals as they were at T, by the definition; those that are seen as they are now."""
        found = {
            deal.opportunity_id: seen(self.past.latest, deal.history, self.selection)
            for deal in self.past.deals
            if self.sight.holds(deal.history.facts.owner, deal.history.facts.team)
        }
        return {deal_id: deal for deal_id, deal in found.items() if deal is not None}

    @property
    def deals(self) -> list[Sighting]:
        return [*self.sighted.values()]


_SIGHTS = st.just(WHOLE) | st.builds(
    Sight, st.sampled_from(RowScope), st.sampled_from(("ada", "ben")), st.sampled_from(("x", None))
)


@st.composite
def cases(draw: st.DrawFn, *, period: bool = True) -> Case:
    """A past and a question, which mostly finds at T the pair of `_pair` too."""
    past, selection = draw(pasts(9)), draw(selections(period=period))
    if draw(st.sampled_from((True, True, True, False))):
        keys = [stage.key for stage in past.latest.stages if stage.is_open]
        pair = _pair(past.latest, draw(st.sampled_from(keys)), selection.as_of)
        past = replace(past, deals=[*past.deals, *pair])
    ahead = st.sampled_from([timedelta(hours=hours) for hours in (-1, 0, 1, 30)])
    fates = draw(folded.fates(len(past.deals)))
    return Case(past, fates, draw(st.integers(0, 2)), selection, draw(ahead), draw(_SIGHTS))


def _pair(pipeline: Pipeline, key: str, as_of: datetime) -> list[PastDeal]:
    """Two deals that stood in one stage at T: the row of one answers, the other has moved since.

    What is counted in parts must be added up. Chance alone seldom brings two such deals together.
    """
    entered, left = as_of - STEP, as_of + STEP
    stayed = past_deal(pipeline, [(key, entered)])
    return [stayed, past_deal(pipeline, [(key, entered - STEP), ("won", left)])]


async def keep(database: Database, workspace: UUID, case: Case) -> None:
    """Insert what the case is about, and fold it."""
    await folded.keep(database, workspace, case.past, case.fates)


async def answered(
    database: Database, workspace: UUID, case: Case, query: Any, *arguments: Any
) -> Any:
    """What the database answers to the case, its past being kept first."""
    await keep(database, workspace, case)
    return await repeated(database, workspace, case, query, *arguments)


async def repeated(
    database: Database, workspace: UUID, case: Case, query: Any, *arguments: Any
) -> Any:
    """What it answers about a past that is kept already."""
    async with database.read(workspace) as connection:
        return await query(connection, case.asked(workspace), *arguments, grouped=True)
