"""A deal that somebody has followed up in time is not idle, whether its row or a segment tells.

Activities make no new version of a deal, so no segment holds them: one that was recorded after the
deal was folded counts like any other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from app.actions.fold_deals import fold_deals
from app.domain.access import WHOLE
from app.domain.measures import snapshot
from app.domain.measures.hindsight import Deed, seen
from app.domain.measures.ranking import Ranking
from app.domain.measures.selection import Dimension, Selection, Value
from app.domain.measures.snapshot import Standing
from app.domain.pipeline import Pipeline
from app.storage.engine import Database
from app.storage.queries.question import Asked
from app.storage.queries.snapshot import standings
from app.storage.segments import kept
from app.storage.segments.columns import Plain
from app.storage.segments.stored import kept_as
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
    latest = await defined(database, workspace)
    deals = data.draw(st.lists(followed_up(latest), min_size=1, max_size=10))
    folded = data.draw(st.integers(1, len(deals)))
    await insert(database, workspace, latest, deals[:folded])
    assert await fold_deals(database, workspace, latest.key, enough=1) == folded
    await insert(database, workspace, latest, deals[folded:])
    selection = Selection(as_of=AS_OF + beside, group_by=Dimension("priority"))
    now = selection.as_of - timedelta(hours=ahead)
    asked = Asked(workspace, WHOLE, Ranking(latest, latest), selection, now)
    async with database.read(workspace) as connection:
        found = await standings(connection, asked, grouped=True)
    assert found == defined_as(asked, deals)


async def defined(database: Database, workspace: UUID) -> Pipeline:
    """The last of the pipeline's revisions, all of which are there."""
    every = revisions()
    for revision in every:
        await define(database, workspace, revision, at(4 * revision.revision - 6))
    return every[-1]


def defined_as(asked: Asked, deals: Sequence[PastDeal]) -> Mapping[Value, Mapping[int, Standing]]:
    """The snapshot in plain Python."""
    then = [seen(asked.ranking.pipeline, deal.history, asked.selection) for deal in deals]
    sighted = [deal for deal in then if deal is not None]
    return snapshot.measure(asked.ranking, sighted, asked.selection, asked.now)


@pytest.mark.parametrize("kind", [None, "note", "call"])
async def test_ids_are_read_where_somebody_was_followed_up_and_there_alone(
    database: Database, workspace: UUID, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    latest = await defined(database, workspace)
    # A quote is idle unless somebody calls; a lead and a talk are, however often.
    deals = [past_deal(latest, [(stage, at(0))]) for stage in ("lead", "quote", "quote", "talks")]
    if kind is not None:
        deed = Deed(kind, at(7), at(7))
        deals[1] = replace(deals[1], history=replace(deals[1].history, activities=[deed]))
    await insert(database, workspace, latest, deals)
    assert await fold_deals(database, workspace, latest.key, enough=1) == len(deals)
    read: set[str] = set()

    async def columns(
        connection: AsyncConnection, owner: UUID, segments: Sequence[UUID], names: Collection[str]
    ) -> list[dict[str, Plain]]:
        read.update(names)
        return await actual(connection, owner, segments, names)

    actual = kept.columns
    monkeypatch.setattr(kept, "columns", columns)
    asked = Asked(workspace, WHOLE, Ranking(latest, latest), Selection(as_of=AS_OF), AS_OF)
    async with database.read(workspace) as connection:
        found = await standings(connection, asked, grouped=True)
    assert found == defined_as(asked, deals)
    quotes = found[None][latest.stage("quote").slot]
    assert (quotes.count.deals, quotes.idle) == (2, 1 if kind == "call" else 2)
    assert kept_as("deal.moved_at") in read
    assert ("deal.opportunity_id" in read) == (kind is not None)
