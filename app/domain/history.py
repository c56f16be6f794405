"""Imported history: what the dated rows of a file mean beside what the log already holds.

    rows of one deal, in order ─┐
    its standing log           ─┴─>  appended · present · unchanged · conflicting

This is the definition of an import (domain.md, "Imported history"). The past is not judged: flow
and guards do not apply, moves that today's flow would refuse are only counted. A row is known by
(deal, stage, instant), as often as the log holds it. The caller brings the rows in order: by
instant, then by the file's own sequence, then by line. How a file is read is not this module's
business.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from app.domain import journey
from app.domain.errors import SluiceError
from app.domain.journey import Facts, Position, Transition, TransitionKind
from app.domain.pipeline import UNKNOWN_LOSS_REASON, Pipeline, Stage, StageKind
from app.domain.transition import check_route, frozen

FROZEN = ("amount", "currency", "probability", "owner", "team", "source", "priority")
"""The facts that a transition freezes; a row may state tags and attributes besides."""


_MONEY = ("amount", "currency")


class Verdict(StrEnum):
    """What becomes of a row."""

    APPENDED = "appended"
    PRESENT = "present"
    """The log has it."""
    UNCHANGED = "unchanged"
    """It repeats the stage in which the deal stood, or an outcome that it had: no move."""
    CONFLICT = "history_conflict"
    """It lies before the log's last standing transition, and the log does not have it."""
    STRANDED = "stage_archived"
    """It would leave the deal open in a stage that is no longer in use."""


@dataclass(frozen=True, slots=True)
class Row:
    """A deal entered the stage `slot` at an instant.

    `says` holds what the row states of the deal; a fact that is not in it stays as it was.
    """

    slot: int
    occurred_at: datetime
    says: Mapping[str, Any] = field(default_factory=dict)
    loss_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A fact of the deal became another one at an instant."""

    name: str
    old: Any
    new: Any
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a deal before the import.

    `log` are its standing transitions in order, `seq` the last number that its log has used, and
    `stated_until` tells since when each fact has been what it is, where it has ever changed: a
    row from before that does not change it any more.
    """

    log: Sequence[Transition] = ()
    seq: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    stated_until: Mapping[str, datetime] = field(default_factory=dict)


UNKNOWN = Known()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What an import does to one deal. `verdicts` has one entry a row, in the rows' order.

    `position` is None where the log stays as it is; `against_flow` counts appended moves that
    today's flow would refuse.
    """

    verdicts: Sequence[Verdict]
    appended: Sequence[Transition]
    voided: Sequence[Transition]
    changes: Sequence[Change]
    facts: Mapping[str, Any]
    position: Position | None
    against_flow: int


def reconcile(
    pipeline: Pipeline, rows: Sequence[Row], known: Known = UNKNOWN, *, rewrite: bool = False
) -> Reconciled:
    """Read the rows of one deal against what is known of it.

    Under `rewrite` the log is voided back to the first row that conflicts, the opening too if
    need be, and every row from there on is appended anew.
    """
    log = known.log
    verdicts = list(_recognised(pipeline, rows, log))
    if rewrite and Verdict.CONFLICT in verdicts:
        cut = rows[verdicts.index(Verdict.CONFLICT)].occurred_at
        log = log[: bisect_left(log, cut, key=_instant)]
        verdicts = list(_recognised(pipeline, rows, log))
    telling = _Telling(pipeline, known, log)
    for n, row in enumerate(rows):
        if verdicts[n] is Verdict.APPENDED:
            verdicts[n] = telling.hear(row)
    if telling.strands():
        appended = Verdict.APPENDED
        stranded = [Verdict.STRANDED if said is appended else said for said in verdicts]
        return Reconciled(
            verdicts=stranded,
            appended=(),
            voided=(),
            changes=(),
            facts=known.facts,
            position=None,
            against_flow=0,
        )
    voided = known.log[len(log) :]
    return Reconciled(
        verdicts=verdicts,
        appended=telling.appended,
        voided=voided,
        changes=telling.changes,
        facts=telling.facts,
        position=telling.position if telling.appended or voided else None,
        against_flow=telling.against_flow,
    )


def _recognised(
    pipeline: Pipeline, rows: Sequence[Row], log: Sequence[Transition]
) -> Iterator[Verdict]:
    """The verdict on each row as far as the log gives it; `APPENDED` where the row goes beyond."""
    if not log:
        yield from (Verdict.APPENDED for _ in rows)
        return
    present = _present(rows, log)
    # Of rows that bear one instant, those before one that the log has are before the log's end.
    last_present = max((n for n, known in enumerate(present) if known), default=-1)
    end = log[-1].occurred_at
    for n, row in enumerate(rows):
        if present[n]:
            yield Verdict.PRESENT
        elif row.occurred_at >= end and n > last_present:
            yield Verdict.APPENDED
        elif any(
            _repeats(stage, pipeline.by_slot[row.slot]) for stage in _stood(pipeline, log, row)
        ):
            yield Verdict.UNCHANGED
        else:
            yield Verdict.CONFLICT


def _present(rows: Sequence[Row], log: Sequence[Transition]) -> list[bool]:
    """Whether each row is a move that the log has."""
    held: dict[datetime, list[int]] = defaultdict(list)
    for entry in log:
        if entry.kind is not TransitionKind.HANDED_OFF:  # ends a visit, enters nothing
            held[entry.occurred_at].append(entry.to_slot)
    found: list[bool] = []
    for instant, tied in groupby(rows, key=_row_instant):
        slots = [row.slot for row in tied]
        entered = held.get(instant, [])
        found += _in_order(slots, entered) or _in_any_order(slots, entered)
    return found


def _in_order(slots: Sequence[int], entered: Sequence[int]) -> list[bool]:
    """Which of these are the stages entered, one after the other; none where some are missing.

    A row that repeats the one before it must not pass for a later return to the stage.
    """
    found: list[bool] = []
    for slot in slots:
        found.append(sum(found) < len(entered) and slot == entered[sum(found)])
    return found if sum(found) == len(entered) else []


def _in_any_order(slots: Sequence[int], entered: Sequence[int]) -> list[bool]:
    """As many of each stage as were entered: another export may order ties otherwise."""
    left = Counter(entered)
    found: list[bool] = []
    for slot in slots:
        found.append(left[slot] > 0)
        left[slot] -= 1
    return found


def _stood(pipeline: Pipeline, log: Sequence[Transition], row: Row) -> list[Stage]:
    """Every stage in which the deal stood at the row's instant: at a move's, both its ends."""
    first = bisect_left(log, row.occurred_at, key=_instant)
    beyond = bisect_right(log, row.occurred_at, lo=first, key=_instant)
    return [pipeline.by_slot[entry.to_slot] for entry in log[max(first - 1, 0) : beyond]]


def _repeats(stood: Stage, target: Stage) -> bool:
    """Whether entering `target` is no move for a deal that stands in `stood`.

    An outcome is not had twice in a row, in whichever of its stages: a close date is never
    rewritten.
    """
    return target is stood or (target.kind is stood.kind and not stood.is_open)


def _instant(entry: Transition) -> datetime:
    return entry.occurred_at


def _row_instant(row: Row) -> datetime:
    return row.occurred_at


class _Telling:
    """The tale of one deal while its rows are heard: where it stands, and what it is."""

    __slots__ = (
        "_bare",
        "_heard",
        "against_flow",
        "appended",
        "changes",
        "facts",
        "pipeline",
        "position",
        "seq",
        "stated_until",
    )

    def __init__(self, pipeline: Pipeline, known: Known, log: Sequence[Transition]) -> None:
        self.pipeline = pipeline
        self.position = None if not log else journey.position(pipeline, log)
        self.seq = known.seq
        self.facts = dict(known.facts)
        self._bare = _bare(self.facts)
        self._heard: Mapping[str, Any] = {}
        self.stated_until = known.stated_until
        self.appended: list[Transition] = []
        self.changes: list[Change] = []
        self.against_flow = 0

    def hear(self, row: Row) -> Verdict:
        """Take one row beyond the log: a move, or only what it says of the deal's facts."""
        here = self.position
        target = self.pipeline.by_slot[row.slot]
        if row.says is not self._heard or self.stated_until:
            self._learn(row, opening=here is None)
            self._heard = row.says  # rows mostly say what the row before them has said
        if here is None:
            self._append(row, TransitionKind.OPENED, None, target)
            return Verdict.APPENDED
        origin = self.pipeline.by_slot[here.slot]
        if _repeats(origin, target):
            return Verdict.UNCHANGED
        try:
            check_route(self.pipeline, here, origin, target)
        except SluiceError:
            self.against_flow += 1
        self._append(row, journey.kind_of_move(self.pipeline, origin, target), origin, target)
        return Verdict.APPENDED

    def strands(self) -> bool:
        """Whether the deal would be left open in an archived stage, where nothing may stand."""
        if not self.appended or self.position is None:
            return False
        stage = self.pipeline.by_slot[self.position.slot]
        return stage.is_open and stage.archived_at is not None

    def _learn(self, row: Row, *, opening: bool) -> None:
        refreeze = False
        for name, stated in row.says.items():
            since = self._stated_until(name)
            if since is not None and row.occurred_at <= since:
                continue
            old = self.facts.get(name)
            new = {**(old or {}), **stated} if name == "attributes" else stated
            if old == new:
                continue
            self.facts[name] = new
            if not (opening and self.seq == 0):  # what a new deal is born with is no change
                self.changes.append(Change(name, old, new, row.occurred_at))
            refreeze = refreeze or name in FROZEN
        if refreeze:
            self._bare = _bare(self.facts)

    def _stated_until(self, name: str) -> datetime | None:
        """When the fact was stated last; an amount and its currency are one."""
        together = _MONEY if name in _MONEY else (name,)
        stated = (self.stated_until.get(each) for each in together)
        return max((instant for instant in stated if instant is not None), default=None)

    def _append(self, row: Row, kind: TransitionKind, origin: Stage | None, target: Stage) -> None:
        here = self.position
        self.seq += 1
        reason = row.loss_reason or UNKNOWN_LOSS_REASON
        entry = Transition(
            seq=self.seq,
            kind=kind,
            from_slot=None if origin is None else origin.slot,
            entered_at=None if here is None else here.stage_entered_at,
            to_slot=target.slot,
            occurred_at=row.occurred_at,
            facts=frozen(self._bare, target),
            loss_reason=reason if target.kind is StageKind.LOST else None,
        )
        self.appended.append(entry)
        if here is None:
            self.position = journey.opening(self.pipeline, entry)
        else:
            self.position = journey.after(self.pipeline, here, entry)


def _bare(facts: Mapping[str, Any]) -> Facts:
    """The facts that a transition freezes, before it is known into which stage."""
    return Facts(**{name: facts.get(name) for name in FROZEN})
