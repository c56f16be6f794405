"""Which flags would idle rules have opened? Of visits in columns, as `domain.measures.idle_replay`
defines it.

Thresholds in all time are added to whole columns at once. Those in working time are asked of the
calendar start by start, exactly, but only where they can have been reached: a crossing never falls
when its start rises, so a few of them say for most visits that they ended too soon.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.domain.durations import microseconds
from app.domain.idleness import crossing
from app.domain.measures.idle_replay import Rules
from app.domain.pipeline import IdleClock, IdleRule
from app.storage.queries.idle_past import Mask, Numbers, Past
from app.storage.segments.columns import instant, moment

_NEVER: Final = np.iinfo(np.int64).max
_ASKED_FIRST: Final = 32
"""One of so many starts tells the least that a crossing of the next ones can be."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """Flags that would have been opened: at which visit, since when the clock ran, and when."""

    visit: Numbers
    clock_started_at: Numbers
    opened_at: Numbers

    def taken(self, which: Mask | Numbers) -> "Episodes":
        """Those at these places, or for which the mask holds."""
        return Episodes(self.visit[which], self.clock_started_at[which], self.opened_at[which])


def episodes(past: Past, rules: Rules, replayed: Mask) -> Episodes:
    """The flags of the visits that are `replayed`: one for a deal and a clock start."""
    found = crossed(past, rules, replayed)
    deal = past.deal[found.visit]
    order = np.lexsort((found.opened_at, found.clock_started_at, deal))
    deal, start = deal[order], found.clock_started_at[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (deal[1:] != deal[:-1]) | (start[1:] != start[:-1])
    return found.taken(order[first])


def crossed(past: Past, rules: Rules, replayed: Mask) -> Episodes:
    """The silences of each visit that reached its rule's threshold before they ended."""
    parts = [_NOTHING]
    for slot in np.unique(past.slot[replayed]).tolist():
        if (rule := rules.get(slot)) is not None:
            here = np.flatnonzero(replayed & (past.slot == slot))
            parts += _of_stage(past, rule, here)
    return Episodes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


_Silences = tuple[Numbers, Numbers, Numbers]
_NOTHING: Final[_Silences] = (np.empty(0, np.int64),) * 3


def _of_stage(past: Past, rule: IdleRule, here: Numbers) -> list[_Silences]:
    """The flags of these visits of one stage, by priority."""
    visit, start, reset = here, past.moved_at[here], past.ended_at[here]
    if rule.clock is IdleClock.INACTIVITY:
        visit, start, reset = _silences(past, rule, here)
    found = []
    for place in np.unique(past.priority[here]).tolist():
        those = past.priority[visit] == place
        due = _crossings(rule, past.priorities[place], start[those], reset[those])
        # A clock that went on through a rearrangement may have been past its new threshold.
        opened = np.maximum(due, past.entered_at[visit[those]])
        flagged = opened < reset[those]
        found.append((visit[those][flagged], start[those][flagged], opened[flagged]))
    return found


def _silences(past: Past, rule: IdleRule, here: Numbers) -> _Silences:
    """Each visit as often as its clock started: its number, from when, until when."""
    qualifying = np.array([kind in rule.qualifying for kind in past.kinds], dtype=bool)
    counting = qualifying[past.deed_kind]
    deal, at = past.deed_deal[counting], past.deed_at[counting]
    # Deal and instant as one number that keeps their order: the instant by its place among all.
    instants = np.unique(at)
    width = len(instants) + 1
    keys = deal * width + np.searchsorted(instants, at)
    own = past.deal[here] * width
    after = own + np.searchsorted(instants, past.moved_at[here], side="right")
    before = own + np.searchsorted(instants, past.ended_at[here], side="left")
    first, last = np.searchsorted(keys, after), np.searchsorted(keys, before)
    times = np.maximum(last - first, 0) + 1
    ends = np.cumsum(times)
    visit = np.repeat(here, times)
    nth = np.arange(len(visit)) - np.repeat(ends - times, times)
    deed = np.repeat(first, times) + nth - 1
    start = past.moved_at[visit]
    start[nth > 0] = at[deed[nth > 0]]
    reset = past.ended_at[visit]
    goes_on = nth + 1 < np.repeat(times, times)
    reset[goes_on] = at[deed[goes_on] + 1]
    return visit, start, reset


def _crossings(rule: IdleRule, priority: str | None, start: Numbers, reset: Numbers) -> Numbers:
    """When each of the clocks crosses; _NEVER where that is not before its reset."""
    threshold = rule.threshold(priority)
    if threshold is None:
        return np.full(len(start), _NEVER)
    if rule.calendar is None:
        return start + microseconds(threshold.length)

    def asked(starts: Numbers) -> Numbers:
        dues = (crossing(rule, priority, moment(each)) for each in starts.tolist())
        return np.array([_NEVER if due is None else instant(due) for due in dues], dtype=np.int64)

    found = np.full(len(start), _NEVER)
    starts, place = np.unique(start, return_inverse=True)
    least = asked(starts[::_ASKED_FIRST])[place // _ASKED_FIRST]
    reached = np.flatnonzero(least < reset)
    those, place = np.unique(start[reached], return_inverse=True)
    found[reached] = asked(those)[place]
    return found
