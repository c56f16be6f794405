"""Pasts whose deals are folded while they happen: some before, some after, some not at all.

A metric says the same whatever is folded. So `keep` inserts a past as it may have come about: a
deal may be folded at its opening, and all else happen to it since.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from hypothesis import strategies as st

from app.actions.fold_deals import fold_deals
from app.domain.pipeline import Pipeline
from app.storage import opportunities
from app.storage.engine import Database
from app.storage.statement import Part
from tests.past_deals import Past, PastDeal, at, define, insert_parts, row, write

FOLDINGS: Final = 2


@dataclass(frozen=True, slots=True)
class Fate:
    """After how many foldings a deal is born, and after how many the rest happens to it."""

    born: int
    grown: int


NEVER: Final = Fate(FOLDINGS, FOLDINGS)
"""Of a deal that is not folded."""
WHOLE: Final = Fate(0, 0)
"""Of one that is folded with all that ever happened to it."""
FATES: Final = [
    Fate(born, grown) for born in range(FOLDINGS + 1) for grown in range(born, FOLDINGS + 1)
]


def fates(deals: int) -> st.SearchStrategy[Sequence[Fate]]:
    """A fate for each deal: no deal is folded, all are, or some."""
    mixed = st.lists(st.sampled_from(FATES), min_size=deals, max_size=deals)
    return st.one_of(*(st.just([fate] * deals) for fate in (NEVER, WHOLE)), mixed, mixed)


async def keep(database: Database, workspace: UUID, past: Past, fates: Sequence[Fate]) -> None:
    """Insert the pipeline, and each of its deals as its fate has it."""
    for revision in past.revisions:
        await define(database, workspace, revision, at(4 * revision.revision - 6))
    told = [*zip(past.deals, fates, strict=True)]
    for folded in range(FOLDINGS + 1):
        born = [_birth(workspace, past.latest, *each) for each in told if each[1].born == folded]
        grown = [_growth(workspace, past.latest, *each) for each in told if each[1].grown == folded]
        if parts := [part for deal in (*born, *grown) for part in deal]:
            await write(database, workspace, parts)
            if folded < FOLDINGS:
                await fold_deals(database, workspace, past.latest.key, enough=1)


def _birth(workspace: UUID, pipeline: Pipeline, deal: PastDeal, fate: Fate) -> list[Part]:
    grown = fate.grown == fate.born
    return insert_parts(workspace, pipeline, deal if grown else _at_its_opening(deal))


def _growth(workspace: UUID, pipeline: Pipeline, deal: PastDeal, fate: Fate) -> list[Part]:
    """What is written of a deal that was born at its opening."""
    if fate.grown == fate.born:
        return []
    _, _, *rest = insert_parts(workspace, pipeline, deal)
    return [opportunities.save(workspace, replace(row(pipeline, deal), version=2)), *rest]


def _at_its_opening(deal: PastDeal) -> PastDeal:
    """The deal before anything happened to it."""
    history = deal.history
    before = {change.field: change.old for change in reversed(history.changes)}
    others = {name: before.pop(name) for name in ("tags", "attributes") if name in before}
    opened = replace(
        history,
        log=[replace(history.log[0], voided_at=None)],
        facts=replace(history.facts, **before),
        changes=(),
        activities=(),
        **others,
    )
    return replace(deal, history=opened, changes=())
