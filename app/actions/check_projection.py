"""Holding every deal's row against its log, and making a row anew from it.

Both look at a deal and its log in one snapshot. Rebuilding is a write like any other: it locks the
deal, makes its next version, tells an event, and sets the idle flag right.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from app.actions import announcements
from app.actions.deciding import decide
from app.actions.move_opportunity import resolving
from app.domain import agreement, opportunity
from app.domain.access import WHOLE
from app.domain.idleness import Resolution
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import activities, opportunities, pipelines, transitions
from app.storage.engine import JOB, Connection, Database
from app.storage.queries import projection
from app.storage.statement import execute

Differences = Mapping[str, tuple[Any, Any]]
"""Field → (stored, told by the log)."""

VISIBLE: Final = frozenset(
    ("status", "seq", "stage_entered_at", "opened_at", "closed_at", "continued_as")
)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A deal whose log is no chain, or whose row says something else than its log.

    Where there are `faults` nothing was compared.
    """

    opportunity_id: UUID
    faults: tuple[str, ...]
    differences: Differences


async def disagreements(database: Database, workspace: UUID) -> AsyncIterator[Disagreement]:
    """Every deal of the workspace that is not what its log says, in bounded memory."""
    after: UUID | None = None
    while True:
        async with database.read(workspace, timeouts=JOB) as connection:
            found = await projection.deals_with_logs(connection, workspace, after=after)
        if not found:
            return
        for told in found:
            faults = tuple(agreement.faults(told.pipeline, told.log))
            differences: Differences = {}
            if not faults:
                remade = agreement.remade(told.deal, told.pipeline, told.log, told.done, told.now)
                differences = agreement.differences(told.deal, remade)
            if faults or differences:
                yield Disagreement(told.deal.opportunity_id, faults, differences)
        after = found[-1].deal.opportunity_id


async def rebuild(database: Database, workspace: UUID, opportunity_id: UUID) -> bool:
    """Make the deal's row anew from its log; whether there was anything to mend.

    A log that is no chain is left alone. Raises NotFound.
    """

    async def work(connection: Connection, _: bool) -> bool:
        # Locked from the beginning: the log must be the one that the deal's version tells of.
        found = await opportunities.read(
            connection, workspace, opportunity_id, sight=WHOLE, locked=True
        )
        deal, now = found.deal, found.now
        pipeline = await pipelines.load(connection, workspace, deal.pipeline_id, found.revision)
        log = projection.log_of(await transitions.whole(connection, workspace, opportunity_id))
        if any(agreement.faults(pipeline, log)):
            return False
        done = await activities.last_by_kind(connection, workspace, opportunity_id)
        remade = agreement.remade(deal, pipeline, log, done, now)
        if not (differences := agreement.differences(deal, remade)):
            return False
        after, cause = _with_flag_set_right(deal, remade, pipeline)
        if deal.position.slot not in pipeline.by_slot:  # nobody can be told where it stood
            deal = replace(deal, position=after.position)
        await execute(
            connection,
            [
                opportunities.save_position(workspace, after),
                announcements.updated(
                    workspace, after, pipeline, _visible(differences, pipeline), now
                ),
                *resolving(workspace, deal, cause, after, pipeline),
            ],
        )
        return True

    return await decide(database, workspace, None, work)


def _visible(differences: Differences, pipeline: Pipeline) -> dict[str, tuple[Any, Any]]:
    """What of the differences a reader of the API can see, by the names that it has there."""
    seen = {name: pair for name, pair in differences.items() if name in VISIBLE}
    if "slot" in differences:
        stages = (pipeline.by_slot.get(slot) for slot in differences["slot"])
        stored, told = (stage and stage.key for stage in stages)
        seen["stage"] = (stored, told)
    return seen


def _with_flag_set_right(
    before: Opportunity, remade: Opportunity, pipeline: Pipeline
) -> tuple[Opportunity, Resolution | None]:
    """The flag of an episode that never was ends; else it stands for as long as the deal is due."""
    if remade.idle.clock_started_at == before.idle.clock_started_at:
        return opportunity.settled(remade, pipeline, remade.updated_at)
    resolved = None if before.flag_id is None else Resolution.NOT_DUE
    return opportunity.released(remade, pipeline), resolved
