"""Imports that wait, run to their end: asked for by the scheduler, as often as it likes.

Any number of workers may ask at once: each import is held by one of them, by a lease that runs out
when its holder dies.
"""

from uuid import UUID

import structlog

from app.actions.import_history import run_next_import
from app.domain.errors import DatabaseUnavailable
from app.storage import imports
from app.storage.engine import Database, Role

log = structlog.get_logger("sluice.jobs")


async def run_pending_imports(database: Database) -> int:
    """Run every import that waits, one after the other; gives how many were run here.

    A workspace's turn ends with one import, so that none waits behind another's hundred.
    """
    ran = 0
    try:
        while True:
            async with database.read(None, role=Role.JOBS) as connection:
                waiting = await imports.workspaces_waiting(connection)
            done = [await _run_next(database, workspace) for workspace in waiting]
            if not any(done):
                return ran
            ran += sum(done)
    except DatabaseUnavailable as away:
        log.warning("imports.waiting", reason=away.detail)
        return ran


async def _run_next(database: Database, workspace: UUID) -> bool:
    """Run the workspace's next import; one that cannot be run keeps no other workspace waiting."""
    try:
        return await run_next_import(database, workspace)
    except DatabaseUnavailable:
        raise
    except Exception:
        log.exception("imports.broken", workspace=str(workspace))
        return False
