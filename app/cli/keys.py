"""`sluice keys`: the API keys of a workspace, made, listed and revoked from the command line."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from app.actions.manage_keys import issue_key, new_key, revoke_key
from app.cli.workspaces import in_workspace
from app.domain.access import Scope
from app.domain.period import Period
from app.storage import access
from app.storage.access import KeyRecord
from app.storage.engine import Database

keys = typer.Typer(name="keys", help="API keys of a workspace.", no_args_is_help=True)

Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace's key.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists.")],
    scope: Annotated[
        list[Scope], typer.Option("--scope", "-s", help="What it may do; repeat for more.")
    ],
    workspace: Workspace = "default",
    subject: Annotated[
        str | None,
        typer.Option(help="The name that the log bears as actor; the key's name if left out."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(help="How long it is valid, like P90D; for ever if left out.")
    ] = None,
) -> None:
    """Make a key and print it. It is shown this once: only its hash is stored."""
    expires_at = None if expires_in is None else datetime.now(UTC) + _period(expires_in).length

    async def work(database: Database, workspace_id: UUID) -> str:
        return str(
            await issue_key(
                database,
                workspace_id,
                name=name,
                subject=subject or name,
                scopes=frozenset(scope),
                expires_at=expires_at,
            )
        )

    print(in_workspace(workspace, work))


@keys.command(name="list")
def list_keys(workspace: Workspace = "default") -> None:
    """List the workspace's keys, revoked and expired ones included; secrets are not known."""

    async def work(database: Database, workspace_id: UUID) -> list[KeyRecord]:
        async with database.read(workspace_id) as connection:
            return await access.keys(connection, workspace_id)

    for key in in_workspace(workspace, work):
        scopes = " ".join(sorted(key.scopes))
        print(f"{key.key_id}  {_state(key):32}  {key.name} ({key.subject}): {scopes}")


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id, as `sluice keys list` shows it.")],
    workspace: Workspace = "default",
) -> None:
    """Have a key refused from now on."""
    in_workspace(workspace, lambda database, id_: revoke_key(database, id_, key_id))
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


def _state(key: KeyRecord) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is None:
        return "in use"
    word = "expired" if key.expires_at <= datetime.now(UTC) else "in use until"
    return f"{word} {key.expires_at:%Y-%m-%d %H:%M}"
