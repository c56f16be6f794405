"""What would other idle thresholds have done? As `domain.measures.idle_preview` defines it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.journey import Status
from app.domain.measures.idle_preview import Figures, Replayed, Told, median_lead
from app.domain.measures.idle_replay import Rules
from app.domain.measures.selection import Selection
from app.storage.queries.idle_past import STATUSES, Mask, Numbers, Past, past_visits
from app.storage.queries.idle_replay import Episodes, episodes
from app.storage.queries.question import Asked
from app.storage.segments.columns import instant

_LOST = STATUSES.index(Status.LOST)


async def previews(
    connection: AsyncConnection, asked: Asked, rules: Mapping[Replayed, Rules]
) -> Mapping[Replayed, Told]:
    """By the rules replayed: what each of them would have done. Raises Invalid for too much."""
    past = await past_visits(connection, asked, rules.values())
    return await asyncio.to_thread(_replayed, past, asked.selection, rules)


def _replayed(
    past: Past, selection: Selection, rules: Mapping[Replayed, Rules]
) -> Mapping[Replayed, Told]:
    here = np.ones(len(past.deal), dtype=bool)
    if selection.start is not None:
        here &= past.moved_at >= instant(selection.start)
    if selection.end is not None:
        here &= past.moved_at < instant(selection.end)
    return {which: _told(past, here, episodes(past, each, here)) for which, each in rules.items()}


def _told(past: Past, here: Mask, found: Episodes) -> Told:
    slots = np.unique(past.slot[here]).tolist()
    told: dict[int | None, Figures] = {None: _figures(past, here, found)}
    for slot in slots:
        of_stage = past.slot == slot
        told[slot] = _figures(past, here & of_stage, found.taken(of_stage[found.visit]))
    return told


def _figures(past: Past, here: Mask, found: Episodes) -> Figures:
    _, any_visit = np.unique(past.deal[here], return_index=True)
    outcomes = past.status[here][any_visit]
    # The first flag of each deal: in the order of deals, and of a deal in that of time.
    order = np.lexsort((found.opened_at, past.deal[found.visit]))
    visit, opened = found.visit[order], found.opened_at[order]
    _, first = np.unique(past.deal[visit], return_index=True)
    status = past.status[visit[first]]
    lost = status == _LOST
    leads: Numbers = np.sort(past.closed_at[visit[first]][lost] - opened[first][lost])
    counts = np.bincount(status, minlength=len(STATUSES)).tolist()
    return Figures(
        visits=int(np.count_nonzero(here)),
        deals=len(outcomes),
        lost=int(np.count_nonzero(outcomes == _LOST)),
        flags=len(order),
        flagged={each: n for each, n in zip(STATUSES, counts, strict=True) if n},
        lead=median_lead(cast("Sequence[int]", leads)),
    )
