"""`sluice keys`: the API keys of a workspace, made, listed and revoked from the command line."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from app.actions.manage_keys import issue_key, new_key, revoke_key
from app.cli.workspaces import within
from app.domain.access import RowScope, Scope
from app.domain.period import Period
from app.storage import access
from app.storage.access import KeyRecord, NewKey
from app.storage.engine import Database

keys = typer.Typer(name="keys", help="API keys of a workspace.", no_args_is_help=True)

Platform = Annotated[
    bool, typer.Option("--platform", help="Of the platform: for making and listing workspaces.")
]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace's key.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists.")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", "-s", help="What it may do; repeat for more.")
    ] = None,
    workspace: Workspace = "default",
    platform: Platform = False,
    subject: Annotated[
        str | None,
        typer.Option(help="The name that the log bears as actor; the key's name if left out."),
    ] = None,
    row_scope: Annotated[
        RowScope,
        typer.Option(
            help="Whose opportunities it sees: the subject's own, the team's too, or all."
        ),
    ] = RowScope.ALL,
    team: Annotated[str | None, typer.Option(help="The team of the row scope.")] = None,
    expires_in: Annotated[
        str | None, typer.Option(help="How long it is valid, like P90D; for ever if left out.")
    ] = None,
) -> None:
    """Make a key and print it. It is shown this once: only its hash is stored."""
    if platform == bool(scope):
        raise typer.BadParameter("say --scope, or --platform for a key that makes workspaces")
    if row_scope is RowScope.TEAM and team is None:
        raise typer.BadParameter("is needed with --row-scope team", param_hint="--team")
    new = NewKey(
        name=name,
        subject=subject or name,
        scopes=frozenset(scope or ()),
        row_scope=row_scope,
        team=team,
        expires_at=None if expires_in is None else datetime.now(UTC) + _period(expires_in).length,
    )
    place = None if platform else workspace
    print(within(place, lambda database, workspace_id: issue_key(database, workspace_id, new)))


@keys.command(name="list")
def list_keys(workspace: Workspace = "default", platform: Platform = False) -> None:
    """List the workspace's keys, revoked and expired ones included; secrets are not known."""

    async def work(database: Database, workspace_id: UUID | None) -> list[KeyRecord]:
        async with database.read(workspace_id, role=access.role_of(workspace_id)) as connection:
            return await access.keys(connection, workspace_id)

    for key in within(None if platform else workspace, work):
        sees = "" if key.row_scope is RowScope.ALL else f" [{_sight(key)}]"
        scopes = " ".join(sorted(key.scopes)) or access.PLATFORM
        print(f"{key.key_id}  {_state(key):32}  {key.name} ({key.subject}){sees}: {scopes}")


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id, as `sluice keys list` shows it.")],
    workspace: Workspace = "default",
    platform: Platform = False,
) -> None:
    """Have a key refused from now on."""
    place = None if platform else workspace
    within(place, lambda database, workspace_id: revoke_key(database, workspace_id, key_id))
    print(f"{key_id} is revoked.")


@keys.command()
def generate() -> None:
    """Print a new key that no workspace knows yet, for SLUICE_BOOTSTRAP_KEY."""
    print(new_key())


def _period(text: str) -> Period:
    try:
        return Period.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires-in") from error


def _sight(key: KeyRecord) -> str:
    return "own" if key.team is None else f"{key.row_scope.value} {key.team}"


def _state(key: KeyRecord) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is None:
        return "in use"
    word = "expired" if key.expires_at <= datetime.now(UTC) else "in use until"
    return f"{word} {key.expires_at:%Y-%m-%d %H:%M}"
