"""What a changed definition does to the open deals under it, in the same transaction.

Those of a stage that goes out of use move to another one; those of a stage whose idle rule has
changed get their clock worked out anew, and in an archived pipeline all of them rest. Set-based,
and told deal by deal. The caller holds the definition lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from app.actions import announcements
from app.domain.access import Principal
from app.domain.errors import Breach, InvalidDefinition, StageHoldsDeals
from app.domain.idleness import Resolution
from app.domain.pipeline import Pipeline, Stage
from app.storage import events, idle_clock, rearrangement
from app.storage.engine import Connection
from app.storage.idle_clock import Reclocked
from app.storage.pipelines import Revision
from app.storage.statement import Part

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
    held = await rearrangement.deals_held(connection, workspace, old, leaving) if leaving else {}
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
    workspace, instant = principal.workspace_id, after.in_force_at
    for origin, target in routes:
        await _move_all(connection, principal, after, origin, target)
    rests = after.pipeline.archived_at is not None
    for stage in after.pipeline.stages:
        was = old.by_key.get(stage.key)
        if stage.archived_at is not None or was is None:
            continue
        if was.idle.since != stage.idle.since or rests != (old.archived_at is not None):
            rule = replace(stage.idle, after=None, after_by_priority={}) if rests else stage.idle
            ended = await idle_clock.recompute(
                connection,
                workspace,
                after.pipeline.pipeline_id,
                replace(stage, idle=rule),
                instant,
            )
            told = [part for each in ended for part in _flag_ended(workspace, each, instant)]
            await events.append_all(connection, workspace, told)


async def _move_all(
    connection: Connection, principal: Principal, after: Revision, origin: Stage, target: Stage
) -> None:
    workspace, pipeline, instant = principal.workspace_id, after.pipeline, after.in_force_at
    while deals := await rearrangement.next_deals(
        connection, workspace, pipeline.pipeline_id, origin
    ):
        told: list[Part] = []
        for reclocked, entry in await rearrangement.move(
            connection,
            workspace,
            deals,
            revised=pipeline,
            origin=origin,
            target=target,
            actor=principal.subject,
            instant=instant,
        ):
            told.append(announcements.transitioned(workspace, reclocked[0], entry, pipeline))
            told += _flag_ended(workspace, reclocked, instant)
        await events.append_all(connection, workspace, told)


def _flag_ended(workspace: UUID, reclocked: Reclocked, instant: datetime) -> list[Part]:
    deal, flag = reclocked
    if flag is None:
        return []
    return [announcements.flag_resolved(workspace, deal, flag, instant, Resolution.NOT_DUE)]
