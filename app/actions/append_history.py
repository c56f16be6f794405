"""One piece of an import: some deals with all their rows, decided together and written together.

`decide` is pure: from what the rows say and what is known of their deals it makes the parts to
write, the remarks and the counts. `write` does them in the caller's transaction.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from app.actions import announcements
from app.actions.move_opportunity import resolving
from app.actions.read_rows import heard
from app.domain import history, journey, opportunity
from app.domain.history import FROZEN, Reconciled, Verdict
from app.domain.idleness import IdleState, Reset, Resolution
from app.domain.journey import Facts, Status, Transition
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import activities, bulk, idle_flags, imports, opportunities, transitions
from app.storage.activities import Activity
from app.storage.engine import Connection
from app.storage.ids import new_id
from app.storage.import_rows import KnownDeal, StagedRow
from app.storage.imports import ImportJob, Remark
from app.storage.statement import Part
from app.storage.transitions import LogEntry

VOIDED_BECAUSE = "rewritten by an import"

_REASONS = {
    Verdict.CONFLICT: "The log goes beyond this instant and does not have the row.",
    Verdict.STRANDED: "It would leave the deal open in a stage that is no longer in use.",
}
_COUNTS = {
    Verdict.APPENDED: "transitions",
    Verdict.PRESENT: "present",
    Verdict.UNCHANGED: "unchanged",
    Verdict.CONFLICT: "rejected",
    Verdict.STRANDED: "rejected",
}


@dataclass(slots=True)
class Piece:
    """What is to be written of some deals, each list one kind of part; and what was counted.

    `rejected` names the staged rows that are not imported, with code and reason; `doubted` those
    that are worth a second look.
    """

    created: list[Part] = field(default_factory=list)
    changed: list[Part] = field(default_factory=list)
    voided: list[Part] = field(default_factory=list)
    appended: list[Part] = field(default_factory=list)
    facts: list[Part] = field(default_factory=list)
    activities: list[Part] = field(default_factory=list)
    flags: list[Part] = field(default_factory=list)
    events: list[Part] = field(default_factory=list)
    rejected: list[tuple[StagedRow, str, str]] = field(default_factory=list)
    doubted: list[tuple[StagedRow, str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def reject(self, rows: Sequence[StagedRow], code: str, reason: str) -> None:
        self.rejected += [(row, code, reason) for row in rows]
        self.counts["rejected"] += len(rows)


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for every deal of a piece; `constants` are the facts of a deal that is new."""

    workspace: UUID
    job: ImportJob
    pipeline: Pipeline
    constants: Mapping[str, Any]
    now: datetime


def decide(
    setting: Setting, deals: Mapping[str, list[StagedRow]], known: Mapping[str, KnownDeal]
) -> Piece:
    """What the rows of these deals, by external id, do to what is known of them."""
    piece = Piece()
    for external_id, rows in deals.items():
        found = known.get(external_id)
        if found is None:
            _open(setting, external_id, rows, piece)
        elif found.deal.pipeline_id == setting.pipeline.pipeline_id:
            _continue(setting, found, rows, piece)
        else:
            piece.reject(rows, "other_pipeline", "The deal is in another pipeline.")
    return piece


async def write(
    connection: Connection, workspace: UUID, job: ImportJob, piece: Piece, remarks: Sequence[Remark]
) -> None:
    """Do the piece, and save how far the job has come with it.

    Raises AlreadyExists or LostRace where a deal was opened meanwhile, LostLease.
    """
    for parts in (
        *(piece.created, piece.changed, piece.voided, piece.appended),
        *(piece.facts, piece.activities, piece.flags, piece.events),
    ):
        await bulk.execute(connection, parts)
    await imports.remark(connection, workspace, job.import_id, remarks)
    await imports.save(connection, workspace, job)


def _open(setting: Setting, external_id: str, rows: list[StagedRow], piece: Piece) -> None:
    """A deal that is new; its opening may be in any stage, and may lie in any past."""
    moves, names = _moves(rows)
    known = history.Known(facts=setting.constants)
    read = history.reconcile(setting.pipeline, [row for _, row in moves], known)
    _count(read, moves, piece)
    if not read.appended or read.position is None:
        others = [row for row in rows if row.slot is None]
        piece.reject(others, "no_opening", "No row of the file opens this deal.")
        return
    deal = _born(setting, external_id, names[-1] if names else external_id, read)
    deal, _ = _followed_up(setting, deal, rows, Counter(), piece)
    deal = replace(deal, version=1) if deal.version > 1 else deal
    workspace = setting.workspace
    piece.counts["deals_created"] += 1
    piece.created.append(opportunities.insert(workspace, deal))
    piece.events.append(announcements.created(workspace, deal, setting.pipeline, historical=True))
    _log(setting, deal, read, piece)


def _born(setting: Setting, external_id: str, name: str, read: Reconciled) -> Opportunity:
    """The deal's first version, which is what all its appended moves have made of it."""
    assert read.position is not None  # something was appended
    facts = _facts(read.facts, Facts())
    deal = Opportunity(
        opportunity_id=new_id(),
        pipeline_id=setting.pipeline.pipeline_id,
        version=0,
        name=name,
        facts=facts,
        position=read.position,
        idle=IdleState(read.position.moved_at, Reset.MOVE, None),  # worked out below
        created_at=setting.now,
        updated_at=setting.now,
        external_id=external_id,
        tags=tuple(read.facts.get("tags", ())),
        attributes=read.facts.get("attributes", {}),
        facts_changed_at=_last_change(read, None),
    )
    told = opportunity.recalled(deal, read.appended[-1])
    return opportunity.clocked(told, setting.pipeline, setting.now)


def _continue(setting: Setting, found: KnownDeal, rows: list[StagedRow], piece: Piece) -> None:
    """A deal that exists: what is new in the file is appended, the rest is recognised."""
    before, pipeline, now = found.deal, setting.pipeline, setting.now
    moves, _ = _moves(rows)
    known = history.Known(
        log=[entry.transition for entry in found.log],
        seq=before.position.seq,
        facts={
            **{name: getattr(before.facts, name) for name in FROZEN},
            "tags": before.tags,
            "attributes": before.attributes,
        },
        stated_until=found.changed_at,
    )
    rewrite = setting.job.on_conflict == "rewrite"
    read = history.reconcile(pipeline, [row for _, row in moves], known, rewrite=rewrite)
    _count(read, moves, piece)
    deal = before
    if read.changes:
        deal, _ = opportunity.amended(
            deal,
            pipeline,
            now,
            facts=_facts(read.facts, before.facts),
            tags=tuple(read.facts["tags"]),
            attributes=read.facts["attributes"],
        )
        deal = replace(deal, facts_changed_at=_last_change(read, before.facts_changed_at))
        deal = opportunity.recalled(deal, _closing(known.log))
    if read.position is not None:
        kinds = pipeline.by_slot[read.position.slot].idle.qualifying
        done = [at for kind, at in found.activities if kind in kinds]
        free = opportunity.unflagged(
            replace(deal, position=read.position, last_activity_at=max(done, default=None))
        )
        standing = [*known.log[: len(known.log) - len(read.voided)], *read.appended]
        deal = opportunity.clocked(opportunity.recalled(free, _closing(standing)), pipeline, now)
        _doubt(known.log[-1], standing[-1], moves[-1][0], pipeline, piece)
    deal, followed = _followed_up(setting, deal, rows, found.activities, piece)
    if deal is before:
        piece.counts["deals_changed"] += followed
        return
    piece.counts["deals_changed"] += 1
    deal = replace(deal, version=before.version + 1)
    workspace = setting.workspace
    piece.changed.append(opportunities.save(workspace, deal))
    if before.flag_id is not None and deal.flag_id is None:
        ended = resolving(workspace, before, _cause(deal, read), deal, pipeline)
        piece.flags += [part for part in ended if part.sql == idle_flags.RESOLVE]
        piece.events += [part for part in ended if part.sql != idle_flags.RESOLVE]
    if read.changes:
        net = {
            change.name: (known.facts[change.name], read.facts[change.name])
            for change in read.changes
        }
        told = announcements.updated(workspace, deal, pipeline, net, now, historical=True)
        piece.events.append(told)
    by, because = setting.job.actor, VOIDED_BECAUSE
    for entry in reversed(found.log[len(found.log) - len(read.voided) :]):
        stamped = replace(entry, voided_at=now, voided_by=by, void_reason=because)
        piece.voided.append(transitions.void(workspace, entry, now, by, because))
        piece.events.append(
            announcements.voided(workspace, deal, stamped, pipeline, historical=True)
        )
    _log(setting, deal, read, piece)


def _moves(rows: list[StagedRow]) -> tuple[list[tuple[StagedRow, history.Row]], list[str]]:
    """The rows that are no activities, as the domain reads them, and the names that they state."""
    moves, names = [], []
    for row in rows:
        if row.slot is None:
            continue
        says, name = heard(row.says)
        if name is not None:
            names.append(name)
        moves.append((row, history.Row(row.slot, row.occurred_at, says, row.loss_reason)))
    return moves, names


def _count(read: Reconciled, moves: Sequence[tuple[StagedRow, history.Row]], piece: Piece) -> None:
    for (staged, _), verdict in zip(moves, read.verdicts, strict=True):
        piece.counts[_COUNTS[verdict]] += 1
        if reason := _REASONS.get(verdict):
            piece.rejected.append((staged, verdict.value, reason))
    piece.counts["against_flow"] += read.against_flow
    piece.counts["voided"] += len(read.voided)


def _doubt(
    before: Transition, after: Transition, last: StagedRow, pipeline: Pipeline, piece: Piece
) -> None:
    """Warn, at the deal's last row, of a rewrite after which the log ends earlier than it did."""
    if after.occurred_at >= before.occurred_at:
        return
    (was, then), (stands, since) = (
        (pipeline.by_slot[end.to_slot].key, end.occurred_at.isoformat()) for end in (before, after)
    )
    reason = (
        f"The log had gone on to {was!r} at {then}; rewritten, it ends in {stands!r} at {since}."
        " If the file lacks later rows of the deal, import all of them."
    )
    piece.doubted.append((last, "log_shortened", reason))
    piece.counts["warnings"] += 1


def _closing(standing: Sequence[Transition]) -> Transition:
    """The move that brought the deal where it stands."""
    return next(move for move in reversed(standing) if not journey.is_link(move))


def _last_change(read: Reconciled, known: datetime | None) -> datetime | None:
    """When the last change of a fact occurred, those that are new among them."""
    occurred = [change.occurred_at for change in read.changes]
    return max([*occurred, known] if known else occurred, default=None)


def _facts(said: Mapping[str, Any], before: Facts) -> Facts:
    return Facts(**{name: said.get(name, getattr(before, name)) for name in FROZEN})


def _cause(deal: Opportunity, read: Reconciled) -> Resolution:
    if deal.position.status is not Status.OPEN:
        return Resolution.CLOSED
    if read.position is not None:
        return Resolution.MOVED
    return Resolution.NOT_DUE if read.changes else Resolution.ACTIVITY


def _followed_up(
    setting: Setting,
    deal: Opportunity,
    rows: Sequence[StagedRow],
    held: Counter[tuple[str, datetime]],
    piece: Piece,
) -> tuple[Opportunity, bool]:
    """The deal after its activities, and whether any of them is new; `held` are those it has."""
    left, new = Counter(held), False
    for row in rows:
        if row.activity is None:
            continue
        if left[row.activity, row.occurred_at] > 0:
            left[row.activity, row.occurred_at] -= 1
            piece.counts["activities_present"] += 1
            continue
        new = True
        piece.counts["activities"] += 1
        done = Activity(
            activity_id=new_id(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=deal.pipeline_id,
            kind=row.activity,
            content=None,
            occurred_at=row.occurred_at,
            recorded_at=setting.now,
            actor=setting.job.actor,
            import_id=setting.job.import_id,
        )
        piece.activities.append(activities.append(setting.workspace, done))
        deal, _ = opportunity.followed_up(
            deal, setting.pipeline, row.activity, row.occurred_at, setting.now
        )
    return deal, new


def _log(setting: Setting, deal: Opportunity, read: Reconciled, piece: Piece) -> None:
    """The appended transitions and the changes of facts between them."""
    workspace, job, pipeline = setting.workspace, setting.job, setting.pipeline
    for moved in read.appended:
        origin = None if moved.from_slot is None else pipeline.by_slot[moved.from_slot].name
        entry = LogEntry(
            transition=moved,
            transition_id=new_id(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=pipeline.pipeline_id,
            revision=pipeline.revision,
            from_name=origin,
            to_name=pipeline.by_slot[moved.to_slot].name,
            recorded_at=setting.now,
            actor=job.actor,
            import_id=job.import_id,
        )
        piece.appended.append(transitions.append(workspace, entry))
        if moved.seq > 1:  # a deal's first opening is told by `opportunity.created`
            piece.events.append(announcements.transitioned(workspace, deal, entry, pipeline))
    for change in read.changes:
        values = (change.old, change.new)
        piece.facts.append(
            Part(
                opportunities.CHANGE,
                (
                    *(workspace, deal.opportunity_id, new_id(), change.name, deal.pipeline_id),
                    *(json.dumps(announcements.plain(value)) for value in values),
                    *(change.occurred_at, setting.now, job.actor),
                ),
            )
        )
