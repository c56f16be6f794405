"""Deals that have moved since T, as they were then: told by the visits of their segment.

As `domain.measures.hindsight` defines it, for the plain case that is nearly every case: the deal
was open at T, no fact of it has changed since, and it has left no closed stage. One visit of such a
deal was under way at T, and nothing had happened to it but the visits before. Of every other deal
the log has to tell (`population.replays`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.domain.journey import Status, TransitionKind
from app.storage.segments.columns import BORNE, NOTHING, Coded, Numbers, Values, taken
from app.storage.segments.frames import Frame, Mask
from app.storage.segments.selecting import Part

ASKED: Final = frozenset(
    {"opportunity_id", "opened_at", "entered_at", "closed_at", "facts_changed_at", "returned"}
)
"""The columns of deals that are looked at beside those that are wanted."""

VISITED: Final = ("slot", "entered_at", "left_at", "kind")
"""The columns of visits that tell of the deals."""

_UNCHANGED: Final = (
    *("opportunity_id", "opened_at", "amount", "amount_parts", "probability"),
    *BORNE,
)


@dataclass(frozen=True, slots=True)
class Split:
    """Deals at T, by what tells of them: `rows`, their `visits`, or the log alone."""

    rows: Mask
    visits: Mask
    log: Mask


def split(deals: Frame, alive: Mask, as_of: int) -> Split:
    """Those of the deals for which the segment answers that had been opened before T."""
    there = alive & (deals.numbers("opened_at") < as_of)
    moved = deals.numbers("entered_at") >= as_of
    changed = deals.numbers("facts_changed_at") >= as_of
    is_open = deals.numbers("closed_at") == NOTHING
    plain = moved & ~changed & ~deals.bears("returned", 1)
    rows = ~moved & ~(is_open & changed)
    return Split(there & rows, there & plain, there & ~rows & ~plain)


def seen(deals: Frame, plain: Mask, part: Part, as_of: int, open_slots: Collection[int]) -> Frame:
    """Those of the deals of which their visits, the rows of `part`, tell: as they were at T."""
    deal, visits = part.deal, part.frame
    assert deal is not None, "visits have deals"
    size = int(np.count_nonzero(plain))
    place = np.cumsum(plain) - 1
    known = plain[deal] & (visits.numbers("entered_at") < as_of)
    of, entered = place[deal[known]], visits.numbers("entered_at")[known].astype(np.int64)
    left, slot = visits.numbers("left_at")[known].astype(np.int64), visits.coded("slot")
    slots = np.array(slot.meanings, dtype=np.int64)[slot.codes[known]]

    here, over = left >= as_of, left < as_of
    at, since = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    at[of[here]], since[of[here]] = slots[here], entered[here]
    reach = np.zeros(size, dtype=np.int64)
    np.bitwise_or.at(reach, of, np.left_shift(1, slots - 1))
    spent = over & np.isin(slots, list(open_slots))
    # Whole microseconds of less than three centuries: a double holds each sum exactly.
    time = np.bincount(of[spent], weights=(left - entered)[spent], minlength=size)
    moved_at = deals.numbers("opened_at")[plain].astype(np.int64)
    own = over & ~visits.bears("kind", TransitionKind.REARRANGED)[known]
    np.maximum.at(moved_at, of[own], left[own])

    nothing = Coded(np.zeros(size, dtype=np.uint8), [None])
    found: dict[str, Values] = {
        "status": Coded(np.zeros(size, dtype=np.uint8), [Status.OPEN.value]),
        "slot": _coded(at),
        "entered_at": since,
        "moved_at": moved_at,
        "closed_at": np.full(size, NOTHING),
        "reach_mask": _coded(reach),
        "open_time": time.astype(np.int64),
        "lost_from": nothing,
        "loss_reason": nothing,
    }
    return Frame(size, {**_unchanged(deals, plain), **found})


def _unchanged(deals: Frame, plain: Mask) -> Mapping[str, Values]:
    places = np.flatnonzero(plain)
    return {
        name: taken(column, places) for name, column in deals.columns.items() if name in _UNCHANGED
    }


def _coded(numbers: Numbers) -> Coded:
    meanings, codes = np.unique(numbers, return_inverse=True)
    return Coded(codes, meanings.tolist())
