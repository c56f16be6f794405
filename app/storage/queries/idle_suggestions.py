"""What should idle thresholds be? As `domain.measures.idle_suggestions` defines it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.intervals import MIN_CASES, Silence
from app.domain.journey import Status
from app.domain.measures.idle_replay import rules_of
from app.domain.measures.idle_suggestions import LOAD, Halving, Load, Suggestion, suggest
from app.domain.measures.selection import Selection
from app.domain.pipeline import IdleClock, IdleRule, Pipeline
from app.storage.queries.idle_past import STATUSES, Mask, Numbers, Past, past_visits
from app.storage.queries.idle_replay import crossed, episodes
from app.storage.queries.question import Asked
from app.storage.segments.columns import instant


async def suggestions(connection: AsyncConnection, asked: Asked) -> Mapping[int, Suggestion]:
    """By the slot of every open stage in use. Raises Invalid where the period holds too much."""
    until, start = asked.aged_until, asked.selection.start
    assert start is not None, "suggestions have a period"
    since = replace(asked.selection, start=min(start, until - LOAD), end=None)
    pipeline = asked.ranking.pipeline
    by_age = {
        slot: replace(rule, clock=IdleClock.STAGE_AGE, calendar=None)
        for slot, rule in rules_of(pipeline).items()
    }
    past = await past_visits(connection, replace(asked, selection=since), [by_age])
    return await asyncio.to_thread(_suggested, past, pipeline, asked.selection, until)


def _suggested(
    past: Past, pipeline: Pipeline, selection: Selection, until: datetime
) -> Mapping[int, Suggestion]:
    settled = ~past.under_way & ~past.rearranged
    if selection.start is not None:
        settled &= past.entered_at >= instant(selection.start)
    if selection.end is not None:
        settled &= past.entered_at < instant(selection.end)
    found = {}
    for stage in pipeline.stages:
        if not stage.is_open or stage.archived_at is not None:
            continue
        here = past.slot == stage.slot
        won, lost = (_longest(past, settled & here, status) for status in (Status.WON, Status.LOST))
        suggestion = suggest(cast("Sequence[int]", won), len(lost), stage.idle)
        rule = suggestion.rule
        found[stage.slot] = replace(
            suggestion,
            halving=_halved(won, lost),
            load=None if rule is None else _load(past, rule, stage.slot, until),
        )
    return found


def _longest(past: Past, those: Mask, status: Status) -> Numbers:
    """How long each deal of that status stayed at the most; ascending."""
    visits = np.flatnonzero(those & (past.status == STATUSES.index(status)))
    stayed, deal = past.ended_at[visits] - past.entered_at[visits], past.deal[visits]
    if not len(visits):
        return stayed
    firsts = np.flatnonzero(np.diff(deal, prepend=-1))  # deals come one after the other
    return np.sort(np.maximum.reduceat(stayed, firsts))


def _halved(won: Numbers, lost: Numbers) -> Halving:
    if len(won) < MIN_CASES:
        return Halving()
    every = np.sort(np.concatenate([won, lost]))
    after = np.unique(every)
    still = len(every) - np.searchsorted(every, after, side="right")
    still_won = len(won) - np.searchsorted(won, after, side="right")
    halved = (2 * still_won * len(every) <= len(won) * still) & (still >= MIN_CASES)
    if not halved.any():
        return Halving(reason=Silence.NOT_REACHED)
    place = int(np.argmax(halved))
    return Halving(int(after[place]), int(still[place]), int(still_won[place]), None)


def _load(past: Past, rule: IdleRule, slot: int, until: datetime) -> Load:
    here, rules = past.slot == slot, {slot: rule}
    opened = episodes(past, rules, here).opened_at
    lately = (opened >= instant(until - LOAD)) & (opened <= instant(until))
    idle = crossed(past, rules, here & past.under_way)
    return Load(int(np.count_nonzero(lately)), len(idle.visit))
