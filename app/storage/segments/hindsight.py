"""Deals of segments as they were at a T in the past: told by their visits and their changes.

As `domain.measures.hindsight` defines it. A deal that stood in an open stage at T and has moved
since is told by its visits: one was under way, and nothing had happened to it but those before.
What was changed since is taken back. A winding one, and no other that has moved, may have been
closed at T: then the log has to tell what that close had frozen (`population.picked`).

`as_of` is T as columns hold instants, in microseconds (`columns.instant`).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.domain.journey import Status, TransitionKind
from app.storage.segments.columns import (
    CHANGEABLE,
    DIGITS,
    NOTHING,
    Coded,
    Mask,
    Meaning,
    Numbers,
    Values,
    coded,
    taken,
)
from app.storage.segments.frames import Frame
from app.storage.segments.selecting import Part

ASKED: Final = frozenset({"opportunity_id", "opened_at", "entered_at", "closed_at", "winding"})
"""The columns of deals that are looked at to tell them apart."""

STAYS: Final = ("slot", "entered_at", "left_at")
VISITED: Final = (*STAYS, "kind")
"""The columns of visits that tell of the deals: of where they stood, and of all."""

_UNCHANGED: Final = (*CHANGEABLE, "amount_parts", "opportunity_id", "opened_at")

SMALL: Final = 1 << 16
"""As slots always are, and masks of up to sixteen of them: a table of these fits anywhere."""


@dataclass(frozen=True, slots=True)
class Split:
    """Deals at T, by what tells of them: `rows`, their `visits`, or the log alone.

    `open`: those among the first two that were open, of which later changes are taken back.
    """

    rows: Mask
    visits: Mask
    log: Mask
    open: Mask


def split(part: Part, as_of: int) -> Split:
    """Those of the deals for which the segment answers that had been opened before T."""
    deals = part.frame
    there = deals.numbers("opened_at") < as_of
    if part.alive is not None:
        there &= part.alive
    moved = there & (deals.numbers("entered_at") >= as_of)
    winding = deals.bears("winding", 1)
    visits, rows = moved & ~winding, there & ~moved
    still_open = rows & (deals.numbers("closed_at") == NOTHING)
    return Split(rows, visits, moved & winding, visits | still_open)


def found_open(split: Split, part: Part, as_of: int, open_slots: Collection[int]) -> Split:
    """The split in which winding deals that stood in an open stage at T are told by their visits.

    These are the rows of `part`. Of who was closed at T the log goes on to tell.
    """
    assert part.deal is not None, "visits have deals"
    visits, slot = part.frame, part.frame.coded("slot")
    is_open = np.array([meaning in open_slots for meaning in slot.meanings], dtype=bool)
    under_way = (visits.numbers("entered_at") < as_of) & (visits.numbers("left_at") >= as_of)
    told = np.zeros_like(split.log)
    told[part.deal.take(np.flatnonzero(under_way & is_open.take(slot.codes)))] = True
    told &= split.log
    return Split(split.rows, split.visits | told, split.log & ~told, split.open | told)


def taken_back(deals: Frame, was_open: Mask, part: Part, as_of: int) -> Frame:
    """The deals, those that were open with what they bore before their first change since T.

    The rows of `part` are their changes, in the order in which they occurred.
    """
    assert part.deal is not None, "changes have deals"
    since = was_open.take(part.deal) & (part.frame.numbers("occurred_at") >= as_of)
    changes = part.frame.bearing("deal", part.deal).where(since)
    columns = dict(deals.columns)
    for name in {*columns} & {*CHANGEABLE}:
        of_field = changes.where(changes.bears("field", CHANGEABLE.index(name) + 1))
        _, first = np.unique(of_field.numbers("deal"), return_index=True)
        was = of_field.at(np.sort(first))
        if not was.size:
            continue
        places = was.numbers("deal")
        if name == "amount":
            columns[name] = _with(deals.of(name), places, was.numbers("old_number"))
            parts = "amount_parts"
            columns[parts] = _with(deals.of(parts), places, was.numbers("old_parts"))
        else:
            columns[name] = _recoded(deals.coded(name), places, _old(was, name))
    return Frame(deals.size, columns)


def _old(changes: Frame, name: str) -> Coded:
    if name != "probability":
        return changes.coded("old")
    whole, parts = changes.of("old_number"), changes.of("old_parts")
    return coded(np.where(whole == NOTHING, NOTHING, whole * 10**DIGITS + parts))


def _with(numbers: Numbers, places: Numbers, others: Numbers) -> Numbers:
    numbers[places] = others
    return numbers


def _recoded(column: Coded, places: Numbers, others: Coded) -> Coded:
    """The column with others' meanings at these places."""
    known: dict[Meaning, int] = {meaning: n for n, meaning in enumerate(column.meanings)}
    borne, codes = np.unique(others.codes, return_inverse=True)  # they may know many more
    names = [known.setdefault(others.meanings[code], len(known)) for code in borne.tolist()]
    recoded = column.codes.astype(np.min_scalar_type(len(known)))
    recoded[places] = np.array(names)[codes]
    return Coded(recoded, [*known])


def seen(
    deals: Frame,
    plain: Mask,
    part: Part,
    as_of: int,
    open_slots: Collection[int],
    wanted: Collection[str],
) -> Frame:
    """Those of the deals of which their visits, the rows of `part`, tell: as they were at T.

    In the `wanted` columns, as each takes its time; of `deals` they are needed with `opened_at`.
    """
    deal, visits = part.deal, part.frame
    assert deal is not None, "visits have deals"
    size = int(np.count_nonzero(plain))
    place = np.cumsum(plain) - 1
    known = np.flatnonzero(plain.take(deal) & (visits.numbers("entered_at") < as_of))
    visits = visits.at(known)
    of, entered, left = place.take(deal.take(known)), visits.of("entered_at"), visits.of("left_at")
    slot = visits.coded("slot")
    slots = np.array(slot.meanings, dtype=np.int64).take(slot.codes)

    here, over = left >= as_of, left < as_of

    def at() -> Values:
        found = np.zeros(size, dtype=np.int64)
        found[of[here]] = slots[here]
        return _coded(found)

    def since() -> Values:
        found = np.zeros(size, dtype=np.int64)
        found[of[here]] = entered[here]
        return found

    def moved_at() -> Values:
        found = deals.numbers("opened_at")[plain].astype(np.int64)
        own = over & ~visits.bears("kind", TransitionKind.REARRANGED)
        np.maximum.at(found, of[own], left[own])
        return found

    def reach() -> Values:
        found = np.zeros(size, dtype=np.int64)
        np.bitwise_or.at(found, of, np.left_shift(1, slots - 1))
        return _coded(found)

    def time() -> Values:
        spent = over & np.isin(slots, list(open_slots))
        # Whole microseconds of less than three centuries: a double holds each sum exactly.
        found = np.bincount(of[spent], weights=(left - entered)[spent], minlength=size)
        return found.astype(np.int64)

    told: Mapping[str, Callable[[], Values]] = {
        "status": lambda: Coded(np.zeros(size, dtype=np.uint8), [Status.OPEN.value]),
        "slot": at,
        "entered_at": since,
        "moved_at": moved_at,
        "closed_at": lambda: np.full(size, NOTHING),
        "reach_mask": reach,
        "open_time": time,
        "lost_from": lambda: Coded(np.zeros(size, dtype=np.uint8), [None]),
        "loss_reason": lambda: Coded(np.zeros(size, dtype=np.uint8), [None]),
    }
    found = {name: tell() for name, tell in told.items() if name in wanted}
    return Frame(size, {**_unchanged(deals, plain), **found})


def _unchanged(deals: Frame, plain: Mask) -> Mapping[str, Values]:
    places = np.flatnonzero(plain)
    return {
        name: taken(column, places) for name, column in deals.columns.items() if name in _UNCHANGED
    }


def _coded(numbers: Numbers) -> Coded:
    """Of numbers that are not negative; small ones need not be sorted to be told apart."""
    most = int(numbers.max(initial=0))
    if most >= SMALL:
        return coded(numbers)
    there = np.zeros(most + 1, dtype=bool)
    there[numbers] = True
    return Coded((np.cumsum(there) - 1).take(numbers), np.flatnonzero(there).tolist())
