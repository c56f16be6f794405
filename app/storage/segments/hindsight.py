"""Deals of segments as they were at a T in the past: told by their visits and their changes.

As `domain.measures.hindsight` defines it, for all but the winding ones. A deal that has moved since
T, and never left a closed stage, was open then: one of its visits was under way, and nothing had
happened to it but the visits before. What was changed since, while it was open at T, is taken back.
Of the winding ones the log has to tell (`population.picked`).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from app.domain.journey import Status, TransitionKind
from app.storage.queries.population import BORNE
from app.storage.segments.columns import (
    DIGITS,
    NOTHING,
    Coded,
    Meaning,
    Numbers,
    Values,
    taken,
)
from app.storage.segments.frames import Frame, Mask
from app.storage.segments.selecting import Part

ASKED: Final = frozenset(
    {"opportunity_id", "opened_at", "entered_at", "closed_at", "facts_changed_at", "winding"}
)
"""The columns of deals that are looked at beside those that are wanted."""

VISITED: Final = ("slot", "entered_at", "left_at", "kind")
"""The columns of visits that tell of the deals."""

CHANGEABLE: Final = (*BORNE, "amount", "probability")
"""What is taken back, where it is asked for."""

_UNCHANGED: Final = (*CHANGEABLE, "amount_parts", "opportunity_id", "opened_at")


SMALL: Final = 1 << 16
"""As slots always are, and masks of up to sixteen of them: a table of these fits anywhere."""


class Change(NamedTuple):
    """The deal at this place of its segment bore `old` in the field, until after T."""

    place: int
    field: str
    old: str | None


@dataclass(frozen=True, slots=True)
class Split:
    """Deals at T, by what tells of them: `rows`, their `visits`, or the log alone.

    `amended`: those among the first two of which facts are to be taken back.
    """

    rows: Mask
    visits: Mask
    log: Mask
    amended: Mask


def split(deals: Frame, alive: Mask, as_of: int) -> Split:
    """Those of the deals for which the segment answers that had been opened before T."""
    there = alive & (deals.numbers("opened_at") < as_of)
    moved = there & (deals.numbers("entered_at") >= as_of)
    winding = deals.bears("winding", 1)
    visits, rows = moved & ~winding, there & ~moved
    changed = deals.numbers("facts_changed_at") >= as_of
    still_open = rows & (deals.numbers("closed_at") == NOTHING)
    return Split(rows, visits, moved & winding, (visits | still_open) & changed)


def taken_back(deals: Frame, changes: Iterable[Change]) -> Frame:
    """The deals with what they bore before these changes: of a deal and field, one each."""
    by_field: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_field[change.field].append(change)
    columns = dict(deals.columns)
    for name, of_field in by_field.items():
        column = columns.get(name)
        if name == "amount" and column is not None:
            columns |= _amounts(deals, of_field)
        elif isinstance(column, Coded):
            columns[name] = _with(column, of_field, is_share=name == "probability")
    return Frame(deals.size, columns)


def _with(column: Coded, changes: Iterable[Change], *, is_share: bool) -> Coded:
    places: dict[Meaning, int] = {meaning: n for n, meaning in enumerate(column.meanings)}
    codes = column.codes.astype(np.int64)
    for change in changes:
        meaning: Meaning = change.old
        if is_share and change.old is not None:
            meaning = int(Decimal(change.old).scaleb(DIGITS))
        codes[change.place] = places.setdefault(meaning, len(places))
    return Coded(codes, [*places])


def _amounts(deals: Frame, changes: Iterable[Change]) -> Mapping[str, Values]:
    units, parts = deals.of("amount"), deals.of("amount_parts")
    for place, _, old in changes:
        if old is None:
            units[place] = parts[place] = NOTHING
        else:
            units[place], parts[place] = divmod(int(Decimal(old).scaleb(DIGITS)), 10**DIGITS)
    return {"amount": units, "amount_parts": parts}


def seen(
    deals: Frame,
    plain: Mask,
    part: Part,
    as_of: int,
    open_slots: Collection[int],
    wanted: Collection[str],
) -> Frame:
    """Those of the deals of which their visits, the rows of `part`, tell: as they were at T.

    In the `wanted` columns: each takes its time.
    """
    deal, visits = part.deal, part.frame
    assert deal is not None, "visits have deals"
    size = int(np.count_nonzero(plain))
    place = np.cumsum(plain) - 1
    known = plain[deal] & (visits.numbers("entered_at") < as_of)
    of, entered = place[deal[known]], visits.numbers("entered_at")[known].astype(np.int64)
    left, slot = visits.numbers("left_at")[known].astype(np.int64), visits.coded("slot")
    slots = np.array(slot.meanings, dtype=np.int64)[slot.codes[known]]

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
        own = over & ~visits.bears("kind", TransitionKind.REARRANGED)[known]
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
        meanings, codes = np.unique(numbers, return_inverse=True)
        return Coded(codes, meanings.tolist())
    there = np.zeros(most + 1, dtype=bool)
    there[numbers] = True
    return Coded((np.cumsum(there) - 1)[numbers], np.flatnonzero(there).tolist())
