"""What a changed definition does to the open deals under it, in the same transaction.

Those of a stage that goes out of use move to another one; those of a stage whose idle rule has
changed get their clock worked out anew, and in an archived pipeline all of them rest. Each deal is
told of. The caller holds the definition lock.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from app.actions import announcements
from app.domain import opportunity, transition
from app.domain.access import Principal
from app.domain.errors import Breach, InvalidDefinition, StageHoldsDeals
from app.domain.pipeline import Pipeline, Stage
from app.storage import bulk, events, stage_deals, transitions
from app.storage.engine import Connection
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.stage_deals import Changed
from app.storage.statement import Part
from app.storage.transitions import LogEntry

Route = tuple[Stage, Stage]
"""The open deals of the first stage, as it was, go to the second, as it will be."""


def routes(old: Pipeline, new: Pipeline, move_open_to: Mapping[str, str]) -> list[Route]:
    """Which stage's open deals go where. Raises InvalidDefinition.

    A stage that is archived already, or was never there, may be named: the same document sent
    again, or to another workspace, is no error. No deal depends on it.
    """
    wrong: list[Breach] = []
    found: list[Route] = []
    for key, target in move_open_to.items():
        at = f"/move_open_to/{key}"
        stage, heir = new.by_key.get(key), new.by_key.get(target)
        if stage is None or old.by_key.get(key, stage).archived_at is not None:
            continue
        if stage.archived_at is None:
            wrong.append(Breach(at, "still_in_use", f"{key!r} stays in use, with its deals."))
        elif heir is None or heir.archived_at is not None or not heir.is_open:
            detail = f"The definition has no open stage {target!r}."
            wrong.append(Breach(at, "unknown_stage", detail))
        else:
            found.append((old.by_key[key], heir))
    if wrong:
        raise InvalidDefinition("Open deals cannot be moved so.", wrong)
    return found


async def refuse_to_strand(
    connection: Connection, workspace: UUID, old: Pipeline, new: Pipeline, routes: Sequence[Route]
) -> None:
    """Raises StageHoldsDeals where a stage that goes out of use has open deals left in it."""
    emptied = {origin.key for origin, _ in routes}
    leaving = [
        stage
        for stage in old.stages
        if stage.archived_at is None
        and new.by_key[stage.key].archived_at is not None
        and stage.key not in emptied
    ]
    held = await stage_deals.held(connection, workspace, old, leaving) if leaving else {}
    if held:
        where = ", ".join(f"{count} in {key!r}" for key, count in held.items())
        raise StageHoldsDeals(
            f"Open opportunities stand in what would be archived: {where}."
            " Say in move_open_to where they go.",
            [
                Breach(
                    f"/move_open_to/{key}",
                    "stage_holds_deals",
                    f"Open opportunities in {key!r}: {count}.",
                )
                for key, count in held.items()
            ],
        )


async def rearrange(
    connection: Connection,
    principal: Principal,
    old: Pipeline,
    after: Revision,
    routes: Sequence[Route],
) -> None:
    """Move and clock the open deals as the new revision has it, and tell of it deal by deal."""
    for origin, target in routes:
        await _move_all(connection, principal, old, after, origin, target)
    rests = after.pipeline.archived_at is not None
    for stage in after.pipeline.stages:
        was = old.by_key.get(stage.key)
        if stage.archived_at is not None or was is None or not stage.is_open:
            continue
        if _is_clocked_otherwise(was, stage) or rests != (old.archived_at is not None):
            await _clock_all(connection, principal.workspace_id, after, stage)


def _is_clocked_otherwise(was: Stage, stage: Stage) -> bool:
    """Whether the stage asks something else of its deals, in whatever words it asks the same."""
    same_rule = was.idle.same_terms(stage.idle) and was.idle.since == stage.idle.since
    return not same_rule or was.follow_up_every != stage.follow_up_every


async def _clock_all(
    connection: Connection, workspace: UUID, after: Revision, stage: Stage
) -> None:
    """Every deal is written, also one whose clock stays: what a caller sees of it tells of the
    rule, so its version must move on. Only those that lose their flag have to be told of, so none
    but those that bear one are read whole. They come last: one that had lost its flag before would
    be taken for another without.
    """
    pipeline, instant = after.pipeline, after.in_force_at
    async for bare in stage_deals.unflagged(connection, workspace, pipeline.pipeline_id, stage):
        clocks = [
            (
                each,
                opportunity.clock_in(
                    pipeline,
                    stage,
                    each.priority,
                    moved_at=each.moved_at,
                    last_activity_at=each.last_activity_at,
                    holds=each.holds,
                ),
            )
            for each in bare
        ]
        await stage_deals.reset(connection, workspace, clocks, instant)
    async for found in stage_deals.standing(
        *(connection, workspace, pipeline.pipeline_id, stage, stage.idle.qualifying), flagged=True
    ):
        changed = [
            Changed(
                each.deal,
                *opportunity.reruled(each.deal, pipeline, each.last_activity_at, instant),
            )
            for each in found
        ]
        await stage_deals.save_clocks(connection, workspace, changed, stage, instant)
        told = [
            part for each in changed for part in _flag_ended(workspace, each, pipeline, instant)
        ]
        await events.append_all(connection, workspace, told)


async def _move_all(
    connection: Connection,
    principal: Principal,
    old: Pipeline,
    after: Revision,
    origin: Stage,
    target: Stage,
) -> None:
    workspace, pipeline, instant = principal.workspace_id, after.pipeline, after.in_force_at
    async for found in stage_deals.standing(
        connection, workspace, pipeline.pipeline_id, origin, target.idle.qualifying
    ):
        changed: list[Changed] = []
        entries: list[LogEntry] = []
        for each in found:
            deal = each.deal
            moving = transition.rearranged(deal.position, deal.facts, target, instant)
            done = opportunity.rearranged(
                *(deal, old, pipeline, moving, each.last_activity_at, instant)
            )
            changed.append(Changed(deal, *done))
            entries.append(
                LogEntry(
                    transition=moving,
                    transition_id=new_id(),
                    opportunity_id=deal.opportunity_id,
                    pipeline_id=deal.pipeline_id,
                    revision=pipeline.revision,
                    from_name=origin.name,
                    to_name=target.name,
                    recorded_at=instant,
                    actor=principal.subject,
                )
            )
        await bulk.execute(connection, [transitions.append(workspace, entry) for entry in entries])
        await stage_deals.save_positions(connection, workspace, changed, target, instant)
        told: list[Part] = []
        for each_changed, entry in zip(changed, entries, strict=True):
            told.append(announcements.transitioned(workspace, each_changed.after, entry, pipeline))
            told += _flag_ended(workspace, each_changed, pipeline, instant)
        await events.append_all(connection, workspace, told)


def _flag_ended(
    workspace: UUID, changed: Changed, pipeline: Pipeline, instant: datetime
) -> list[Part]:
    before, after, cause = changed.before, changed.after, changed.resolution
    if before.flag_id is None or cause is None:
        return []
    return [announcements.flag_resolved(workspace, before, after, pipeline, instant, cause)]
