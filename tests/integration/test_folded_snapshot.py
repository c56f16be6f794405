"""A deal that somebody has followed up in time is not idle, whether its row or a segment tells.

Activities make no new version of a deal, so no segment holds them: one that was recorded after the
deal was folded counts like any other.
"""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.actions.fold_deals import fold_deals
from app.domain.access import WHOLE
from app.domain.measures import snapshot
from app.domain.measures.hindsight import Deed, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Dimension, Selection
from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from app.storage.queries.question import Asked
from app.storage.queries.snapshot import standings
from tests.metric_cases import examples
from tests.past_deals import PastDeal, at, define, insert, past_deal, revisions

pytestmark = pytest.mark.asyncio

AS_OF = at(8)
TICK = timedelta(microseconds=1)
BESIDE = (-TICK, timedelta(0), TICK)
# Who calls keeps a deal of these pasts from being idle for two steps.
deeds = st.builds(
    lambda kind, hour, beside: Deed(kind, at(hour) + beside, at(hour) + beside),
    st.sampled_from(("call", "call", "note")),
    st.sampled_from((5, 6, 6, 7, 8)),
    st.sampled_from(BESIDE),
)


@st.composite
def followed_up(draw: st.DrawFn, pipeline: Pipeline) -> PastDeal:
    """An open deal in a stage whose clock looks at moves, or at calls, with what was done for it.

    Mostly it came there long before T, sometimes just so long that it is idle, or after T.
    """
    stages = st.sampled_from(("lead", "quote", "quote", "talks"))
    stays = [(draw(stages), at(0))]
    if draw(st.booleans()):
        stays.append((draw(stages), at(draw(st.sampled_from((2, 5, 6, 9))))))
    deal = past_deal(pipeline, stays, priority=draw(st.sampled_from(("high", None))))
    activities = draw(st.lists(deeds, max_size=2))
    return replace(deal, history=replace(deal.history, activities=activities))


@examples
@given(data=st.data(), beside=st.sampled_from(BESIDE), ahead=st.sampled_from((0, 0, 3)))
async def test_an_activity_keeps_a_folded_deal_from_being_idle(
    database: Database, workspace: UUID, data: st.DataObject, beside: timedelta, ahead: int
) -> None:
    defined = revisions()
    latest = defined[-1]
    deals = data.draw(st.lists(followed_up(latest), min_size=1, max_size=10))
    folded = data.draw(st.integers(1, len(deals)))
    for revision in defined:
        await define(database, workspace, revision, at(4 * revision.revision - 6))
    await insert(database, workspace, latest, deals[:folded])
    assert await fold_deals(database, workspace, latest.key, enough=1) == folded
    await insert(database, workspace, latest, deals[folded:])
    selection = Selection(as_of=AS_OF + beside, group_by=Dimension("priority"))
    now = selection.as_of - timedelta(hours=ahead)
    asked = Asked(workspace, WHOLE, Ranking(latest, latest), selection, now)
    async with database.read(workspace) as connection:
        found = await standings(connection, asked, grouped=True)
    then = [seen(latest, deal.history, selection) for deal in deals]
    sighted = [deal for deal in then if deal is not None]
    assert found == snapshot.measure(asked.ranking, sighted, selection, now)
