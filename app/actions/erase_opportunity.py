"""Erasing a deal with all that was recorded and told of it. A tombstone and an event stay.

Its earlier events keep their id, type and place in the feed, but say nothing any more; answers
kept for repeated requests are dropped where they tell of it, and what receivers of webhooks
answered when they were told of it is forgotten.
"""

from uuid import UUID

from app.actions import announcements, audit_entries
from app.actions.deciding import VersionCheck, decide
from app.domain.access import Principal
from app.storage import opportunities, pipelines, webhook_deliveries
from app.storage.engine import Connection, Database
from app.storage.opportunities import Reading
from app.storage.statement import Part, execute


async def erase_opportunity(
    database: Database, principal: Principal, opportunity_id: UUID, *, check: VersionCheck
) -> None:
    """Erase a deal. Raises NotFound, VersionRequired, Stale."""
    workspace = principal.workspace_id

    async def work(connection: Connection, _: bool) -> None:
        # Locked from the beginning: what is erased must be what was checked.
        found = await opportunities.read(
            connection, workspace, opportunity_id, sight=principal.sight, erasing=True
        )
        check(found.deal.version)
        await erase(connection, principal, found)

    await decide(database, workspace, None, work)


async def erase(connection: Connection, principal: Principal, found: Reading) -> None:
    """Erase the locked deal, leaving its tombstone, its event and an entry of the audit log."""
    workspace, actor, deal = principal.workspace_id, principal.subject, found.deal
    pipeline = await pipelines.load(connection, workspace, deal.pipeline_id, found.revision)
    forgetting = webhook_deliveries.forget(workspace, deal.opportunity_id)
    await connection.execute(forgetting.sql, *forgetting.args)
    await connection.execute("SELECT erase_opportunity($1)", deal.opportunity_id)
    await execute(
        connection,
        [
            Part(
                opportunities.BURY,
                (workspace, deal.opportunity_id, deal.pipeline_id, found.now, actor),
            ),
            announcements.deleted(workspace, deal, pipeline, found.now, actor),
            audit_entries.deleted(principal, deal.opportunity_id, pipeline),
        ],
    )
