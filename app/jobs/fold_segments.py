"""Folding wherever deals wait for it: asked for by the scheduler, as often as it likes.

Only where there is work is asked across workspaces, under the jobs' role; each pipeline is folded
under the app's role. Two workers that fold the same deals at once do so in vain, but to no harm.
"""

import structlog

from app.actions.fold_deals import ENOUGH, fold_deals
from app.domain.errors import DatabaseUnavailable
from app.storage.engine import JOB, Database, Role
from app.storage.segments import folding

log = structlog.get_logger("sluice.segments")


async def fold_all(database: Database) -> bool:
    """Fold some of every pipeline that has enough to fold; a large one keeps no other waiting.

    True: segments of an earlier edition may be left, and what is asked of them takes long.
    """
    outdated = False
    async with database.read(None, role=Role.JOBS, timeouts=JOB) as connection:
        waiting = await folding.waiting(connection, ENOUGH)
    for workspace, pipeline, is_outdated in waiting:
        try:
            folded = await fold_deals(database, workspace, pipeline, batches=1)
            outdated |= is_outdated and folded > 0
        except DatabaseUnavailable as busy:
            log.warning(
                "segments.postponed",
                workspace=str(workspace),
                pipeline=pipeline,
                reason=busy.detail,
            )
        except Exception:
            log.exception("segments.failed", workspace=str(workspace), pipeline=pipeline)
    return outdated
