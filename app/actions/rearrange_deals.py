"""What a changed definition does to the open deals under it, in the same transaction.

Those of a stage that goes out of use move to another one; those of a stage whose idle rule has
changed get their clock worked out anew. Set-based, and told deal by deal. The caller holds the
definition lock, and sends the events.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from app.actions import announcements
from app.domain.access import Principal
from app.domain.errors import Breach, InvalidDefinition, StageHoldsDeals
from app.domain.idleness import Resolution
from app.domain.pipeline import Pipeline, Stage
from app.storage import idle_clock, rearrangement
from app.storage.engine import Connection
from app.storage.idle_clock import Reclocked
from app.storage.pipelines import Revision
from app.storage.statement import Part

Route = tuple[Stage, Stage]
"""The open deals of the first stage, as it was, go to the second, as it will be."""


def routes(old: Pipeline, new: Pipeline, move_open_to: Mapping[str, str]) -> list[Route]:
    """Which stage's open deals go where. Raises InvalidDefinition.

    A stage that is archived already may still be named: the same document sent again is no error.
    """
    wrong: list[Breach] = []
    for key, target in move_open_to.items():
        at = f"/move_open_to/{key}"
        stage, heir = new.by_key.get(key), new.by_key.get(target)
        if stage is None:
            wrong.append(Breach(at, "unknown_stage", f"The pipeline has no stage {key!r}."))
        elif stage.archived_at is None:
            wrong.append(Breach(at, "still_in_use", f"{key!r} stays in use, with its deals."))
        if heir is None or heir.archived_at is not None or not heir.is_open:
            detail = f"The definition has no open stage {target!r}."
            wrong.append(Breach(at, "unknown_stage", detail))
    if wrong:
        raise InvalidDefinition("Open deals cannot be moved so.", wrong)
    return [
        (old.by_key[key], new.by_key[target])
        for key, target in move_open_to.items()
        if old.by_key[key].archived_at is None
    ]


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
) -> list[Part]:
    """Move and clock the open deals as the new revision has it; the events that tell of it."""
    told: list[Part] = []
    for origin, target in routes:
        told += await _move_all(connection, principal, after, origin, target)
    for stage in after.pipeline.stages:
        was = old.by_key.get(stage.key)
        if stage.archived_at is None and was is not None and was.idle.since != stage.idle.since:
            ended = await idle_clock.recompute(
                connection,
                principal.workspace_id,
                after.pipeline.pipeline_id,
                stage,
                after.in_force_at,
            )
            for reclocked in ended:
                told += _flag_ended(principal.workspace_id, after, reclocked)
    return told


async def _move_all(
    connection: Connection, principal: Principal, after: Revision, origin: Stage, target: Stage
) -> list[Part]:
    workspace, pipeline = principal.workspace_id, after.pipeline
    told: list[Part] = []
    while deals := await rearrangement.next_deals(
        connection, workspace, pipeline.pipeline_id, origin
    ):
        for reclocked, entry in await rearrangement.move(
            connection,
            workspace,
            deals,
            revised=pipeline,
            origin=origin,
            target=target,
            actor=principal.subject,
            instant=after.in_force_at,
        ):
            told.append(announcements.transitioned(workspace, reclocked[0], entry, pipeline))
            told += _flag_ended(workspace, after, reclocked)
    return told


def _flag_ended(workspace: UUID, after: Revision, reclocked: Reclocked) -> list[Part]:
    deal, flag = reclocked
    if flag is None:
        return []
    return [
        announcements.flag_resolved(workspace, deal, flag, after.in_force_at, Resolution.NOT_DUE)
    ]
