"""`sluice doctor`: what is wrong with this installation, in one line a thing.

Settings, the database and its version, the schema, the walls between workspaces, and whether every
deal is what its log says. The checks themselves are elsewhere; here they are asked in the order in
which one that fails makes the next ones pointless, and told.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import asyncpg
import typer

from app.actions import check_projection
from app.actions.check_projection import Disagreement
from app.domain.errors import DatabaseUnavailable
from app.settings import Settings, load_settings
from app.storage import migrate, walls
from app.storage.engine import Database, Role, connect_arguments
from app.storage.plainly import told_plainly
from app.storage.provision import provided
from app.storage.queries import projection

OLDEST_SERVER = 15
MOST_FIELDS = 4
"""Fields of one deal that are told; a row that is wrong in one is often wrong in many."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `is_well` False counts for the exit status."""

    is_well: bool
    subject: str
    says: str

    def __str__(self) -> str:
        return f"{'ok   ' if self.is_well else 'WRONG'}  {self.subject}: {self.says}"


def well(subject: str, says: str) -> Finding:
    return Finding(is_well=True, subject=subject, says=says)


def wrong(subject: str, says: str) -> Finding:
    return Finding(is_well=False, subject=subject, says=says)


def doctor(
    *,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the rows anew that differ from their log.")
    ] = False,
) -> None:
    """Check settings, database, schema, walls, and every deal against its log.

    Ends with status 1 where something is wrong, and is still wrong after --rebuild.
    """
    settings = load_settings()
    typer.echo(well("settings", "readable"))
    with provided(settings) as (resolved, _):
        if not asyncio.run(_told(resolved, rebuilding=rebuild)):
            raise typer.Exit(1)


async def _told(settings: Settings, *, rebuilding: bool) -> bool:
    all_well = True
    async for finding in examine(settings, rebuilding=rebuilding):
        typer.echo(finding, err=not finding.is_well)
        all_well = all_well and finding.is_well
    return all_well


async def examine(settings: Settings, *, rebuilding: bool) -> AsyncIterator[Finding]:
    """What is well and what is not; ends early where nothing further can be asked."""
    url, owner_url = settings.database_url, settings.owner_url
    assert url is not None, "provided says where the database is"
    assert owner_url is not None
    checks = [(_server, url), (_schema, owner_url), (_walls, url)]
    if settings.database_read_url is not None:
        checks.append((_walls_of_replica, settings.database_read_url))
    for check, at in checks:
        finding = await check(at)
        yield finding
        if not finding.is_well:
            return
    database = await Database.open(url, size=1)
    try:
        async with database.read(None, role=Role.JOBS) as connection:
            found = await projection.workspaces(connection)
        for workspace, key in found:
            all_agree = True
            async for deal in check_projection.disagreements(database, workspace):
                all_agree = False
                mended = rebuilding and await check_projection.rebuild(
                    database, workspace, deal.opportunity_id
                )
                yield _about(key, deal, mended=mended)
            if all_agree:
                yield well(f"workspace {key}", "every deal is what its log says")
    finally:
        await database.close()


async def _server(url: str) -> Finding:
    try:
        with told_plainly():
            connection = await asyncpg.connect(**connect_arguments(url), timeout=5)
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        return wrong("database", f"cannot be reached: {error.__cause__ or error}")
    try:
        version = connection.get_server_version()
    finally:
        await connection.close()
    if version.major < OLDEST_SERVER:
        return wrong("database", f"PostgreSQL {version.major}; {OLDEST_SERVER} is needed")
    return well("database", f"PostgreSQL {version.major}.{version.minor}")


async def _schema(owner_url: str) -> Finding:
    if await migrate.at_head(owner_url):
        return well("schema", "has every migration of this version")
    return wrong("schema", "lacks migrations of this version: run `sluice migrate`")


async def _walls(url: str, subject: str = "walls") -> Finding:
    try:
        await walls.check_at(url)
    except walls.WallsDown as down:
        return wrong(subject, str(down))
    return well(subject, "row-level security holds the service's roles on every table")


async def _walls_of_replica(url: str) -> Finding:
    subject = "walls of the replica"
    try:
        return await _walls(url, subject)
    except DatabaseUnavailable as away:
        return wrong(subject, f"cannot be asked: {away.__cause__ or away}")


def _about(workspace: str, deal: Disagreement, *, mended: bool) -> Finding:
    subject = f"workspace {workspace}, opportunity {deal.opportunity_id}"
    if deal.faults:
        return wrong(subject, f"its log is no chain: {'; '.join(deal.faults)}")
    told = [
        f"{field} is {stored}, by the log {by_log}"
        for field, (stored, by_log) in deal.differences.items()
    ]
    more = f" and {len(told) - MOST_FIELDS} more" if len(told) > MOST_FIELDS else ""
    says = "; ".join(told[:MOST_FIELDS]) + more
    return well(subject, f"rebuilt: {says}") if mended else wrong(subject, says)
