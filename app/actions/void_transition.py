"""Voiding: a mistake is taken back without being hidden.

Only the last standing transition of a deal can be voided, and then the one before it: an undo. The
row stays in the log with its stamp, and the deal's row is remade from what still stands, so that
nothing tells the move from one that never was.
"""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from app.actions import announcements, audit_entries
from app.actions.deciding import decide
from app.actions.erase_opportunity import erase
from app.actions.move_opportunity import Moved, resolving
from app.actions.record_activity import next_step_of
from app.domain import journey, opportunity
from app.domain.access import WHOLE, Principal
from app.domain.errors import (
    AlreadyVoided,
    Conflict,
    NotFound,
    NotLastTransition,
    NotVoidable,
    StageArchived,
)
from app.domain.idle_flag import IdleFlag
from app.domain.idleness import Resolution
from app.domain.journey import Status, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import activities, idempotency, idle_flags, opportunities, pipelines, transitions
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.opportunities import Reading
from app.storage.statement import Part, execute
from app.storage.transitions import LogEntry


async def void_transition(
    database: Database,
    principal: Principal,
    transition_id: UUID,
    reason: str,
    *,
    request: Repeatable | None,
    answer: Moved,
) -> Answer:
    """Void a deal's last standing transition.

    Raises NotFound, AlreadyVoided, NotLastTransition, NotVoidable for an opening, StageArchived
    where the deal would stand in an archived stage, Conflict where a hand-off's new deal has not
    stood untouched.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection, _: bool) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        opportunity_id = await transitions.opportunity_of(connection, workspace, transition_id)
        # Locked from the beginning: the log must be the one that the deal's version tells of.
        try:
            found = await opportunities.read(
                connection, workspace, opportunity_id, sight=principal.sight, locked=True
            )
        except NotFound:
            raise transitions.no_transition(transition_id) from None
        pipeline = await pipelines.load(
            connection, workspace, found.deal.pipeline_id, found.revision
        )
        log = await transitions.standing(connection, workspace, opportunity_id)
        entry = _voidable(log, transition_id)
        _check_place(pipeline, log[-2])
        if entry.transition.kind is TransitionKind.HANDED_OFF:
            external_id = await _take_back(connection, principal, entry)
            deal = replace(found.deal, external_id=external_id, continued_as=None)
            found = replace(found, deal=deal)
        after, parts = await _remade(connection, workspace, found, pipeline, log)
        voided = replace(
            entry, voided_at=found.now, voided_by=principal.subject, void_reason=reason
        )
        answered = answer(after, voided, pipeline)
        await execute(
            connection,
            [
                opportunities.save(workspace, after),
                transitions.void(workspace, entry, found.now, principal.subject, reason),
                announcements.voided(workspace, after, voided, pipeline),
                audit_entries.voided(principal, entry, pipeline, found.now),
                *parts,
                *idempotency.keep(workspace, request, answered),
            ],
        )
        return answered

    return await decide(database, workspace, request, work)


def _voidable(log: list[LogEntry], transition_id: UUID) -> LogEntry:
    """The last standing entry, if it is the one that is meant."""
    meant = next((entry for entry in log if entry.transition_id == transition_id), None)
    if meant is None:
        raise AlreadyVoided("The transition is voided already.")
    if meant is not log[-1]:
        raise NotLastTransition(
            f"Transition {log[-1].transition_id} (seq {log[-1].transition.seq}) came after it and"
            " still stands; void that one first."
        )
    if meant.transition.kind is TransitionKind.OPENED:
        raise NotVoidable("An opening cannot be voided; delete the opportunity instead.")
    return meant


def _check_place(pipeline: Pipeline, last_standing: LogEntry) -> None:
    """An undo is no way into an archived stage: no open deal stands there, and no rule is kept."""
    stage = pipeline.by_slot[last_standing.transition.to_slot]
    if stage.is_open and stage.archived_at is not None:
        raise StageArchived(
            f"The deal would stand in {stage.key!r} again, which is archived since."
        )


async def _remade(
    connection: Connection,
    workspace: UUID,
    found: Reading,
    pipeline: Pipeline,
    log: list[LogEntry],
) -> tuple[Opportunity, list[Part]]:
    """The deal as the log makes it without its last entry, and the parts that set its flags right.

    The seq goes on counting from the voided row: numbers are never used again.
    """
    before, now = found.deal, found.now
    moves = [entry.transition for entry in log[:-1]]
    position = replace(journey.position(pipeline, moves), seq=before.position.seq)
    kinds = pipeline.by_slot[position.slot].idle.qualifying
    last = await activities.last_of(connection, workspace, before.opportunity_id, kinds)
    before = replace(before, last_activity_at=last)
    if before.position.status is not Status.OPEN:  # what was agreed meanwhile has planned nothing
        there = replace(before, position=position)
        there = await _planned(connection, workspace, there, pipeline, log[-1])
        before = replace(before, holds=there.holds)
    closing = next(move for move in reversed(moves) if not journey.is_link(move))
    remade = opportunity.recalled(replace(before, position=position), closing)
    after = opportunity.clocked(
        replace(remade, holds=replace(before.holds, snoozed_until=None)), pipeline, now
    )
    if after.idle.clock_started_at == before.idle.clock_started_at:
        after = opportunity.clocked(remade, pipeline, now)
        after, cause = opportunity.settled(after, pipeline, now)
        return after, resolving(workspace, before, cause, after, pipeline)
    parts = resolving(workspace, before, Resolution.NOT_DUE, after, pipeline)
    after = opportunity.unflagged(after)
    episode = await idle_flags.episode(
        connection, workspace, after.opportunity_id, after.idle.clock_started_at
    )
    if episode is None or episode.resolved_by not in (Resolution.MOVED, Resolution.CLOSED):
        return after, parts
    if episode.snoozed_until is not None and episode.snoozed_until > now:
        holds = replace(after.holds, snoozed_until=episode.snoozed_until)
        after = opportunity.clocked(replace(remade, holds=holds), pipeline, now)
        after = replace(after, flag_id=episode.flag_id, escalated_at=episode.escalated_at)
        tell = asleep_again
    elif after.idle.goes_idle_at is not None and after.idle.goes_idle_at <= now:
        after = replace(
            after, flag_id=episode.flag_id, flagged_at=now, escalated_at=episode.escalated_at
        )
        tell = open_again
    else:
        return after, parts
    stage = pipeline.by_slot[after.position.slot]
    episode = replace(episode, slot=stage.slot, clock=stage.idle.clock)
    told = tell(workspace, after, episode, pipeline, now)
    return after, [*parts, idle_flags.reopen(workspace, episode, now), told]


async def _planned(
    connection: Connection,
    workspace: UUID,
    deal: Opportunity,
    pipeline: Pipeline,
    closing: LogEntry,
) -> Opportunity:
    """The deal with the next step that was agreed since its close, as if there had been none."""
    for done in await activities.recorded_since(
        connection, workspace, deal.opportunity_id, closing.recorded_at
    ):
        step = next_step_of(done, done.occurred_at)
        step = opportunity.agreed(deal, pipeline, done.kind, done.occurred_at, step)
        deal = replace(deal, holds=replace(deal.holds, next_step=step))
    return deal


def open_again(
    workspace: UUID, deal: Opportunity, flag: IdleFlag, pipeline: Pipeline, now: datetime
) -> Part:
    """Tells that a flag that a move had resolved is open again."""
    return announcements.flag_opened(workspace, deal, flag, pipeline, now, reopened=True)


def asleep_again(
    workspace: UUID, deal: Opportunity, flag: IdleFlag, pipeline: Pipeline, now: datetime
) -> Part:
    """Tells that it is put aside again, and until when: who was told that it is resolved had
    forgotten that. It is open when it comes back.
    """
    forgotten = replace(flag, snoozed_until=None)
    return announcements.flag_snoozed(workspace, deal, flag, pipeline, now, before=forgotten)


async def _take_back(connection: Connection, principal: Principal, entry: LogEntry) -> str | None:
    """Erase the deal that the hand-off opened, if it stands untouched; gives its external id.

    Where it was deleted there is nothing to take back, and the external id went with it.
    """
    assert entry.linked_id is not None  # a hand-off names the deal that it opened
    workspace = principal.workspace_id
    try:
        new = await opportunities.read(
            connection, workspace, entry.linked_id, sight=WHOLE, erasing=True
        )
    except NotFound:
        return None
    if not principal.sight.holds(new.deal.facts.owner, new.deal.facts.team):
        raise Conflict(
            "The opportunity that it was handed off to is not yours, and so not yours to erase."
        )
    if len(await transitions.standing(connection, workspace, entry.linked_id)) > 1:
        raise Conflict(
            f"The opportunity {entry.linked_id} that it was handed off to has moved on;"
            " void its transitions first."
        )
    if await connection.fetchval(opportunities.IS_TOUCHED, workspace, entry.linked_id):
        raise Conflict(
            f"The opportunity {entry.linked_id} that it was handed off to has been worked on;"
            " taking it back would erase what was recorded there."
        )
    await erase(connection, principal, new)
    return new.deal.external_id
